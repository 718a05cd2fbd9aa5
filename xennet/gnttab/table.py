"""The granting side: one domain's own view of its grant table.

The table is memory that the domain shares with the hypervisor, so granting is storing: no hypercall
is made. The order of the stores is that of xen/grant_table.h, "Introducing a valid entry into the
grant table" and the rules after it: domid and frame first, the flags with the type last; access
ends only while neither GTF_reading nor GTF_writing is set.

References are handed out last-in first-out; the reserved ones (0 console, 1 XenStore, 8 in all)
never are. Only words of the domain's own pages are touched here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from operator import index

from xennet.abi.grant_table import (
    GNTTAB_NR_RESERVED_ENTRIES,
    GRANT_ENTRIES_V1_PER_PAGE,
    GRANT_ENTRIES_V2_PER_PAGE,
    GNTST_eagain,
    GNTST_no_space,
    GTF_accept_transfer,
    GTF_invalid,
    GTF_permit_access,
    GTF_readonly,
    GTF_sub_page,
    GTF_transfer_committed,
    GTF_transfer_completed,
    GTF_transitive,
    GTF_type_mask,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.engine import choice
from xennet.engine.kernel import alone, compare_and_swap
from xennet.gnttab.entry import (
    SUB_PAGE_W,
    V1_STATUS_SHIFT,
    HEADER_S_domid,
    SUB_PAGE_S_length,
    TRANSITIVE_W_domid,
    TRANSITIVE_W_gref,
    granted_frame,
)
from xennet.granter import IN_USE, consecutive, end_access, in_a_row
from xennet.interface import HypercallError, PageRun

#: Grows the table to a number of frames: views of it and, in version 2, of its status words.
Grow = Callable[[int], "tuple[PageRun, PageRun | None]"]
#: The first bytes that entries of version 1 can have which no use pins.
_UNUSED = bytes(flags for flags in range(256) if not flags & IN_USE)


def _whole(what: str, value: int) -> int:
    """Check that ``value`` is an integer, and return it as one. Raises TypeError, with ``what`` it
    should be, if it is none."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {value!r}") from None


