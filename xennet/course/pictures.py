"""The pictures of the lessons, drawn from recordings of the lessons' own runs:
``python -m xennet.course.pictures DIR`` plays the program of each DIR/lessonN.md, and writes
DIR/lessonN.svg."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from itertools import groupby
from pathlib import Path

from attrs import frozen

from xennet.abi.grant_table import (
    GNTMAP_readonly,
    GNTST_okay,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_writing,
)
from xennet.abi.netif import (
    EXTRA_GSO,
    TX_REQUEST,
    TX_RESPONSE,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.xen import PAGE_SIZE
from xennet.course.polled_backend import STATUS
from xennet.course.recordings import recorded
from xennet.course.svg import Drawing
from xennet.hypervisor import Machine
from xennet.hypervisor.machine import told_of_machines
from xennet.trace.stream import Event
from xennet.xenbus.state import state_name

_WIDTH = 960
_WRITES = frozenset(("store", "update"))


@frozen
class Run:
    """A lesson's run: the events of each machine, and what it printed."""

    machines: Sequence[Sequence[Event]]
    printed: str


def play(program: str) -> Run:
    """Run the ``program`` of a lesson, recorded; rings that are of no machine are recorded as of
    the first one."""
    machines: list[list[Event]] = []
    with recorded() as recordings, redirect_stdout(io.StringIO()) as printed:

        def attach(machine: Machine) -> None:
            recordings.attach(machine)
            machines.append(recordings.events)

        with told_of_machines(attach):
            first = Machine(16)
            exec(program, {"__name__": "lesson"})
            first.close()
    return Run(machines, printed.getvalue())


def program_of(lesson: Path) -> str:
    """The first program of a lesson's page. Raises ValueError if there is none."""
    found = re.search(r"^```python\n(.*?)^```", lesson.read_text("utf-8"), re.M | re.S)
    if found is None:
        raise ValueError(f"{lesson}: no program")
    return found[1]


def _of_ring(events: Sequence[Event], kinds: frozenset[str]) -> Iterator[Event]:
    """The accesses to transmit rings, of fields that have a name."""
    rings = {event["memory"] for event in events if event.get("what") == "tx ring"}
    for event in events:
        if event["kind"] in kinds and event["memory"] in rings and event.get("field"):
            yield event


# -- lesson 1: a page and a ring -------------------------------------------------------------------

_INDICES = ("req_prod", "req_event", "rsp_prod", "rsp_event")
#: Whose each index is.
_OWNER = {"req_prod": "front", "req_event": "back", "rsp_prod": "back", "rsp_event": "front"}


def ring(run: Run) -> str:
    """A request and its response: the header and slot 0 behind each store."""
    drawing = Drawing(
        _WIDTH,
        "A request and its response: what each store changes in the page",
        "Four rows, a store each: the frontend writes slot 0, then req_prod; the backend writes "
        "its response into the same slot, then rsp_prod. Only the stores of the two indices tell "
        "the other end that something is there.",
    )
    for place, name in enumerate(_INDICES):
        drawing.text(20 + 112 * place, 62, name, _OWNER[name])
        drawing.text(20 + 112 * place, 80, f"bytes {4 * place}-{4 * place + 3}", "faint")
    drawing.text(480, 62, "slot 0", "ink")
    drawing.text(480, 80, "bytes 64-75", "faint")
    drawing.text(640, 62, "blue: the frontend's", "front")
    drawing.text(640, 80, "brown: the backend's", "back")

    page, y = bytearray(PAGE_SIZE), 92
    stores = list(_of_ring(run.machines[0], _WRITES))
    used = next(n for n, event in enumerate(stores) if event["field"] == "slot 0")
    writer = "front"
    for number, event in enumerate(stores):
        at, size = event["at"], event["size"]
        page[at : at + size] = bytes.fromhex(event["bytes"])
        if number < used:
            continue  # the ring is made
        field, request = event["field"], size == TX_REQUEST.size
        kind = _OWNER.get(field, "front" if request else "back")
        if field not in _OWNER:
            writer = kind
        _stored(drawing, y, page, event, writer)
        end = "frontend" if kind == "front" else "backend"
        other = "backend" if kind == "front" else "frontend"
        if field in _OWNER:
            what = "request" if field == "req_prod" else "response"
            text = f"the {end} stores {field}: now the {other} sees that the {what} is there"
        else:
            what = "a request" if request else "its response, in the place of the request"
            text = f"the {end} writes {what}: the {other} is not told yet"
        drawing.text(20, y + 18, f"{number - used + 1}. {text}", kind)
        y += 96
    return drawing.document()


