"""A pass over the guest-transmit ring: its memory, its kernels, the grant copy between them."""

from __future__ import annotations

from array import array

from xennet.abi.words import COPY_STRIDE, TX_SLOTS
from xennet.engine.choice import current
from xennet.frames import CSUM_BLANK, FrameBatch
from xennet.interface import Hypervisor, PageRun
from xennet.netback import guest_tx, tx_checksum
from xennet.netback.vif_words import new_vif_words
from xennet.ring import BackRing
from xennet.vif.passlog import PassLog


class TxPass:
    """``stage``: TX_SLOTS pages of our own in which packets are put together. ``words``: what the
    vif's queues share (xennet.netback.vif_words).

    After :meth:`run`, ``batch`` holds the packets and ``res`` (places guest_tx.R_*) what happened.
    ``gather_args``, ``settle_args``, ``judge_args`` and ``rearm_args`` are what kernels take
    besides what changes from pass to pass, and ``ops`` is the copy table, for those who run them
    themselves.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: BackRing,
        otherend_id: int,
        stage: PageRun,
        words: array[int] | None = None,
    ) -> None:
        self._hv = hv
        self.words = new_vif_words() if words is None else words
        self.batch = FrameBatch(stage.u8, TX_SLOTS)
        self.res = array("q", bytes(8 * guest_tx.RESULTS))
        self.credit = guest_tx.UNLIMITED
        self.ops = memoryview(bytearray(4 * COPY_STRIDE * guest_tx.MAX_OPS)).cast("I")

        engine = current()
        self.log = PassLog(hv, engine)
        view = engine.view
        page, pvt = view(ring.sring.u32), view(ring.pvt)
        ops, res = view(self.ops), view(self.res)
        op_slot, op_packet = (view(_words(guest_tx.MAX_OPS)) for _ in range(2))
        begins, rsp, grefs, spans = (view(_words(TX_SLOTS)) for _ in range(4))
        columns = tuple(map(view, self.batch.columns + self.batch.hash_columns))
        self._gather = engine.kernel(guest_tx.gather)
        self.gather_args = (
            *(page, pvt, otherend_id, ops, op_slot, op_packet, begins),
            *(stage.first, rsp, grefs, spans, view(self.words), *columns, res),
        )
        self._settle = engine.kernel(guest_tx.settle)
        self.settle_args = (page, pvt, ops, op_slot, op_packet, begins, rsp, *columns, res)
        self._judge = engine.kernel(tx_checksum.judge_checksums)
        self.judge_args = (view(stage.u8), view(stage.u32), begins, *columns, res)
        self._rearm = engine.kernel(guest_tx.rearm)
        self.rearm_args = (page, pvt)

    @property
    def credit(self) -> int:
        """Bytes that may still be taken; each packet costs what its first request says."""
        return self.res[guest_tx.R_CREDIT]

    @credit.setter
    def credit(self, value: int) -> None:
        self.res[guest_tx.R_CREDIT] = value

    def run(self, max_packets: int) -> int:
        """Take at most ``max_packets`` packets off the ring and answer them; the verdict.

        Responses are published; ``res[R_FLAG]`` says whether they have to be announced, and
        ``res[R_LIMITED]`` whether ``credit`` did not suffice for the next request: its size, or 0.
        """
        res, batch = self.res, self.batch
        log = self.log.arg()
        verdict = self._gather(min(max_packets, batch.max_frames), log, *self.gather_args)
        batch.clear()
        if res[guest_tx.R_SLOTS]:
            if res[guest_tx.R_OPS]:
                self._hv.grant_copy(self.ops, res[guest_tx.R_OPS])
            batch.count = self._settle(log, *self.settle_args)
            if res[guest_tx.R_FLAGS_SEEN] & CSUM_BLANK:
                batch.count = self._judge(log, *self.judge_args)
            batch.used = res[guest_tx.R_BYTES]
            self.log.emit()
        return verdict

    def rearm(self) -> bool:
        """Ask for an event; True if requests are there already."""
        return self._rearm(*self.rearm_args) != 0


def _words(count: int) -> array[int]:
    return array("I", bytes(4 * count))
