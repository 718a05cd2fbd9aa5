"""xennet.trace.Trace: a recording in memory, filled by a recorder or read from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet import VifLink, open_port
from xennet.trace import Trace, TraceError, recording


@pytest.fixture(scope="module")
def trace() -> Trace:
    trace = Trace()
    with recording() as recorder:
        link = VifLink(open_port("gen:60x2"), open_port("null:"))
        recorder.sink(trace.events.append)
        recorder.attach(link.machine)
        link.open()
        link.carry()
    link.destroy()
    return trace


def test_it_comes_back_from_a_file_as_it_was(trace: Trace, tmp_path: Path) -> None:
    trace.write(tmp_path / "trace.jsonl")
    again = Trace.read(tmp_path / "trace.jsonl")
    assert (again.header, again.events) == (trace.header, trace.events)


def test_its_history_knows_who_wrote_the_first_request(trace: Trace) -> None:
    store = next(e for e in trace.of_kind("store") if e.get("meaning", {}).get("size") == 60)
    last = trace.events[-1]["n"]
    assert trace.history().written_by(store["memory"], store["at"], last) == store["n"]


def test_a_suffix_that_names_no_form_is_refused(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FILE\.jsonl"):
        trace.write(tmp_path / "trace.txt")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_cut_names_file_and_line(trace: Trace, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    trace.write(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TraceError, match=rf"trace\.jsonl, line {len(trace) + 1}: "):
        Trace.read(file)


def test_a_sink_that_would_miss_the_memories_is_refused() -> None:
    with recording() as recorder:
        link = VifLink(open_port("gen:60x2"), open_port("null:"))
        recorder.attach(link.machine)
        with pytest.raises(ValueError, match="sinks come before"):
            recorder.sink(print)
    link.destroy()
