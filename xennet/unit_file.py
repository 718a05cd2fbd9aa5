"""Files that are written in units, and end with a whole one however a process or a disk fails."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from contextlib import suppress
from io import FileIO

_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
_BUFFER = 1 << 20
"""Bytes that wait until they are written together."""


def appending(path: str) -> FileIO:
    """Open a file that others have named, to append to it, without waiting for anybody: a FIFO has
    to have a reader, and takes no more when it is full. Raises OSError that names the path,
    ValueError for a name that cannot be one."""
    try:
        return FileIO(os.open(path, _APPENDING, 0o666), "a")
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.ENXIO, "is a pipe that nobody reads", path) from None
        raise


class UnitFile:
    """Writes units of bytes to ``raw``, some together; it is closed with this one.

    What a full disk has taken of a unit is cut off again, if ``raw`` is a regular file whose end
    nobody else has moved: the file then ends with a whole unit, and all behind it are dropped.
    ``kept`` is the number that was given with the last unit in the file.
    """

    def __init__(self, raw: FileIO) -> None:
        self.kept = 0
        self._raw = raw
        self._regular = stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
        appends = fcntl.fcntl(raw.fileno(), fcntl.F_GETFL) & os.O_APPEND
        self._whence = os.SEEK_END if appends else os.SEEK_CUR
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._size = 0
        self._takes = True

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._raw.closed

    def start_over(self) -> None:
        """Cut off what the file held before, if it is a regular one, and nothing was written."""
        if self._regular:
            self._raw.truncate(0)
            self._raw.seek(0)

    def write(self, data: bytes, number: int = 0) -> int:
        """Take a unit; ``number`` is what :attr:`kept` is when the file has it. Returns its size.

        Raises OSError if units were to be written and could not be; later ones are dropped, or
        they would follow a gap.
        """
        if not self._takes:
            return len(data)
        self._waiting.append((bytes(data), number))
        self._size += len(data)
        if self._size >= _BUFFER:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Write all units that wait. Raises OSError; they are dropped then."""
        data = memoryview(b"".join(unit for unit, _ in self._waiting))
        # Others may have written since: to the end, or by the same open file.
        place = self._raw.seek(0, self._whence) if self._regular else 0
        sent = 0
        try:
            while sent < len(data):
                count = self._raw.write(data[sent:])
                if count is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                sent += count
        except BaseException as error:
            self._cut(place, sent)
            if isinstance(error, OSError) or not self._regular:
                self._takes = False
                self._forget()
            raise
        if self._waiting:
            self.kept = self._waiting[-1][1]
        self._forget()

    def close(self) -> None:
        """Write what waits, and close the file. Raises OSError. May be repeated."""
        if self.closed:
            return
        try:
            self.flush()
        finally:
            self._raw.close()

    def _cut(self, place: int, sent: int) -> None:
        """Writing at ``place`` failed, or was interrupted, behind ``sent`` bytes or somewhat
        later."""
        if self._regular:
            sent = self._raw.tell() - place
        whole = 0
        while self._waiting and whole + len(self._waiting[0][0]) <= sent:
            unit, self.kept = self._waiting.popleft()
            whole += len(unit)
        self._size -= whole
        if self._regular and whole < sent:
            with suppress(OSError):
                if os.fstat(self._raw.fileno()).st_size == place + sent:
                    self._raw.truncate(place + whole)
                    self._raw.seek(place + whole)

    def _forget(self) -> None:
        self._waiting.clear()
        self._size = 0
