"""A call in a thread of its own that waits in the middle, as often as it likes."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread


class LeftError(BaseException):
    """Raised in the call when nobody wants its end any more; nothing but that thread's end catches
    it."""


class Turns:
    """``call()`` in a thread of its own, of which one and its reader run at a time: the call until
    it waits or is over, the reader until it lets the call go on.

    Nothing begins before the first :meth:`go`. ``over``: the call has ended.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self.over = False
        self._call = call
        self._left = False
        self._go: SimpleQueue[None] = SimpleQueue()
        self._waits: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="stepped run", daemon=True)

    # -- the reader's ------------------------------------------------------------------------------

    def go(self) -> None:
        """Let the call go on until it waits or is over. Raises what it raised; RuntimeError behind
        its end."""
        if self.over:
            raise RuntimeError("the call is over")
        if self._thread.ident is None:
            self._thread.start()
        self._go.put(None)
        error = self._waits.get()
        if error is not None:
            raise error

    def leave(self) -> None:
        """End the call where it waits, or where it would next. May be repeated."""
        self._left = True
        self._go.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self.over = True

    # -- the call's --------------------------------------------------------------------------------

    def look(self) -> None:
        """Called between two steps of the call. Raises LeftError if the reader has left."""
        if self._left:
            raise LeftError

    def wait(self) -> None:
        """Let the reader go on, until it lets this call go on. Raises LeftError if it has left."""
        self._waits.put(None)
        self._go.get()
        self.look()

    def _run(self) -> None:
        error: BaseException | None = None
        self._go.get()
        try:
            self.look()
            self._call()
        except LeftError:
            pass
        except BaseException as raised:  # the reader's thread raises it
            error = raised
        self.over = True
        self._waits.put(error)
