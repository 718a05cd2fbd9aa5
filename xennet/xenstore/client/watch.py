"""A watch that is read like a file: one event after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from xennet.xenstore.watch import WatchEvent


class Watching(Protocol):
    """What a watch needs of its client."""

    def unwatch(self, path: str, token: str) -> None: ...
    def wait(self, done: Callable[[], bool], timeout: float | None, what: str) -> None: ...


class WatchIterator:
    """The events of one watch, made by :meth:`Client.watch`.

    The first event comes at once, with the watched path itself. As a context manager it ends the
    watch.
    """

    def __init__(self, client: Watching, path: str, token: str, timeout: float | None) -> None:
        self.path = path
        self.token = token
        self.timeout = timeout
        self._client = client
        self._events: deque[WatchEvent] = deque()
        self._ended = False

    def deliver(self, path: str, token: str) -> None:
        """Queue an event of this watch; the client calls it."""
        self._events.append(WatchEvent(path, token))

    def next(self, timeout: float | None) -> WatchEvent:
        """The next event. Raises XsTimeoutError if there is none within ``timeout`` seconds (None:
        no limit).

        Callbacks of the client's other watches run while it waits.
        """
        self._client.wait(lambda: bool(self._events), timeout, self.path)
        return self._events.popleft()

    def close(self) -> None:
        """End the watch. May be repeated."""
        if not self._ended:
            self._ended = True
            self._events.clear()
            self._client.unwatch(self.path, self.token)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchEvent:
        if self._ended:
            raise StopIteration
        return self.next(self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
