"""The XenStore message format, without I/O: between bytes, cut anywhere, and messages.

A message is a header of four little-endian words (type, req_id, tx_id, len; ``struct xsd_sockmsg``
of xen/io/xs_wire.h) and ``len`` <= 4096 bytes, in both directions, on sockets and on rings.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from xennet.abi.xs_numbers import XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT, xsd_errors

HEADER = Struct("<4I")
"""type, req_id, tx_id, len."""

HEADER_SIZE = HEADER.size

_unpack_header = HEADER.unpack_from

# EQUOTA is oxenstored's, for a quota; no name of the header.
_ERRORS = {name: name.encode() + b"\0" for name in (*(name for _, name in xsd_errors), "EQUOTA")}


class Message(NamedTuple):
    """One message; ``payload`` is what follows the header."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes


class ProtocolError(Exception):
    """The byte stream is not of the protocol: the connection has to end.

    ``messages`` are the whole messages before the error, in the same call of :meth:`Decoder.feed`.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.messages: list[Message] = []


class Decoder:
    """Cuts a byte stream into messages; keeps bytes until their message is complete.

    ``waiting``: whether there are bytes that :meth:`next` has not returned.
    """

    __slots__ = ("_at", "_data", "waiting")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self.waiting = False

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """Append ``data``. Returns the messages that are complete then.

        Raises :class:`ProtocolError` at a header with len > 4096, and again at every later call.
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
        """Append ``data``, for :meth:`next` to read."""
        if self.waiting:
            data = self._data[self._at :] + data
        self._data = data if type(data) is bytes else bytes(data)
        self._at = 0
        self.waiting = bool(data)

    def next(self) -> Message | None:
        """The next message; None if it is not complete. Raises :class:`ProtocolError` as
        :meth:`feed` does."""
        parts = self.split()
        return None if parts is None else Message(*parts)

    def split(self) -> tuple[int, int, int, bytes] | None:
        """:meth:`next` as (type, req_id, tx_id, payload)."""
        data, at = self._data, self._at
        size = len(data)
        start = at + 16
        if start > size:
            return None
        kind, req_id, tx_id, length = _unpack_header(data, at)
        if length > XENSTORE_PAYLOAD_MAX:
            raise ProtocolError(
                f"message type {kind}, req_id {req_id} says len {length} > {XENSTORE_PAYLOAD_MAX}"
            )
        end = start + length
        if end > size:
            return None
        self._at = end
        self.waiting = end < size
        return kind, req_id, tx_id, data[start:end]

    @property
    def wanted(self) -> int:
        """Number of bytes that complete the header, or if it is there, the message; 0 if that is
        complete.

        A reader that takes no more than this from its ring leaves there what C xenstored leaves.
        """
        have = len(self._data) - self._at
        if have < HEADER_SIZE:
            return HEADER_SIZE - have
        length: int = HEADER.unpack_from(self._data, self._at)[3]
        return max(0, HEADER_SIZE + length - have)

    def clear(self) -> None:
        """Forget all bytes."""
        self._data = b""
        self._at = 0
        self.waiting = False


def encode(kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """The bytes of a message. Raises ValueError for a payload of more than 4096 bytes."""
    size = len(payload)
    if size > XENSTORE_PAYLOAD_MAX:
        raise ValueError(f"payload of {size} bytes, the limit is {XENSTORE_PAYLOAD_MAX}")
    return HEADER.pack(kind, req_id, tx_id, size) + payload


def encode_error(errno: str, req_id: int, tx_id: int) -> bytes:
    """The bytes of an XS_ERROR. A name that ``xsd_errors`` of xs_wire.h does not have becomes
    EINVAL."""
    payload = _ERRORS.get(errno) or _ERRORS["EINVAL"]
    return HEADER.pack(XS_ERROR, req_id, tx_id, len(payload)) + payload


@lru_cache(64)  # an event goes to all that watch
def encode_event(path: str, token: str) -> bytes:
    """The bytes of an XS_WATCH_EVENT, whose req_id and tx_id are 0: it belongs to no request."""
    return encode(XS_WATCH_EVENT, 0, 0, encode_text(f"{path}\0{token}\0"))


def decode_text(data: bytes) -> str:
    """The text of a payload. Bytes that are not UTF-8 come out of :func:`encode_text` unchanged."""
    try:
        return data.decode()  # nearly always, and quicker
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes of a text: the reverse of :func:`decode_text`."""
    return text.encode("utf-8", "surrogateescape")


def strings(payload: bytes) -> list[str]:
    """The nul-terminated strings of a payload. Bytes behind the last nul are ignored."""
    return decode_text(payload).split("\0")[:-1]
