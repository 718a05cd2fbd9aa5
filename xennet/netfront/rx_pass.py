"""A pass over the guest-receive ring: the kernels and the memory they work on."""

from __future__ import annotations

from array import array

from xennet.abi.words import RING_SLOTS, RX_END, RX_SLOTS, RX_STRIDE, RXREQ_W_gref
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import current, is_compiled, shared
from xennet.frames import FrameBatch, lazy_bytes
from xennet.granter import consecutive, in_a_row, words_of
from xennet.interface import Hypervisor
from xennet.netfront import guest_rx
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.negotiated import Negotiated
from xennet.ring import FRONT_REQ_PROD_PVT, FrontRing
from xennet.vif.passlog import PassLog

#: Bytes of frames that one pass can receive: a ring full of full pages and one chain.
BATCH_BYTES = RX_SLOTS * PAGE_SIZE + guest_rx.MAX_CHAIN_BYTES


def rx_batch() -> FrameBatch:
    """A batch with room for the frames of one pass. The passes of several queues may share it, as
    each is done with its frames before the next begins."""
    return FrameBatch(lazy_bytes(BATCH_BYTES), RX_SLOTS)


class RxPass:
    """Runs the kernels of the guest-receive ring. ``buffers`` are RX_SLOTS granted pages, ``batch``
    is made by :func:`rx_batch`. After :meth:`take_responses`, ``batch`` holds the frames that came,
    and ``res`` (indices guest_rx.R_*) the counters and the evidence. ``take_args`` are the
    arguments of the kernel that stay the same, for those who call it themselves."""

    def __init__(
        self,
        hv: Hypervisor,
        ring: FrontRing,
        negotiated: Negotiated,
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
        grefs, pages = (
            view(buffers.grefs),
            view(shared(buffers.pages.u8, "rx buffers", ring.sring.whose)),
        )
        self._put_requests = engine.kernel(guest_rx.put_requests)
        self._put_args = (words, grefs, grants)
        *_, one_thread = grants
        # The entries of all pages, where plain code may write them at once.
        self._row = None if is_compiled(engine) or not one_thread else in_a_row(buffers.grefs)
        self._take_responses = engine.kernel(guest_rx.take_responses)
        own = (pages, grefs, view(negotiated.zeros))
        backend = negotiated.gso_prefix_types, int(negotiated.checksum_setup)
        extras = view(array("q", bytes(8 * guest_rx.EXTRAS)))
        self._state = array("q", bytes(8 * guest_rx.STATES))
        state, res = view(self._state), view(self.res)
        frames = batch.for_kernels(view)
        self.take_args = (words, own, grants, frames, backend, extras, state, res)

    def __repr__(self) -> str:
        return f"<RxPass {self.kept} slots of a packet kept>"

    @property
    def kept(self) -> int:
        """How many buffers stay free when others are posted."""
        return self._state[guest_rx.S_KEPT]

    @kept.setter
    def kept(self, slots: int) -> None:
        self._state[guest_rx.S_KEPT] = slots

    def put_requests(self) -> tuple[int, int]:
        """Post every free buffer but ``kept``. Returns the number posted, and 1 if the backend has
        to be notified."""
        ring = self._ring
        before = ring.req_prod_pvt
        if self._row is not None and before == ring.rsp_cons == self.kept == 0:
            self._put_all(self._row)
        notify = self._put_requests(self.kept, *self._put_args)
        return ring.req_prod_pvt - before, notify

    def _put_all(self, row: range) -> None:
        """Grant and request the slots of a fresh ring as the kernel does one by one, which is left
        to publish them."""
        (page, pvt), grefs, (words, shift, _, _, access, _) = self._put_args
        words[words_of(row, shift)] = array("I", (access,)) * RX_SLOTS
        requests = array("I", bytes(4 * RX_STRIDE * RX_SLOTS))
        requests[::RX_STRIDE] = consecutive(range(RX_SLOTS))
        requests[RXREQ_W_gref::RX_STRIDE] = grefs
        page[RING_SLOTS:RX_END] = requests
        pvt[FRONT_REQ_PROD_PVT] = RX_SLOTS

    def take_responses(self, max_packets: int) -> int:
        """Take at most ``max_packets`` packets and post their buffers again. Returns the
        verdict."""
        batch, res, log = self.batch, self.res, self._log
        wanted = log.interest.any
        limit = min(max_packets, batch.max_frames)
        arg = log.arg() if wanted else log.silent
        verdict = self._take_responses(limit, arg, *self.take_args)
        if wanted:
            log.emit()
        batch.count = res[guest_rx.R_PACKETS]
        batch.used = res[guest_rx.R_BYTES]
        return verdict
