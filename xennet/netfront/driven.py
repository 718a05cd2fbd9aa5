"""The rings of a queue for somebody who drives them past the guest's endpoint, as netmap does.

Frames are sent from, and taken into, memory of theirs; who has sent a frame is told by its tag when
the backend has answered. The guest keeps its endpoint: what it gives is sent on the same ring.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.engine.choice import current
from xennet.frames import FrameBatch
from xennet.interface import Stoppable
from xennet.netfront.queue import Queue
from xennet.netfront.tags import NO_TAG, answer_tags, tag_requests
from xennet.netfront.verdict import BackendError
from xennet.ring import MASK32


class _Tags:
    """The tags of requests. ``ids``: the stack of free ids; ``unanswered``: by tag, how many
    requests wait for their response."""

    def __init__(self, ids: array[int], unanswered: array[int]) -> None:
        engine = current()
        self._view = view = engine.view
        self._tag_requests = engine.kernel(tag_requests)
        self._answer_tags = engine.kernel(answer_tags)
        self._args = view(ids), view(array("I", [NO_TAG]) * TX_SLOTS), view(unanswered)

    def sent(self, batch: FrameBatch, count: int, tags: array[int], free: int) -> None:
        """The first ``count`` frames of a batch were sent, when ``free`` ids were free."""
        _, _, _, length, *_ = batch.for_kernels(self._view)
        self._tag_requests(count, free, self._view(tags), length, *self._args)

    def answered(self, before: int, free: int) -> int:
        """Responses came, by which ``free`` ids are free instead of ``before``. Returns how many of
        them had a tag."""
        return self._answer_tags(before, free, *self._args)


class DrivenRings:
    """The rings of ``queue`` (xennet.frames.RingPair)."""

    slots = TX_SLOTS

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._domain = queue.hv if isinstance(queue.hv, Stoppable) else None
        self._tags: _Tags | None = None
        self._answered = 0
        self._tx_event: Callable[[bool], None] | None = None
        self._rx_event: Callable[[], None] | None = None

    @property
    def longest(self) -> int:
        queue = self._queue
        return queue.longest if self._live and queue.link_up else 0

    @property
    def waiting(self) -> int:
        return self._queue.waiting if self._live else 0

    @property
    def _live(self) -> bool:
        """Whether frames pass. A domain that was stopped or destroyed is not told so."""
        return self._queue.running and (self._domain is None or self._domain.running)

    # --- whose they are ---------------------------------------------------------------------------

    def drive_tx(self, unanswered: array[int] | None, event: Callable[[bool], None] | None) -> None:
        self._answered = 0
        self._tx_event = event
        self._tags = None if unanswered is None else _Tags(self._queue.tx.ids, unanswered)
        self._hook()

    def drive_rx(self, event: Callable[[], None] | None) -> None:
        if event is None and self._rx_event is not None and self._live:
            self.post(0)  # what is on the ring is for the guest
        self._rx_event = event
        self._hook()

    def _hook(self) -> None:
        driven = self._tags is not None or self._rx_event is not None
        self._queue.driven = self if driven else None
        if self._live:
            self._queue.kick()

    # --- frames -----------------------------------------------------------------------------------

    def send(self, batch: FrameBatch, tags: array[int]) -> int:
        queue = self._queue
        if self._tags is None or not self.longest or not queue.flush():
            return 0
        free = queue.tx.free
        taken = queue.send_others(batch)
        if taken:
            self._tags.sent(batch, taken, tags, free)
        return taken

    def collect(self) -> None:
        queue = self._queue
        if self._live:
            try:
                queue.collect()
            except BackendError as error:
                queue.broken(error)

    def receive(self, frames: int) -> FrameBatch:
        queue = self._queue
        try:
            return queue.receive(frames)
        except BackendError as error:
            queue.broken(error)
            queue.rx.batch.clear()
            return queue.rx.batch

    def post(self, kept: int) -> None:
        queue = self._queue
        posted = (queue.rx_ring.req_prod_pvt - queue.rx_ring.rsp_cons) & MASK32
        if self._live:
            queue.rx.kept = kept
            if posted + kept < RX_SLOTS:
                queue.post_buffers()

    # --- what the queue tells ---------------------------------------------------------------------

    def answered(self, free: int) -> None:
        """Responses were taken; ``free`` ids were free before."""
        if self._tags is not None:
            self._answered += self._tags.answered(free, self._queue.tx.free)

    def arrived(self) -> bool:
        """Responses are on the receive ring. Returns whether they are the driver's business."""
        if self._rx_event is None:
            return False
        self._rx_event()
        return True

    def looked(self) -> None:
        """The queue has looked at its rings, and the guest's endpoint."""
        if self._tx_event is not None:
            answered, self._answered = self._answered, 0
            self._tx_event(answered > 0)
