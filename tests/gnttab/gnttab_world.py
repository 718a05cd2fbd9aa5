"""A machine with a few domains and nothing but grant tables, and short ways to say things to it."""

from __future__ import annotations

from dataclasses import dataclass

from xennet.abi.grant_table import (
    GNTST_NAMES,
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GTF_reading,
    GTF_writing,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.gnttab.directory import DomainDirectory
from xennet.gnttab.hypercalls import GrantTables
from xennet.gnttab.table import GrantTable
from xennet.memory import AddressSpace, Memory, PageRun

READ, WRITE = GTF_reading, GTF_reading | GTF_writing
COPY_SIZE = GNTTAB_COPY_BY_FLAGS[0].size


@dataclass(frozen=True)
class Ref:
    """One end of a copy: a grant reference."""

    domid: int
    gref: int
    offset: int = 0


@dataclass(frozen=True)
class Own:
    """One end of a copy: a frame number, the caller's own unless domid says otherwise."""

    frame: int
    offset: int = 0
    domid: int = DOMID_SELF


def element(source: Ref | Own, dest: Ref | Own, length: int, extra_flags: int = 0) -> bytes:
    """A struct gnttab_copy whose status says that nobody looked at it."""
    flags = (GNTCOPY_source_gref if isinstance(source, Ref) else 0) | (
        GNTCOPY_dest_gref if isinstance(dest, Ref) else 0
    )
    ends = []
    for end in (source, dest):
        ends += [end.gref if isinstance(end, Ref) else end.frame, end.domid, end.offset]
    return GNTTAB_COPY_BY_FLAGS[flags].pack(*ends, length, flags | extra_flags, 0x7777)


def status_name(status: int) -> str:
    """okay, general_error, ... as tests name them."""
    return GNTST_NAMES[status].removeprefix("GNTST_")


class World:
    """Domains 0, 1, ...: domain n has a table of version ``versions[n]`` and one page, ``page[n]``,
    filled with the byte 0x10 * n + 1. Frames below ``first_frame`` are of no domain here."""

    def __init__(
        self, versions: tuple[int, ...] = (1, 1, 1), max_frames: int = 4, first_frame: int = 1
    ) -> None:
        self.memory = Memory(512)
        self.spaces = {domid: AddressSpace(self.memory, domid) for domid in range(16)}
        self.hypervisor = GrantTables(
            self.memory, DomainDirectory(), max_frames, spaces=self.spaces.__getitem__
        )
        self.table: dict[int, GrantTable] = {}
        self.page: dict[int, int] = {}
        self.memory.alloc(15, first_frame)
        for domid, version in enumerate(versions):
            self.hypervisor.create(domid, version)
            self.table[domid] = self.guest_table(domid)
            self.page[domid] = self.new_page(domid, 0x10 * domid + 1)

    def views(self, domid: int, nr_frames: int) -> tuple[PageRun, PageRun | None]:
        """What a guest that wants a table of so many frames sees of it."""
        status, frames = self.hypervisor.setup_table(domid, DOMID_SELF, nr_frames)
        assert status == 0
        space, shared = self.spaces[domid], self.spaces[domid].run(frames[0], nr_frames)
        if self.hypervisor.get_version(domid, DOMID_SELF) == 1:
            return shared, None
        _, frames = self.hypervisor.get_status_frames(domid, DOMID_SELF, (nr_frames + 7) // 8)
        return shared, space.run(frames[0], len(frames))

    def guest_table(self, domid: int, **options: object) -> GrantTable:
        """The domain's own view of its table."""
        version = self.hypervisor.get_version(domid, DOMID_SELF)
        shared, status = self.views(domid, 1)
        return GrantTable(shared, version, status, **options)  # type: ignore[arg-type]

    def new_page(self, domid: int, byte: int = 0) -> int:
        """A further page of a domain, filled with ``byte``."""
        frame = self.memory.alloc(domid)
        self.fill(frame, bytes([byte]) * PAGE_SIZE)
        return frame

    def fill(self, frame: int, data: bytes, offset: int = 0) -> None:
        start = frame * PAGE_SIZE + offset
        self.memory.u8[start : start + len(data)] = data

    def bytes_of(self, frame: int, offset: int = 0, length: int = PAGE_SIZE) -> bytes:
        start = frame * PAGE_SIZE + offset
        return bytes(self.memory.u8[start : start + length])

    def marks(self, domid: int, gref: int) -> int:
        """GTF_reading and GTF_writing, as the granter sees them."""
        table = self.table[domid]
        return table.status[gref << table.status_shift] & (GTF_reading | GTF_writing)

    def pins(self, domid: int) -> dict[int, int]:
        return {grant.gref: grant.pin for grant in self.hypervisor.pinned(domid)}

    def map(self, caller: int, domid: int, gref: int, flags: int = GNTMAP_host_map) -> int:
        """Map, which must succeed; returns the handle."""
        status, handle, _ = self.hypervisor.map_grant_ref(caller, domid, gref, flags)
        assert status_name(status) == "okay"
        return handle

    def map_status(self, caller: int, domid: int, gref: int, flags: int = GNTMAP_host_map) -> str:
        """Try to map something that cannot be mapped: the name of the refusal."""
        status, handle, frame = self.hypervisor.map_grant_ref(caller, domid, gref, flags)
        assert (handle, frame) == (-1, -1)
        return status_name(status)

    def copy(self, caller: int, *elements: bytes) -> list[str]:
        """GNTTABOP_copy; the names of the statuses."""
        table = bytearray(b"".join(elements))
        self.hypervisor.copy(caller, memoryview(table).cast("I"), len(elements))
        statuses = []
        for i in range(len(elements)):
            (status,) = GNTTAB_COPY_BY_FLAGS[0].unpack_from(table, i * COPY_SIZE)[-1:]
            statuses.append(status_name(status))
        return statuses


READONLY_MAP = GNTMAP_host_map | GNTMAP_readonly
