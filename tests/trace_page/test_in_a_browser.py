"""The page of a trace in a browser."""

from __future__ import annotations

import json
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Tab

from xennet import Host
from xennet.abi.netif import EXTRA_PAD, RX_RESPONSE, TX_REQUEST
from xennet.interface import StoreTransaction
from xennet.trace import records
from xennet.trace.history import History
from xennet.trace.page import write_html
from xennet.trace.record_decoder import decode
from xennet.trace.recorder import recording
from xennet.trace.records import Kind
from xennet.trace.stream import Event

Recording = tuple[Event, list[Event]]
Shown = Callable[..., Tab]

HOSTILE = "</script><!--<script>\u2028\\x00<img src=x onerror=alert(1)>&\x00\ud800\u202e{{7*7}}"
STEP = "state.step"


def _event(n: int, kind: str, dom: int | None, **members: Any) -> Event:
    told = {"n": n, "t": n, "d": 1, "dom": dom, "kind": kind, "cause": None, "text": kind}
    return {**told, **members}


def _recording(*events: tuple[str, int | None, dict[str, Any]]) -> Recording:
    """A recording of (kind, domain, members)."""
    made = [_event(n, kind, dom, **members) for n, (kind, dom, members) in enumerate(events, 1)]
    return {"format": "xennet-trace/1", "run": {"command": ["run"]}}, made


# -- values, and who wrote and read them -----------------------------------------------------------


def _replay(
    events: list[Event], queries: list[tuple[int, int, int]]
) -> list[tuple[int, int, list[int]]]:
    """Of each query (memory, byte, n): who wrote the byte last (0: nobody), what it is, and who
    reads that value."""
    bytes_of: dict[int, list[int]] = {}
    for memory in {query[0] for query in queries}:
        bytes_of[memory] = sorted({query[1] for query in queries if query[0] == memory})
    values: dict[tuple[int, int], list[tuple[int, int, int, list[int]]]] = {}
    for event in events:
        ats, kind = bytes_of.get(event.get("memory", 0), []), event["kind"]
        if kind == "memory":
            held = bytes.fromhex(event.get("initial", ""))
            for at in ats:  # what it was known to hold is no store
                known = values.setdefault((event["memory"], at), [(0, 0, 0, [])])
                value = held[at] if at < len(held) else 0
                known.append((event["n"], known[-1][1], value, known[-1][3]))
        elif kind in ("load", "store", "update"):
            end = event["at"] + event["size"]
            for at in ats[bisect_left(ats, event["at"]) : bisect_left(ats, end)]:
                known = values[event["memory"], at]
                if kind != "store":
                    known[-1][3].append(event["n"])
                if kind != "load":
                    value = bytes.fromhex(event["bytes"])[at - event["at"]]
                    known.append((event["n"], event["n"], value, []))
    found = []
    for memory, at, n in queries:
        known = values[memory, at]
        found.append(known[bisect_right(known, n, key=lambda one: one[0]) - 1][1:])
    return found


def _asking(queries: list[tuple[int, int, int]]) -> str:
    """The same of the page, as an expression."""
    answer = "[writtenBy(m, at, n), byteAt(m, at, n), readBy(m, at, n)]"
    return f"{json.dumps(queries)}.map(([m, at, n]) => {answer})"


def test_bytes_writers_and_readers_are_those_of_a_replay(
    run_recording: Recording, shown: Shown
) -> None:
    events, chance = run_recording[1], random.Random(16)
    accesses = [event for event in events if "at" in event]
    queries = []
    for _ in range(1000):
        event = chance.choice(accesses)
        at = event["at"] + chance.randrange(event["size"])
        first = next(e["n"] for e in events if e.get("memory") == event["memory"])
        queries.append((event["memory"], at, chance.randint(first, len(events))))
    expected = _replay(events, queries)
    tab = shown(run_recording)
    assert [tuple(one) for one in tab.ask(_asking(queries))] == expected
    history = History(events)
    assert [history.written_by(*query) or 0 for query in queries] == [one[0] for one in expected]
    assert [history.read_by(*query) for query in queries[:300]] == [
        one[2] for one in expected[:300]
    ]
    small = {e["memory"] for e in events if e["kind"] == "memory" and e["bytes"] <= 4096}
    for (memory, at, n), one in list(zip(queries, expected, strict=True))[:200]:
        if memory in small and at < 4096:
            assert history.bytes_at(memory, n)[at] == one[1]


