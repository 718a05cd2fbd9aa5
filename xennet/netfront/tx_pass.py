"""A pass over the guest-transmit ring: its memory and its kernels."""

from __future__ import annotations

from array import array

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import current, shared
from xennet.frames import FrameBatch, Outbox, lazy_bytes
from xennet.interface import Hypervisor
from xennet.netfront import guest_tx
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.negotiated import Negotiated
from xennet.ring import FrontRing
from xennet.vif.passlog import PassLog

#: Bytes of frames that wait to be sent: eight of the longest.
BATCH_BYTES = 128 * PAGE_SIZE


class TxPass(Outbox):
    """``buffers``: TX_SLOTS granted pages. ``res`` (places guest_tx.R_*) tells of the last call.
    ``transmit_args`` and ``reap_args`` are what the kernels take besides what changes from pass to
    pass, for those who run kernels themselves.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: FrontRing,
        terms: Negotiated,
        buffers: GrantedPages,
    ) -> None:
        super().__init__(FrameBatch(lazy_bytes(BATCH_BYTES), TX_SLOTS))
        self.res = array("q", bytes(8 * guest_tx.RESULTS))

        engine = current()
        self.log = PassLog(hv, engine)
        grants, view = hv.grants, engine.view
        page, pvt, res = view(ring.sring.u32), view(ring.pvt), view(self.res)
        words = view(shared(grants.words, "grant table"))
        status = view(shared(grants.status, "grant table"))
        grefs, pages = view(buffers.grefs), view(shared(buffers.pages.u8, "tx buffers"))
        columns = map(view, (*self.batch.columns, *self.batch.hash_columns))
        self._pending = array("I", bytes(4 * TX_SLOTS))
        self._outcomes = array("I", bytes(4 * TX_SLOTS))
        ids, pending = view(array("I", range(TX_SLOTS))), view(self._pending)
        outcomes = view(self._outcomes)
        self._state = array("q", (TX_SLOTS, 0))
        state = view(self._state)
        self._transmit = engine.kernel(guest_tx.transmit)
        self.transmit_args = (
            *(page, pvt, terms.otherend_id, int(terms.can_sg), terms.gso_types),
            *(pages, view(self.batch.data), *columns, int(terms.hashes)),
            *(ids, grefs, pending, words, grants.shift, state, res),
        )
        self._reap = engine.kernel(guest_tx.reap)
        self.reap_args = (
            *(page, pvt, ids, grefs, pending, words, grants.shift),
            *(status, grants.status_shift, outcomes, pages, view(terms.zeros)),
            *(state, res),
        )
        self._amend = engine.kernel(guest_tx.amend)
        self._amend_args = (page, pvt, ids, pending, outcomes, state, res)

    @property
    def full(self) -> bool:
        """Whether every request waits for its response, which will wake us."""
        return not self._state[guest_tx.S_FREE]

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

    def amend(self, kind: int, mac: bytes) -> int | None:
        """Ask for a change of the multicast list; the request's id, None if the ring is full.

        ``res[R_FLAG]`` says whether the request has to be announced.
        """
        ident = self._amend(kind, int.from_bytes(mac, "big"), *self._amend_args)
        return None if ident < 0 else ident

    def outcome(self, ident: int) -> int | None:
        """The status that answered request ``ident``, NETIF_RSP_*; None if there is none yet."""
        if self._pending[ident]:
            return None
        status = self._outcomes[ident]
        return status - 0x10000 if status & 0x8000 else status
