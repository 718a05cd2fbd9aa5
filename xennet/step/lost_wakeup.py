"""What lies on the rings of a vif at rest, and was to be taken: nobody will be told of it."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.host.domains import PluggedVif
from xennet.host.shared_rings import RingState, rings
from xennet.netback.guest_rx import R_NEEDED
from xennet.ring import MASK32


def lost_wakeups(vif: PluggedVif) -> list[str]:
    """A sentence for each ring of ``vif`` on which requests or responses are left, when nothing is
    ready and no timer runs: who has not taken them, the two indices, and the event field.

    A driver of xennet is asked what it has taken, and whether it has room. Of another driver it is
    seen in the page: a backend has to answer each transmit request, and a frontend that has taken a
    response asks for an event at a later one. Receive requests are buffers, which may wait.
    """
    return [
        sentence
        for ring in rings(vif.guest.host.machine, vif.seen)
        for sentence in (*_requests(vif, ring), *_responses(vif, ring))
    ]


def ring_lines(vif: PluggedVif) -> Iterator[str]:
    """The indices of each ring of ``vif``, as they are in its page, one line for each."""
    for ring in rings(vif.guest.host.machine, vif.seen):
        name = ring.name + (f"-{ring.queue}" if ring.queue else "")
        yield (
            f"{name} req_prod {ring.req_prod} req_event {ring.req_event} "
            f"rsp_prod {ring.rsp_prod} rsp_event {ring.rsp_event}"
        )


def _requests(vif: PluggedVif, ring: RingState) -> Iterator[str]:
    left = ring.unanswered if ring.name == "tx" else 0
    if vif.netback is not None:
        queue = vif.netback.queues[ring.queue]
        if ring.name == "tx":
            left = queue.tx_ring.unconsumed_requests if queue.host.room else 0
        elif not queue.rx.empty and not queue.stalled:
            posted = queue.rx_ring.unconsumed_requests
            left = posted if posted >= queue.rx.res[R_NEEDED] else 0
    if left:
        numbers = "req_prod", ring.req_prod, "req_event", ring.req_event
        yield _sentence(ring, "backend", "requests", left, numbers)


def _responses(vif: PluggedVif, ring: RingState) -> Iterator[str]:
    behind = (ring.rsp_prod - ring.rsp_event) & MASK32
    left = behind + 1 if behind < ring.size else 0
    if vif.netfront is not None:
        queue = vif.netfront.queues[ring.queue]
        left = (queue.tx_ring if ring.name == "tx" else queue.rx_ring).unconsumed_responses
        if ring.name == "rx" and not queue.guest.room:
            left = 0
    if left:
        numbers = "rsp_prod", ring.rsp_prod, "rsp_event", ring.rsp_event
        yield _sentence(ring, "frontend", "responses", left, numbers)


def _sentence(
    ring: RingState, who: str, what: str, left: int, numbers: tuple[str, int, str, int]
) -> str:
    prod, reached, event, asked = numbers
    name = f"{ring.name} ring" + (f" of queue {ring.queue}" if ring.queue else "")
    passed = (reached - asked) & MASK32 <= MASK32 >> 1
    why = (
        f"{prod} is there or beyond, and no event came"
        if passed
        else f"{prod} is not there yet: it asked for the next one, and does nothing about these"
    )
    return (
        f"{name}: {prod} is {reached}; the {who} sleeps and has taken the {what} before "
        f"{(reached - left) & MASK32}, {left} are left. {event} is {asked}: {why}."
    )
