r"""Values of nodes as printable text, as Debian's xenstore tools show and read them
(libxenstore: ``sanitise_value``, ``unsanitise_value``)."""

from __future__ import annotations

import re

_NAMED = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord("\\"): "\\\\"}
_SHOWN = [
    _NAMED.get(c) or (chr(c) if 0x20 <= c <= 0x7E else f"\\{c:03o}" if c < 8 else f"\\x{c:02x}")
    for c in range(256)
]
# A number in hexadecimal is what sscanf("%2x") takes: blanks, then a sign or 0x among the two.
_HEX = rb"x[ \t-\r]*([-+][0-9a-fA-F]|0[xX]|[0-9a-fA-F]{1,2})"
_ESCAPE = re.compile(rb"\\(?:" + _HEX + rb"|([0-7]{1,3})|(.?))", re.DOTALL)
_LETTERS = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"": b"\0"}


def show_value(value: bytes) -> str:
    r"""A value as printable text: ``\t \n \r \\``, ``\000`` to ``\007``, ``\x08`` to ``\xff``
    (``sanitise_value``)."""
    return "".join(map(_SHOWN.__getitem__, value))


def parse_value(text: bytes) -> bytes:
    r"""The value of such a text (``unsanitise_value``).

    A backslash before any other character is dropped; one at the end means a nul.
    """
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, other = match.groups()
    if hexadecimal:
        return bytes([int(hexadecimal.rstrip(b"xX"), 16) & 0xFF])
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    return _LETTERS.get(other, other)
