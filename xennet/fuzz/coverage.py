"""Which branches executions have taken, and about how often: features.

A counter has one feature for each of eight ranges (1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127,
128 and more), as other coverage-guided fuzzers have them. A set of features is as many bytes as
there are counters, a bit for each.
"""

from __future__ import annotations

from bisect import bisect_right

_FROM = (1, 2, 3, 4, 8, 16, 32, 128)

#: For bytes.translate: a counter -> the bit of its feature.
FEATURES = bytes(1 << bisect_right(_FROM, count) >> 1 for count in range(256))


class Coverage:
    """A set of features that grows; ``seen``: one that there is at the start."""

    def __init__(self, seen: bytes = b"") -> None:
        self._seen = int.from_bytes(seen, "little")
        self._whole: set[bytes] = set()  # counters of which nothing is new

    def add(self, counters: bytes) -> bool:
        """Add the features of an execution. Returns whether one of them is new."""
        if counters in self._whole:
            return False
        if len(self._whole) < 1 << 14:
            self._whole.add(counters)
        features = int.from_bytes(counters.translate(FEATURES), "little")
        if not features & ~self._seen:
            return False
        self._seen |= features
        return True

    def merge(self, seen: bytes) -> None:
        """Add a set of features."""
        self._seen |= int.from_bytes(seen, "little")

    def __bytes__(self) -> bytes:
        return self._seen.to_bytes((self._seen.bit_length() + 7) // 8, "little")

    @property
    def features(self) -> int:
        """How many features there are."""
        return self._seen.bit_count()

    @property
    def branches(self) -> int:
        """How many counters were ever above zero."""
        return sum(map(bool, bytes(self)))