def _stored(drawing: Drawing, y: int, page: bytearray, event: Event, writer: str) -> None:
    """The header and slot 0, what was stored in full colour."""
    for place, name in enumerate(_INDICES):
        changed, value = event["field"] == name, page[4 * place]
        drawing.box(20 + 112 * place, y + 28, 104, 30, _OWNER[name], full=changed)
        kind = "paper" if changed else "ink"
        drawing.text(72 + 112 * place, y + 48, str(value), kind, middle=True, bold=changed)
    begin, end = event["at"], event["at"] + event["size"]
    for place in range(TX_REQUEST.size):
        at = SRING_HEADER_SIZE + place
        changed = begin <= at < end
        drawing.box(480 + 38 * place, y + 28, 34, 30, writer, full=changed)
        kind = "paper" if changed else "ink"
        drawing.text(497 + 38 * place, y + 48, f"{page[at]:02x}", kind, middle=True)
    if event["field"] == "slot 0":
        layout = TX_REQUEST if event["size"] == TX_REQUEST.size else TX_RESPONSE
        values = layout.unpack_from(bytes.fromhex(event["bytes"]))
        for name, value in zip(layout.fields, values, strict=True):
            drawing.text(480 + 38 * layout.offsets[name], y + 76, f"{name} {value}", writer)


# -- lesson 2: req_event ---------------------------------------------------------------------------


def notifications(run: Run) -> str:
    """Four publications on a line of numbers, and what the backend asks for."""
    drawing = Drawing(
        _WIDTH,
        "Is req_event among the numbers that req_prod just passed?",
        "Rows from top to bottom. The frontend publishes requests 1, 2, 3 and 4; req_event is 1, "
        "so an event is sent with the first one only. Then the backend stores req_event = 4, "
        "looks at req_prod once more, finds 4 and does not sleep.",
    )
    drawing.text(20, 62, "frontend", "front", bold=True)
    drawing.text(660, 62, "backend", "back", bold=True)
    drawing.line(650, 72, 650, 402, "back")
    accesses = list(_of_ring(run.machines[0], frozenset(("load", "store"))))
    events = run.machines[0]
    begun = next(event["n"] for event in events if event["kind"] == "publish")
    asked = max(e["n"] for e in accesses if e["kind"] == "store" and e["field"] == "req_event")
    y = 84
    for event in events:
        if event["kind"] == "publish":
            old, new, wanted = event["old"], event["new"], event["event"]
            drawing.text(20, y + 20, f"req_prod goes from {old} to {new}", "front")
            _passed(drawing, y, wanted, (old, new))
            if event["notify"]:
                drawing.text(20, y + 38, f"it passes {wanted}: an event", "ink", bold=True)
                drawing.arrow(560, y + 20, 646, "ink")
                drawing.text(660, y + 24, "is woken", "back")
            else:
                drawing.text(20, y + 38, f"it does not pass {wanted}: no event", "faint")
        elif event["n"] == asked and asked > begun:
            wanted = event["meaning"]["req_event"]
            _passed(drawing, y, wanted, None)
            drawing.text(660, y + 20, f"asks: req_event = {wanted}", "back")
        elif event["n"] > asked and event["kind"] == "load":
            drawing.text(660, y + 20, f"looks once more: {event['meaning']['req_prod']}", "back")
            drawing.text(660, y + 38, "a request came: it goes on", "back")
        else:
            continue
        y += 54
    return drawing.document()


def _passed(drawing: Drawing, y: int, wanted: int, passed: tuple[int, int] | None) -> None:
    """A line of numbers: those just passed, and the one that is asked for."""
    first, step = 340, 42
    drawing.line(first, y + 20, first + 5 * step, y + 20, "faint")
    if passed is not None:
        old, new = passed
        drawing.box(first + step * old + 13, y + 14, step * (new - old), 12, "front", full=True)
    for number in range(6):
        drawing.text(first + step * number, y + 42, str(number), "faint", middle=True)
    drawing.box(first + step * wanted - 12, y + 28, 24, 18, "back")
    drawing.text(first + step * wanted, y + 42, str(wanted), "back", middle=True, bold=True)


# -- lesson 3: grants ------------------------------------------------------------------------------

_FLAGS = (
    ("permit", GTF_permit_access, "front"),
    ("readonly", GTF_readonly, "front"),
    ("reading", GTF_reading, "xen"),
    ("writing", GTF_writing, "xen"),
)