class GrantTable:
    """A domain's grant table (xennet.interface.GuestGrants).

    ``shared`` are views of the table's frames, ``status`` of the status frames of a ``version`` 2
    table. ``grow(nr_frames)``, when given, is called for a longer table once all references are
    taken; it may raise HypercallError. After that :attr:`words` and :attr:`status` are new views;
    the old ones still show the old part.

    ``made`` counts the references that were ever claimed.
    """

    def __init__(
        self,
        shared: PageRun,
        version: int = 1,
        status: PageRun | None = None,
        *,
        grow: Grow | None = None,
    ) -> None:
        if version not in (1, 2):
            raise ValueError(f"there is no grant table version {version!r}")
        self.version = version
        self.made = 0
        self._grow = grow
        self._free = array("I")
        # Those from here on were never used: they are taken when the free list is empty.
        self._next = GNTTAB_NR_RESERVED_ENTRIES
        # Of each reference, whether it is claimed.
        self._claimed = bytearray()
        self._use(shared, status)

    def __repr__(self) -> str:
        return f"<GrantTable version {self.version}: {self.held} of {len(self)} references held>"

    @property
    def held(self) -> int:
        """The number of references that are claimed now."""
        return self._claimed.count(1)

    @property
    def words(self) -> memoryview:
        """The table as u32 words; entry g starts at ``words[g << shift]``."""
        return self._words

    @property
    def shift(self) -> int:
        """1 or 2: an entry has ``1 << shift`` words, and its frame number is word ``shift`` of
        it."""
        return self.version

    @property
    def status(self) -> memoryview:
        """The half words with GTF_reading and GTF_writing: those of entry g are ``status[g <<
        status_shift]``."""
        return self._status

    @property
    def status_shift(self) -> int:
        """2 in version 1 (the flags themselves), 0 in version 2 (an array of half words)."""
        return V1_STATUS_SHIFT if self.version == 1 else 0

    def __len__(self) -> int:
        """References in the table, the reserved ones included."""
        return self._entries

    # References

    def claim(self, count: int) -> Sequence[int]:
        """Reserve ``count`` references, all or none.

        Raises HypercallError (GNTST_no_space) when the table is exhausted and cannot grow.
        """
        if count < 0:
            raise ValueError(f"cannot claim {count} grant references")
        fresh = count - len(self._free)
        if self._next + fresh > self._entries:
            self._lengthen(self._next + fresh)
        left = max(0, -fresh)
        grefs = self._free[left:]
        grefs.reverse()
        del self._free[left:]
        if fresh > 0:
            grefs += consecutive(range(self._next, self._next + fresh))
            self._next += fresh
        if (row := in_a_row(grefs)) is not None:
            low = min(row[0], row[-1])
            self._claimed[low : low + count] = b"\1" * count
        else:
            for gref in grefs:
                self._claimed[gref] = 1
        self.made += count
        return grefs

    def release(self, grefs: Iterable[int]) -> None:
        """Give references back whose access has ended.

        Raises ValueError for a reference that is not claimed or still grants something; those
        before it are released then.
        """
        for gref in grefs:
            self._check(gref)
            self._release(gref)

    # Granting

    def grant_access(self, domid: int, frame: int, readonly: bool = False) -> int:
        """Let ``domid`` use one of the domain's own frames. Returns the reference."""
        flags = GTF_permit_access | (GTF_readonly if readonly else 0)
        return self._introduce(domid, flags, self._page(frame))

    def grant_sub_page(
        self, domid: int, frame: int, offset: int, length: int, readonly: bool = False
    ) -> int:
        """Let ``domid`` copy (not map) bytes offset .. offset + length - 1 of a frame; version 2
        only. Returns the reference.

        Raises ValueError in version 1, or when the bytes are not inside one page.
        """
        self._need_version_2("sub-page")
        if not (offset >= 0 and length > 0 and offset + length <= PAGE_SIZE):
            raise ValueError(f"bytes {offset}..{offset + length - 1} are not part of one page")
        flags = GTF_permit_access | GTF_sub_page | (GTF_readonly if readonly else 0)
        part = offset | length << SUB_PAGE_S_length
        return self._introduce(domid, flags, {**self._page(frame), SUB_PAGE_W: part})

    def grant_transitive(
        self, domid: int, trans_domid: int, trans_gref: int, readonly: bool = False
    ) -> int:
        """Let ``domid`` copy through ``trans_gref``, which ``trans_domid`` granted to this domain;
        version 2 only. Returns the reference.

        Raises ValueError in version 1.
        """
        self._need_version_2("transitive")
        flags = GTF_transitive | (GTF_readonly if readonly else 0)
        return self._introduce(
            domid, flags, {TRANSITIVE_W_domid: trans_domid, TRANSITIVE_W_gref: trans_gref}
        )

    def grant_transfer(self, domid: int, frame: int = 0) -> int:
        """Offer to take a page from ``domid``; ``frame`` is where a guest wants it to appear.
        Returns the reference."""
        return self._introduce(domid, GTF_accept_transfer, self._page(frame))

    # Ending

    def end_access(self, gref: int) -> bool:
        """Revoke and release ``gref``. Returns False while a use pins it.

        The entry stays claimed then; it is as before, except that a version 2 entry is not valid
        any more for other uses if a use began at this very moment. Raises ValueError when the
        reference is not claimed.
        """
        self._check(gref)
        access = self._words[gref << self.version] & ~IN_USE
        table = (self._words, self.version, self._status, self.status_shift, access, 0)
        if not end_access(table, gref):
            return False
        self._release(gref)
        return True

    def end_all(self, grefs: Sequence[int]) -> Sequence[int]:
        """:meth:`end_access` of each of ``grefs``. Returns those that are in use.

        Raises ValueError for a reference that is not claimed; those before it are released then.
        """
        words, claimed = self._words, self._claimed
        if self.version != 1 or not alone(words):
            return [gref for gref in grefs if not self.end_access(gref)]
        if (row := in_a_row(grefs)) is not None:
            low, high = min(row[0], row[-1]), max(row[0], row[-1]) + 1
            marks = words[low << 1 : high << 1].tobytes()[::8].translate(None, _UNUSED)
            if claimed.count(1, low, high) == len(row) and not marks:
                words[low << 1 : high << 1 : 2] = array("I", bytes(4 * len(row)))  # GTF_invalid
                claimed[low:high] = bytes(len(row))
                self._free.extend(array("I", grefs))
                return []
        held = []
        for gref in grefs:
            self._check(gref)
            if words[gref << 1] & IN_USE:
                held.append(gref)
            else:
                words[gref << 1] = GTF_invalid  # end_access, in line
                claimed[gref] = 0
                self._free.append(gref)
        return held

    def end_transfer(self, gref: int) -> int | None:
        """Take the offer ``gref`` back and release the reference. Returns the number of the frame
        that arrived, or None.

        Raises HypercallError (GNTST_eagain), with nothing changed, between GTF_transfer_committed
        and GTF_transfer_completed, and ValueError when the entry is no offer.
        """
        self._check(gref)
        entry = gref << self.version
        header = self._words[entry]
        if header & GTF_type_mask != GTF_accept_transfer:
            flags = header & 0xFFFF
            raise ValueError(f"grant reference {gref} offers no transfer (flags {flags:#x})")
        frame = None
        # A page may come until the offer is gone (Linux 6.1 gnttab_end_foreign_transfer_ref).
        while not header & (GTF_transfer_committed | GTF_transfer_completed):
            seen = compare_and_swap(self._words, entry, header, GTF_invalid)
            if seen == header:
                break
            header = seen
        else:
            if not header & GTF_transfer_completed:
                raise HypercallError(
                    "GNTTABOP_transfer", GNTST_eagain, f"a page is on its way to reference {gref}"
                )
            frame = granted_frame(self._words, entry, self.version)
            self._words[entry] = GTF_invalid
        self.release((gref,))
        return frame

    def in_use(self, gref: int) -> bool:
        """Whether the hypervisor shows the reference as mapped or being copied."""
        return bool(self._status[gref << self.status_shift] & IN_USE)

    # Inside

    def _introduce(self, domid: int, flags: int, body: dict[int, int]) -> int:
        """Write an entry: ``body`` (word -> value) first, the word with domid and type last."""
        if not 0 <= _whole("a domain id", domid) <= 0xFFFF:
            raise ValueError(f"domain id {domid} is no 16-bit number")
        (gref,) = self.claim(1)
        entry = gref << self.version
        for word in range(1, 1 << self.version):
            self._words[entry + word] = body.get(word, 0)
        self._words[entry] = domid << HEADER_S_domid | flags
        return gref

    def _page(self, frame: int) -> dict[int, int]:
        """The frame number in words of an entry."""
        if not 0 <= _whole("a frame number (PageRun.first)", frame) < 1 << 32 * self.version:
            raise ValueError(f"frame {frame:#x} does not fit a version {self.version} grant entry")
        if self.version == 1:
            return {1: frame}
        return {2: frame & 0xFFFFFFFF, 3: frame >> 32}

    def _need_version_2(self, kind: str) -> None:
        if self.version != 2:
            raise ValueError(f"{kind} grants need a version 2 grant table, this one is version 1")

    def _release(self, gref: int) -> None:
        flags = self._words[gref << self.version] & 0xFFFF
        if flags != GTF_invalid:
            raise ValueError(f"grant reference {gref} still grants access (flags {flags:#x})")
        self._claimed[gref] = 0
        self._free.append(gref)

    def _check(self, gref: int) -> None:
        if not 0 <= gref < self._entries or not self._claimed[gref]:
            raise ValueError(f"grant reference {gref} is not claimed")

    def _use(self, shared: PageRun, status: PageRun | None) -> None:
        if (status is not None) != (self.version == 2):
            raise ValueError("status frames belong to a version 2 grant table, and only to it")
        per_page = GRANT_ENTRIES_V1_PER_PAGE if self.version == 1 else GRANT_ENTRIES_V2_PER_PAGE
        self._entries = shared.count * per_page
        self._claimed.extend(bytes(max(0, self._entries - len(self._claimed))))
        self._words = choice.shared(shared.u32, "grant table")
        self._status = choice.shared((shared if status is None else status).u16, "grant table")

    def _lengthen(self, entries: int) -> None:
        per_page = GRANT_ENTRIES_V1_PER_PAGE if self.version == 1 else GRANT_ENTRIES_V2_PER_PAGE
        if self._grow is None:
            raise HypercallError(
                "GNTTABOP_setup_table",
                GNTST_no_space,
                f"all {self._entries} grant references are taken and the table cannot grow",
            )
        self._use(*self._grow(-(-entries // per_page)))
        if self._entries < entries:
            raise HypercallError(
                "GNTTABOP_setup_table",
                GNTST_no_space,
                f"{entries} grant references wanted, the grown table has {self._entries}",
            )
