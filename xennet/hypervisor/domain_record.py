"""What the hypervisor knows of one domain, beside its grant table and its ports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from attrs import define, evolve, field, frozen

from xennet.hypervisor.event_pages import EventPages
from xennet.hypervisor.store_ring import StoreRing
from xennet.memory import AddressSpace, PageRun


@frozen
class DomainInfo:
    """XEN_DOMCTL_getdomaininfo. ``shutdown`` is the SHUTDOWN_* code (xen/sched.h) of a domain that
    stopped, else None."""

    domid: int
    name: str
    vcpus: int
    dying: bool = False
    shutdown: int | None = None


def take_away(pages: PageRun) -> None:
    """End the views of a run."""
    # A view that the guest lent on (to numpy, say) cannot be released; that must hurt nobody else.
    with suppress(BufferError):
        pages.revoke()


@define(eq=False, repr=False)
class DomainRecord:
    """The state behind a domain handle.

    ``running`` is False once the domain is shut down or destroyed. ``runs`` (by first frame) are
    the pages that it can give back, ``fixed`` those that it has for life (shared info, grant
    table), ``mapped`` (by grant handle) the foreign ones, ``received`` the frames that came by
    GNTTABOP_transfer and have no views yet. ``handlers`` are by port. ``store_ring`` is what the
    builder gave it to talk to the store, ``event_pages`` what its kernel uses the FIFO ABI of event
    channels with, if there is such a thing.
    """

    info: DomainInfo
    space: AddressSpace
    shared_info: PageRun
    running: bool = True
    spurious: int = 0
    runs: dict[int, PageRun] = field(factory=dict)
    fixed: list[PageRun] = field(factory=list)
    mapped: dict[int, PageRun] = field(factory=dict)
    received: set[int] = field(factory=set)
    handlers: dict[int, Callable[[], None]] = field(factory=dict)
    store_ring: StoreRing | None = None
    event_pages: EventPages | None = None

    def stop(self, *, shutdown: int | None = None, dying: bool = False) -> None:
        """The domain's code runs no more."""
        self.running = False
        self.info = evolve(
            self.info,
            dying=self.info.dying or dying,
            shutdown=self.info.shutdown if shutdown is None else shutdown,
        )
        self.handlers.clear()

    def run_with(self, frame: int) -> PageRun | None:
        """The run of :attr:`runs` that holds ``frame``."""
        for run in self.runs.values():
            if run.first <= frame < run.first + run.count:
                return run
        return None

    def give_up_memory(self) -> list[tuple[int, int]]:
        """Take all views away. Returns (first frame, count) of what the domain owned, except its
        grant table, which is the grant tables' to free."""
        born = [self.shared_info, *(self.event_pages or ())]
        if self.store_ring is not None:
            born.append(self.store_ring.page)
        for pages in (*born, *self.runs.values(), *self.fixed, *self.mapped.values()):
            take_away(pages)
        owned = [(page.first, 1) for page in born]
        owned += [(run.first, run.count) for run in self.runs.values()]
        owned += [(frame, 1) for frame in self.received]
        for kept in (self.runs, self.fixed, self.mapped, self.received):
            kept.clear()
        return owned
