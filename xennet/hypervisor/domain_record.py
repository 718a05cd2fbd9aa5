"""The hypervisor's record of one domain, beside its grant table and its ports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from attrs import define, evolve, field, frozen

from xennet.hypervisor.event_pages import EventPages
from xennet.hypervisor.store_ring import StoreRing
from xennet.memory import AddressSpace, PageRun


@frozen
class DomainInfo:
    """XEN_DOMCTL_getdomaininfo.

    ``shutdown`` is the SHUTDOWN_* code (xen/sched.h) of a domain that has stopped, else None.
    """

    domid: int
    name: str
    vcpus: int
    dying: bool = False
    shutdown: int | None = None


def take_away(pages: PageRun) -> None:
    """End the views of a run of pages."""
    # A view from which the guest made others (numpy arrays, say) cannot be released: its own loss.
    with suppress(BufferError):
        pages.revoke()


@define(eq=False, repr=False)
class DomainRecord:
    """The state behind the handle of a domain.

    ``running``: neither shut down nor destroyed. ``runs`` (by first frame): the pages that it can
    free. ``fixed``: the pages that it has for life (shared info, grant table). ``mapped`` (by grant
    handle): pages of other domains. ``received``: frames that arrived by GNTTABOP_transfer and have
    no views yet. ``handlers``: by port. ``store_ring``: the page and port that its builder made for
    the store. ``event_pages``: the pages by which its kernel uses the FIFO ABI of event channels.
    ``upcall``: what is called in place of handlers, for a domain whose own code reads its event
    bits. The last three may be None.
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
    upcall: Callable[[], None] | None = None

    def stop(self, *, shutdown: int | None = None, dying: bool = False) -> None:
        """Stop the domain's code for good."""
        self.running = False
        self.info = evolve(
            self.info,
            dying=self.info.dying or dying,
            shutdown=self.info.shutdown if shutdown is None else shutdown,
        )
        self.handlers.clear()

    @property
    def allocated(self) -> int:
        """Number of pages that the domain allocated or received."""
        return sum(run.count for run in self.runs.values()) + len(self.received)

    def run_with(self, frame: int) -> PageRun | None:
        """The run in :attr:`runs` that contains ``frame``; None if there is none."""
        if (single := self.runs.get(frame)) is not None:
            return single
        for run in self.runs.values():
            if run.first <= frame < run.first + run.count:
                return run
        return None

    def take_apart(self, frame: int) -> bool:
        """Make the pages of the run that contains ``frame`` pages without views, in
        :attr:`received`. Returns whether ``frame`` is one of those now."""
        run = self.run_with(frame)
        if run is not None:
            del self.runs[run.first]
            self.received.update(range(run.first, run.first + run.count))
            take_away(run)
        return frame in self.received

    def give_up_memory(self) -> list[tuple[int, int]]:
        """End all views. Returns (first frame, count) of what the domain owned.

        The grant table is not in the list: the grant tables free it.
        """
        initial = [self.shared_info, *(self.event_pages or ())]
        if self.store_ring is not None:
            initial.append(self.store_ring.page)
        for pages in (*initial, *self.runs.values(), *self.fixed, *self.mapped.values()):
            take_away(pages)
        owned = [(page.first, 1) for page in initial]
        owned += [(run.first, run.count) for run in self.runs.values()]
        owned += [(frame, 1) for frame in self.received]
        for kept in (self.runs, self.fixed, self.mapped, self.received):
            kept.clear()
        return owned
