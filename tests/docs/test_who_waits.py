"""Nobody but the pump moves time or waits: a machine lives by one clock, in one place."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: File -> why it may, and which of the names below it uses.
MAY_WAIT = {
    "xennet/pump.py": ("it is the pump", {"advance", "jump", "advance_timers", "selectors"}),
    "xennet/runloop.py": ("time is kept there", {"advance", "jump"}),
    "xennet/engine/process_lock.py": ("another process compiles a kernel", {"sleep"}),
    "xennet/xenstore/client/channel.py": ("a client waits for its server", {"selectors"}),
    "xennet/xenstore/epoll_loop.py": ("a server without a machine waits", {"select"}),
    "xennet/shmif/bus_lock.py": ("another process holds the lock", {"sleep"}),
    "xennet/shmif/doorbell.py": ("who follows a bus waits for others", {"select", "sleep"}),
    "xennet/exec/follow_ups.py": ("it looks who calls, without waiting", {"select"}),
    "xennet/netmap/loop_events.py": (
        "it asks for each write to an eventfd, without waiting: the pump waits",
        {"select"},
    ),
    "xennet/run/streams.py": ("it asks whether a reader has left, without waiting", {"select"}),
    "xennet/step/terminal.py": ("keys have a turn while a search goes on", {"asyncio"}),
    "xennet/cli/course.py": ("a learner saves a file", {"sleep"}),
    "xennet/workers/cluster.py": ("it waits for a scheduler's answer", {"asyncio"}),
    "xennet/bench/real_xenstored.py": ("it starts another program", {"select", "sleep"}),
    "xennet/bench/xenstore_ahead.py": ("it is a program of its own", {"selectors"}),
    "xennet/bench/xenstore.py": ("it starts another program", {"sleep"}),
    "xennet/bench/taps.py": ("it starts another program", {"sleep"}),
    "xennet/bench/tap_relay.py": ("it is a program of its own, without a machine", {"select"}),
}
#: Methods of a run loop; so does run_until_idle(advance_timers=True).
_MOVES_TIME = {"advance", "jump"}
#: What waits: modules, and functions of ``time`` and ``signal``.
_MODULES = {"asyncio", "select", "selectors"}
_FUNCTIONS = {"sleep", "pause", "sigwait", "sigwaitinfo", "sigtimedwait"}
_ALL = _MOVES_TIME | _MODULES | _FUNCTIONS | {"advance_timers"}


def waits(source: str) -> set[str]:
    """The names by which a file moves time or waits."""
    found: set[str] = set()
    if not any(map(source.__contains__, _ALL)):
        return found  # few sources have to be parsed
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name.split(".")[0] for alias in names} & _MODULES
            case ast.ImportFrom(module=str(module), names=names):
                found |= {module.split(".")[0]} & _MODULES
                if module in ("time", "signal"):
                    found |= {alias.name for alias in names} & _FUNCTIONS
            case ast.Attribute(value=ast.Name(id="time" | "signal"), attr=name):
                found |= {name} & _FUNCTIONS
            case ast.Call(func=ast.Attribute(attr=name)) if name in _MOVES_TIME:
                found.add(name)
            case ast.keyword(arg="advance_timers"):
                found.add("advance_timers")
    return found


@cache
def found() -> dict[str, set[str]]:
    """File -> by which names it moves time or waits; only files that do."""
    return {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / "xennet").rglob("*.py"))
        if (names := waits(path.read_text()))
    }


@pytest.mark.parametrize("path", sorted(MAY_WAIT))
def test_who_may_move_time_or_wait_does(path: str) -> None:
    assert found().get(path, set()) == MAY_WAIT[path][1]


def test_nobody_else_moves_time_or_waits() -> None:
    assert {path: names for path, names in found().items() if path not in MAY_WAIT} == {}


def test_what_waits_is_found_wherever_it_stands() -> None:
    source = """
import select, os
from asyncio.events import get_event_loop
from time import sleep, monotonic
def f(loop):
    import signal
    signal.sigwait([1])
    loop.advance(7)
    loop.run_until_idle(advance_timers=True)
    loop.sleep(3)
"""
    assert waits(source) == {"select", "asyncio", "sleep", "sigwait", "advance", "advance_timers"}
