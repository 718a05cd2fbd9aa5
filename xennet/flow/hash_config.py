"""The hash configuration that a frontend sets through the control ring, and the rules for it.

There is one for each vif, shared by its queues. The setters are the messages of xen/io/netif.h
("Control messages") without the ring: they check their arguments, change everything or nothing, and
return the XEN_NETIF_CTRL_STATUS_* of the answer. Where the header leaves a choice, statuses are
those of Linux's netback (hash.c).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from xennet.abi.netif import (
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
)
from xennet.engine.choice import current
from xennet.flow.classify import ALGORITHM, MAPPING_SIZE, SETTINGS, TABLE_STALE, TYPES
from xennet.flow.toeplitz import KEY_SIZE, TABLE_SIZE

#: Most entries of the mapping table (XEN_NETBK_MAX_HASH_MAPPING_SIZE of Linux).
MAX_MAPPING_SIZE = 128
ALL_TYPES = (
    XEN_NETIF_CTRL_HASH_TYPE_IPV4
    | XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP
    | XEN_NETIF_CTRL_HASH_TYPE_IPV6
    | XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP
)
_ALGORITHMS = (XEN_NETIF_CTRL_HASH_ALGORITHM_NONE, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ)


class HashConfig:
    """A hash configuration; at first hashing is off. ``on_change()`` is called after every change,
    and ``changes`` counts them.

    ``settings`` (indices ALGORITHM ... of xennet.flow.classify), ``key_bytes``, ``table`` and
    ``entries`` are flat arrays for kernels, which stay the same objects and are written in place.
    """

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        self.settings = array("q", bytes(8 * SETTINGS))
        self.key_bytes = array("B", bytes(KEY_SIZE))
        self.table = array("I", bytes(4 * TABLE_SIZE))
        self.entries = array("I", bytes(4 * MAX_MAPPING_SIZE))
        self.changes = 0
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<HashConfig {self.algorithm}, {len(self.mapping)} mappings>"

    @property
    def algorithm(self) -> int:
        """The algorithm, XEN_NETIF_CTRL_HASH_ALGORITHM_*."""
        return self.settings[ALGORITHM]

    @property
    def types(self) -> int:
        """The types that are hashed, bits XEN_NETIF_CTRL_HASH_TYPE_*."""
        return self.settings[TYPES]

    @property
    def key(self) -> bytes:
        """The key, followed by zeroes: KEY_SIZE bytes."""
        return self.key_bytes.tobytes()

    @property
    def mapping(self) -> list[int]:
        """The queue for each ``hash mod size``. If it is empty, the queue is the hash modulo their
        number."""
        return self.entries[: self.settings[MAPPING_SIZE]].tolist()

    @property
    def active(self) -> bool:
        """Whether frames are hashed: there are an algorithm and types (SET_HASH_FLAGS, NOTE)."""
        return self.algorithm != XEN_NETIF_CTRL_HASH_ALGORITHM_NONE and self.types != 0

    def views(self) -> tuple[object, object, object, object]:
        """Settings, key, table and mapping, as the current engine's kernels take them."""
        view = current().view
        return view(self.settings), view(self.key_bytes), view(self.table), view(self.entries)

    def reset(self) -> None:
        """Switch hashing off and forget types, key and mapping."""
        self.settings[ALGORITHM] = XEN_NETIF_CTRL_HASH_ALGORITHM_NONE
        self.settings[TYPES] = 0
        self._put_key(b"")
        self.set_mapping_size(0)

    def set_algorithm(self, algorithm: int) -> int:
        """SET_HASH_ALGORITHM: NONE or TOEPLITZ."""
        if algorithm not in _ALGORITHMS:
            return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
        self.settings[ALGORITHM] = algorithm
        return self._changed()

    def supported_types(self) -> tuple[int, int]:
        """GET_HASH_FLAGS: status and types. An algorithm has to be selected before."""
        if self.algorithm == XEN_NETIF_CTRL_HASH_ALGORITHM_NONE:
            return XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED, 0
        return XEN_NETIF_CTRL_STATUS_SUCCESS, ALL_TYPES

    def set_types(self, types: int) -> int:
        """SET_HASH_FLAGS: any of ALL_TYPES. An algorithm has to be selected before."""
        if types & ~ALL_TYPES or self.algorithm == XEN_NETIF_CTRL_HASH_ALGORITHM_NONE:
            return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
        self.settings[TYPES] = types
        return self._changed()

    def set_key(self, key: bytes) -> int:
        """SET_HASH_KEY: at most KEY_SIZE bytes, which replace the whole key."""
        if len(key) > KEY_SIZE:
            return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
        self._put_key(key)
        return self._changed()

    def set_mapping_size(self, size: int) -> int:
        """SET_HASH_MAPPING_SIZE: ``size`` entries, all of them queue 0; with 0 the modulus is
        used."""
        if size > MAX_MAPPING_SIZE:
            return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
        self.settings[MAPPING_SIZE] = size
        self.entries[:] = array("I", bytes(4 * MAX_MAPPING_SIZE))
        return self._changed()

    def covers(self, offset: int, count: int) -> bool:
        """Whether the table has the entries ``offset`` ... ``offset + count - 1``.

        The sum is one of integers; a sum of 32-bit words could wrap and come out small (XSA-270).
        """
        return offset + count <= self.settings[MAPPING_SIZE]

    def set_mapping(self, offset: int, entries: Sequence[int], queues: int) -> int:
        """SET_HASH_MAPPING: entries from ``offset`` on, each a queue number below ``queues``."""
        if not self.covers(offset, len(entries)) or any(entry >= queues for entry in entries):
            return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
        for place, entry in enumerate(entries, offset):
            self.entries[place] = entry
        return self._changed()

    def _put_key(self, key: bytes) -> None:
        self.key_bytes[:] = array("B", key.ljust(KEY_SIZE, b"\0"))
        self.settings[TABLE_STALE] = 1

    def _changed(self) -> int:
        self.changes += 1
        if self._on_change is not None:
            self._on_change()
        return XEN_NETIF_CTRL_STATUS_SUCCESS
