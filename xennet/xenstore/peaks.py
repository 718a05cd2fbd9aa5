"""Peaks: the highest values of what quotas limit, of each domain and of all guests together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping


class Peaks:
    """The peaks, keyed by the fields of :class:`Quota`. Domains in ``privileged`` are no guests."""

    def __init__(self, privileged: Container[int]) -> None:
        self.guests: dict[str, int] = {}
        self._privileged = privileged
        #: The peaks that each domain's usage may raise: its own, and those of all guests.
        self._raised: dict[int, tuple[dict[str, int], ...]] = {}
        #: Of each domain, values that none of these peaks is below.
        self._reached: defaultdict[int, dict[str, int]] = defaultdict(dict)

    def __repr__(self) -> str:
        return f"<Peaks {self.guests}>"

    def _raised_by(self, domid: int) -> tuple[dict[str, int], ...]:
        """The peaks, by limit, that the usage of ``domid`` may raise: its own, and unless it is
        privileged those of all guests. They stay these objects."""
        raised = self._raised.get(domid)
        if raised is None:
            own: dict[str, int] = {}
            raised = (own,) if domid in self._privileged else (own, self.guests)
            self._raised[domid] = raised
        return raised

    def saw(self, domid: int, limit: str, value: int) -> None:
        """Note that ``domid`` has, or was granted, ``value`` of what the quota ``limit`` bounds."""
        reached = self._reached[domid]
        if value > reached.get(limit, 0):
            reached[limit] = value
            for peaks in self._raised_by(domid):
                if value > peaks.get(limit, 0):
                    peaks[limit] = value

    def of(self, domid: int) -> Mapping[str, int]:
        """The peaks of ``domid``; a missing key stands for 0."""
        known = self._raised.get(domid)
        return {} if known is None else known[0]

    def forget(self, domid: int) -> None:
        """Forget what a domain had that is gone. The peaks of all guests stay."""
        for own in self._raised.get(domid, ())[:1]:
            own.clear()
        self._reached.pop(domid, None)

    def reset(self, now: Mapping[int, Mapping[str, int]]) -> None:
        """Set the peaks of each domain to what it has ``now``, and those of all guests to 0."""
        self.guests.clear()
        self._reached.clear()
        for own, *_ in self._raised.values():
            own.clear()
        for domid, usage in now.items():
            self._raised_by(domid)[0].update(usage)
