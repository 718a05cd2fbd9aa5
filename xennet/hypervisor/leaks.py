"""What domains still hold: the report that tests and the command line end with."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from xennet.gnttab.hypercalls import Grant, Mapping
from xennet.hypervisor.store_ring import StoreRingReport


@frozen
class DomainLeaks:
    """What one domain holds beyond what it was born with.

    ``granted``: valid entries of its table; ``mappings``: foreign pages it has mapped; ``pinned``:
    its references that others use right now; ``ports``: its interdomain and unbound ports (VIRQs
    and IPIs are its own affair); ``pages``: memory it allocated or received; ``lingering``: frames
    it gave up that others still have mapped. ``store_ring`` is what it was born with to talk to the
    store, and what the control domain uses that with is not counted as held either, as long as the
    domain lives: it is there for information.
    """

    domid: int
    name: str
    granted: tuple[Grant, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    pinned: tuple[Grant, ...] = ()
    ports: tuple[int, ...] = ()
    pages: int = 0
    lingering: tuple[int, ...] = ()
    store_ring: StoreRingReport | None = None

    def __bool__(self) -> bool:
        return bool(
            self.granted
            or self.mappings
            or self.pinned
            or self.ports
            or self.pages
            or self.lingering
        )

    def lines(self) -> Iterator[str]:
        """One line for each thing that is held."""
        for grant in self.granted:
            yield (
                f"grants reference {grant.gref} (frame {grant.frame:#x}) to domain {grant.domid}, "
                + ("in use" if grant.pin else "unused")
            )
        for mapping in self.mappings:
            yield (
                f"maps reference {mapping.gref} of domain {mapping.domid} "
                f"(frame {mapping.frame:#x})"
            )
        for port in self.ports:
            yield f"has port {port} open"
        if self.pages:
            yield f"holds {self.pages} pages"
        for frame in self.lingering:
            yield f"gave up frame {frame:#x}, which is still mapped"


@frozen
class LeakReport:
    """True if anything is held; its text says what."""

    domains: tuple[DomainLeaks, ...]

    def __bool__(self) -> bool:
        return any(self.domains)

    def __str__(self) -> str:
        lines = [
            f"domain {leaks.domid} ({leaks.name}) {line}"
            for leaks in self.domains
            for line in leaks.lines()
        ]
        return "\n".join(lines) or "no domain holds anything"
