"""Ends of a vif whose drivers are somebody else's: they connect, are told, are judged, and move."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_drivers import MovableFrontend, OwnBackend, OwnFrontend
from vif_peers import Stack

from xennet.errors import LinkError
from xennet.host.domains import PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.remarks import remarks
from xennet.lifecycle.why import why
from xennet.netfront.counters import NetfrontCounters
from xennet.toolstack.toolstack import Outcome
from xennet.toolstack.vif_nodes import VifConfig
from xennet.vif.end import BaseEnd, VifEnd
from xennet.xenbus.paths import VifDirectories

FE, BE = "/local/domain/1/device/vif/0", "/local/domain/0/backend/vif/1/0"
FRONT = pytest.mark.parametrize("front", ["xennet", OwnFrontend], ids=["xennet", "own"])
BACK = pytest.mark.parametrize("back", ["xennet", OwnBackend], ids=["xennet", "own"])


def plugged(front: object, back: object, **options) -> tuple[Host, PluggedVif]:
    """A host with one guest and one vif, everything loaded and settled."""
    host = Host(drivers=back)
    vif = host.plug(host.add_guest(drivers=front), 0, Stack(), Stack(), **options)
    host.boot()
    host.settle()
    return host, vif


def frames(vif: PluggedVif, count: int = 20) -> tuple[list[bytes], list[bytes]]:
    """Frames for both directions, given to the network stacks; nobody is told."""
    up, down = ([bytes([side, n]) * 30 for n in range(count)] for side in (1, 2))
    for stack, sent in ((vif.guest_end, up), (vif.host_end, down)):
        assert isinstance(stack, Stack)
        stack.to_send, stack.received = list(sent), []
    return up, down


def received(vif: PluggedVif) -> tuple[list[bytes], list[bytes]]:
    in_guest, in_host = vif.guest_end, vif.host_end
    assert isinstance(in_guest, Stack)
    assert isinstance(in_host, Stack)
    return in_host.received, in_guest.received


def end(host: Host, vif: PluggedVif) -> None:
    operation = host.unplug(vif)
    host.settle()
    assert (operation.outcome, operation.forced) == (Outcome.DONE, False)
    assert not host.leaks(), str(host.leaks())
    host.destroy()


@FRONT
@BACK
def test_any_two_ends_connect_carry_frames_and_leave_nothing(front: object, back: object) -> None:
    host, vif = plugged(front, back)
    host.require_connected(vif)
    assert why(vif) == remarks(vif) == vif.errors == []
    assert (vif.netfront is None) == (front == OwnFrontend)
    assert (vif.netback is None) == (back == OwnBackend)
    sent = frames(vif)
    vif.kick()
    host.settle()
    assert received(vif) == sent
    assert why(vif) == []
    end(host, vif)


@FRONT
@BACK
@pytest.mark.parametrize("steps", list(permutations(("load", "boot", "plug"))))
def test_either_end_may_be_there_first(front: object, back: object, steps: tuple[str]) -> None:
    host = Host(drivers=back)
    guest = host.add_guest(drivers=front)
    for step in steps:
        if step == "plug":
            host.plug(guest, 0, Stack(), Stack())
        else:
            (host.dom0.load if step == "load" else guest.boot)()
        host.settle()
    (vif,) = host.vifs
    host.require_connected(vif)
    end(host, vif)


def test_a_driver_of_somebody_else_is_kicked_while_its_domain_runs() -> None:
    host, vif = plugged(OwnFrontend, OwnBackend)
    front, back = vif.guest_driver, vif.host_driver
    assert isinstance(front, OwnFrontend)
    assert isinstance(back, OwnBackend)
    before = front.kicks, back.kicks
    vif.kick()
    assert (front.kicks, back.kicks) == (before[0] + 1, before[1] + 1)
    vif.guest_end.wake()  # type: ignore[attr-defined]
    assert front.kicks == before[0] + 2
    vif.guest.crash()
    vif.kick()
    assert (front.kicks, back.kicks) == (before[0] + 2, before[1] + 2)
    assert f"domain {vif.guest.domid}, which has the frontend, does not run" in why(vif)
    host.destroy()


def test_a_driver_domain_may_have_somebody_elses_drivers() -> None:
    host = Host(backend_types=("qnic",))
    owner = host.add_driver_domain(name="drivers", drivers=OwnBackend)
    config = VifConfig(guest_mac(2), type="qnic")
    guest = host.add_guest()
    vif = host.plug(guest, 0, Stack(), Stack(), config, backend_domid=owner.domid)
    host.boot()
    host.settle()
    host.require_connected(vif)
    assert isinstance(vif.host_driver, OwnBackend)
    assert vif.paths.backend == f"/local/domain/{owner.domid}/backend/qnic/{guest.domid}/0"
    sent = frames(vif)
    vif.kick()
    host.settle()
    assert received(vif) == sent
    end(host, vif)


def test_a_device_that_nobody_plugged_in_is_nothing_to_a_foreign_driver() -> None:
    host = Host(drivers=OwnBackend)
    guest = host.add_guest(drivers=OwnFrontend)
    host.boot()
    host.settle()
    for path in (FE, BE, FE.replace("vif/0", "vif/x")):
        host.store.write(f"{path}/state", "1")
    host.settle()
    assert guest.buses.nodenames == ["device/vif/0", "device/vif/x"]
    assert guest.buses.driver("device/vif/0") is host.dom0.buses.driver("backend/vif/1/0") is None
    host.remove_unknown_devices()
    host.settle()
    assert guest.buses.nodenames == host.dom0.buses.nodenames == []
    assert not host.store.exists(FE)
    host.destroy()


@pytest.mark.parametrize(
    ("front", "back", "said"),
    [
        ("xennet", "xennet", "linux to linux, connected"),
        (OwnFrontend, "xennet", "OwnFrontend to linux, connected"),
        ("xennet", OwnBackend, "linux to OwnBackend, connected"),
        (None, "xennet", "no driver of xennet's to linux, not connected"),
        ("xennet", None, "linux to no driver of xennet's, not connected"),
    ],
)
def test_a_vif_says_who_drives_it(front: object, back: object, said: str) -> None:
    host, vif = plugged(front, back)
    assert repr(vif) == f"<PluggedVif vif1.0: {said}>"
    host.destroy()


#: What may happen to a host, its guest and their vif.
STEPS = ("load", "boot", "plug", "unplug", "kick", "frames", "settle", "wait", "crash", "destroy")
WHOSE = st.sampled_from(["xennet", "own", None])


#: It may begin with a vif that is up, so that walks get somewhere.
UP = st.sampled_from([[], ["load", "boot", "plug", "settle"]])


@given(front=WHOSE, back=WHOSE, up=UP, steps=st.lists(st.sampled_from(STEPS), max_size=15))
def test_whatever_happens_every_question_has_an_answer_and_nothing_is_left(
    front: str | None, back: str | None, up: list[str], steps: list[str]
) -> None:
    host = Host(drivers=OwnBackend if back == "own" else back)
    guest = host.add_guest(drivers=OwnFrontend if front == "own" else front)
    vif: PluggedVif | None = None
    for step in up + steps:
        match step, vif:
            case "load", _:
                host.dom0.load()
            case "boot", _ if guest.domain.running:
                guest.boot()
            case "plug", _ if guest.domid in host.guests:
                with suppress(LinkError):  # the handle is in use
                    vif = host.plug(guest, 0, Stack(), Stack())
            case "unplug", PluggedVif():
                host.unplug(vif)
            case "kick", PluggedVif():
                vif.kick()
            case "frames", PluggedVif():
                frames(vif, 3)
            case "settle", _:
                host.settle()
            case "wait", _:
                host.machine.run_loop.run_until_idle(advance_timers=True)
            case "crash", _ if guest.domid in host.guests:
                guest.crash()
            case "destroy", _ if guest.domid in host.guests:
                guest.destroy()
        if vif is not None:
            assert vif.connected or why(vif)
            assert isinstance(remarks(vif) + vif.errors, list)
            assert vif.name in repr(vif)
    host.settle()
    if vif is not None and host.guests:
        host.unplug(vif)
    host.machine.run_loop.run_until_idle(advance_timers=True)
    if host.guests:
        guest.destroy()
        host.machine.run_loop.run_until_idle(advance_timers=True)
    assert not host.store.exists("/local/domain/0/backend/vif")
    assert not host.leaks(), str(host.leaks())
    host.destroy()


# -- nobody who could be asked ---------------------------------------------------------------------


def test_a_guest_without_drivers_of_its_own_is_driven_by_code_that_has_its_kernel() -> None:
    host, vif = plugged(None, "xennet")
    assert vif.guest.booted
    assert not vif.guest.buses.nodenames
    assert vif.guest_driver is None
    assert (
        "domain 1, whose drivers are not xennet's, has shown no state of a driver: "
        f"{FE}/state = Initialising (1)"
    ) in why(vif)
    front = OwnFrontend(vif, vif.guest.kernel)
    host.settle()
    host.require_connected(vif)
    assert why(vif) == []
    sent = frames(vif)
    front.kick()
    vif.kick()
    host.settle()
    assert received(vif) == sent
    vif.seen.frontend.store.write(f"{FE}/state", "6")
    assert (
        "domain 1, whose drivers are not xennet's, serves this end no more: "
        f"{FE}/state = Closed (6)"
    ) in why(vif)
    vif.seen.frontend.store.write(f"{FE}/state", "4")
    end(host, vif)


def test_a_backend_made_with_domain_0s_kernel_is_judged_by_states_and_rings() -> None:
    host, vif = plugged("xennet", None)
    assert any(line.startswith("domain 0, whose drivers are not xennet's") for line in why(vif))
    OwnBackend(vif, host.dom0.kernel)
    host.settle()
    host.require_connected(vif)
    assert why(vif) == []
    end(host, vif)


def test_stacks_behind_drivers_that_nobody_can_ask_are_not_looked_at() -> None:
    host, vif = plugged(None, None)
    for stack in (vif.guest_end, vif.host_end):
        stack.room = 0  # type: ignore[misc]
    assert not [reason for reason in why(vif) if "room for 0 frames" in reason]
    host.destroy()


def test_whether_a_foreign_frontend_looks_at_the_carrier_is_not_known() -> None:
    host, vif = plugged(None, "xennet")
    host.store.write(f"{BE}/carrier", "0")
    assert remarks(vif) == [f"{BE}/carrier = 0: a frontend that looks at it sends nothing"]
    host.destroy()


def test_a_handful_of_calls_are_for_xennets_drivers_only() -> None:
    host, vif = plugged(OwnFrontend, "xennet")
    for call in (vif.guest.unload, vif.guest.load):
        with pytest.raises(LinkError, match="the drivers of domain 1 are not xennet's"):
            call()
    host.destroy()


# -- what the hypervisor knows ---------------------------------------------------------------------


def faulty(which: Callable[..., VifEnd], *faults: str) -> Callable[..., VifEnd]:
    return partial(which, faults=faults)


def test_a_backend_that_shows_connected_and_has_attached_nothing_is_not_connected() -> None:
    host, vif = plugged("xennet", faulty(OwnBackend, "nothing attached"))
    assert host.store.read(f"{BE}/state") == b"4"
    vif.host_driver.carrier = True  # type: ignore[union-attr, misc]
    assert not vif.connected
    assert why(vif) == [
        "the backend has not connected to the rings of the frontend that is Connected: "
        f"{FE}/state = Connected (4)"
    ]
    with pytest.raises(
        LinkError, match=r"the vif did not connect: .*the backend has not connected to the rings"
    ):
        host.require_connected(vif)
    host.destroy()


@pytest.mark.parametrize("shown", ["1", "5", "", "x"])
@pytest.mark.parametrize("end", [FE, BE])
def test_an_end_that_does_not_show_connected_is_not_connected(end: str, shown: str) -> None:
    host, vif = plugged(OwnFrontend, OwnBackend)
    assert vif.connected
    host.store.write(f"{end}/state", shown)
    assert not vif.connected
    assert [reason for reason in why(vif) if f"is not Connected: {end}/state = " in reason]
    host.destroy()


def test_each_thing_that_a_backend_has_not_attached_is_named() -> None:
    host, vif = plugged(OwnFrontend, faulty(OwnBackend, "no rx ring"))
    front = vif.guest_driver
    assert isinstance(front, OwnFrontend)
    assert not vif.connected
    unused = "domain 0 does not use the {} of the frontend that is Connected: {} = {}"
    assert why(vif) == [
        unused.format("ring page", f"{FE}/rx-ring-ref", front.grefs[1]),
        unused.format("event channel", f"{FE}/event-channel", front.port),
    ]
    host.destroy()


def test_pages_that_are_granted_to_another_domain_are_named() -> None:
    host, vif = plugged(faulty(OwnFrontend, "wrong domain"), faulty(OwnBackend, "nothing attached"))
    front = vif.guest_driver
    assert isinstance(front, OwnFrontend)
    assert why(vif)[:2] == [
        f"domain 1 has no such ring page for domain 0: {FE}/{key}-ring-ref = {gref}"
        for key, gref in zip(("tx", "rx"), front.grefs, strict=False)
    ]
    host.destroy()


@pytest.mark.parametrize("port", ["0", "77", "4000000000"])
def test_a_channel_that_does_not_exist_is_named(port: str) -> None:
    host, vif = plugged("xennet", faulty(OwnBackend, "nothing attached"))
    host.store.write(f"{FE}/event-channel", port)
    assert (
        why(vif)[-1]
        == f"domain 1 has no such event channel for domain 0: {FE}/event-channel = {port}"
    )
    host.destroy()


def test_requests_that_a_deaf_backend_does_not_answer_are_named() -> None:
    host, vif = plugged(OwnFrontend, faulty(OwnBackend, "deaf"))
    assert vif.connected
    frames(vif, 3)
    vif.kick_guest()
    host.settle()
    back = vif.host_driver
    assert isinstance(back, OwnBackend)
    assert why(vif) == [
        "queue 0 of vif1.0: 3 requests of the guest are not answered: req_prod = 3, rsp_prod = 0, "
        f"and an event is pending at port {back.port} of domain 0, which is masked"
    ]
    host.destroy()


def test_requests_of_which_a_frontend_has_not_told_are_named() -> None:
    host, vif = plugged(faulty(OwnFrontend, "no events"), "xennet")
    assert vif.connected
    host.settle()
    frames(vif, 3)
    vif.kick_guest()
    host.settle()
    assert why(vif) == [
        "queue 0 of vif1.0: 3 requests of the guest are not answered: req_prod = 3, rsp_prod = 0, "
        "and no event is pending for domain 0"
    ]
    host.destroy()


@BACK
def test_a_foreign_frontend_without_buffers_is_named(back: object) -> None:
    host, vif = plugged(faulty(OwnFrontend, "no buffers"), back)
    assert vif.connected
    assert why(vif) == ["queue 0 of vif1.0: the guest has posted no receive buffers"]
    host.destroy()


def test_keys_that_vanish_leave_nothing_to_judge_a_foreign_backend_by() -> None:
    host, vif = plugged(OwnFrontend, OwnBackend)
    host.store.rm(f"{FE}/tx-ring-ref")
    assert not vif.connected
    (reason,) = why(vif)
    assert reason.startswith("the frontend's keys are not complete")
    host.destroy()


# -- what a driver says itself ---------------------------------------------------------------------


class Talkative(OwnFrontend):
    """It has something to say, and quotes a node."""

    def reasons(self, seen: VifDirectories) -> list[str]:
        return [f"my queue stands still: {seen.backend.node('rate')} = 1"]

    def remarks(self) -> list[str]:
        return ["it could be faster"]


def test_what_a_foreign_driver_knows_is_said() -> None:
    host, vif = plugged(Talkative, OwnBackend)
    assert why(vif) == [f"my queue stands still: {BE}/rate = 1"]
    assert remarks(vif) == ["it could be faster"]
    front, back = vif.guest_driver, vif.host_driver
    assert isinstance(front, OwnFrontend)
    assert isinstance(back, OwnBackend)
    back.error = ValueError("a request of 0 bytes")
    back.counters.dropped = 7
    back.counters.tx.errors = 2
    front.counters.no_carrier = 3
    assert vif.errors == ["a request of 0 bytes"]
    assert (
        "vif1.0 is disabled, the guest broke the protocol: a request of 0 bytes "
        "(packets for it that were dropped: 7)"
    ) in why(vif)
    assert [line.partition(":")[0] for line in remarks(vif)] == [
        "it could be faster",
        "packets of the guest that the backend refused",
        "frames of the guest that were dropped without a carrier",
        "frames for the guest that were dropped without a carrier",
    ]
    front.carrier = False
    assert not vif.connected
    host.destroy()


def test_an_end_needs_to_say_nothing() -> None:
    made: list[tuple[str, int]] = []

    class Silent(BaseEnd):
        def __init__(self, vif: PluggedVif, kernel: object) -> None:
            made.append((vif.name, vif.guest.domid))

    host, vif = plugged(Silent, Silent)
    assert made == [("vif1.0", 1)] * 2
    vif.kick()
    vif.host_driver.error = ValueError("no")  # type: ignore[union-attr, misc]
    assert not vif.connected
    assert "vif1.0 is disabled, the guest broke the protocol: no" in why(vif)
    assert remarks(vif) == []
    assert f"the frontend is not Connected: {FE}/state = Initialising (1)" in why(vif)
    host.destroy()


def test_xennets_own_drivers_are_ends_like_others() -> None:
    host, vif = plugged("xennet", "xennet")
    assert vif.guest_driver is vif.netfront
    assert vif.host_driver is vif.netback
    assert vif.guest_driver is not None
    assert isinstance(vif.guest_driver.counters, NetfrontCounters)
    host.destroy()


# -- guests that move ------------------------------------------------------------------------------


def test_a_foreign_driver_that_can_be_moved_goes_on_in_another_domain() -> None:
    host, vif = plugged(MovableFrontend, "xennet")
    front = vif.guest_driver
    saved = host.save(vif.guest)
    host.destroy_guest(saved.domid)
    host.settle()
    host.restore(saved)
    host.settle()
    assert vif.guest_driver is front
    assert vif.paths.frontend == "/local/domain/2/device/vif/0"
    host.require_connected(vif)
    sent = frames(vif)
    vif.kick()
    host.settle()
    assert received(vif) == sent
    end(host, vif)


def test_a_foreign_driver_that_cannot_be_moved_is_refused_before_anything_happens() -> None:
    host, vif = plugged(OwnFrontend, "xennet")
    saved = host.save(vif.guest)
    with pytest.raises(LinkError, match="device/vif/0: OwnFrontend cannot be moved"):
        host.restore(saved)
    assert vif.guest.domid == saved.domid
    assert not host.guests
    assert not host.store.exists("/local/domain/2")
    host.destroy()


@pytest.mark.parametrize("drivers", ["xennet", None], ids=["not loaded", "somebody's"])
def test_a_restored_guest_has_no_drivers_that_were_not_loaded_before(drivers: object) -> None:
    host = Host()
    host.dom0.load()
    guest = host.add_guest(drivers=drivers)
    vif = host.plug(guest, 0, Stack(), Stack())
    host.settle()
    saved = host.save(guest)
    host.destroy_guest(saved.domid)
    host.settle()
    host.restore(saved)
    host.settle()
    assert not guest.buses.nodenames
    assert vif.guest_driver is None
    assert host.store.read("/local/domain/2/device/vif/0/state") == b"1"
    OwnFrontend(vif, guest.kernel)
    host.settle()
    host.require_connected(vif)
    end(host, vif)


def test_drivers_that_are_loaded_after_a_restore_find_their_devices() -> None:
    host = Host()
    host.dom0.load()
    guest = host.add_guest()
    vif = host.plug(guest, 0, Stack(), Stack())
    host.settle()
    saved = host.save(guest)
    host.destroy_guest(saved.domid)
    host.restore(saved)
    guest.boot()
    host.settle()
    host.require_connected(vif)
    end(host, vif)
