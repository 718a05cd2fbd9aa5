"""Numbers in names, as C's strtol and atoi read them."""

from __future__ import annotations

import re

_LONG_MAX = 2**63 - 1
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", re.ASCII)


def strtol(text: str) -> tuple[int, int]:
    """The number at the begin of ``text``, as a long, and how many characters it takes; (0, 0) if
    there is none."""
    match = _NUMBER.match(text)
    if match is None:
        return 0, 0
    return max(-_LONG_MAX - 1, min(_LONG_MAX, int(match[1][:40]))), match.end()


def atoi(text: str, bits: int) -> int:
    """The number at the begin of ``text``, 0 if there is none, kept in an unsigned field of so many
    bits (at most 32)."""
    return strtol(text)[0] & (1 << bits) - 1
