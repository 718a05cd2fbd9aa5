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
    """``buffers``: RX_SLOTS granted pages; ``batch``: as :func:`rx_batch` makes it. After
    :meth:`take_responses`, ``batch`` holds the frames that came and ``res`` (places guest_rx.R_*)
    tells what happened.
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
        view = engine.view
        words, grants = (view(ring.sring.u32), view(ring.pvt)), buffers.for_kernels(engine)
        grefs, pages = view(buffers.grefs), view(shared(buffers.pages.u8, "rx buffers"))
        self._put_requests = engine.kernel(guest_rx.put_requests)
        self._put_args = (words, grefs, grants)
        self._take_responses = engine.kernel(guest_rx.take_responses)
        self._take_args = (
            *(words, (pages, grefs, view(terms.zeros)), grants),
            batch.for_kernels(view),
            (terms.gso_prefix_types, int(terms.checksum_setup)),
            view(array("q", bytes(8 * guest_rx.EXTRAS))),
            *(view(array("q", bytes(8 * guest_rx.STATES))), view(self.res)),
        )

    def put_requests(self) -> tuple[int, int]:
        """Post every free buffer: how many that was, and whether they have to be announced."""
        before = self._ring.req_prod_pvt
        notify = self._put_requests(*self._put_args)
        return self._ring.req_prod_pvt - before, notify

    def take_responses(self, max_packets: int) -> int:
        """Take at most ``max_packets`` packets, post their buffers again; the verdict."""
        batch, res, log = self.batch, self.res, self._log
        wanted = log.interest.any
        limit = min(max_packets, batch.max_frames)
        arg = log.arg() if wanted else log.silent
        verdict = self._take_responses(limit, arg, *self._take_args)
        if wanted:
            log.emit()
        batch.count = res[guest_rx.R_PACKETS]
        batch.used = res[guest_rx.R_BYTES]
        return verdict
