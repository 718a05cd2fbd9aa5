"""Many passes of a vif in one call, where nobody could tell the difference.

Compiled, a pass over a ring takes a few microseconds, and the Python around it ten times as much.
Where a link has one vif that only sends, over one or several queues, both ends are xennet's, and
nobody observes or chooses, a kernel (:mod:`xennet.link.joined_kernel`) makes the deliveries in
place of the run loop. Where many guests have one such vif each, of one queue, it makes those of a
time slice, in which only one guest and domain 0 have anything to do. What is there afterwards is
what the run loop would have left: memory, counters, notifications, the order of frames, the
deliveries that are ready, their numbers. Whatever is not like that, and every delivery that turns
out not to be, is left to the run loop.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from xennet.abi.words import TX_SLOTS
from xennet.engine.choice import Engine, is_compiled
from xennet.flow.steering import Middle, QueueEnd
from xennet.host.domains import PluggedVif
from xennet.host.timeslices import HOST, TimeSlices
from xennet.hypervisor import Machine
from xennet.link import joined_kernel as kernel
from xennet.link.joined_kernel import BACK_EVENT, BACK_WORK, FRONT_EVENT, FRONT_WORK
from xennet.link.vif_interfaces import InterfaceHold
from xennet.netback.queue import Queue as BackQueue
from xennet.netback.tx_pass import TxPass
from xennet.netfront.queue import Queue as FrontQueue
from xennet.observe import EventDelivered, EventSent, FramePassed, Hypercall, Notification
from xennet.port.base import BasePort, only_counts
from xennet.port.gen import GenPort, only_numbers
from xennet.runloop import Call, Delivery
from xennet.vif.ring_events import RingEvent

#: Deliveries before it is tried (again). It is odd: passes are made of four, and at some of them no
#: event is under way.
EVERY = 33
#: Most deliveries that are made one by one until no event is under way: with eight queues that is
#: so at one in twenty, and not evenly.
_TO_BEGIN = 160
#: Frames from which on it pays to load the kernel, and to use it when it is loaded.
MANY = 1 << 18
FEW = 1 << 12
#: Deliveries of one call, in which no signal is handled: some hundredths of a second.
_CALL = 16384
#: Deliveries that a run loop remembers.
_RECENT = 16
#: Events of a machine that would be missed.
_OBSERVED = (RingEvent, Notification, EventSent, EventDelivered, Hypercall, FramePassed)
#: Deliveries in a row of several guests that are made one by one before it is given up for now.
_TRIES = 6
#: Whether the kernel for one queue (False), and that for several (True), is loaded.
_loaded: set[bool] = set()


class _Ends(NamedTuple):
    """The drivers' queues, in pairs, and the ports behind them; ``middle``: what steers the frames
    of the guest's port to several queues."""

    queues: tuple[tuple[FrontQueue, BackQueue], ...]
    middle: Middle | None
    source: GenPort
    sink: BasePort

    @property
    def engine(self) -> Engine:
        """The engine of all kernels."""
        return self.queues[0][0].tx.engine


