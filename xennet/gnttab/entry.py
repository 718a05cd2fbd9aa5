"""One grant entry: where its words are, and the steps that mapping and copying share.

A reference has up to three places:

* its *entry* in the shared table, which the guest writes: flags, domid, frame
  (xen/grant_table.h, struct grant_entry_v1: 2 words, union grant_entry_v2: 4 words);
* its *status* half word, in which only the hypervisor sets GTF_reading and GTF_writing: the flags
  of the entry itself in version 1, an array of its own in version 2;
* its *active entry*, which no guest sees: who uses the reference now and what it meant when that
  use began. Once pinned, a reference means what the active entry says, and what the guest writes
  into its table meanwhile changes nothing (Xen's struct active_grant_entry).

Active entries are four words: pin, frame, grantee | is_sub_page << 16, start | length << 16. A pin
counts uses in four bytes, for each of device and host, reading and writing.

Everything here is a kernel step: plain functions over flat integer views. The guest changes an
entry while it is being used, so a use is marked in a way that the guest, who ends an access only
while there are no marks, cannot miss:

* version 1 has flags, domid and marks in one word: the marks are swapped into the very word that
  was checked (cmpxchg), a few times at most, lest a guest that keeps changing it holds us up;
* version 2 has the marks in another place: they are set first, and the flags checked again behind
  a full barrier, while the guest clears the flags first and then looks for marks. One sees the
  other.

What an entry means, its frame above all, is loaded behind the marks: until then it may change.
"""

from __future__ import annotations

