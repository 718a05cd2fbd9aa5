"""A pass over the guest-transmit ring: its memory and its kernels."""

from __future__ import annotations

from array import array

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.engine import current
from xennet.frames import FrameBatch
from xennet.interface import Hypervisor
from xennet.netfront import guest_tx
from xennet.netfront.buffers import GrantedPages
from xennet.passlog import PassLog
from xennet.ring import FrontRing

#: Bytes of frames that wait to be sent: eight of the longest.
BATCH_BYTES = 128 * PAGE_SIZE


class TxPass:
    """``buffers``: TX_SLOTS granted pages. ``batch`` holds the frames to be sent, ``next`` is the
    first of them that has not been; ``res`` (places guest_tx.R_*) tells of the last call.
    ``transmit_args`` and ``reap_args`` are what the kernels take besides what changes from pass to
    pass, for those who run kernels themselves.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: FrontRing,
        otherend_id: int,
        *,
        can_sg: bool,
        gso_types: int,
        buffers: GrantedPages,
    ) -> None:
        self.batch = FrameBatch(memoryview(bytearray(BATCH_BYTES)), TX_SLOTS)
        self.next = 0
        self.res = array("q", bytes(8 * guest_tx.RESULTS))

        engine = current()
        self.log = PassLog(hv, engine)
        grants, view = hv.grants, engine.view
        page, pvt, res = view(ring.sring.u32), view(ring.pvt), view(self.res)
        grefs, words = view(buffers.grefs), view(grants.words)
        ids, pending = view(array("I", range(TX_SLOTS))), view(array("I", bytes(4 * TX_SLOTS)))
        state = view(array("q", (TX_SLOTS, 0)))
        self._transmit = engine.kernel(guest_tx.transmit)
        self.transmit_args = (
            *(page, pvt, otherend_id, int(can_sg), gso_types),
            *(view(buffers.pages.u8), view(self.batch.data), *map(view, self.batch.columns)),
            *(ids, grefs, pending, words, grants.shift, state, res),
        )
        self._reap = engine.kernel(guest_tx.reap)
        self.reap_args = (
            *(page, pvt, ids, grefs, pending, words, grants.shift),
            *(view(grants.status), grants.status_shift, state, res),
        )

    @property
    def empty(self) -> bool:
        """Whether every frame of the batch has been sent."""
        return self.next == self.batch.count

    def refill(self) -> FrameBatch:
        """The batch, emptied, for new frames."""
        self.batch.clear()
        self.next = 0
        return self.batch

    def reap(self) -> int:
        """Take all responses; the verdict. ``res[R_FLAG]``: more have come meanwhile."""
        verdict = self._reap(self.log.arg(), *self.reap_args)
        self.log.emit()
        return verdict

    def transmit(self) -> int:
        """Send as many frames as the ring takes; how many that was.

        Requests are published; ``res[R_FLAG]`` says whether they have to be announced.
        """
        taken = self._transmit(self.next, self.batch.count, self.log.arg(), *self.transmit_args)
        self.log.emit()
        self.next += taken
        return taken
