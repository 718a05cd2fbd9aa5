"""The theory at the head of xennet.xenbus.tables says what was recorded and what the rows do."""

from __future__ import annotations

import re

from handshake_log import DATA
from vif_world import World

from xennet.abi.xenbus import XenbusState
from xennet.observe import StateChanged
from xennet.xenbus import tables

THEORY = str(tables.__doc__)
PARTIES = {
    "xl": "toolstack",
    "dom0-kernel": "backend",
    "hotplug-script": "script",
    "domU1-kernel": "frontend",
}
#: Number, who, what, FE, BE of each step; a step may have more lines without the numbers.
STEPS = re.findall(r"^ +(\d+)  (\w+) +(.*?) +(\d) +(\d)\n", THEORY, re.MULTILINE)
WORKED = THEORY.split("**A connect**", 1)[1]


def recorded() -> list[tuple[str, str, str]]:
    """Who wrote which value to which node (FE/..., BE/...) until both ends were Connected."""
    writes = []
    for line in (DATA / "split-channels.txt").read_text().splitlines():
        if match := re.match(r"create (\S+) WRITE (\S+) (\S*) ?-> OK", line):
            who, path, value = match.groups()
            node = re.sub(r"^.*?device/vif/0/", "FE/", re.sub(r"^.*backend/vif/1/0/", "BE/", path))
            if not path.startswith("/libxl"):
                writes.append((PARTIES[who], node, value))
    return writes


def states_recorded() -> list[tuple[str, str, str]]:
    """Who wrote a state, and the states of FE and BE then; from the creation of both onwards."""
    now, seen = {"FE/state": "0", "BE/state": "0"}, []
    for who, node, value in recorded():
        if node in now:
            now[node] = value
            seen.append((who, now["FE/state"], now["BE/state"]))
    return seen[1:]


def test_the_worked_connect_goes_through_the_recorded_states_by_the_recorded_parties() -> None:
    assert [int(number) for number, *_ in STEPS] == list(range(1, len(STEPS) + 1))
    changes, before = [], ("0", "0")
    for _, who, _, *states in STEPS:
        if tuple(states) != before:
            changes.append((who, *states))
            before = (states[0], states[1])
    assert changes == states_recorded()


def test_the_nodes_of_the_worked_connect_were_written_in_its_order_with_its_values() -> None:
    named = re.findall(r"([a-z-]+) = ([\w]+)", WORKED)
    assert len(named) == 10
    written = [(node.partition("/")[2], value) for _, node, value in recorded()]
    places = [written.index(pair) for pair in named if pair[0] != "hotplug-status"]
    assert places == sorted(places)
    assert ("hotplug-status", "connected") in written


def test_the_emulator_takes_the_same_steps() -> None:
    world = World()
    changes: list[tuple[int, int]] = []
    world.machine.observers.subscribe(
        lambda event: changes.append((event.domid, int(event.new))), StateChanged
    )
    world.connected()
    backend, frontend = 0, 1
    assert changes == [(backend, 2), (frontend, 4), (backend, 4)]


def test_the_table_of_states_names_them_all() -> None:
    named = re.findall(r"^(\d) (\w+)", THEORY, re.MULTILINE)
    assert named == [(str(int(state)), state.name) for state in XenbusState]
