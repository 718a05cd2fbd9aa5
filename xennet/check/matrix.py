"""Every built-in frontend with every built-in backend: which pairs carry which traffic."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from xennet.check.event_trace import EventTrace
from xennet.check.reports.as_json import versions
from xennet.choices import OLDEST, ChosenOrder, Player
from xennet.link.vifs import Vifs
from xennet.netback.policies import POLICIES
from xennet.netfront.kinds import KINDS
from xennet.port import open_port
from xennet.run.options import RunOptions, TapFile
from xennet.run.over_vifs import setup_of
from xennet.run.report import RunReport
from xennet.run.runner import run_link
from xennet.workers.mapping import Workers

#: The name of the layout; it gets a new number when a key changes its meaning or is removed.
FORMAT = "xennet-check-matrix/1"


@frozen
class Case:
    """Traffic between two ends (ports as of ``xennet run``) over a vif with ``options``."""

    name: str
    summary: str
    guest: str
    host: str
    options: Mapping[str, Any] = field(factory=dict)


CASES = (
    Case("small", "100 frames of 60 bytes to the host and back", "gen:60x100", "echo:"),
    Case("full", "100 frames of 1514 bytes to the host and back", "gen:1514x100", "echo:"),
    Case("to-guest", "100 frames of 1514 bytes to the guest", "null:", "gen:1514x100"),
    Case("tcp", "GSO packets over IPv4 to the host", "tcp:64000x10@2", "null:"),
    Case("tcp-to-guest", "GSO packets over IPv4 to the guest", "null:", "tcp:64000x10@2"),
    Case("tcp6", "GSO packets over IPv6 to the host", "tcp6:64000x10@2", "null:"),
    Case("tcp6-to-guest", "GSO packets over IPv6 to the guest", "null:", "tcp6:64000x10@2"),
    Case("queues", "16 flows over up to 4 queues", "tcp:1000x100@16", "echo:", {"queues": 4}),
    Case(
        "one-channel",
        "both rings on one event channel",
        "gen:1514x100",
        "echo:",
        {"split_channels": False},
    ),
    Case(
        "no-features",
        "no scatter-gather, GSO or checksum offload",
        "tcp:64000x10",
        "echo:",
        {"sg": False, "gso": False, "csum": False},
    ),
    Case("grants-v2", "a grant table of version 2", "gen:1514x100", "echo:", {"grant_version": 2}),
)


#: Options that are given by a word of their own where they are not True.
_WORDS = {
    "split_channels": ["--single-channel"],
    "sg": ["--no-sg"],
    "gso": ["--no-gso"],
    "csum": ["--no-csum"],
}


@frozen
class Cell:
    """A case between two drivers: ``reasons`` why it is not as it has to be, none if it is."""

    frontend: str
    backend: str
    case: Case
    reasons: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words behind ``xennet run`` or ``xennet step`` that make the same run."""
        case = self.case
        words = ["--guest", case.guest, "--host", case.host]
        words += ["--frontend", self.frontend, "--backend", self.backend]
        for name, value in case.options.items():
            words += _WORDS.get(name, [f"--{name.replace('_', '-')}", str(value)])
        return tuple(words)

    @property
    def again(self) -> str:
        """The command that comes to where frames begin to flow."""
        return shlex.join(("xennet", "step", *self.words))

    @property
    def name(self) -> str:
        """The name of the cell's directory: "linux-xnb-tcp"."""
        return f"{self.frontend}-{self.backend}-{self.case.name}"


def play_matrix(cases: Sequence[Case], workers: Workers) -> Iterator[Cell]:
    """All cells, as the ``workers`` play them."""
    pairs = [(frontend, backend) for frontend in KINDS for backend in POLICIES]
    jobs = [(frontend, backend, case.name) for frontend, backend in pairs for case in cases]
    return workers.map(_play, jobs)


def matrix_json(cells: Sequence[Cell]) -> dict[str, Any]:
    """All cells for a program."""
    return {
        "format": FORMAT,
        "versions": versions(),
        "good": not any(cell.reasons for cell in cells),
        "cells": [
            {
                "frontend": cell.frontend,
                "backend": cell.backend,
                "case": cell.case.name,
                "summary": cell.case.summary,
                "good": not cell.reasons,
                "reasons": list(cell.reasons),
                "again": cell.again if cell.reasons else "",
            }
            for cell in cells
        ],
    }


def matrix_lines(cells: Collection[Cell]) -> Iterator[str]:
    """The matrix for a reader: cases that are good of all, and the red ones with their reasons."""
    pairs: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        pairs.setdefault((cell.frontend, cell.backend), []).append(cell)
    backends = list(dict.fromkeys(backend for _, backend in pairs))
    yield f"{'':10}" + "".join(f"{backend:>10}" for backend in backends)
    for frontend in dict.fromkeys(frontend for frontend, _ in pairs):
        counts = ""
        for backend in backends:
            of_pair = pairs[frontend, backend]
            good = sum(not cell.reasons for cell in of_pair)
            counts += f"{f'{good}/{len(of_pair)}':>10}"
        yield f"{frontend:10}{counts}"
    for (frontend, backend), of_pair in pairs.items():
        reasons: dict[str, list[str]] = {}
        for cell in of_pair:
            if cell.reasons:
                reasons.setdefault(cell.reasons[0], []).append(cell.case.name)
        for reason, names in reasons.items():
            yield f"{frontend} with {backend}: {', '.join(names)}: {reason}"
            first = next(cell for cell in of_pair if cell.case.name == names[0])
            yield f"  again: {first.again}"


def write_cell(folder: Path, cell: Cell) -> None:
    """Play a cell again and write ``folder/NAME/``: ``trace.jsonl``, the events of the machine, and
    ``guest.pcap`` and ``host.pcap``, what the interfaces at both ends see. Raises OSError."""
    place = folder / cell.name
    place.mkdir(parents=True, exist_ok=True)
    options, link = _link(cell.frontend, cell.backend, cell.case)
    player = Player(OLDEST)
    link.host.machine.run_loop.take_turns(ChosenOrder(player))
    trace = EventTrace(link.host.machine)
    with ExitStack() as files:
        taps = [
            TapFile(side, None, open_port(f"record:{place / side}.pcap"))
            for side in ("guest", "host")
        ]
        for tap in taps:
            files.callback(tap.port.close)
        _run(link, cell.case, options, taps)
    trace.end()
    choices = str(player.noted.choices)
    command = ("run", *cell.words)
    lines = trace.lines("", "FAIL", cell.reasons, command=command, choices=choices)
    (place / "trace.jsonl").write_text("".join(lines))


def _play(job: tuple[str, str, str]) -> Cell:
    frontend, backend, name = job
    (case,) = (case for case in CASES if case.name == name)
    options, link = _link(frontend, backend, case)
    verdict = _run(link, case, options).verdict
    return Cell(frontend, backend, case, () if verdict.good else tuple(verdict.reasons))


def _link(frontend: str, backend: str, case: Case) -> tuple[RunOptions, Vifs]:
    options = evolve(RunOptions(**case.options), frontend=frontend, backend=backend)
    return options, Vifs(setup_of(options))


def _run(link: Vifs, case: Case, options: RunOptions, taps: Sequence[TapFile] = ()) -> RunReport:
    guest, host = open_port(case.guest), open_port(case.host)
    return run_link(link, [guest], [host], options, lambda direction, frames: None, taps=taps)
