"""A pass over the guest-receive ring: its memory, its kernels, the grant copy between them."""

from __future__ import annotations

from array import array

from xennet.abi.words import COPY_STRIDE, REQ_PROD, RX_SLOTS, RX_STRIDE
from xennet.engine.choice import current
from xennet.frames import FrameBatch, Outbox
from xennet.interface import Hypervisor, PageRun
from xennet.netback import guest_rx
from xennet.netback.vif_words import W_MCAST_FILTER, new_vif_words
from xennet.observe import FrameFiltered
from xennet.ring import BackRing
from xennet.vif.passlog import PassLog


class RxPass(Outbox):
    """``stage``: pages of our own that hold the packets to be sent, in ``batch``.

    ``can_sg``: the frontend takes packets of several slots; bit t of ``gso_types`` is set if it
    takes GSO type t, of ``gso_prefix_types`` if it does so in the old way, by a prefix. ``words``:
    what the vif's queues share (xennet.netback.vif_words).

    ``res`` (places guest_rx.R_*) is what happened in the last pass; ``filtered`` the packets, with
    their time stamps, that multicast control dropped, as long as FrameFiltered is observed.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: BackRing,
        otherend_id: int,
        *,
        can_sg: bool,
        gso_types: int,
        gso_prefix_types: int = 0,
        stage: PageRun,
        words: array[int] | None = None,
    ) -> None:
        self._hv = hv
        self.words = new_vif_words() if words is None else words
        self._ring = ring
        super().__init__(FrameBatch(stage.u8, RX_SLOTS))
        self._filtered = 0
        self.filtered: list[tuple[bytes, int]] = []
        self.res = array("q", bytes(8 * guest_rx.RESULTS))
        self._ops = memoryview(bytearray(4 * COPY_STRIDE * guest_rx.MAX_OPS)).cast("I")

        engine = current()
        self._log = PassLog(hv, engine)
        view = engine.view
        self._page = page = view(ring.sring.u32)
        pvt, ops, res = view(ring.pvt), view(self._ops), view(self.res)
        words = view(self.words)
        op_slot = view(array("I", bytes(4 * guest_rx.MAX_OPS)))
        rsp = view(array("I", bytes(4 * RX_STRIDE * RX_SLOTS)))
        columns = tuple(map(view, self.batch.columns + self.batch.hash_columns))
        self._fill = engine.kernel(guest_rx.fill)
        self._fill_args = (
            *(page, pvt, otherend_id, int(can_sg), gso_types, gso_prefix_types, stage.first),
            *(words, *columns, ops, op_slot, rsp, res),
        )
        self._filter = engine.kernel(guest_rx.filter_multicast)
        self._filter_args = (view(stage.u8), words, *columns)
        self._deliver = engine.kernel(guest_rx.deliver)
        self._deliver_args = (page, pvt, ops, op_slot, rsp, res)
        self._await_requests = engine.kernel(guest_rx.await_requests)

    def run(self) -> int:
        """Send as many packets as posted buffers allow; the verdict.

        Responses are published; ``res[R_FLAG]`` says whether they have to be announced. When
        packets are left, :meth:`await_requests` has to be asked before sleeping; ``res[R_NEEDED]``
        is how many buffers the first of them needs.
        """
        res = self.res
        res[guest_rx.R_FILTERED] = self._drop_filtered() if self.words[W_MCAST_FILTER] else 0
        self._seen = self._ring.sring.u32[REQ_PROD]
        log = self._log.arg()
        verdict = self._fill(self.next, self.batch.count, log, *self._fill_args)
        self.next += res[guest_rx.R_PACKETS]
        if res[guest_rx.R_SLOTS]:
            self._hv.grant_copy(self._ops, res[guest_rx.R_OPS])
            self._deliver(log, *self._deliver_args)
            self._log.emit()
        return verdict

    def _forget(self) -> None:
        super()._forget()
        self._filtered = 0

    def _drop_filtered(self) -> int:
        """Take multicast packets that nobody asked for out of the batch; how many they were."""
        batch = self.batch
        before = batch.count
        self.filtered.clear()
        if before > self._filtered:
            # Packets that stay are judged once, as when they are given to the driver.
            first = max(self.next, self._filtered)
            columns = (batch.offset, batch.length, batch.timestamp)
            given = tuple(column[first:before] for column in columns)
            batch.count = self._filter(first, before, *self._filter_args)
            self._filtered = batch.count
            if batch.count < before and self._hv.observes(FrameFiltered):
                kept = set(batch.offset[first : batch.count])
                self.filtered += (
                    (bytes(batch.data[at : at + length]), timestamp)
                    for at, length, timestamp in zip(*given, strict=True)
                    if at not in kept
                )
        return before - batch.count

    def await_requests(self) -> bool:
        """Ask for an event when buffers are posted; True if some have been since :meth:`run`."""
        return self._await_requests(self._page, self._seen) != 0
