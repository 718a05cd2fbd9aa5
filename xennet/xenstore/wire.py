"""The XenStore message format, without I/O: bytes in any pieces to messages, and back.

A message is a header of four little-endian words (type, req_id, tx_id, len; ``struct xsd_sockmsg``
of xen/io/xs_wire.h) and ``len`` <= 4096 bytes, in both directions and on sockets and rings alike.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from xennet.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT, xsd_errors

HEADER = Struct("<4I")
"""type, req_id, tx_id, len."""

HEADER_SIZE = HEADER.size

# EQUOTA is oxenstored's, for a quota; no name of the header.
_ERRORS = {name: name.encode() + b"\0" for name in (*(name for _, name in xsd_errors), "EQUOTA")}


class Message(NamedTuple):
    """One message; ``payload`` is what follows the header."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes


class ProtocolError(Exception):
    """The stream is no XenStore stream any more, the connection must end.

    ``messages`` are the whole messages that came before, in the same :meth:`Decoder.feed`.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.messages: list[Message] = []


class Decoder:
    """Cuts a byte stream into messages. Holds what it was fed until it is taken."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """The messages that ``data`` completes.

        Raises :class:`ProtocolError` at a header with len > 4096, again and again.
        """
        self.put(data)
        messages = []
        try:
            while (message := self.next()) is not None:
                messages.append(message)
        except ProtocolError as error:
            error.messages = messages
            raise
        return messages

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data`` for :meth:`next`."""
        kept = self._data[self._at :]
        self._data = kept + data if kept else bytes(data)
        self._at = 0

    def next(self) -> Message | None:
        """The next message if it is complete. Raises :class:`ProtocolError` like :meth:`feed`."""
        data, at = self._data, self._at
        size = len(data)
        start = at + 16
        if start > size:
            return None
        kind, req_id, tx_id, length = HEADER.unpack_from(data, at)
        if length > XENSTORE_PAYLOAD_MAX:
            raise ProtocolError(
                f"message type {kind}, req_id {req_id} says len {length} > {XENSTORE_PAYLOAD_MAX}"
            )
        end = start + length
        if end > size:
            return None
        self._at = end
        return Message(kind, req_id, tx_id, data[start:end])

    @property
    def wanted(self) -> int:
        """Bytes missing to complete the header, or then the message; 0 if one waits complete.

        A reader that never takes more than this many leaves in its ring what C xenstored leaves.
        """
        have = len(self._data) - self._at
        if have < HEADER_SIZE:
            return HEADER_SIZE - have
        length: int = HEADER.unpack_from(self._data, self._at)[3]
        return max(0, HEADER_SIZE + length - have)

    @property
    def waiting(self) -> bool:
        """True if bytes are held, of a whole message or less."""
        return self._at < len(self._data)

    def clear(self) -> None:
        """Forget everything that was fed."""
        self._data = b""
        self._at = 0


def encode(kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """A message as it travels. Raises ValueError for a payload of more than 4096 bytes."""
    size = len(payload)
    if size > XENSTORE_PAYLOAD_MAX:
        raise ValueError(f"payload of {size} bytes, the limit is {XENSTORE_PAYLOAD_MAX}")
    return HEADER.pack(kind, req_id, tx_id, size) + payload


def encode_error(errno: str, req_id: int, tx_id: int) -> bytes:
    """An XS_ERROR; names that are not in ``xsd_errors`` of xs_wire.h travel as EINVAL."""
    payload = _ERRORS.get(errno) or _ERRORS["EINVAL"]
    return HEADER.pack(XS_ERROR, req_id, tx_id, len(payload)) + payload


def encode_event(path: str, token: str) -> bytes:
    """An XS_WATCH_EVENT, which belongs to no request: req_id and tx_id are 0."""
    return encode(XS_WATCH_EVENT, 0, 0, encode_text(f"{path}\0{token}\0"))


def decode_text(data: bytes) -> str:
    """Text of a payload; bytes that are no UTF-8 survive the way back by :func:`encode_text`."""
    return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes that :func:`decode_text` was given."""
    return text.encode("utf-8", "surrogateescape")


def strings(payload: bytes) -> list[str]:
    """The nul-terminated strings of a payload; what follows the last nul is ignored."""
    return decode_text(payload).split("\0")[:-1]
