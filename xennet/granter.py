"""The granting side of a grant entry: ending an access that the other end may begin to use
meanwhile.

A kernel step, for drivers (:mod:`xennet.netfront`) and for a domain's own table
(:mod:`xennet.gnttab.table`) alike. Beginning an access needs no step: frame and domid are there,
and the store of the flags makes the entry valid (xen/grant_table.h, "Introducing a valid entry into
the grant table").
"""

from __future__ import annotations

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