def grants(run: Run) -> str:
    """The life of a grant entry: its flags behind each step, and who may touch the page."""
    drawing = Drawing(
        _WIDTH,
        "A grant entry, and who may touch the page",
        "A table. The guest stores frame and flags; domain 0 is refused for writing and maps the "
        "page read-only, which Xen marks as reading; the guest cannot end the access until domain "
        "0 has unmapped the page.",
    )
    drawing.text(20, 62, "who does what", "ink", bold=True)
    for place, (name, bit, kind) in enumerate(_FLAGS):
        drawing.text(404 + 82 * place, 62, name, kind)
        drawing.text(404 + 82 * place, 80, str(bit), "faint")
    drawing.text(746, 62, "may touch the page", "ink", bold=True)
    flags, y = 0, 90
    for event, text, kind in _entry_steps(run.machines[1]):
        if event["kind"] in _WRITES:
            flags = event.get("meaning", {}).get("flags", flags)
        for part, line in enumerate(text):
            drawing.text(20, y + 18 + 18 * part, line, kind)
        for place, (_, bit, owner) in enumerate(_FLAGS):
            on = bool(flags & bit)
            drawing.box(404 + 82 * place, y + 6, 74, 26, owner if on else "faint", full=on)
            drawing.text(
                441 + 82 * place, y + 24, "1" if on else "0", "paper" if on else "faint",
                middle=True,
            )  # fmt: skip
        drawing.text(746, y + 18, "the guest", "front")
        if flags & (GTF_reading | GTF_writing):
            drawing.text(746, y + 36, "domain 0 reads it", "back")
        elif flags & GTF_permit_access:
            drawing.text(746, y + 36, "domain 0 may map it", "back")
        y += 54
    return drawing.document()


def _entry_steps(events: Sequence[Event]) -> Iterator[tuple[Event, tuple[str, ...], str]]:
    """What changes the entry, or tries to: event, lines of text, whose it is."""
    marked: Event | None = None
    for event in events:
        if event["kind"] == "hypercall" and event["op"] == "GNTTABOP_map_grant_ref":
            how = "read-only" if event["args"][2] & GNTMAP_readonly else "for writing"
            status = event["result"][0]
            ends = "Xen marks it" if status == GNTST_okay else f"refused, status {status}"
            yield marked or event, (f"domain 0 maps the page {how}:", ends), "back"
            marked = None
        elif event["kind"] == "hypercall" and event["op"] == "GNTTABOP_unmap_grant_ref":
            yield marked or event, ("domain 0 unmaps it:", "Xen clears the mark"), "back"
            marked = None
        elif not event.get("field", "").startswith("entry ") or event["kind"] not in _WRITES:
            continue
        elif event.get("by") == "hypervisor":
            marked = event
        elif event["kind"] == "store":
            (name, value), *_ = event["meaning"].items()
            end = ": valid from now on" if name == "flags" else ""
            yield event, (f"the guest stores {name} {value}{end}",), "front"
        else:
            done = event["bytes"] != event["old"]
            ends = "it is over, the page is its own" if done else "refused: it is in use"
            yield event, ("the guest ends the access:", ends), "front"


# -- lesson 4: the handshake -----------------------------------------------------------------------

_LANES = {"frontend": (20, "front"), "backend": (540, "back")}
#: How the path of an end's directory ends.
_FOLDERS = {"frontend": "device/vif/0", "backend": "backend/vif/1/0"}


def handshake(run: Run) -> str:
    """Both ends' states from top to bottom, with the keys that each state promises."""
    drawing = Drawing(
        _WIDTH,
        "The handshake: what each end has done before it shows a state",
        "Two lanes. The toolstack makes both directories, Initialising. The backend writes its "
        "features, then InitWait; the frontend its keys, then Connected; the backend maps the "
        "rings, then shows Connected. At Closing the frontend cannot end the grants of its rings, "
        "at Closed it can.",
    )
    for end, (x, kind) in _LANES.items():
        drawing.text(x, 62, f"the {end}'s directory", kind, bold=True)
    y = 72
    for end, lines, state in _promises(run.machines[1]):
        x, kind = _LANES[end]
        for line in lines:
            drawing.text(x, y + 16, line, kind)
            y += 18
        if state:
            drawing.box(x, y + 6, 190, 28, kind, full=True)
            drawing.text(x + 95, y + 25, state, "paper", middle=True, bold=True)
            begin, to = (x + 194, 530) if end == "frontend" else (x - 4, 220)
            drawing.arrow(begin, y + 20, to, kind)
            y += 40
        y += 8
    return drawing.document()


