"""Rooms know only what they may know: a table says which, and it has no circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "xennet"

#: What each room imports. A room is a folder of the package or a module beside them; a file of a
#: folder that stands outside of it is a room of its own. A new arrow is a decision: it belongs here
#: only if the room could not do its job without.
_TABLE = {
    # What others plug into, and what knows nobody
    "abi": "",
    "interface": "",
    "observe": "",
    "frames": "",
    "errors": "",
    "runloop": "",
    "pump": "runloop",
    "choices": "runloop",
    "moved": "",
    "lazy": "moved",
    "user_cache": "",
    "html_table": "",
    "whole_file": "",
    "unit_file": "",
    # How kernels run
    "engine": "",
    "engine/choice": "engine engine/fast errors",
    "engine/fast": "engine engine/kernel engine/libatomic ring user_cache whole_file",
    "engine/atomics": "engine/fast engine/libatomic",
    "engine/libatomic": "",
    "engine/kernel": "abi engine/atomics ring",
    "adversary": "engine/choice engine/watched",
    "engine/watched": "engine/kernel",
    "engine/address": "",
    # The machine
    "ring": "abi engine/choice html_table",
    "memfd": "",
    "memory": "abi engine/atomics interface memfd",
    "granter": "abi engine/kernel",
    "gnttab": "abi engine/choice engine/kernel granter interface lazy memory",
    "evtchn": "abi engine/choice engine/kernel interface memory observe",
    "hypervisor": "abi evtchn gnttab interface memory observe runloop",
    "hypercall": "abi hypervisor interface",
    # The store
    "xenstore": "abi html_table interface lazy unit_file",
    "xenstored": "abi engine/choice hypervisor interface observe runloop xenstore",
    # Drivers and what they share: the interface is all that they see of a machine
    "offload": "abi engine/choice engine/kernel frames ring",
    "flow": "abi engine/choice engine/kernel frames offload ring",
    "xenbus": "abi interface observe xenstore",
    "vif": "abi engine/choice engine/kernel frames interface observe ring xenbus",
    "netfront": (
        "abi engine/choice engine/kernel flow frames granter interface lazy offload ring vif "
        "xenbus xenstore"
    ),
    "netback": (
        "abi engine/choice engine/kernel flow frames interface lazy observe offload ring vif xenbus"
    ),
    # Not drivers: entries for a fuzzer, which make a machine for one
    "netback/poll_page": (
        "abi engine/choice engine/kernel frames gnttab hypervisor netback ring vif"
    ),
    "netback/xnb/poller": "abi hypervisor netback netback/poll_page ring xenstored",
    "netback/xnb/oracle": "abi netback/xnb/poller",
    # A host, and what it is made of
    "toolstack": "abi interface xenbus xenstore",
    "plugins": "errors",
    "port": "abi engine/choice engine/kernel errors frames offload plugins ring unit_file",
    "wrap": "flow frames lazy offload port",
    "shmif": "abi engine/atomics engine/choice engine/kernel frames port ring",
    "netmap": "abi engine/choice engine/kernel frames ifnet lazy memfd port pump ring runloop",
    "tap": "abi engine/choice engine/kernel frames offload port",
    "host": (
        "abi errors frames html_table hypervisor interface lazy memory netback netfront port pump "
        "runloop toolstack vif xenbus xenstore xenstored"
    ),
    # Programs of other processes in domains
    "exec": (
        "abi errors hypercall hypervisor interface memfd memory netmap observe pump runloop "
        "user_cache whole_file xenstore"
    ),
    "exec/own_host": "exec host port pump toolstack",
    # Another way between two ends
    "ifnet": "frames",
    "epair": "engine/choice engine/kernel frames ifnet runloop",
    # What is made of the events of a machine
    # What joins ports, and what is made of that
    "link": (
        "abi engine/choice engine/kernel epair errors flow frames gnttab host html_table "
        "hypervisor ifnet lazy netback netfront netmap observe port pump ring runloop shmif "
        "toolstack vif xenbus xenstore"
    ),
    "run": (
        "abi choices errors exec frames host lazy link netback netfront observe offload "
        "plugins port pump toolstack wrap xenbus xenstore"
    ),
    "lifecycle": (
        "abi frames host interface netback netfront observe run runloop toolstack vif xenbus "
        "xenstore"
    ),
    # What happened, step by step
    "trace": (
        "__init__ abi engine/address engine/choice engine/kernel engine/watched frames gnttab "
        "html_table hypervisor lazy observe runloop user_cache vif whole_file"
    ),
    # What was taken from a real host
    "dumps": "abi engine/kernel netback netfront ring vif xenstore",
    # Another machine: a real one, as a process of one of its domains sees it
    "xen": (
        "abi engine/choice engine/kernel engine/libatomic errors frames interface lazy memory "
        "netback netfront observe plugins port pump ring runloop vif wrap xenbus xenstore"
    ),
    "testing": (
        "abi adversary errors frames host hypervisor interface lazy link netback netfront offload "
        "port pump ring run runloop toolstack xenbus xenstore"
    ),
    "check": (
        "abi choices engine/choice exec host hypervisor interface lazy link netback netfront "
        "observe port pump ring run testing toolstack trace workers wrap xenbus xenstore"
    ),
    "check/vectors": ("abi check frames netback netback/poll_page netfront ring vif"),
    "bench": (
        "abi engine engine/atomics engine/choice engine/kernel exec exec/own_host frames fuzz "
        "fuzz/targets gnttab host link netback netback/poll_page netfront netmap port pump ring "
        "shmif tap user_cache vif xenstore"
    ),
    "fuzz": "abi engine engine/choice engine/kernel ring whole_file workers",
    "fuzz/targets": (
        "abi adversary engine engine/choice engine/kernel flow frames fuzz gnttab hypervisor "
        "netback netback/poll_page netback/xnb/oracle netback/xnb/poller netfront netmap port ring "
        "shmif testing vif xenstore xenstored"
    ),
    # Lessons
    "course": (
        "abi adversary engine/choice engine/watched frames gnttab granter hypervisor "
        "netback/poll_page port ring runloop testing trace xenbus"
    ),
    "workers": "",
    "hostd": (
        "abi engine/atomics errors exec frames host ifnet interface lifecycle link netback "
        "netfront plugins port pump toolstack wrap xenbus xenstore"
    ),
    "step": (
        "abi choices engine/address engine/choice frames host ifnet link memory netback observe "
        "port pump ring run runloop trace vif"
    ),
    # The front doors
    "__init__": (
        "errors frames host hypervisor interface lazy lifecycle link moved netback "
        "netback/poll_page netback/xnb/poller port ring vif xenstore"
    ),
    "cli": (
        "__init__ abi check check/vectors choices course dumps engine/choice errors exec "
        "exec/own_host frames fuzz host hostd hypervisor interface lifecycle netback netfront "
        "netmap port run shmif step trace unit_file whole_file workers wrap xen xenbus xenstore"
    ),
    "__main__": "cli",
}
MAY_IMPORT = {room: set(rooms.split()) for room, rooms in _TABLE.items()}
#: Imported when an engine is chosen or memory is shared: nobody needs numba who does neither.
LATE = {("engine/choice", "engine/fast"), ("engine/atomics", "engine/fast")}
#: Files that import each other, if only for a type checker, and why they are no one file.
CIRCLES = {
    frozenset({"xenstore/connection", "xenstore/store"}): (
        "a request is a method of the connection and acts on all that the store has, which makes "
        "connections and ends them: between them is no smaller interface than either"
    ),
}


def room_of(module: str) -> str:
    """The room that a module is in ("xennet.netback.xnb.tx"); "" if it is not of this package."""
    package, *parts = module.split(".")
    if package != "xennet":
        return ""
    for end in range(len(parts), 0, -1):
        if (name := "/".join(parts[:end])) in MAY_IMPORT:
            return name
    first = parts[0] if parts else "__init__"
    known = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists()
    return first if known else "__init__"  # a name of the package itself


@cache
def imported_by(path: Path) -> frozenset[str]:
    return frozenset(imported(path.read_text()))


def imported(source: str) -> set[str]:
    """The modules that a file imports, also inside functions; of a name taken from a package it
    cannot be told whether it is a module, so it may be one."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                found |= {f"{module}.{alias.name}" for alias in names}
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
    return found


