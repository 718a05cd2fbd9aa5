"""What domains still hold: the report that tests and the command line end with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from attrs import frozen

from xennet.gnttab.hypercalls import Grant, Mapping
from xennet.hypervisor.store_ring import StoreRingReport

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

#: Ranges of numbers that a line names, and domains that the repr of a report names.
_RANGES = 8
_DOMAINS = 2


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

    def __repr__(self) -> str:
        return f"<DomainLeaks: domain {self.domid} {self.held()}>"

    def held(self) -> str:
        """How much of what is held, in a few words."""
        counts = {
            "grants": len(self.granted),
            "mappings": len(self.mappings),
            "ports": len(self.ports),
            "pages": self.pages,
            "lingering frames": len(self.lingering),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"

    def lines(self) -> Iterator[str]:
        """What is held: one line for each kind of thing and domain, with ranges of numbers."""
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
    """The things with the same key together, in the order of the first of each."""
    groups: dict[K, list[T]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    yield from groups.items()


def _numbers(noun: str, numbers: Iterable[int], form: str = "d") -> str:
    """``references 8..263, 270``: numbers as ranges, the first few of them."""
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
    """True if anything is held; its text says what."""

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
