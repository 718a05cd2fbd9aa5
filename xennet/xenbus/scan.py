"""Numbers in XenStore as drivers read them: with C's scanf, not with int().

Linux reads nodes with sscanf("%u") and sscanf("%d") (xenbus_scanf, xenbus_read_unsigned): blanks in
front are skipped, digits are taken, anything behind them is ignored, and the value ends at a nul.
Text in front of the digits makes the node unreadable. One difference: a number of more than 32 bits
is unreadable here, where the kernel's vsscanf silently wraps it.
"""

from __future__ import annotations

import re

_UNSIGNED = re.compile(rb"[ \t\n\v\f\r]*([0-9]+)")
_SIGNED = re.compile(rb"[ \t\n\v\f\r]*(-?[0-9]+)")
#: Longest run of digits (with leading zeroes) worth converting.
_MAX_DIGITS = 64


def scan_unsigned(value: bytes) -> int | None:
    """``%u``: 0..2^32-1, or None if ``value`` does not begin with such a number."""
    return _scan(_UNSIGNED, value, 0, 0xFFFFFFFF)


def scan_signed(value: bytes) -> int | None:
    """``%d``: -2^31..2^31-1, or None if ``value`` does not begin with such a number."""
    return _scan(_SIGNED, value, -(1 << 31), (1 << 31) - 1)


def _scan(pattern: re.Pattern[bytes], value: bytes, low: int, high: int) -> int | None:
    if value.isdigit() and len(value) < 10:  # as nearly all are
        return int(value)
    match = pattern.match(value)
    if match is None or len(match[1]) > _MAX_DIGITS:
        return None
    number = int(match[1])
    return number if low <= number <= high else None
