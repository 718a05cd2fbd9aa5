"""The messages of a XenStore server as a capture for Wireshark, written while they pass."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from xennet.abi.codec import derive
from xennet.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XS_NAMES, XS_WATCH_EVENT, xsd_sockmsg
from xennet.trace import pcapng_blocks, records
from xennet.trace.records import Kind, Role

_HEADER = derive(xsd_sockmsg)
#: Requests of a connection whose answers are still looked for.
_MOST_OPEN = 1 << 12


class XenStoreCapture:
    """A new file ``path`` with each message of each session, a block a message.

    It is the tap of a server (xennet.xenstore.tap). A block is written at once and
    whole, so that the file is one of whole blocks whenever the process is killed; if the system
    takes only a part of one (a full disk), that part is cut off, ``failed(text)`` is called and
    nothing more is written. At most a message of each direction of a session is kept in memory.
    Raises OSError if the file cannot be made, ValueError if it is no regular one.
    """

    def __init__(
        self,
        path: str | Path,
        failed: Callable[[str], object],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._failed = failed
        self._clock = clock
        self._messages = 0
        self._lines = 0
        self._written = 0
        # A file with the values of a store is nobody else's; a pipe would stop the store.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise ValueError(f"{path} is no regular file")
            os.ftruncate(self._fd, 0)
        except BaseException:
            self.close()
            raise
        self._write(pcapng_blocks.section() + pcapng_blocks.interface("xenstore"))

    def line(self, domid: int, name: str) -> CapturedLine:
        """A session of domain ``domid`` begins."""
        self._lines += 1
        return CapturedLine(self, domid, name or f"dom{domid}", self._lines)

    def close(self) -> None:
        """Write nothing more. May be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def message(self, line: CapturedLine, role: Role, data: bytes, cause: int, text: str) -> int:
        """Write a message. Returns its number, from 1 on."""
        self._messages += 1
        record = records.encode(
            Kind.XENSTORE,
            data,
            domid=line.domid,
            sequence=self._messages,
            cause=cause,
            index=line.number,
            role=role,
            text=text,
        )
        self._write(pcapng_blocks.packet(self._clock(), record, text))
        return self._messages

    def _write(self, block: bytes) -> None:
        if self._fd < 0:
            return
        try:
            if os.write(self._fd, block) < len(block):
                os.ftruncate(self._fd, self._written)
                raise OSError(0, "the file takes no more")
        except OSError as error:
            self.close()
            self._failed(f"{self._path}: {error.strerror}; nothing more is written there")
        self._written += len(block)


class CapturedLine:
    """One session in a capture (a xennet.xenstore.tap.Line)."""

    def __init__(self, capture: XenStoreCapture, domid: int, name: str, number: int) -> None:
        self.domid = domid
        self.number = number
        self._capture = capture
        self._name = name
        self._asked, self._answered = bytearray(), bytearray()
        #: req_id and number of the requests that were not answered yet.
        self._open: deque[tuple[int, int]] = deque(maxlen=_MOST_OPEN)

    def asked(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes from the client."""
        self._asked += data
        for message in _messages(self._asked):
            self._ask(message)

    def answered(self, data: bytes) -> None:
        """Bytes to the client."""
        self._answered += data
        for message in _messages(self._answered):
            self._answer(message)

    def cut(self) -> None:
        """Write what has begun and is not completed."""
        for held, message in ((self._asked, self._ask), (self._answered, self._answer)):
            if held:
                message(bytes(held))
                held.clear()
        self._open.clear()

    def _ask(self, message: bytes) -> None:
        text = f"{self._name}: {_name(message)}"
        number = self._capture.message(self, Role.TO_STORE, message, 0, text)
        if len(message) >= _HEADER.size:
            self._open.append((_HEADER.unpack_from(message)[1], number))

    def _answer(self, message: bytes) -> None:
        cause = 0
        head = message[: _HEADER.size].ljust(_HEADER.size, b"\0")
        kind, req_id, *_ = _HEADER.unpack_from(head)
        if kind != XS_WATCH_EVENT:
            for one in self._open:
                if one[0] == req_id:
                    self._open.remove(one)
                    cause = one[1]
                    break
        text = f"to {self._name}: {_name(message)}"
        self._capture.message(self, Role.FROM_STORE, message, cause, text)


def _messages(held: bytearray) -> Iterator[bytes]:
    """The messages at the beginning of ``held``, which are taken out of it. One that is longer than
    the protocol allows is its header alone, and all that is behind it is no message."""
    while len(held) >= _HEADER.size:
        length = _HEADER.unpack_from(held)[-1]
        size = _HEADER.size + length
        if length > XENSTORE_PAYLOAD_MAX:
            head = bytes(held[: _HEADER.size])
            held.clear()
            yield head
            return
        if len(held) < size:
            return
        message = bytes(held[:size])
        del held[:size]
        yield message


def _name(message: bytes) -> str:
    kind = int.from_bytes(message[:4], "little")
    name = XS_NAMES.get(kind, f"type {kind}").removeprefix("XS_")
    return name if len(message) >= _HEADER.size else f"{len(message)} bytes of a message"
