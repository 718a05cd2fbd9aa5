"""Scenarios of a vif that is connected and waits: for buffers, for credit, for its carrier."""

from __future__ import annotations

from xennet.counters import BackendCounters
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import TRIAL, Stage
from xennet.netfront.options import NetfrontOptions

_ENDLESS = 1 << 30
#: Frames of the host before anything is late: more than there are buffers.
_BEFORE = 300


def _guest_stops_receiving(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest's network stack takes nothing any more; the host sends 1000 frames.")
    stage.in_guest.room = 0
    stage.host_sends(1000)


def _stalled_queue(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest's network stack takes nothing for 80 s; the host goes on sending.")
    stage.in_guest.room = 0
    stage.host_sends(_BEFORE)
    for _ in range(8):
        stage.pass_time(10)
        stage.host_sends(TRIAL)
    stage.expect_reason(f"queue 0 of {stage.vif.name} is stalled")
    back = stage.vif.netback
    dropped = 0 if back is None else back.counters.dropped
    stage.host_sends(TRIAL)
    more = 0 if back is None else back.counters.dropped - dropped
    stage.expect(f"Of {TRIAL} more frames for the guest {more} are dropped.", more == TRIAL)
    stage.expect("The backend has no carrier.", back is not None and not back.carrier)
    stage.tell("The guest's network stack goes on, and buffers come back.")
    stage.in_guest.room = _ENDLESS
    stage.vif.kick_guest()
    stage.settle()
    stage.expect("The backend has its carrier again.", back is not None and back.carrier)
    counters = back.counters if back is not None else BackendCounters()
    arrived, expired, dropped = stage.in_guest.received, counters.expired, counters.dropped
    stage.expect(
        f"Of {_BEFORE + 9 * TRIAL} frames {arrived} arrived, {expired} found no buffers in time "
        f"and {dropped} were dropped.",
        arrived + expired + dropped == _BEFORE + 9 * TRIAL,
    )


def _carrier_lost(stage: Stage) -> None:
    stage.connect()
    stage.tell("The backend's domain says in a new node that the link is down.")
    store, node = stage.owner.kernel.store, f"{stage.vif.paths.backend_node}/carrier"
    store.write(node, "0")
    stage.settle()
    stage.expect_reason(f"{stage.vif.paths.backend}/carrier = 0")
    stage.in_guest.to_send = TRIAL
    stage.vif.kick_guest()
    stage.settle()
    front = stage.vif.netfront
    lost = 0 if front is None else front.counters.no_carrier
    stage.expect(f"Of {TRIAL} frames that the guest sends {lost} are dropped.", lost == TRIAL)
    stage.tell("The link is up again.")
    store.write(node, "1")
    stage.settle()


def _rate_limited(stage: Stage) -> None:
    stage.load_backend()
    stage.plug({"rate": "100,1000000"})
    stage.load_frontend()
    stage.tell("The guest sends more than the limit of 100 bytes per second lets through.")
    stage.in_guest.to_send += 5
    stage.vif.kick_guest()
    stage.settle()


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
