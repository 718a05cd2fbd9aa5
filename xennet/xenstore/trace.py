"""The server's trace file: one line per request, switched on and off while the server runs."""

from __future__ import annotations

from typing import TextIO

from xennet.xenstore.errors import XsError
from xennet.xenstore.operation import Observer, StoreOp
from xennet.xenstore.store import Store


class TraceFile:
    """Writes the requests of ``store`` as lines into the file ``path``; with None, the default,
    nowhere.

    An observer that the store has already goes on to be called. ``switches`` are the C daemon's
    names of what is traced, and whether it is: "io" are requests, the others concern that daemon's
    own insides.
    """

    def __init__(self, store: Store, path: str | None = None) -> None:
        self.path = path
        self.switches = {"obj": True, "io": True, "wrl": False, "acc": False, "tdb": False}
        self._store = store
        self._file: TextIO | None = None
        self._other: Observer | None = None

    def __repr__(self) -> str:
        return f"<TraceFile {self.path!r}>"

    def on(self) -> None:
        """Begin to append to the file. Raises XsError EINVAL if it cannot be opened."""
        self.off()
        if self.path is None:
            return
        try:
            self._file = open(self.path, "a", buffering=1, errors="backslashreplace")  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise XsError("EINVAL", self.path, f"cannot be opened: {error}") from None
        self._other, self._store.observer = self._store.observer, self._record

    def off(self) -> None:
        """Stop writing."""
        if self._file is not None:
            self._store.observer = self._other
            self._file.close()
            self._file = None

    def write(self, text: str) -> None:
        """Write a text that is no request. Raises XsError EINVAL if the trace is off."""
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
