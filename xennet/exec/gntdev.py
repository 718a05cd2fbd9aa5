"""/dev/xen/gntdev (drivers/xen/gntdev.c of Linux): grants of other domains in a program's memory.

IOCTL_GNTDEV_MAP_GRANT_REF only takes note of references; mmap() maps them, for reading only if the
program asks for that; munmap() of a page unmaps that page, as in a PV domain. A map goes when
neither the file has it (IOCTL_GNTDEV_UNMAP_GRANT_REF, or close) nor any page of it is mapped: then
its event is sent.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from attrs import define, field

from xennet.abi.grant_table import (
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_okay,
)
from xennet.abi.linux_xen import (
    GNTDEV_GET_OFFSET_FOR_VADDR,
    GNTDEV_GRANT_COPY,
    GNTDEV_GRANT_REF,
    GNTDEV_MAP_GRANT_REF,
    GNTDEV_UNMAP_GRANT_REF,
    IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR,
    IOCTL_GNTDEV_GRANT_COPY,
    IOCTL_GNTDEV_MAP_GRANT_REF,
    IOCTL_GNTDEV_SET_UNMAP_NOTIFY,
    IOCTL_GNTDEV_UNMAP_GRANT_REF,
)
from xennet.exec.devices import (
    MAP_SHARED,
    PROT_WRITE,
    Call,
    Device,
    Mapping,
    MapRequest,
    OpenFile,
    Pages,
    of_frames,
)
from xennet.exec.grant_copy import copy_segments
from xennet.exec.unmap_notify import UnmapNotify, read_notify

_PAGE = 4096
#: The parameter "limit" of the module.
MOST_GRANTS = 64 * 1024
#: References of one file in all: Linux has no limit but its memory.
MOST_OF_A_FILE = 4 * MOST_GRANTS
#: Segments of one grant copy: Linux has no limit.
MOST_SEGMENTS = 64 * 1024


@define(eq=False, repr=False)
class GrantMap:
    """References that one ioctl named, at page ``index`` of the file.

    ``flags`` are those of the first mmap (0: there was none). While mapped, ``handles`` and
    ``frames`` have one element a page; a handle is None once its page is unmapped.
    """

    refs: Sequence[tuple[int, int]]
    index: int = 0
    flags: int = 0
    listed: bool = True
    mapped: bool = False
    handles: list[int | None] = field(factory=list)
    frames: list[int] = field(factory=list)
    notify: UnmapNotify | None = None

    @property
    def count(self) -> int:
        """Number of pages."""
        return len(self.refs)


class GntdevFile(Device):
    """One open file of /dev/xen/gntdev."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._domain = file.domain
        #: In the order of their indices.
        self._maps: list[GrantMap] = []
        self.ioctls = {
            IOCTL_GNTDEV_MAP_GRANT_REF: self._map,
            IOCTL_GNTDEV_UNMAP_GRANT_REF: self._unmap,
            IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR: self._offset,
            IOCTL_GNTDEV_SET_UNMAP_NOTIFY: self._set_notify,
            IOCTL_GNTDEV_GRANT_COPY: self._copy,
        }

    # -- ioctls ------------------------------------------------------------------------------------

    def _map(self, call: Call) -> None:
        data = call.argument()
        count, pad, _ = GNTDEV_MAP_GRANT_REF.unpack_from(data)
        if not 0 < count <= MOST_GRANTS:
            raise OSError(errno.EINVAL, f"{count} grants at once")
        if sum(map.count for map in self._maps) + count > MOST_OF_A_FILE:
            raise OSError(errno.ENOMEM, f"more than {MOST_OF_A_FILE} grants of one file")
        at, size = GNTDEV_MAP_GRANT_REF.size, GNTDEV_GRANT_REF.size
        refs = data[at : at + size]
        if count > 1:
            refs = call.client.memory.read(call.address + at, count * size)
        words = memoryview(refs).cast("I").tolist()
        new = GrantMap(list(zip(words[::2], words[1::2], strict=True)))
        self._add(new)
        call.out = GNTDEV_MAP_GRANT_REF.pack(count, pad, new.index * _PAGE)

    def _add(self, new: GrantMap) -> None:
        """Give ``new`` the first indices that are free (gntdev_add_map)."""
        for place, map in enumerate(self._maps):
            if new.index + new.count < map.index:
                self._maps.insert(place, new)
                return
            new.index = map.index + map.count
        self._maps.append(new)

    def _unmap(self, call: Call) -> None:
        index, count, _ = GNTDEV_UNMAP_GRANT_REF.unpack_from(call.argument())
        map = self._find(index // _PAGE, count)
        if map is None:
            raise OSError(errno.ENOENT, f"no map of {count} pages at {index:#x}")
        self._maps.remove(map)
        map.listed = False
        self._let_go(map)

    def _offset(self, call: Call) -> None:
        address, *_ = GNTDEV_GET_OFFSET_FOR_VADDR.unpack_from(call.argument())
        found = call.client.mapping_at(address)
        if found is None or not isinstance(found[0].tag, GrantMap):
            raise OSError(errno.EINVAL, f"no grants are mapped at {address:#x}")
        map = found[0].tag
        call.out = GNTDEV_GET_OFFSET_FOR_VADDR.pack(address, map.index * _PAGE, map.count, 0)

    def _set_notify(self, call: Call) -> None:
        index, notify = read_notify(self._domain, call.argument())
        for map in self._maps:
            if map.index * _PAGE <= index < (map.index + map.count) * _PAGE:
                break
        else:
            notify.drop()
            raise OSError(errno.ENOENT, f"no map at {index:#x}")
        if notify.clears and map.flags & GNTMAP_readonly:
            notify.drop()
            raise OSError(errno.EINVAL, "a page that is mapped for reading only")
        if map.notify is not None:
            map.notify.drop()
        notify.page, notify.offset = divmod(index - map.index * _PAGE, _PAGE)
        map.notify = notify

    def _copy(self, call: Call) -> None:
        count, address = GNTDEV_GRANT_COPY.unpack_from(call.argument())
        if count > MOST_SEGMENTS:
            raise OSError(errno.EINVAL, f"{count} segments")
        if count:
            copy_segments(self._domain, call.client.memory, address, count)

    # -- mmap and munmap ---------------------------------------------------------------------------

    def mmap(self, request: MapRequest) -> Pages:
        writable = request.prot & PROT_WRITE
        if writable and not request.flags & MAP_SHARED:
            raise OSError(errno.EINVAL, "private and writable")
        map = self._find(request.offset // _PAGE, request.count)
        if map is None or map.mapped:
            what = "it is mapped" if map is not None else "no such map"
            raise OSError(errno.EINVAL, f"{request.count} pages at {request.offset:#x}: {what}")
        if not map.flags:
            map.flags = GNTMAP_host_map | (0 if writable else GNTMAP_readonly)
        elif writable and map.flags & GNTMAP_readonly:
            raise OSError(errno.EINVAL, "it was mapped for reading only")
        self._map_grants(map)
        prot = request.prot
        if map.flags & GNTMAP_readonly:
            prot &= ~PROT_WRITE
        return of_frames(self._domain, map.frames, prot, map, payload=True)

    def _map_grants(self, map: GrantMap) -> None:
        map_grant_ref = self._domain.domain.map_grant_ref
        map.handles, map.frames = [], []
        refused = GNTST_okay
        for domid, ref in map.refs:
            status, handle, page = map_grant_ref(domid & 0xFFFF, ref, map.flags)
            refused = refused or status
            map.handles.append(None if page is None else handle)
            map.frames.append(-1 if page is None else page.first)
        map.mapped = True
        if refused != GNTST_okay:
            self._unmap_grants(map, 0, map.count)
            map.mapped = False
            raise OSError(errno.EINVAL, f"a grant cannot be mapped (status {refused})")

    def _unmap_grants(self, map: GrantMap, first: int, count: int) -> None:
        """__unmap_grant_pages."""
        # A notification may be older than the mmap for reading only: such a page is not written to.
        if map.notify is not None and not map.flags & GNTMAP_readonly:
            map.notify.unmapped(map.frames, first, count)
        running = self._domain.running
        for page in range(first, first + count):
            handle = map.handles[page]
            map.handles[page] = None
            if handle is not None and running:
                self._domain.domain.unmap_grant_ref(handle)

    def munmap(self, mapping: Mapping, first: int, count: int) -> None:
        map = mapping.tag
        self._unmap_grants(map, first, count)
        if not mapping.left:
            map.mapped = False
            self._let_go(map)

    def release(self) -> None:
        for map in self._maps:
            map.listed = False
            self._let_go(map)
        self._maps.clear()

    def _find(self, index: int, count: int) -> GrantMap | None:
        for map in self._maps:
            if map.index == index and count in (0, map.count):
                return map
        return None

    def _let_go(self, map: GrantMap) -> None:
        """gntdev_put_map: the event goes with the last user."""
        if not map.listed and not map.mapped and map.notify is not None:
            map.notify.gone()
            map.notify = None
