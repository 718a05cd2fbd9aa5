"""What the store alone shows of a vif that passes no traffic: checks that need neither a host nor
its drivers, so that they serve for a dumped store as well.

Each check takes the vif's two directories as one client of the store sees them and yields one line
for each state or node in the way, with its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xennet.abi.xenbus import XenbusState
from xennet.host.shared_rings import published
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifDirectories
from xennet.xenbus.state import read_state, state_name
from xennet.xenstore.errors import XsError

StoreCheck = Callable[[VifDirectories], Iterator[str]]

S = XenbusState
#: Frontend states in which all keys are in the store.
_PUBLISHED = frozenset({S.Initialised, S.Connected, S.Reconfiguring})


def ends(seen: VifDirectories) -> tuple[tuple[str, NodeDirectory], tuple[str, NodeDirectory]]:
    """The names of both ends with their directories."""
    return ("frontend", seen.frontend), ("backend", seen.backend)


def both_connected(seen: VifDirectories) -> bool:
    """Whether both ends show Connected."""
    return all(read_state(end.store, end.path) == S.Connected for _, end in ends(seen))


def directories(seen: VifDirectories) -> Iterator[str]:
    """Both directories exist."""
    for side, directory in ends(seen):
        if not directory.exists():
            yield f"the {side}'s directory {directory.path} does not exist"


def states(seen: VifDirectories) -> Iterator[str]:
    """Both ends show Connected."""
    for side, directory in ends(seen):
        state = read_state(directory.store, directory.path)
        if state != S.Connected and directory.exists():
            yield f"the {side} is not Connected: {directory.node('state')} = {state_name(state)}"


def hotplug(seen: VifDirectories) -> Iterator[str]:
    """The hotplug script has reported success."""
    backend = seen.backend
    if not backend.exists():
        return
    node = backend.node("hotplug-status")
    try:
        status = backend.text("hotplug-status")
    except XenbusError:
        yield f"no hotplug script was run, or it gave no answer: {node} does not exist"
        return
    if status != "connected":
        what = "has failed" if status == "error" else "has not answered"
        yield f'the hotplug script {what}: {node} = "{status}"'
    if error := backend.optional_text("hotplug-error"):
        yield f'the hotplug script says: {backend.node("hotplug-error")} = "{error}"'


def errors(seen: VifDirectories) -> Iterator[str]:
    """No end that is not Connected has left an error node. (An older one may still be there.)"""
    nodes = seen.paths.frontend_error, seen.paths.backend_error
    for (_, directory), node in zip(ends(seen), nodes, strict=True):
        try:
            text = directory.store.read(node).decode("ascii", "backslashreplace")
        except XsError:
            continue
        if text and read_state(directory.store, directory.path) != S.Connected:
            yield f'a driver gave up: {node} = "{text}"'


def ring_keys(seen: VifDirectories) -> Iterator[str]:
    """A frontend in a state that says so has published all of its keys."""
    if read_state(seen.store, seen.paths.frontend) not in _PUBLISHED:
        return
    try:
        published(seen)
    except XenbusError as wrong:
        yield f"the frontend's keys are not complete: {wrong}"
