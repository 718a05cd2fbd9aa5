"""Listed nodes as Debian's xenstore tools show them, so that scripts can use either."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from xennet.run.printable import printable
from xennet.xenstore.value_text import show_value

_TAG = len(' = "..."')
_PERMS_COLUMN = 60


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
