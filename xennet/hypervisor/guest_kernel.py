"""A guest's kernel: xennet.interface on the emulator, as a driver of one domain sees it."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.abi.grant_table import (
    GNTST_NAMES,
    GRANT_ENTRIES_V2_PER_PAGE,
    GRANT_STATUS_PER_PAGE,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_handle,
    GNTST_okay,
)
from xennet.abi.xen import DOMID_SELF
from xennet.gnttab.table import GrantTable
from xennet.hypervisor import Domain
from xennet.interface import GrantMapping, HypercallError, PageRun, StoreClient
from xennet.memory import PageRun as OwnPages
from xennet.observe import Interest


@frozen(eq=False)
class MappedGrant:
    """A page of another domain, mapped through grant ``gref`` of domain ``domid``."""

    domid: int
    gref: int
    page: PageRun


def _refusal(op: str, status: int, what: str) -> HypercallError:
    return HypercallError(op, status, f"{what}: {GNTST_NAMES.get(status, 'unknown status')}")


class GuestKernel:
    """The kernel of a guest: implements xennet.interface.Hypervisor for ``domain``.

    ``store`` is the domain's XenStore connection (XenStoreService.connect). The domain's grant
    table, of the version that the domain was created with, grows when references are claimed.
    ``notify``, ``grant_copy`` and ``defer`` are Domain.send, .grant_copy and .defer.
    """

    def __init__(self, domain: Domain, store: StoreClient) -> None:
        self._domain = domain
        self._store = store
        # What a driver does for every frame: the domain's own calls, without a step in between.
        self.notify = domain.send
        self.grant_copy = domain.grant_copy
        self.defer = domain.defer
        self._mapped: dict[GrantMapping, int] = {}
        version = domain.get_version(DOMID_SELF)
        _, frames, _ = domain.query_size(DOMID_SELF)
        grow = self._setup_v2 if version == 2 else self._setup_v1
        shared, status = grow(frames)
        self._grants = GrantTable(shared, version, status, grow=grow)

    def __repr__(self) -> str:
        return f"<GuestKernel of domain {self.domid}: {self._grants.held} grants held>"

    @property
    def domid(self) -> int:
        """The domain's number."""
        return self._domain.domid

    @property
    def running(self) -> bool:
        """Whether the domain's code may run (xennet.interface.Stoppable)."""
        return self._domain.running

    @property
    def grants(self) -> GrantTable:
        """The domain's own grant table."""
        return self._grants

    @property
    def store(self) -> StoreClient:
        """The domain's XenStore connection."""
        return self._store

    def alloc_pages(self, count: int) -> OwnPages:
        """Allocate ``count`` consecutive zeroed pages. Raises OutOfFramesError if there is no such
        run."""
        return self._domain.alloc_pages(count)

    def free_pages(self, pages: PageRun) -> None:
        """Free a whole run of alloc_pages; its views end. Raises ValueError for any other run."""
        self._domain.free_pages(pages)

    def map_grant(self, domid: int, gref: int, readonly: bool = False) -> MappedGrant:
        """GNTTABOP_map_grant_ref. Raises HypercallError with the GNTST_ code on refusal."""
        flags = GNTMAP_host_map | (GNTMAP_readonly if readonly else 0)
        status, handle, page = self._domain.map_grant_ref(domid, gref, flags)
        if page is None:
            what = f"reference {gref} of domain {domid}"
            raise _refusal("GNTTABOP_map_grant_ref", status, what)
        mapping = MappedGrant(domid, gref, page)
        self._mapped[mapping] = handle
        return mapping

    def unmap_grant(self, mapping: GrantMapping) -> None:
        """GNTTABOP_unmap_grant_ref of a mapping that :meth:`map_grant` returned; its views end.

        Raises HypercallError (GNTST_bad_handle) if it is not mapped.
        """
        op, what = "GNTTABOP_unmap_grant_ref", f"reference {mapping.gref} of domain {mapping.domid}"
        handle = self._mapped.pop(mapping, None)
        if handle is None:
            raise _refusal(op, GNTST_bad_handle, what)
        status = self._domain.unmap_grant_ref(handle)
        if status != GNTST_okay:
            raise _refusal(op, status, what)

    def alloc_unbound(self, remote_domid: int) -> int:
        """EVTCHNOP_alloc_unbound: a port to which ``remote_domid`` can bind, masked until
        :meth:`on_event`."""
        return self._domain.alloc_unbound(DOMID_SELF, remote_domid)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain: a port bound to a remote one, masked until :meth:`on_event`.

        It is pending already, so the handler runs at least once.
        """
        return self._domain.bind_interdomain(remote_domid, remote_port)

    def on_event(self, port: int, handler: Callable[[], None]) -> None:
        """Run ``handler()`` when an event arrives at ``port``, and unmask the port."""
        self._domain.set_handler(port, handler)
        self._domain.unmask(port)

    def mask(self, port: int) -> None:
        """Set the port's mask bit: an event that arrives stays pending."""
        self._domain.mask(port)

    def unmask(self, port: int) -> None:
        """EVTCHNOP_unmask: a pending event is delivered."""
        self._domain.unmask(port)

    def close_port(self, port: int) -> None:
        """EVTCHNOP_close; no event of the port is handled any more."""
        self._domain.close(port)

    @property
    def now(self) -> int:
        """Virtual time in ns."""
        return self._domain.now

    def call_after(
        self, delay: int, work: Callable[[], None], *, background: bool = False
    ) -> Callable[[], None]:
        """Run ``work()`` in ``delay`` ns of virtual time, as RunLoop.call_at. Returns a function
        that prevents it."""
        return self._domain.call_after(delay, work, background=background)

    def emit(self, event: object) -> None:
        """Show an event to the observers of the machine."""
        self._domain.emit(event)

    def interest(self, kind: type) -> Interest:
        """The interest of observers in events of ``kind``."""
        return self._domain.interest(kind)

    def _setup_v1(self, nr_frames: int) -> tuple[OwnPages, OwnPages | None]:
        status, frames = self._domain.setup_table(DOMID_SELF, nr_frames)
        if status != GNTST_okay:
            _, _, most = self._domain.query_size(DOMID_SELF)
            what = f"{nr_frames} frames of domain {self.domid}, which may have {most}"
            raise _refusal("GNTTABOP_setup_table", status, what)
        return self._domain.table_pages(frames[0], len(frames)), None

    def _setup_v2(self, nr_frames: int) -> tuple[OwnPages, OwnPages | None]:
        shared, _ = self._setup_v1(nr_frames)
        nr_status = -(-nr_frames * GRANT_ENTRIES_V2_PER_PAGE // GRANT_STATUS_PER_PAGE)
        status, frames = self._domain.get_status_frames(DOMID_SELF, nr_status)
        if status != GNTST_okay:
            raise _refusal("GNTTABOP_get_status_frames", status, f"{nr_status} frames")
        return shared, self._domain.table_pages(frames[0], len(frames))
