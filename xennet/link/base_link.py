"""The base of links within this process: a link that hands frames from one end to the other.

A link of another kind adds what it does in three places: :meth:`BaseLink.bring_up` for each pair
when it is opened, :meth:`BaseLink.move` in place of a plain hand-over, :meth:`BaseLink.take_down`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define, field

from xennet.errors import LinkError
from xennet.frames import (
    EVERYTHING,
    MAX_FRAME,
    Endpoint,
    FrameBatch,
    Offload,
    attach,
    lazy_bytes,
    require_endpoint,
)
from xennet.ifnet import Interface
from xennet.link.report import LinkReport, LinkStatus
from xennet.pump import Clock, Pump
from xennet.runloop import RunLoop

#: Frames that are moved at a time, and the bytes for them.
BATCH = 512
BATCH_BYTES = 8 * (MAX_FRAME + 1)
_NS = 1_000_000_000


class LoopClock:
    """The time of a run loop, for a switch at the host's ends (xennet.link.switch.Clock)."""

    def __init__(self, run_loop: RunLoop) -> None:
        self._run_loop = run_loop

    @property
    def now(self) -> int:
        return self._run_loop.now

    def call_after(self, delay: int, work: Callable[[], None]) -> Callable[[], object]:
        timer = self._run_loop.call_after(delay, 0, work)
        return partial(self._run_loop.cancel_timer, timer)


@define(eq=False, repr=False)
class EndPair:
    """Two ends that a link joins (xennet.link.protocol.Pair)."""

    name: str
    guest: Endpoint
    host: Endpoint
    interfaces: tuple[Interface, Interface]
    queues: int = field(default=0, init=False)
    split_channels: bool = field(default=False, init=False)
    was_up: bool = field(default=False, init=False)


