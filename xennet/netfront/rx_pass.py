"""A pass over the guest-receive ring: its memory and its kernels."""

from __future__ import annotations

from array import array

from xennet.abi.words import RX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import current, shared
from xennet.frames import FrameBatch, lazy_bytes
from xennet.interface import Hypervisor
from xennet.netfront import guest_rx
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.negotiated import Negotiated
from xennet.ring import FrontRing
from xennet.vif.passlog import PassLog

#: Bytes of frames that one pass can receive: a ring full of full pages and one chain.
BATCH_BYTES = RX_SLOTS * PAGE_SIZE + guest_rx.MAX_CHAIN_BYTES


def rx_batch() -> FrameBatch:
    """Room for the frames of one pass. The passes of several queues may share it: each is done with
    its frames before the next begins."""
    return FrameBatch(lazy_bytes(BATCH_BYTES), RX_SLOTS)


class RxPass:
    """``buffers``: RX_SLOTS granted pages. After :meth:`run`, ``batch`` holds the frames that came
    and ``res`` (places guest_rx.R_*) tells what happened.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: FrontRing,
        terms: Negotiated,
        buffers: GrantedPages,
        batch: FrameBatch,
    ) -> None:
        self.batch = batch
        self.res = array("q", bytes(8 * guest_rx.RESULTS))
        self._ring = ring

        engine = current()
        self._log = PassLog(hv, engine)
        grants, view = hv.grants, engine.view
        page, pvt = view(ring.sring.u32), view(ring.pvt)
        words = view(shared(grants.words, "grant table"))
        status = view(shared(grants.status, "grant table"))
        grefs, pages = view(buffers.grefs), view(shared(buffers.pages.u8, "rx buffers"))
        self._post = engine.kernel(guest_rx.post)
        self._post_args = (page, pvt, terms.otherend_id, grefs, words, grants.shift)
        self._receive = engine.kernel(guest_rx.receive)
        self._receive_args = (
            *(page, pvt, terms.otherend_id, pages, grefs, words, grants.shift),
            *(status, grants.status_shift, view(batch.data), BATCH_BYTES),
            *map(view, (*batch.columns, *batch.hash_columns)),
            view(batch.data.cast("I")),
            *(terms.gso_prefix_types, int(terms.checksum_setup), view(terms.zeros)),
            *(view(array("q", bytes(8 * guest_rx.STATES))), view(self.res)),
        )

    def post(self) -> tuple[int, int]:
        """Post every free buffer: how many that was, and whether they have to be announced."""
        before = self._ring.req_prod_pvt
        notify = self._post(*self._post_args)
        return self._ring.req_prod_pvt - before, notify

    def run(self, max_packets: int) -> int:
        """Take at most ``max_packets`` packets, post their buffers again; the verdict."""
        batch, res = self.batch, self.res
        limit = min(max_packets, batch.max_frames)
        verdict = self._receive(limit, self._log.arg(), *self._receive_args)
        self._log.emit()
        batch.count = res[guest_rx.R_PACKETS]
        batch.used = res[guest_rx.R_BYTES]
        return verdict
