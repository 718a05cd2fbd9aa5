"""What happened on a machine, event by event, as evidence: a stream of docs/trace.md with what
xennet.observe tells and the deliveries, but without accesses to memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xennet.hypervisor import Machine
from xennet.trace.recorder import Recorder
from xennet.trace.stream import Event, header_of, line_of


class Trace:
    """All events of ``machine`` from now on; :meth:`end` ends that."""

    def __init__(self, machine: Machine) -> None:
        self._loop = machine.run_loop
        self._recorder = Recorder()
        self._events: list[Event] = []
        self._recorder.sink(self._events.append)
        self._recorder.observe(machine)
        self._seen: int | None = None
        self._ended_at = 0

    def seen(self) -> None:
        """What is wrong, if anything is, was seen now; a second call does nothing."""
        if self._seen is None and self._events:
            self._seen = self._events[-1]["n"]

    def end(self) -> None:
        """End the recording; a second call does nothing."""
        self.seen()
        self._recorder.detach()
        self._ended_at = self._loop.now

    def lines(self, rule: str, verdict: str, problems: Iterable[str]) -> Iterator[str]:
        """The lines of the stream, which ends with an event of kind "check" if there are
        ``problems``: the ``verdict`` on the driver, which has broken ``rule`` ("": no rule of the
        book), and the last event before that was seen as its cause. Only after :meth:`end`."""
        if why := "; ".join(problems):
            self._recorder.check(rule, verdict, why, self._ended_at, self._seen)
        return map(line_of, [header_of(), *self._events])