def test_long_and_short_accesses_and_memory_that_is_told_again(shown: Shown) -> None:
    chance = random.Random(5)
    told: list[Any] = [("memory", 1, {**_page(1, b"\x01\x02"), "bytes": 12288})]
    for _ in range(400):
        size = chance.choice((1, 4, 16, 255, 256, 257, 1500, 6000))
        access = {"memory": 1, "at": chance.randrange(12288 - size), "size": size}
        kind = chance.choice(("load", "store", "update"))
        told.append((kind, 1, {**access, "bytes": chance.randbytes(size).hex(), "old": ""}))
    told.insert(200, ("memory", 1, {**_page(1, chance.randbytes(9000)), "bytes": 12288}))
    recorded = _recording(*told)
    queries = [(1, chance.randrange(12288), chance.randint(1, len(told))) for _ in range(300)]
    tab = shown(recorded)
    assert [tuple(one) for one in tab.ask(_asking(queries))] == _replay(recorded[1], queries)


def test_private_indices_are_what_they_were_moved_to(
    run_recording: Recording, shown: Shown
) -> None:
    events, chance = run_recording[1], random.Random(3)
    moves = [event for event in events if event["kind"] == "private"]
    asked, expected = [], []
    for move in moves:
        mine = [e for e in moves if (e["memory"], e["index"]) == (move["memory"], move["index"])]
        for n in (chance.randint(1, len(events)), move["n"]):
            asked.append((move["memory"], move["index"], n))
            before = [(e["new"], e["n"]) for e in mine if e["n"] <= n]
            expected.append(list(before[-1] if before else (mine[0]["old"], 0)))
    tab = shown(run_recording)
    asks = f"{json.dumps(asked)}.map(([m, i, n]) => privateIndex(memories.get(m), i, n))"
    assert tab.ask(asks + ".map(one => [one.value, one.step])") == expected
    tab.ask(f"go({moves[-1]['n']})")
    row = "[...document.querySelectorAll('#ring tr.changed')].map(r => r.cells[1].textContent)"
    assert tab.ask(row) == [str(moves[-1]["new"])]


def test_structures_are_read_as_in_python(shown: Shown) -> None:
    chance, cases = random.Random(8), []
    for kind, structure in records.STRUCTURES.items():
        if kind is not Kind.XENSTORE:
            size = structure.codec(structure.otherwise).size
            cases += [(kind, structure.filter, chance.randbytes(size)) for _ in range(12)]
    pages = [("memory", 1, _page(n, raw)) for n, (_, _, raw) in enumerate(cases, 1)]
    tab = shown(_recording(*pages))
    for n, (kind, prefix, raw) in enumerate(cases, 1):
        told = tab.ask(
            f"fieldsAt('{kind.name}', {n}, 0, 1e9).map(f => [f.name, fieldText(f, {n}, 0, 1e9)])"
        )
        decoded = decode(records.encode(kind, raw))
        for name, text in told:
            value, *said = str(text).split(" (", 1)
            path = f"xennet.{prefix}.{name}"
            assert [value] == list(map(str, decoded[path]))
            for full, (bit, *_) in decoded.items():
                if full.startswith(path + ".") and full.count(".") == path.count(".") + 1:
                    names = said[0].rstrip(")").split(", ") if said else []
                    assert bool(bit) == (full.rpartition(".")[2] in names)


def _page(n: int, raw: bytes) -> dict[str, Any]:
    about = {"memory": n, "what": "page", "owner": 1, "frames": [n], "bytes": 4096}
    return {**about, "initial": raw.hex()}


