"""FreeBSD's epair as a link: each pair of endpoints gets two interfaces, back to back.

Side a is the guest's, side b the host's. An interface of the seed's generation takes frames of any
length and has no offloads, so an edge completes checksums and segments frames of an end; the later
generation refuses frames longer than its MTU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define, field

from xennet.epair.cloner import Cloner, Epair, pair_macs
from xennet.epair.driver import DRIVERS, Driver, NetisrDriver
from xennet.errors import LinkError
from xennet.frames import (
    MAX_FRAME,
    NOTHING,
    Endpoint,
    FrameBatch,
    attach,
    lazy_bytes,
    require_endpoint,
)
from xennet.ifnet import ETHERMTU, Interface, Interfaces
from xennet.link.report import InterfaceReport, LinkReport
from xennet.pump import Clock, Pump
from xennet.runloop import RunLoop

#: Frames that are moved at a time, and the bytes for them.
_BATCH = 256
_BATCH_BYTES = 4 * (MAX_FRAME + 1)
_NS = 1_000_000_000


class _Clock:
    """The time of the link, for a switch at the host's ends."""

    def __init__(self, run_loop: RunLoop) -> None:
        self._run_loop = run_loop

    @property
    def now(self) -> int:
        return self._run_loop.now

    def call_after(self, delay: int, work: Callable[[], None]) -> Callable[[], object]:
        timer = self._run_loop.call_after(delay, 0, work)
        return partial(self._run_loop.cancel_timer, timer)


@define(eq=False, repr=False)
class EpairEnds:
    """One pair of the link: ``guest`` behind side a, ``host`` behind side b. ``epair`` is None
    before the link is opened."""

    name: str
    guest: Endpoint
    host: Endpoint
    epair: Epair | None = None
    queues: int = field(default=1, init=False)
    split_channels: bool = field(default=False, init=False)

    @property
    def was_up(self) -> bool:
        """Whether the pair's interfaces have been created."""
        return self.epair is not None


