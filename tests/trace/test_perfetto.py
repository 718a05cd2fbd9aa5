"""A stream as a Chrome JSON trace: nesting, arrows, counters, size."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from xennet.trace import perfetto
from xennet.trace.perfetto import MACHINE_PID, write_perfetto

HEADER = {"format": "xennet-trace/1", "page_size": 4096}
GUEST, DOM0 = 2, 1
#: Long: a million events.
MANY = 1_000_000 if os.environ.get("XENNET_WHOLE_SUITE") else 8_000

Event = dict[str, Any]


def numbered(events: list[Event]) -> list[Event]:
    return [{"n": n, "t": 0, "d": 0, "cause": None, **e} for n, e in enumerate(events, 1)]


def le32(value: int) -> str:
    return value.to_bytes(4, "little").hex()


#: The guest publishes a request and sends; netback's pass takes it, with a nested delivery.
STREAM = numbered(
    [
        {
            "kind": "memory",
            "dom": 1,
            "memory": 3,
            "what": "tx ring",
            "vif": "vif1.0",
            "queue": 0,
            "initial": "00000000010000000000000001000000",
        },
        {"kind": "post", "dom": 1, "delivery": "work 1 of domain 1", "name": "send"},
        {"kind": "begin", "dom": 1, "delivery": "work 1 of domain 1", "name": "send"},
        {"kind": "store", "dom": 1, "memory": 3, "at": 0, "bytes": le32(1)},
        {"kind": "publish", "dom": 1, "ring": "tx", "index": "req_prod", "old": 0, "new": 1},
        {"kind": "send", "dom": 1, "port": 2},
        {"kind": "post", "dom": 0, "delivery": "evtchn 3 of domain 0", "cause": 6},
        {"kind": "end", "dom": 1, "delivery": "work 1 of domain 1"},
        {"kind": "begin", "dom": 0, "delivery": "evtchn 3 of domain 0", "name": "<upcall>"},
        {"kind": "begin", "dom": 1, "delivery": "xenstore 9 of domain 1"},
        {"kind": "end", "dom": 1, "delivery": "xenstore 9 of domain 1"},
        {"kind": "update", "dom": 0, "memory": 3, "at": 4, "bytes": le32(2)},
        {"kind": "end", "dom": 0, "delivery": "evtchn 3 of domain 0"},
        {"kind": "post", "dom": 0, "delivery": "timer 5 of domain 0"},
        {"kind": "check", "dom": None, "rule": "F5", "text": "</script>\u2028"},
    ]
)


def written(events: list[Event]) -> list[Event]:
    out = io.StringIO()
    write_perfetto(HEADER, events, out)
    records: list[Event] = json.loads(out.getvalue())
    return records


def well_nested(records: list[Event]) -> None:
    """Begins and ends match in each process, and no time of an event goes back."""
    stacks: dict[int, list[Event]] = {}
    last = 0.0
    for record in records:
        if record["ph"] == "B":
            stacks.setdefault(record["pid"], []).append(record)
        elif record["ph"] == "E":
            assert stacks[record["pid"]].pop()["ts"] < record["ts"]
        if record["ph"] not in "sf":
            assert record["ts"] >= last
            last = record["ts"]
    assert not any(stacks.values())


def test_deliveries_are_nested_slices_in_the_process_of_their_domain() -> None:
    records = written(STREAM)
    well_nested(records)
    begun = [(r["pid"], r["name"]) for r in records if r["ph"] == "B"]
    assert begun == [(GUEST, "send"), (DOM0, "<upcall>"), (GUEST, "xenstore 9 of domain 1")]
    names = {r["pid"]: r["args"]["name"] for r in records if r["name"] == "process_name"}
    assert names == {GUEST: "domain 1", DOM0: "domain 0", MACHINE_PID: "machine"}


def test_an_arrow_leads_from_a_send_to_the_delivery_that_it_caused() -> None:
    records = written(STREAM)
    starts = {r["id"]: (r["pid"], r["ts"]) for r in records if r["ph"] == "s"}
    ends = {r["id"]: (r["pid"], r["ts"]) for r in records if r["ph"] == "f"}
    shown = {
        r["args"]["event"]: (r["pid"], r["ts"]) for r in records if "event" in r.get("args", ())
    }
    assert starts.keys() == ends.keys()
    arrows = [(starts[i], ends[i]) for i in sorted(starts)]
    # Both begin at a slice and end at one; the timer that never came has no arrow.
    assert arrows == [(shown[2], shown[3]), (shown[6], shown[9])]


def test_counters_are_what_the_ring_s_memory_holds() -> None:
    values: dict[str, list[int]] = {}
    for record in written(STREAM):
        if record["ph"] == "C":
            assert record["pid"] == GUEST
            values.setdefault(record["name"], []).extend(record["args"].values())
    ring = "vif1.0 q0 tx ring"
    assert values == {
        f"{ring} req_prod": [0, 1],
        f"{ring} req_event": [1, 2],
        f"{ring} rsp_prod": [0],
        f"{ring} rsp_event": [1],
    }


def test_events_of_one_moment_are_spread_by_a_ns_each_and_keep_their_time() -> None:
    events = numbered([{"kind": "packet", "dom": 0}] * 4)
    events[2]["t"] = 7
    events[3]["t"] = 5  # a stream of two clocks: shown time does not go back
    shown = [r for r in written(events) if r["ph"] == "i"]
    assert [r["ts"] for r in shown] == [0.0, 0.001, 0.007, 0.008]
    assert [r["args"]["t"] for r in shown] == [0, 0, 7, 5]


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_stream_that_breaks_off_is_closed_and_the_reason_passed_on(cut: int) -> None:
    def broken() -> Iterator[Event]:
        yield from STREAM[:cut]
        raise KeyboardInterrupt

    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        write_perfetto(HEADER, broken(), out)
    well_nested(json.loads(out.getvalue()))


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_stream_that_begins_in_the_middle_has_no_ends_without_a_begin(cut: int) -> None:
    well_nested(written(STREAM[cut:]))


def test_what_a_killed_process_wrote_is_an_array_that_lacks_its_end() -> None:
    out = io.StringIO()
    write_perfetto(HEADER, STREAM, out)
    for line in out.getvalue().splitlines()[1:-1]:
        json.loads(line.removesuffix(","))  # a record a line: any cut leaves whole ones


class Counted(io.TextIOBase):
    """Where records go that nobody keeps."""

    records = 0

    def write(self, text: str) -> int:
        self.records += 1
        return len(text)


def many(number: int) -> Iterator[Event]:
    for n in range(1, number, 4):
        name = f"work {n} of domain 1"
        for at, kind in enumerate(("post", "begin", "send", "end")):
            yield {"n": n + at, "t": n, "d": n, "dom": 1, "kind": kind, "delivery": name}


def peak(number: int) -> int:
    """Bytes of memory that it takes to write so many events."""
    out = Counted()
    tracemalloc.start()
    try:
        write_perfetto(HEADER, many(number), out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert out.records >= number


def test_many_events_take_no_more_memory_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfetto, "MOST_WAITING_ARROWS", 100)
    peak(1_000)  # what is imported and compiled at the first call
    assert peak(MANY) < peak(1_000) + (64 << 10)
