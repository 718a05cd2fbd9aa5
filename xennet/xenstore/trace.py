"""The server's trace file: one line per request, switched on and off while the server runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from xennet.unit_file import UnitFile, appending
from xennet.xenstore.errors import XsError
from xennet.xenstore.operation import Observer, StoreOp
from xennet.xenstore.store import Store


def cannot(what: str, path: str, error: OSError | ValueError) -> XsError:
    """The error for a file that cannot be opened, or written."""
    reason = error.strerror if isinstance(error, OSError) else error
    return XsError("EINVAL", path, f"cannot {what}: {reason}")


class TraceFile:
    """Writes the requests of ``store`` as lines into the file ``path``; with None, the default,
    nowhere.

    An observer that the store has already goes on to be called. ``switches`` are the C daemon's
    names of what is traced, and whether it is: "io" are requests, the others concern that daemon's
    own insides. A file that takes no more is closed, which ``say`` is told; the store goes on.
    """

    def __init__(self, store: Store, path: str | None, say: Callable[[str], object]) -> None:
        self.path = path
        self.switches = {"obj": True, "io": True, "wrl": False, "acc": False, "tdb": False}
        self._store = store
        self._say = say
        self._file: UnitFile | None = None
        self._other: Observer | None = None

    def __repr__(self) -> str:
        return f"<TraceFile {self.path!r}>"

    def on(self) -> None:
        """Begin to append to the file. Raises XsError EINVAL if it cannot be opened."""
        self.off()
        if self.path is None:
            return
        try:
            self._file = UnitFile(appending(self.path))
        except (OSError, ValueError) as error:
            raise cannot("be opened", self.path, error) from None
        self._other, self._store.observer = self._store.observer, self._record

    def off(self) -> None:
        """Stop writing."""
        if self._file is not None:
            self._store.observer = self._other
            with suppress(OSError):  # a file system may tell of an error only now
                self._file.close()
            self._file = None

    def write(self, text: str) -> None:
        """Write a text that is no request. Raises XsError EINVAL if the trace is off, or the file
        takes no more."""
        if self._file is None or not self._put(self._file, text):
            raise XsError("EINVAL", detail="no trace file is open")

    def _record(self, op: StoreOp) -> None:
        if self._other is not None:
            self._other(op)
        if self._file is None or not self.switches["io"]:
            return
        errno = op.errno or "OK"
        line = f"{op.who} {op.op} tx={op.tx} {op.path!r} {op.value!r} {errno}\n"
        self._put(self._file, line)

    def _put(self, file: UnitFile, text: str) -> bool:
        try:
            file.write(text.encode(errors="backslashreplace"))
            file.flush()
        except OSError as error:
            self.off()
            self._say(f"{self.path}: {error.strerror}; nothing more is written there")
            return False
        return True