class BaseLink:
    """A cable for each pair of ends (xennet.link.protocol.Link), on a run loop of their own.

    ``name``: pairs are called by that and their number. ``carries``: which frames the link takes;
    both ends are told so, and edges make the others fit. ``clock`` is the pump's (None: virtual
    time).
    """

    name: str = "link"
    carries: Offload = EVERYTHING

    def __init__(self, clock: Clock | None = None) -> None:
        self.run_loop = RunLoop()
        self.pump = Pump(self.run_loop, clock)
        self.host_clock = LoopClock(self.run_loop)
        self.pairs: list[EndPair] = []
        self._batch = FrameBatch(lazy_bytes(BATCH_BYTES), BATCH)
        self._state = "not open"
        self._woken = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self.pairs)} pairs, {self._state}>"

    # -- what other kinds of links add -------------------------------------------------------------

    def bring_up(self, pair: EndPair) -> None:
        """Make what the link needs between the ends of ``pair``. Raises LinkError if that fails."""

    def move(self, pair: EndPair, most: int) -> int:
        """Move at most ``most`` frames each way between the ends of ``pair``, and no more than the
        other end has room for. Returns the number moved; 0: an end has to call its listener before
        there are any."""
        (guest, host), (at_guest, at_host) = (pair.guest, pair.host), pair.interfaces
        return self._hand_over(guest, at_guest, at_host, host, most) + self._hand_over(
            host, at_host, at_guest, guest, most
        )

    def take_down(self, pair: EndPair) -> None:
        """Release what :meth:`bring_up` made, or a part of it if that failed."""

    # -- the protocol ------------------------------------------------------------------------------

    def join(
        self,
        guest: Endpoint,
        host: Endpoint,
        filtered: Callable[[bytes, int], None] = lambda frame, timestamp: None,
    ) -> EndPair:
        """Add the next pair and return it; no frames are filtered. Raises LinkError after
        :meth:`open`, TypeError for what is no endpoint."""
        self._require("join()", "not open")
        name = f"{self.name}{len(self.pairs)}"
        ends = require_endpoint("guest", guest), require_endpoint("host", host)
        at_guest = Interface(f"{name}a", 1, self.address(len(self.pairs)))
        pair = EndPair(name, *ends, (at_guest, Interface(f"{name}b", 2)))
        self.pairs.append(pair)
        return pair

    def address(self, number: int) -> bytes:
        """A locally administered address with ``number`` in it."""
        return b"\x02XN" + number.to_bytes(3, "big")

    def open(self) -> None:
        """Bring all pairs up. Called once; :meth:`close` takes down those that came up, also after
        a LinkError."""
        self._require("open()", "not open")
        self._state = "open"
        for pair in self.pairs:
            pair.was_up, pair.queues = True, 1
            self.bring_up(pair)
            for interface in pair.interfaces:
                interface.start()
            for end in (pair.guest, pair.host):
                attach(end, self._wake, self.pump.watch)
                end.negotiated(self.carries)

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Move frames until no end has any for which the other end has room."""
        self._require("carry()", "open")
        with self.pump.whole():
            self.pump.run()  # what an interrupt has left
            while self._move_all():
                pass

    def carry_live(self, seconds: float | None, over: Callable[[], bool]) -> None:
        """Move frames as they come for ``seconds`` (None: without end), or until ``over()`` returns
        True; sleep while there are none."""
        self._require("carry_live()", "open")
        now = self.pump.clock.monotonic
        end = None if seconds is None else now() + round(seconds * _NS)
        with self.pump.whole():
            while not over() and (end is None or now() < end):
                self._woken = False
                if self._move_all():
                    self.pump.turn()
                    continue
                left = None if end is None else max(0, end - now()) / _NS
                self.pump.hold(left, lambda: self._woken or over())

    def _move_all(self) -> int:
        """Move frames of all pairs. Returns the number moved. An interrupt waits for that."""
        moved = sum(self.move(pair, BATCH) for pair in self.pairs)
        self.pump.heed()
        return moved

    def trickle(self) -> None:
        """Let every guest send one frame."""
        self._require("trickle()", "open")
        for pair in self.pairs:
            self.move(pair, 1)

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        raise LinkError(f"{self.name}: a link without a XenStore")

    def hold(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Keep the pairs up for ``seconds``, or until ``over()`` returns True."""
        self.pump.hold(seconds, over)

    def close(self) -> None:
        """Take all pairs down. May be repeated."""
        was, self._state = self._state, "closed"
        if was == "open":
            self.pump.run()
            for pair in self.pairs:
                if pair.was_up:
                    self.take_down(pair)
                    for interface in pair.interfaces:
                        interface.stop()

    def explain(self, error: Exception) -> str | None:
        """None: nothing here raises an exception on purpose."""
        return None

    def report(self) -> LinkReport:
        """A report without anything: all that happens is in the reports of the ports."""
        return LinkReport()

    def status(self) -> LinkStatus:
        """The status of a link without queues that drops nothing."""
        return LinkStatus()

    def left_behind(self) -> list[str]:
        """The things that are still held, a line for each: none."""
        return []

    def destroy(self) -> None:
        """Release everything. May be repeated."""
        try:
            self.close()
        finally:
            self.pump.close()

    def _wake(self) -> None:
        self._woken = True

    def _require(self, call: str, state: str) -> None:
        if self._state != state:
            raise LinkError(f"{call} of a link that is {self._state}")

    def _hand_over(
        self, giver: Endpoint, out: Interface, into: Interface, taker: Endpoint, most: int
    ) -> int:
        batch = self._batch
        batch.clear()
        batch.max_frames = min(most, taker.room, BATCH)
        if not batch.max_frames:
            return 0
        sent, received = out.counters, into.counters
        try:
            if not giver.pull(batch):
                return 0
        finally:
            # What a pull that raises has given is carried all the same.
            if batch.count:
                sent.opackets, sent.obytes = sent.opackets + batch.count, sent.obytes + batch.used
                received.ipackets += batch.count
                received.ibytes += batch.used
                try:
                    out.tap(batch)
                finally:
                    taker.push(batch)
                into.tap(batch)
        return batch.count
