"""One endpoint for all queues of a vif becomes one endpoint for each queue.

Frames of the endpoint are pulled into a middle batch, from which each queue takes its own; it is
refilled when all were taken. So memory is bounded, nothing is dropped, and each queue gets its
frames in the order of the endpoint. A queue that takes nothing holds up the others while its frames
lie in the middle batch: its receiver causes that.

With one queue there is no middle batch: frames are pulled straight through and hashed where they
are.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import partial
from itertools import accumulate
from operator import itemgetter
from typing import Any, NoReturn

from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import current, is_compiled
from xennet.flow.classify import classify
from xennet.flow.distribute import chain, take
from xennet.flow.hash_config import HashConfig
from xennet.flow.known_flows import KnownFlows
from xennet.frames import Endpoint, FrameBatch, Offload, Wrapper, lazy_bytes

#: Frames and bytes of a share of the middle batch: those of one receive pass of the backend.
SCRATCH_FRAMES = 256
SCRATCH_BYTES = 128 * PAGE_SIZE


class Steering:
    """``ends[q]`` is the endpoint of queue q, for ``queues`` (at least 1) queues.

    Its pull gives the frames of queue q, with hash columns filled as ``config`` says (without an
    algorithm: no hash). Every other call goes straight to ``endpoint``. ``kick(q)`` is called when
    frames for queue q wait, or may wait in ``endpoint``, and q would not pull by itself; it must
    not pull at once. When ``endpoint`` has new frames, every queue has to be kicked, because a
    queue that waits for buffers does not pull.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        queues: int,
        config: HashConfig,
        kick: Callable[[int], None],
    ) -> None:
        if queues < 1:
            raise ValueError(f"a vif of {queues} queues has none to steer to")
        self.middle: Middle | None = None
        self.ends: list[Endpoint]
        if queues == 1:
            self.ends = [_OnlyEnd(endpoint, config)]
            return
        kind = Middle if is_compiled(current()) else LendingMiddle
        middle = self.middle = kind(endpoint, queues, config, kick)
        self.ends = [QueueEnd(endpoint, middle, q) for q in range(queues)]

    @property
    def waiting(self) -> int:
        """Number of frames that were pulled from the endpoint and not taken by their queue yet."""
        return 0 if self.middle is None else self.middle.left

    def drop_all(self) -> int:
        """Forget the frames that wait. Returns their number."""
        return 0 if self.middle is None else self.middle.drop_all()


class _Classifier:
    """The kernel ``classify`` with its fixed arguments; ``run(first, count, frames, queue)`` has
    the frames ``first`` ... ``count - 1``, at least one, classified."""

    def __init__(self, config: HashConfig, queues: int) -> None:
        engine = current()
        self._kernel: Callable[..., None] = engine.kernel(classify)
        self._queues = queues
        self.hashing: tuple[Any, ...] = config.views()
        self.run = self._run
        if not is_compiled(engine):
            self.run = KnownFlows(config, queues, self.hashing).run

    def _run(self, first: int, count: int, frames: Any, queue: Any) -> None:
        self._kernel(first, count, self._queues, self.hashing, frames, queue)


class _Views:
    """A batch as kernels see it; kept from pull to pull, for a pass always comes with the same
    batch."""

    def __init__(self, batch: FrameBatch) -> None:
        self.batch = batch
        view = current().view
        self.frames, self.timestamp = batch.for_kernels(view), view(batch.timestamp)


