"""Pages granted by /dev/xen/gntalloc: the granting side of a process, which has no grant table.

A granted page is another page than the one before it, in the same place: the kernel's, which it
grants for as long as it is mapped. When it is unmapped the access ends; a page that the other
domain still uses is kept by the kernel until it is not (Linux drivers/xen/gntalloc.c).

libxengntshr is not used: it chooses the places of pages itself, and those of a frontend have to be
consecutive.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence

from xennet.abi.grant_table import GNTST_general_error, GNTST_no_space
from xennet.abi.linux_xen import (
    GNTALLOC_ALLOC_GREF,
    GNTALLOC_DEALLOC_GREF,
    GNTALLOC_FLAG_WRITABLE,
    IOCTL_GNTALLOC_ALLOC_GREF,
    IOCTL_GNTALLOC_DEALLOC_GREF,
)
from xennet.interface import HypercallError
from xennet.xen.errors import XenError, because
from xennet.xen.own_pages import OwnPages

DEVICE = "/dev/xen/gntalloc"
_LIMIT = "/sys/module/xen_gntalloc/parameters/limit"
#: Bytes of gref_ids[1] and what pads it.
_GREF_IDS = 8
_NOTHING = memoryview(b"").cast("I")


class GntallocGrants:
    """Implements xennet.interface.GuestGrants for the pages of ``pages``: shift is 0, every page is
    granted for life.

    The device is opened when the first page is granted.
    """

    words = status = _NOTHING
    shift = status_shift = 0

    def __init__(self, pages: OwnPages) -> None:
        self._pages = pages
        self._fd = -1
        self._frames: dict[int, int] = {}

    def __len__(self) -> int:
        """Number of pages that are granted."""
        return len(self._frames)

    def claim(self, count: int) -> Sequence[int]:
        """Raise HypercallError: there is no table to claim references of."""
        raise HypercallError(
            "gnttab_alloc_grant_references", GNTST_no_space, "a process has no grant table"
        )

    def grant_access(self, domid: int, frame: int, readonly: bool = False) -> int:
        """Let ``domid`` use ``frame``, whose contents are zeroes afterwards. Returns the reference.

        Raises HypercallError if the kernel refuses, XenError if it has no such device.
        """
        fd = self.open()
        flags = 0 if readonly else GNTALLOC_FLAG_WRITABLE
        request = bytearray(GNTALLOC_ALLOC_GREF.pack(domid, flags, 1, 0) + bytes(_GREF_IDS))
        try:
            fcntl.ioctl(fd, IOCTL_GNTALLOC_ALLOC_GREF, request)
        except OSError as error:
            raise self._refused(error, domid) from None
        index = GNTALLOC_ALLOC_GREF.read(request).index
        try:
            self._pages.replace(frame, fd, index)
        except OSError as error:
            raise self._refused(error, domid) from None
        finally:
            # The mapping keeps the page from now on (gntalloc.h: "the page will be freed when all
            # are unmapped").
            fcntl.ioctl(fd, IOCTL_GNTALLOC_DEALLOC_GREF, GNTALLOC_DEALLOC_GREF.pack(index, 1))
        gref = int.from_bytes(request[GNTALLOC_ALLOC_GREF.size :][:4], "little")
        self._frames[gref] = frame
        return gref

    def end_access(self, gref: int) -> bool:
        """Unmap the page of ``gref``; a zeroed one that nobody else has takes its place. Returns
        True: the kernel keeps a page that is in use."""
        self._pages.restore(self._frames.pop(gref))
        return True

    def end_all(self, grefs: Sequence[int]) -> Sequence[int]:
        """The same for each of ``grefs``. Returns none."""
        return [gref for gref in grefs if not self.end_access(gref)]

    def close(self) -> None:
        """End all access."""
        for gref in list(self._frames):
            self.end_access(gref)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def open(self) -> int:
        """Open the device if it is not open yet. Returns its descriptor. Raises XenError."""
        if self._fd < 0:
            try:
                self._fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise XenError(
                    f"{DEVICE}: {because(error.errno or 0)}; the module is xen-gntalloc"
                ) from None
        return self._fd

    def _refused(self, error: OSError, domid: int) -> HypercallError:
        number = error.errno or errno.EIO
        what = f"{DEVICE}: a page for domain {domid}: {because(number)}"
        if number == errno.ENOSPC:
            what += f"; {len(self._frames)} are granted by this process, see {_LIMIT}"
            return HypercallError("GNTTABOP_grant_access", GNTST_no_space, what)
        return HypercallError("GNTTABOP_grant_access", GNTST_general_error, what)
