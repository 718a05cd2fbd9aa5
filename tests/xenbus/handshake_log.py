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
