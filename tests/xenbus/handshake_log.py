"""Changes of vif nodes as comparable lines, from a recording or from a running world.

What can differ between two machines, and does not matter, is taken out of both: transaction ids,
watch tokens, grant references and port numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import unified_diff
from pathlib import Path

from attrs import frozen

from xennet.observe import StoreOperation

#: Who took part, as the recordings name them.
PARTIES = ("xl", "dom0-kernel", "hotplug-script", "domU1-kernel")
DATA = Path(__file__).parents[1] / "data" / "handshake"

_LINE = re.compile(r"(?P<phase>\S+) (?P<who>\S+) (?P<op>\S+) (?P<rest>.*) -> (?P<result>\S+)")
_CHANGES = frozenset(
    ("WRITE", "MKDIR", "RM", "SET_PERMS", "WATCH", "UNWATCH")
    + ("TRANSACTION_START", "TRANSACTION_END")
)
_NUMBERS = re.compile(r"(ring-ref|event-channel(-tx|-rx)?)$")


@frozen
class Change:
    """One operation: ``detail`` is the value, the permissions, or T / F of a transaction's end."""

    who: str
    op: str
    path: str
    detail: str
    result: str


def _normal(who: str, op: str, path: str, detail: str, result: str) -> Change:
    if op in ("WATCH", "UNWATCH"):
        detail = "TOKEN"
    elif op == "WRITE" and _NUMBERS.search(path):
        detail = "NUMBER"
    elif op == "TRANSACTION_START":
        path, detail, result = "", "", "ID"
    elif op == "TRANSACTION_END":
        path, detail = "", detail or path
    return Change(who, op, path, detail, result)


def recorded(name: str, *phases: str) -> list[Change]:
    """The changes of the given phases of recording ``name`` (single-channel, split-channels)."""
    changes = []
    for line in (DATA / f"{name}.txt").read_text().splitlines():
        match = _LINE.fullmatch(line)
        assert match is not None, line
        if match["phase"] not in phases:
            continue
        path, _, detail = match["rest"].partition(" ")
        if match["op"] == "SET_PERMS":
            detail = " ".join(re.findall(r"'(\w+)'", detail))
        changes.append(_normal(match["who"], match["op"], path, detail.strip(), match["result"]))
    return changes


def phases(name: str) -> list[str]:
    """The phases of a recording in order, without those that only wait for the one before."""
    marks = [line.split(" ", 1)[0] for line in (DATA / f"{name}.txt").read_text().splitlines()]
    return [mark for mark in dict.fromkeys(marks) if not mark.startswith("guest-reconnected")]


def seen(operations: Iterable[StoreOperation]) -> list[Change]:
    """What a world did to vif nodes; transactions only where they did something to them."""
    changes = [op for op in operations if op.op in _CHANGES]
    transactions = {(op.who, op.tx_id) for op in changes if op.tx_id and "vif" in op.path}
    kept = []
    for op in changes:
        if op.op.startswith("TRANSACTION"):
            if (op.who, op.tx_id) not in transactions:
                continue
        elif "vif" not in op.path:
            continue
        value = op.value.decode().replace("\0", " ")
        kept.append(_normal(op.who, op.op, op.path, value, op.error or "OK"))
    return kept


def by(changes: Iterable[Change], who: str) -> list[Change]:
    """The changes that ``who`` made, in order."""
    return [change for change in changes if change.who == who]


def _lines(changes: Iterable[Change]) -> list[str]:
    return [f"{c.who} {c.op} {c.path} {c.detail} -> {c.result}" for c in changes]


def assert_as_recorded(
    ours: list[Change], theirs: list[Change], parties: Collection[str] = PARTIES
) -> None:
    """Each of ``parties`` does the same in the same order, states change in the same order, and
    nobody else does anything; what differs is shown as a diff."""
    for who in parties:
        diff = unified_diff(_lines(by(theirs, who)), _lines(by(ours, who)), "Linux", "xennet")
        assert not (shown := "\n".join(diff)), shown
    assert state_writes(ours) == state_writes(theirs)
    assert {change.who for change in ours} <= set(parties)


def state_writes(changes: Iterable[Change]) -> list[tuple[str, str, str]]:
    """(who, path, value) of all writes to state, online and hotplug-status, in order."""
    names = ("state", "online", "hotplug-status")
    return [
        (change.who, change.path, change.detail)
        for change in changes
        if change.op == "WRITE" and change.path.rpartition("/")[2] in names
    ]


# -- reads -----------------------------------------------------------------------------------------

#: One operation of a driver, without its value: (READ, path).
Step = tuple[str, str]

#: What a bus and the core of xenbus look at, each kernel as often as it likes.
_CORE = frozenset(("state", "frontend", "frontend-id", "backend", "backend-id"))
#: What a frontend wants to know of a backend's offload. Linux asks when it registers its interface,
#: after the keys are published, and twice; xennet asks once, before.
_OFFLOAD = tuple(
    f"backend/vif/1/0/{feature}"
    for feature in (
        *("feature-sg", "feature-ipv6-csum-offload", "feature-gso-tcpv4", "feature-gso-tcpv6"),
        # Only xennet's netfront looks at these.
        *("feature-no-csum-offload", "feature-multicast-control", "feature-ctrl-ring", "carrier"),
    )
)
#: Only xennet looks at these: GSO prefixes are from before Linux 4.10, netfront knows no mtu.
_OURS = ("feature-gso-tcpv4-prefix", "feature-gso-tcpv6-prefix", "device/vif/0/mtu")
#: A frontend that starts or unloads polls this in Linux, and is told of it in xennet.
_POLLED = "/local/domain/0/backend/vif/1/0/state"


def _steps(operations: Iterable[Step]) -> list[Step]:
    steps: list[Step] = []
    for op, path in operations:
        own = not path.startswith("/")
        if op == "READ" and (
            (own and path.rpartition("/")[2] in _CORE)
            or path == _POLLED
            or path.endswith((*_OFFLOAD, *_OURS))
        ):
            continue
        # What is read again without anything in between tells nothing new.
        if steps[-1:] != [(op, path)]:
            steps.append((op, path))
    return steps


def recorded_steps(name: str, who: str, *phases: str) -> list[Step]:
    """What the kernel ``who`` read, watched and wrote in recording ``name`` (reads-6.1 ...)."""
    found = []
    for line in (DATA / f"{name}.txt").read_text().splitlines():
        phase, by_whom, op, path, *_ = line.split(" ")
        if phase in phases and by_whom == who:
            found.append((op, path))
    return _steps(found)


def driver_steps(operations: Iterable[StoreOperation], who: str) -> list[Step]:
    """The same of a running world."""
    kinds = ("READ", "WATCH", "UNWATCH", "WRITE", "RM")
    return _steps(
        (op.op, op.path)
        for op in operations
        if op.who == who and op.op in kinds and "vif" in op.path
    )


def assert_same_steps(ours: list[Step], theirs: list[Step]) -> None:
    """The same steps in the same order; what differs is shown as a diff."""
    lines = [[f"{op} {path}" for op, path in steps] for steps in (theirs, ours)]
    assert not (shown := "\n".join(unified_diff(*lines, "Linux", "xennet"))), shown
