"""Grants of other domains through libxengnttab: mapped pages, and batched copies."""

from __future__ import annotations

import ctypes
import errno
import mmap
from array import array
from contextlib import ExitStack
from typing import Any

from attrs import frozen

from xennet.abi.grant_table import GNTST_bad_handle, GNTST_general_error
from xennet.abi.words import COPY_STRIDE
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import current
from xennet.interface import GrantMapping, HypercallError
from xennet.memory import PageRun
from xennet.xen.copy_segments import SEGMENT_STRIDE, fail_all, put_segments, take_statuses
from xennet.xen.errors import XenError, because
from xennet.xen.libraries import library, quiet_logger
from xennet.xen.own_pages import OwnPages

DEVICE = "/dev/xen/gntdev"
#: Copy tables whose views are kept: two for each queue of a busy backend.
_TABLES = 64


@frozen(eq=False)
class ForeignPage:
    """A page of another domain, mapped through grant ``gref`` of domain ``domid`` (interface
    GrantMapping)."""

    domid: int
    gref: int
    page: PageRun
    address: int


class Gntdev:
    """The device, opened when it is first needed. ``failed`` counts calls for copies that failed as
    a whole, ``failure`` is the errno of the last one."""

    def __init__(self, pages: OwnPages) -> None:
        self._pages = pages
        self._handle: int | None = None
        self._library: Any = None
        self._mapped: set[ForeignPage] = set()
        self.failed = self.failure = 0
        engine = current()
        self._view = engine.view
        self._put = engine.kernel(put_segments)
        self._take = engine.kernel(take_statuses)
        self._fail = engine.kernel(fail_all)
        self._arena: Any = engine.view(pages.u8)
        self._tables: dict[int, tuple[memoryview, Any]] = {}
        self._segments = array("I")
        self._of_segments: Any = None

    def __len__(self) -> int:
        """Number of pages that are mapped."""
        return len(self._mapped)

    def map(self, domid: int, gref: int, readonly: bool) -> ForeignPage:
        """Map a page. Raises HypercallError if it is refused: the device does not say more than
        EINVAL. Raises XenError if there is no such device."""
        access = mmap.PROT_READ | (0 if readonly else mmap.PROT_WRITE)
        handle, ctypes_errno = self.open(), ctypes.get_errno
        address = self._library.xengnttab_map_grant_ref(handle, domid, gref, access)
        if address is None:
            raise _refused("GNTTABOP_map_grant_ref", domid, gref, ctypes_errno())
        octets = memoryview((ctypes.c_ubyte * PAGE_SIZE).from_address(address)).cast("B")
        u8 = octets.toreadonly() if readonly else octets
        # No frame of the arena: copies do not take it for one of the process's own pages.
        first = address // PAGE_SIZE
        page = PageRun(first, 1, u8, u8.cast("H"), u8.cast("I"), u8.cast("Q"))
        mapping = ForeignPage(domid, gref, page, address)
        self._mapped.add(mapping)
        return mapping

    def unmap(self, mapping: GrantMapping) -> None:
        """Unmap a page that :meth:`map` returned; its views end. Raises HypercallError."""
        op = "GNTTABOP_unmap_grant_ref"
        if not isinstance(mapping, ForeignPage) or mapping not in self._mapped:
            what = f"reference {mapping.gref} of domain {mapping.domid} is not mapped"
            raise HypercallError(op, GNTST_bad_handle, what)
        self._mapped.remove(mapping)
        mapping.page.revoke()
        if self._library.xengnttab_unmap(self._handle, mapping.address, 1):
            raise _refused(op, mapping.domid, mapping.gref, ctypes.get_errno())

    def copy(self, ops: memoryview, count: int) -> None:
        """GNTTABOP_copy through IOCTL_GNTDEV_GRANT_COPY; statuses are written into ``ops``.

        If the call fails as a whole, so has every copy. Raises XenError if there is no such device.
        """
        table = self._table(ops)
        if len(self._segments) < count * SEGMENT_STRIDE:
            self._segments = array("I", bytes(4 * SEGMENT_STRIDE * len(ops) // COPY_STRIDE))
            self._of_segments = self._view(self._segments)
        segments, pages = self._of_segments, self._pages
        self._put(count, table, segments, self._arena, pages.base, pages.nr_frames)
        address, _ = self._segments.buffer_info()
        handle = self.open()
        while self._library.xengnttab_grant_copy(handle, count, address):
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            self.failed, self.failure = self.failed + 1, number
            self._fail(count, table, GNTST_general_error & 0xFFFF)
            return
        self._take(count, table, segments)

    def close(self) -> None:
        """Unmap everything and close the device. May be repeated. Raises HypercallError if a page
        is refused; all else is done nevertheless."""
        with ExitStack() as rest:
            if self._handle is not None:
                rest.callback(setattr, self, "_handle", None)
                rest.callback(self._library.xengnttab_close, self._handle)
            for mapping in self._mapped:
                rest.callback(self.unmap, mapping)
            self._tables.clear()
            self._arena = None

    def _table(self, ops: memoryview) -> Any:
        """The view of a copy table, which is the same one for each pass of a queue."""
        known = self._tables.get(id(ops))
        if known is None or known[0] is not ops:
            if len(self._tables) >= _TABLES:
                self._tables.clear()
            known = self._tables[id(ops)] = ops, self._view(ops)
        return known[1]

    def open(self) -> int:
        """Open the device if it is not open yet. Returns the library's handle. Raises XenError."""
        if self._handle is None:
            self._library = library("libxengnttab.so.1")
            self._handle = self._library.xengnttab_open(quiet_logger(), 0)
            if self._handle is None:
                number = ctypes.get_errno()
                raise XenError(f"{DEVICE}: {because(number)}; the module is xen-gntdev")
        return self._handle


def _refused(op: str, domid: int, gref: int, number: int) -> HypercallError:
    what = f"{DEVICE}: reference {gref} of domain {domid}: {because(number)}"
    return HypercallError(op, GNTST_general_error, what)
