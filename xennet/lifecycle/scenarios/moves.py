"""Scenarios of a suspended guest that goes on in the same domain, in a new domain, or on a new
host.

Linux's netfront takes nothing along but itself (netfront_resume): its rings, with everything in
them, are thrown away, and it connects anew. Frames that waited outside of the rings are sent then.
"""

from __future__ import annotations

from xennet.abi.sched import SHUTDOWN_suspend
from xennet.abi.words import RX_SLOTS
from xennet.abi.xenbus import XenbusState
from xennet.host.domains import SavedGuest
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import TRIAL, Scene
from xennet.lifecycle.scene_host import SceneHost
from xennet.toolstack.shutdown import GuestControl, GuestRequest
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import read_state

#: Frames that are in the rings when a guest is saved, in each direction.
_IN_RINGS = 100
_ENDLESS = 1 << 30


def _suspend_resume(scene: Scene) -> None:
    scene.connect()
    scene.both_have_frames(TRIAL)
    scene.tell("The guest was suspended and wakes up in the same domain.")
    scene.guest.frontends.resume()
    scene.settle()
    _expect_waiting_frames(scene)


def _suspend_cancelled(scene: Scene) -> None:
    scene.connect()
    scene.trial()
    scene.tell("The guest is asked to suspend; that is cancelled before it has done so.")
    taken: list[str] = []
    store = scene.guest.kernel.store
    control = GuestControl(store, {"suspend": lambda: taken.append("suspend")})
    control.start()
    GuestRequest(scene.host.store, scene.guest.domid, "suspend", taken.append).start()
    scene.settle()
    control.stop()
    scene.expect("The guest has taken the command, and nothing comes of it.", len(taken) == 2)


def _save_restore(scene: Scene) -> None:
    scene.connect()
    _fill_rings(scene, scene.scene_host)
    saved = _save(scene)
    scene.tell("Its domain is destroyed.")
    scene.host.destroy_guest(saved.domid)
    scene.settle()
    _restore(scene, saved, scene.scene_host, saved.domid + 1)


def _migration(scene: Scene) -> None:
    scene.connect()
    source, target = scene.scene_host, scene.add_host("source", "destination")
    target.host.boot()
    _fill_rings(scene, source)
    saved = _save(scene)
    old = VifPaths(saved.domid, 0)
    _restore(scene, saved, target, saved.domid + 6)
    states = [read_state(source.host.store, path) for path in (old.frontend, old.backend)]
    scene.expect(
        "The source knows nothing of it: there both ends are still Connected.",
        states == [XenbusState.Connected] * 2,
    )
    scene.tell("The source's toolstack destroys the domain that the guest has left.")
    source.host.destroy_guest(saved.domid)
    scene.settle()
    left = str(source.host.leaks())
    scene.expect(f"On the source, {left}.", not source.host.leaks())
    store = source.host.service.store
    nodes, watches = store.nodes_owned(saved.domid), store.watches_of(saved.domid)
    scene.expect(
        f"In its store domain {saved.domid} has {nodes} nodes and {watches} watches.",
        not nodes and not watches,
    )


def _fill_rings(scene: Scene, host: SceneHost) -> None:
    """Fill the rings: both network stacks stop taking frames, and more frames wait outside."""
    scene.in_guest.room = host.network.room = 0
    scene.both_have_frames(_IN_RINGS)
    scene.vif.kick()
    scene.settle()
    scene.both_have_frames(TRIAL)
    front = scene.vif.netfront
    queue = front.queue if front is not None else None
    if queue is None:
        scene.wrong.append("there are no rings")
        return
    tx, rx = queue.tx_ring.sring, queue.rx_ring.sring
    posted = rx.req_prod - rx.rsp_prod
    scene.expect(
        f"In the rings there are {tx.req_prod - tx.rsp_prod} frames of the guest, {rx.rsp_prod} "
        f"for it, and {posted} receive buffers.",
        (tx.req_prod, rx.rsp_prod, posted) == (_IN_RINGS, _IN_RINGS, RX_SLOTS - _IN_RINGS),
    )


def _save(scene: Scene) -> SavedGuest:
    """Let the toolstack ask the guest to suspend (control/shutdown), and save it."""
    scene.tell("The toolstack asks the guest to suspend.")
    host, guest = scene.host, scene.guest
    GuestControl(guest.kernel.store, {"suspend": lambda: guest.shut_down(SHUTDOWN_suspend)}).start()
    answers: list[str] = []
    GuestRequest(host.store, guest.domid, "suspend", answers.append).start()
    scene.settle()
    scene.expect(
        "It has acknowledged that and stopped; it is saved.",
        answers == [""] and not guest.domain.running,
    )
    return host.save(guest)


def _restore(scene: Scene, saved: SavedGuest, host: SceneHost, domid: int) -> None:
    where = "there" if host is not scene.scene_host else ""
    scene.tell(f"It is restored {where} as domain {domid}.".replace("  ", " "))
    scene.in_guest.room = host.network.room = _ENDLESS
    if host is not scene.scene_host:
        host.network.to_send = TRIAL
    scene.host = host.host
    paths = VifPaths(domid, 0)
    host.tell_of(paths)
    host.host.restore(saved, domid=domid, host_ends={0: host.network})
    _expect_posted_buffers(scene, paths)
    scene.settle()
    _expect_waiting_frames(scene)


def _expect_posted_buffers(scene: Scene, paths: VifPaths) -> None:
    """Step until the frontend is Connected, before the backend looks."""
    loop, store = scene.host.machine.run_loop, scene.host.store
    while read_state(store, paths.frontend) != XenbusState.Connected:
        if loop.step() is None:
            break
    front, back = scene.vif.netfront, scene.vif.netback
    ring = front.queue.rx_ring.sring if front is not None and front.queue is not None else None
    posted = 0 if ring is None else ring.req_prod
    scene.expect(
        f"Before the backend maps its rings it has posted {posted} receive buffers.",
        posted == RX_SLOTS and back is not None and not back.queues,
    )


def _expect_waiting_frames(scene: Scene) -> None:
    scene.expect(
        f"The {TRIAL} frames that waited outside of the rings at each end have arrived, and no "
        f"other.",
        (scene.in_guest.received, scene.in_host.received) == (TRIAL, TRIAL),
    )


MOVES = (
    Scenario("suspend-resume", "the guest resumes and connects again", _suspend_resume),
    Scenario("suspend-cancelled", "the guest does not suspend after all", _suspend_cancelled),
    Scenario("save-restore", "the guest goes on as another domain", _save_restore),
    Scenario("migration", "the guest goes on on another host", _migration),
)
