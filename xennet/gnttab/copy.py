"""GNTTABOP_copy: copy bytes between pages of two domains, as many elements as the caller likes.

What it reads: a table of struct gnttab_copy (xen/grant_table.h), ten 32-bit words an element; the
directory row of each domain named there (:mod:`xennet.gnttab.directory`); the granter's entry and
active entry of each reference (:mod:`xennet.gnttab.entry`); who owns the pages.
What it writes: the payload; GTF_reading and GTF_writing of each entry, set before bytes move and
cleared after, atomically (:mod:`xennet.gnttab.entry` has the rules); one status per element, in its
``status`` field; the row's count of bytes copied.

An element has a source and a destination, and each is a grant reference (of any domain) or a frame
number (of the caller only). The rules, in the order of Xen's gnttab_copy_one, which decides the
status when several things are wrong:

1. length 0 is okay, and nothing else is looked at;
2. source, then destination: a frame number needs DOMID_SELF (GNTST_permission_denied), and the
   domain must exist (GNTST_bad_domain);
3. source, then destination, is claimed: the reference must be inside the table
   (GNTST_bad_gntref), granted to the caller with the wanted access (GNTST_general_error), and its
   page owned by the granter (GNTST_bad_page); a frame number must be a page of the caller
   (GNTST_bad_page);
4. neither range may leave its page (GNTST_bad_copy_arg), nor the granted part of it
   (GNTST_general_error), source first.

:func:`copy_one` is that, for one element. :func:`grant_copy` runs the table; it recognises the
ordinary element, for which all those checks pass and nothing else has the reference pinned, and
does it inline, because network drivers copy every packet this way.
"""

from __future__ import annotations

