"""A stepped run on a whole terminal: keys, and the screen (xennet.step.screen) in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from xennet.step import screen
from xennet.step.screen import Screen
from xennet.step.stepped_run import SteppedRun

#: How a piece of a line looks; all of it is told by its text too.
_STYLES = {
    screen.PLAIN: "",
    screen.TITLE: "bold",
    screen.CHANGED: "bold yellow",
    screen.CHOSEN: "reverse",
    screen.STORE: "cyan",
    screen.FOUND: "bold reverse",
    screen.QUIET: "dim",
}
#: Steps of a search between two looks at the keyboard.
_AT_ONCE = 100


class View(Widget):
    """A :class:`Screen` as large as there is room."""

    def __init__(self, shown: Screen) -> None:
        super().__init__()
        self.shown = shown

    def render(self) -> Text:
        text = Text(no_wrap=True, overflow="crop", end="")
        for line in self.shown.lines(self.size.width, self.size.height):
            for piece, style in line:
                text.append(piece, _STYLES[style])
            text.append("\n")
        return text


class Stepper(App[None]):
    """Shows ``run`` and makes the deliveries that its reader chooses."""

    CSS = """
    Screen { layout: vertical; }
    View { height: 1fr; }
    #search { height: 1; border: none; padding: 0; display: none; }
    """
    AUTO_FOCUS = None
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter,space,right", "make"),
        ("b,left", "undo"),
        ("up", "choose(-1)"),
        ("down", "choose(1)"),
        ("pageup", "scroll(-1)"),
        ("pagedown", "scroll(1)"),
        ("t", "next_part"),
        ("slash", "search"),
        ("n", "again"),
        ("N", "before"),
        ("c", "command"),
        ("question_mark", "help"),
        ("escape", "forget"),
        ("q,ctrl+c", "quit"),
        *((str(digit), f"take({digit})") for digit in range(10)),
    ]

    def __init__(self, run: SteppedRun) -> None:
        super().__init__(ansi_color=True)
        self.stepped = run
        self._shown = Screen(run)
        self._wanted = ""
        self._drawn = 0

    def compose(self) -> ComposeResult:
        yield View(self._shown)
        yield Input(placeholder="search for", id="search", compact=True)

    # -- keys --------------------------------------------------------------------------------------

    def action_make(self) -> None:
        if self.stepped.over:
            self._now("this is the end of the run: b goes back, q leaves")
        else:
            self._try(lambda: self.stepped.step(self._shown.chosen))

    def action_undo(self) -> None:
        self._back(1)

    def action_choose(self, by: int) -> None:
        self.action_take(self._shown.chosen + by)

    def action_take(self, number: int) -> None:
        there = len(self.stepped.ready)
        self._shown.choose(number)
        off = not 0 <= number < there
        self._draw(f"there is no {number}: {there} are ready" if off and number > 0 else "")

    def action_scroll(self, pages: int) -> None:
        self._shown.scroll(pages * max(1, self.size.height // 3))
        self._draw()

    def action_next_part(self) -> None:
        before = self.stepped.stage
        self._go_on(lambda: self.stepped.stage != before, "")

    def action_search(self) -> None:
        field = self.query_one("#search", Input)
        field.value = ""
        field.display = True
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._leave_search()
        self._wanted = event.value
        self.action_again()

    def action_again(self) -> None:
        if self._wanted:
            self._go_on(lambda: self.stepped.steps[-1].has(self._wanted), self._wanted)

    def action_before(self) -> None:
        run, wanted = self.stepped, self._wanted
        numbers = [one.number for one in run.steps if one.has(wanted)] if wanted else []
        earlier = [number for number in numbers if number < run.choices.steps]
        if earlier:
            self._back(run.choices.steps - earlier[-1])
        else:
            self._draw(f"none of the last {len(run.steps)} steps has {wanted!r}")

    def action_forget(self) -> None:
        self._leave_search()
        self._wanted = self._shown.wanted = ""
        self._shown.help = False
        self._draw()

    def action_command(self) -> None:
        self._draw(f"{self.stepped.command} (the same choices: xennet run, xennet trace run)")

    def action_help(self) -> None:
        self._shown.help = not self._shown.help
        self._shown.down = 0
        self._draw()

    # -- what they do ------------------------------------------------------------------------------

    def _leave_search(self) -> None:
        self.query_one("#search", Input).display = False
        self.set_focus(None)

    def _back(self, steps: int) -> None:
        self._try(lambda: self.stepped.back(steps), "this is the start of the machine")

    def _go_on(self, until: Callable[[], bool], wanted: str) -> None:
        self.run_worker(self._goes_on(until, wanted))

    async def _goes_on(self, until: Callable[[], bool], wanted: str) -> None:
        """Make the oldest delivery until ``until()``, or until a key changes the screen. If
        ``wanted`` is not found up to the end of the run, all is as it was."""
        run, begun = self.stepped, self.stepped.choices.steps
        while not run.over:
            self._try(lambda: run.go_on(until, _AT_ONCE))
            if until():
                return
            drawn = self._drawn
            await asyncio.sleep(0)
            if self._drawn != drawn:
                return
        if wanted:
            if run.choices.steps > begun:
                self._try(lambda: run.back(run.choices.steps - begun))
            self._draw(f"no step from here to the end of the run has {wanted!r}; N looks backwards")

    def _try(self, act: Callable[[], object], if_false: str = "") -> None:
        """Do what may break the run off: the screen tells of that."""
        done = None
        with suppress(Exception):
            done = act()
        self._now(if_false if done is False else "")

    def _now(self, message: str = "") -> None:
        """Show another place."""
        self._shown.chosen = self._shown.down = 0
        self._shown.help = False
        self._shown.wanted, self._shown.seek = self._wanted, bool(self._wanted)
        self._draw(message)

    def _draw(self, message: str = "") -> None:
        self._drawn += 1
        self._shown.message = message
        self.query_one(View).refresh()


def on_a_terminal(run: SteppedRun) -> None:
    """Let a reader on the terminal go through ``run``."""
    Stepper(run).run(mouse=False)
