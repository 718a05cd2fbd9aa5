"""A pass over the guest-transmit ring: the kernels and the memory they work on."""

from __future__ import annotations

from array import array
from typing import Any

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import current, shared
from xennet.flow.steering import QueueEnd
from xennet.frames import Endpoint, FrameBatch, Outbox, lazy_bytes
from xennet.granter import consecutive
from xennet.interface import Hypervisor
from xennet.netfront import guest_tx
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.negotiated import Negotiated
from xennet.ring import FrontRing
from xennet.vif.passlog import PassLog

#: Bytes of the batch of frames to be sent: eight of the longest.
BATCH_BYTES = 128 * PAGE_SIZE


class TxPass(Outbox):
    """Runs the kernels of the guest-transmit ring. ``buffers`` are TX_SLOTS granted pages; ``res``
    (indices guest_tx.R_*) holds the counters and the evidence of the last calls. ``put_args`` and
    ``take_args`` are the arguments of the kernels that stay the same, for who runs those of
    ``engine`` himself."""

    def __init__(
        self,
        hv: Hypervisor,
        ring: FrontRing,
        negotiated: Negotiated,
        buffers: GrantedPages,
    ) -> None:
        super().__init__(FrameBatch(lazy_bytes(BATCH_BYTES), TX_SLOTS))
        self._own_data = self.batch.data
        self._borrowed_args: tuple[Any, ...] = ()
        self.res = array("q", bytes(8 * guest_tx.RESULTS))

        self.engine = engine = current()
        self.log = PassLog(hv, engine)
        view = engine.view
        words, grants = (view(ring.sring.u32), view(ring.pvt)), buffers.for_kernels(engine)
        grefs, pages = (
            view(buffers.grefs),
            view(shared(buffers.pages.u8, "tx buffers", ring.sring.whose)),
        )
        self.ids = consecutive(range(TX_SLOTS))[:]
        self._pending = array("I", bytes(4 * TX_SLOTS))
        self._outcomes = array("I", bytes(4 * TX_SLOTS))
        self._state = array("q", (TX_SLOTS, 0))
        requests = tuple(map(view, (self.ids, self._pending, self._outcomes)))
        own, results = (pages, grefs, view(negotiated.zeros)), (view(self._state), view(self.res))
        backend = int(negotiated.can_sg), negotiated.gso_types, int(negotiated.hashes)
        self._put_requests = engine.kernel(guest_tx.put_requests)
        frames = self.batch.for_kernels(view)
        self.put_args = (words, own, grants, frames, requests, backend, *results)
        self._take_responses = engine.kernel(guest_tx.take_responses)
        self.take_args = (words, own, grants, requests, *results)
        self._put_multicast_request = engine.kernel(guest_tx.put_multicast_request)
        self._put_multicast_args = (words, requests, *results)

    def __repr__(self) -> str:
        return f"<TxPass {self.free} slots free>"

    @property
    def free(self) -> int:
        """Number of free request ids: the first so many of ``ids``, which the next requests get
        from the last one on."""
        return self._state[guest_tx.S_FREE]

    @property
    def full(self) -> bool:
        """Whether every request waits for its response, so that an event will come."""
        return not self._state[guest_tx.S_FREE]

    def pull(self, guest: Endpoint) -> int:
        """Pull frames of ``guest`` into the batch, all of which was sent. Returns their number.

        Where the bytes of frames can stay in the middle batch of several queues they are not
        copied until they are sent, or that batch is filled again. That is for plain code, which is
        slow at copying frame by frame.
        """
        batch = self.refill()
        if not isinstance(guest, QueueEnd) or not guest.lends:
            return guest.pull(batch)
        if not self._borrowed_args:
            words, own, grants, frames, *rest = self.put_args
            middle = guest.middle.batch.for_kernels(self.engine.view)
            self._borrowed_args = (words, own, grants, (*middle[:2], *frames[2:]), *rest)
        return guest.borrow(batch, self._keep)

    def _forget(self) -> None:
        super()._forget()
        self.batch.data = self._own_data

    def _keep(self) -> None:
        """Copy the borrowed frames that are not sent yet: the middle batch is filled again."""
        batch, used = self.batch, 0
        if batch.data is self._own_data:
            return
        for i in range(self.next, batch.count):
            size = batch.length[i]
            self._own_data[used : used + size] = batch.frame(i)
            batch.offset[i] = used
            used += size
        batch.data = self._own_data

    def take_responses(self) -> int:
        """Take all responses. Returns the verdict; ``res[R_MORE]`` is 1 if more have come
        meanwhile."""
        log = self.log
        wanted = log.interest.any
        verdict = self._take_responses(log.arg() if wanted else log.silent, *self.take_args)
        if wanted:
            log.emit()
        return verdict

    def put_requests(self) -> int:
        """Send as many frames as the ring takes. Returns their number.

        The requests are published; ``res[R_NOTIFY]`` is 1 if the backend has to be notified.
        """
        args = self.put_args if self.batch.data is self._own_data else self._borrowed_args
        taken = self._put(self.next, self.batch.count, args)
        self.next += taken
        return taken

    def put_others(self, batch: FrameBatch) -> int:
        """The same with the frames of another batch than that of the guest."""
        words, own, grants, _, *rest = self.put_args
        frames = batch.for_kernels(current().view)
        return self._put(0, batch.count, (words, own, grants, frames, *rest))

    def _put(self, first: int, count: int, args: tuple[Any, ...]) -> int:
        log = self.log
        wanted = log.interest.any
        taken: int = self._put_requests(first, count, log.arg() if wanted else log.silent, *args)
        if wanted:
            log.emit()
        return taken

    def put_multicast_request(self, kind: int, mac: bytes) -> int | None:
        """Ask for a change of the multicast list. Returns the request's id, None if the ring is
        full.

        ``res[R_NOTIFY]`` is 1 if the backend has to be notified.
        """
        number = int.from_bytes(mac, "big")
        ident = self._put_multicast_request(kind, number, *self._put_multicast_args)
        return None if ident < 0 else ident

    def outcome(self, ident: int) -> int | None:
        """The status that answered request ``ident``, NETIF_RSP_*; None if there is none yet."""
        if self._pending[ident]:
            return None
        status = self._outcomes[ident]
        return status - 0x10000 if status & 0x8000 else status
