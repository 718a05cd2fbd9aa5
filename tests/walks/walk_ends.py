"""The two outsides of a vif in a random walk, and the books that are kept of what went through."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from attrs import define, field
from walk_frames import Judge, Sent, WrongError

from xennet.frames import EVERYTHING, BaseEndpoint, Endpoint, FrameBatch, Offload, Wrapper
from xennet.host.domains import PluggedVif
from xennet.wrap.offload_edge import OffloadEdge

PLENTY = 1 << 30


@define(eq=False)
class Stack(BaseEndpoint):
    """A network stack: gives ``to_send``, has ``judge`` look at what comes. ``room`` is what it
    takes; ``carries`` is for the edge in front of it."""

    sends: Judge
    judge: Judge
    carries: Offload = EVERYTHING
    room: int = PLENTY
    to_send: deque[Sent] = field(factory=deque)
    pulled: int = 0

    def pull(self, batch: FrameBatch) -> int:
        given = 0
        while self.to_send and batch.has_room(len(self.to_send[0].data)):
            sent = self.to_send.popleft()
            batch.append(
                sent.data, flags=sent.flags, gso_size=sent.gso_size, gso_type=sent.gso_type
            )
            self.sends.send(sent)
            given += 1
        self.pulled += given
        return given

    def push(self, batch: FrameBatch) -> None:
        if batch.count > self.room:
            raise WrongError(f"{batch.count} frames came, there is room for {self.room}")
        if self.room < PLENTY:
            self.room -= batch.count
        for i in range(batch.count):
            gso = batch.gso_size[i], batch.gso_type[i]
            self.judge.arrives(bytes(batch.frame(i)), batch.flags[i], *gso)


class Tap(Wrapper):
    """Counts what a driver pulls from ``inner`` and pushes into it."""

    def __init__(
        self, inner: Endpoint, driver: Callable[[], Any], on_negotiated: Callable[[], None]
    ) -> None:
        super().__init__(inner)
        self.driver = driver
        self.on_negotiated = on_negotiated
        self.pulled = self.pushed = 0
        #: Which driver pulled how many; None once two may do so at a time.
        self.by_driver: dict[int, tuple[Any, int]] | None = {}

    def pull(self, batch: FrameBatch) -> int:
        given = super().pull(batch)
        self.pulled += given
        if self.by_driver is not None:
            driver = self.driver()
            _, before = self.by_driver.get(id(driver), (driver, 0))
            self.by_driver[id(driver)] = driver, before + given
        return given

    def push(self, batch: FrameBatch) -> None:
        self.pushed += batch.count
        super().push(batch)

    def negotiated(self, offload: Offload) -> None:
        super().negotiated(offload)
        self.on_negotiated()


@define(eq=False)
class End:
    """One side: ``stack``, an ``edge`` in front of it or none, and the ``tap`` at the driver."""

    stack: Stack
    edge: OffloadEdge | None
    tap: Tap

    @classmethod
    def of(
        cls,
        stack: Stack,
        edged: bool,
        driver: Callable[[], Any],
        on_negotiated: Callable[[], None],
    ) -> End:
        edge = OffloadEdge(stack) if edged else None
        return cls(stack, edge, Tap(edge or stack, driver, on_negotiated))

    @property
    def waiting(self) -> bool:
        return bool(self.stack.to_send) or (self.edge is not None and self.edge.waiting)

    def check_idle_drivers(self, taken: Callable[[Any], int], errors: Callable[[Any], int]) -> None:
        """Drivers without a connection have sent or counted all that they ever pulled."""
        for driver, pulled in (self.tap.by_driver or {}).values():
            if not driver.queues:
                left = pulled - taken(driver.counters)
                most = 0 if self.edge is not None else errors(driver.counters)
                assert 0 <= left <= most, (left, driver.counters)

    def check_edge(self) -> None:
        """What the edge was given came out of it again or was counted, to the frame."""
        stack, edge, tap = self.stack, self.edge, self.tap
        if edge is None:
            assert (stack.pulled, stack.judge.frames) == (tap.pulled, tap.pushed)
        elif not edge.waiting:
            for given, got, done in (
                (stack.pulled, tap.pulled, edge.pulled),
                (tap.pushed, stack.judge.frames, edge.pushed),
            ):
                lost = done.refused + done.errors
                assert got == given - lost - done.segmented + done.segments, done


@define
class _Counts:
    """The counters of both drivers and taps at one moment of a connection."""

    queues: tuple[Any, ...]
    front: Any
    back: Any
    taps: tuple[int, int, int, int]


class CheckedVif:
    """A vif, its two ends, and the books of its present connection."""

    def __init__(
        self, carries: tuple[Offload, Offload], edged: tuple[bool, bool], ordered: bool
    ) -> None:
        up, down = Judge(ordered=ordered), Judge(ordered=ordered)
        self.guest = End.of(
            Stack(up, down, carries[0]), edged[0], lambda: self.vif.netfront, self._set_up
        )
        self.host = End.of(
            Stack(down, up, carries[1]), edged[1], lambda: self.vif.netback, self._connected
        )
        self.vif: PluggedVif
        self._opened: _Counts | None = None

    @property
    def ends(self) -> tuple[End, End]:
        return self.guest, self.host

    def served_before(self) -> None:
        """A driver has not seen the vif go that was there before: it may have more queues than this
        one asks for, and has counted what went through that one."""
        for end in self.ends:
            end.stack.judge.ordered = False
            end.tap.by_driver = None

    # -- books -------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        """Netfront begins a connection: what was counted before is another transcript."""
        self._opened = None

    def _connected(self) -> None:
        """Netback connects. Rings that were in use before are not followed."""
        front, back = self.vif.netfront, self.vif.netback
        if self._opened is not None and back is not None and self._opened.queues == self._queues():
            return  # only reconfigured
        fresh = front is not None and front.queues and not front._connected
        fresh = fresh and not any(
            ring.sring.rsp_prod for queue in front.queues for ring in (queue.tx_ring, queue.rx_ring)
        )
        self._opened = self._books() if fresh else None

    def _queues(self) -> tuple[Any, ...]:
        front, back = self.vif.netfront, self.vif.netback
        assert front is not None
        assert back is not None
        return (*front.queues, *back.queues)

    def _books(self) -> _Counts:
        front, back = self.vif.netfront, self.vif.netback
        assert front is not None
        assert back is not None
        guest, host = self.guest.tap, self.host.tap
        return _Counts(
            self._queues(),
            deepcopy(front.counters),
            deepcopy(back.counters),
            (guest.pulled, guest.pushed, host.pulled, host.pushed),
        )

    def check(self, *, flowing: bool, exact: bool) -> None:
        """The books of the present connection are right; nothing is on its way if it is
        ``flowing``. ``exact``: the backend counts as Linux does."""
        for end in self.ends:
            end.check_edge()
        if exact:
            self.guest.check_idle_drivers(
                lambda it: it.tx.packets + it.no_carrier + it.lost, lambda it: it.tx.errors
            )
            self.host.check_idle_drivers(
                lambda it: it.rx.packets + it.filtered + it.expired + it.dropped + it.lost,
                lambda it: it.rx.errors,
            )
        then, vif = self._opened, self.vif
        if then is None or vif.netfront is None or vif.netback is None or not exact:
            return
        now = self._books()
        if now.queues != then.queues or not vif.netfront._connected:
            return
        guest_in, guest_out, host_in, host_out = (
            new - old for new, old in zip(now.taps, then.taps, strict=True)
        )

        def front(name: str) -> int:
            return _counter(now.front, name) - _counter(then.front, name)

        def back(name: str) -> int:
            return _counter(now.back, name) - _counter(then.back, name)

        transcript = f"{now}\nsince {then}"
        # From guest to host.
        assert host_out == back("tx.packets"), transcript
        ring = front("tx.packets") - host_out - back("tx.errors") - back("bad_csum")
        kept = guest_in - front("tx.packets") - front("no_carrier")
        # Counted as errors there: what could not be sent, and slots that were refused.
        refused = front("tx.errors")
        assert ring >= 0, transcript
        assert kept >= 0, transcript
        if flowing:
            assert ring == 0, transcript
            assert kept == 0 if self.guest.edge is not None else kept <= refused, transcript
        # From host to guest.
        assert guest_out == front("rx.packets"), transcript
        ring = back("rx.packets") - guest_out - front("rx.errors")
        lost = back("filtered") + back("expired") + back("dropped")
        kept = host_in - back("rx.packets") - lost
        assert ring >= 0, transcript
        assert kept >= 0, transcript
        if flowing:
            assert ring == 0, transcript
            assert kept == back("rx.errors"), transcript
            if self.host.edge is not None:
                assert kept == 0, transcript


def _counter(counters: Any, name: str) -> int:
    for part in name.split("."):
        counters = getattr(counters, part)
    return int(counters)
