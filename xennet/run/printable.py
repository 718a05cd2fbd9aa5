"""Text from a guest or a file, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with backslash escapes for everything that is not printable.

    Neither a hostile guest's nodes nor a file name may control the terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
