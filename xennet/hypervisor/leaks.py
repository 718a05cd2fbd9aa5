"""What domains still hold: the report at the end of tests and of command line runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from attrs import frozen

from xennet.gnttab.hypercalls import Grant, Mapping
from xennet.hypervisor.store_ring import StoreRingReport

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

#: Most ranges of numbers in a line, and most domains in the repr of a report.
_RANGES = 8
_DOMAINS = 2


@frozen
class DomainLeaks:
    """What one domain holds beyond what it was created with.

    ``granted``: valid entries of its table. ``mappings``: pages of other domains that it has
    mapped. ``pinned``: its references that other domains use. ``ports``: its interdomain and
    unbound ports (VIRQs and IPIs concern no other domain). ``pages``: memory that it allocated or
    received. ``lingering``: frames that it gave up and that others still have mapped.
    ``store_ring`` is there for information: a domain is created with it, and what the control
    domain uses it with does not count either while the domain lives.
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

    def __repr__(self) -> str:
        return f"<DomainLeaks: domain {self.domid} {self.held()}>"

    def held(self) -> str:
        """The counts of everything that is held, in a few words."""
        counts = {
            "grants": len(self.granted),
            "mappings": len(self.mappings),
            "ports": len(self.ports),
            "pages": self.pages,
            "lingering frames": len(self.lingering),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"

    def lines(self) -> Iterator[str]:
        """What is held, one line for each kind of thing and domain, with ranges of numbers."""
        for (domid, used), grants in _by(self.granted, lambda g: (g.domid, bool(g.pin))):
            use = "in use" if used else "unused"
            yield f"grants {_references(grants)} to domain {domid}, {use}"
        for domid, mappings in _by(self.mappings, lambda m: m.domid):
            references = _numbers("reference", [m.gref for m in mappings])
            frames = _numbers("frame", [m.frame for m in mappings], "#x")
            yield f"maps {references} of domain {domid} ({frames})"
        if self.ports:
            yield f"has {_numbers('port', self.ports)} open"
        if self.pages:
            yield f"holds {self.pages} pages"
        if self.lingering:
            verb = "is" if len(self.lingering) == 1 else "are"
            yield f"gave up {_numbers('frame', self.lingering, '#x')}, which {verb} still mapped"


def _references(grants: Iterable[Grant]) -> str:
    references = _numbers("reference", [grant.gref for grant in grants])
    return f"{references} ({_numbers('frame', [grant.frame for grant in grants], '#x')})"


def _by(things: Iterable[T], key: Callable[[T], K]) -> Iterator[tuple[K, list[T]]]:
    """(key, things with that key), in the order in which the keys appear first."""
    groups: dict[K, list[T]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    yield from groups.items()


def _numbers(noun: str, numbers: Iterable[int], form: str = "d") -> str:
    """``references 8..263, 270``: numbers as ranges; behind the first few ranges only their
    count."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    said = [
        f"{low:{form}}" if low == high else f"{low:{form}}..{high:{form}}"
        for low, high in ranges[:_RANGES]
    ]
    more = sum(high - low + 1 for low, high in ranges[_RANGES:])
    plural = "" if said == [f"{ranges[0][0]:{form}}"] else "s"
    return f"{noun}{plural} {', '.join(said)}" + (f" and {more} more" if more else "")


@frozen
class LeakReport:
    """What all domains hold. True if anything is held; its text lists what."""

    domains: tuple[DomainLeaks, ...]

    def __bool__(self) -> bool:
        return any(self.domains)

    def __repr__(self) -> str:
        holders = [leaks for leaks in self.domains if leaks]
        if not holders:
            return "<LeakReport: nothing is held>"
        said = [f"domain {leaks.domid} {leaks.held()}" for leaks in holders[:_DOMAINS]]
        if more := holders[_DOMAINS:]:
            said.append(f"and {len(more)} more domains")
        return f"<LeakReport: {'; '.join(said)}>"

    def __str__(self) -> str:
        lines = [
            f"domain {leaks.domid} ({leaks.name}) {line}"
            for leaks in self.domains
            for line in leaks.lines()
        ]
        return "\n".join(lines) or "no domain holds anything"
