"""One end's view: reading with evidence, writing its state, watches that end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from vif_world import World

from xennet.abi.xenbus import XenbusState as S
from xennet.interface import HypercallError, OutOfFramesError
from xennet.observe import StateChanged
from xennet.toolstack.nodelist import remove_with_empty_parents
from xennet.xenbus.device import DEVICE_ERRORS, XenbusDevice, as_xenbus_error
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifPaths
from xennet.xenstore import XsError

FE = "/local/domain/1/device/vif/0"


@pytest.fixture
def world() -> World:
    world = World()
    world.create_domain()
    world.backends.stop()
    world.attach()
    return world


@pytest.fixture
def device(world: World) -> XenbusDevice:
    device = XenbusDevice(world.dom0, "backend/vif/1/0", "frontend")
    device.find_otherend()
    return device


def test_paths_of_a_vif() -> None:
    paths = VifPaths(frontend_domid=7, handle=2, backend_domid=3)
    assert paths.frontend == "/local/domain/7/device/vif/2"
    assert paths.backend == "/local/domain/3/backend/vif/7/2"
    assert paths.libxl == "/libxl/7/device/vif/2"
    assert paths.frontend_error == "/local/domain/7/error/device/vif/2/error"
    assert paths.backend_error == "/local/domain/3/error/backend/vif/7/2/error"


def test_a_device_finds_its_other_end(device: XenbusDevice) -> None:
    assert (device.otherend_id, device.otherend.path) == (1, FE)
    assert device.state is S.Initialising
    assert device.otherend_state() == S.Initialising


def test_a_missing_node_is_an_error_that_names_it(device: XenbusDevice) -> None:
    with pytest.raises(XenbusError, match=f"{FE}/tx-ring-ref: cannot be read: ENOENT") as caught:
        device.otherend.unsigned("tx-ring-ref")
    assert caught.value.errno == 2


def test_a_missing_directory_of_the_other_end_is_an_error_that_names_it(
    world: World, device: XenbusDevice
) -> None:
    world.root.rm(FE)
    with pytest.raises(XenbusError, match="vif/1/0/frontend: unable to read the other") as caught:
        device.find_otherend()
    assert (caught.value.errno, caught.value.value) == (2, FE.encode())


def test_a_garbled_node_is_an_error_that_shows_it(world: World, device: XenbusDevice) -> None:
    world.root.write(f"{FE}/tx-ring-ref", "see page 8")
    with pytest.raises(XenbusError, match=r"not an unsigned number \(found b'see") as caught:
        device.otherend.unsigned("tx-ring-ref")
    assert caught.value.errno == 22
    assert caught.value.value == b"see page 8"


@pytest.mark.parametrize("value", [None, "", "yes", "-1", "99999999999"])
def test_an_optional_number_falls_back(
    world: World, device: XenbusDevice, value: str | None
) -> None:
    if value is not None:
        world.root.write(f"{FE}/feature-sg", value)
    assert device.otherend.optional_unsigned("feature-sg", 7) == 7


def test_text_of_a_hostile_node_is_printable(world: World, device: XenbusDevice) -> None:
    world.root.write(f"{FE}/mac", b"\xff\xfe" * 3)
    assert device.otherend.text("mac") == r"\xff\xfe" * 3


def test_a_queue_directory_is_a_directory(world: World, device: XenbusDevice) -> None:
    world.root.write(f"{FE}/queue-1/tx-ring-ref", "9")
    queue = device.otherend.sub("queue-1")
    assert queue.exists()
    assert queue.unsigned("tx-ring-ref") == 9
    assert queue.names() == ["tx-ring-ref"]
    assert not device.otherend.sub("queue-2").exists()
    assert device.otherend.sub("queue-2").names() == []


def test_a_state_is_written_only_when_it_changes(world: World, device: XenbusDevice) -> None:
    world.record()
    for state in (S.InitWait, S.InitWait, S.Closing):
        device.switch_state(state)
    assert [op.value for op in world.operations if op.op == "WRITE"] == [b"2", b"5"]


def test_a_state_change_is_observed(world: World, device: XenbusDevice) -> None:
    events: list[object] = []
    world.machine.observers.subscribe(events.append, StateChanged)
    device.switch_state(S.InitWait)
    assert events == [StateChanged(0, "backend/vif/1/0", S.Initialising, S.InitWait)]


def test_a_state_is_not_written_into_a_directory_that_has_vanished(
    world: World, device: XenbusDevice
) -> None:
    world.root.rm("/local/domain/0/backend/vif/1/0")
    device.switch_state(S.Closed)
    assert not world.exists("/local/domain/0/backend/vif/1/0")
    assert device.state is S.Closed


def test_nothing_is_published_into_a_directory_that_has_vanished(
    world: World, device: XenbusDevice
) -> None:
    world.root.rm("/local/domain/0/backend/vif/1/0")
    with pytest.raises(XenbusError, match="vanished"):
        device.publish([("feature-sg", 1)])
    assert not world.exists("/local/domain/0/backend/vif/1/0")


def test_a_refused_state_leaves_an_error_node(world: World) -> None:
    guest = world.boot()
    device = XenbusDevice(guest.kernel, "device/vif/0", "backend")
    world.root.set_perms(f"{FE}/state", ["n0", "r1"])
    device.switch_state(S.Connected)
    assert world.value(f"{FE}/state") == "1"
    error = world.value("/local/domain/1/error/device/vif/0/error")
    assert error is not None
    assert error.startswith("13 writing new state 4")


def test_fatal_leaves_errno_and_text_and_goes_to_closing(
    world: World, device: XenbusDevice
) -> None:
    device.fatal(22, "parsing mac")
    assert world.value(VifPaths(1, 0).backend_error) == "22 parsing mac"
    assert world.value("/local/domain/0/backend/vif/1/0/state") == "5"


def test_an_error_text_that_is_too_long_for_a_node_is_cut(
    world: World, device: XenbusDevice
) -> None:
    device.error(22, "x" * 5000)
    error = world.value(VifPaths(1, 0).backend_error)
    assert error is not None
    assert len(error) == 1024


def test_a_cancelled_watch_is_silent_even_if_the_connection_is_late(world: World) -> None:
    late: list[Callable[[str, str], None]] = []

    class LateStore:
        """A connection that still delivers what it had queued when a watch ended."""

        def __getattr__(self, name: str) -> object:
            return getattr(world.dom0.store, name)

        def watch(self, path: str, token: str, callback: Callable[[str, str], None]) -> None:
            late.append(callback)

        def unwatch(self, path: str, token: str) -> None:
            """Events on their way are not called back."""

    class LateKernel:
        """Domain 0 with that connection."""

        store = LateStore()
        domid = 0

    device = XenbusDevice(LateKernel(), "backend/vif/1/0", "frontend")  # type: ignore[arg-type]
    calls: list[int] = []
    watch = device.watch("rate", lambda: calls.append(1))
    late[0]("path", "token")
    watch.cancel()
    watch.cancel()
    late[0]("path", "token")
    assert calls == [1]


def test_a_watch_that_is_refused_is_not_remembered(world: World, device: XenbusDevice) -> None:
    first = device.watch("rate", lambda: None)
    with pytest.raises(Exception, match="EEXIST"):
        device.watch("rate", lambda: None)
    assert device.watches == [first]
    device.cancel_watches()
    assert world.store.watches_of(0) == 1  # xl waits for the backend


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (XenbusError(22, "parsing mac"), 22),
        (XsError("ENOSPC", "state"), 28),
        (HypercallError("EVTCHNOP_alloc_unbound", -28, "no port"), 5),
        (OutOfFramesError("no frame"), 12),
    ],
)
def test_what_stops_a_device_has_an_errno(error: Exception, number: int) -> None:
    assert isinstance(error, DEVICE_ERRORS)
    assert as_xenbus_error(error).errno == number


def test_empty_parents_go_and_others_stay(world: World) -> None:
    root = world.root
    root.write("/keep", "a value")
    root.write("/keep/empty/child/leaf", "1")
    remove_with_empty_parents(root, "/keep/empty/child/leaf")
    assert root.directory("/keep") == []
    assert world.value("/keep") == "a value"
    root.write("/siblings/a", "")
    root.write("/siblings/b", "")
    remove_with_empty_parents(root, "/siblings/a")
    assert root.directory("/siblings") == ["b"]
    remove_with_empty_parents(root, "/siblings/none/at/all")
    assert root.directory("/siblings") == ["b"]


def test_a_directory_without_permission_reads_as_missing(world: World) -> None:
    guest = world.boot()
    secret = NodeDirectory(guest.store, "/libxl/1/device/vif/0")
    assert not secret.exists()
    with pytest.raises(XenbusError, match="EACCES"):
        secret.text("mac")
