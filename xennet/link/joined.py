"""Many passes of a vif in one call, where nobody could tell the difference.

Compiled, a pass over a ring takes a few microseconds, and the Python around it ten times as much.
Where a link has one vif that only sends, both ends are xennet's, and nobody observes or chooses, a
kernel (:mod:`xennet.link.joined_kernel`) makes the deliveries in place of the run loop. What is
there afterwards is what the run loop would have left: memory, counters, notifications, the order of
frames, the deliveries that are ready, their numbers. Whatever is not like that, and every delivery
that turns out not to be, is left to the run loop.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from xennet.engine.choice import Engine
from xennet.host.domains import PluggedVif
from xennet.hypervisor import Machine
from xennet.link import joined_kernel as kernel
from xennet.link.joined_kernel import BACK_EVENT, BACK_WORK, FRONT_EVENT, FRONT_WORK
from xennet.link.vif_interfaces import InterfaceHold
from xennet.netback.queue import Queue as BackQueue
from xennet.netback.tx_pass import TxPass
from xennet.netfront.queue import Queue as FrontQueue
from xennet.observe import EventDelivered, EventSent, Hypercall, Notification
from xennet.port.base import BasePort, only_counts
from xennet.port.gen import GenPort
from xennet.runloop import Call, Delivery
from xennet.vif.ring_events import RingEvent

#: Deliveries before it is tried (again). It is odd: passes are made of four, and at some of them no
#: event is under way.
EVERY = 33
#: The engines for whose kernels passes are joined.
COMPILED = {"fast"}
#: Frames from which on it pays to load the kernel, and to use it when it is loaded.
MANY = 1 << 18
FEW = 1 << 12
#: Deliveries of one call, in which no signal is handled: some hundredths of a second.
_CALL = 16384
#: Deliveries that a run loop remembers.
_RECENT = 16
#: Events of a machine that would be missed.
_OBSERVED = (RingEvent, Notification, EventSent, EventDelivered, Hypercall)
#: Names of engines that have the kernel.
_loaded: set[str] = set()


@frozen
class _Ends:
    """The drivers' queues, and the ports behind them."""

    front: FrontQueue
    back: BackQueue
    tx: TxPass
    source: GenPort
    sink: BasePort


class JoinedPasses:
    """The passes of ``vif``, which joins the ends ``guest`` and ``host``. ``most``: deliveries of a
    turn; ``joined`` counts those that were made in all turns."""

    def __init__(
        self,
        machine: Machine,
        vif: PluggedVif,
        guest: InterfaceHold,
        host: InterfaceHold,
        most: int = sys.maxsize,
    ) -> None:
        self._machine = machine
        self.most = most
        self._vif = vif
        self._guest, self._host = guest, host
        self.joined = 0

    @property
    def worthwhile(self) -> bool:
        """Whether there are many frames to come, of a port whose frames a kernel can make, for one
        that only counts them."""
        source = self._guest.endpoint
        if not isinstance(source, GenPort) or not only_counts(self._host.endpoint):
            return False
        return (source.expected or 0) - source.given >= (FEW if _loaded else MANY)

    def turn(self) -> None:
        """Make as many deliveries as there are of the kind. Called between deliveries."""
        ends = self._ends()
        if ends is not None and self._alone(ends):
            codes = self._codes(ends)
            if codes is not None:
                self.joined += _Turn(self._machine, ends).run(codes, self.most)

    def _ends(self) -> _Ends | None:
        """Both ends, if they can do nothing but send and take."""
        netfront, netback = self._vif.netfront, self._vif.netback
        source, sink = self._guest.endpoint, self._host.endpoint
        if netfront is None or netback is None or not self.worthwhile:
            return None
        fronts, backs = netfront.queues, netback.queues
        if len(fronts) != 1 or len(backs) != 1:
            return None
        front, back = fronts[0], backs[0]
        if not (front.only_sends and back.only_takes) or back.host is not self._host:
            return None
        tx = back.tx
        assert isinstance(source, GenPort)
        assert isinstance(sink, BasePort)
        if (
            front.guest is not self._guest
            or vars(self._guest).get("pull") != source.pull
            or vars(self._host).get("push") != sink.push
            or not isinstance(tx, TxPass)
            or front.tx.engine is not tx.engine
            or tx.engine.name not in COMPILED
        ):
            return None
        return _Ends(front, back, tx, source, sink)

    def _alone(self, ends: _Ends) -> bool:
        """Whether nobody sees what happens meanwhile, and events leave no trace."""
        machine, front, back = self._machine, ends.front, ends.back
        at_guest = (front.hv.domid, front.tx_port)
        at_host = (back.hv.domid, back.tx_port)
        return (
            machine.run_loop.plain
            and not any(map(machine.observers.wants, _OBSERVED))
            and machine.channels.settled(*at_guest) == at_host
            and machine.channels.settled(*at_host) == at_guest
            and machine.handles(*at_guest, front.tx_handler)
            and machine.handles(*at_host, back.tx_handler)
        )

    def _codes(self, ends: _Ends) -> list[tuple[int, int]] | None:
        """Code and number of each delivery that is ready; None if there are others than work of the
        two queues."""
        front, back = ends.front, ends.back
        codes = []
        for delivery, call in self._machine.run_loop.calls().items():
            if delivery.domid == front.hv.domid and call == front.work:
                codes.append((FRONT_WORK, delivery.ident))
            elif delivery.domid == back.hv.domid and call == back.work:
                codes.append((BACK_WORK, delivery.ident))
            else:
                return None
        return codes


