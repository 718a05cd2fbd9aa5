"""A pass over the guest-receive ring: its memory, its kernels, the grant copy between them."""

from __future__ import annotations

from array import array

from xennet.abi.words import COPY_STRIDE, REQ_PROD, RX_SLOTS, RX_STRIDE
from xennet.engine.choice import current
from xennet.frames import FrameBatch, Outbox
from xennet.netback import guest_rx
from xennet.netback.pass_setup import PassSetup
from xennet.netback.vif_config import C_MCAST_FILTER
from xennet.observe import FrameFiltered
from xennet.vif.passlog import PassLog


class RxPass(Outbox):
    """Runs the kernels of one guest-receive ring.

    ``batch``: the packets, in the staging pages. ``res`` (indices guest_rx.R_*) has the counters of
    the last pass; ``filtered`` are the packets, with their time stamps, that multicast control
    dropped, as long as FrameFiltered is observed.
    """

    def __init__(self, setup: PassSetup) -> None:
        hv, ring, features, stage = setup.hv, setup.ring, setup.features, setup.stage
        self._hv = hv
        self.config = setup.config
        self._ring = ring
        super().__init__(FrameBatch(stage.u8, RX_SLOTS))
        self._filtered = 0
        self.filtered: list[tuple[bytes, int]] = []
        self.res = array("q", bytes(8 * guest_rx.RESULTS))
        self._ops = memoryview(bytearray(4 * COPY_STRIDE * guest_rx.MAX_OPS)).cast("I")

        engine = current()
        self._log = PassLog(hv, engine)
        view = engine.view
        rings = (view(ring.sring.u32), view(ring.pvt))
        gso = features.gso_types, features.gso_prefix_types
        frontend = (setup.otherend_id, int(features.can_sg), *gso)
        ops = view(self._ops)
        sizes = (RX_STRIDE * RX_SLOTS, RX_SLOTS, RX_SLOTS, RX_SLOTS)
        slots = tuple(view(array("I", bytes(4 * size))) for size in sizes)
        vif_config, res = view(self.config), view(self.res)
        frames = self.batch.for_kernels(view)
        self._take_requests = engine.kernel(guest_rx.take_requests)
        self._take_args = (rings, frontend, vif_config, stage.first, frames, slots, ops, res)
        self._filter = engine.kernel(guest_rx.filter_multicast)
        self._filter_args = (frames, vif_config)
        self._put_responses = engine.kernel(guest_rx.put_responses)
        self._put_args = (rings, slots, ops, res)
        self._rings = rings
        self._await_requests = engine.kernel(guest_rx.await_requests)

    def __repr__(self) -> str:
        return f"<RxPass {self.batch.count} frames in hand>"

    def run(self) -> int:
        """Send as many packets as posted buffers allow. Returns the verdict.

        Responses are published; ``res[R_NOTIFY]`` tells whether they have to be announced. If
        packets are left, the caller has to call :meth:`await_requests` before it sleeps;
        ``res[R_NEEDED]`` is the number of buffers that the first of them needs.
        """
        res = self.res
        res[guest_rx.R_FILTERED] = self._drop_filtered() if self.config[C_MCAST_FILTER] else 0
        self._seen = self._ring.sring.u32[REQ_PROD]
        wanted = self._log.interest.any
        log = self._log.arg() if wanted else self._log.silent
        verdict = self._take_requests(self.next, self.batch.count, log, *self._take_args)
        self.next += res[guest_rx.R_PACKETS]
        if res[guest_rx.R_SLOTS]:
            self._hv.grant_copy(self._ops, res[guest_rx.R_OPS])
            self._put_responses(log, *self._put_args)
            if wanted:
                self._log.emit()
        return verdict

    def _forget(self) -> None:
        super()._forget()
        self._filtered = 0

    def _drop_filtered(self) -> int:
        """Remove multicast packets for unlisted addresses from the batch. Returns their number."""
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
            if batch.count < before and self._hv.interest(FrameFiltered).any:
                kept = set(batch.offset[first : batch.count])
                self.filtered += (
                    (bytes(batch.data[at : at + length]), timestamp)
                    for at, length, timestamp in zip(*given, strict=True)
                    if at not in kept
                )
        return before - batch.count

    def await_requests(self) -> bool:
        """Ask for an event when buffers are posted. Returns True if some were posted since
        :meth:`run`."""
        return self._await_requests(self._rings, self._seen) != 0
