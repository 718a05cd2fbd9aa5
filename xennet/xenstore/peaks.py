"""Peaks: the highest values of what quotas limit, of each domain and of all guests together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping


def _zeros() -> defaultdict[str, int]:
    return defaultdict(int)


class Peaks:
    """The peaks, keyed by the fields of :class:`Quota`. Domains in ``privileged`` are no guests."""

    def __init__(self, privileged: Container[int]) -> None:
        self.guests: dict[str, int] = {}
        self._privileged = privileged
        #: What each domain had at the last reset.
        self._at_reset: dict[int, Mapping[str, int]] = {}
        #: The highest values since then, for those who see values all the time to look at
        #: before they call :meth:`saw`.
        self.reached: defaultdict[int, defaultdict[str, int]] = defaultdict(_zeros)

    def __repr__(self) -> str:
        return f"<Peaks {self.guests}>"

    def saw(self, domid: int, limit: str, value: int) -> None:
        """Note that ``domid`` has, or was granted, ``value`` of what the quota ``limit`` bounds."""
        reached = self.reached[domid]
        if value > reached[limit]:
            reached[limit] = value
            if domid not in self._privileged and value > self.guests.get(limit, 0):
                self.guests[limit] = value

    def of(self, domid: int) -> Mapping[str, int]:
        """The peaks of ``domid``; a missing key stands for 0."""
        peaks = dict(self._at_reset.get(domid, {}))
        for limit, value in self.reached.get(domid, {}).items():
            peaks[limit] = max(value, peaks.get(limit, 0))
        return peaks

    def forget(self, domid: int) -> None:
        """Forget what a domain had that is gone. The peaks of all guests stay."""
        self._at_reset.pop(domid, None)
        self.reached.pop(domid, None)

    def reset(self, now: Mapping[int, Mapping[str, int]]) -> None:
        """Set the peaks of each domain to what it has ``now``, and those of all guests to 0."""
        self.guests.clear()
        self.reached.clear()
        self._at_reset = dict(now)
