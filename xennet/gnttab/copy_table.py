"""A table of struct gnttab_copy as observers get it."""

from __future__ import annotations

from xennet.abi.grant_table import (
    GNTST_NAMES,
    GNTTAB_COPY,
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
)
from xennet.abi.xen import DOMID_SELF

#: Elements that a repr shows.
_SHOWN = 8


class CopyTable(bytes):
    """The bytes of whole elements; the repr says in words what they copy, and their statuses."""

    def __repr__(self) -> str:
        size = GNTTAB_COPY.size
        count = len(self) // size
        shown = [_element(self[i * size : (i + 1) * size]) for i in range(min(count, _SHOWN))]
        more = [f"and {count - _SHOWN} more"] if count > _SHOWN else []
        return f"<CopyTable {'; '.join(shown + more)}>"


def _element(raw: bytes) -> str:
    flags = GNTTAB_COPY.read(raw).flags
    by_gref = flags & GNTCOPY_source_gref, flags & GNTCOPY_dest_gref
    values = GNTTAB_COPY_BY_FLAGS[by_gref[0] | by_gref[1]].unpack_from(raw)
    source, source_domid, source_at, dest, dest_domid, dest_at, length, _, status = values
    ends = _end(source, source_domid, source_at, by_gref[0])
    into = _end(dest, dest_domid, dest_at, by_gref[1])
    return f"{length} bytes from {ends} to {into}: {GNTST_NAMES.get(status, status)}"


def _end(where: int, domid: int, offset: int, by_gref: int) -> str:
    page = f"reference {where}" if by_gref else f"frame {where:#x}"
    whose = "" if domid == DOMID_SELF else f" of domain {domid}"
    return f"{page}{whose} at {offset}"
