"""``xennet step`` on a terminal of 80 columns."""

from __future__ import annotations

import sys

from terminal import Terminal


def test_the_reader_chooses_goes_back_and_gets_the_command() -> None:
    command = [sys.executable, "-m", "xennet", "step", "--guest", "gen:100x1", "--host", "null:"]
    terminal = Terminal(command)
    try:
        assert "0  netfront pass of domain 1  (Enter)" in terminal.until("1  netback pass")
        terminal.type("1\n")
        terminal.until(": netback pass of domain 0")
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
        terminal.type("q\n")
        terminal.rest()
        assert terminal.process.returncode == 0
    finally:
        terminal.close()
