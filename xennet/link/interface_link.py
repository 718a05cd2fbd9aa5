"""The base of links whose ends are network interfaces, with counters that a report shows."""

from __future__ import annotations

from xennet.ifnet import Interfaces
from xennet.link.base_link import BaseLink
from xennet.link.report import InterfaceReport, LinkReport, LinkStatus
from xennet.pump import Clock


class InterfaceLink(BaseLink):
    """A link whose pairs are interfaces of one machine, ``interfaces`` (xennet.link.base_link)."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.interfaces = Interfaces()
        self._report: LinkReport | None = None

    def close(self) -> None:
        """Remove the interfaces. May be repeated."""
        self._report = self.report()
        super().close()

    def report(self) -> LinkReport:
        """A report of the interfaces with their counters, as they were when the link was closed."""
        if self._report is not None:
            return self._report
        return LinkReport(interfaces=tuple(InterfaceReport.of(one) for one in self.interfaces))

    def status(self) -> LinkStatus:
        """The frames that the interfaces have dropped; their queues are empty between two moves."""
        counters = [interface.counters for interface in self.interfaces]
        return LinkStatus(dropped=sum(one.oerrors + one.oqdrops for one in counters))

    def left_behind(self) -> list[str]:
        """The interfaces that still exist, a line for each."""
        return [f"interface {interface.name}" for interface in self.interfaces]