def test_slots_are_requests_responses_and_extra_info(
    run_recording: Recording, shown: Shown
) -> None:
    events = run_recording[1]
    history, expected = History(events), []
    for event in events:
        ring = (event.get("ring"), event.get("index"))
        if event["kind"] == "publish" and ring in (("tx", "req_prod"), ("rx", "rsp_prod")):
            page = history.bytes_at(event["memory"], event["n"])
            codec = TX_REQUEST if ring[0] == "tx" else RX_RESPONSE
            flags = codec.offsets["flags"]
            usual, extra = Kind(2 if ring[0] == "tx" else 5).name, False
            for index in range(event["old"], event["new"]):
                at = 64 + index % 256 * codec.size
                expected.append((event["memory"], index % 256, event["n"]))
                expected[-1] += ("EXTRA_INFO" if extra else usual,)
                if extra:
                    extra = bool(page[at + EXTRA_PAD.offsets["flags"]] & 1)
                else:
                    extra = bool(page[at + flags] & 8)
    assert {one[3] for one in expected} == {"TX_REQUEST", "RX_RESPONSE", "EXTRA_INFO"}
    tab = shown(run_recording)
    asked = f"{json.dumps(expected)}.map(([m, k, n]) => slotStructure(memories.get(m), k, n))"
    assert tab.ask(asked) == [one[3] for one in expected]
    # A recording need not say it: the slots before it do.
    tab.ask("events.forEach(e => delete e.structure)")
    assert tab.ask(asked) == [one[3] for one in expected]


def test_grant_entries_are_of_the_table_s_version(
    run_recording: Recording, lost_wake_up: Recording, shown: Shown
) -> None:
    for recorded, version, unit in ((run_recording, 2, 16), (lost_wake_up, 1, 8)):
        events = recorded[1]
        (table,) = {
            e["memory"] for e in events if e.get("what") == "grant table" and e["owner"] == 1
        }
        stores = [e for e in events if e["kind"] == "store" and e["memory"] == table]
        last = stores[-1]
        tab = shown(recorded, f"#step={last['n']}&panel=grants")
        divided = f"divisionOf(memories.get({table}), {last['n']}).unit"
        assert tab.ask(f"[grantVersion(1, {last['n']}), {divided}]") == [version, unit]
        told = tab.ask("document.querySelector('#grants .changed').textContent")
        assert f"entry {last['at'] // unit}" in told
        assert "domid 0" in told
        tab.ask("document.querySelector('#grants .why').focus()")
        tab.press("Enter")
        assert tab.ask("document.querySelectorAll('#grants .bytes button').length") == unit


# -- reasons ---------------------------------------------------------------------------------------


def test_from_a_lost_wake_up_to_the_early_look_in_two_keys(
    lost_wake_up: Recording, shown: Shown
) -> None:
    events = lost_wake_up[1]
    check = events[-1]
    store = events[check["cause"] - 1]
    looks = [e["n"] for e in events if e.get("field") == "req_prod" and e["kind"] == "load"]
    looks = [n for n in looks if n < store["n"] and events[n - 1]["dom"] == store["dom"]]
    avoided = [e["n"] for e in events if e["kind"] == "notify" and not e["sent"]][-1]
    tab = shown(lost_wake_up)
    assert tab.ask(STEP) == store["n"]  # it opens where the rule was broken
    said = tab.ask("document.getElementById('facts').textContent")
    assert said.startswith(f"Wrong here: {check['text']}")
    assert "Rule ring.final-check: A consumer looks once more" in said
    # The pass in which it is has a bar, also where another delivery lies within it.
    assert tab.ask("document.querySelectorAll('rect.delivery').length") > 2
    assert (
        tab.ask(f"deliveries.filter(d => d.begin < {store['n']} && d.end > {store['n']}).length")
        == 1
    )
    # The machine, in which the check is, has a lane for the arrow to it.
    assert "machine" in tab.ask("document.getElementById('lanes').textContent")
    tab.press("w")
    assert tab.ask(STEP) == looks[-1]
    tab.ask(f"go({avoided})")
    tab.press("w", "w")
    assert tab.ask(STEP) == looks[-1]
    tab.press("p")
    assert tab.ask(STEP) == store["n"]
    assert tab.ask("lostWakeUps.length") == 1


#: What happens at a ring, and whether a wake-up is lost.
ORDERS = {
    "look publish ask end": True,
    "look publish ask end look": True,
    "look publish ask look end": False,
    "publish look ask end": False,
    "look ask publish end": False,
    "look publish ask": False,
}


