"""What the lessons say of a run besides what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet.cli import main
from xennet.trace.stream import read

LESSONS = Path(__file__).parents[2] / "docs" / "course"


@pytest.mark.parametrize("guest", ["gen:100x3", "tcp:3000x4"])
def test_why_a_notification_was_avoided_is_three_numbers_and_a_step(
    guest: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"
    arguments = ["trace", "run", "--quiet", "--guest", guest, "--host", "echo:", "-o", str(file)]
    assert main(arguments) == 0
    events = {event["n"]: event for event in read(file)[1]}
    told = [event for event in events.values() if event["kind"] == "notify"]
    avoided = [event for event in told if not event["sent"]]
    assert avoided
    for event in avoided:
        setter = events[event["event_set_by"]]
        assert setter["field"] == "req_event"
        assert setter["meaning"]["req_event"] == event["event"]
        assert not event["old"] < event["event"] <= event["new"]
        earlier = [one for one in told if one["ring"] == event["ring"] and one["n"] < event["n"]]
        assert any(one["sent"] and one["old"] < event["event"] <= one["new"] for one in earlier)
    if guest == "gen:100x3":  # the run of lesson 2
        first, text = avoided[0], (LESSONS / "lesson2.md").read_text("utf-8").replace("\n", " ")
        numbers = f"from {first['old']} to {first['new']}, `req_event` was {first['event']}"
        assert f"`req_prod` went {numbers}" in text
        assert f"not among {first['old'] + 1} to {first['new']}" in text
