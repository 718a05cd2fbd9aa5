"""The hypervisor's side of grant tables: every GNTTABOP_ operation, for all domains.

State is flat where kernels need it (:mod:`xennet.gnttab.directory`, :mod:`xennet.gnttab.entry`) and
lives in frames of the arena:

* the shared table, a run of ``max_frames`` consecutive frames. Those in use belong to the domain,
  like Xen's xenheap pages shared with a guest; the rest of the run belongs to DOMID_XEN, which
  nobody can reach, until GNTTABOP_setup_table grows the table into it;
* the status words of a version 2 table, the same way;
* the active entries, DOMID_XEN's for good.

Operations take the calling domain first and refuse in Xen's order of checks (the functions are
named after those of xen/common/grant_table.c). Refusals are GNTST_ codes, or negative errnos where
the public header has no status field (set_version, get_version).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, KeysView
from functools import lru_cache
from typing import Any, NamedTuple

from attrs import define, field

from xennet.abi.grant_table import (
    GNTTAB_NR_RESERVED_ENTRIES,
    GRANT_ENTRIES_V1_PER_PAGE,
    GRANT_ENTRIES_V2_PER_PAGE,
    GRANT_STATUS_PER_PAGE,
    GNTMAP_application_map,
    GNTMAP_contains_pte,
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_eagain,
    GNTST_general_error,
    GNTST_no_device_space,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_accept_transfer,
    GTF_invalid,
    GTF_permit_access,
    GTF_reading,
    GTF_transfer_committed,
    GTF_transfer_completed,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)
from xennet.abi.words import COPY_STRIDE
from xennet.abi.xen import DOMID_SELF, DOMID_XEN, PAGE_SIZE
from xennet.engine.choice import current, shared
from xennet.engine.kernel import alone, compare_and_swap, fetch_or
from xennet.gnttab.copy import grant_copy
from xennet.gnttab.copy_table import CopyTable
from xennet.gnttab.directory import (
    ALIVE,
    DYING,
    NONE,
    NR_DOMIDS,
    ROW_ACTIVE,
    ROW_COPIED,
    ROW_ENTRIES,
    ROW_SHARED,
    ROW_STATE,
    ROW_STATUS,
    ROW_VERSION,
    ROW_WORDS,
    DomainDirectory,
)
from xennet.gnttab.entry import (
    ACTIVE_BOUNDS,
    ACTIVE_DOMID,
    ACTIVE_FRAME,
    ACTIVE_PIN,
    ACTIVE_SHIFT,
    ACTIVE_SUB_PAGE,
    ACTIVE_WORDS,
    MAP_MASK,
    WORDS_PER_PAGE,
    GNTPIN_devr_inc,
    GNTPIN_devw_inc,
    GNTPIN_hstr_inc,
    GNTPIN_hstw_inc,
    GNTPIN_oflow_shift,
    GNTPIN_w_mask,
    HEADER_S_domid,
    active_word,
    entry_word,
    granted_frame,
    owns,
    reduce_status,
    set_status,
    status_half,
)
from xennet.interface import OutOfFramesError
from xennet.memory import AddressSpace, Memory

#: Called after every operation with caller, GNTTABOP_ name, arguments and result.
GrantObserver = Callable[[int, str, tuple[object, ...], object], None]

#: Xen's default bound of mappings per domain: 1024 frames of 16-byte maptrack entries.
MAX_MAPTRACK = 1024 * PAGE_SIZE // 16

_ENTRIES_PER_FRAME = {1: GRANT_ENTRIES_V1_PER_PAGE, 2: GRANT_ENTRIES_V2_PER_PAGE}

# By (device or host, readonly).
_PIN_INCREMENTS = (
    (GNTMAP_device_map, GNTPIN_devw_inc, GNTPIN_devr_inc),
    (GNTMAP_host_map, GNTPIN_hstw_inc, GNTPIN_hstr_inc),
)


class Mapping(NamedTuple):
    """A page that a domain has mapped: ``gref`` of ``domid``, which is page ``frame``.

    ``flags`` are the GNTMAP_ flags of the map call.
    """

    handle: int
    domid: int
    gref: int
    frame: int
    flags: int


class Grant(NamedTuple):
    """An entry of a domain's own table.

    ``domid`` is the grantee, ``flags`` the GTF_ flags including version 2's status word, ``pin``
    the use counts of :mod:`xennet.gnttab.entry`. For a pinned entry ``domid`` and ``frame`` are
    those from when it was pinned.
    """

    gref: int
    domid: int
    frame: int
    flags: int
    pin: int


@define
class GrantStatistics:
    """Counters of grant operations: ``mapped``: mappings that exist now; ``maps``: mappings ever
    made; ``copies``: elements of GNTTABOP_copy that succeeded; ``copied_bytes``: bytes that they
    moved."""

    mapped: int = 0
    maps: int = 0
    copies: int = 0
    copied_bytes: int = 0


@define(eq=False, repr=False)
class _Table:
    """The hypervisor's state of one domain's table, beside its directory row.

    ``frames`` of the shared table are in use; ``handles`` is Xen's maptrack: the mappings that
    *this* domain has made, and the handles that are free again.
    """

    frames: int = 1
    status_run: int = 0
    status_run_frames: int = 0
    destroyed: bool = False
    handles: dict[int, Mapping] = field(factory=dict)
    free_handles: list[int] = field(factory=list)
    next_handle: int = 0


class GrantTables:
    """All grant tables of a machine and the operations on them.

    ``spaces(domid)`` is the :class:`AddressSpace` in which that domain's mappings appear.
    ``observer`` is called after each operation unless None. ``copy_args`` are the arguments of the
    copy kernel besides the table and its caller. ``released(frame)`` is called when the last
    mapping of a frame has gone, so that the pages of dead domains can be freed.
    """

    def __init__(
        self,
        memory: Memory,
        directory: DomainDirectory,
        max_frames: int = 64,
        *,
        spaces: Callable[[int], AddressSpace],
        max_maptrack: int = MAX_MAPTRACK,
        released: Callable[[int], None] | None = None,
    ) -> None:
        if max_frames < 1:
            raise ValueError(f"a grant table needs at least one frame, not {max_frames}")
        self.directory = directory
        self.max_frames = max_frames
        self.max_maptrack = max_maptrack
        self.observer: GrantObserver | None = None
        self.released = released
        self.statistics = GrantStatistics()
        self._memory = memory
        self._spaces = spaces
        self._tables: dict[int, _Table] = {}
        self._mapped_frames: dict[int, int] = {}
        engine = current()
        self._view = engine.view
        self._copy = engine.kernel(grant_copy)
        u8, self._u16, self._u32 = (
            shared(part, "arena") for part in (memory.u8, memory.u16, memory.u32)
        )
        arena = (u8, self._u16, self._u32)
        self._copy_views = tuple(map(engine.view, (directory.rows, memory.owner, *arena)))

    def __repr__(self) -> str:
        return f"<GrantTables of domains {sorted(self._tables)}>"

    @property
    def copy_args(self) -> tuple[Any, ...]:
        """The arguments of the copy kernel that are the machine's, as they are now."""
        return (*self._copy_views, int(alone(self._u32)))

    # -- life of a domain ---------------------------------------------------------------------

    def create(self, domid: int, version: int = 1) -> None:
        """Give a new domain a table of one frame.

        Raises ValueError for a domid that is taken or impossible and for an unknown version,
        OutOfFramesError when the arena is full; nothing is kept then.
        """
        if version not in _ENTRIES_PER_FRAME:
            raise ValueError(f"domain {domid}: there is no grant table version {version!r}")
        if not 0 <= domid < NR_DOMIDS or self.directory.state(domid) != NONE:
            raise ValueError(f"domain {domid}: not a free domain id")
        memory, rows, row = self._memory, self.directory.rows, domid * ROW_WORDS
        shared = memory.alloc(DOMID_XEN, self.max_frames)
        try:
            active = memory.alloc(DOMID_XEN, self._active_frames)
        except BaseException:
            memory.free(DOMID_XEN, shared, self.max_frames)
            raise
        table = _Table()
        memory.reassign(DOMID_XEN, shared, domid)
        rows[row + ROW_SHARED] = shared
        rows[row + ROW_ACTIVE] = active
        rows[row + ROW_VERSION] = 1
        rows[row + ROW_ENTRIES] = GRANT_ENTRIES_V1_PER_PAGE
        rows[row + ROW_COPIED] = rows[row + ROW_COPIED + 1] = 0
        rows[row + ROW_STATE] = ALIVE
        self._tables[domid] = table
        if version == 2:
            try:
                self._populate_status(domid, table)
            except BaseException:
                self._free(domid, table)
                raise
            rows[row + ROW_VERSION] = 2
            rows[row + ROW_ENTRIES] = GRANT_ENTRIES_V2_PER_PAGE

    def begin_dying(self, domid: int) -> None:
        """Refuse transfers of pages to the domain from now on; it is still found by its id."""
        self.directory.rows[domid * ROW_WORDS + ROW_STATE] = DYING

    def destroy(self, domid: int) -> bool:
        """Unmap every mapping of the domain and free its table. Returns whether the table is freed.

        While others still have pages of it mapped the table is kept and the domain stays DYING; the
        last of those unmaps frees it. :meth:`pinned` names the pages which must stay until then.
        """
        table = self._tables[domid]
        if not table.destroyed:
            table.destroyed = True
            self.begin_dying(domid)
            for mapping in list(table.handles.values()):
                self._unmap(domid, table, mapping)
        return self._free_if_unused(domid, table)

    def table_frames(self, domid: int) -> list[int]:
        """The domain's own frames that hold its table and status words."""
        table = self._tables[domid]
        rows, row = self.directory.rows, domid * ROW_WORDS
        first = rows[row + ROW_SHARED]
        frames = list(range(first, first + table.frames))
        return frames + list(range(table.status_run, table.status_run + self._nr_status(domid)))

    # -- GNTTABOP_map_grant_ref, GNTTABOP_unmap_grant_ref ----------------------------------------

    def map_grant_ref(self, caller: int, dom: int, ref: int, flags: int) -> tuple[int, int, int]:
        """Map one page. Returns (status, handle, frame); handle and frame are -1 unless GNTST_okay.

        ``flags``: GNTMAP_host_map and/or GNTMAP_device_map, optionally GNTMAP_readonly. The machine
        gives domains no page tables to edit, so GNTMAP_contains_pte and GNTMAP_application_map are
        refused as Xen refuses them to translated guests.
        """
        result = self._map(caller, dom, ref, flags)
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_map_grant_ref", (dom, ref, flags), result)
        return result

    def unmap_grant_ref(self, caller: int, handle: int) -> int:
        """Undo one map call, by its handle. Returns a status."""
        table = self._tables[caller]
        mapping = table.handles.get(handle)
        status = GNTST_bad_handle
        if mapping is not None:
            self._unmap(caller, table, mapping)
            status = GNTST_okay
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_unmap_grant_ref", (handle,), status)
        return status

    # -- GNTTABOP_copy ---------------------------------------------------------------------------

    def copy(self, caller: int, ops: memoryview, count: int) -> None:
        """Run ``count`` struct gnttab_copy in ``ops`` (u32 words); each gets its own status.

        Raises ValueError when ``ops`` is shorter than ``count`` elements, before any is run.
        """
        if not 0 <= count * COPY_STRIDE <= len(ops):
            raise ValueError(f"{count} copy elements do not fit a table of {len(ops)} words")
        rows, copied = self.directory.rows, caller * ROW_WORDS + ROW_COPIED
        before = rows[copied]
        failed = self._copy(self._view(ops), count, caller, *self.copy_args)
        statistics = self.statistics
        statistics.copies += count - failed
        statistics.copied_bytes += rows[copied] - before & 0xFFFFFFFF
        if self.observer is not None:
            table = CopyTable(ops[: count * COPY_STRIDE])
            self.observer(caller, "GNTTABOP_copy", (count, table), failed)

    def copied_bytes(self, domid: int) -> int:
        """The bytes that GNTTABOP_copy calls of ``domid`` have moved."""
        word = domid * ROW_WORDS + ROW_COPIED
        return self.directory.rows[word] | self.directory.rows[word + 1] << 32

    # -- GNTTABOP_transfer -----------------------------------------------------------------------

    def transfer(self, caller: int, frame: int, dom: int, ref: int) -> int:
        """Give one page to the domain that offers ``ref`` for it (GTF_accept_transfer). Returns a
        status.

        As the header says, the page no longer belongs to the caller, even when this fails, unless
        the status is GNTST_bad_page. The caller must not use views of the page any more.
        """
        status = self._transfer(caller, frame, dom, ref)
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_transfer", (frame, dom, ref), status)
        return status

    # -- the table itself ------------------------------------------------------------------------

    def query_size(self, caller: int, dom: int) -> tuple[int, int, int]:
        """Returns (status, frames in use, most frames) of a table."""
        domid, status = self._target(caller, dom)
        result = (status, 0, 0)
        if status == GNTST_okay:
            result = (status, self._tables[domid].frames, self.max_frames)
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_query_size", (dom,), result)
        return result

    def setup_table(self, caller: int, dom: int, nr_frames: int) -> tuple[int, list[int]]:
        """Grow the table to ``nr_frames`` if it is smaller. Returns (status, its first frame
        numbers).

        The frames are consecutive. The status is GNTST_general_error beyond ``max_frames``.
        """
        domid, status = self._target(caller, dom)
        frames: list[int] = []
        if status == GNTST_okay and nr_frames > self.max_frames:
            status = GNTST_general_error
        if status == GNTST_okay:
            self._grow(domid, nr_frames)
            first = self.directory.rows[domid * ROW_WORDS + ROW_SHARED]
            frames = list(range(first, first + nr_frames))
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_setup_table", (dom, nr_frames), (status, frames))
        return status, frames

    def get_status_frames(self, caller: int, dom: int, nr_frames: int) -> tuple[int, list[int]]:
        """Returns (status, the first ``nr_frames`` frames of version 2 status words)."""
        domid, status = self._target(caller, dom)
        frames: list[int] = []
        if status == GNTST_okay and nr_frames > self._nr_status(domid):
            status = GNTST_general_error
        if status == GNTST_okay:
            first = self._tables[domid].status_run
            frames = list(range(first, first + nr_frames))
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_get_status_frames", (dom, nr_frames), (status, frames))
        return status, frames

    def get_version(self, caller: int, dom: int) -> int:
        """The version of a table, 1 or 2; else -ESRCH or -EPERM."""
        domid, status = self._target(caller, dom)
        if status == GNTST_okay:
            result = self.directory.rows[domid * ROW_WORDS + ROW_VERSION]
        else:
            result = -errno.ESRCH if status == GNTST_bad_domain else -errno.EPERM
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_get_version", (dom,), result)
        return result

    def set_version(self, caller: int, version: int) -> int:
        """Change the layout of the caller's table. Returns 0 or a negative errno.

        EINVAL: no such version; EBUSY: an entry beyond the reserved references is in use; ERANGE: a
        reserved entry cannot be expressed in version 1; ENOMEM: the arena is full. The reserved
        entries are kept, all others cleared.
        """
        result = self._set_version(caller, version)
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_set_version", (version,), result)
        return result

    def swap_grant_ref(self, caller: int, ref_a: int, ref_b: int) -> int:
        """Swap two unused entries of the caller's table. Returns a status, GNTST_eagain while
        either is used."""
        status = self._swap(caller, ref_a, ref_b)
        if self.observer is not None:
            self.observer(caller, "GNTTABOP_swap_grant_ref", (ref_a, ref_b), status)
        return status

    # -- who holds what ------------------------------------------------------------------------

    def mappings(self, domid: int) -> list[Mapping]:
        """The mappings of ``domid``, in the order of the map calls."""
        return list(self._tables[domid].handles.values())

    def pinned(self, domid: int) -> list[Grant]:
        """The references of ``domid``'s table that are in use now, whatever its entries say."""
        return [self._grant(domid, gref) for gref in self._pinned(domid)]

    def granted(self, domid: int) -> list[Grant]:
        """The entries of ``domid``'s table that are valid or in use."""
        rows, row = self.directory.rows, domid * ROW_WORDS
        u32, pinned = self._memory.u32, set(self._pinned(domid))
        return [
            self._grant(domid, gref)
            for gref in range(rows[row + ROW_ENTRIES])
            if gref in pinned or u32[entry_word(rows, row, gref)] & GTF_type_mask != GTF_invalid
        ]

    def grant(self, domid: int, gref: int) -> Grant | None:
        """Entry ``gref`` of ``domid``'s table, whatever is in it; None if the table has no such
        entry."""
        row = self.directory.row(domid)
        if row < 0 or not 0 <= gref < self.directory.rows[row + ROW_ENTRIES]:
            return None
        return self._grant(domid, gref)

    @property
    def mapped_frames(self) -> KeysView[int]:
        """The frames that any domain has mapped."""
        return self._mapped_frames.keys()

    def frame_mappings(self, frame: int) -> int:
        """The number of mappings of a frame, in all domains together."""
        return self._mapped_frames.get(frame, 0)

    # -- map and unmap, inside -------------------------------------------------------------------

    def _map(self, caller: int, dom: int, ref: int, flags: int) -> tuple[int, int, int]:
        """Xen map_grant_ref."""
        memory, rows = self._memory, self.directory.rows
        u16, u32 = self._u16, self._u32
        table = self._tables[caller]
        row = self.directory.row(dom)
        if not flags & (GNTMAP_device_map | GNTMAP_host_map):
            return GNTST_bad_gntref, -1, -1
        if flags & (GNTMAP_application_map | GNTMAP_contains_pte):
            return GNTST_general_error, -1, -1
        if row < 0:
            return GNTST_bad_domain, -1, -1
        if len(table.handles) >= self.max_maptrack:
            return GNTST_no_device_space, -1, -1
        if not 0 <= ref < rows[row + ROW_ENTRIES]:
            return GNTST_bad_gntref, -1, -1

        readonly = bool(flags & GNTMAP_readonly)
        increment = _pin_increment(flags)
        version = rows[row + ROW_VERSION]
        status = status_half(rows, row, ref)
        active = active_word(rows, row, ref)
        pin = u32[active + ACTIVE_PIN]
        if pin and (
            u32[active + ACTIVE_DOMID] != caller  # another's, or in use as sub-page
            or pin & increment << GNTPIN_oflow_shift
        ):
            return GNTST_general_error, -1, -1
        if pin == 0 or (not readonly and not pin & GNTPIN_w_mask):
            entry = entry_word(rows, row, ref)
            use = (pin, readonly, MAP_MASK, GTF_permit_access, version, caller)
            header = set_status(*use, entry, status, u16, u32)
            if header < 0:
                return header, -1, -1
            if pin == 0:
                frame = granted_frame(u32, entry, version)
                if not owns(memory.owner, dom, frame):
                    reduce_status(pin, readonly, status, u16)
                    return GNTST_bad_page, -1, -1
                u32[active + ACTIVE_FRAME] = frame
                u32[active + ACTIVE_DOMID] = caller
                u32[active + ACTIVE_BOUNDS] = PAGE_SIZE << 16
        frame = u32[active + ACTIVE_FRAME]
        if not owns(memory.owner, dom, frame):
            # Mapped before, and since then given up by its owner ("could not pin").
            reduce_status(pin, readonly, status, u16)
            return GNTST_general_error, -1, -1
        u32[active + ACTIVE_PIN] = pin + increment

        handle = table.free_handles.pop() if table.free_handles else table.next_handle
        table.next_handle = max(table.next_handle, handle + 1)
        table.handles[handle] = Mapping(handle, dom, ref, frame, flags)
        self._spaces(caller).map(frame, readonly)
        self._mapped_frames[frame] = self._mapped_frames.get(frame, 0) + 1
        self.statistics.mapped += 1
        self.statistics.maps += 1
        return GNTST_okay, handle, frame

    def _unmap(self, caller: int, table: _Table, mapping: Mapping) -> None:
        """Xen unmap_common and unmap_common_complete."""
        rows, row, u32 = self.directory.rows, mapping.domid * ROW_WORDS, self._memory.u32
        readonly = bool(mapping.flags & GNTMAP_readonly)
        active = active_word(rows, row, mapping.gref)
        pin = u32[active + ACTIVE_PIN] - _pin_increment(mapping.flags)
        u32[active + ACTIVE_PIN] = pin
        reduce_status(pin, readonly, status_half(rows, row, mapping.gref), self._u16)

        del table.handles[mapping.handle]
        table.free_handles.append(mapping.handle)
        self._spaces(caller).unmap(mapping.frame, readonly)
        self.statistics.mapped -= 1
        left = self._mapped_frames[mapping.frame] - 1
        if left:
            self._mapped_frames[mapping.frame] = left
        else:
            del self._mapped_frames[mapping.frame]
            if self.released is not None:
                self.released(mapping.frame)
        granter = self._tables[mapping.domid]
        if granter.destroyed and mapping.domid != caller:
            self._free_if_unused(mapping.domid, granter)

    # -- transfer, inside ------------------------------------------------------------------------

    def _transfer(self, caller: int, frame: int, dom: int, ref: int) -> int:
        """Xen gnttab_transfer."""
        memory, rows, u32 = self._memory, self.directory.rows, self._u32
        # steal_page: an own page without other users, and not a page of the table itself.
        if (
            frame < 0
            or not owns(memory.owner, caller, frame)
            or frame in self._mapped_frames
            or frame in self.table_frames(caller)
        ):
            return GNTST_bad_page
        row = self.directory.row(dom)
        if row < 0:
            memory.free(caller, frame)
            return GNTST_bad_domain
        entry = entry_word(rows, row, ref)
        # gnttab_prepare_for_transfer: the flags must be these and no others.
        offer = caller << HEADER_S_domid | GTF_accept_transfer
        if (
            rows[row + ROW_STATE] == DYING
            or not 0 <= ref < rows[row + ROW_ENTRIES]
            or compare_and_swap(u32, entry, offer, offer | GTF_transfer_committed) != offer
        ):
            memory.free(caller, frame)
            return GNTST_general_error
        version = rows[row + ROW_VERSION]
        memory.reassign(caller, frame, dom)
        u32[entry + version] = frame
        if version == 2:
            u32[entry + version + 1] = 0
        fetch_or(u32, entry, GTF_transfer_completed)
        return GNTST_okay

    # -- the table, inside -----------------------------------------------------------------------

    @property
    def _active_frames(self) -> int:
        entries = self.max_frames * GRANT_ENTRIES_V1_PER_PAGE
        return -(-entries * ACTIVE_WORDS // WORDS_PER_PAGE)

    def _target(self, caller: int, dom: int) -> tuple[int, int]:
        """(domid, GNTST_okay), or a refusal: only domain 0 may look at other domains' tables."""
        domid = caller if dom == DOMID_SELF else dom
        if self.directory.row(domid) < 0:
            return domid, GNTST_bad_domain
        return domid, GNTST_okay if caller in (domid, 0) else GNTST_permission_denied

    def _nr_status(self, domid: int) -> int:
        """Frames of status words in use."""
        if self.directory.rows[domid * ROW_WORDS + ROW_VERSION] == 1:
            return 0
        return _status_frames(self._tables[domid].frames)

    def _grow(self, domid: int, nr_frames: int) -> None:
        """Take further frames of the run into use, zeroed (Xen gnttab_grow_table)."""
        table, rows, row = self._tables[domid], self.directory.rows, domid * ROW_WORDS
        if nr_frames <= table.frames:
            return
        version = rows[row + ROW_VERSION]
        first, status_before = rows[row + ROW_SHARED], self._nr_status(domid)
        for frame in range(first + table.frames, first + nr_frames):
            self._memory.reassign(DOMID_XEN, frame, domid)
        table.frames = nr_frames
        first = table.status_run
        for frame in range(first + status_before, first + self._nr_status(domid)):
            self._memory.reassign(DOMID_XEN, frame, domid)
        rows[row + ROW_ENTRIES] = nr_frames * _ENTRIES_PER_FRAME[version]

    def _populate_status(self, domid: int, table: _Table) -> None:
        """Take frames of status words into use (Xen gnttab_populate_status_frames); the run is long
        enough for the largest table."""
        memory = self._memory
        if not table.status_run_frames:
            nr_frames = _status_frames(self.max_frames)
            table.status_run = memory.alloc(DOMID_XEN, nr_frames)
            table.status_run_frames = nr_frames
            self.directory.rows[domid * ROW_WORDS + ROW_STATUS] = table.status_run
        for frame in range(table.status_run, table.status_run + _status_frames(table.frames)):
            memory.reassign(DOMID_XEN, frame, domid)

    def _unpopulate_status(self, domid: int, table: _Table) -> None:
        """Take the status words from the guest, zeroed (Xen gnttab_unpopulate_status_frames)."""
        memory = self._memory
        for frame in range(table.status_run, table.status_run + _status_frames(table.frames)):
            memory.reassign(domid, frame, DOMID_XEN)
            memory.u8[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE] = bytes(PAGE_SIZE)

    def _set_version(self, caller: int, version: int) -> int:
        """Xen gnttab_set_version."""
        table, memory = self._tables[caller], self._memory
        rows, row = self.directory.rows, caller * ROW_WORDS
        if version not in _ENTRIES_PER_FRAME:
            return -errno.EINVAL
        if rows[row + ROW_VERSION] == version:
            return 0
        if any(gref >= GNTTAB_NR_RESERVED_ENTRIES for gref in self._pinned(caller)):
            return -errno.EBUSY
        if version == 2:
            reserved = self._reserved_v1(row)
            try:
                self._populate_status(caller, table)
            except OutOfFramesError:
                return -errno.ENOMEM
        else:
            kept = self._reserved_v2(row)
            if kept is None:
                return -errno.ERANGE
            frames = range(table.status_run, table.status_run + self._nr_status(caller))
            if any(frame in self._mapped_frames for frame in frames):
                return -errno.EBUSY
            reserved = kept
            self._unpopulate_status(caller, table)

        first = rows[row + ROW_SHARED]
        memory.u8[first * PAGE_SIZE : (first + table.frames) * PAGE_SIZE] = bytes(
            table.frames * PAGE_SIZE
        )
        rows[row + ROW_VERSION] = version
        rows[row + ROW_ENTRIES] = table.frames * _ENTRIES_PER_FRAME[version]
        in_use = GTF_reading | GTF_writing
        for gref, (header, frame) in enumerate(reserved):
            entry = entry_word(rows, row, gref)
            memory.u32[entry + version] = frame
            memory.u32[entry] = header if version == 1 else header & ~in_use
            if version == 2:
                memory.u16[status_half(rows, row, gref)] = header & in_use
        return 0

    def _reserved_v1(self, row: int) -> list[tuple[int, int]]:
        """Header and frame of the reserved entries, which survive a change of version."""
        rows, u32 = self.directory.rows, self._memory.u32
        entries = (entry_word(rows, row, gref) for gref in range(GNTTAB_NR_RESERVED_ENTRIES))
        return [(u32[entry], u32[entry + 1]) for entry in entries]

    def _reserved_v2(self, row: int) -> list[tuple[int, int]] | None:
        """Header and frame of the reserved entries of a version 2 table; None when version 1 has no
        way to express one of them."""
        rows, u16, u32 = self.directory.rows, self._memory.u16, self._memory.u32
        reserved = []
        for gref in range(GNTTAB_NR_RESERVED_ENTRIES):
            entry = entry_word(rows, row, gref)
            header, frame = u32[entry], granted_frame(u32, entry, 2)
            kind = header & GTF_type_mask
            if kind == GTF_transitive or (kind == GTF_permit_access and frame >> 32):
                return None
            if kind == GTF_permit_access:
                reserved.append((header | u16[status_half(rows, row, gref)], frame))
            else:
                reserved.append((0, 0))
        return reserved

    def _swap(self, caller: int, ref_a: int, ref_b: int) -> int:
        """Xen swap_grant_ref."""
        rows, row = self.directory.rows, caller * ROW_WORDS
        u16, u32 = self._memory.u16, self._memory.u32
        entries = rows[row + ROW_ENTRIES]
        if not 0 <= ref_a < entries or not 0 <= ref_b < entries:
            return GNTST_bad_gntref
        if ref_a == ref_b:
            return GNTST_okay
        if any(u32[active_word(rows, row, gref) + ACTIVE_PIN] for gref in (ref_a, ref_b)):
            return GNTST_eagain
        words = 1 << rows[row + ROW_VERSION]
        a, b = entry_word(rows, row, ref_a), entry_word(rows, row, ref_b)
        for word in range(words):
            u32[a + word], u32[b + word] = u32[b + word], u32[a + word]
        if rows[row + ROW_VERSION] == 2:
            a, b = status_half(rows, row, ref_a), status_half(rows, row, ref_b)
            u16[a], u16[b] = u16[b], u16[a]
        return GNTST_okay

    # -- pins and the end of a table -------------------------------------------------------------

    def _pinned(self, domid: int) -> Iterator[int]:
        """The references of ``domid``'s table with a pin, ascending."""
        first = self.directory.rows[domid * ROW_WORDS + ROW_ACTIVE] * WORDS_PER_PAGE
        # Only what the largest version could reach with the frames in use was ever pinned.
        nr_active = self._tables[domid].frames * GRANT_ENTRIES_V1_PER_PAGE
        pins = self._memory.u32[first : first + (nr_active << ACTIVE_SHIFT) : ACTIVE_WORDS]
        return (gref for gref, pin in enumerate(pins.tolist()) if pin)

    def _grant(self, domid: int, gref: int) -> Grant:
        memory, rows, row = self._memory, self.directory.rows, domid * ROW_WORDS
        u32 = memory.u32
        entry = entry_word(rows, row, gref)
        active = active_word(rows, row, gref)
        header, pin = u32[entry], u32[active + ACTIVE_PIN]
        flags = (header & 0xFFFF) | memory.u16[status_half(rows, row, gref)]
        if pin:
            grantee = u32[active + ACTIVE_DOMID] & ~ACTIVE_SUB_PAGE
            return Grant(gref, grantee, u32[active + ACTIVE_FRAME], flags, pin)
        frame = granted_frame(u32, entry, rows[row + ROW_VERSION])
        return Grant(gref, header >> HEADER_S_domid, frame, flags, pin)

    def _free_if_unused(self, domid: int, table: _Table) -> bool:
        if next(self._pinned(domid), None) is not None:
            return False
        self._free(domid, table)
        return True

    def _free(self, domid: int, table: _Table) -> None:
        """Return the frames of a dead domain's table to the arena, and clear its row."""
        memory, rows, row = self._memory, self.directory.rows, domid * ROW_WORDS
        for frame in self.table_frames(domid):
            memory.reassign(domid, frame, DOMID_XEN)
        memory.free(DOMID_XEN, rows[row + ROW_SHARED], self.max_frames)
        memory.free(DOMID_XEN, rows[row + ROW_ACTIVE], self._active_frames)
        if table.status_run_frames:
            memory.free(DOMID_XEN, table.status_run, table.status_run_frames)
        del self._tables[domid]
        self.directory.clear(domid)


@lru_cache(maxsize=64)
def _pin_increment(flags: int) -> int:
    """The number that a map call with these GNTMAP_ flags adds to the pin."""
    readonly = bool(flags & GNTMAP_readonly)
    return sum(
        reading if readonly else writing for use, writing, reading in _PIN_INCREMENTS if flags & use
    )


def _status_frames(nr_frames: int) -> int:
    """The number of frames of status words that ``nr_frames`` frames of version 2 entries need."""
    return -(-nr_frames * GRANT_ENTRIES_V2_PER_PAGE // GRANT_STATUS_PER_PAGE)