def test_a_wake_up_is_lost_if_nobody_looks_behind_the_store(shown: Shown) -> None:
    told: list[Any] = []
    for ring, order in enumerate(ORDERS, 1):
        index = {"memory": ring, "at": 0, "size": 4, "bytes": "01000000", "field": "req_prod"}
        move = {"memory": ring, "ring": "tx", "index": "req_prod", "old": 0, "new": 1, "event": 0}
        ask = {**index, "at": 4, "old": "00000000", "field": "req_event"}
        told.append(("memory", 1, {**_page(ring, b""), "what": "tx ring"}))
        delivery = 2 * ring
        for one in order.split():
            told += {
                "look": [("load", 0, {**index, "d": delivery})],
                "publish": [("store", 1, {**index, "old": "00000000"}), ("publish", 1, move)],
                "ask": [("store", 0, {**ask, "d": delivery})],
                "end": [("end", 0, {"delivery": "work", "d": delivery})],
            }[one]
            delivery += one == "end"
    tab = shown(_recording(*told))
    lost = [ring for ring, order in enumerate(ORDERS, 1) if ORDERS[order]]
    assert tab.ask("lostWakeUps.map(one => one.memory.id)") == lost


def test_the_machine_is_no_backend_when_it_looks_at_a_ring(shown: Shown) -> None:
    index = {"memory": 1, "at": 0, "size": 4, "bytes": "01000000", "field": "req_prod"}
    page = {**_page(1, b""), "what": "tx ring"}
    tab = shown(_recording(("memory", 1, page), ("load", 0, index), ("load", None, index)))
    names = tab.ask("[...document.querySelectorAll('#lanes text')].map(one => one.textContent)")
    assert names == ["domain 0", "backend", "domain 1", "frontend", "machine", ""]


def test_a_good_run_has_no_lost_wake_up_and_opens_at_its_first_step(
    run_recording: Recording, shown: Shown
) -> None:
    tab = shown(run_recording)
    assert tab.ask("[lostWakeUps.length, problems.length, state.step]") == [0, 0, 1]
    avoided = next(e for e in run_recording[1] if e["kind"] == "notify" and not e["sent"])
    tab.press("/", *"avoided", "Enter")
    assert tab.ask(STEP) == avoided["n"]
    said = tab.ask("document.getElementById('facts').textContent")
    assert "nobody had asked for an event" in said
    passed = f"{avoided['event']} was passed before, at step "
    assert passed in said
    publish = run_recording[1][int(said.split(passed)[1].split(",")[0]) - 1]
    assert publish["old"] < avoided["event"] <= publish["new"]
    assert "backend" in tab.ask("document.getElementById('lanes').textContent")
    tab.press("w")
    assert "ring.front.initialised" in tab.ask("document.getElementById('facts').textContent")
    assert tab.ask(STEP) == avoided["event_set_by"]


def test_arrows_lead_from_a_step_to_what_it_caused(run_recording: Recording, shown: Shown) -> None:
    events = run_recording[1]
    send = next(e for e in events if e["kind"] == "send" and e["dom"] == 1)
    post = next(e for e in events if e["kind"] == "post" and e["cause"] == send["n"])
    tab = shown(run_recording)
    for step in (send["n"], post["n"]):
        tab.ask(f"go({step})")
        paths = "[...document.querySelectorAll('path.cause')]"
        told = tab.ask(paths + ".map(p => [+p.dataset.from, +p.dataset.to])")
        assert [send["n"], post["n"]] in told


# -- the store -------------------------------------------------------------------------------------


def _request(op: str, path: str, value: str = "", tx: int = 0, error: str = "") -> Any:
    told = {"who": "dom1", "op": op, "path": path, "value": value, "tx": tx, "error": error}
    return ("xenstore", 1, told)


class _StopError(Exception):
    """Ends a transaction without its changes."""


def test_the_store_is_what_it_was_with_conflicts_and_aborts(shown: Shown) -> None:
    events: list[Event] = []
    moments: list[tuple[int, dict[str, str]]] = []
    with recording() as recorder:
        host = Host()
        recorder.sink(events.append)
        recorder.attach(host.machine)

        def look() -> None:
            tree = host.service.store.tree
            held = {node.path: node.value.decode("ascii") for node in tree.walk(tree.root)}
            moments.append((events[-1]["n"], {path: held[path] for path in held if held[path]}))

        look()
        guest = host.add_guest()
        store = guest.kernel.store
        store.write("data/a", "1")
        tries: list[int] = []

        def conflict(tx: StoreTransaction) -> None:
            tries.append(1)
            tx.write("data/a", "within")
            tx.mkdir("data/b")
            look()
            if len(tries) == 1:
                store.write("data/a", "2")
                look()

        def abort(tx: StoreTransaction) -> None:
            tx.write("data/a", "never")
            tx.rm("data/b")
            look()
            raise _StopError

        store.transact(conflict)
        look()
        with pytest.raises(_StopError):
            store.transact(abort)
        look()
        store.rm("data/a")
        look()
        host.destroy_guest(guest)
        look()
        recorder.detach()
    assert len(tries) == 2
    tab = shown(({"format": "xennet-trace/1"}, events))
    before = moments[0][1]
    for n, held in moments[1:]:
        told = dict(tab.ask(f"[...storeAt({n}).nodes].map(([path, one]) => [path, one.value])"))
        assert {p: v for p, v in told.items() if v and before.get(p) != v} == {
            p: v for p, v in held.items() if before.get(p) != v
        }


