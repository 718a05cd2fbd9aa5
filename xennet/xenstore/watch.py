"""Watches: the table of watched paths, and the queue of watch events of a connection."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar, cast

from attrs import define

from xennet.abi.xs_numbers import XENSTORE_PAYLOAD_MAX
from xennet.xenstore.path import parent
from xennet.xenstore.perms import Access, Identity, Perms, access

_T = TypeVar("_T")

_DIRECTORIES = 1024
"""Most directories whose watches a table knows without a walk."""

EVENT_OVERHEAD = 200
"""Bytes, about, that a queued event takes beside its payload."""


class WatchEvent(NamedTuple):
    """XS_WATCH_EVENT: the path that changed, in the style the watch was set, and its token."""

    path: str
    token: str

    @property
    def payload_len(self) -> int:
        """Bytes of the payload ``path|token|``."""
        path, token = self
        if path.isascii() and token.isascii():
            return len(path) + len(token) + 2
        return len(f"{path}{token}".encode(errors="surrogateescape")) + 2


#: A :class:`WatchEvent` of a tuple, quicker than by its name.
_new_event = cast("Callable[[tuple[str, str]], WatchEvent]", partial(tuple.__new__, WatchEvent))
_oldest = deque.popleft


class EventQueue(deque[WatchEvent]):
    """The watch events of a connection that its client has not taken yet.

    An event equal to one in the queue is not queued again, except for special names and unless
    ``suppresses_equals`` is False. An event whose payload exceeds 4096 bytes is dropped.

    ``size`` is about the number of bytes that the events take. An event that would exceed
    ``limit``, if that is not None, is dropped, and ``overflowed`` is True until half of the limit
    is free again.
    """

    __slots__ = ("_suppresses", "_waiting", "limit", "overflowed", "size")

    def __init__(self, suppresses_equals: bool = True) -> None:
        super().__init__()
        self._suppresses = suppresses_equals
        #: What is not queued again, with the bytes that it takes.
        self._waiting: dict[WatchEvent, int] = {}
        self.size = 0
        self.limit: int | None = None
        self.overflowed = False

    def queue(self, event: WatchEvent, payload: int) -> bool:
        """Queue ``event``, whose payload has ``payload`` bytes. Returns False if it was suppressed
        or dropped."""
        if event in self._waiting:
            return False
        if payload > XENSTORE_PAYLOAD_MAX:
            return False
        size = payload + EVENT_OVERHEAD
        total = self.size + size
        if self.limit is not None and total > self.limit:
            self.overflowed = True
            return False
        self.size = total
        self.append(event)
        if self._suppresses and not event[0].startswith("@"):
            self._waiting[event] = size
        return True

    def popleft(self) -> WatchEvent:
        """Take the oldest event. Raises IndexError if there is none."""
        event = _oldest(self)
        if self:
            self.size -= self._waiting.pop(event, 0) or event.payload_len + EVENT_OVERHEAD
        else:
            self.size = 0
            self._waiting.clear()
        if self.overflowed:
            self._relax()
        return event

    def discard(self, unwanted: Callable[[WatchEvent], bool]) -> None:
        """Drop the events for which ``unwanted`` returns True."""
        kept = [event for event in self if not unwanted(event)]
        super().clear()
        self.extend(kept)
        sizes = {event: event.payload_len + EVENT_OVERHEAD for event in kept}
        self._waiting = {event: sizes[event] for event in kept if event in self._waiting}
        self.size = sum(sizes[event] for event in kept)
        self._relax()

    def clear(self) -> None:
        """Drop all events."""
        super().clear()
        self._waiting.clear()
        self.size = 0
        self._relax()

    def _relax(self) -> None:
        if self.overflowed and self.limit is not None and self.size <= self.limit // 2:
            self.overflowed = False


class Watcher(Protocol):
    """What a watch needs of its connection."""

    @property
    def serial(self) -> int: ...
    @property
    def identity(self) -> Identity: ...
    def deliver(self, event: WatchEvent, payload: int, /) -> None: ...


@define(eq=False, repr=False)
class Watch:
    """One watch.

    ``path`` is canonical. ``prefix`` is what its events lose because it was set with a relative
    path. ``extra`` are the bytes of an event's payload beside the path that changed, less than 0
    perhaps. Watches fire in the order of ``rank``.
    """

    watcher: Watcher
    path: str
    token: str
    prefix: str
    rank: tuple[int, int]
    extra: int

    def event(self, path: str) -> WatchEvent:
        """The event for a change of ``path``."""
        return _new_event((path[len(self.prefix) :] if self.prefix else path, self.token))


_RANK = attrgetter("rank")


class WatchTable:
    """All watches of the store by canonical path, so that a change costs its depth.

    Watches that cover a change fire in the order of age. With ``from_the_root`` they fire in the
    order of their paths from the root down, the newest of each path first, and changes of the root
    itself fire none.
    """

    def __init__(self, from_the_root: bool = False) -> None:
        self._from_the_root = from_the_root
        self.counts: Counter[int] = Counter()
        """Number of watches of each domain."""
        #: Those of a path are in the order in which they fire.
        self._by_path: dict[str, list[Watch]] = {}
        #: Those on exactly a path, in their order; None if there are none.
        self.on: Callable[[str], Sequence[Watch] | None] = self._by_path.get
        #: Those on a directory and above it; with a directory, all that are above it are there.
        self._above: dict[str, Sequence[Watch]] = {}
        self._serial = 0

    def __repr__(self) -> str:
        return f"<WatchTable {self.counts.total()} watches>"

    def add(self, watcher: Watcher, path: str, token: str, prefix: str) -> Watch:
        """Register a watch on the canonical ``path``."""
        self._serial += 1
        rank = watcher.serial, self._serial
        if self._from_the_root:
            rank = len(path), -self._serial
        extra = WatchEvent("", token).payload_len - len(prefix)
        watch = Watch(watcher, path, token, prefix, rank, extra)
        insort(self._by_path.setdefault(path, []), watch, key=_RANK)
        self._forget(path)
        self.counts[watcher.identity.domid] += 1
        return watch

    def remove(self, watch: Watch) -> None:
        """Remove ``watch``."""
        self.counts[watch.watcher.identity.domid] -= 1
        here = self._by_path[watch.path]
        del here[bisect_left(here, watch.rank, key=_RANK)]
        if not here:
            del self._by_path[watch.path]
        self._forget(watch.path)

    def paths_below(self, top: str) -> list[str]:
        """The watched paths strictly below ``top``."""
        prefix = "/" if top == "/" else top + "/"
        return [path for path in self._by_path if path.startswith(prefix) and path != top]

    def covering(self, path: str, exact: bool = False) -> Sequence[Watch]:
        """The watches that a change of ``path`` fires, in the order of connections and of
        registration: those on ``path`` itself, and unless ``exact`` those on the paths above
        it."""
        here = self._by_path.get(path)
        if exact:
            return here or ()
        if path == "/":
            return () if here is None or self._from_the_root else here
        directory = parent(path)
        above = self._above.get(directory)
        if above is None:
            above = self._above_all(directory)
        if here is None:
            return above
        return sorted([*here, *above], key=_RANK) if above else here

    def tell(
        self,
        watches: Iterable[Watch],
        path: str,
        visible_by: Callable[[str, _T], Iterable[Perms]],
        changed: _T,
    ) -> None:
        """Queue the events of ``watches`` for a change of the canonical ``path``.

        A watch fires only if one of the permissions ``visible_by(path, changed)``, of which there
        is at least one, lets its connection read (XSA-115).
        """
        # Watches one behind the other are often of one domain, and told the same.
        identity, told, like = None, False, None
        for watch in watches:
            watcher = watch.watcher
            who = watcher.identity
            if who is not identity:
                identity, told = who, who.privileged
                if not told:
                    for perms in visible_by(path, changed):
                        if access(perms, who) & Access.READ:
                            told = True
                            break
            if told:
                if like is None or watch.token != like.token or watch.prefix != like.prefix:
                    like, event = watch, watch.event(path)
                watcher.deliver(event, len(path) + watch.extra)

    def _forget(self, path: str) -> None:
        """Forget which watches are above: one on ``path`` has come or gone."""
        if path in self._above:  # else no directory below it is there
            self._above.clear()

    def _above_all(self, directory: str) -> Sequence[Watch]:
        """The watches on ``directory`` and above it, in their order."""
        if len(self._above) >= _DIRECTORIES:
            self._above.clear()
        unknown = [directory]
        while unknown[-1] != "/" and (above := parent(unknown[-1])) not in self._above:
            unknown.append(above)
        found = self._above.get(parent(unknown[-1]), ())
        for path in reversed(unknown):
            here = self._by_path.get(path)
            if here is not None:
                found = sorted([*here, *found], key=_RANK)
            self._above[path] = found
        return found
