"""Scenes with a transmit ring: a machine with domain 0, a guest, and one page of the guest."""

from __future__ import annotations

from xennet.abi.xen import PAGE_SIZE
from xennet.course.recordings import begin, is_recording
from xennet.hypervisor import Machine
from xennet.ring import MASK32, BackRing, FrontRing, tx_ring

#: Domains of a scene: whose is the backend, whose is the frontend.
BACKEND, FRONTEND = 0, 1
_FRAMES = 512


def guest_page() -> tuple[Machine | None, memoryview]:
    """A page of a guest, as bytes, and its machine. Where nothing is recorded no machine is needed:
    a page is bytes."""
    if not is_recording():
        return None, memoryview(bytearray(PAGE_SIZE))
    machine = Machine(_FRAMES)
    machine.create_domain(BACKEND)
    return machine, machine.create_domain(FRONTEND).alloc_pages(1).u8


def ends(start: int = 0, event: int | None = None) -> tuple[FrontRing, BackRing]:
    """Both ends of a transmit ring that has carried ``start`` requests, all of them answered.
    ``event`` is its req_event (None: the next request asks for an event)."""
    machine, page = guest_page()
    ring = tx_ring(page, page.cast("I"))
    front, back = FrontRing.init(ring), BackRing.init(ring)
    ring.req_prod = ring.rsp_prod = start
    front.req_prod_pvt = front.rsp_cons = start
    back.rsp_prod_pvt = back.req_cons = start
    ring.req_event = (start + 1) & MASK32 if event is None else event
    ring.rsp_event = (start + 1) & MASK32
    begin(machine)
    return front, back
