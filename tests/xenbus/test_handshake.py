"""Our order of changes against that of Linux 6.1 and xl 4.17.7.

Each party is compared change by change with its own recording; how two parties interleave is a race
on a real machine (the two recordings differ in it), so between parties only the order of states is
compared. Declared differences, beside those that :mod:`handshake_log` takes out:

* an unloading frontend keeps its watch until the backend is Closed, where Linux ends the watch
  first and then polls (``UNWATCH`` of the backend's state, guest-unbind).
* a destroyed guest is paused before its nodes go in the recording, so it does nothing; here it is
  killed last and drops its watch when its directory vanishes (destroy).
* the recordings hold paths with "vif" only, so further parents that a removal empties are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from handshake_log import Change, assert_as_recorded, by, recorded, seen, state_writes
from vif_world import World

from xennet.runloop import Delivery

OWN_WATCH = "/local/domain/0/backend/vif/1/0/state"


def kernel_first(ready: Sequence[Delivery]) -> int:
    """Domain 0's kernel is quicker than xl, as it was when xl waited for nothing."""
    return next((i for i, d in enumerate(ready) if d == Delivery("xenstore", 0, 1)), 0)


def phase(world: World, choose: Callable[[Sequence[Delivery]], int] | None = None) -> list[Change]:
    """Run until idle and take what was done since the last phase."""
    world.idle(choose)
    changes = seen(world.operations)
    world.operations.clear()
    return changes


@pytest.fixture(params=["single-channel", "split-channels"])
def recording(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(recording: str) -> World:
    split = recording == "split-channels"
    world = World(split=split, max_queues=2 if split else 1)
    world.record()
    return world


def start(world: World) -> list[Change]:
    world.create_domain()
    world.attach()
    world.idle()  # the guest takes its time to boot
    world.boot()
    return phase(world)


def test_start(world: World, recording: str) -> None:
    assert_as_recorded(start(world), recorded(recording, "create"))


def test_detach(world: World, recording: str) -> None:
    start(world)
    world.xl.detach_vif(1, 0)
    assert_as_recorded(phase(world), recorded(recording, "detach"))


def test_reattach(world: World, recording: str) -> None:
    start(world)
    world.xl.detach_vif(1, 0)
    phase(world)
    world.script.held = True  # it was slower than the running guest
    world.attach()
    world.idle()
    world.script.release()
    assert_as_recorded(phase(world), recorded(recording, "reattach"))


def test_unbind_and_bind() -> None:
    world = World(split=True, max_queues=2)
    world.record()
    start(world)
    world.frontend().close()
    ours, theirs = phase(world), recorded("split-channels", "guest-unbind")
    assert by(ours, "dom0-kernel") == by(theirs, "dom0-kernel")
    unwatch = Change("domU1-kernel", "UNWATCH", OWN_WATCH, "TOKEN", "OK")
    guest = by(theirs, "domU1-kernel")
    assert guest.pop(0) == unwatch
    assert by(ours, "domU1-kernel") == [*guest, unwatch]
    assert state_writes(ours) == state_writes(theirs)

    world.frontend().start()
    theirs = recorded("split-channels", "guest-bind", "guest-reconnected")
    assert_as_recorded(phase(world), theirs, ("dom0-kernel", "domU1-kernel"))


def test_destroy(world: World, recording: str) -> None:
    start(world)
    world.xl.destroy_domain(1)
    ours, theirs = phase(world), recorded(recording, "destroy")
    for who in ("xl", "dom0-kernel"):
        assert by(ours, who) == by(theirs, who)
    assert by(ours, "domU1-kernel") == [Change("domU1-kernel", "UNWATCH", OWN_WATCH, "TOKEN", "OK")]


def test_power_off(recording: str) -> None:
    split = recording == "split-channels"
    world = World(split=split, max_queues=2 if split else 1)
    world.create_domain(2)
    world.attach(2)
    world.boot(2)
    world.idle()
    world.record()
    theirs = recorded(recording, "guest-poweroff")
    world.frontend(2).close()
    world.idle()
    world.machine.shutdown_domain(2, 0)
    world.xl.destroy_domain(2)
    ours = phase(world, kernel_first)
    for who in ("xl", "dom0-kernel"):
        assert by(ours, who) == by(theirs, who)
    assert state_writes(ours) == state_writes(theirs)


def test_all_nodes_and_their_permissions_when_connected() -> None:
    world = World()
    world.record()
    start(world)
    perms = {
        path: world.root.get_perms(path)
        for path in (
            "/local/domain/1",
            "/local/domain/1/device/vif",
            "/local/domain/1/device/vif/0/tx-ring-ref",
            "/local/domain/1/device/suspend/event-channel",
            "/local/domain/1/error",
            "/local/domain/1/console/backend-id",
            "/local/domain/0/backend/vif/1",
            "/local/domain/0/backend/vif/1/0/feature-sg",
            "/vm/0000-1/uuid",
            "/libxl/1/device/vif/0/state",
        )
    }
    assert list(perms.values()) == [
        ["n0", "r1"],
        ["n0", "r1"],
        ["n1", "r0"],
        ["n1"],
        ["n1"],
        ["n1", "r0"],
        ["n0"],
        ["n0", "r1"],
        ["n0", "r1"],
        ["n0"],
    ]
    assert world.value("/libxl/1/device/vif/0/state") == "1"
