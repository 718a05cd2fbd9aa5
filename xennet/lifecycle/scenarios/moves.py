"""Scenarios of a guest that is suspended: it goes on where it was, in a new domain, on a new host.

Linux's netfront takes nothing along but itself (netfront_resume): its rings, with all that is in
them, are thrown away, and it connects anew. What waited outside of the rings goes on.
"""

from __future__ import annotations

from xennet.abi.sched import SHUTDOWN_suspend
from xennet.abi.words import RX_SLOTS
from xennet.abi.xenbus import XenbusState
from xennet.lifecycle.host import Host
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import TRIAL, Stage
from xennet.link.residents import SavedGuest
from xennet.xenbus.control import GuestControl, GuestRequest
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import read_state

#: Frames that are in the rings when a guest is saved, in each direction.
_IN_RINGS = 100
_ENDLESS = 1 << 30


def _suspend_resume(stage: Stage) -> None:
    stage.connect()
    stage.both_have_frames(TRIAL)
    stage.tell("The guest was suspended and wakes up in the same domain.")
    stage.guest.frontends.resume()
    stage.settle()
    _expect_waiting_frames(stage)


def _suspend_cancelled(stage: Stage) -> None:
    stage.connect()
    stage.trial()
    stage.tell("The guest is asked to suspend; that is cancelled before it has done so.")
    taken: list[str] = []
    store = stage.guest.kernel.store
    control = GuestControl(store, {"suspend": lambda: taken.append("suspend")})
    control.start()
    GuestRequest(stage.house.store, stage.guest.domid, "suspend", taken.append).start()
    stage.settle()
    control.stop()
    stage.expect("The guest has taken the command, and nothing comes of it.", len(taken) == 2)


def _save_restore(stage: Stage) -> None:
    stage.connect()
    _fill_rings(stage, stage.host)
    saved = _save(stage)
    stage.tell("Its domain is destroyed.")
    stage.house.destroy_guest(saved.domid)
    stage.settle()
    _restore(stage, saved, stage.host, saved.domid + 1)


def _migration(stage: Stage) -> None:
    stage.connect()
    source, target = stage.host, stage.add_host("source", "destination")
    target.house.boot()
    _fill_rings(stage, source)
    saved = _save(stage)
    old = VifPaths(saved.domid, 0)
    _restore(stage, saved, target, saved.domid + 6)
    states = [read_state(source.house.store, path) for path in (old.frontend, old.backend)]
    stage.expect(
        "The source knows nothing of it: there both ends are still Connected.",
        states == [XenbusState.Connected] * 2,
    )
    stage.tell("The source's toolstack destroys the domain that the guest has left.")
    source.house.destroy_guest(saved.domid)
    stage.settle()
    left = str(source.house.leaks())
    stage.expect(f"On the source, {left}.", not source.house.leaks())
    store = source.house.service.store
    nodes, watches = store.nodes_owned(saved.domid), store.watches_of(saved.domid)
    stage.expect(
        f"In its store domain {saved.domid} has {nodes} nodes and {watches} watches.",
        not nodes and not watches,
    )


def _fill_rings(stage: Stage, host: Host) -> None:
    """Both network stacks stop taking frames, so that the rings hold some when the guest is saved;
    more frames wait outside of them."""
    stage.in_guest.room = host.network.room = 0
    stage.both_have_frames(_IN_RINGS)
    stage.vif.kick()
    stage.settle()
    stage.both_have_frames(TRIAL)
    front = stage.vif.netfront
    queue = front.queue if front is not None else None
    if queue is None:
        stage.wrong.append("there are no rings")
        return
    tx, rx = queue.tx_ring.sring, queue.rx_ring.sring
    posted = rx.req_prod - rx.rsp_prod
    stage.expect(
        f"In the rings there are {tx.req_prod - tx.rsp_prod} frames of the guest, {rx.rsp_prod} "
        f"for it, and {posted} receive buffers.",
        (tx.req_prod, rx.rsp_prod, posted) == (_IN_RINGS, _IN_RINGS, RX_SLOTS - _IN_RINGS),
    )


def _save(stage: Stage) -> SavedGuest:
    """The toolstack asks the guest to suspend, by its node control/shutdown."""
    stage.tell("The toolstack asks the guest to suspend.")
    house, guest = stage.house, stage.guest
    GuestControl(guest.kernel.store, {"suspend": lambda: guest.shut_down(SHUTDOWN_suspend)}).start()
    answers: list[str] = []
    GuestRequest(house.store, guest.domid, "suspend", answers.append).start()
    stage.settle()
    stage.expect(
        "It has acknowledged that and stopped; it is saved.",
        answers == [""] and not guest.domain.running,
    )
    return house.save(guest)


def _restore(stage: Stage, saved: SavedGuest, host: Host, domid: int) -> None:
    where = "there" if host is not stage.host else ""
    stage.tell(f"It is restored {where} as domain {domid}.".replace("  ", " "))
    stage.in_guest.room = host.network.room = _ENDLESS
    if host is not stage.host:
        host.network.to_send = TRIAL
    stage.house = host.house
    paths = VifPaths(domid, 0)
    host.tell_of(paths)
    host.house.restore(saved, domid=domid, host_ends={0: host.network})
    _expect_posted_buffers(stage, paths)
    stage.settle()
    _expect_waiting_frames(stage)


def _expect_posted_buffers(stage: Stage, paths: VifPaths) -> None:
    """Go on up to where the frontend is Connected and the backend has not looked yet."""
    loop, store = stage.house.machine.run_loop, stage.house.store
    while read_state(store, paths.frontend) != XenbusState.Connected:
        if loop.step() is None:
            break
    front, back = stage.vif.netfront, stage.vif.netback
    ring = front.queue.rx_ring.sring if front is not None and front.queue is not None else None
    posted = 0 if ring is None else ring.req_prod
    stage.expect(
        f"Before the backend maps its rings it has posted {posted} receive buffers.",
        posted == RX_SLOTS and back is not None and not back.queues,
    )


def _expect_waiting_frames(stage: Stage) -> None:
    stage.expect(
        f"The {TRIAL} frames that waited outside of the rings at each end have arrived, and no "
        f"other.",
        (stage.in_guest.received, stage.in_host.received) == (TRIAL, TRIAL),
    )


MOVES = (
    Scenario("suspend-resume", "the guest resumes and connects again", _suspend_resume),
    Scenario("suspend-cancelled", "the guest does not suspend after all", _suspend_cancelled),
    Scenario("save-restore", "the guest goes on as another domain", _save_restore),
    Scenario("migration", "the guest goes on on another host", _migration),
)
