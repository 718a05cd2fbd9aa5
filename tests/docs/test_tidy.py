"""Habits of the source that no linter knows."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "xennet"
FOLDERS = ("xennet", "tests", "tools")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

#: Base name of files of the package -> why it means the same wherever it stands.
TWINS = {
    "__main__.py": "Python's own name",
    "check.py": "what a check is, and the command that plays checks",
    "connection.py": "a connection to the store: the server's end and the client's",
    "control_ring.py": "one ring, two ends",
    "counters.py": "what an end of a vif counts",
    "defects.py": "how a backend shows its defects, and those of xnb",
    "device.py": "a vif: to xenbus, to the frontend, to the backend",
    "domains.py": "domains: those of a host, those that a store knows",
    "errors.py": "what the room raises",
    "fifo.py": "first in, first out: events, frames",
    "guest_rx.py": "one ring, two ends",
    "guest_tx.py": "one ring, two ends",
    "host.py": "a host: of the library, and the commands of one that stays up",
    "inventory.py": "what a vif and a run have",
    "keys.py": "the XenStore keys of a frontend: written, read (Linux, xnb), spoiled (scenarios)",
    "moves.py": "scenarios of guests that move; what a peer does that it must not",
    "nodes.py": "XenStore nodes",
    "netmap.py": "netmap: its header, its commands",
    "options.py": "what a caller may choose",
    "policy.py": "one kind of backend: the interface with Linux's, and xnb's",
    "protocol.py": "what a link is; how a client of the store and the wire's bytes go together",
    "queue.py": "one queue of a vif, two ends",
    "report.py": "what is told of a link, and of a run",
    "ring.py": "ring.h: its layout, its macros; the command that reads a page of one",
    "runner.py": "what runs: frames over a link, checks of the suite",
    "rx_pass.py": "one ring, two ends",
    "target.py": "what is tested: a driver by the suite, code by the fuzzer",
    "tx_pass.py": "one ring, two ends",
    "trace.py": "the trace of a store's requests, the command that records a machine",
    "verdict.py": "what a kernel has refused, at two ends",
    "watch.py": "a XenStore watch: the server's end and the client's",
    "why.py": "why a vif passes no traffic: the reasons, the command",
}


def packed(source: str, *kinds: type[ast.expr]) -> list[int]:
    """The lines of a source where nodes of these ``kinds`` unpack a display of two or more values,
    f(*(a, b)) or (*(a, b), c).

    It hides which parameter a value is for; keywords say it.
    """
    if "*(" not in source and "*[" not in source:
        return []  # few sources have to be parsed
    return [
        value.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds)
        for value in getattr(node, "args" if isinstance(node, ast.Call) else "elts")
        if isinstance(value, ast.Starred)
        and isinstance(value.value, ast.Tuple | ast.List)
        and len(value.value.elts) > 1
    ]


def test_no_call_unpacks_a_display() -> None:
    assert packed("f(*(a, b), c)\ng(*rest, *map(str, x), *(a,))\nh(*[a, b])", ast.Call) == [1, 3]
    found = {str(p.relative_to(ROOT)): packed(p.read_text(), ast.Call) for p in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_arguments_of_the_package_are_packed_twice() -> None:
    displays = (ast.Tuple, ast.List)
    assert packed("x = (*(a, b), c)\ny = [*rest, *[a]]\nf(*(a, b))", *displays) == [1]
    found = {p.name: packed(p.read_text(), *displays) for p in sorted(PACKAGE.rglob("*.py"))}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_files_of_one_name_mean_the_same() -> None:
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py":
            places[path.name].append(path)
    assert sorted(name for name, paths in places.items() if len(paths) > 1) == sorted(TWINS)
