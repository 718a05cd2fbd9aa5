"""The directory of grant tables: one flat row of words per domain id.

The grant-copy kernel looks domains up here, so a row is eight 32-bit words in one array and not an
object. There is a row for each ordinary domain id; the array is an anonymous mapping, in which rows
that were never touched take no memory.
"""

from __future__ import annotations

import mmap

from xennet.abi.xen import DOMID_FIRST_RESERVED

#: Ordinary domain ids are 0 .. NR_DOMIDS - 1.
NR_DOMIDS = DOMID_FIRST_RESERVED

ROW_WORDS = 8
#: Words of a row.
ROW_STATE = 0  # NONE, ALIVE or DYING
ROW_VERSION = 1  # grant table version, 1 or 2
ROW_SHARED = 2  # first frame of the shared table
ROW_ENTRIES = 3  # grant references in use now: 0 .. ROW_ENTRIES - 1
ROW_STATUS = 4  # first frame of the status words (version 2)
ROW_ACTIVE = 5  # first frame of the active entries, which no guest sees
ROW_COPIED = 6  # bytes that this domain's GNTTABOP_copy calls moved, two words, low first

NONE = 0
ALIVE = 1
DYING = 2


class DomainDirectory:
    """``rows``: ROW_WORDS unsigned 32-bit words per domain id; domain d starts at d * ROW_WORDS."""

    def __init__(self) -> None:
        self.rows = memoryview(mmap.mmap(-1, NR_DOMIDS * ROW_WORDS * 4)).cast("I")

    def __repr__(self) -> str:
        return f"<DomainDirectory {len(self.rows) // ROW_WORDS} rows>"

    def row(self, domid: int) -> int:
        """The index of the first word of ``domid``'s row; -1 when no such domain exists.

        A dying domain still exists: Xen finds it until its last page is gone.
        """
        if 0 <= domid < NR_DOMIDS and self.rows[domid * ROW_WORDS] != NONE:
            return domid * ROW_WORDS
        return -1

    def state(self, domid: int) -> int:
        """NONE, ALIVE or DYING; NONE for ids that no domain can have."""
        return self.rows[domid * ROW_WORDS] if 0 <= domid < NR_DOMIDS else NONE

    def clear(self, domid: int) -> None:
        """Clear the row of a domain."""
        for word in range(domid * ROW_WORDS, (domid + 1) * ROW_WORDS):
            self.rows[word] = 0
