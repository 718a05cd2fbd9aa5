"""Numbers and strings in payloads, as the C daemon reads them."""

from __future__ import annotations

import re

from xennet.xenstore.errors import XsError
from xennet.xenstore.wire import decode_text, strings

_NUMBER = re.compile(r"[ \t-\r]*([+-]?[0-9]+)").match
_LONG = 1 << 63
_INT = 1 << 31


def atoi(text: str) -> int:
    """The number that ``text`` starts with, 0 if it starts with none; a signed 32-bit value, the
    low half of a saturated 64-bit one."""
    number = _NUMBER(text)
    if number is None:
        return 0
    # More digits than that saturate anyway, and Python refuses to convert very many.
    long = max(-_LONG, min(_LONG - 1, int(number[1][:32])))
    return (long + _INT) % (2 * _INT) - _INT


def one(payload: bytes) -> str:
    """The only string of a payload; XsError EINVAL unless its nul is the last byte and the only
    nul (``onearg``)."""
    if payload.find(b"\0") != len(payload) - 1 or not payload:
        raise XsError("EINVAL", decode_text(payload), "one nul-terminated string is needed")
    return decode_text(payload[:-1])


def exactly(payload: bytes, count: int) -> list[str]:
    """The strings of a payload; XsError EINVAL unless there are ``count``."""
    words = strings(payload)
    if len(words) != count:
        raise XsError("EINVAL", "", f"{len(words)} strings, {count} are needed")
    return words


def at_least(payload: bytes, count: int) -> list[str]:
    """The first ``count`` strings of a payload; XsError EINVAL if there are fewer."""
    words = strings(payload)
    if len(words) < count:
        raise XsError("EINVAL", "", f"{len(words)} strings, {count} are needed")
    return words[:count]
