"""A recorded session with each C xenstored, replayed byte for byte through the wire sessions.

Needs no daemon. Every byte must be equal, but for the tables below.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from xennet.abi.xs_wire import XS_TRANSACTION_START
from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Session
from xennet.xenstore.wire import HEADER, Decoder, encode_error

RECORDED = Path(__file__).parents[1] / "data" / "xenstored"
SESSIONS = {
    "4.17": json.loads((RECORDED / "wire.json").read_text())["steps"],
    "4.20": json.loads(lzma.decompress((RECORDED / "wire-4.20.json.xz").read_bytes()))["steps"],
}
OXENSTORED = json.loads(lzma.decompress((RECORDED / "oxenstored.json.xz").read_bytes()))["steps"]

STALE_ERRNO = (
    "a malformed request gets the errno of whatever failed in the daemon before; ours is EINVAL"
)
GENERATION = (
    "generation numbers are the server's own; the daemon also counts those of aborted attempts"
)

_GENERATIONS = dict.fromkeys(
    (
        "directory part, offset 0",
        "directory part, offset 7",
        "directory part, offset past the end",
        "DIRECTORY_PART of the same, offset 0",
        "DIRECTORY_PART of the same, offset 3952",
    ),
    GENERATION,
)
DECLARED = {
    "4.17": {
        "read without trailing nul": STALE_ERRNO,
        "read with two strings": STALE_ERRNO,
        "read with empty payload": STALE_ERRNO,
        **_GENERATIONS,
    },
    "4.20": _GENERATIONS,
}
CLOSED = "closed"


class Replay:
    def __init__(self, like: str, piece: int | None = None) -> None:
        self.store = Store(like=like)
        self._server = Server(self.store)
        self._sessions: dict[str, Session] = {}
        self._piece = piece
        self._ended: set[str] = set()

    def step(self, step: dict[str, str | int]) -> list[list[str]]:
        """What arrives where, as (connection, hex)."""
        if "machine" in step:
            machine = {
                "created": self.store.domain_created,
                "died": self.store.domain_died,
                "shut down": self.store.domain_shut_down,
            }
            machine[str(step["machine"])](int(step["domid"]))
            return self._arrived("")
        who = str(step["conn"])
        request = bytes.fromhex(str(step["request"]))
        session = self._session(who)
        for at in range(0, len(request), self._piece or len(request)):
            session.receive(request[at : at + (self._piece or len(request))])
        return self._arrived(who)

    def _session(self, who: str) -> Session:
        if who not in self._sessions or self._sessions[who].closed:
            domid = int(who[3:]) if who.startswith("dom") else 0
            self._sessions[who] = Session(self._server, domid, name=who)
        return self._sessions[who]

    def _arrived(self, first: str) -> list[list[str]]:
        arrived = []
        for who in sorted(self._sessions, key=lambda name: name != first):
            session = self._sessions[who]
            for message in Decoder().feed(session.take()):
                head = b"".join(n.to_bytes(4, "little") for n in (*message[:3], len(message[3])))
                arrived.append([who, (head + message.payload).hex()])
            if session.closed and session.error and who not in self._ended:
                self._ended.add(who)
                arrived.append([who, CLOSED])
        return arrived


def same(expected: list[list[str]], got: list[list[str]]) -> bool:
    return len(expected) == len(got) and all(
        name == our_name and (hexed == ours or (hexed[-2:] == ".." and ours.startswith(hexed[:-2])))
        for (name, hexed), (our_name, ours) in zip(expected, got, strict=True)
    )


@pytest.mark.parametrize("piece", [None, 1, 7], ids=["whole", "bytewise", "in sevens"])
@pytest.mark.parametrize("like", SESSIONS)
def test_recorded_session_is_answered_with_the_same_bytes(like: str, piece: int | None) -> None:
    replay = Replay(like, piece)
    declared = DECLARED[like]
    differ = {}
    for step in SESSIONS[like]:
        got = replay.step(step)
        expected = step.get("replies", [])
        if not same(expected, got):
            differ[step.get("label", step.get("machine"))] = (expected, got)
    assert differ.keys() == declared.keys(), {k: v for k, v in differ.items() if k not in declared}
    for label, (expected, got) in differ.items():
        theirs, ours = (bytes.fromhex(replies[0][1].rstrip(".")) for replies in (expected, got))
        assert theirs[:12] == ours[:12] or declared[label] is not GENERATION
        if declared[label] is STALE_ERRNO:
            assert ours == encode_error("EINVAL", int.from_bytes(theirs[4:8], "little"), 0)
        elif declared[label] is GENERATION:
            assert theirs[16:].partition(b"\0")[2] == ours[16:].partition(b"\0")[2]


@pytest.mark.parametrize("like", SESSIONS)
def test_recording_is_all_there(like: str) -> None:
    assert sum("request" in step for step in SESSIONS[like]) == 198 + 45
    assert sum("machine" in step for step in SESSIONS[like]) == 5


# -- oxenstored ------------------------------------------------------------------------------------

BEGINNING = "the store of the beginning 4"
"""oxenstored's transactions see the store of their beginning, ours each node as first touched."""


class Ids:
    """The recording's transaction ids for ours: oxenstored uses up more of them."""

    def __init__(self) -> None:
        self._ours: dict[tuple[str, int], int] = {}

    def request(self, who: str, request: bytes) -> bytes:
        return self._with_tx(request, lambda tx: self._ours.get((who, tx), tx))

    def reply(self, who: str, reply: bytes) -> bytes:
        recorded = {ours: theirs for (name, theirs), ours in self._ours.items() if name == who}
        return self._with_tx(reply, lambda tx: recorded.get(tx, tx))

    def started(self, who: str, theirs: bytes, ours: bytes) -> None:
        self._ours[who, int(theirs[HEADER.size : -1])] = int(ours[HEADER.size : -1])

    def _with_tx(self, message: bytes, translate: Callable[[int], int]) -> bytes:
        kind, req_id, tx_id, size = HEADER.unpack_from(message)
        return HEADER.pack(kind, req_id, translate(tx_id), size) + message[HEADER.size :]


@pytest.mark.parametrize("piece", [None, 7], ids=["whole", "in sevens"])
def test_recorded_session_of_oxenstored_is_answered_with_the_same_bytes(piece: int | None) -> None:
    replay, ids = Replay("oxenstored", piece), Ids()
    differ = []
    for step in OXENSTORED:
        if "machine" in step:
            replay.step(step)
            continue
        who = step["conn"]
        request = ids.request(who, bytes.fromhex(step["request"]))
        got = replay.step({**step, "request": request.hex()})
        expected = step["replies"]
        if request[0] == XS_TRANSACTION_START and expected[0][1][:2] == "06":
            ids.started(who, *(bytes.fromhex(replies[0][1]) for replies in (expected, got)))
            continue
        got = [[name, ids.reply(name, bytes.fromhex(ours)).hex()] for name, ours in got]
        if got != expected:
            differ.append((step["label"], expected, got))
    assert [label for label, _, _ in differ] == [BEGINNING], differ


def test_recording_of_oxenstored_is_all_there() -> None:
    assert sum("request" in step for step in OXENSTORED) == 296
    assert sum("machine" in step for step in OXENSTORED) == 2
