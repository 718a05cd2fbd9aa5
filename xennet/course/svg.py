"""A picture as plain SVG: no script, no network; it follows the reader's dark or light scheme."""

from __future__ import annotations

#: Width of a character; all text is monospaced.
CHAR = 8.4
_FONT_SIZE = 14
_MARGIN = 20
#: Class -> (colour on light paper, colour on dark paper).
_COLOURS = {
    "paper": ("#ffffff", "#14181d"),
    "pale": ("#eef1f5", "#262d36"),
    "ink": ("#1d232b", "#e6e9ee"),
    "faint": ("#57606a", "#9aa4b0"),
    "front": ("#1458a6", "#7db7ff"),
    "back": ("#a5480f", "#ffad73"),
    "xen": ("#6b3fa0", "#c9a4ff"),
    "bad": ("#b3001b", "#ff8a94"),
}


def _style() -> str:
    light, dark = (
        "".join(
            f".{name}{{fill:{pair[which]}}}.s-{name}{{stroke:{pair[which]}}}"
            for name, pair in _COLOURS.items()
        )
        for which in (0, 1)
    )
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}"


def escaped(text: str) -> str:
    """``text`` as the content of an element."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


class Drawing:
    """A picture of ``width`` user units; ``title`` and ``description`` are for those who do not
    see it, the title is drawn as well. Classes of what is drawn are those of the colours: ink,
    faint, front, back, xen, bad, pale."""

    def __init__(self, width: int, title: str, description: str) -> None:
        self.width = width
        self._title, self._description = title, description
        self._parts: list[str] = []
        self._height = 0.0
        self.text(_MARGIN, 30, title, "ink", bold=True)

    def text(
        self, x: float, y: float, text: str, kind: str, *, bold: bool = False, middle: bool = False
    ) -> None:
        """Raises ValueError if the text would end beyond the picture."""
        left = x - len(text) * CHAR / 2 if middle else x
        if not 0 <= left <= self.width - len(text) * CHAR - 4:
            raise ValueError(f"{text!r} does not fit at {left:.0f} in {self.width}")
        more = ' font-weight="bold"' if bold else ""
        more += ' text-anchor="middle"' if middle else ""
        self._add(y, f'<text x="{x:g}" y="{y:g}" class="{kind}"{more}>{escaped(text)}</text>')

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, *, full: bool = False
    ) -> None:
        """A box with an edge of ``kind``; ``full``: of that colour all over."""
        inside = kind if full else "pale"
        size = f'width="{width:g}" height="{height:g}"'
        self._add(
            y + height, f'<rect x="{x:g}" y="{y:g}" {size} rx="2" class="{inside} s-{kind}"/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str) -> None:
        self._add(max(y, to_y), f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="s-{kind}"/>')

    def arrow(self, x: float, y: float, to_x: float, kind: str) -> None:
        """An arrow to the left or right."""
        back = -9 if to_x > x else 9
        self.line(x, y, to_x + back / 2, y, kind)
        self._add(y, f'<path d="M{to_x:g} {y:g}l{back} -5v10z" class="{kind}"/>')

    def document(self) -> str:
        """The SVG document."""
        height = self._height + _MARGIN
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height:g}" '
            f'width="{self.width}" height="{height:g}" role="img" aria-labelledby="t d" '
            f'font-family="monospace" font-size="{_FONT_SIZE}">\n'
            f'<title id="t">{escaped(self._title)}</title>\n'
            f'<desc id="d">{escaped(self._description)}</desc>\n'
            f"<style>{_style()}</style>\n"
            f'<rect width="{self.width}" height="{height:g}" class="paper"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def _add(self, bottom: float, element: str) -> None:
        self._height = max(self._height, bottom)
        self._parts.append(element)