@cache
def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that its files import. A package's ``__init__`` hands on what is below."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        door = len(parts) > 1 and parts[-1] == "__init__"
        room = room_of(".".join(["xennet", *(parts[:-1] if door else parts)]))
        rooms = {room_of(name) for name in imported_by(path)} - {room, ""}
        if door:
            rooms = {other for other in rooms if not other.startswith(f"{room}/")}
        found.setdefault(room, set()).update(rooms)
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_what_the_table_says_and_nothing_else(room: str) -> None:
    assert arrows().get(room, "no such room") == MAY_IMPORT[room]


def test_every_room_has_a_row() -> None:
    assert set(arrows()) == set(MAY_IMPORT)


def test_nobody_imports_in_a_circle() -> None:
    graph = {room: set(rooms) for room, rooms in MAY_IMPORT.items()}
    for late, chosen in LATE:
        graph[late].remove(chosen)
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def file_arrows() -> dict[str, set[str]]:
    """File -> the files that it imports, without the ``__init__`` of packages."""
    files = {
        ".".join(("xennet", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    found = {}
    for module, path in files.items():
        names = imported_by(path)
        # A module is imported by its name, or by that of something in it.
        found[module] = {name if name in files else name.rpartition(".")[0] for name in names}
        found[module] &= set(files)
    return found


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of nodes each of which leads to all others of its group, and to itself."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            new = graph[left.pop()] - seen
            seen |= new
            left += new
        return seen

    reached = {name: reach(name) for name in graph}
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }


def test_no_files_import_in_a_circle() -> None:
    found = circles(file_arrows())
    names = {frozenset(module[7:].replace(".", "/") for module in group) for group in found}
    assert names == set(CIRCLES)


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"e"}, "f": set[str]()}
    assert circles(graph) == {frozenset("abc"), frozenset("e")}


@pytest.mark.parametrize("driver", ["netfront", "netback", "xenbus"])
def test_a_driver_sees_nothing_of_the_emulator(driver: str) -> None:
    machine = {"memory", "gnttab", "evtchn", "hypervisor", "xenstored"}
    seen, left = set(), [driver]
    while left:
        rooms = MAY_IMPORT[left.pop()] - seen
        seen |= rooms
        left += rooms
    assert not seen & machine


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import xennet.memory\ndef f():\n    from xennet.netback import xnb\nimport os, re\n"
    assert imported(source) == {"xennet.memory", "xennet.netback.xnb", "os", "re"}
    rooms = {
        "xennet.memory": "memory",
        "xennet.netback.xnb": "netback",
        "os": "",
        "xennet": "__init__",
    }
    assert {module: room_of(module) for module in rooms} == rooms
    assert room_of("xennet.netback.xnb.poller.Poller") == "netback/xnb/poller"
    assert room_of("xennet.__version__") == "__init__"
