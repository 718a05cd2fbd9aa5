"""The page that a domain shares with the store, as two byte rings (xen/io/xs_wire.h, struct
xenstore_domain_interface; docs/misc/xenstore-ring.txt). Both ends use this file, and neither waits.

The indices run freely through 32 bits: a byte lies at its index modulo 1024, and the ring holds as
many bytes as the indices differ. The other end can write both, so each is read once for each use,
and a difference of more than 1024 is a :class:`RingIndexError`.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from xennet.abi.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_DOMAIN_INTERFACE,
    XENSTORE_ERROR_COMM,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_RING_SIZE,
)
from xennet.interface import PageRun

#: What engines call such a page.
MEMORY = "store ring"
_OFFSETS = XENSTORE_DOMAIN_INTERFACE.offsets
_SERVER_FEATURES = _OFFSETS["server_features"] // 4
_CONNECTION = _OFFSETS["connection"] // 4
_ERROR = _OFFSETS["error"] // 4
_REQ_CONS, _REQ_PROD = _OFFSETS["req_cons"] // 4, _OFFSETS["req_prod"] // 4
_RSP_CONS, _RSP_PROD = _OFFSETS["rsp_cons"] // 4, _OFFSETS["rsp_prod"] // 4

_BYTE_MASK = XENSTORE_RING_SIZE - 1
_INDEX_MASK = (1 << 32) - 1

ERROR_NAMES = {
    XENSTORE_ERROR_NONE: "none",
    XENSTORE_ERROR_COMM: "event channel",
    XENSTORE_ERROR_RINGIDX: "ring index",
    XENSTORE_ERROR_PROTO: "payload too long",
}
"""XENSTORE_ERROR_* -> what is wrong."""


class RingIndexError(Exception):
    """The indices of a ring are more than 1024 apart."""

    def __init__(self, ring: str, prod: int, cons: int) -> None:
        waiting = (prod - cons) & _INDEX_MASK
        super().__init__(
            f"{ring}_prod {prod:#x} - {ring}_cons {cons:#x} = {waiting} > {XENSTORE_RING_SIZE}"
        )


@define(eq=False, repr=False)
class ByteRing:
    """One direction; ``name`` is "req" or "rsp", as in the header's fields."""

    name: str
    _u8: memoryview
    _u32: memoryview
    _data: int
    _cons: int
    _prod: int
    _end: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._end = self._data + XENSTORE_RING_SIZE

    @property
    def empty(self) -> bool:
        """Whether the ring holds no bytes: both indices are equal."""
        return bool(self._u32[self._cons] == self._u32[self._prod])

    @property
    def full(self) -> bool:
        """Whether the ring holds exactly 1024 bytes."""
        return (self._u32[self._prod] - self._u32[self._cons]) & _INDEX_MASK == XENSTORE_RING_SIZE

    def read(self, limit: int = XENSTORE_RING_SIZE) -> bytes:
        """Take up to ``limit`` bytes. Raises RingIndexError, with nothing changed."""
        u8, u32, base = self._u8, self._u32, self._data
        cons = u32[self._cons]
        size = self._waiting(u32[self._prod], cons)
        if size > limit:
            size = limit
        start = cons & _BYTE_MASK
        ahead = XENSTORE_RING_SIZE - start
        if ahead >= size:
            taken = bytes(u8[base + start : base + start + size])
        else:
            taken = bytes(u8[base + start : base + start + ahead])
            taken += bytes(u8[base : base + size - ahead])
        u32[self._cons] = (cons + size) & _INDEX_MASK
        return taken

    def room(self) -> int:
        """Number of bytes that can be written, 0..1024. Raises RingIndexError."""
        u32 = self._u32
        return XENSTORE_RING_SIZE - self._waiting(u32[self._prod], u32[self._cons])

    def write(self, data: bytes | memoryview) -> int:
        """Write the beginning of ``data``, as much as there is room for.

        Returns the number of bytes written. Raises RingIndexError, with nothing changed.
        """
        u32 = self._u32
        prod = u32[self._prod]
        room = XENSTORE_RING_SIZE - self._waiting(prod, u32[self._cons])
        if len(data) > room:
            data = data[:room]
        u32[self._prod] = self._put(prod, data)
        return len(data)

    def carry(self, data: bytes | memoryview) -> None:
        """Leave in an empty ring what ``data``, at most 1024 bytes, leaves that is written and read
        at once."""
        u32, at = self._u32, self._prod
        u32[at] = u32[self._cons] = self._put(u32[at], data)

    def _put(self, prod: int, data: bytes | memoryview) -> int:
        """Store bytes from the index ``prod`` on. Returns the index behind them."""
        size = len(data)
        start = self._data + (prod & _BYTE_MASK)
        end = start + size
        if end <= self._end:
            self._u8[start:end] = data
        else:
            u8, ahead = self._u8, self._end - start
            u8[start : self._end] = data[:ahead]
            u8[self._data : self._data + size - ahead] = data[ahead:]
        return (prod + size) & _INDEX_MASK

    def reset(self) -> None:
        """Set both indices to 0; the bytes in the ring are lost."""
        self._u32[self._cons] = self._u32[self._prod] = 0

    def _waiting(self, prod: int, cons: int) -> int:
        size = (prod - cons) & _INDEX_MASK
        if size > XENSTORE_RING_SIZE:
            raise RingIndexError(self.name, prod, cons)
        return size


