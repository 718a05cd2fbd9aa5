"""How a scenario is told: as lines, as JSON, and on a terminal."""

from __future__ import annotations

import io
import json
import re
from contextlib import contextmanager

import pytest
from rich.console import Console

from xennet.cli import main
from xennet.lifecycle.scenarios import SCENARIOS, perform, play, reconnects
from xennet.lifecycle.show import Printer
from xennet.lifecycle.transcript import Entry
from xennet.xenbus.paths import VifPaths

PATHS = VifPaths(1, 0)
KEYS = {"kind", "text", "host", "step", "who", "path", "value", "state", "time_ns", "holds"}


def lines_of(name: str) -> list[str]:
    lines: list[str] = []
    perform(SCENARIOS[name], lines.append)
    return lines


def json_of(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    assert main(["lifecycle", "--json", *args]) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


# --- lines ----------------------------------------------------------------------------------------


def test_nodes_are_numbered_and_named_within_their_directories() -> None:
    lines = lines_of("no-script-answer")
    plugged = lines.index("The toolstack attaches the vif.")
    assert lines[plugged + 1 : plugged + 6] == [
        "  frontend = /local/domain/1/device/vif/0",
        "  backend = /local/domain/0/backend/vif/1/0",
        '   1  toolstack writes frontend/backend = "/local/domain/0/backend/vif/1/0"',
        '   2  toolstack writes frontend/backend-id = "0"',
        "   3  toolstack writes frontend/state = Initialising (1)",
    ]
    numbers = [int(match[1]) for line in lines if (match := re.match(r" +(\d+)  \w+ writes", line))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert '  because the hotplug script has not answered: backend/hotplug-status = ""' in lines


def test_lines_of_a_scenario_fit_a_screen() -> None:
    lines = lines_of("start-backend-first")
    assert [line for line in lines if len(line) > 80] == []


def test_a_guest_that_moves_has_new_directories() -> None:
    lines = lines_of("save-restore")
    assert lines.count("  frontend = /local/domain/1/device/vif/0") == 1
    assert lines.count("  frontend = /local/domain/2/device/vif/0") == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"x: {PATHS.frontend}/state = 1", "x: frontend/state = 1"),
        (f"toolstack removes {PATHS.backend}", "toolstack removes backend"),
        (f"the directory {PATHS.backend} does not exist", None),
        (f'node = "{PATHS.backend}"', None),
        (f"{PATHS.frontend}1/state", None),
        (f"/libxl{PATHS.frontend}/x", None),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
    ],
)
def test_a_directory_is_shortened_where_a_node_in_it_is_meant(text: str, line: str | None) -> None:
    assert Entry("sentence", text, paths=PATHS).line == (text if line is None else line)


def test_a_verdict_says_what_it_is_that_is_good() -> None:
    assert lines_of("guest-closes")[-1] == (
        "GOOD: the vif is blocked, as it should be here, and a reason names "
        "frontend/state; nothing is left behind"
    )
    assert lines_of("guest-stops-receiving")[-1].startswith("GOOD: the vif is blocked")
    assert (
        lines_of("slow-script")[-1] == "GOOD: traffic passes, as it should; nothing is left behind"
    )


# --- JSON -----------------------------------------------------------------------------------------


def test_json_has_all_that_is_told_with_full_paths(capsys: pytest.CaptureFixture[str]) -> None:
    told = json_of(capsys, "no-script-answer")
    assert list(told) == ["format", "scenario", "shows", "story", "verdict"]
    assert told["format"] == "xennet-lifecycle/1"
    assert told["scenario"] == "no-script-answer"
    transcript = told["story"]
    assert isinstance(transcript, list)
    assert all(set(thing) == KEYS for thing in transcript)
    assert next(thing for thing in transcript if thing["step"] == 3) == {
        "kind": "write",
        "text": "toolstack writes /local/domain/1/device/vif/0/state = Initialising (1)",
        "host": "",
        "step": 3,
        "who": "toolstack",
        "path": "/local/domain/1/device/vif/0/state",
        "value": "1",
        "state": "Initialising",
        "time_ns": 0,
        "holds": None,
    }
    assert [thing["text"] for thing in transcript if thing["kind"] == "reason"][1] == (
        'the hotplug script has not answered: /local/domain/0/backend/vif/1/0/hotplug-status = ""'
    )
    assert told["verdict"] == {
        "good": True,
        "reasons": [
            "the vif is blocked, as it should be here, and a reason names "
            "/local/domain/0/backend/vif/1/0/hotplug-status",
            "nothing is left behind",
        ],
    }


def test_json_of_two_hosts_names_the_host_of_each_node(capsys: pytest.CaptureFixture[str]) -> None:
    transcript = json_of(capsys, "migration")["story"]
    assert isinstance(transcript, list)
    hosts = {thing["host"] for thing in transcript if thing["path"]}
    assert hosts == {"source", "destination"}


def test_json_lists_the_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json_of(capsys)
    assert listed["format"] == "xennet-scenarios/1"
    assert listed["scenarios"] == [
        {"name": name, "shows": scenario.shows} for name, scenario in SCENARIOS.items()
    ]


def test_what_was_to_be_so_says_whether_it_is() -> None:
    things: list[Entry] = []
    play(SCENARIOS["stalled-queue"], things.append)
    assert Entry("sentence", "The backend has no carrier.", holds=True) in things


# --- the terminal ---------------------------------------------------------------------------------


def shown(name: str, width: int, color: str | None = "standard") -> str:
    text = io.StringIO()
    options = {"color_system": color, "force_terminal": True, "legacy_windows": False}
    play(SCENARIOS[name], Printer(Console(file=text, width=width, **options)).show)  # type: ignore[arg-type]
    return text.getvalue()


def test_a_terminal_gets_colours() -> None:
    text = shown("no-script-answer", 200)
    assert "\x1b[1;32mConnected (4)\x1b[0m" in text
    assert "\x1b[36mguest\x1b[0m" in text
    assert "\x1b[1;32mGOOD\x1b[0m: the vif is blocked" in text


def test_a_long_line_is_wrapped_behind_its_number() -> None:
    lines = [line.rstrip() for line in shown("hostile-packet", 60, None).splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("  because "))
    assert all(len(line) <= 60 for line in lines)
    assert re.match(r" {10}\S", lines[first + 1])


def test_a_terminal_and_a_pipe_are_told_the_same() -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown("migration", 400))
    assert [line.rstrip() for line in text.splitlines()] == lines_of("migration")


def test_a_long_piece_of_work_counts_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnects, "RECONNECTS", 4)
    counted: list[tuple[str, int, list[int]]] = []

    @contextmanager
    def counting(what, total):  # type: ignore[no-untyped-def]
        counted.append((what, total, []))
        yield counted[-1][2].append

    assert perform(SCENARIOS["reconnect-1000"], lambda line: None, counting)
    assert [what for what, _, _ in counted] == ["connections"] * 3
    assert [done for _, _, done in counted[1:]] == [[1, 2], [3, 4]]
