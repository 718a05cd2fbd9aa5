"""An event stream as a Chrome JSON trace, which the Perfetto UI opens.

A domain is a process with one thread, a delivery a slice of it. Sends, posts and notifications are
slices of 1 ns, so that arrows can begin at them; what else happened is an instant. The four shared
indices of each ring are counters.

Virtual time often stands still for many events. What is shown of event k is therefore at
``max(t, shown time of the event before + 1)`` ns: order and nesting are visible, no time goes back,
and each event keeps its own ``t`` among its arguments.

It is the JSON Array Format ("Trace Event Format", Google 2016): a reader takes it without the
closing bracket as well, so what a killed process has written can be opened.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from xennet.abi.ring import (
    SRING_WORD_req_event,
    SRING_WORD_req_prod,
    SRING_WORD_rsp_event,
    SRING_WORD_rsp_prod,
)

Event = Mapping[str, Any]

#: The process of what happens in no domain; a domain's is its domid + 1.
MACHINE_PID = 1_000_000
#: Posts and sends that no delivery has followed yet: more of them lose the arrows of the oldest.
MOST_WAITING_ARROWS = 4_096

_SHOWN_ELSEWHERE = {"n", "t", "d", "dom", "kind"}
#: Name of a shared index -> its 32-bit word of the ring's page.
_INDICES = {
    "req_prod": SRING_WORD_req_prod,
    "req_event": SRING_WORD_req_event,
    "rsp_prod": SRING_WORD_rsp_prod,
    "rsp_event": SRING_WORD_rsp_event,
}
_HEADER_BYTES = 4 * len(_INDICES)

_Place = tuple[int, int]  # process, shown ns


def write_perfetto(header: Event, events: Iterable[Event], out: TextIO) -> None:
    """Write ``events`` of a stream with ``header`` to ``out`` as a Chrome JSON trace.

    Nothing is kept of an event but what is under way: memory does not grow with their number. If
    ``events`` or ``out`` raises, what is open is closed, as far as ``out`` takes it, and the
    exception passed on.
    """
    out.write("[\n")
    writer = _Writer(out)
    writer.put("M", "trace_config", MACHINE_PID, 0, args=dict(header), first=True)
    try:
        for event in events:
            writer.take(event)
    finally:
        writer.close()
        out.write("\n]\n")


class _Writer:
    """What is under way while a stream is written."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._now = -1
        self._named: set[int] = set()
        self._open: list[tuple[Any, int]] = []  # (delivery, process), innermost last
        self._places: OrderedDict[Any, _Place] = OrderedDict()  # n of a send, or a delivery
        self._rings: dict[Any, tuple[str, int, bytearray]] = {}
        self._arrows = 0

    def put(
        self, ph: str, name: str, pid: int, at: int, first: bool = False, **members: Any
    ) -> None:
        """Write one record at ``at`` shown ns; times are microseconds there."""
        record = {"ph": ph, "name": name, "pid": pid, "tid": 1, **members}
        text = json.dumps(record, separators=(",", ":"))
        separator = "" if first else ",\n"
        self._out.write(f'{separator}{text[:-1]},"ts":{at // 1000}.{at % 1000:03d}}}')

    def take(self, event: Event) -> None:
        """Write what one event of the stream shows."""
        self._now = now = max(int(event.get("t") or 0), self._now + 1)
        domid = event.get("dom")
        pid = MACHINE_PID if domid is None else domid + 1
        if pid not in self._named:
            self._named.add(pid)
            name = "machine" if domid is None else f"domain {domid}"
            self.put("M", "process_name", pid, now, args={"name": name})
            self.put("M", "thread_name", pid, now, args={"name": "deliveries"})
        if show := _SHOWN.get(event["kind"]):
            show(self, event, pid)

    def close(self) -> None:
        """End the slices that are open, innermost first."""
        while self._open:
            self._now += 1
            delivery, pid = self._open.pop()
            self.put("E", str(delivery), pid, self._now)

    def _begin(self, event: Event, pid: int) -> None:
        delivery = event["delivery"]
        name = str(event.get("name") or delivery)
        self.put("B", name, pid, self._now, args=_args(event))
        self._open.append((delivery, pid))
        # Both ends are written here: a post whose delivery never comes makes no half arrow.
        source = self._places.pop(("delivery", delivery), None) or self._places.get(
            event.get("cause")
        )
        if source is not None:
            self._arrows += 1
            arrow: dict[str, Any] = {"cat": "cause", "id": self._arrows}
            self.put("s", "causes", source[0], source[1], **arrow)
            self.put("f", "causes", pid, self._now, bp="e", **arrow)

    def _end(self, event: Event, pid: int) -> None:
        delivery = event["delivery"]
        if all(delivery != begun for begun, _ in self._open):
            return  # it began before the stream
        while True:
            begun, its_pid = self._open.pop()
            self.put("E", str(begun), its_pid, self._now)
            if begun == delivery:
                return
            self._now += 1

    def _instant(self, event: Event, pid: int) -> None:
        self.put("i", _name(event), pid, self._now, s="t", args=_args(event))

    def _arrow_end(self, event: Event, pid: int) -> None:
        self.put("X", _name(event), pid, self._now, dur=0.001, args=_args(event))
        place = (pid, self._now)
        if event["kind"] == "post":
            # The send that made it ready says more than the post itself.
            place = self._places.get(event.get("cause"), place)
            self._places[("delivery", event["delivery"])] = place
        else:
            self._places[event["n"]] = place
        if len(self._places) > MOST_WAITING_ARROWS:
            self._places.popitem(last=False)

    def _memory(self, event: Event, pid: int) -> None:
        if not str(event.get("what", "")).endswith("ring"):
            self._rings.pop(event["memory"], None)  # the number may have been a ring's
            return
        words = [str(event["vif"])] if event.get("vif") else []
        words += [f"q{event['queue']}"] if event.get("queue") is not None else []
        name = " ".join([*words, event["what"]])
        if not words:  # a guest has one ring of a kind for each queue
            name += f" (memory {event['memory']})"
        shared = bytearray.fromhex(event.get("initial") or "")[:_HEADER_BYTES]
        shared += bytes(_HEADER_BYTES - len(shared))
        self._rings[event["memory"]] = name, pid, shared
        self._count(name, pid, None, shared)

    def _store(self, event: Event, _pid: int) -> None:
        ring = self._rings.get(event["memory"])
        at = event["at"]
        if ring is None or at >= _HEADER_BYTES:
            return
        name, pid, shared = ring
        before = bytes(shared)
        raw = bytes.fromhex(event["bytes"])[: _HEADER_BYTES - at]
        shared[at : at + len(raw)] = raw
        self._count(name, pid, before, shared)

    def _count(self, ring: str, pid: int, before: bytes | None, after: bytearray) -> None:
        for index, number in _INDICES.items():
            word = slice(4 * number, 4 * number + 4)
            if before is None or before[word] != after[word]:
                value = int.from_bytes(after[word], "little")
                self.put("C", f"{ring} {index}", pid, self._now, args={index: value})


_INSTANTS = (
    "publish",
    "upcall",
    "packet",
    "lost",
    "xenstore",
    "state",
    "domain",
    "frame",
    "virq",
    "defect",
    "check",
    "program",
)
#: Kind of an event -> what shows it; others are not shown.
_SHOWN: dict[str, Callable[[_Writer, Event, int], None]] = {
    "begin": _Writer._begin,
    "end": _Writer._end,
    "memory": _Writer._memory,
    **dict.fromkeys(("store", "update"), _Writer._store),
    **dict.fromkeys(("send", "post", "notify"), _Writer._arrow_end),
    **dict.fromkeys(_INSTANTS, _Writer._instant),
}


def _name(event: Event) -> str:
    kind = str(event["kind"])
    if kind == "publish":
        return f"{event.get('ring')} {event.get('index')} {event.get('old')} to {event.get('new')}"
    if kind == "notify":
        return f"notify {event.get('ring')}: {'sent' if event.get('sent') else 'avoided'}"
    return kind


def _args(event: Event) -> dict[str, Any]:
    shown = {name: value for name, value in event.items() if name not in _SHOWN_ELSEWHERE}
    return {"event": event["n"], "t": event.get("t"), **shown}