class JoinedPasses:
    """The passes of ``vif``, which joins the ends ``guest`` and ``host``. ``slices``: those in
    which its guest takes turns with others, None without others. ``most``: deliveries of a turn;
    ``joined`` counts those that were made in all turns."""

    def __init__(
        self,
        machine: Machine,
        vif: PluggedVif,
        guest: InterfaceHold,
        host: InterfaceHold,
        slices: TimeSlices | None = None,
        most: int = sys.maxsize,
    ) -> None:
        self._machine = machine
        self._slices = slices
        self.most = most
        self._vif = vif
        self._guest, self._host = guest, host
        self.joined = 0

    @property
    def domid(self) -> int:
        """The domain of the guest."""
        return self._vif.guest.domid

    @property
    def frames(self) -> int:
        """How many frames are to come, if they are of a port whose frames a kernel can make, for
        one that only counts them; else 0."""
        source = self._guest.endpoint
        if not (only_numbers(source) and only_counts(self._host.endpoint)):
            return 0
        return (source.expected or 0) - source.given

    @property
    def worthwhile(self) -> bool:
        """Whether so many frames are to come that it pays to load the kernel, or to use it."""
        netfront = self._vif.netfront
        several = netfront is not None and len(netfront.queues) > 1
        return self.frames >= (FEW if several in _loaded else MANY)

    def turn(self) -> None:
        """Make as many deliveries as there are of the kind; without slices, those before one by one
        until no event is under way. Called between deliveries."""
        if self.ends() is None:
            return
        loop, left = self._machine.run_loop, _TO_BEGIN if self._slices is None else 0
        while left and any(delivery.kind == "evtchn" for delivery in loop.ready()):
            if not loop.deliver(1):  # there was an interrupt
                return
            left -= 1
        if (ends := self.ends()) is not None:
            self.join(ends)

    def join(self, ends: _Ends) -> int:
        """Make as many deliveries as there are of the kind now. Returns how many that were."""
        made = 0
        if all(self._settled(front, back) for front, back in ends.queues):
            codes = self._codes(ends)
            if codes is not None:
                made = _Turn(self._machine, ends, self._slices).run(codes, self.most)
        self.joined += made
        return made

    def ends(self) -> _Ends | None:
        """Both ends, if they can do nothing but send and take, and nobody sees what happens
        meanwhile."""
        machine = self._machine
        if not machine.run_loop.only_ordered(self._slices):
            return None
        if any(map(machine.observers.wants, _OBSERVED)):
            return None
        if not self._vif.guest.domain.running:  # its pages may have gone
            return None
        netfront, netback = self._vif.netfront, self._vif.netback
        source, sink = self._guest.endpoint, self._host.endpoint
        if netfront is None or netback is None or self.frames < TX_SLOTS:
            return None
        assert isinstance(source, GenPort)
        assert isinstance(sink, BasePort)
        queues = tuple(zip(netfront.queues, netback.queues, strict=False))
        middle = netfront.steering.middle if netfront.steering is not None else None
        if (
            not len(netfront.queues) == len(netback.queues) == len(queues)
            or not 1 <= len(queues) <= (kernel.QUEUES if self._slices is None else 1)
            or (netfront.steering is None) is not (len(queues) == 1)
            or not all(self._fits(front, back) for front, back in queues)
            or vars(self._guest).get("pull") != source.pull
            or vars(self._host).get("push") != sink.push
        ):
            return None
        ends = _Ends(queues, middle, source, sink)
        return ends if is_compiled(ends.engine) else None

    def _fits(self, front: FrontQueue, back: BackQueue) -> bool:
        """Whether a queue only sends, by the same kernels at both ends, between the two ports. A
        driver domain takes turns as a guest does: then its queues are not like domain 0's."""
        tx = back.tx if front.only_sends and back.only_takes else None
        source, sink = front.guest, back.host
        if isinstance(source, QueueEnd) and isinstance(sink, QueueEnd) and sink.middle.idle:
            source, sink = source.endpoint, sink.endpoint
        return (
            isinstance(tx, TxPass)
            and front.tx.engine is tx.engine
            and source is self._guest
            and sink is self._host
            and (self._slices is None or back.hv.domid == HOST)
        )

    def _settled(self, front: FrontQueue, back: BackQueue) -> bool:
        """Whether the ends of a queue are joined, and nothing is left of events that were taken."""
        machine = self._machine
        at_guest, at_host = (front.hv.domid, front.tx_port), (back.hv.domid, back.tx_port)
        return (
            machine.channels.settled(*at_guest) == at_host
            and machine.channels.settled(*at_host) == at_guest
            and machine.handles(*at_guest, front.tx_handler)
            and machine.handles(*at_host, back.tx_handler)
        )

    def _codes(self, ends: _Ends) -> list[tuple[int, Delivery]] | None:
        """Each delivery that is ready, with its code; None if there are others than work of the
        queues, but for those of guests whose turn comes later."""
        works: list[tuple[int, Call]] = []
        for front, back in ends.queues:
            works += [(front.hv.domid, front.work), (back.hv.domid, back.work)]
        ready = None if self._slices is None else self._slices.ready()
        found = []
        for delivery, call in self._machine.run_loop.calls(ready).items():
            if (work := (delivery.domid, call)) not in works:
                return None
            queue, kind = divmod(works.index(work), 2)
            found.append((queue * kernel.KINDS + (FRONT_WORK, BACK_WORK)[kind], delivery))
        return found


