"""What happened on a machine, event by event, as evidence: a stream of docs/trace.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xennet.check.broken_step import Place, broken_step
from xennet.check.outcome import Outcome
from xennet.hypervisor import Machine
from xennet.trace.recorder import Recorder
from xennet.trace.stream import Event, header_of, line_of

#: Events that are kept of a play with accesses to memory.
MOST_EVENTS = 50_000


class EventTrace:
    """All events of ``machine`` from now on; :meth:`end` ends that. ``domid`` is the domain of the
    driver that is tested.

    With a ``recorder`` in whose block the machine was made these are accesses to memory too, of
    which no more are kept than a page takes: if there are more, ``whole`` is False.
    """

    def __init__(self, machine: Machine, domid: int = 0, recorder: Recorder | None = None) -> None:
        self.domid = domid
        self._loop = machine.run_loop
        self._recorder = Recorder() if recorder is None else recorder
        self._events: list[Event] = []
        self._most = None if recorder is None else MOST_EVENTS
        self.whole = True
        self._recorder.sink(self._keep)
        if recorder is None:
            self._recorder.observe(machine)
        else:
            self._recorder.attach(machine)
        self._seen: int | None = None
        self._ended_at = 0

    def _keep(self, event: Event) -> None:
        if self._most is None or len(self._events) < self._most:
            self._events.append(event)
        else:
            self.whole = False

    def seen(self) -> None:
        """What is wrong, if anything is, was seen now; a second call does nothing."""
        if self._seen is None:
            self._seen = len(self._events)

    def end(self) -> None:
        """End the recording; a second call does nothing."""
        self.seen()
        self._recorder.detach()
        self._ended_at = self._loop.now

    def lines(
        self,
        rule: str,
        verdict: str,
        problems: Iterable[str],
        place: Place | None = None,
        *,
        command: Iterable[str] = (),
        choices: str | None = None,
    ) -> Iterator[str]:
        """The lines of the stream, which ends with an event of kind "check" if there are
        ``problems``: the ``verdict`` on the driver, which has broken ``rule`` ("": no rule of the
        book), and the step by which it did (xennet.check.broken_step) as its cause; without a
        ``place`` the last event before that was seen. The header has the ``command`` and
        the ``choices`` that do the same again, if any do. Only after :meth:`end`."""
        if why := "; ".join(problems):
            before = self._events[: self._seen]
            last = before[-1]["n"] if before else None
            crashed = verdict == Outcome.CRASHED
            cause = last if place is None else broken_step(before, rule, place, crashed)
            self._recorder.check(rule, verdict, why, self._ended_at, cause)
        return map(line_of, [header_of(command, choices=choices), *self._events])