def _promises(events: Sequence[Event]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(end, what was done in its lane, state that it shows then or ""), in order."""
    for end, group in groupby(_handshake_steps(events), key=lambda step: step[0]):
        done: list[str] = []
        for _, what, state in group:
            if state:
                yield end, tuple(_shortened(done)), state
                done = []
            else:
                done.append(what)
        if done:
            yield end, tuple(_shortened(done)), ""


def _shortened(done: Sequence[str]) -> Iterator[str]:
    """Lines for what an end did: of its features the first, and their number."""
    features = [one for one in done if one.startswith(("feature-", "multi-queue-"))]
    yield from (one for one in done if one not in features)
    if features:
        yield f"{features[0]}, and {len(features) - 1} more"


def _handshake_steps(events: Sequence[Event]) -> Iterator[tuple[str, str, str]]:
    """(end, act, state that is written or ""): nodes written, grants mapped, unmapped, ended."""
    rings: dict[int, str] = {}
    mapped: dict[int, int] = {}
    for event in events:
        if event["kind"] == "xenstore" and event["op"] == "WRITE" and not event["error"]:
            folder, _, name = event["path"].rpartition("/")
            end = next((end for end, path in _FOLDERS.items() if folder.endswith(path)), None)
            if end is None or folder.startswith("/libxl"):
                continue
            if name == "state":
                if event["who"] == "toolstack":
                    yield end, "made by the toolstack", ""
                yield end, "", state_name(int(event["value"]))
            elif event["who"] != "toolstack":
                yield end, f"{name} = {event['value']}", ""
                if name.endswith("-ring-ref"):
                    rings[int(event["value"])] = name.removesuffix("-ref")
        elif event["kind"] == "hypercall" and event["op"] == "GNTTABOP_map_grant_ref":
            gref, (status, handle, _) = event["args"][1], event["result"]
            if status == GNTST_okay and gref in rings:
                mapped[handle] = gref
                yield "backend", f"maps the {rings[gref]}, reference {gref}", ""
        elif event["kind"] == "hypercall" and event["op"] == "GNTTABOP_unmap_grant_ref":
            gref = mapped[event["args"][0]]
            yield "backend", f"unmaps the {rings[gref]}, reference {gref}", ""
        elif event["kind"] == "update" and event.get("by") != "hypervisor":
            field, _, number = event.get("field", "").partition(" ")
            gref = int(number) if field == "entry" else -1
            if gref in rings:
                done = event["bytes"] != event["old"]
                ends = "is ended" if done else "cannot be ended: in use"
                yield "frontend", f"the grant of the {rings[gref]} {ends}", ""


# -- lesson 5: extra info --------------------------------------------------------------------------

_TX_FLAGS = (
    ("csum_blank", NETTXF_csum_blank),
    ("data_validated", NETTXF_data_validated),
    ("more_data", NETTXF_more_data),
    ("extra_info", NETTXF_extra_info),
)


def slots(run: Run) -> str:
    """The slots of a long TCP frame, and which part of it each page holds."""
    drawing = Drawing(
        _WIDTH,
        "A TCP frame of 9000 bytes: three data slots and one of extra info",
        "Rows, a slot each: the first has the size of the whole frame and the flags csum_blank, "
        "data_validated, more_data and extra_info; the second is extra info with the segment "
        "size; the others have their own sizes. Below it the frame, cut at the pages.",
    )
    stores = [e for e in _of_ring(run.machines[1], _WRITES) if e["field"].startswith("slot ")]
    requests, y, extra_next = [], 52, False
    for event in stores:
        raw = bytes.fromhex(event["bytes"])
        kind = "xen" if extra_next else "front"
        drawing.box(20, y, 920, 62, kind)
        drawing.text(32, y + 24, event["field"], kind, bold=True)
        drawing.text(118, y + 24, raw.hex(" "), "ink")
        if extra_next:
            _, _, size, *_ = EXTRA_GSO.unpack_from(raw)
            drawing.text(32, y + 48, f"extra info, GSO: segments of {size} bytes", kind)
            drawing.text(500, y + 24, "extra info only because the slot before says so", "faint")
            extra_next = False
        else:
            meaning = event["meaning"]
            requests.append(meaning)
            extra_next = bool(meaning["flags"] & NETTXF_extra_info)
            parts = [f"{name} {meaning[name]}" for name in ("gref", "offset", "id", "size")]
            drawing.text(32, y + 48, ", ".join(parts), kind)
            at = 420.0
            for name, bit in _TX_FLAGS:
                on = bool(meaning["flags"] & bit)
                wide = len(name) * 8.4 + 12
                drawing.box(at, y + 10, wide, 22, kind if on else "faint", full=on)
                drawing.text(at + 6, y + 26, name, "paper" if on else "faint")
                at += wide + 8
        y += 72
    _pages(drawing, y, requests)
    return drawing.document()


def _pages(drawing: Drawing, y: int, requests: Sequence[Event]) -> None:
    """The frame as a bar, cut at its pages."""
    whole = requests[0]["size"]
    sizes = [whole - sum(one["size"] for one in requests[1:])]
    sizes += [one["size"] for one in requests[1:]]
    drawing.text(20, y + 20, f"the frame, {whole} bytes: the first page has what is left", "ink")
    x, scale = 20.0, 920 / whole
    for meaning, size in zip(requests, sizes, strict=True):
        drawing.box(x, y + 32, size * scale - 4, 34, "front")
        drawing.text(x + 6, y + 54, str(size), "front")
        drawing.text(x, y + 84, f"gref {meaning['gref']}", "front")
        x += size * scale


# -- lesson 6: a hostile peer ----------------------------------------------------------------------


def hostile(run: Run) -> str:
    """Lies of a guest: what it stored, what the backend loaded, and where that was refused."""
    drawing = Drawing(
        _WIDTH,
        "Three lies of a guest: each word is loaded once, and where the lie is refused",
        "Three parts. A slot beyond its page is refused by a check of the private copy, and the "
        "ring is given up. A second slot that is longer than the packet costs the packet. A grant "
        "that has ended is refused by the hypervisor, when it copies.",
    )
    names = [line for line in run.printed.splitlines() if not line.startswith(" ")]
    y = 52
    for name, events in zip(names, run.machines[1:], strict=True):
        title, _, _ = name.partition(":")
        y = _lie(drawing, y, title, events) + 16
    return drawing.document()


def _lie(drawing: Drawing, y: int, title: str, events: Sequence[Event]) -> int:
    """One of them; returns where it ends."""
    slots = [
        event
        for event in _of_ring(events, frozenset(("load", "store")))
        if event["field"].startswith("slot ")
    ]
    begin = next(event["n"] for event in slots)
    stored = [event for event in slots if not event["d"] and event["kind"] == "store"]
    loads = [event for event in slots if event["d"] and event["kind"] == "load"]
    answers = [event for event in slots if event["d"] and event["kind"] == "store"]
    copies = [event for event in events if event["kind"] == "copy" and event["n"] > begin]
    why = [f"{e['rule']}: {e['what']}" for e in events if e["kind"] == "packet" and e.get("rule")]
    why += [f"by Xen: {event['status_name']}" for event in copies]
    why += [] if copies else ["seen in the private copy;", "no payload was copied"]
    height = 70 + 20 * max(2 * len(stored), len(loads), len(why) + max(1, len(answers)))
    drawing.box(20, y, 920, height, "faint")
    drawing.text(32, y + 24, title, "bad", bold=True)
    drawing.text(32, y + 50, "the guest stores", "front", bold=True)
    drawing.text(310, y + 50, "the backend loads", "back", bold=True)
    drawing.text(620, y + 50, "refused", "bad", bold=True)
    for place, event in enumerate(stored):
        meaning, row = event["meaning"], y + 72 + 40 * place
        named = [f"{name} {meaning[name]}" for name in ("gref", "flags", "offset", "size")]
        drawing.text(32, row, f"{event['field']}: {', '.join(named[:2])}", "front")
        drawing.text(48, row + 20, ", ".join(named[2:]), "front")
    for place, event in enumerate(loads):
        fields = [(name, value) for name, value in event["meaning"].items() if "_" not in name]
        values = ", ".join(f"{name} {value}" for name, value in fields)
        drawing.text(310, y + 72 + 20 * place, f"{event['field']}: {values}", "back")
    answered = [f"{e['field']}: {STATUS[e['meaning']['status']]}" for e in answers]
    lines = [*why, *(answered or ["no answer: the ring is given up"])]
    for place, line in enumerate(lines):
        drawing.text(620, y + 72 + 20 * place, line, "bad" if place < len(why) else "ink")
    return y + height


#: Number of a lesson -> what draws its run.
PICTURES: dict[int, Callable[[Run], str]] = {
    1: ring,
    2: notifications,
    3: grants,
    4: handshake,
    5: slots,
    6: hostile,
}


def drawn(folder: Path, number: int) -> str:
    """The picture of the run in ``folder``/lessonN.md."""
    return PICTURES[number](play(program_of(folder / f"lesson{number}.md")))


if __name__ == "__main__":
    _folder = Path(sys.argv[1])
    for _number in PICTURES:
        (_folder / f"lesson{_number}.svg").write_text(drawn(_folder, _number), encoding="utf-8")