class JoinedSlices:
    """The passes of many guests, each with the only vif of its own, which have their turns in
    ``slices``."""

    def __init__(self, machine: Machine, slices: TimeSlices, vifs: Iterable[JoinedPasses]) -> None:
        self._loop = machine.run_loop
        self._slices = slices
        self._by_guest = {passes.domid: passes for passes in vifs}

    @property
    def worthwhile(self) -> bool:
        """Whether it is for all guests together that can do nothing else."""
        able = [passes.frames for passes in self._by_guest.values() if passes.ends() is not None]
        return sum(able) >= (FEW * max(1, len(able)) if False in _loaded else MANY)

    def turn(self) -> None:
        """Make one slice after the other as long as they are of the kind, and what comes in between
        one by one. Called between deliveries."""
        left = _TRIES
        while left and (passes := self._by_guest.get(self._slices.guest)) is not None:
            if (ends := passes.ends()) is None or self._loop.interrupted:
                return
            if passes.join(ends):
                left = _TRIES
            else:
                self._loop.step()
                left -= 1


class _Turn:
    """One turn: the books are filled, the kernel runs, and what they say is put into place."""

    def __init__(self, machine: Machine, ends: _Ends, slices: TimeSlices | None) -> None:
        self._machine = machine
        self._ends = ends
        self._slices = slices
        self._books = [array("q", bytes(8 * kernel.BOOKS)) for _ in ends.queues]
        self._codes = array("I", bytes(4 * kernel.LOOP))
        self._idents = array("q", bytes(8 * kernel.LOOP))
        self._state = array("q", bytes(8 * kernel.LOOP_STATE))
        self._port = array("q", bytes(8 * kernel.PORT_STATE))
        self._domids = tuple(end.hv.domid for end in ends.queues[0])

    def run(self, ready: Sequence[tuple[int, Delivery]], most: int) -> int:
        """Make at most ``most`` deliveries, as long as they are of the kind; ``ready``: those to
        begin with, with their codes. Returns how many were made."""
        state, engine, loop = self._state, self._ends.engine, self._machine.run_loop
        self._open(ready)
        make = engine.kernel(kernel.run_deliveries)
        _loaded.add(len(self._books) > 1)
        args = self._args(engine)
        copied = self._machine.grant_tables.copied_bytes(self._domids[1])
        outcome = kernel.MADE
        try:
            while outcome == kernel.MADE and state[kernel.READY] and state[kernel.STEPS] < most:
                if loop.interrupted:
                    break
                outcome = make(min(_CALL, most - state[kernel.STEPS]), *args)
        finally:
            self._close(ready, copied)
        if outcome in (kernel.FRONT_STOPS, kernel.BACK_STOPS):
            code = self._codes[(state[kernel.HEAD] - 1) % kernel.LOOP]
            front, back = self._ends.queues[code // kernel.KINDS]
            (front if outcome == kernel.FRONT_STOPS else back).fail()
        return state[kernel.STEPS]

    def _args(self, engine: Engine) -> tuple[Any, ...]:
        """The arguments of the kernel behind the first."""
        view, ends, tables = engine.view, self._ends, self._machine.grant_tables
        copy_args = tables.copy_args
        fronts, backs = [], []
        at = ends.queues[0][0].tx.batch.for_kernels(view)[:2]
        for front, back in ends.queues:
            tx, batch = front.tx, front.tx.batch
            ring, buffers, grants, (_, _, *columns), *rest, state, res = tx.put_args
            frames = (*at, *columns)
            put_args = ring, buffers, grants, frames, *rest, state, res
            own = ring, frames, view(batch.timestamp), state, res
            fronts.append((*own, put_args, tx.take_args))
            taker = back.tx
            assert isinstance(taker, TxPass)
            ring, _, ops, _, res = taker.put_args
            fixed = taker.take_args, copy_args, taker.put_args, taker.judge_args
            backs.append((ring, ops, res, back.hv.domid, *fixed))
        numbered = ends.source.numbered_by(engine)
        middle: tuple[Any, ...]
        if ends.middle is None:
            _, frames, timestamp, *_ = fronts[0]
            nothing = view(array("I", (0,)))
            unused = (view(array("q", (0,))), view(array("B", (0,))), nothing, nothing)
            middle = frames, timestamp, nothing, (nothing, nothing), unused
        else:
            middle = ends.middle.for_kernels
        of_flows, *by_flow = (view(array("I", bytes(4 * numbered.flows))) for _ in range(4))
        steering = (*middle[2:], of_flows, (*numbered.kind, *by_flow))
        port = (view(self._port), numbered.args, *middle[:2], steering)
        loop = (view(self._codes), view(self._idents), view(self._state))
        log = ends.queues[0][0].tx.log.silent
        # What is chosen by queue: kept here, for kernels may know it by its address.
        self._by_queue = (list(map(view, self._books)), fronts, backs)
        return log, loop, *map(engine.each, self._by_queue), port

    def _open(self, ready: Sequence[tuple[int, Delivery]]) -> None:
        """Fill the books."""
        state, ends = self._state, self._ends
        state[kernel.READY], state[kernel.IDENT] = len(ready), self._machine.run_loop.last_ident
        if self._slices is not None:
            state[kernel.SLICED] = 1
            state[kernel.BURST_LEFT], state[kernel.SLICE_LEFT] = self._slices.left
        for at, (code, delivery) in enumerate(ready):
            self._codes[at], self._idents[at] = code, delivery.ident
            queue, kind = divmod(code, kernel.KINDS)
            self._books[queue][kernel.DUE + kind] = kernel.DUE_FROM_BEGINNING
        for queue, ((front, back), books) in enumerate(zip(ends.queues, self._books, strict=True)):
            books[kernel.QUEUE] = queue
            books[kernel.WORK] = back.wanted
            books[kernel.FRONT_SEEN] = front.tx_eoi.seen
            books[kernel.BACK_SEEN] = back.tx_eoi.seen
            books[kernel.NEXT], books[kernel.FRAMES] = front.tx.next, front.tx.batch.count
            books[kernel.USED] = front.tx.batch.used
            books[kernel.BACK_FRAMES] = back.tx.batch.count
            books[kernel.BACK_USED] = back.tx.batch.used
        port, source, middle = self._port, ends.source, ends.middle
        port[kernel.GIVEN], port[kernel.LEFT] = source.given, (source.expected or 0) - source.given
        port[kernel.NUMBER_OF_QUEUES] = len(ends.queues)
        if middle is not None:
            port[kernel.COUNT], port[kernel.WAITING] = middle.batch.count, middle.left
            port[kernel.FIRST] = -1
            for queue, hungry in enumerate(middle.hungry):
                port[kernel.HUNGRY + queue] = hungry

    def _close(self, begun: Sequence[tuple[int, Delivery]], copied: int) -> None:
        """Put what the books say into place; ``begun``: what was ready before; ``copied``: bytes
        that the backend's domain had copied before."""
        ends, port = self._ends, self._port
        numbered = ends.source.numbered_by(ends.engine)
        arrived = arrived_bytes = copies = 0
        for (front, back), books in zip(ends.queues, self._books, strict=True):
            _put_queue(front, back, books)
            _count(front, back, books)
            if ends.middle is not None:
                numbered.put_again(front.tx.batch)
            arrived += books[kernel.ARRIVED]
            arrived_bytes += books[kernel.ARRIVED_BYTES]
            copies += books[kernel.COPIES]
        if (middle := ends.middle) is None:
            ends.source.given = port[kernel.GIVEN]
        else:
            if port[kernel.FIRST] >= 0:
                ends.source.given = port[kernel.FIRST]
                middle.fill_again()
            middle.left = port[kernel.WAITING]
            middle.hungry = [
                bool(port[kernel.HUNGRY + queue]) for queue, _ in enumerate(self._books)
            ]
        ends.sink.counters.frames_out += arrived
        ends.sink.counters.bytes_out += arrived_bytes
        tables = self._machine.grant_tables
        tables.statistics.copies += copies
        tables.statistics.copied_bytes += tables.copied_bytes(self._domids[1]) - copied
        self._put_back(begun)

    def _put_back(self, begun: Sequence[tuple[int, Delivery]]) -> None:
        """Make those deliveries ready that the books have, in their order, and write the bits of
        events."""
        state, loop = self._state, self._machine.run_loop
        head = state[kernel.HEAD]
        gone = [each for code, each in begun if self._due(code) != kernel.DUE_FROM_BEGINNING]
        last = map(self._delivery, range(max(0, head - _RECENT), head))
        loop.made(state[kernel.STEPS], gone, last, state[kernel.IDENT])
        if self._slices is not None:
            guest, _ = self._domids
            self._slices.made(guest, state[kernel.BURST_LEFT], state[kernel.SLICE_LEFT])
        ready = range(head, head + state[kernel.READY])
        for at in ready:
            if self._due(self._codes[at % kernel.LOOP]) == kernel.DUE_ANEW:
                loop.ready_again(*self._delivery(at))
        for event in (FRONT_EVENT, BACK_EVENT):
            self._replay(event, [self._codes[at % kernel.LOOP] for at in ready])

    def _replay(self, event: int, codes: Sequence[int]) -> None:
        """Write the bits of the events to the frontends, or to the backends; ``codes``: what is
        ready."""
        side = event - FRONT_EVENT
        ports = [ends[side].tx_port for ends in self._ends.queues]
        chain = self._state[kernel.CHAIN + side * kernel.CHAIN_STATE :]
        pending = [ports[code // kernel.KINDS] for code in codes if code % kernel.KINDS == event]
        notified = [
            port
            for port, books in zip(ports, self._books, strict=True)
            if books[kernel.NOTIFIED + event]
        ]
        if notified:
            last = ports[chain[kernel.C_FIRST]], ports[chain[kernel.C_LAST]]
            sent = [ports[queue] for queue in chain[kernel.C_QUEUES :][: chain[kernel.C_SENT]]]
            replay = self._machine.channels.replay
            replay(self._domids[side], notified, pending, last, sent)

    def _due(self, code: int) -> int:
        """Whether the delivery is ready now, and was before."""
        queue, kind = divmod(code, kernel.KINDS)
        return self._books[queue][kernel.DUE + kind]

    def _delivery(self, at: int) -> tuple[Delivery, Call]:
        """A delivery of the kernel, with what is called to make it."""
        queue, kind = divmod(self._codes[at % kernel.LOOP], kernel.KINDS)
        front, back = self._ends.queues[queue]
        end: FrontQueue | BackQueue = front if kind in (FRONT_WORK, FRONT_EVENT) else back
        if kind in (FRONT_WORK, BACK_WORK):
            return Delivery("work", end.hv.domid, self._idents[at % kernel.LOOP]), end.work
        return self._machine.upcall(end.hv.domid, end.tx_port)


def _put_queue(front: FrontQueue, back: BackQueue, books: array[int]) -> None:
    """Tell both drivers what is ready, what they have heard, and what is in their batches."""
    front.scheduled = bool(books[kernel.DUE + FRONT_WORK])
    back.scheduled = bool(books[kernel.DUE + BACK_WORK])
    back.wanted = books[kernel.WORK]
    for eoi, seen in ((front.tx_eoi, kernel.FRONT_SEEN), (back.tx_eoi, kernel.BACK_SEEN)):
        if books[seen] != eoi.seen:
            eoi.seen, eoi.spurious_cnt = books[seen], 0
    sent, arrived = front.tx.batch, back.tx.batch
    front.tx.next = books[kernel.NEXT]
    sent.count, sent.used = books[kernel.FRAMES], books[kernel.USED]
    arrived.count, arrived.used = books[kernel.BACK_FRAMES], books[kernel.BACK_USED]


def _count(front: FrontQueue, back: BackQueue, books: array[int]) -> None:
    """Add to the counters of both drivers what the books have."""
    ours, slots = front.counters.tx, books[kernel.SENT_SLOTS]
    ours.packets += books[kernel.SENT]
    ours.bytes += books[kernel.SENT_BYTES]
    ours.slots += slots
    ours.requests += slots
    ours.grants += (slots - books[kernel.SENT_EXTRAS]) * front.grants
    ours.responses += books[kernel.RESPONSES]
    ours.errors += books[kernel.REFUSED] + books[kernel.UNSENDABLE]
    ours.notified += books[kernel.NOTIFIED + BACK_EVENT]
    ours.avoided += books[kernel.AVOIDED + BACK_EVENT]
    theirs, slots = back.counters.tx, books[kernel.ARRIVED_SLOTS]
    theirs.packets += books[kernel.ARRIVED]
    theirs.bytes += books[kernel.ARRIVED_BYTES]
    theirs.slots += slots
    theirs.requests += slots
    theirs.responses += slots
    theirs.errors += books[kernel.ERRORS]
    theirs.notified += books[kernel.NOTIFIED + FRONT_EVENT]
    theirs.avoided += books[kernel.AVOIDED + FRONT_EVENT]
    back.counters.csum_fixup += books[kernel.CSUM_FIXUP]
    back.counters.bad_csum += books[kernel.BAD_CSUM]
