"""A domain's means to talk to the store: a page, granted as reference 1, and a port.

Its builder makes them before it runs (libxc ``xc_dom_gnttab_seed``, libxl's EVTCHNOP_alloc_unbound
for the domain), so the domain has them for life.
"""

from __future__ import annotations

from attrs import define, frozen

from xennet.abi.grant_table import GNTTAB_RESERVED_XENSTORE, GTF_permit_access
from xennet.gnttab.directory import ROW_VERSION, ROW_WORDS
from xennet.gnttab.entry import HEADER_S_domid, entry_word
from xennet.gnttab.hypercalls import GrantTables
from xennet.memory import Memory, PageRun


@define(eq=False)
class StoreRing:
    """The page and the port, as the domain has them.

    A PV guest finds the frame of ``page`` in start_info.store_mfn and ``port`` in store_evtchn.
    ``server_port`` and ``server_handle`` are the control domain's port and mapping, None while it
    has none.
    """

    page: PageRun
    port: int
    server_port: int | None = None
    server_handle: int | None = None

    @property
    def gfn(self) -> int:
        """The page's frame number."""
        return self.page.first


@frozen
class StoreRingReport:
    """A domain's store ring in the leak report.

    ``frame``, ``gref`` and ``port`` name it; ``served``: the control domain uses it.
    """

    frame: int
    gref: int
    port: int
    served: bool

    @classmethod
    def of(cls, ring: StoreRing) -> StoreRingReport:
        """The report on ``ring`` as it is now."""
        served = ring.server_port is not None
        return cls(ring.gfn, GNTTAB_RESERVED_XENSTORE, ring.port, served)


def seed_grant(memory: Memory, tables: GrantTables, domid: int, grantee: int, frame: int) -> None:
    """Write the entry of the store's reserved reference into a table whose owner does not run
    yet."""
    rows, row = tables.directory.rows, domid * ROW_WORDS
    version = rows[row + ROW_VERSION]
    entry = entry_word(rows, row, GNTTAB_RESERVED_XENSTORE)
    for word in range(1, 1 << version):
        memory.u32[entry + word] = 0
    memory.u32[entry + version] = frame
    memory.u32[entry] = grantee << HEADER_S_domid | GTF_permit_access
