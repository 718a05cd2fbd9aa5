"""Writes docs/lifecycle.md from the tables in xennet.xenbus.tables (or checks it with --check)."""

from __future__ import annotations

import sys
from pathlib import Path

from xennet.xenbus import tables

DOC = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"

_HEAD = """# The life of a vif

Generated from `xennet/xenbus/tables.py` by `tools/lifecycle_doc.py`; the engines obey the same
rows. The rules are those of Linux xen-netback and xen-netfront.
"""


def _table(heading: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"\n## {heading}\n", _row(columns), _row(("---",) * len(columns))]
    return "\n".join([*lines, *map(_row, rows)]) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _state(state: int) -> str:
    return f"{int(state)} {tables.S(state).name}"


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    parts.append(
        _table(
            "What the frontend's state asks of the backend",
            ("frontend", "backend", "afterwards", "why"),
            [
                (
                    _state(row.frontend),
                    row.action.value if row.target is None else f"walk to {_state(row.target)}",
                    row.afterwards.value,
                    row.why,
                )
                for row in tables.BACKEND_ROWS
            ],
        )
    )
    edges = "\n".join(
        f"    {step.origin.name} --> {step.destination.name}: {step.why}"
        for step in tables.BACKEND_STEPS
    )
    parts.append(
        "\n## The steps a backend may take\n\n"
        "It takes the shortest walk: from Connected to InitWait by way of Closing and Closed.\n\n"
        f"```mermaid\nstateDiagram-v2\n{edges}\n```\n"
    )
    parts.append(
        _table(
            "What the backend's state asks of the frontend",
            ("backend", "own state", "frontend", "why"),
            [
                (_state(row.backend), _own(row.own), row.action.value, row.why)
                for row in tables.FRONTEND_ROWS
            ],
        )
    )
    parts.append(
        _table(
            "A frontend that finds a backend left behind by an earlier driver",
            ("backend", "own state that moves it on"),
            [(_state(b), _state(own)) for b, own in tables.FRONTEND_RESET.items()],
        )
    )
    parts.append(
        _table(
            "A frontend that unloads",
            ("own state", "backend", "next"),
            [
                (_state(own), _state(backend), step.value)
                for (own, backend), step in tables.FRONTEND_UNLOAD.items()
            ],
        )
    )
    return "".join(parts)


def _own(states: frozenset[tables.XenbusState]) -> str:
    if states == tables.ALL_STATES:
        return "any"
    if len(states) > len(tables.ALL_STATES) // 2:
        return "any but " + ", ".join(_state(s) for s in sorted(tables.ALL_STATES - states))
    return ", ".join(_state(s) for s in sorted(states))


def main() -> None:
    if "--check" not in sys.argv:
        DOC.write_text(text())
    elif DOC.read_text() != text():
        sys.exit(f"{DOC.name} is not what the tables say: run tools/lifecycle_doc.py")


if __name__ == "__main__":
    main()
