"""``xennet step`` on a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import re
import sys

import pytest
from terminal import Terminal

COMMAND = [sys.executable, "-m", "xennet", "step", "--guest", "gen:100x1", "--host", "null:"]


@pytest.mark.parametrize("way", ["TERM=dumb", "--lines"])
def test_in_lines_the_reader_chooses_goes_back_and_gets_the_command(way: str) -> None:
    words, env = ([way], {}) if way == "--lines" else ([], dict([way.split("=")]))
    terminal = Terminal([*COMMAND, *words], env=env)
    try:
        assert "0  netfront pass vif1.0 q0  (Enter)" in terminal.until("1  netback tx and rx pass")
        terminal.type("1\n")
        terminal.until(": netback tx and rx pass vif1.0 q0")
        terminal.type("\n")
        assert "tx req_prod goes from 0 to 1" in terminal.until("0  event at port 3 of domain 0")
        terminal.type("c\n")
        terminal.until("--choices ")
        assert terminal.until("\r\n").endswith("a1")
        terminal.type("b\n")
        terminal.until("back")
        terminal.type("c\n")
        terminal.until("--choices ")
        assert terminal.until("\r\n").endswith("a")
        terminal.type("7\n")
        terminal.until("there is no 7: ")
        terminal.type("/tx req_prod\n")
        terminal.until(" found")
        terminal.type("q\n")
        terminal.rest()
        assert terminal.process.returncode == 0
    finally:
        terminal.close()


def test_the_whole_screen_without_colours() -> None:
    terminal = Terminal(COMMAND, env={"NO_COLOR": "1"}, rows=24)
    try:
        shown = terminal.until("1  netback tx and rx pass vif1.0 q0")
        terminal.type("\r")
        shown += terminal.until("tx req_prod goes from 0 to 1; the event index 1 asks for an event")
        terminal.type("c")
        shown += terminal.until("xennet trace run)")
        terminal.type("q")
        # Behind the screen the command stands on the terminal.
        rest = terminal.rest()
        shown, last = shown + rest, rest.rstrip().splitlines()[-1]
        assert last.endswith("xennet step --guest gen:100x1 --host null: --choices 60")
        assert terminal.process.returncode == 0
    finally:
        terminal.close()
    styles = {number for one in re.findall(r"\x1b\[([0-9;]*)m", shown) for number in one.split(";")}
    assert styles <= {"", "0", "1", "2", "7", "39", "49"}  # 39, 49: as the terminal has it
    assert "\x1b[?1049h" in shown
    assert shown.index("\x1b[?1049h") < shown.index("\x1b[?1049l")
