"""A pass over the guest-receive ring: its memory, its kernels, the grant copy between them."""

from __future__ import annotations

from array import array

from xennet.abi.words import COPY_STRIDE, REQ_PROD, RX_SLOTS
from xennet.engine import current
from xennet.frames import FrameBatch
from xennet.interface import Hypervisor, PageRun
from xennet.netback import guest_rx
from xennet.passlog import PassLog
from xennet.ring import BackRing


class RxPass:
    """``stage``: pages of our own that hold the packets to be sent, in ``batch``.

    ``next`` is the first packet of the batch that has not been sent. ``res`` (places guest_rx.R_*)
    is what happened in the last pass.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: BackRing,
        otherend_id: int,
        *,
        can_sg: bool,
        gso_types: int,
        stage: PageRun,
    ) -> None:
        self._hv = hv
        self._ring = ring
        self.batch = FrameBatch(stage.u8, RX_SLOTS)
        self.next = 0
        self.res = array("q", bytes(8 * guest_rx.RESULTS))
        self._ops = memoryview(bytearray(4 * COPY_STRIDE * guest_rx.MAX_OPS)).cast("I")

        engine = current()
        self._log = PassLog(hv, engine)
        view = engine.view
        self._page = page = view(ring.sring.u32)
        pvt, ops, res = view(ring.pvt), view(self._ops), view(self.res)
        op_slot = view(array("I", bytes(4 * guest_rx.MAX_OPS)))
        rsp0, rsp1 = (view(array("I", bytes(4 * RX_SLOTS))) for _ in range(2))
        columns = tuple(map(view, self.batch.columns))
        self._fill = engine.kernel(guest_rx.fill)
        self._fill_args = (
            *(page, pvt, otherend_id, int(can_sg), gso_types, stage.first),
            *(*columns, ops, op_slot, rsp0, rsp1, res),
        )
        self._deliver = engine.kernel(guest_rx.deliver)
        self._deliver_args = (page, pvt, ops, op_slot, rsp0, rsp1, res)
        self._await_requests = engine.kernel(guest_rx.await_requests)

    @property
    def empty(self) -> bool:
        """Whether every packet of the batch has been sent."""
        return self.next == self.batch.count

    def refill(self) -> FrameBatch:
        """The batch, emptied, for new packets."""
        self.batch.clear()
        self.next = 0
        return self.batch

    def run(self) -> int:
        """Send as many packets as posted buffers allow; the verdict.

        Responses are published; ``res[R_FLAG]`` says whether they have to be announced. When
        packets are left, :meth:`await_requests` has to be asked before sleeping.
        """
        res = self.res
        self._seen = self._ring.sring.u32[REQ_PROD]
        log = self._log.arg()
        verdict = self._fill(self.next, self.batch.count, log, *self._fill_args)
        self.next += res[guest_rx.R_PACKETS]
        if res[guest_rx.R_SLOTS]:
            self._hv.grant_copy(self._ops, res[guest_rx.R_OPS])
            self._deliver(log, *self._deliver_args)
            self._log.emit()
        return verdict

    def await_requests(self) -> bool:
        """Ask for an event when buffers are posted; True if some have been since :meth:`run`."""
        return self._await_requests(self._page, self._seen) != 0