class EpairLink:
    """One epair for each pair that is joined, all on one machine of their own
    (xennet.link.protocol.Link).

    ``generation``: "netisr", the seed's, or "taskqueue". ``mtu`` in bytes, None for the usual one.
    ``hostid``: 64 bits of which addresses are made. ``clock`` is the pump's (None: virtual time).
    """

    def __init__(
        self,
        generation: str = "netisr",
        mtu: int | None = None,
        hostid: int = 0x78656E6E6574,
        clock: Clock | None = None,
    ) -> None:
        self.run_loop = RunLoop()
        self.pump = Pump(self.run_loop, clock)
        self.interfaces = Interfaces()
        self.driver: Driver = DRIVERS[generation](self.run_loop)
        self.cloner = Cloner(
            self.interfaces,
            self.driver,
            hostid=hostid,
            leaks_units=isinstance(self.driver, NetisrDriver),
        )
        self.mtu = ETHERMTU if mtu is None else mtu
        self.host_clock = _Clock(self.run_loop)
        self.pairs: list[EpairEnds] = []
        self._kept: list[FrameBatch] = []
        self._report = LinkReport()
        self._open = False
        self._woken = False

    def __repr__(self) -> str:
        state = "open" if self._open else "not open"
        return f"<EpairLink {self.driver.generation}: {len(self.pairs)} pairs, {state}>"

    def join(
        self,
        guest: Endpoint,
        host: Endpoint,
        filtered: Callable[[bytes, int], None] = lambda frame, timestamp: None,
    ) -> EpairEnds:
        """Add the next pair and return it; an epair filters no frames. Raises LinkError after
        :meth:`open`."""
        if self._open:
            raise LinkError("join() of a link that is open")
        name = f"epair{len(self.pairs)}"
        pair = EpairEnds(name, require_endpoint("guest", guest), require_endpoint("host", host))
        self.pairs.append(pair)
        return pair

    def address(self, number: int) -> bytes:
        """The MAC address of side a of pair ``number``: each pair gets two indices, in order."""
        return pair_macs(2 * number + 1, self.cloner.hostid)[0]

    def open(self) -> None:
        """Create the epairs and bring both sides up."""
        self._open = True
        for pair in self.pairs:
            epair = pair.epair = self.cloner.create()
            for side, end in ((epair.a, pair.guest), (epair.b, pair.host)):
                side.mtu = self.mtu
                side.input = self._into(end)
                side.up = True
                attach(end, self._wake, self.pump.watch)
            offload = NOTHING
            if self.driver.generation != "netisr":
                offload = NOTHING.with_mtu(self.mtu)
            pair.guest.negotiated(offload)
            pair.host.negotiated(offload)

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Move frames until no end has any for which the other end has room."""
        self._require_open("carry()")
        while sum(self._move(pair, _BATCH) for pair in self.pairs):
            pass

    def carry_live(self, seconds: float | None, over: Callable[[], bool]) -> None:
        """Move frames as they come for ``seconds`` (None: without end), or until ``over()`` returns
        True; sleep while there are none."""
        self._require_open("carry_live()")
        now = self.pump.clock.monotonic
        end = None if seconds is None else now() + round(seconds * _NS)
        while not over() and (end is None or now() < end):
            self._woken = False
            if sum(self._move(pair, _BATCH) for pair in self.pairs):
                self.pump.turn()
                continue
            left = None if end is None else max(0, end - now()) / _NS
            self.pump.hold(left, lambda: self._woken or over())

    def _wake(self) -> None:
        self._woken = True

    def trickle(self) -> None:
        """Let every guest send one frame."""
        self._require_open("trickle()")
        for pair in self.pairs:
            self._move(pair, 1)

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        raise LinkError("an epair has no XenStore")

    def hold(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Keep the interfaces up for ``seconds``, or until ``over()`` returns True."""
        self.pump.hold(seconds, over)

    def close(self) -> None:
        """Destroy the epairs. May be repeated."""
        if not self._open:
            return
        self._report = self.report()
        self._open = False
        self.pump.run()
        for pair in self.pairs:
            if pair.epair is not None:
                self.cloner.destroy(pair.epair.a)

    def explain(self, error: Exception) -> str | None:
        """None: nothing in an epair raises an exception on purpose."""
        return None

    def report(self) -> LinkReport:
        """A report of the interfaces with their counters, as they were when the link was closed."""
        if not self._open:
            return self._report
        return LinkReport(interfaces=tuple(InterfaceReport.of(one) for one in self.interfaces))

    def left_behind(self) -> list[str]:
        """The interfaces that still exist, a line for each."""
        return [f"interface {interface.name}" for interface in self.interfaces]

    def destroy(self) -> None:
        """Release everything. May be repeated."""
        self.close()
        self.pump.close()

    def _require_open(self, call: str) -> None:
        if not self._open:
            raise LinkError(f"{call} of a link that is not open")

    def _move(self, pair: EpairEnds, most: int) -> int:
        """Move at most ``most`` frames each way between the ends of ``pair``. Returns the number
        moved."""
        epair = pair.epair
        if epair is None:
            return 0
        return self._send(pair.guest, epair.a, pair.host, most) + self._send(
            pair.host, epair.b, pair.guest, most
        )

    def _send(self, giver: Endpoint, side: Interface, taker: Endpoint, most: int) -> int:
        room = min(most, taker.room, self.driver.room(side))
        if room <= 0:
            return 0
        batch = self._kept.pop() if self._kept else FrameBatch(lazy_bytes(_BATCH_BYTES), _BATCH)
        batch.clear()
        batch.max_frames = room
        given = giver.pull(batch)
        if not given:
            self._kept.append(batch)
            return 0
        # From here on the batch is the interface's; input() gives it back.
        self.driver.transmit(side, batch)
        self.pump.run()
        return given

    def _into(self, end: Endpoint) -> Callable[[FrameBatch], None]:
        """The ``input`` of a side: a function that pushes incoming frames to ``end``."""

        def take(batch: FrameBatch) -> None:
            end.push(batch)
            if len(batch.data) == _BATCH_BYTES:  # not one that the driver has copied
                self._kept.append(batch)

        return take