@pytest.mark.parametrize(
    ("end", "error", "there"), [("T", "", True), ("F", "", False), ("T", "EAGAIN", False)]
)
def test_a_transaction_shows_when_it_has_ended_well(
    shown: Shown, end: str, error: str, there: bool
) -> None:
    tab = shown(
        _recording(
            _request("WRITE", "name", "before"),
            _request("TRANSACTION_START", "", "7", tx=7),
            _request("WRITE", "name", "within", tx=7),
            _request("RM", "/local/domain/1/absent", tx=7),
            _request("TRANSACTION_END", "", end, tx=7, error=error),
            _request("WRITE", "refused", "x", error="EACCES"),
            _request("RM", "name"),
        )
    )
    node = "storeAt({}).nodes.get('/local/domain/1/name')"
    assert tab.ask(node.format(4) + ".value") == "before"
    tab.ask("go(4)")
    assert "have not ended" in tab.ask("document.getElementById('store').textContent")
    tab.ask("go(6)")
    store = tab.ask("document.getElementById('store').textContent")
    assert ("within" in store, "before" in store) == (there, not there)
    assert "refused" not in store
    assert "have not ended" not in store
    tab.ask("go(7)")
    gone = "[...document.querySelectorAll('#store .gone')].map(r => r.textContent)"
    assert tab.ask(gone) == ["nameremovedstep 7"]
    assert tab.ask("storeAt(7).nodes.size") == 0


# -- what hostile text does ------------------------------------------------------------------------


def test_hostile_text_is_shown_and_does_nothing(shown: Shown) -> None:
    ring = {
        "memory": 1,
        "what": "tx ring",
        "owner": 1,
        "frames": [7],
        "bytes": 4096,
        "vif": HOSTILE,
    }
    hexed = bytes(range(256)).hex()
    access = {"memory": 1, "at": 64, "size": 256, "bytes": hexed, "old": hexed, "field": HOSTILE}
    recorded = _recording(
        ("memory", 1, {**ring, "text": HOSTILE}),
        ("memory", 1, {**ring, "memory": 2, "what": HOSTILE}),
        ("store", 1, access),
        ("load", 0, {**access, "memory": 2, "meaning": {HOSTILE: HOSTILE}}),
        ("frame", 1, {"end": HOSTILE, "bytes": hexed, "direction": HOSTILE, "size": 256}),
        _request("WRITE", "/a" + HOSTILE, HOSTILE),
        ("begin", 0, {"delivery": HOSTILE, "name": HOSTILE, "ready": [HOSTILE], "choice": 0}),
        ("packet", 1, {"ring": HOSTILE, "what": HOSTILE, "index": 0, "values": {}, "why": HOSTILE}),
        (HOSTILE, None, {"rule": HOSTILE, "cause": 3}),
        ("check", None, {"verdict": HOSTILE, "rule": "__proto__", "cause": 3, "text": HOSTILE}),
        ("store", 1, {**access, "memory": 99}),
    )
    recorded[0]["run"]["command"].append(HOSTILE)
    tab = shown(recorded)
    for step in range(1, len(recorded[1]) + 1):
        tab.ask(f"go({step})")
        assert tab.ask(STEP) == step
        assert tab.ask("document.images.length + document.scripts.length") == 3
        assert "onerror=alert(1)" in tab.ask("document.body.textContent")
    tab.ask("go(3)")
    dump = tab.ask("document.querySelector('#facts pre').textContent")
    assert ".................................................." not in dump.splitlines()[3]
    assert " !\"#$%&'()*+,-./" in dump


