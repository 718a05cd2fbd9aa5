"""The server's trace file: one line per request, switched on and off while it runs."""

from __future__ import annotations

from typing import TextIO

from xennet.xenstore.errors import XsError
from xennet.xenstore.operation import Observer, StoreOp
from xennet.xenstore.store import Store


class Trace:
    """Requests of ``store`` as lines of the file ``path``; None, the start: of no file.

    Another observer of the store goes on observing while it is on. ``switches`` are what may be
    traced, by the names of the C daemon, and whether it is; requests are "io", and the others are
    of the daemon's own making.
    """

    def __init__(self, store: Store, path: str | None = None) -> None:
        self.path = path
        self.switches = {"obj": True, "io": True, "wrl": False, "acc": False, "tdb": False}
        self._store = store
        self._file: TextIO | None = None
        self._other: Observer | None = None

    def on(self) -> None:
        """Append to the file from now on. XsError EINVAL if it cannot be opened."""
        self.off()
        if self.path is None:
            return
        try:
            self._file = open(self.path, "a", buffering=1, errors="backslashreplace")  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise XsError("EINVAL", self.path, f"cannot be opened: {error}") from None
        self._other, self._store.observer = self._store.observer, self._record

    def off(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._store.observer = self._other
            self._file.close()
            self._file = None

    def write(self, text: str) -> None:
        """Text that is no request, if the trace is on. XsError EINVAL if it is not."""
        if self._file is None:
            raise XsError("EINVAL", detail="no trace file is open")
        self._file.write(text)

    def _record(self, op: StoreOp) -> None:
        if self._other is not None:
            self._other(op)
        if self._file is None or not self.switches["io"]:
            return
        errno = op.errno or "OK"
        try:
            self._file.write(f"{op.who} {op.op} tx={op.tx} {op.path!r} {op.value!r} {errno}\n")
        except OSError:
            # A full disk must not stop the store.
            self.off()
