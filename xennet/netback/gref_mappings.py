"""Grants that a frontend wants to be kept mapped (xen/io/netif.h, "Static Grants")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xennet.abi.netif import (
    GREF,
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_CTRLF_GREF_readonly,
)
from xennet.interface import GrantMapping, HypercallError, Hypervisor


class GrefEntry(NamedTuple):
    """One struct xen_netif_gref: ``ref``, ``flags`` (XEN_NETIF_CTRLF_GREF_*)."""

    ref: int
    flags: int


def unpack_entries(table: bytes) -> list[GrefEntry]:
    """The entries of a mapping list, as many as ``table`` has; their statuses are ignored."""
    return [GrefEntry(*GREF.unpack_from(table, at)[:2]) for at in range(0, len(table), GREF.size)]


def pack_entries(entries: Sequence[GrefEntry], statuses: Sequence[int]) -> bytes:
    """A mapping list of these entries with these statuses."""
    pairs = zip(entries, statuses, strict=True)
    return b"".join(GREF.pack(entry.ref, entry.flags, status) for entry, status in pairs)


class GrefMappings:
    """The mappings of one queue, at most ``limit``, of references that ``otherend_id`` granted."""

    def __init__(self, hv: Hypervisor, otherend_id: int, limit: int) -> None:
        self._hv = hv
        self._otherend_id = otherend_id
        self.limit = limit
        self._mapped: dict[int, GrantMapping] = {}

    @property
    def grefs(self) -> tuple[int, ...]:
        """The references that are mapped, oldest first."""
        return tuple(self._mapped)

    def add(self, entries: Sequence[GrefEntry]) -> bool:
        """Map all entries. Returns False, with none mapped, if that is not possible.

        That is so if there are too many, if one is mapped already or named twice, if it has flags
        that do not exist, or if its grant is refused.
        """
        new: dict[int, GrantMapping] = {}
        if len(self._mapped) + len(entries) <= self.limit and self._map(entries, new):
            self._mapped.update(new)
            return True
        for mapping in new.values():
            self._hv.unmap_grant(mapping)
        return False

    def _map(self, entries: Sequence[GrefEntry], new: dict[int, GrantMapping]) -> bool:
        """Map entries into ``new``, up to the first that is refused. Returns whether all were
        mapped."""
        for entry in entries:
            known = entry.ref in self._mapped or entry.ref in new
            if known or entry.flags & ~XEN_NETIF_CTRLF_GREF_readonly:
                return False
            readonly = entry.flags & XEN_NETIF_CTRLF_GREF_readonly != 0
            try:
                new[entry.ref] = self._hv.map_grant(self._otherend_id, entry.ref, readonly)
            except HypercallError:
                return False
        return True

    def judge(self, entries: Sequence[GrefEntry]) -> list[int]:
        """The status of each entry for a removal of all of them, in order."""
        left = set(self._mapped)
        statuses = []
        for entry in entries:
            there = entry.ref in left
            left.discard(entry.ref)
            statuses.append(
                XEN_NETIF_CTRL_STATUS_SUCCESS if there else XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
            )
        return statuses

    def remove(self, entries: Sequence[GrefEntry]) -> int:
        """Unmap those of ``entries`` that are mapped. Returns their number."""
        before = len(self._mapped)
        for entry in entries:
            mapping = self._mapped.pop(entry.ref, None)
            if mapping is not None:
                self._hv.unmap_grant(mapping)
        return before - len(self._mapped)

    def clear(self) -> None:
        """Unmap everything."""
        while self._mapped:
            _, mapping = self._mapped.popitem()
            self._hv.unmap_grant(mapping)
