"""What happened on a machine, event by event: the typed events of xennet.observe as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs

from xennet.hypervisor import Machine

#: The name of the layout; it gets a new number when a key changes its meaning or is removed.
FORMAT = "xennet-trace/1"


class Trace:
    """All events of ``machine`` from now on, each with its virtual time; :meth:`end` ends that."""

    def __init__(self, machine: Machine) -> None:
        self._loop = machine.run_loop
        self._events: list[tuple[int, object]] = []
        self.end = machine.observers.subscribe(self._note)

    def _note(self, event: object) -> None:
        self._events.append((self._loop.now, event))

    def lines(self) -> Iterator[str]:
        """The layout's name, then a JSON object for each event, each on a line: its ``sequence``,
        the ``domain`` in which it happened, the ``time`` in ns, the name of the ``event``, its
        members."""
        yield json.dumps({"format": FORMAT})
        for sequence, (now, event) in enumerate(self._events):
            yield json.dumps(to_json(sequence, now, event))


def to_json(sequence: int, now: int, event: object) -> dict[str, Any]:
    """An event as an object of the layout."""
    kind: type[Any] = type(event)
    members = {one.name: _plain(getattr(event, one.name)) for one in attrs.fields(kind)}
    domain = members.pop("domid", None)
    head = {"sequence": sequence, "time": now, "domain": domain, "event": type(event).__name__}
    return head | members


def _plain(value: object) -> object:
    """A value of an event as JSON can have it; bytes as text, with what is not ASCII escaped."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("ascii", "backslashreplace")
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return str(value)