def test_names_that_every_object_of_javascript_has_are_no_names_here(shown: Shown) -> None:
    names = ["constructor", "__proto__", "toString"]
    recorded = _recording(
        *((name, 1, {"field": name, "index": name, "ring": name}) for name in names),
        *(("check", 1, {"verdict": "FAIL", "rule": name, "cause": 1}) for name in names),
        *(("memory", 1, {**_page(k, b""), "what": name}) for k, name in enumerate(names, 1)),
        *(_request("WRITE", f"/{name}/state", name) for name in names),
    )
    tab = shown(recorded)
    for step in range(1, len(recorded[1]) + 1):
        tab.ask(f"go({step})")
        assert tab.ask(STEP) == step
        text = tab.ask("document.body.innerText")
        assert "native code" not in text
        assert "undefined" not in text
        assert "[object" not in text


def test_a_step_that_a_panel_cannot_show_is_told_there_and_the_others_go_on(
    browser: Browser, tmp_path: Path
) -> None:
    recorded = _recording(
        ("state", 1, {"path": "/a", "old": 1, "new": 2}),
        ("hypercall", 1, {"op": "GNTTABOP_set_version", "args": None, "result": 0}),
        ("memory", 1, {**_page(1, b""), "what": "grant table"}),
        ("xenstore", 1, {**_request("WRITE", "/b", "c")[2], "path": ["/a"]}),
        ("state", 1, {"path": "/a", "old": 2, "new": 3}),
    )
    write_html(*recorded, tmp_path / "x.html")
    tab = Tab(browser, (tmp_path / "x.html").as_uri())
    tab.ask("go(5)")
    assert tab.ask(STEP) == 5
    refusing = "[...document.querySelectorAll('section')].filter(one => one.textContent.includes("
    refusing += "'cannot show this step')).map(one => one.id)"
    assert tab.ask(refusing) == ["grants", "store"]
    assert len(tab.complaints()) == 2
    tab.ask("go(1)")
    assert tab.ask(refusing) == []
    tab.close()


# -- keys, address, themes -------------------------------------------------------------------------


def test_keys_go_everywhere(run_recording: Recording, shown: Shown) -> None:
    last = len(run_recording[1])
    tab = shown(run_recording)
    for key, step in (
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowLeft", 1),
        ("PageDown", 51),
        ("PageUp", 1),
        ("End", last),
        ("ArrowRight", last),
        ("Home", 1),
    ):
        tab.press(key)
        assert tab.ask(STEP) == step
    tab.press("/", *"#2000", "Enter")
    assert tab.ask(STEP) == 2000
    tab.press("/", *"nowhere to be found", "Enter")
    assert tab.ask(STEP) == 2000
    assert tab.ask("document.getElementById('found').textContent") == "nothing has that"
    tab.press("/", "Escape", "End", "Home")
    tab.press("/", *"avoided", "Enter")
    first = tab.ask(STEP)
    tab.press("n")
    assert tab.ask(STEP) > first
    tab.press("N")
    assert tab.ask(STEP) == first
    rings = []
    for _ in range(5):
        tab.press("m")
        rings.append(tab.ask("state.memory"))
    assert len(set(rings)) == 4  # two queues of two rings each
    tab.press("]", "]", "[")
    assert tab.ask("state.slot") == 1
    tab.press("[", "[")
    assert tab.ask("state.slot") == 255
    tab.press("?")
    assert tab.ask("document.getElementById('help').open")
    tab.press("Escape")
    assert not tab.ask("document.getElementById('help').open")
    for number, panel in enumerate(("now", "lanes", "ring", "slot", "grants", "store"), 1):
        tab.press(str(number))
        assert tab.ask("document.activeElement.id") == panel


def test_the_time_line_of_a_narrow_window_has_fewer_steps_and_no_smaller_names(
    lost_wake_up: Recording, shown: Shown
) -> None:
    tab = shown(lost_wake_up)
    height = "document.querySelector('#lanes svg text').getBoundingClientRect().height"
    steps = "document.querySelectorAll('#lanes svg circle').length"
    low, few = tab.ask(height), tab.ask(steps)
    try:
        tab.resize(1280)
        tab.until(f"{steps} > {2 * few}")
        assert low > 0.8 * tab.ask(height)
    finally:
        tab.resize()
    tab.until(f"{steps} === {few}")
    assert tab.ask("document.querySelectorAll('#lanes svg .here').length") == 1


