"""A long recording takes no more memory than a short one, nor do the forms that stream."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xennet import VifLink, open_port
from xennet.trace.recorder import recording
from xennet.trace.stream import Event, header_of, line_of
from xennet.trace.writers import write

#: Bytes that a dictionary may grow by, and no more.
SLACK = 64 << 10


def test_a_recorder_keeps_nothing_of_what_it_has_told() -> None:
    """From the second time round the ring on nothing is added."""
    held: list[int] = []
    frames = 0

    def told(event: Event) -> None:
        nonlocal frames
        assert line_of(event)
        if event["kind"] == "frame" and event["direction"] == "out":
            frames += 1
            if frames in (270, 340):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])

    with recording() as recorder:
        recorder.sink(told)
        link = VifLink(open_port("gen:60x340"), open_port("null:"))
        recorder.attach(link.machine)
        link.open()
        tracemalloc.start()
        try:
            link.carry()
        finally:
            tracemalloc.stop()
        recorder.detach()
    link.destroy()
    few, many = held
    assert many - few < SLACK


def peak(does: Callable[[], object]) -> int:
    """The most bytes that ``does()`` holds at once."""
    gc.collect()
    tracemalloc.start()
    try:
        does()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def again_and_again(events: list[Event], count: int) -> Iterator[Event]:
    """The events, and those of their last delivery until there are ``count``."""
    begin = max(place for place, event in enumerate(events) if event["kind"] == "begin")
    yield from events
    n, last = len(events), events[begin:]
    assert last[-1]["kind"] == "end"
    while n < count:
        for event in last:
            n += 1
            yield {**event, "n": n, "cause": n - 1}


@pytest.fixture(scope="module")
def events() -> list[Event]:
    found: list[Event] = []
    with recording() as recorder:
        recorder.sink(found.append)
        link = VifLink(open_port("gen:60x1"), open_port("null:"))
        recorder.attach(link.machine)
        link.open()
        link.carry()
        recorder.detach()
    link.destroy()
    return found


@pytest.mark.parametrize("suffix", [".jsonl", ".pcapng"])  # .json: test_perfetto.py
def test_a_form_that_streams_holds_no_more_of_a_longer_recording(
    suffix: str, events: list[Event], tmp_path: Path
) -> None:
    out = tmp_path / f"a{suffix}"
    few, many = (
        peak(lambda count=count: write(header_of(), again_and_again(events, count), out))  # type: ignore[misc]
        for count in (len(events) + 500, len(events) + 3000)
    )
    assert many - few < SLACK
