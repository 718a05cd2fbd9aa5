"""Peaks: the highest values of what quotas limit, of each domain and of all guests together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping


class Peaks:
    """The peaks, keyed by the fields of :class:`Quota`. Domains in ``privileged`` are no guests."""

    def __init__(self, privileged: Container[int]) -> None:
        self.guests: dict[str, int] = {}
        self._privileged = privileged
        #: Of each domain: what it had at the last reset, and the highest values since then.
        self._at_reset: dict[int, Mapping[str, int]] = {}
        self._reached: defaultdict[int, dict[str, int]] = defaultdict(dict)

    def __repr__(self) -> str:
        return f"<Peaks {self.guests}>"

    def saw(self, domid: int, limit: str, value: int) -> None:
        """Note that ``domid`` has, or was granted, ``value`` of what the quota ``limit`` bounds."""
        reached = self._reached[domid]
        if value > reached.get(limit, 0):
            reached[limit] = value
            if domid not in self._privileged and value > self.guests.get(limit, 0):
                self.guests[limit] = value

    def of(self, domid: int) -> Mapping[str, int]:
        """The peaks of ``domid``; a missing key stands for 0."""
        peaks = dict(self._at_reset.get(domid, {}))
        for limit, value in self._reached.get(domid, {}).items():
            peaks[limit] = max(value, peaks.get(limit, 0))
        return peaks

    def forget(self, domid: int) -> None:
        """Forget what a domain had that is gone. The peaks of all guests stay."""
        self._at_reset.pop(domid, None)
        self._reached.pop(domid, None)

    def reset(self, now: Mapping[int, Mapping[str, int]]) -> None:
        """Set the peaks of each domain to what it has ``now``, and those of all guests to 0."""
        self.guests.clear()
        self._reached.clear()
        self._at_reset = dict(now)
