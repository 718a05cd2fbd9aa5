"""The screen of a stepped run, as lines of text of any width and height."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from traceback import format_exception_only

from attrs import define, field

from xennet.run.printable import printable
from xennet.step.stepped_run import SteppedRun
from xennet.step.vif_indices import INDICES, RingIndices

#: What a piece of a line is: styles of xennet.step.terminal.
PLAIN, TITLE, CHANGED, CHOSEN = "", "title", "changed", "chosen"
STORE, FOUND, QUIET = "store", "found", "quiet"
#: Before a sentence that was searched for.
FOUND_MARK = "/ "

#: A line: (text, what it is) of each piece.
Line = list[tuple[str, str]]

#: Columns of a ring's name and of an index, at least and at most, in a table; a screen that is too
#: narrow for it has the indices in words.
_NAME, _COLUMN, _WIDE_COLUMN = 6, 11, 12
#: Most ready deliveries that are listed at once, unless the screen has more room.
_LISTED = 6
_KEYS = (
    "Enter make",
    "0-9 choose",
    "b back",
    "t on",
    "/ search",
    "c command",
    "? help",
    "q quit",
)
HELP = """\
A run is a queue of deliveries: events that arrive, work that a driver has put off, watch events \
of the store, timers. Where several are ready any may be next: on a real host the processors \
decide. Here you do.

Enter, Space    make the chosen delivery; at first the oldest is chosen
0-9, Up, Down   choose another one of those that are ready
b, Left         back by one delivery: the run is made anew up to there
t               on to the next part: handshake, traffic, unplug, the end
/ TEXT          on until a name or a sentence has TEXT (always the oldest)
n, N            on to the next that has it; back to the one before
Page Up, Down   more of what happened
c               the command that comes to this place again
?, q            this help, and away again; leave