from xennet.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_eagain,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)
from xennet.abi.words import (
    COPY_STRIDE,
    COPY_S_flags,
    COPY_S_offset,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
    COPY_W_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xennet.engine.kernel import (
    Bytes,
    U32Array,
    U32Words,
    compare_and_swap,
    fetch_and,
    fetch_or,
)
from xennet.gnttab.directory import (
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
)
from xennet.gnttab.entry import (
    ACTIVE_BOUNDS,
    ACTIVE_DOMID,
    ACTIVE_FRAME,
    ACTIVE_PIN,
    ACTIVE_SHIFT,
    ACTIVE_SUB_PAGE,
    COPY_MASK,
    HALVES_PER_PAGE,
    SUB_PAGE_W,
    WORDS_PER_PAGE,
    GNTPIN_hstr_inc,
    GNTPIN_hstw_inc,
    GNTPIN_oflow_shift,
    GNTPIN_w_mask,
    HEADER_S_domid,
    SUB_PAGE_S_length,
    TRANSITIVE_W_domid,
    TRANSITIVE_W_gref,
    active_word,
    entry_word,
    granted_frame,
    owns,
    reduce_status,
    set_status,
    status_half,
)

#: Where an element has its status; the other half of the word is padding and left alone.
STATUS_MASK = 0xFFFF
LOW_HALF = 0xFFFF
#: From a source pointer to the destination pointer, and inside a pointer.
_DEST = COPY_W_dest - COPY_W_source
_PTR_W_domid = COPY_W_source_domid - COPY_W_source
if (COPY_W_source, COPY_W_dest_domid - COPY_W_dest) != (0, _PTR_W_domid):
    raise AssertionError("source and dest of struct gnttab_copy are not laid out alike")

# The header word of an entry that the ordinary case accepts: full-page access for the caller, who
# is compared in the same step, and not read-only when it is to be written.
_READ_MASK = 0xFFFF << HEADER_S_domid | GTF_sub_page | GTF_type_mask
_WRITE_MASK = _READ_MASK | GTF_readonly


def grant_copy(
    ops: U32Array,
    count: int,
    caller: int,
    dom_rows: U32Array,
    owner: U32Array,
    u8: Bytes,
    u16: U32Words,
    u32: U32Words,
    alone: int,
) -> int:
    """Run ``count`` elements of ``ops`` for ``caller``. Returns the number that failed; these moved
    no byte. ``dom_rows``: the directory; ``owner``: a domid per frame; ``u8`` ...: the arena;
    ``alone``: 1 if only this process has it, and nobody comes between a load and a store."""
    nr_frames = len(owner)
    failed = copied = 0
    granted = caller << HEADER_S_domid | GTF_permit_access
    cached = -1  # the domain that the last element named; the rest is its row
    entries = version = table = active = status_table = 0
    in_line = False
    for op in range(0, count * COPY_STRIDE, COPY_STRIDE):
        length = ops[op + COPY_W_len]
        flags = length >> COPY_S_flags
        length &= LOW_HALF
        # The reference, the caller's frame; the bits set meanwhile; the header's bits to match.
        if flags == GNTCOPY_dest_gref:
            peer, own = op + _DEST, op
            marks = GTF_reading | GTF_writing
            mask = _WRITE_MASK
        else:
            peer, own = op, op + _DEST
            marks = GTF_reading
            mask = _READ_MASK if flags == GNTCOPY_source_gref else 0  # 0: no header matches
        peer_at = ops[peer + _PTR_W_domid]
        own_at = ops[own + _PTR_W_domid]
        domid = peer_at & LOW_HALF
        peer_at >>= COPY_S_offset
        if domid != cached:
            cached = domid
            entries, version, table, active, status_table = tables_of(domid, dom_rows)
            in_line = alone == version  # a table of version 1 that nobody else changes
        gref, own_frame = ops[peer], ops[own]
        done = False
        if (
            length
            and gref < entries
            and own_at & LOW_HALF == DOMID_SELF
            and ops[own + 1] == 0  # high half of the frame number
            and own_frame < nr_frames
            and owner[own_frame] == caller
            and peer_at + length <= PAGE_SIZE
            and (own_at >> COPY_S_offset) + length <= PAGE_SIZE
        ):
            entry = table + (gref << version)
            header = u32[entry]
            if header & mask == granted and u32[active + (gref << ACTIVE_SHIFT)] == 0:
                status = entry << 1 if version == 1 else status_table + gref
                if in_line:
                    u32[entry] = header | marks
                usable = in_line or mark(header, marks, mask, version, entry, status, u16, u32)
                frame = u32[entry + version] if usable else nr_frames
                if frame < nr_frames and owner[frame] == domid:
                    peer_at += frame << PAGE_SHIFT
                    own_at = (own_frame << PAGE_SHIFT) + (own_at >> COPY_S_offset)
                    if marks == GTF_reading:
                        u8[own_at : own_at + length] = u8[peer_at : peer_at + length]
                    else:
                        u8[peer_at : peer_at + length] = u8[own_at : own_at + length]
                    ops[op + COPY_W_status] &= ~STATUS_MASK
                    done = True
                if in_line:
                    u32[entry] = u32[entry] & ~marks  # as it is now: bytes may have moved to it
                elif usable or version != 1:
                    fetch_and(u16, status, ~marks)
        if done or copy_one(ops, op, caller, dom_rows, owner, u8, u16, u32) == GNTST_okay:
            copied += length
        else:
            failed += 1
    count_copied(caller, copied, dom_rows)
    return failed


def mark(
    header: int,
    marks: int,
    mask: int,
    version: int,
    entry: int,
    status: int,
    u16: U32Words,
    u32: U32Words,
) -> bool:
    """Set ``marks`` of an ordinary entry, as set_status does. Returns whether it still is one.

    If not, those of version 2 are set all the same.
    """
    if version == 1:
        return compare_and_swap(u32, entry, header, header | marks) == header
    fetch_or(u16, status, marks)  # what the entry means is loaded behind the marks
    return (u32[entry] ^ header) & mask == 0 and u32[entry + 3] == 0  # and its frame is below 2^32


def tables_of(domid: int, dom_rows: U32Array) -> tuple[int, int, int, int, int]:
    """The words of a domain's row as (number of entries, 0 if there is no such domain; version;
    first words of the table and of the active entries in the arena; first half word of version 2's
    status)."""
    row = domid * ROW_WORDS
    if domid >= NR_DOMIDS or dom_rows[row + ROW_STATE] == NONE:
        return 0, 0, 0, 0, 0
    table = dom_rows[row + ROW_SHARED] * WORDS_PER_PAGE
    active = dom_rows[row + ROW_ACTIVE] * WORDS_PER_PAGE
    status_table = dom_rows[row + ROW_STATUS] * HALVES_PER_PAGE
    return dom_rows[row + ROW_ENTRIES], dom_rows[row + ROW_VERSION], table, active, status_table


def count_copied(domid: int, copied: int, dom_rows: U32Array) -> None:
    """Add ``copied`` to the number of bytes that a domain has copied: 64 bits in two words of its
    row."""
    row = domid * ROW_WORDS + ROW_COPIED
    copied += dom_rows[row] | dom_rows[row + 1] << 32
    dom_rows[row] = copied & 0xFFFFFFFF
    dom_rows[row + 1] = copied >> 32 & 0xFFFFFFFF


def copy_one(
    ops: U32Array,
    op: int,
    caller: int,
    dom_rows: U32Array,
    owner: U32Array,
    u8: Bytes,
    u16: U32Words,
    u32: U32Words,
) -> int:
    """Run one element of any kind, which starts at word ``op`` of ``ops``, and store its status
    there. Returns the status."""
    result = _copy(ops, op, caller, dom_rows, owner, u8, u16, u32)
    ops[op + COPY_W_status] = ops[op + COPY_W_status] & ~STATUS_MASK | result & STATUS_MASK
    return result


def _copy(
    ops: U32Array,
    op: int,
    caller: int,
    dom_rows: U32Array,
    owner: U32Array,
    u8: Bytes,
    u16: U32Words,
    u32: U32Words,
) -> int:
    """Run one element of any kind. Returns its status."""
    length = ops[op + COPY_W_len] & LOW_HALF
    flags = ops[op + COPY_W_len] >> COPY_S_flags
    if length == 0:
        return GNTST_okay
    source = op + COPY_W_source
    dest = op + COPY_W_dest
    source_domid = _find_domain(ops, source, flags & GNTCOPY_source_gref, caller, dom_rows)
    if source_domid < 0:
        return source_domid
    dest_domid = _find_domain(ops, dest, flags & GNTCOPY_dest_gref, caller, dom_rows)
    if dest_domid < 0:
        return dest_domid

    # After a claim: the frame, the part of it, and the reference behind a transitive one.
    source_at = ops[source + _PTR_W_domid] >> COPY_S_offset
    source_frame = ops[source] | ops[source + 1] << 32
    source_bounds = PAGE_SIZE << 16
    source_gref = behind_source_domid = behind_source_gref = -1
    if flags & GNTCOPY_source_gref:
        source_gref = ops[source]
        result, behind_source_domid, behind_source_gref = _claim(
            source_domid, source_gref, caller, True, dom_rows, owner, u16, u32
        )
        if result != GNTST_okay:
            return result
        active = active_word(dom_rows, source_domid * ROW_WORDS, source_gref)
        source_frame = u32[active + ACTIVE_FRAME]
        source_bounds = u32[active + ACTIVE_BOUNDS]
    elif not owns(owner, caller, source_frame):
        return GNTST_bad_page

    dest_at = ops[dest + _PTR_W_domid] >> COPY_S_offset
    dest_frame = ops[dest] | ops[dest + 1] << 32
    dest_bounds = PAGE_SIZE << 16
    dest_gref = behind_dest_domid = behind_dest_gref = -1
    result = GNTST_okay
    if flags & GNTCOPY_dest_gref:
        gref = ops[dest]
        result, behind_dest_domid, behind_dest_gref = _claim(
            dest_domid, gref, caller, False, dom_rows, owner, u16, u32
        )
        if result == GNTST_okay:
            dest_gref = gref
            active = active_word(dom_rows, dest_domid * ROW_WORDS, dest_gref)
            dest_frame = u32[active + ACTIVE_FRAME]
            dest_bounds = u32[active + ACTIVE_BOUNDS]
    elif not owns(owner, caller, dest_frame):
        result = GNTST_bad_page

    if result == GNTST_okay:
        if source_at + length > PAGE_SIZE or dest_at + length > PAGE_SIZE:
            result = GNTST_bad_copy_arg
        elif _outside(source_at, length, source_bounds) or _outside(dest_at, length, dest_bounds):
            result = GNTST_general_error
        else:
            source_at += source_frame << PAGE_SHIFT
            dest_at += dest_frame << PAGE_SHIFT
            u8[dest_at : dest_at + length] = u8[source_at : source_at + length]

    if source_gref >= 0:
        _release(source_domid, source_gref, True, dom_rows, u16, u32)
    if behind_source_gref >= 0:
        _release(behind_source_domid, behind_source_gref, True, dom_rows, u16, u32)
    if dest_gref >= 0:
        _release(dest_domid, dest_gref, False, dom_rows, u16, u32)
    if behind_dest_gref >= 0:
        _release(behind_dest_domid, behind_dest_gref, False, dom_rows, u16, u32)
    return result


def _find_domain(ops: U32Array, ptr: int, is_gref: int, caller: int, dom_rows: U32Array) -> int:
    """The domid that a pointer names, or a negative status (Xen gnttab_copy_lock_domain)."""
    domid = ops[ptr + _PTR_W_domid] & LOW_HALF
    if domid == DOMID_SELF:
        return caller
    if not is_gref:
        return GNTST_permission_denied
    if domid >= NR_DOMIDS or dom_rows[domid * ROW_WORDS + ROW_STATE] == NONE:
        return GNTST_bad_domain
    return domid


def _outside(at: int, length: int, bounds: int) -> bool:
    """Whether a range leaves the granted part of its page: start | length << 16."""
    start = bounds & LOW_HALF
    return at < start or at + length > start + (bounds >> 16)


def _claim(
    granter: int,
    gref: int,
    caller: int,
    readonly: bool,
    dom_rows: U32Array,
    owner: U32Array,
    u16: U32Words,
    u32: U32Words,
) -> tuple[int, int, int]:
    """Pin a reference for the time of one copy (Xen acquire_grant_for_copy).

    Returns (status, domid, gref). The last two name the reference behind a transitive one, which is
    then pinned too, else they are -1. The active entry says what was pinned.
    """
    row = granter * ROW_WORDS
    if gref < dom_rows[row + ROW_ENTRIES] and dom_rows[row + ROW_VERSION] == 2:
        entry = entry_word(dom_rows, row, gref)
        if u32[entry] & GTF_type_mask == GTF_transitive:
            return _claim_transitive(granter, gref, caller, readonly, dom_rows, owner, u16, u32)
    return _claim_page(granter, gref, caller, readonly, dom_rows, owner, u16, u32), -1, -1


def _claim_page(
    granter: int,
    gref: int,
    caller: int,
    readonly: bool,
    dom_rows: U32Array,
    owner: U32Array,
    u16: U32Words,
    u32: U32Words,
) -> int:
    """Pin a reference to a page or a part of one. Returns a status.

    A transitive reference met here lies behind another one, and only one step is allowed.
    """
    row = granter * ROW_WORDS
    if gref >= dom_rows[row + ROW_ENTRIES]:
        return GNTST_bad_gntref
    version = dom_rows[row + ROW_VERSION]
    entry = entry_word(dom_rows, row, gref)
    status = status_half(dom_rows, row, gref)
    active = active_word(dom_rows, row, gref)
    pin = u32[active + ACTIVE_PIN]
    increment = GNTPIN_hstr_inc if readonly else GNTPIN_hstw_inc
    if _held_against(u32, active, pin, caller, increment):
        return GNTST_general_error
    if version == 2 and u32[entry] & GTF_type_mask == GTF_transitive:
        return GNTST_general_error
    if pin == 0 or (not readonly and not pin & GNTPIN_w_mask):
        header = set_status(
            pin, readonly, COPY_MASK, GTF_permit_access, version, caller, entry, status, u16, u32
        )
        if header < 0:
            return header
        frame = granted_frame(u32, entry, version)
        if not owns(owner, granter, frame):
            reduce_status(pin, readonly, status, u16)
            return GNTST_bad_page
        if pin == 0:
            u32[active + ACTIVE_FRAME] = frame
            if version == 2 and header & GTF_sub_page:
                part = u32[entry + SUB_PAGE_W]
                u32[active + ACTIVE_DOMID] = caller | ACTIVE_SUB_PAGE
                u32[active + ACTIVE_BOUNDS] = (part & LOW_HALF) | part >> SUB_PAGE_S_length << 16
            else:
                u32[active + ACTIVE_DOMID] = caller
                u32[active + ACTIVE_BOUNDS] = PAGE_SIZE << 16
    elif not owns(owner, granter, u32[active + ACTIVE_FRAME]):
        # Pinned, yet no longer the granter's: a dying domain.
        reduce_status(pin, readonly, status, u16)
        return GNTST_bad_domain
    u32[active + ACTIVE_PIN] = pin + increment
    return GNTST_okay


def _claim_transitive(
    granter: int,
    gref: int,
    caller: int,
    readonly: bool,
    dom_rows: U32Array,
    owner: U32Array,
    u16: U32Words,
    u32: U32Words,
) -> tuple[int, int, int]:
    """Pin a transitive reference and the one behind it; the granter is the grantee of the latter.

    It may not lead back into the granter's own table, and not to a further transitive reference.
    """
    row = granter * ROW_WORDS
    entry = entry_word(dom_rows, row, gref)
    status = status_half(dom_rows, row, gref)
    active = active_word(dom_rows, row, gref)
    pin = u32[active + ACTIVE_PIN]
    increment = GNTPIN_hstr_inc if readonly else GNTPIN_hstw_inc
    if _held_against(u32, active, pin, caller, increment):
        return GNTST_general_error, -1, -1
    if pin == 0 or (not readonly and not pin & GNTPIN_w_mask):
        header = set_status(
            pin, readonly, COPY_MASK, GTF_transitive, 2, caller, entry, status, u16, u32
        )
        if header < 0:
            return header, -1, -1

    behind_domid = u32[entry + TRANSITIVE_W_domid] & LOW_HALF
    behind_gref = u32[entry + TRANSITIVE_W_gref]
    if (
        behind_domid == granter
        or behind_domid >= NR_DOMIDS
        or dom_rows[behind_domid * ROW_WORDS + ROW_STATE] == NONE
    ):
        result = GNTST_general_error
    else:
        result = _claim_page(
            behind_domid, behind_gref, granter, readonly, dom_rows, owner, u16, u32
        )
    if result != GNTST_okay:
        reduce_status(pin, readonly, status, u16)
        return result, -1, -1

    behind = active_word(dom_rows, behind_domid * ROW_WORDS, behind_gref)
    if pin == 0:
        # A transitive use counts as sub-page, whatever lies behind: that forbids mapping it.
        u32[active + ACTIVE_FRAME] = u32[behind + ACTIVE_FRAME]
        u32[active + ACTIVE_DOMID] = caller | ACTIVE_SUB_PAGE
        u32[active + ACTIVE_BOUNDS] = u32[behind + ACTIVE_BOUNDS]
    elif (
        u32[active + ACTIVE_FRAME] != u32[behind + ACTIVE_FRAME]
        or u32[active + ACTIVE_BOUNDS] != u32[behind + ACTIVE_BOUNDS]
        or not u32[active + ACTIVE_DOMID] & ACTIVE_SUB_PAGE
    ):
        # Pinned as something else: the guest rewrote an entry in use.
        _release(behind_domid, behind_gref, readonly, dom_rows, u16, u32)
        reduce_status(pin, readonly, status, u16)
        return GNTST_eagain, -1, -1
    u32[active + ACTIVE_PIN] = pin + increment
    return GNTST_okay, behind_domid, behind_gref


def _held_against(u32: U32Words, active: int, pin: int, caller: int, increment: int) -> bool:
    """Whether a pinned entry is in use by another domain, or one more use would overflow its
    counter."""
    return pin != 0 and (
        u32[active + ACTIVE_DOMID] & LOW_HALF != caller
        or pin & increment << GNTPIN_oflow_shift != 0
    )


def _release(
    granter: int, gref: int, readonly: bool, dom_rows: U32Array, u16: U32Words, u32: U32Words
) -> None:
    """Take one pin of a copy back (Xen release_grant_for_copy)."""
    row = granter * ROW_WORDS
    active = active_word(dom_rows, row, gref)
    pin = u32[active + ACTIVE_PIN] - (GNTPIN_hstr_inc if readonly else GNTPIN_hstw_inc)
    u32[active + ACTIVE_PIN] = pin
    reduce_status(pin, readonly, status_half(dom_rows, row, gref), u16)