class _Turn:
    """One turn: the books are filled, the kernel runs, and what they say is put into place."""

    def __init__(self, machine: Machine, ends: _Ends) -> None:
        self._machine = machine
        self._ends = ends
        self._books = array("q", bytes(8 * kernel.BOOKS))
        self._loop = array("I", bytes(4 * kernel.LOOP)), array("q", bytes(8 * kernel.LOOP))

    def run(self, ready: Iterable[tuple[int, int]], most: int) -> int:
        """Make at most ``most`` deliveries, as long as they are of the kind; ``ready``: codes and
        numbers. Returns how many were made."""
        books, ends = self._books, self._ends
        self._open(ready)
        engine = ends.tx.engine
        make = engine.kernel(kernel.run_deliveries)
        _loaded.add(engine.name)
        args = self._args(engine)
        copied = self._machine.grant_tables.copied_bytes(ends.back.hv.domid)
        outcome = kernel.MADE
        try:
            while outcome == kernel.MADE and books[kernel.READY] and books[kernel.STEPS] < most:
                outcome = make(min(_CALL, most - books[kernel.STEPS]), *args)
        finally:
            self._close(copied)
        if outcome == kernel.FRONT_STOPS:
            ends.front.fail()
        elif outcome == kernel.BACK_STOPS:
            ends.back.fail()
        return books[kernel.STEPS]

    def _args(self, engine: Engine) -> tuple[Any, ...]:
        """The arguments of the kernel behind the first."""
        view, ends, tables = engine.view, self._ends, self._machine.grant_tables
        front, tx = ends.front.tx, ends.tx
        numbered = ends.source.numbered_by(engine)
        ring, _, _, frames, _, _, state, res = front.put_args
        timestamp = view(front.batch.timestamp)
        sends = ring, frames, timestamp, state, res, front.put_args, front.take_args
        back_ring, _, ops, _, back_res = tx.put_args
        caller = ends.back.hv.domid
        copy_args = tables.copy_args
        fixed = tx.take_args, copy_args, tx.put_args, tx.judge_args
        takes = back_ring, ops, back_res, caller, *fixed
        loop = tuple(map(view, self._loop))
        return front.log.silent, view(self._books), loop, sends, takes, numbered.args

    def _open(self, ready: Iterable[tuple[int, int]]) -> None:
        """Fill the books."""
        books, (codes, idents), ends = self._books, self._loop, self._ends
        for code, ident in ready:
            at = books[kernel.READY]
            codes[at], idents[at] = code, ident
            books[kernel.DUE + code] = 1
            books[kernel.READY] += 1
        front, back, source = ends.front, ends.back, ends.source
        books[kernel.IDENT] = self._machine.run_loop.last_ident
        books[kernel.WORK] = back.wanted
        books[kernel.FRONT_SEEN] = front.tx_eoi.seen
        books[kernel.BACK_SEEN] = back.tx_eoi.seen
        books[kernel.NEXT], books[kernel.FRAMES] = front.tx.next, front.tx.batch.count
        books[kernel.USED] = front.tx.batch.used
        books[kernel.SIZE], books[kernel.GIVEN] = source.size, source.given
        books[kernel.LEFT] = (source.expected or 0) - source.given
        books[kernel.BACK_FRAMES] = ends.tx.batch.count
        books[kernel.BACK_USED] = ends.tx.batch.used

    def _close(self, copied: int) -> None:
        """Put what the books say into place; ``copied``: bytes that the backend's domain had copied
        before."""
        books, ends, tables = self._books, self._ends, self._machine.grant_tables
        front, back = ends.front, ends.back
        front.scheduled = bool(books[kernel.DUE + FRONT_WORK])
        back.scheduled = bool(books[kernel.DUE + BACK_WORK])
        back.wanted = books[kernel.WORK]
        for eoi, seen in ((front.tx_eoi, kernel.FRONT_SEEN), (back.tx_eoi, kernel.BACK_SEEN)):
            if books[seen] != eoi.seen:
                eoi.seen, eoi.spurious_cnt = books[seen], 0
        sent, arrived = front.tx.batch, ends.tx.batch
        front.tx.next = books[kernel.NEXT]
        sent.count, sent.used = books[kernel.FRAMES], books[kernel.USED]
        arrived.count, arrived.used = books[kernel.BACK_FRAMES], books[kernel.BACK_USED]
        ends.source.given = books[kernel.GIVEN]
        ends.sink.counters.frames_out += books[kernel.ARRIVED]
        ends.sink.counters.bytes_out += books[kernel.ARRIVED_BYTES]
        domid = back.hv.domid
        tables.statistics.copies += books[kernel.COPIES]
        tables.statistics.copied_bytes += tables.copied_bytes(domid) - copied
        self._count()
        self._put_back()

    def _count(self) -> None:
        """Add to the counters of both drivers what the books have."""
        books, front, back = self._books, self._ends.front, self._ends.back
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

    def _put_back(self) -> None:
        """Make those deliveries ready that the books have, in their order."""
        books, machine, head = self._books, self._machine, self._books[kernel.HEAD]
        loop = machine.run_loop
        last = map(self._delivery, range(max(0, head - _RECENT), head))
        loop.made(books[kernel.STEPS], last, books[kernel.IDENT])
        for at in range(head, head + books[kernel.READY]):
            delivery, call = self._delivery(at)
            if self._loop[0][at % kernel.LOOP] in (FRONT_EVENT, BACK_EVENT):
                machine.channels.pend(delivery.domid, delivery.ident)
            else:
                loop.ready_again(delivery, call)

    def _delivery(self, at: int) -> tuple[Delivery, Call]:
        """A delivery of the kernel, with what is called to make it."""
        codes, idents = self._loop
        front, back = self._ends.front, self._ends.back
        code, ident = codes[at % kernel.LOOP], idents[at % kernel.LOOP]
        queue = front if code in (FRONT_WORK, FRONT_EVENT) else back
        if code in (FRONT_WORK, BACK_WORK):
            return Delivery("work", queue.hv.domid, ident), queue.work
        return self._machine.upcall(queue.hv.domid, queue.tx_port)
