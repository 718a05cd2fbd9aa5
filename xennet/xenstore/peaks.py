"""The highest values seen of what quotas bind, of each domain and of all guests together."""

from __future__ import annotations

from collections.abc import Container, Mapping


class Peaks:
    """Keyed by the names of :class:`Quota`'s limits. Domains in ``privileged`` are no guests."""

    def __init__(self, privileged: Container[int]) -> None:
        self.guests: dict[str, int] = {}
        self._privileged = privileged
        self._domains: dict[int, dict[str, int]] = {}

    def saw(self, domid: int, limit: str, value: int) -> None:
        """``domid`` has, or was granted, ``value`` of what ``limit`` binds."""
        mine = self._domains.setdefault(domid, {})
        if value > mine.get(limit, 0):
            mine[limit] = value
        if value > self.guests.get(limit, 0) and domid not in self._privileged:
            self.guests[limit] = value

    def of(self, domid: int) -> Mapping[str, int]:
        """What ``domid`` had at most, 0 where a limit is missing."""
        return self._domains.get(domid, {})

    def forget(self, domid: int) -> None:
        """The domain is gone; what guests had at most stays."""
        self._domains.pop(domid, None)

    def reset(self, now: Mapping[int, Mapping[str, int]]) -> None:
        """Begin anew: each domain with what it has ``now``, the guests together with 0."""
        self.guests.clear()
        self._domains = {domid: dict(usage) for domid, usage in now.items()}