def test_tab_alone_reaches_whatever_can_be_pressed_and_shows_where_it_is(
    lost_wake_up: Recording, shown: Shown
) -> None:
    tab = shown(lost_wake_up)
    wanted = tab.ask(
        "[...document.querySelectorAll('button, input, select, [tabindex]')].filter("
        "x => x.tabIndex >= 0 && x.checkVisibility()).length"
    )
    tab.ask("globalThis.met = new Set(); globalThis.unseen = []; 0")
    note = (
        "(() => { const x = document.activeElement; if (x === document.body) return;"
        "met.add(x); if (getComputedStyle(x).outlineStyle === 'none') unseen.push(x.outerHTML);"
        "})()"
    )
    for _ in range(wanted + 2):
        tab.press("Tab")
        tab.ask(note)
    assert tab.ask("met.size") == wanted
    assert tab.ask("unseen") == []
    # In slots and bytes up and down go on, and Enter follows a link; the focus is not lost.
    tab.ask("document.querySelector('.slots .chosen').focus()")
    tab.press("ArrowDown", "ArrowDown", "ArrowUp")
    assert tab.ask("[state.slot, document.activeElement.dataset.key]") == [1, "s1"]
    tab.ask("document.querySelector('#slot .bytes .chosen').focus()")
    tab.press("ArrowDown")
    assert tab.ask("[state.byte, document.activeElement.dataset.key]") == [1, "slotb1"]
    tab.press("ArrowRight")
    assert tab.ask("document.activeElement.dataset.key") == "slotb1"
    to = tab.ask("+[...document.querySelectorAll('#ring .why')][0].textContent")
    tab.ask("document.querySelector('#ring .why').focus()")
    tab.press("Enter")
    assert tab.ask(STEP) == to


def test_the_address_restores_what_was_seen_and_back_goes_back(
    run_recording: Recording, shown: Shown
) -> None:
    tab = shown(run_recording)
    ring = tab.ask("rings()[3].id")
    grants = tab.ask("[...memories.values()].find(m => m.what === 'grant table').id")
    tab.ask(f"go(3000); choose({{memory: {ring}, slot: 5, byte: 3, place: [{grants}, 9]}})")
    tab.press("4")
    tab.until("location.hash.includes('panel=slot')")
    seen = "JSON.stringify(state)"
    before = tab.ask(seen)
    tab.reload()
    assert tab.ask(seen) == before
    assert tab.ask("document.activeElement.id") == "slot"
    tab.ask("go(100)")
    tab.press("Backspace")
    tab.until("state.step === 3000")
    assert tab.ask(seen) == before
    tab.ask("go(200); go(201, false); go(202, false); go(300)")  # the address lags behind steps
    tab.press("Backspace")
    tab.until("state.step === 202")
    n = run_recording[1][-1]["n"]
    tab.ask(f"location.hash = '#n={n}'")
    tab.until(f"state.step === {n}")
    tab.ask("location.hash = '#step=junk&memory=-1&slot=1e9&byte=x&place=1.2.3&panel=<b>'")
    tab.until("state.step === 1")
    assert tab.ask("state.slot") == 255


def test_themes_print_and_size(lost_wake_up: Recording, shown: Shown) -> None:
    tab = shown(lost_wake_up)
    colour = "getComputedStyle(document.body).backgroundColor"
    light, seen = tab.ask(colour), []
    for _ in range(3):
        tab.press("t")
        seen.append(tab.ask(colour))
    dark = seen[0]
    assert dark != light
    assert seen == [dark, light, light]
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.call("Emulation.setEmulatedMedia", media="screen", features=scheme)
    assert tab.ask(colour) == dark
    tab.press("t", "t")
    assert tab.ask(colour) == light
    tab.call("Emulation.setEmulatedMedia", media="print", features=scheme)
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.ask("document.getElementById('back').checkVisibility()")
    tab.call("Emulation.setEmulatedMedia", media="", features=[])
    size = "parseFloat(getComputedStyle(document.body).fontSize)"
    usual = tab.ask(size)
    tab.press("+", "+")
    assert tab.ask(size) == pytest.approx(1.5 * usual)
    tab.press("-", "0")
    assert tab.ask(size) == usual
    assert not tab.ask("document.documentElement.scrollWidth > innerWidth")
