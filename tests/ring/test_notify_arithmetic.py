"""When to notify, tried with every (old, new, event) near the places where 32-bit numbers turn.

xen/io/ring.h says ``(RING_IDX)(new - event) < (RING_IDX)(new - old)``. What that means is said here
without any arithmetic of its kind: the event index is one of the indices just published.
"""

from __future__ import annotations

from functools import cache

from xennet.abi.words import RSP_EVENT, RSP_PROD
from xennet.engine import kernel
from xennet.engine.choice import current
from xennet.ring import BackRing, FrontRing, must_notify, tx_ring

WRAP = 2**32
#: Right before, at and behind 0 (which is 2^32 as well) and 2^31.
TURNS = [(turn + offset) % WRAP for turn in (0, 2**31) for offset in range(-3, 4)]
#: More than any netif ring has slots.
FARTHEST = 300


@cache
def publications() -> list[tuple[int, int, dict[int, bool]]]:
    """(old, new, events): whether each event index is to be notified of. ``old`` or ``new`` lies
    near a turn, the events near the turns, ``old`` and ``new``."""
    found = []
    for place in TURNS:
        for count in range(FARTHEST + 1):
            for old in {place, (place - count) % WRAP}:
                new = (old + count) % WRAP
                published = {(old + step) % WRAP for step in range(1, count + 1)}
                close = {(end + offset) % WRAP for end in (old, new) for offset in range(-3, 4)}
                events = {event: event in published for event in close.union(TURNS)}
                found.append((old, new, events))
    return found


def test_an_event_is_sent_iff_its_index_was_just_published() -> None:
    for old, new, events in publications():
        for event, expected in events.items():
            assert must_notify(old, new, event) is expected, (old, new, event)


def test_kernels_publish_by_that_rule(engine: str) -> None:
    publish = current().kernel(kernel.publish)
    memory = memoryview(bytearray(4096)).cast("I")
    page = current().view(memory)
    for old, new, events in publications():
        for event, expected in events.items():
            memory[RSP_PROD], memory[RSP_EVENT] = old, event
            assert publish(page, RSP_PROD, RSP_EVENT, new) == expected, (old, new, event)
            assert memory[RSP_PROD] == new


def test_rings_publish_by_that_rule() -> None:
    page = memoryview(bytearray(4096))
    sring = tx_ring(page, page.cast("I"))
    front, back = FrontRing(sring), BackRing(sring)
    for old, new, events in publications():
        for event, expected in events.items():
            sring.req_prod = sring.rsp_prod = old
            sring.req_event = sring.rsp_event = event
            front.req_prod_pvt = back.rsp_prod_pvt = new
            assert front.push_requests_and_check_notify() is expected, (old, new, event)
            assert back.push_responses_and_check_notify() is expected, (old, new, event)
