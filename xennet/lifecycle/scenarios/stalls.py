"""Scenarios of a vif that is connected and waits: for buffers, for credit, for its carrier."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import TRIAL, Scene
from xennet.netfront.options import NetfrontOptions
from xennet.vif.counters import BackendCounters

_ENDLESS = 1 << 30
#: Frames that the host sends at first: more than there are buffers.
_BEFORE = 300


def _guest_stops_receiving(scene: Scene) -> None:
    scene.connect()
    scene.tell("The guest's network stack takes nothing any more; the host sends 1000 frames.")
    scene.in_guest.room = 0
    scene.host_sends(1000)


def _stalled_queue(scene: Scene) -> None:
    scene.connect()
    scene.tell("The guest's network stack takes nothing for 80 s; the host goes on sending.")
    scene.in_guest.room = 0
    scene.host_sends(_BEFORE)
    for _ in range(8):
        scene.pass_time(10)
        scene.host_sends(TRIAL)
    scene.expect_reason(f"queue 0 of {scene.vif.name} is stalled")
    back = scene.vif.netback
    dropped = 0 if back is None else back.counters.dropped
    scene.host_sends(TRIAL)
    more = 0 if back is None else back.counters.dropped - dropped
    scene.expect(f"Of {TRIAL} more frames for the guest {more} are dropped.", more == TRIAL)
    scene.expect("The backend has no carrier.", back is not None and not back.carrier)
    scene.tell("The guest's network stack goes on, and buffers come back.")
    scene.in_guest.room = _ENDLESS
    scene.vif.kick_guest()
    scene.settle()
    scene.expect("The backend has its carrier again.", back is not None and back.carrier)
    counters = back.counters if back is not None else BackendCounters()
    arrived, expired, dropped = scene.in_guest.received, counters.expired, counters.dropped
    scene.expect(
        f"Of {_BEFORE + 9 * TRIAL} frames {arrived} arrived, {expired} found no buffers in time "
        f"and {dropped} were dropped.",
        arrived + expired + dropped == _BEFORE + 9 * TRIAL,
    )


def _carrier_lost(scene: Scene) -> None:
    scene.connect()
    scene.tell("The backend's domain says in a new node that the link is down.")
    store, node = scene.owner.kernel.store, f"{scene.vif.paths.backend_node}/carrier"
    store.write(node, "0")
    scene.settle()
    scene.expect_reason(f"{scene.vif.paths.backend}/carrier = 0")
    scene.in_guest.to_send = TRIAL
    scene.vif.kick_guest()
    scene.settle()
    front = scene.vif.netfront
    lost = 0 if front is None else front.counters.no_carrier
    scene.expect(f"Of {TRIAL} frames that the guest sends {lost} are dropped.", lost == TRIAL)
    scene.tell("The link is up again.")
    store.write(node, "1")
    scene.settle()


def _rate_limited(scene: Scene) -> None:
    scene.load_backend()
    scene.plug({"rate": "100,1000000"})
    scene.load_frontend()
    scene.tell("The guest sends more than the limit of 100 bytes per second lets through.")
    scene.in_guest.to_send += 5
    scene.vif.kick_guest()
    scene.settle()


STALLS = (
    Scenario(
        "guest-stops-receiving",
        "no buffers for what the host sends",
        _guest_stops_receiving,
        "no receive buffers",
    ),
    Scenario("stalled-queue", "no buffers for too long, and then again", _stalled_queue),
    Scenario(
        "carrier-lost",
        "the link goes down and comes up again",
        _carrier_lost,
        front=NetfrontOptions(carrier=True),
    ),
    Scenario("rate-limited", "more than the rate limit", _rate_limited, "{backend}/rate"),
)
