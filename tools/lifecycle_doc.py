"""Writes docs/lifecycle.md from the tables in xennet.xenbus and xennet.lifecycle; with --check it
only compares, and exits with 1 if the page says anything else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from xennet.abi.xenbus import XenbusState
from xennet.lifecycle.remarks import OF_BACKEND, OF_FRONTEND, OF_GUEST
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scenarios import SCENARIOS
from xennet.xenbus.backend_rules import BACKENDS, BackendRow, BackendRules, Task
from xennet.xenbus.frontend_rules import FRONTENDS, FrontendRow, FrontendRules, Phase
from xennet.xenbus.state import ALL_STATES

#: Nodes that a backend reads of its own directory.
_ITS_OWN = frozenset({"rate", "online"})
DOC = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"

_HEAD = """# The life of a vif

Generated from `xennet/xenbus/backend_rules.py` and `frontend_rules.py` by `tools/lifecycle_doc.py`;
the engines obey the same rows. `xennet/xenbus/tables.py` begins with the theory: what each state
says, who moves when, and a connect step by step. Any of the two kinds of backends may meet any of
the three kinds of frontends. At the end are
the [scenarios](#scenarios) of `xennet lifecycle` and the [nodes with a
default](#nodes-with-a-default), from `xennet/lifecycle/`.
"""
_SCENARIOS = """
## Scenarios

`xennet lifecycle NAME` plays one with the real drivers and tells it node by node. It ends with the
states, with why no traffic passes (or a trial that shows that it does), and with a teardown that
must leave nothing. The exit code is 1 if anything was not as it should be.

"""
_DEFAULTS = """
## Nodes with a default

Garbage counts as missing in these, and neither end complains in its error node; the report at the
end of a scenario names the node and what holds instead.

"""
_PREAMBLE = {
    "windows": "Connects as a linux frontend does. With an xnb backend it waits for ever for the "
    "InitWait after its first close cycle.\n",
}


def text() -> str:
    """The whole page."""
    backends = "".join(map(_backend, BACKENDS.values()))
    frontends = "".join(map(_frontend, FRONTENDS.values()))
    return _HEAD + backends + frontends + _scenarios() + _defaults()


# -- backends --------------------------------------------------------------------------------------


def _backend(rules: BackendRules) -> str:
    held = "until a script has written hotplug-status" if rules.script_writes_status else "never"
    facts = [
        ("Connected is held back", held),
        ("the driver's disconnect is called", rules.teardown.value),
        ("a frontend state that cannot be read counts as", _state(rules.unreadable)),
    ]
    edges = [(step.origin, step.destination, step.why) for step in rules.steps]
    return (
        f"\n## Backend: {rules.name}\n\n"
        + "".join(f"* {what}: {value}\n" for what, value in facts)
        + _tasks("When the device appears", rules.probe)
        + _tasks("When that fails", rules.probe_failed)
        + "\n### What the frontend's state asks for\n\n"
        + _table(
            ("frontend", "backend", "afterwards", "why"),
            ((_state(r.frontend), _answer(r), r.afterwards.value, r.why) for r in rules.rows),
        )
        + "\nStates without a row are fatal errors.\n"
        + "\n### The steps it may take\n\nIt takes the shortest walk to its target.\n\n"
        + _diagram(edges)
        + _tasks("When the device goes", rules.removal)
    )


def _answer(row: BackendRow) -> str:
    unless = f" unless in {_states(row.stay)}" if row.stay else ""
    answer = row.action.value if row.target is None else f"walk to {_state(row.target)}"
    return answer + unless


def _tasks(heading: str, tasks: tuple[Task, ...]) -> str:
    rows = ((task.do.value, _what(task), task.why) for task in tasks)
    return f"\n### {heading}\n\n" + _table(("do", "what", "why"), rows)


def _what(task: Task) -> str:
    return f"{task.node} {task.value}".strip() or (_state(task.state) if task.state else "")


# -- frontends -------------------------------------------------------------------------------------


def _frontend(rules: FrontendRules) -> str:
    parts = [
        f"\n## Frontend: {rules.name}\n\n",
        _PREAMBLE.get(rules.name, ""),
        f"A backend state that cannot be read counts as {_state(rules.unreadable)}.\n",
        "\n### To connect it does, in order\n\n",
        _table(
            ("do", "why"),
            (
                (f"{s.do.value} {_state(s.state) if s.state else ''}".strip(), s.why)
                for s in rules.connect
            ),
        ),
    ]
    for phase in Phase:
        rows = [row for row in rules.rows if row.phase is phase]
        if rows:
            parts += [f"\n### {phase.name.capitalize()}: {phase.value}\n\n", _rows(rows)]
    return "".join(parts) + "\n" + _diagram(_frontend_edges(rules))


def _rows(rows: list[FrontendRow]) -> str:
    return _table(
        ("backend", "own state", "frontend", "why"),
        (
            (
                _states(row.backend),
                _states(row.own),
                ", then ".join(action.value for action in row.actions),
                row.why,
            )
            for row in rows
        ),
    )


def _frontend_edges(rules: FrontendRules) -> list[tuple[XenbusState, XenbusState, str]]:
    """The own states of a whole life that meets no trouble: start, connect, close, start."""
    shown = [step.state for step in rules.connect if step.state]
    walk = [XenbusState.Initialising, *shown]
    edges = [(a, b, "connects") for a, b in pairwise(walk)]
    closing, closed = XenbusState.Closing, XenbusState.Closed
    first = [
        (XenbusState.Initialising, closing, "before the first start")
        for row in rules.rows
        if row.phase is Phase.STARTING
        and XenbusState.InitWait in row.backend
        and row.actions[0].name == "SHOW_CLOSING"
    ]
    return [
        *first,
        *edges,
        (walk[-1], closing, "unloads"),
        (walk[-1], closed, "follows its backend"),
        (closing, closed, "the backend has unmapped the rings"),
        (closed, XenbusState.Initialising, "starts again"),
        (walk[-1], XenbusState.Initialising, "resumes in a restored domain"),
        (walk[-1], XenbusState.Reconfiguring, "changes a node"),
        (XenbusState.Reconfiguring, walk[-1], "the backend is Reconfigured"),
    ]


# -- scenarios and nodes ---------------------------------------------------------------------------


def _scenarios() -> str:
    columns = ("name", "what happens", "how it ends")
    rows = ((f"`{s.name}`", s.shows, _ending(s)) for s in SCENARIOS.values())
    return _SCENARIOS + _table(columns, rows)


def _ending(scenario: Scenario) -> str:
    if not scenario.blocked:
        return "traffic passes"
    named = scenario.blocked.format(frontend="FE", backend="BE").strip(" ,;:[")
    return f"blocked, the reason names `{named}`"


def _defaults() -> str:
    places = (
        ("the frontend's directory", "backend", OF_FRONTEND),
        ("the frontend's directory", "frontend", OF_GUEST),
        ("the backend's directory", "frontend", [r for r in OF_BACKEND if r.key not in _ITS_OWN]),
        ("the backend's directory", "backend", [r for r in OF_BACKEND if r.key in _ITS_OWN]),
    )
    return _DEFAULTS + _table(
        ("node", "in", "read by the", "if it says nothing"),
        ((f"`{r.key}`", place, reader, r.instead) for place, reader, rows in places for r in rows),
    )


# -- markdown --------------------------------------------------------------------------------------


def _diagram(edges: Iterable[tuple[XenbusState, XenbusState, str]]) -> str:
    lines = "\n".join(f"    {a.name} --> {b.name}: {why}" for a, b, why in edges)
    return f"```mermaid\nstateDiagram-v2\n{lines}\n```\n"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(r)} |\n" for r in (columns, ("---",) * len(columns), *rows))


def _state(state: XenbusState) -> str:
    return f"{int(state)} {state.name}"


def _states(states: frozenset[XenbusState]) -> str:
    if states == ALL_STATES:
        return "any"
    if len(states) > len(ALL_STATES) * 2 // 3:
        return f"any but {_states(ALL_STATES - states)}"
    return ", ".join(map(_state, sorted(states)))


def main() -> None:
    if "--check" not in sys.argv:
        DOC.write_text(text())
    elif DOC.read_text() != text():
        sys.exit(f"{DOC.name} is not what the tables say: run tools/lifecycle_doc.py")


if __name__ == "__main__":
    main()
