"""The recording of a run: order, causes, and memory replayed from it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from xennet import VifLink
from xennet.cli import main
from xennet.host import Host
from xennet.interface import StoreClient
from xennet.port import open_port
from xennet.ring import BackRing, FrontRing, tx_ring
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.trace.history import History
from xennet.trace.perfetto import write_perfetto
from xennet.trace.recorder import Recorder, recording
from xennet.trace.stream import Event, TraceError, header_of, read, write
from xennet.xenstore.errors import XsError

RUNS = {
    "up": ("gen:100x3", "null:", {}),
    "down": ("null:", "gen:3000x4", {}),
    "gso": ("tcp:20000x2@2", "echo:", {"queues": 2, "grant_version": 2}),
    "2l": ("gen:100x3", "echo:", {"evtchn": "2l", "split_channels": False, "frontend": "freebsd"}),
}


def replayed(recorder: Recorder, events: list[Event]) -> None:
    """Compare each memory of the arena with what the recording says of it."""
    recorder.settle()
    history, last = History(events), events[-1]["n"]
    machine = recorder._machine
    assert machine is not None
    now = {}
    for event in events:
        if event["kind"] == "memory" and event["frames"]:
            now.update(dict.fromkeys(event["frames"], event["memory"]))
    for memory in set(now.values()):
        (*_, event) = (e for e in events if e["kind"] == "memory" and e["memory"] == memory)
        held = history.bytes_at(memory, last)
        for at, frame in enumerate(event["frames"]):
            if now[frame] == memory:
                page = machine.memory.u8[frame * 4096 : (frame + 1) * 4096].tobytes()
                assert held[at * 4096 : (at + 1) * 4096] == page


@pytest.fixture(scope="module", params=RUNS)
def events(request: pytest.FixtureRequest) -> list[Event]:
    guest, host, options = RUNS[request.param]
    found: list[Event] = []
    with recording() as recorder:
        recorder.sink(found.append)

        def made(link: object) -> None:
            recorder.attach(link.host.machine)  # type: ignore[attr-defined]
            close = link.close  # type: ignore[attr-defined]

            def settled() -> None:
                replayed(recorder, found)
                close()
                replayed(recorder, found)
                recorder.detach()

            link.close = settled  # type: ignore[attr-defined]

        ports = [open_port(guest)], [open_port(host)]
        report = run_ports(*ports, RunOptions(**options), lambda *_: None, made=made)
    assert report.verdict.good
    return found


def test_a_cause_stands_before_what_it_causes(events: list[Event]) -> None:
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert all(e["cause"] is None or 0 < e["cause"] < e["n"] for e in events)


def test_deliveries_nest(events: list[Event]) -> None:
    open_ones: list[str] = []
    for event in events:
        if event["kind"] == "begin":
            open_ones.append(event["delivery"])
            assert event["ready"][event["choice"]] == event["delivery"]
        elif event["kind"] == "end":
            assert open_ones.pop() == event["delivery"]
    assert not open_ones


def test_a_notification_names_the_indices_and_who_set_the_event(events: list[Event]) -> None:
    by_number = {event["n"]: event for event in events}
    seen = [event for event in events if event["kind"] == "notify"]
    assert seen
    for event in seen:
        publish = by_number[event["cause"]]
        assert publish["kind"] == "publish"
        assert publish["notify"] == event["sent"]
        if event["event_set_by"] is not None:
            setter = by_number[event["event_set_by"]]
            assert setter["field"] in ("req_event", "rsp_event")
            assert int.from_bytes(bytes.fromhex(setter["bytes"]), "little") == event["event"]


def test_packets_stand_before_their_copy(events: list[Event]) -> None:
    packets = [e for e in events if e["kind"] == "packet" and "from the guest" in e["what"]]
    for packet in packets:
        behind = (e for e in events if e["n"] > packet["n"] and e["kind"] in ("copy", "end"))
        assert next(behind)["kind"] == "copy"


def test_nothing_is_changed_past_the_views(events: list[Event]) -> None:
    """Until pages are freed, when the machine zeroes them."""
    assert not [event for event in events if event.get("by") == "unseen" and event["d"]]


def test_accesses_of_a_copy_stand_behind_their_hypercall(events: list[Event]) -> None:
    by_number = {event["n"]: event for event in events}
    what = {event["memory"]: event["what"] for event in events if event["kind"] == "memory"}
    payload = [e for e in events if what.get(e.get("memory", 0)) in ("tx buffers", "rx buffers")]
    copied = [event for event in payload if event.get("by") == "hypervisor"]
    assert copied
    assert {by_number[event["cause"]].get("op") for event in copied} == {"GNTTABOP_copy"}


def test_written_by_is_who_wrote(events: list[Event]) -> None:
    history, last = History(events), events[-1]["n"]
    stores = [event for event in events if event["kind"] == "store"][-50:]
    for store in stores:
        n = history.written_by(store["memory"], store["at"], store["n"])
        assert n == store["n"]
        assert all(
            n < reader <= last for reader in history.read_by(store["memory"], store["at"], n)
        )


def test_the_command_writes_a_stream(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    arguments = ["--guest", "gen:60x1", "--host", "null:", "--quiet"]
    assert main(["trace", "run", *arguments, "-o", str(file)]) == 0
    header, events = read(file)
    assert header["run"]["command"][-5:] == arguments
    assert sum(event["kind"] == "copy" for event in events) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"n": 1}', "without a kind"),
        ('{"n": 0, "kind": "x"}', "n is 0 behind 0"),
        ('{"n": 1, "kind": "x", "cause": 1}', "the cause 1"),
    ],
)
def test_a_damaged_stream_is_told_with_its_line(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "x.jsonl"
    write(header_of(), [], file)
    with file.open("a") as end:
        end.write(line + "\n")
    with pytest.raises(TraceError, match=f"line 2: .*{why}"):
        list(read(file)[1])


def test_what_has_no_header_is_no_stream(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    for text in ("", json.dumps({"n": 1, "kind": "x"}) + "\n"):
        file.write_text(text)
        with pytest.raises(TraceError, match="line 1"):
            read(file)


def test_the_perfetto_form_has_the_slices_arrows_and_counters_of_the_run(
    events: list[Event],
) -> None:
    out = io.StringIO()
    write_perfetto({"format": "xennet-trace/1"}, events, out)
    records = json.loads(out.getvalue())
    slices: dict[int, list[float]] = {}
    for record in records:
        if record["ph"] == "B":
            slices.setdefault(record["pid"], []).append(record["ts"])
        elif record["ph"] == "E":
            assert slices[record["pid"]].pop() < record["ts"]
    assert slices
    assert not any(slices.values())

    # No track goes back in time, and what is short ends before the next thing of its track begins.
    last: dict[int, int] = {}
    for record in records:
        if record["ph"] in "BEXiC":
            ns = round(record["ts"] * 1000)
            assert ns >= last.get(record["pid"], 0), record
            last[record["pid"]] = ns + round(record.get("dur", 0) * 1000)

    # Each arrow begins at a send or post and ends at a delivery.
    starts, ends = ({r["id"]: r for r in records if r["ph"] == ph} for ph in "sf")
    assert starts
    assert starts.keys() == ends.keys()
    short = {(r["pid"], r["ts"]) for r in records if r["ph"] == "X"}
    begun = {(r["pid"], r["ts"]) for r in records if r["ph"] == "B"}
    assert {(r["pid"], r["ts"]) for r in starts.values()} <= short
    assert {(r["pid"], r["ts"]) for r in ends.values()} <= begun
    assert all(starts[i]["ts"] < ends[i]["ts"] for i in starts)
    assert any(starts[i]["pid"] != ends[i]["pid"] for i in starts)

    # Counters show what was stored, each ring under a name of its own.
    counted: dict[str, set[int]] = {}
    for record in records:
        if record["ph"] == "C":
            counted.setdefault(record["name"], set()).update(record["args"].values())
    rings = {
        e["memory"]: f"{e['vif']} q{e['queue']} {e['what']}"
        for e in events
        if e["kind"] == "memory" and "queue" in e
    }
    stored: dict[str, set[int]] = {}
    for e in events:
        field = e.get("field") if e["kind"] == "store" else None
        if field in ("req_prod", "req_event", "rsp_prod", "rsp_event"):
            name = f"{rings[e['memory']]} {field}"
            value = int.from_bytes(bytes.fromhex(e["bytes"]), "little")
            stored.setdefault(name, {0}).add(value)
    assert stored
    assert {name: counted[name] for name in stored} == stored


def test_a_private_index_is_told_where_it_moves(events: list[Event]) -> None:
    told: dict[tuple[int, str], int] = {}
    known = {e["memory"]: e for e in events if e["kind"] == "memory"}
    published = {"req_prod": "req_prod_pvt", "rsp_prod": "rsp_prod_pvt"}
    for event in events:
        if event["kind"] == "private":
            ring, index = event["memory"], event["index"]
            assert told.get((ring, index), 0) == event["old"]
            assert (event["dom"] == known[ring]["owner"]) == (index in ("req_prod_pvt", "rsp_cons"))
            told[ring, index] = event["new"]
        elif event["kind"] == "publish" and event["ring"] != "ctrl":
            assert told[event["memory"], published[event["index"]]] == event["new"]
    assert {index for _, index in told} == {"req_prod_pvt", "rsp_cons", "rsp_prod_pvt", "req_cons"}


def test_memories_and_passes_say_of_which_vif_and_queue_they_are(
    events: list[Event], request: pytest.FixtureRequest
) -> None:
    rings = {(e.get("vif"), e.get("queue")) for e in events if e.get("what") == "tx ring"}
    named = {e["name"] for e in events if e["kind"] == "begin"}
    queues = {0, 1} if request.node.callspec.params["events"] == "gso" else {0}
    assert rings == {("vif1.0", queue) for queue in queues}
    for queue in queues:
        assert f"netfront pass vif1.0 q{queue}" in named
        assert {n for n in named if n.startswith("netback") and n.endswith(f" vif1.0 q{queue}")}
    assert not any("Queue._poll" in name for name in named)


def test_guests_and_timers_are_told_apart_by_name() -> None:
    names = set()
    with recording() as recorder:
        recorder.sink(lambda event: names.add(event.get("name")))
        host = Host()
        recorder.attach(host.machine)
        host.dom0.load()
        for _ in range(2):
            host.plug(host.add_guest(), 0, open_port("gen:60x1"), open_port("gen:60x300"))
        host.settle()
        host.boot()
        host.settle(lambda: 0)  # until nothing can happen any more
        recorder.detach()
    for queue in ("vif1.0 q0", "vif2.0 q0"):
        passes = f"netback tx and rx pass {queue}", f"netfront pass {queue}"
        assert {*passes, f"netback rx-stall timer {queue}"} <= names


def test_read_by_is_who_reads_the_value_of_that_step(events: list[Event]) -> None:
    """Of the event indices: from the write that is current at a step up to the next one."""
    history = History(events)
    by_number = {event["n"]: event for event in events}
    rings = {e["memory"] for e in events if e["kind"] == "memory" and e["what"].endswith("ring")}
    for memory in rings:
        about = [e for e in events if e.get("memory") == memory and "at" in e and e["at"] <= 4]
        about = [e for e in about if e["at"] + e["size"] > 4]
        for event in about:
            by = history.written_by(memory, 4, event["n"])
            assert by is None or (by <= event["n"] and by_number[by]["kind"] != "load")
            read = history.read_by(memory, 4, event["n"])
            assert read == history.read_by(memory, 4, event["n"] - 1) or event["kind"] != "load"
            assert read == [
                one["n"]
                for one in about
                if one["kind"] == "load" and history.written_by(memory, 4, one["n"]) == by
            ]


def overtaken(store: StoreClient) -> None:
    """A transaction whose node somebody else changes before it is committed."""
    with store.transaction() as tx:
        tx.write("/tool/a", "2")
        store.write("/tool/a", "3")


def test_the_end_of_a_transaction_says_how_it_ended() -> None:
    ended = []
    with recording() as recorder:
        recorder.sink(lambda event: ended.append(event.get("ended")))
        link = VifLink(open_port("null:"), open_port("null:"))
        recorder.attach(link.machine)
        store = link.host.store
        with store.transaction() as tx:
            tx.write("/tool/a", "1")
        with pytest.raises(XsError):
            overtaken(store)
        with pytest.raises(KeyError), store.transaction():
            raise KeyError
        recorder.detach()
    link.destroy()
    assert [one for one in ended if one] == ["committed", "EAGAIN", "aborted"]


def test_each_private_index_has_its_name() -> None:
    events: list[Event] = []
    with recording() as recorder:
        host = Host()
        recorder.sink(events.append)
        recorder.attach(host.machine)
        page = host.dom0.kernel.alloc_pages(1)
        ring = tx_ring(page.u8, page.u32)
        front, back = FrontRing.init(ring), BackRing.init(ring)
        front.req_prod_pvt, front.rsp_cons = 1, 2
        back.rsp_prod_pvt, back.req_cons = 3, 4
        back.req_cons = 4  # that is no move
        recorder.detach()
    told = [(e["index"], e["old"], e["new"]) for e in events if e["kind"] == "private"]
    assert told == [
        ("req_prod_pvt", 0, 1),
        ("rsp_cons", 0, 2),
        ("rsp_prod_pvt", 0, 3),
        ("req_cons", 0, 4),
    ]