req_prod, rsp_prod     so many were published: they are in the shared page
req_cons, rsp_cons     so many the other end has taken: it keeps that to itself
req_event, rsp_event   at this number the other end is to send an event
*, /                   the last delivery changed it; this was searched for
"""


@define
class Screen:
    """What a reader of ``run`` looks at: ``chosen`` is the delivery that Enter makes; ``down``
    lines are scrolled away; a ``message`` may stand above the keys, or ``help`` instead of all.
    Sentences that have the text ``wanted`` are marked; with ``seek`` the first of them is scrolled
    to when the screen is drawn next."""

    run: SteppedRun
    chosen: int = 0
    down: int = 0
    message: str = ""
    help: bool = False
    wanted: str = ""
    seek: bool = False
    _most: int = field(init=False, default=0)

    def lines(self, width: int, height: int) -> list[Line]:
        """The screen: ``height`` lines of at most ``width`` columns each, in printable
        characters."""
        width = max(width, 1)
        keys = _filled(_KEYS, width) if height > 8 else []
        if self.help:
            told = [line for one in HELP.splitlines() for line in _wrapped(one, width) or [[]]]
            whole = _with_gap(self._window(told, height - len(keys)), [], keys, height)
        else:
            whole = self._place(width, height, keys)
        return [_fitting(line, width) for line in whole[:height]]

    def _place(self, width: int, height: int, keys: list[Line]) -> list[Line]:
        """The place where the run is."""
        below = [*_wrapped(self.message, width, TITLE)[: max(1, height // 2)], *keys]
        above = [self._title(width)]
        if height > 12:
            above += [*self._rings(width, max(2, height // 4)), []]
        room = max(1, height - len(above) - len(below))
        ready = self._ready(width, room)
        happened = self._window(self._happened(width), room - len(ready))
        return _with_gap([*above, *happened], ready, below, height)

    def scroll(self, by: int) -> None:
        """Scroll by so many lines, within what was there when the screen was drawn last."""
        self.down = max(0, min(self.down + by, self._most))

    def choose(self, number: int) -> None:
        """Choose the ready delivery ``number``, or the nearest that there is."""
        self.chosen = max(0, min(number, len(self.run.ready) - 1))

    # -- its parts ---------------------------------------------------------------------------------

    def _title(self, width: int) -> Line:
        run = self.run
        stage = "end" if run.over else run.stage.name.lower()
        left = f"xennet step  {run.choices.steps} made  {stage}"
        right = f"choices {run.choices}" if run.choices.steps else "no choices yet"
        gap = width - len(left) - len(right)
        if gap >= 2:
            return [(left + " " * gap + right, TITLE)]
        return [(_cut(left, width), TITLE)]

    def _rings(self, width: int, most: int) -> list[Line]:
        """The indices of ``most`` rings, first of those that the last step changed."""
        rings, changed = self.run.rings, self.run.changed
        if not rings:
            return [[("no rings: no driver of xennet is connected", QUIET)]]
        new = {name for name, _ in changed}
        shown = {ring.name for ring in sorted(rings, key=lambda ring: ring.name not in new)[:most]}
        name_width = max(_NAME, *(len(printable(ring.name)) + 1 for ring in rings))
        column = min(_WIDE_COLUMN, (width - name_width) // len(INDICES))
        table = column >= _COLUMN
        lines: list[Line] = []
        if table:
            head = " " * name_width + "".join(f"{name:>{column - 1}} " for name in INDICES)
            lines.append([(head.rstrip(), QUIET)])
        for ring in rings:
            if ring.name in shown:
                if table:
                    lines.append(_row(ring, changed, name_width, column))
                else:
                    lines += _few(ring, changed, width)
        left = len(rings) - len(shown)
        return lines + ([[(f"and {left} more rings", QUIET)]] if left else [])

    def _happened(self, width: int) -> list[Line]:
        run = self.run
        step = run.steps[-1] if run.steps else None
        lines: list[Line] = []
        if step is None:
            behind = run.before
        else:
            behind = step.behind
            lines += _wrapped(f"{step.number} {printable(step.name)}", width, TITLE)
            lines += self._told(step.did or ("nothing to tell of",), width)
        if behind:
            lines += _wrapped("outside of all deliveries", width, TITLE)
            lines += self._told(behind, width)
        return lines

    def _told(self, sentences: Iterable[str], width: int) -> list[Line]:
        lines = []
        for one in sentences:
            style = STORE if one.startswith("store: ") else PLAIN
            found = bool(self.wanted) and self.wanted.lower() in one.lower()
            mark, style = (FOUND_MARK, FOUND) if found else ("  ", style)
            lines += _wrapped(f"{mark}{printable(one)}", width, style, indent=4)
        return lines

    def _ready(self, width: int, room: int) -> list[Line]:
        """What can be chosen, or how the run ended."""
        run = self.run
        if run.report is not None:
            verdict = run.report.verdict
            told: list[Line] = [
                [("the run is over: " + ("GOOD" if verdict.good else "BAD"), TITLE)]
            ]
            return [*told, *self._told(verdict.reasons, width)][: max(1, room - 1)]
        if run.failure is not None:
            why = "".join(format_exception_only(run.failure)).splitlines()
            told = [[("the run broke off:", TITLE)]]
            return [*told, *self._told(why, width)][: max(1, room - 1)]
        count = len(run.ready)
        most = min(count, max(1, min(_LISTED, room // 2)))
        first = max(0, min(self.chosen - most // 2, count - most))
        told = [[(_cut(_asking(count, first, most), width), TITLE)]] if room > 2 else []
        for number, name in enumerate(run.names[first : first + most], first):
            here = number == self.chosen
            text = f"{'>' if here else ' '} {number}  {printable(name)}"
            told.append([(_cut(text, width), CHOSEN if here else PLAIN)])
        return told

    def _window(self, lines: list[Line], room: int) -> list[Line]:
        """What fits of ``lines``, from where it is scrolled to."""
        if self.seek:
            marked = [at for at, line in enumerate(lines) if plain(line).startswith(FOUND_MARK)]
            self.down, self.seek = max(0, marked[0] - 2) if marked else 0, False
        self._most = max(0, len(lines) - room + 1) if len(lines) > room else 0
        self.down = min(self.down, self._most)
        if not self._most:
            return lines
        shown = lines[self.down : self.down + room - 1]
        left = len(lines) - self.down - len(shown)
        more = (
            f"{left} more line{'s' if left > 1 else ''}: Page Down"
            if left
            else "Page Up: what is above"
        )
        return [*shown, [(more, QUIET)]][: max(room, 0)]


def plain(line: Line) -> str:
    """The text of a line."""
    return "".join(text for text, _ in line)


def _asking(count: int, first: int, most: int) -> str:
    asking = "ready, which is next?" if count > 1 else "ready:"
    return asking if most == count else f"{asking} {first} to {first + most - 1} of {count}"


def _row(
    ring: RingIndices, changed: frozenset[tuple[str, str]], name_width: int, column: int
) -> Line:
    line: Line = [(f"{printable(ring.name):<{name_width}}", TITLE)]
    for name, value in ring.values():
        new = (ring.name, name) in changed
        text = "-" if value is None else str(value)
        line.append((f"{text:>{column - 1}}{'*' if new else ' '}", CHANGED if new else PLAIN))
    return line


def _few(ring: RingIndices, changed: frozenset[tuple[str, str]], width: int) -> list[Line]:
    words = [f"{printable(ring.name)}:"]
    for name, value in ring.values():
        mark = "*" if (ring.name, name) in changed else ""
        words.append(f"{name} {'-' if value is None else value}{mark}")
    return _filled(words, width, PLAIN)


def _wrapped(text: str, width: int, style: str = PLAIN, indent: int = 2) -> list[Line]:
    indent = min(indent, width // 4)
    lines = textwrap.wrap(
        printable(text), width, subsequent_indent=" " * indent, break_on_hyphens=False
    )
    return [[(line, style)] for line in lines]


def _filled(words: Sequence[str], width: int, style: str = QUIET) -> list[Line]:
    """``words`` with gaps between them, as many in a line as fit."""
    lines = [""]
    for word in words:
        joined = f"{lines[-1]}  {word}" if lines[-1] else word
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return [[(_cut(line, width), style)] for line in lines]


def _with_gap(above: list[Line], ready: list[Line], below: list[Line], height: int) -> list[Line]:
    """All of it, with empty lines behind what is ``above``."""
    left = height - len(above) - len(ready) - len(below)
    empty: list[Line] = [[] for _ in range(left)]
    return [*above, *empty, *ready, *below]


def _fitting(line: Line, width: int) -> Line:
    """``line`` without what the screen cannot show."""
    fitting = []
    for text, style in line:
        fitting.append((printable(text)[:width], style))
        width -= len(fitting[-1][0])
    return fitting


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."[: min(3, width)]
