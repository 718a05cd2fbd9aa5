"""What the targets of netfront's rings have in common: a guest, its ring and its buffers."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TypeAlias

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import DOMID_SELF
from xennet.engine.choice import current
from xennet.engine.kernel import Bytes, U32Words, Vector
from xennet.fuzz.compiled_loop import HALVES_PER_PAGE
from xennet.fuzz.payload import fill_pages
from xennet.fuzz.record_target import KernelTarget
from xennet.fuzz.ring_mutations import NR_POKES, TX_RESPONSES
from xennet.hypervisor import Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.netback.poll_page import GUEST, HOST
from xennet.netfront.buffers import Shares
from xennet.ring import FrontRing, SharedRing, rx_ring, tx_ring
from xennet.vif.ring_events import silent_log
from xennet.xenstored.service import XenStoreService

_FRAMES = 2048

# What an execution was like: the verdict, then three numbers in classes.
VERDICTS = 8
CLASSES = 10
_STATES = VERDICTS + 3 * CLASSES

#: What is found of either ring.
FOUND = (
    "",
    "verdict: a pass ended with a number that is none",
    "responses: more were taken than requests were made",
    "leak: a page is still granted whose request was answered, or not granted whose request waits",
)
BAD_VERDICT, BAD_RESPONSES, BAD_GRANT = 1, 2, 3

#: Ring page as bytes; the machine's memory in half words, where in it grant table and buffers
#: begin; what pokes changed; first counter of a state.
World: TypeAlias = "tuple[Bytes, U32Words, int, int, Vector, int]"


def grants_poked(undo: Vector) -> int:
    """A kernel: whether the input has changed anything but the ring page: then a grant entry may be
    what it says."""
    poked = 0
    for number in range(NR_POKES):
        poked |= undo[2 * number] >= 0
    return poked


class FrontendTarget(KernelTarget):
    """A guest with one ring and its buffers, and nobody at the other end but the input.

    ``root``: the loop's kernel.
    """

    def __init__(self, root: Callable[..., int]) -> None:
        super().__init__(root, _STATES)
        self._machine = machine = Machine(_FRAMES)
        machine.create_domain(HOST)
        guest = machine.create_domain(GUEST)
        self.hv = GuestKernel(guest, XenStoreService(machine).connect(guest, "netfront"))
        shares = Shares(self.hv, HOST)
        page = shares.page().pages
        self.ring = FrontRing.init(self._ring(page.u8, page.u32))
        self.buffers = shares.buffers(TX_SLOTS, readonly=self.kind == TX_RESPONSES)
        fill_pages(self.buffers.pages.u8)
        table = guest.setup_table(DOMID_SELF, 1)[1][0]
        view = current().view
        self.places = (
            view(page.u8),
            view(machine.memory.u16),
            table * HALVES_PER_PAGE,
            self.buffers.pages.first * HALVES_PER_PAGE,
            view(array("q", bytes(16 * NR_POKES))),
            self.states,
        )
        self.log = view(silent_log())

    def _ring(self, u8: memoryview, u32: memoryview) -> SharedRing:
        make = tx_ring if self.kind == TX_RESPONSES else rx_ring
        return make(u8, u32)

    def close(self) -> None:
        self.world = ()
        del self.places
        self._machine.close()
