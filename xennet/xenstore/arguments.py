"""The arguments of a request: numbers and strings in its payload, read as the C daemon reads
them."""

from __future__ import annotations

import re
from functools import lru_cache

from xennet.xenstore.errors import XsError
from xennet.xenstore.wire import decode_text, strings

_NUMBER = re.compile(r"[ \t-\r]*([+-]?[0-9]+)").match
_LONG = 1 << 63
_INT = 1 << 31


def atoi(text: str) -> int:
    """The number that ``text`` begins with, as C's atoi has it.

    Returns a signed 32-bit value: the low half of strtol's 64-bit value, which saturates. Returns 0
    if ``text`` does not begin with a number.
    """
    number = _NUMBER(text)
    if number is None:
        return 0
    # More digits than that saturate anyway, and Python refuses to convert very many.
    long = max(-_LONG, min(_LONG - 1, int(number[1][:32])))
    return (long + _INT) % (2 * _INT) - _INT


@lru_cache(1024)  # most of them are paths that clients name again and again
def one(payload: bytes) -> str:
    """The only string of a payload (``onearg`` of the C daemon).

    Raises XsError EINVAL unless the payload has exactly one nul, as its last byte.
    """
    text, nul, rest = payload.partition(b"\0")
    if rest or not nul:
        raise XsError("EINVAL", decode_text(payload), "one nul-terminated string is needed")
    return decode_text(text)


def exactly(payload: bytes, count: int) -> list[str]:
    """The nul-terminated strings of a payload. Raises XsError EINVAL unless there are ``count``."""
    words = strings(payload)
    if len(words) != count:
        raise XsError("EINVAL", "", f"{len(words)} strings, {count} are needed")
    return words


def at_least(payload: bytes, count: int) -> list[str]:
    """The first ``count`` nul-terminated strings of a payload. Raises XsError EINVAL if it has
    fewer."""
    words = strings(payload)
    if len(words) < count:
        raise XsError("EINVAL", "", f"{len(words)} strings, {count} are needed")
    return words[:count]
