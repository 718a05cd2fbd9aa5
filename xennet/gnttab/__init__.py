"""Grant tables: the memory that domains share with the hypervisor, and the operations of both
sides.

``guest`` is the granting side, ``hypercalls`` the hypervisor's operations, ``copy`` the kernel of
GNTTABOP_copy, ``entry`` the steps that map and copy share, ``directory`` the positions of each
domain's table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.gnttab.hypercalls import Grant, GrantTables, Mapping
    from xennet.gnttab.table import GrantTable

__all__ = [
    "Grant",
    "GrantTable",
    "GrantTables",
    "Mapping",
]

_HOMES = {
    "Grant": "xennet.gnttab.hypercalls",
    "GrantTable": "xennet.gnttab.table",
    "GrantTables": "xennet.gnttab.hypercalls",
    "Mapping": "xennet.gnttab.hypercalls",
}

if not TYPE_CHECKING:  # a type checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
