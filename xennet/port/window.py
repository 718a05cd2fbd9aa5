"""A streaming window on a file: flat bytes for parsers, absolute offsets for errors."""

from __future__ import annotations

from typing import Protocol

from xennet.port.base import PortError

_SIZE = 1 << 20


class Readable(Protocol):
    """The file of a window: ``readinto`` gives the next bytes, 0 at the end. Raises OSError for bad
    ones."""

    def readinto(self, target: memoryview, /) -> int | None: ...


class CaptureError(PortError):
    """The file ``path`` cannot be played from ``place`` on, "byte offset 24" or the like."""

    def __init__(self, path: str, problem: str, place: str) -> None:
        super().__init__(f"{path}: {problem} (at {place})")
        self.damage = f"{path}: capture damaged at {place}: {problem}"


class Window:
    """A window: bytes ``pos`` to ``end`` of ``view`` are the file's next bytes. Parsers advance
    ``pos``.

    It has one buffer of 1 MiB (more only if a larger :meth:`need` asks for it), reads files, pipes
    and devices alike and never seeks. :meth:`need` and :meth:`skip` may replace ``view`` and move
    its contents, so slices of it are valid until the next call of either. Errors call the file
    ``path`` and write ``unit`` behind an offset.
    """

    def __init__(self, file: Readable, path: str, *, unit: str = "") -> None:
        self.path = path
        self._unit = unit
        self.view = memoryview(bytearray(_SIZE))
        self.pos = 0
        self.end = 0
        self._file = file
        self._base = 0

    @property
    def offset(self) -> int:
        """The byte offset of ``pos`` in the file."""
        return self._base + self.pos

    def need(self, count: int) -> bool:
        """Read until ``count`` bytes are there from ``pos`` on. Returns False if the file ends
        before."""
        if self.end - self.pos >= count:
            return True
        left = self.end - self.pos
        view = self.view if count <= len(self.view) else memoryview(bytearray(count))
        view[:left] = self.view[self.pos : self.end]
        self._base += self.pos
        self.view, self.pos, self.end = view, 0, left
        while self.end < count:
            got = self._read(view[self.end :])
            if not got:
                return False
            self.end += got
        return True

    def skip(self, count: int) -> bool:
        """Advance by ``count`` bytes without keeping them. Returns False if the file ends
        before."""
        while count > self.end - self.pos:
            count -= self.end - self.pos
            self.pos = self.end
            if not self.need(1):
                return False
        self.pos += count
        return True

    def zeros(self) -> int:
        """Number of zero bytes in the window from ``pos`` on."""
        at, step = self.pos, 64
        while at < self.end:
            piece = self.view[at : min(at + step, self.end)].tobytes()
            more = len(piece) - len(piece.lstrip(b"\0"))
            at += more
            if more < len(piece):
                break
            step *= 2
        return at - self.pos

    def error(self, message: str, offset: int) -> CaptureError:
        """An error about this file at byte ``offset``."""
        return CaptureError(self.path, message, f"byte offset {offset}{self._unit}")

    def _read(self, target: memoryview) -> int:
        try:
            return self._file.readinto(target) or 0
        except OSError as e:
            message = f"cannot be read: {e.strerror}"
            raise self.error(message, self._base + self.end) from e
