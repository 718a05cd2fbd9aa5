"""/dev/xen/gntalloc (drivers/xen/gntalloc.c of Linux): pages of a program, granted to another
domain.

A page is a frame of the domain's own. It is freed when neither the file has it
(IOCTL_GNTALLOC_DEALLOC_GREF, or close) nor a program has it mapped nor the other domain uses it.
"""

from __future__ import annotations

import errno
import struct

from attrs import define

from xennet.abi.linux_xen import (
    GNTALLOC_ALLOC_GREF,
    GNTALLOC_DEALLOC_GREF,
    GNTALLOC_FLAG_WRITABLE,
    IOCTL_GNTALLOC_ALLOC_GREF,
    IOCTL_GNTALLOC_DEALLOC_GREF,
    IOCTL_GNTDEV_SET_UNMAP_NOTIFY,
)
from xennet.exec.devices import (
    MAP_SHARED,
    Call,
    Device,
    Mapping,
    MapRequest,
    OpenFile,
    Pages,
    of_frames,
)
from xennet.exec.unmap_notify import UnmapNotify, read_notify
from xennet.interface import HypercallError, OutOfFramesError
from xennet.memory import PageRun

_PAGE = 4096
#: The parameter "limit" of the module: pages of one domain.
MOST_PAGES = 1024


@define(eq=False, repr=False)
class GrantedPage:
    """A page granted as ``gref``, at byte ``index`` of its file. ``users``: the file, and each
    mapping of the page."""

    gref: int
    page: PageRun
    index: int
    users: int = 1
    notify: UnmapNotify | None = None


class GntallocFile(Device):
    """One open file of /dev/xen/gntalloc."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._domain = file.domain
        self._pages: dict[int, GrantedPage] = {}
        self._next = 0
        self.ioctls = {
            IOCTL_GNTALLOC_ALLOC_GREF: self._alloc,
            IOCTL_GNTALLOC_DEALLOC_GREF: self._dealloc,
            IOCTL_GNTDEV_SET_UNMAP_NOTIFY: self._set_notify,
        }

    # -- ioctls ------------------------------------------------------------------------------------

    def _alloc(self, call: Call) -> None:
        domid, flags, count, _ = GNTALLOC_ALLOC_GREF.unpack_from(call.argument())
        domain = self._domain
        domain.clean_up()
        if domain.gntalloc_pages + count > MOST_PAGES:
            raise OSError(errno.ENOSPC, f"{count} pages more than the limit of {MOST_PAGES} allows")
        made: list[GrantedPage] = []
        try:
            for nr in range(count):
                page = domain.domain.alloc_pages(1)
                domain.gntalloc_pages += 1
                readonly = not flags & GNTALLOC_FLAG_WRITABLE
                try:
                    gref = domain.grants.grant_access(domid, page.first, readonly)
                except HypercallError:
                    domain.domain.free_pages(page)
                    domain.gntalloc_pages -= 1
                    raise
                made.append(GrantedPage(gref, page, self._next + nr * _PAGE))
        except (HypercallError, OutOfFramesError) as error:
            domain.give_up([(one.gref, one.page) for one in made])
            full = isinstance(error, OutOfFramesError)
            raise OSError(errno.ENOMEM if full else errno.ENOSPC, str(error)) from None
        index = self._next
        self._next += count * _PAGE
        self._pages |= {one.index: one for one in made}
        grefs = struct.pack(f"={count}I", *(one.gref for one in made))
        head = GNTALLOC_ALLOC_GREF.pack(domid, flags, count, index)
        room = len(call.data or b"") - len(head)
        call.out = (head + grefs)[: len(head) + room]
        if len(grefs) > room:
            call.client.memory.write(call.address + len(head), grefs)

    def _dealloc(self, call: Call) -> None:
        index, count = GNTALLOC_DEALLOC_GREF.unpack_from(call.argument())
        found = self._find(index, count)
        if found is None:
            raise OSError(errno.EINVAL, f"no {count} pages at {index:#x}")
        for page in found:
            del self._pages[page.index]
            self._put(page)
        self._domain.clean_up()

    def _set_notify(self, call: Call) -> None:
        index, notify = read_notify(self._domain, call.argument())
        found = self._pages.get(index - index % _PAGE)
        if found is None:
            notify.drop()
            raise OSError(errno.ENOENT, f"no page at {index:#x}")
        if found.notify is not None:
            found.notify.drop()
        notify.offset = index % _PAGE
        found.notify = notify

    def _find(self, index: int, count: int) -> list[GrantedPage] | None:
        """``count`` pages at consecutive indices from ``index`` on (find_grefs)."""
        if count > len(self._pages):
            return None
        found = [self._pages.get(index + nr * _PAGE) for nr in range(count)]
        return None if not found or None in found else [one for one in found if one is not None]

    # -- mmap and munmap ---------------------------------------------------------------------------

    def mmap(self, request: MapRequest) -> Pages:
        if not request.flags & MAP_SHARED:
            raise OSError(errno.EINVAL, "a private mapping")
        found = self._find(request.offset, request.count)
        if found is None:
            raise OSError(errno.ENOENT, f"no {request.count} pages at {request.offset:#x}")
        for page in found:
            page.users += 1
        frames = [one.page.first for one in found]
        return of_frames(self._domain, frames, request.prot, found, payload=True)

    def munmap(self, mapping: Mapping, first: int, count: int) -> None:
        for page in mapping.tag[first : first + count]:
            self._put(page)

    def release(self) -> None:
        for page in self._pages.values():
            self._put(page)
        self._pages.clear()

    def _put(self, page: GrantedPage) -> None:
        page.users -= 1
        if page.users:
            return
        if page.notify is not None:
            page.notify.unmapped([page.page.first], 0, 1)
            page.notify.gone()
        self._domain.give_up([(page.gref, page.page)])
