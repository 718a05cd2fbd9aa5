"""The granting side of a grant entry: ending an access that the other end may begin to use
meanwhile, and where the entries of many references are.

:func:`end_access` is a kernel step, for drivers (:mod:`xennet.netfront`) and for a domain's own
table (:mod:`xennet.gnttab.table`) alike. Beginning an access needs no step: frame and domid are
there, and the store of the flags makes the entry valid (xen/grant_table.h, "Introducing a valid
entry into the grant table").
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache

from xennet.abi.grant_table import GTF_reading, GTF_writing
from xennet.engine.kernel import Grants, compare_and_swap, fetch_and

IN_USE = GTF_reading | GTF_writing


def end_access(grants: Grants, gref: int) -> bool:
    """Take the access through ``gref`` back. Returns False while it is in use.

    ``access`` in ``grants`` has no marks, whatever the entry says now.

    After True no use of it begins. Version 1 has the marks in the word of the flags: it is swapped
    for 0 while it has none (xen/grant_table.h, "Invalidating an unused GTF_permit_access entry";
    Linux 6.1 gnttab_end_foreign_access_ref_v1). Version 2: the flags go first, then the marks are
    looked at (gnttab_end_foreign_access_ref_v2); a use that began just then goes on, but there will
    be no other. Pages that are granted for life (shift 0) have no entry here: their access ends
    with them.

    Where ``alone`` in ``grants`` is 1, an entry that is ``access`` may be ended in line, by a store
    of 0: kernels do so with every buffer.
    """
    words, shift, status, status_shift, access, _ = grants
    if shift == 1:
        # The usual case: the entry is as it was written.
        header = compare_and_swap(words, gref << 1, access, 0)
        if header == access:
            return True
        while not header & IN_USE:
            seen = compare_and_swap(words, gref << 1, header, 0)
            if seen == header:
                return True
            header = seen
        return False
    if shift == 2:
        if status[gref << status_shift] & IN_USE:
            return False
        fetch_and(words, gref << 2, 0)
        return not status[gref << status_shift] & IN_USE
    return True


#: Fewer entries than these are as quickly written one by one.
_FEW = 8
#: As many numbers as a 32-bit word can be.
_WORDS = 1 << 32


@lru_cache(maxsize=256)
def consecutive(numbers: range) -> array[int]:
    """``numbers`` as 32-bit words. The array is everybody's: it is not to be changed."""
    return array("I", numbers)


def in_a_row(grefs: Sequence[int]) -> range | None:
    """``grefs`` as a range, if they are many and one follows the other, up or down; else, and if
    they are not in an array of 32-bit words, None.

    Plain code reads and writes entries in a row at once (:func:`words_of`), not one by one.
    """
    count = len(grefs)
    if count < _FEW:
        return None
    first, step = grefs[0], 1 if grefs[-1] > grefs[0] else -1
    row = range(first, first + step * count, step)
    if not (0 <= first < _WORDS and 0 <= row.stop <= _WORDS):
        return None
    if grefs[-1] != row[-1] or grefs != consecutive(row):
        return None
    return row


def words_of(row: range, shift: int, word: int = 0) -> slice:
    """Where word ``word`` of the entries ``row`` (:func:`in_a_row`) is, in the words of a table
    whose entries have ``1 << shift`` of them."""
    return slice((row.start << shift) + word, (row.stop << shift) + word, row.step << shift)
