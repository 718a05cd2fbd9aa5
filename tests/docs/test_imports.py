"""Rooms know only what they may know: imports go one way, and drivers see an interface."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "xennet"

#: Room -> rooms that it must not import, however useful they look.
FORBIDDEN = {
    "abi": {"memory", "ring", "gnttab", "evtchn", "hypervisor", "xenstore", "xenbus", "netback"},
    "gnttab": {"evtchn", "hypervisor", "xenstore", "xenbus", "netback", "netfront", "link", "cli"},
    "evtchn": {"gnttab", "hypervisor", "xenstore", "xenbus", "netback", "netfront", "link", "cli"},
    "hypervisor": {"xenstore", "xenbus", "netback", "netfront", "port", "link", "cli"},
    "xenstore": {"hypervisor", "gnttab", "evtchn", "xenbus", "netback", "netfront", "link", "cli"},
    "xenbus": {"hypervisor", "gnttab", "evtchn", "ring", "netback", "netfront", "link", "cli"},
    "netfront": {"hypervisor", "gnttab", "evtchn", "memory", "guest", "netback", "port", "link"},
    "netback": {"hypervisor", "gnttab", "evtchn", "memory", "guest", "netfront", "port", "link"},
    "port": {"hypervisor", "gnttab", "evtchn", "xenbus", "netback", "netfront", "link", "cli"},
    "report": {"hypervisor", "xenstore", "xenbus", "netback", "netfront", "link", "cli"},
    "link": {"lifecycle", "cli"},
    "lifecycle": {"cli"},
}
#: Not drivers: the harness entries stand outside the machine.
EXEMPT = {"netback/poll_page.py", "netback/xnb/poller.py"}


def imported_rooms(source: Path) -> set[str]:
    """The rooms that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "xennet" and len(parts) > 1:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_a_room_knows_only_the_rooms_before_it(room: str) -> None:
    for source in sorted((PACKAGE / room).rglob("*.py")):
        if str(source.relative_to(PACKAGE)) in EXEMPT:
            continue
        assert not imported_rooms(source) & FORBIDDEN[room], source.name
