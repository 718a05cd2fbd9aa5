"""What control messages carry in a page of the frontend: copied to private memory, and back.

The frontend may rewrite its page at any time, so nothing in it is judged where it lies.
"""

from __future__ import annotations

from xennet.abi.grant_table import (
    GNTTAB_COPY,
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_okay,
)
from xennet.abi.xen import DOMID_SELF
from xennet.interface import Hypervisor


class ControlPage:
    """A page of our own, and grant copies between it and pages of domain ``otherend_id``."""

    def __init__(self, hv: Hypervisor, otherend_id: int) -> None:
        self._hv = hv
        self._otherend_id = otherend_id
        self._page = hv.alloc_pages(1)
        self._op = bytearray(GNTTAB_COPY.size)

    def free(self) -> None:
        """Give the page back; nothing can be copied any more."""
        self._hv.free_pages(self._page)

    def fetch(self, gref: int, length: int) -> bytes | None:
        """The first ``length`` bytes (at most a page) behind ``gref``; None if it is refused.

        Nothing is asked for a length of 0.
        """
        theirs, ours = (gref, self._otherend_id, 0), (self._page.first, DOMID_SELF, 0)
        if length and not self._copy(GNTCOPY_source_gref, theirs, ours, length):
            return None
        return bytes(self._page.u8[:length])

    def store(self, gref: int, data: bytes) -> bool:
        """Write ``data`` (at most a page) to the page behind ``gref``; False if it is refused."""
        theirs, ours = (gref, self._otherend_id, 0), (self._page.first, DOMID_SELF, 0)
        self._page.u8[: len(data)] = data
        return not data or self._copy(GNTCOPY_dest_gref, ours, theirs, len(data))

    def _copy(
        self, flags: int, source: tuple[int, int, int], dest: tuple[int, int, int], length: int
    ) -> bool:
        codec = GNTTAB_COPY_BY_FLAGS[flags]
        codec.pack_into(self._op, 0, *source, *dest, length, flags, 0)
        self._hv.grant_copy(memoryview(self._op).cast("I"), 1)
        status: int = codec.read(self._op).status
        return status == GNTST_okay
