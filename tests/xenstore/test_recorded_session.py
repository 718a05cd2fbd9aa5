"""A session with the real C xenstored 4.17, replayed against the core step by step."""

from __future__ import annotations

import json
from pathlib import Path

from xenstore_wire_shim import apply, can_apply

from xennet.xenstore import Connection, Store

SESSION = json.loads(
    (Path(__file__).parents[1] / "data" / "xenstored" / "session.json").read_text()
)

# Answers that depend on bytes of the message which only a transport sees.
NEEDS_FRAMING = {
    "read without trailing nul": "stale errno of the daemon instead of EINVAL",
    "read with two strings": "stale errno of the daemon instead of EINVAL",
    "read with empty payload": "stale errno of the daemon instead of EINVAL",
    "get domain path of a word": "the daemon's atoi() of a word is 0",
    "DIRECTORY of > 4096 bytes of children": "the nodes under /big were not recorded",
}


class Replay:
    def __init__(self) -> None:
        self.store = Store(like="4.17")
        self.connections: dict[str, Connection] = {}

    def connection(self, name: str) -> Connection:
        if name not in self.connections or self.connections[name].closed:
            domid = int(name[3:]) if name.startswith("dom") else 0
            self.connections[name] = self.store.connect(domid, name=name)
        return self.connections[name]

    def events(self) -> list[list[str]]:
        seen = []
        for name, connection in self.connections.items():
            seen += [[name, event.path, event.token] for event in connection.events]
            connection.events.clear()
        return seen

    def machine(self, what: str, domid: int) -> None:
        {
            "created": self.store.domain_created,
            "died": self.store.domain_died,
            "shut down": self.store.domain_shut_down,
        }[what](domid)


def test_core_answers_like_the_recorded_daemon() -> None:
    replay = Replay()
    differences = []
    compared = 0
    for step in SESSION["steps"]:
        if "machine" in step:
            replay.machine(step["machine"], step["domid"])
        elif not can_apply(step["op"]) or step["label"] in NEEDS_FRAMING:
            continue
        else:
            compared += 1
            connection = replay.connection(step["conn"])
            payload = step["payload"].encode("latin-1")
            op, answer = apply(connection, step["op"], payload, step["tx"])
            expected = step["reply"]
            if expected["payload"] is None:
                same = (op, len(answer)) == (expected["op"], expected["length"])
            else:
                same = (op, answer.decode("latin-1")) == (expected["op"], expected["payload"])
            if not same:
                differences.append((step["label"], expected, op, answer[:80]))
        events = replay.events()
        if sorted(events) != sorted(step["events"]):
            differences.append((step.get("label"), step["events"], events))
    assert differences == []
    assert compared == 173