class _End(Wrapper):
    """What all ends have in common: all calls but pull go to the endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._seen: _Views | None = None

    def negotiated(self, offload: Offload) -> None:
        self._seen = None  # a new connection has new batches
        super().negotiated(offload)

    def _views(self, batch: FrameBatch) -> _Views:
        if self._seen is None or self._seen.batch is not batch:
            self._seen = _Views(batch)
        return self._seen


class _OnlyEnd(_End):
    """The end of a vif with one queue."""

    def __init__(self, endpoint: Endpoint, config: HashConfig) -> None:
        super().__init__(endpoint)
        self._config = config
        self._classifier = _Classifier(config, 1)
        self._queue: Any = None

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        try:
            return self.endpoint.pull(batch)
        finally:
            if pulled := batch.count - first:
                self._hash(batch, first, pulled)

    def _hash(self, batch: FrameBatch, first: int, pulled: int) -> None:
        """Fill the hash columns of ``pulled`` frames from number ``first`` on."""
        if not self._config.active:
            batch.hash_info[first : batch.count] = array("I", bytes(4 * pulled))
            return
        seen = self._views(batch)
        if self._queue is None or len(self._queue) < batch.max_frames:
            self._queue = current().view(array("I", bytes(4 * batch.max_frames)))
        self._classifier.run(first, batch.count, seen.frames, self._queue)


class QueueEnd(_End):
    """The end of queue ``q`` of several."""

    def __init__(self, endpoint: Endpoint, middle: Middle, q: int) -> None:
        super().__init__(endpoint)
        self.middle = middle
        self.lends = isinstance(middle, LendingMiddle)
        self._q = q

    def pull(self, batch: FrameBatch) -> int:
        return self.middle.give(self._q, partial(self.middle.copy, self._views(batch)))

    def borrow(self, batch: FrameBatch, keep: Callable[[], None]) -> int:
        """The same for an empty batch, but the bytes of the frames stay where they are, in the
        middle batch, whose ``data`` is that of ``batch`` then. ``keep()`` is called before others
        take their place, in a pull of any end. For an end that ``lends``."""
        assert isinstance(self.middle, LendingMiddle)
        given = self.middle.give(self._q, partial(self.middle.lend, batch))
        self.middle.borrowers[self._q] = keep
        return given


class Middle:
    """The middle batch; ``left`` of its frames are not taken yet. ``hungry``: by queue, whether it
    was told "nothing" without the endpoint being asked. ``borrowers``: by queue, what is called
    before the frames are forgotten that were lent to it."""

    #: There is a share of frames for each queue, up to so many. Frames that are on their way to
    #: eight queues, one ring full for each, do not fit into a cache; those of few shares do.
    most_shares = 2

    def __init__(
        self,
        endpoint: Endpoint,
        queues: int,
        config: HashConfig,
        kick: Callable[[int], None],
    ) -> None:
        self._endpoint = endpoint
        self._kick = kick
        shares = min(queues, self.most_shares)
        frames = shares * SCRATCH_FRAMES
        self.batch = FrameBatch(lazy_bytes(shares * SCRATCH_BYTES), frames)
        self._queue = array("I", bytes(4 * frames))
        self._head = array("I", bytes(4 * queues))
        self.hungry = [False] * queues
        self.borrowers: dict[int, Callable[[], None]] = {}
        self.left = 0

        engine = current()
        self._classifier = _Classifier(config, queues)
        self._chain = engine.kernel(chain)
        self._take = engine.kernel(take)
        self._seen = _Views(self.batch)
        link = array("I", bytes(4 * frames))
        self._queue_view = engine.view(self._queue)
        self._chains = engine.view(self._head), engine.view(link)

    @property
    def idle(self) -> bool:
        """Whether nothing changes here as long as the endpoint has no frames."""
        return not (self.left or any(self.hungry) or self.batch.used or any(self._head))

    @property
    def for_kernels(self) -> tuple[Any, ...]:
        """The batch, its time stamps, the queue of each frame, the chains and the hash
        configuration, as kernels take them."""
        seen = self._seen
        steering = self._queue_view, self._chains, self._classifier.hashing
        return (seen.frames, seen.timestamp, *steering)

    def give(self, q: int, way: Callable[[int], int]) -> int:
        """Give frames to queue ``q`` in a ``way``, which is :meth:`copy` or :meth:`lend` for a
        batch. Returns their number; 0 if there are none now, or the batch is full.

        Raises IndexError if the batch is empty and too small for the next frame.
        """
        if not self.left:
            self._refill(q)
        if self._head[q] == self.batch.count:
            # Nothing for q. If the endpoint has nothing at all, it wakes all queues later.
            self.hungry[q] = bool(self.left)
            return 0
        given = way(q)
        self.left -= given
        if not self.left:
            self._feed(q)
        return given

    def fill_again(self) -> None:
        """Pull frames of which each queue has taken as many as of those before."""
        heads = self._head[:]
        self.fill()
        self._head[:] = heads

    def drop_all(self) -> int:
        """Forget all frames. Returns the number of those that were not taken."""
        for keep in self.borrowers.values():
            keep()
        self.borrowers.clear()
        dropped, self.left = self.left, 0
        self.batch.clear()
        self._head[:] = array("I", bytes(4 * len(self._head)))
        return dropped

    def _refill(self, q: int) -> None:
        """Pull from the endpoint, and kick the queues other than ``q`` that got frames."""
        try:
            self.fill()
        finally:
            count = self.batch.count
            for other, first in enumerate(self._head if count else ()):
                if first != count and other != q:
                    self.hungry[other] = False
                    self._kick(other)

    def fill(self) -> None:
        """Forget all frames, and pull others from the endpoint; those count as well that a pull has
        given before it raised."""
        if self.batch.count:
            self.drop_all()
        try:
            self._endpoint.pull(self.batch)
        finally:
            self.left = count = self.batch.count
            if count:
                self._classifier.run(0, count, self._seen.frames, self._queue_view)
                self._share_out(count)

    def _share_out(self, count: int) -> None:
        """Find the frames of each queue, of which the batch has ``count``."""
        for q in range(len(self._head)):
            self._head[q] = count
        self._chain(count, self._queue_view, *self._chains)

    def copy(self, into: _Views, q: int) -> int:
        """Append frames of queue ``q`` to a batch. Returns their number."""
        batch = into.batch
        before = batch.count
        batch.count, batch.used = self._take(
            q,
            self.batch.count,
            self._chains,
            self._seen.frames,
            self._seen.timestamp,
            before,
            batch.used,
            into.frames,
            into.timestamp,
        )
        given = batch.count - before
        if not batch.count:
            self._no_room(q)
        return given

    def _no_room(self, q: int) -> NoReturn:
        length = self.batch.length[self._head[q]]
        raise IndexError(f"no room for a frame of {length} bytes in an empty batch")

    def _feed(self, q: int) -> None:
        """Kick one of the queues that were put off, after ``q`` took the last frame: it may refill
        the batch.

        ``q`` itself may not pull again soon (its ring can be full). Queues that get frames are
        kicked then.
        """
        for other, hungry in enumerate(self.hungry):
            if hungry and other != q:
                self.hungry[other] = False
                self._kick(other)
                return


def picker(places: list[int]) -> Callable[[array[int]], Iterable[int]]:
    """What takes the items at ``places``, at least one, out of a column."""
    if len(places) == 1:
        (place,) = places
        return lambda column: column[place : place + 1]
    return itemgetter(*places)


class LendingMiddle(Middle):
    """The middle batch of plain code, which takes the frames of a queue out of whole columns, and
    does better without copying their bytes."""

    #: A pass takes plain code longer than the cache misses of its frames, so it has as many as fit.
    most_shares = 8

    def _share_out(self, count: int) -> None:
        self._places: list[list[int]] = [[] for _ in self._head]
        add = [places.append for places in self._places]
        for place, q in enumerate(self._queue[:count]):
            add[q](place)
        for q, places in enumerate(self._places):
            self._head[q] = places[0] if places else count
        columns = self._lent(self.batch)
        self._columns = [(column, column[1:count] == column[: count - 1]) for column in columns]

    @staticmethod
    def _lent(batch: FrameBatch) -> tuple[array[int], ...]:
        """The columns that go with lent frames: no time stamps, which the driver that borrows them
        has no use for."""
        return (*batch.columns, *batch.hash_columns)

    def copy(self, into: _Views, q: int) -> int:
        _head, link = self._chains
        places = self._places[q]
        for place, following in zip(places, [*places[1:], self.batch.count], strict=True):
            link[place] = following
        given = super().copy(into, q)
        del places[:given]
        return given

    def lend(self, batch: FrameBatch, q: int) -> int:
        """Make ``batch``, which is empty, one of frames of queue ``q`` whose bytes stay in the
        middle batch: as many as :meth:`copy` would copy. They have no time stamps. Returns their
        number."""
        middle, own = self.batch, self._places[q]
        places, room = own[: batch.max_frames], len(batch.data)
        given = len(places)
        picked = picker(places)
        for column, (of_all, alike) in zip(self._lent(batch), self._columns, strict=True):
            column[:given] = of_all[:given] if alike else array("I", picked(of_all))
        lengths = batch.length[:given]
        if (used := sum(lengths)) > room:
            ends = list(accumulate(lengths))
            given = bisect_right(ends, room)
            if not given:
                self._no_room(q)
            used = ends[given - 1]
        del own[:given]
        self._head[q] = own[0] if own else middle.count
        batch.data, batch.count, batch.used = middle.data, given, used
        return given
