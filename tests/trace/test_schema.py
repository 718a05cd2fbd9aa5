"""The JSON Schema of an event, against real recordings and the page that tells of them."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
import fastjsonschema
import pytest

from xennet import VifLink, observe, open_port
from xennet.cli import main
from xennet.trace.recorder import recording
from xennet.trace.stream import Event, read

SCHEMA: dict[str, Any] = json.loads(files("xennet.trace").joinpath("trace.schema.json").read_text())
VALIDATE = fastjsonschema.compile(SCHEMA)
PAGE = Path(__file__).parents[2] / "docs" / "trace.md"
RUN = ["run", "--guest", "gen:3000x2", "--host", "echo:"]


@pytest.mark.parametrize("what", [RUN, ["lifecycle", "hostile-packet"]], ids=lambda what: what[0])
def test_each_event_of_a_recording_is_of_the_schema(what: list[str], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    assert main(["trace", *what, "-o", str(file)]) == 0
    for event in read(file)[1]:
        VALIDATE(event)


@pytest.mark.parametrize(
    "change",
    [{"n": 0}, {"kind": "nothing"}, {"bytes": "0x12"}, {"at": -1}, {"text": None}, {"old": None}],
)
def test_what_is_no_event_is_not_of_the_schema(change: Event) -> None:
    head = {"n": 1, "t": 0, "d": 0, "dom": None, "kind": "store", "cause": None, "text": ""}
    event = {**head, "memory": 1, "at": 0, "size": 1, "bytes": "ff", "old": "00"}
    VALIDATE(event)
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        VALIDATE({**event, **change})


def test_the_page_names_the_kinds_and_the_members_of_the_schema() -> None:
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \| ([^|]*) \|$", PAGE.read_text(), re.M)
    told: dict[str, set[str]] = {}
    for kinds, members in rows:
        for kind in re.findall(r"`(\w+)`", kinds):
            told[kind] = set(re.findall(r"`(\w+)`", members))
    assert list(told) == SCHEMA["properties"]["kind"]["enum"]
    for case in SCHEMA["allOf"]:
        kind = case["if"]["properties"]["kind"]["const"]
        assert set(case["then"]["properties"]) <= told[kind], kind


def test_each_event_that_an_observer_gets_is_told() -> None:
    """With values that are not ASCII."""
    example = {"int": 1, "str": "\N{SNOWMAN}", "bytes": b"\xff<", "bool": True, "object": None}
    kinds = [kind for kind in vars(observe).values() if attrs.has(kind) and kind.__name__[0] != "_"]
    found: list[Event] = []
    with recording() as recorder:
        recorder.sink(found.append)
        link = VifLink(open_port("null:"), open_port("null:"))
        recorder.attach(link.machine)
        for kind in kinds:
            found.clear()
            members = {
                one.name: () if "tuple" in str(one.type) else example[str(one.type)]
                for one in attrs.fields(kind)
            }
            members |= {"end": "host", "direction": "in"} if "direction" in members else {}
            link.machine.observers.emit(kind(**members))
            recorder.settle()
            (event,) = (one for one in found if one["kind"] not in ("memory", "store"))
            VALIDATE(event)
            assert event["text"].isascii(), kind
            assert event["dom"] == 1
        recorder.detach()
    link.destroy()
    assert len(kinds) == 14
