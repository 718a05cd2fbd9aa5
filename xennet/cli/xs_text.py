"""Nodes and values as Debian's xenstore tools show and read them, so that scripts can use
either."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from xennet.run.printable import printable

_TAG = len(' = "..."')
_PERMS_COLUMN = 60
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
    (``sanitise_value`` of libxenstore)."""
    return "".join(map(_SHOWN.__getitem__, value))


def parse_value(text: bytes) -> bytes:
    r"""The value of such a text (``unsanitise_value``).

    A backslash before any other character is dropped; one at the end means a nul.
    """
    return _ESCAPE.sub(_unescaped, text)


@frozen
class ListStyle:
    """The layout of ``ls``: width, full paths or indented names, permissions.

    Values are cut so that lines have at most ``width`` columns; None: they are not cut.
    """

    width: int | None
    full_paths: bool
    perms: bool


def list_line(
    style: ListStyle, path: str, depth: int, value: bytes | None, perms: Sequence[str] | None
) -> str:
    """The line of one node; ``value`` and ``perms`` are None if they could not be read."""
    if style.full_paths:
        text, used = printable(path), 0
    else:
        name = printable(path[path.rindex("/") + 1 :])
        text = " " * depth + name[: _room(style, depth)]
        used = len(text)
    if value is None:
        return f"{text}:"
    shown = show_value(value)
    if style.width is not None and style.width < used + len(value) + _TAG:
        text += f' = "{shown[: _room(style, used)]}\\..."'
    else:
        shown = f' = "{shown}"'
        text += shown
        if style.perms:
            text += " " + _dots(style, used + len(shown) + 1)
    return text if perms is None else f"{text}  ({','.join(map(printable, perms))})"


def _room(style: ListStyle, used: int) -> int | None:
    """Columns left for text; None if the line is past the margin, where the tools cut nothing."""
    left = 0 if style.width is None else style.width - _TAG - used
    return None if style.width is None or left < 0 else left


def _dots(style: ListStyle, start: int) -> str:
    end = 0 if style.full_paths else min(_PERMS_COLUMN, style.width or _PERMS_COLUMN)
    return "".join(". "[column % 2 == 0] for column in range(start, end))


def _unescaped(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, other = match.groups()
    if hexadecimal:
        return bytes([int(hexadecimal.rstrip(b"xX"), 16) & 0xFF])
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    return _LETTERS.get(other, other)
