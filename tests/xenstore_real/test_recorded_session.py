"""A recorded session with each C xenstored, replayed byte for byte through the wire sessions.

Needs no daemon. Every byte must be equal, but for the tables below.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Session
from xennet.xenstore.wire import Decoder, encode_error

RECORDED = Path(__file__).parents[1] / "data" / "xenstored"
SESSIONS = {
    "4.17": json.loads((RECORDED / "wire.json").read_text())["steps"],
    "4.20": json.loads(lzma.decompress((RECORDED / "wire-4.20.json.xz").read_bytes()))["steps"],
}

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
