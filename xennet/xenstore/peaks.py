"""Peaks: the highest values of what quotas limit, of each domain and of all guests together."""

from __future__ import annotations

from collections.abc import Container, Mapping


class Peaks:
    """The peaks, keyed by the fields of :class:`Quota`. Domains in ``privileged`` are no guests."""

    def __init__(self, privileged: Container[int]) -> None:
        self.guests: dict[str, int] = {}
        self._privileged = privileged
        self._domains: dict[int, dict[str, int]] = {}

    def __repr__(self) -> str:
        return f"<Peaks {self.guests}>"

    def saw(self, domid: int, limit: str, value: int) -> None:
        """Note that ``domid`` has, or was granted, ``value`` of what the quota ``limit`` bounds."""
        mine = self._domains.get(domid)
        if mine is None:
            mine = self._domains[domid] = {}
        if value > mine.get(limit, 0):
            mine[limit] = value
        if domid not in self._privileged and value > self.guests.get(limit, 0):
            self.guests[limit] = value

    def of(self, domid: int) -> Mapping[str, int]:
        """The peaks of ``domid``; a missing key stands for 0."""
        return self._domains.get(domid, {})

    def forget(self, domid: int) -> None:
        """Forget a domain that is gone. The peaks of all guests stay."""
        self._domains.pop(domid, None)

    def reset(self, now: Mapping[int, Mapping[str, int]]) -> None:
        """Set the peaks of each domain to what it has ``now``, and those of all guests to 0."""
        self.guests.clear()
        self._domains = {domid: dict(usage) for domid, usage in now.items()}
