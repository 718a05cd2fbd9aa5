"""Text that comes from a guest or a file, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with everything that is not printable as backslash escapes.

    What a hostile guest puts into XenStore must not drive the terminal, nor must a file name.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
