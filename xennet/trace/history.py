"""What shared memory held at each event of a recording, and who wrote and read it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from xennet.trace.stream import Event

_WRITES = frozenset(("store", "update"))
_READS = frozenset(("load", "update"))


class History:
    """The memories of a recording, by their ids."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._known: dict[int, list[Event]] = {}
        self._accesses: dict[int, list[Event]] = {}
        for event in events:
            if event["kind"] == "memory":
                self._known.setdefault(event["memory"], []).append(event)
                self._accesses.setdefault(event["memory"], [])
            elif event["kind"] in ("load", "store", "update"):
                self._accesses[event["memory"]].append(event)
        self._numbers = {
            memory: [event["n"] for event in found] for memory, found in self._accesses.items()
        }

    def bytes_at(self, memory: int, n: int) -> bytes:
        """The bytes of a memory behind event ``n``. Raises KeyError if it was not known then."""
        known = [event for event in self._known[memory] if event["n"] <= n]
        if not known:
            raise KeyError(f"memory {memory} is not known at event {n}")
        begin = known[-1]
        held = bytearray(bytes.fromhex(begin.get("initial", "")))
        held += bytes(begin["bytes"] - len(held))
        numbers = self._numbers[memory]
        first, end = bisect_right(numbers, begin["n"]), bisect_right(numbers, n)
        for event in self._accesses[memory][first:end]:
            if event["kind"] in _WRITES:
                new = bytes.fromhex(event["bytes"])
                held[event["at"] : event["at"] + len(new)] = new
        return bytes(held)

    def written_by(self, memory: int, at: int, n: int) -> int | None:
        """The event up to ``n`` that wrote byte ``at`` last; None: its value is the initial one."""
        numbers = self._numbers[memory]
        for event in reversed(self._accesses[memory][: bisect_right(numbers, n)]):
            if event["kind"] in _WRITES and event["at"] <= at < event["at"] + event["size"]:
                return int(event["n"])
        return None

    def read_by(self, memory: int, at: int, n: int) -> list[int]:
        """The events that read byte ``at`` as it is at event ``n``: those behind the write that is
        current then (:meth:`written_by`; none: the begin), also behind ``n``, up to the next write
        of it. An update reads what it changes."""
        found = []
        numbers, since = self._numbers[memory], self.written_by(memory, at, n) or 0
        for event in self._accesses[memory][bisect_right(numbers, since) :]:
            if event["at"] <= at < event["at"] + event["size"]:
                if event["kind"] in _READS:
                    found.append(int(event["n"]))
                if event["kind"] in _WRITES:
                    break
        return found