def _as_it_is(memory: memoryview, what: str) -> memoryview:
    return memory


@define(eq=False, repr=False)
class RingPage:
    """Both byte rings and the fields behind them, over the views of one page."""

    requests: ByteRing
    responses: ByteRing
    _u32: memoryview

    @classmethod
    def over(
        cls, page: PageRun, shared: Callable[[memoryview, str], memoryview] = _as_it_is
    ) -> RingPage:
        """The ring page in the first page of ``page``, over what ``shared`` makes of its views
        (xennet.engine.choice.shared, for one)."""
        u8, u32 = shared(page.u8, MEMORY), shared(page.u32, MEMORY)
        requests, responses = (_ring(u8, u32, name) for name in ("req", "rsp"))
        return cls(requests, responses, u32)

    @property
    def server_features(self) -> int:
        """Bits XENSTORE_SERVER_FEATURE_*. The server writes them; nobody may rely on them later
        on."""
        return int(self._u32[_SERVER_FEATURES])

    @server_features.setter
    def server_features(self, bits: int) -> None:
        self._u32[_SERVER_FEATURES] = bits

    @property
    def connection(self) -> int:
        """XENSTORE_CONNECTED, or XENSTORE_RECONNECT while the domain waits to be connected anew."""
        state: int = self._u32[_CONNECTION]
        return state

    @connection.setter
    def connection(self, state: int) -> None:
        self._u32[_CONNECTION] = state

    @property
    def error(self) -> int:
        """XENSTORE_ERROR_*: why the server has stopped to serve this ring."""
        error: int = self._u32[_ERROR]
        return error

    @error.setter
    def error(self, value: int) -> None:
        self._u32[_ERROR] = value

    def is_idle(self) -> bool:
        """Whether the domain is connected, without an error, and all that either end sent is
        taken."""
        u32 = self._u32
        return (
            u32[_CONNECTION] == XENSTORE_CONNECTED
            and u32[_ERROR] == XENSTORE_ERROR_NONE
            and u32[_REQ_CONS] == u32[_REQ_PROD]
            and u32[_RSP_CONS] == u32[_RSP_PROD]
        )

    def reset(self) -> None:
        """Empty both rings."""
        self.requests.reset()
        self.responses.reset()

    def start(self, features: int) -> None:
        """Begin a fresh connection without an error, as the server."""
        self.reset()
        self.server_features = features
        self.error = XENSTORE_ERROR_NONE
        self.connection = XENSTORE_CONNECTED


def _ring(u8: memoryview, u32: memoryview, name: str) -> ByteRing:
    cons, prod = _OFFSETS[f"{name}_cons"] // 4, _OFFSETS[f"{name}_prod"] // 4
    return ByteRing(name, u8, u32, _OFFSETS[name], cons, prod)
