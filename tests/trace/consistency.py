"""What holds of every recording, whatever was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files

import fastjsonschema

from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.hypervisor import Machine
from xennet.ring import must_notify
from xennet.trace.history import History
from xennet.trace.recorder import Recorder
from xennet.trace.stream import Event

VALIDATE = fastjsonschema.compile(
    json.loads(files("xennet.trace").joinpath("trace.schema.json").read_text())
)
#: Byte of a published index -> that of the event index.
EVENT_OF = {"req_prod": 4, "rsp_prod": 12}
_ACCESSES = ("load", "store", "update")


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def require_consistent(events: list[Event]) -> None:
    """Raises AssertionError, with the event, for a stream that contradicts itself."""
    begun: list[Event] = []
    held: dict[int, bytearray] = {}
    by_number: dict[int, Event] = {}
    sent: dict[int, Event] = {}
    for place, event in enumerate(events, 1):
        VALIDATE(event)
        assert event["n"] == place, event
        assert event["cause"] is None or 0 < event["cause"] < place, event
        by_number[place] = event
        kind = event["kind"]
        if kind == "begin":
            assert event["ready"][event["choice"]] == event["delivery"], event
            begun.append(event)
        elif kind == "end":
            assert begun.pop()["delivery"] == event["delivery"], event
        elif kind == "memory":
            initial = bytes.fromhex(event.get("initial", ""))
            held[event["memory"]] = bytearray(initial.ljust(event["bytes"], b"\0"))
        elif kind in _ACCESSES:
            _access(event, held[event["memory"]])
        elif kind == "publish":
            _published(event, held[event["memory"]], by_number)
        elif kind == "notify":
            _notified(event, by_number)
        elif kind == "send" and event["cause"] is not None:
            sent[event["cause"]] = event
    assert not begun
    for event in events:
        if event["kind"] == "notify" and event["sent"]:
            assert sent[event["n"]]["dom"] == event["dom"], event


def _access(event: Event, held: bytearray) -> None:
    """What is told of an access is what was there; stores are applied to ``held``."""
    at, raw = event["at"], bytes.fromhex(event["bytes"])
    was = held[at : at + len(raw)]
    assert len(was) == len(raw), event
    assert event.get("cut") or len(raw) == event["size"], event
    if event["kind"] == "load":
        assert was == raw, event
        return
    assert was.hex() == event["old"], event
    held[at : at + len(raw)] = raw


def _published(event: Event, held: bytearray, by_number: dict[int, Event]) -> None:
    at = EVENT_OF[event["index"]]
    assert event["event"] == number(held[at : at + 4]), event
    assert event["new"] == number(held[at - 4 : at]), event
    assert event["notify"] == must_notify(event["old"], event["new"], event["event"]), event
    assert by_number[event["cause"]]["field"] == event["index"], event
    _set_by(event, by_number)


def _notified(event: Event, by_number: dict[int, Event]) -> None:
    """A driver notifies by the rule of ring.h, of what it has published itself."""
    publish = by_number[event["cause"]]
    assert publish["kind"] == "publish", event
    assert publish["ring"] == event["ring"], event
    assert event["sent"] == must_notify(event["old"], event["new"], event["event"]), event
    _set_by(event, by_number)


def _set_by(event: Event, by_number: dict[int, Event]) -> None:
    if event["event_set_by"] is not None:
        setter = by_number[event["event_set_by"]]
        raw = bytes.fromhex(setter["bytes"])
        assert setter["kind"] != "load", event
        assert setter["at"] < SRING_HEADER_SIZE, event
        if setter["size"] == 4:
            assert setter["field"] in ("req_event", "rsp_event"), event
            assert number(raw) == event["event"], event


def require_replayed(recorder: Recorder, machine: Machine, events: list[Event]) -> None:
    """Each memory of the arena holds what the recording says of it."""
    recorder.settle()
    history, last = History(events), events[-1]["n"]
    now: dict[int, Event] = {}
    for event in events:
        if event["kind"] == "memory":
            now.update(dict.fromkeys(event["frames"], event))
    for event in {event["n"]: event for event in now.values()}.values():
        held = history.bytes_at(event["memory"], last)
        for at, frame in enumerate(event["frames"]):
            if now[frame]["memory"] == event["memory"]:
                page = machine.memory.u8[frame * 4096 : (frame + 1) * 4096].tobytes()
                assert held[at * 4096 : (at + 1) * 4096] == page, (event["what"], at)


def of_kinds(events: Iterable[Event]) -> set[str]:
    return {event["kind"] for event in events}
