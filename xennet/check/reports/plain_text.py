"""Text of hostile peers, made fit for XML and HTML."""

from __future__ import annotations


def fit_for_xml(text: str) -> str:
    """``text`` with backslash escapes for what XML 1.0 cannot have: control characters but tab and
    newline, surrogates (bytes that were no UTF-8), and the two that are no characters."""
    return "".join(c if _fits(ord(c)) else ascii(c)[1:-1] for c in text)


def _fits(code: int) -> bool:
    if code < 0x20:
        return code in (0x9, 0xA)
    return not (0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF))