from xennet.abi.codec import Codec
from xennet.abi.grant_table import (
    GRANT_ENTRIES_V1_PER_PAGE,
    GRANT_ENTRIES_V2_PER_PAGE,
    GRANT_ENTRY_V1,
    GRANT_ENTRY_V2_FULL,
    GRANT_ENTRY_V2_SUB,
    GRANT_ENTRY_V2_TRANSITIVE,
    GNTST_general_error,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_type_mask,
    GTF_writing,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.kernel import U32Array, U32Words, compare_and_swap, fetch_and, fetch_or
from xennet.gnttab.directory import ROW_ACTIVE, ROW_SHARED, ROW_STATUS, ROW_VERSION

HALVES_PER_PAGE = PAGE_SIZE // 2
WORDS_PER_PAGE = PAGE_SIZE // 4

# An entry of version v has 2^v words, so a reference becomes a word by a shift of v; its frame
# number starts at word v. In version 1 its flags, the status half word too, are 4 half words apart.
for _version, _frame_at, _per_page in (
    (1, GRANT_ENTRY_V1.offsets["frame"], GRANT_ENTRIES_V1_PER_PAGE),
    (2, GRANT_ENTRY_V2_FULL.offsets["full_page.frame"], GRANT_ENTRIES_V2_PER_PAGE),
):
    if (WORDS_PER_PAGE >> _version, 4 * _version) != (_per_page, _frame_at):
        raise AssertionError(f"version {_version} entries are not laid out as kernels expect")
V1_STATUS_SHIFT = 2


def _word(codec: Codec, name: str) -> int:
    return codec.offsets[name] // 4


def _shift(codec: Codec, name: str) -> int:
    return codec.offsets[name] % 4 * 8


#: Word 0 of an entry: flags | domid << HEADER_S_domid.
HEADER_S_domid = _shift(GRANT_ENTRY_V1, "domid")
#: Word 1 of a sub-page entry: page_off | length << SUB_PAGE_S_length.
SUB_PAGE_W = _word(GRANT_ENTRY_V2_SUB, "sub_page.page_off")
SUB_PAGE_S_length = _shift(GRANT_ENTRY_V2_SUB, "sub_page.length")
#: Words of a transitive entry: trans_domid (low half), gref.
TRANSITIVE_W_domid = _word(GRANT_ENTRY_V2_TRANSITIVE, "transitive.trans_domid")
TRANSITIVE_W_gref = _word(GRANT_ENTRY_V2_TRANSITIVE, "transitive.gref")

#: Active entries: words each, and as a shift; indices of the words.
ACTIVE_WORDS = 4
ACTIVE_SHIFT = 2
ACTIVE_PIN = 0
ACTIVE_FRAME = 1
ACTIVE_DOMID = 2
ACTIVE_BOUNDS = 3
ACTIVE_SUB_PAGE = 1 << 16

#: What one use adds to the pin (Xen's names).
GNTPIN_hstw_inc = 1 << 0
GNTPIN_hstr_inc = 1 << 8
GNTPIN_devw_inc = 1 << 16
GNTPIN_devr_inc = 1 << 24
#: Flags that a use looks at: a copy may be of a part of a page, a mapping may not.
COPY_MASK = GTF_type_mask
MAP_MASK = GTF_type_mask | GTF_sub_page
#: Number of tries with a header that keeps changing (Xen: retries++ == 4).
MOST_SWAPS = 5
#: The counters of writing uses.
GNTPIN_w_mask = 0x00FF00FF
#: From the increment of a counter to its top bit: 128 uses are the most (GNTPIN_incr2oflow_mask).
GNTPIN_oflow_shift = 7


def entry_word(rows: U32Array, row: int, gref: int) -> int:
    """The index of the entry's first word in the arena (32-bit words)."""
    return rows[row + ROW_SHARED] * WORDS_PER_PAGE + (gref << rows[row + ROW_VERSION])


def status_half(rows: U32Array, row: int, gref: int) -> int:
    """The index of the entry's status half word in the arena (16-bit words)."""
    if rows[row + ROW_VERSION] == 1:
        return rows[row + ROW_SHARED] * HALVES_PER_PAGE + (gref << V1_STATUS_SHIFT)
    return rows[row + ROW_STATUS] * HALVES_PER_PAGE + gref


def active_word(rows: U32Array, row: int, gref: int) -> int:
    """The index of the active entry's first word in the arena (32-bit words)."""
    return rows[row + ROW_ACTIVE] * WORDS_PER_PAGE + (gref << ACTIVE_SHIFT)


def granted_frame(u32: U32Words, entry: int, version: int) -> int:
    """The frame number in an entry: 32 bits in version 1, 64 in version 2."""
    low = u32[entry + version]
    return low if version == 1 else low | u32[entry + version + 1] << 32


def owns(owner: U32Array, domid: int, frame: int) -> bool:
    """Whether ``frame`` is a page of ``domid`` (Xen get_page); if not, the status is
    GNTST_bad_page."""
    # Frame numbers have 64 bits: compiled, the upper half of them is below 0.
    return 0 <= frame < len(owner) and owner[frame] == domid


def set_status(
    pin: int,
    readonly: bool,
    mask: int,
    kind: int,
    version: int,
    grantee: int,
    entry: int,
    status: int,
    u16: U32Words,
    u32: U32Words,
) -> int:
    """Check an entry against a use of it, and mark it used. Returns its header; or a GNTST_ code
    below 0, and the entry is not marked then.

    ``header & mask`` has to be ``kind`` (:func:`allows`). ``entry`` is the index of its first word
    in ``u32``, ``status`` that of its status half word in ``u16``. Xen's _set_status_v1 and
    _set_status_v2 (xen 4.17 common/grant_table.c).
    """
    marks = GTF_reading if readonly else GTF_reading | GTF_writing
    header = u32[entry]
    if version == 1:
        for _ in range(MOST_SWAPS):
            if not allows(header, pin, readonly, mask, kind, grantee):
                return GNTST_general_error
            seen = compare_and_swap(u32, entry, header, header | marks)
            if seen == header:
                return header
            header = seen
        return GNTST_general_error  # "Shared grant entry is unstable"
    if not allows(header, pin, readonly, mask, kind, grantee):
        return GNTST_general_error
    fetch_or(u16, status, marks)
    # The guest sees the marks from here on. Did it take the access back before?
    header = u32[entry]
    if allows(header, pin, readonly, mask, kind, grantee):
        return header
    fetch_and(u16, status, ~(GTF_writing if pin else marks))
    return GNTST_general_error


def allows(header: int, pin: int, readonly: bool, mask: int, kind: int, grantee: int) -> bool:
    """Whether an entry with this header, which was read once, may be used in this way.

    The type (``header & mask`` is ``kind``) and the domid count only while nothing pins the entry;
    read-only entries are never written through.
    """
    if pin == 0 and (header & mask != kind or header >> HEADER_S_domid != grantee):
        return False
    return readonly or not header & GTF_readonly


def reduce_status(pin: int, readonly: bool, status: int, u16: U32Words) -> None:
    """Take back the marks that no remaining ``pin`` justifies (Xen reduce_status_for_pin)."""
    clear = 0 if pin else GTF_reading
    if not readonly and not pin & GNTPIN_w_mask:
        clear |= GTF_writing
    if clear:
        fetch_and(u16, status, ~clear)
