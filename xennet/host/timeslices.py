"""The order of deliveries in a machine of many guests: time slices, as a scheduler gives them.

Oldest first is fair, but then every guest touches its rings and buffers once before any does so
again, and with many guests all of them come from far memory each time. Here domain 0 has a CPU of
its own and the guests share another, each for a slice at a time, as they would on a Xen host; what
a guest and the backend pass to each other is then still in the cache when it is looked at.
"""

from __future__ import annotations

from collections import OrderedDict

from xennet.runloop import Delivery

HOST = 0
#: Deliveries of one guest before the next has its turn: some eight full rings there and back.
SLICE = 32
#: Deliveries of domain 0 in a row while a guest waits. It answers what the guest did in fewer.
BURST = 16


class TimeSlices:
    """The deliveries that are ready, by domain; :meth:`next` takes the next one.

    Within a domain the order is oldest first. No domain waits for ever: each of the others makes at
    most SLICE deliveries, and domain 0 BURST between any two of those, before its turn comes.
    """

    def __init__(self) -> None:
        self._host: OrderedDict[Delivery, None] = OrderedDict()
        #: Guests with something ready, in the order of their turns; the first is on the CPU.
        self._guests: OrderedDict[int, OrderedDict[Delivery, None]] = OrderedDict()
        self._burst = BURST
        self._running = HOST
        self._left = 0

    def add(self, delivery: Delivery) -> None:
        """Add a delivery that became ready."""
        domid = delivery.domid
        if domid == HOST:
            self._host[delivery] = None
        elif (queue := self._guests.get(domid)) is not None:
            queue[delivery] = None
        else:
            self._guests[domid] = OrderedDict({delivery: None})
            if domid == self._running and self._left:
                # Its slice is not over: it only waited for an answer.
                self._guests.move_to_end(domid, last=False)

    def remove(self, delivery: Delivery) -> None:
        """Remove a delivery that was made by choice, or taken back."""
        if delivery.domid == HOST:
            del self._host[delivery]
            return
        queue = self._guests[delivery.domid]
        del queue[delivery]
        if not queue:
            del self._guests[delivery.domid]

    def next(self) -> Delivery:
        """Take the next delivery out. Raises KeyError when nothing is ready."""
        if self._host and (self._burst or not self._guests):
            self._burst -= self._burst > 0
            return self._host.popitem(last=False)[0]
        self._burst = BURST
        domid, queue = next(iter(self._guests.items()))
        if domid != self._running:
            self._running, self._left = domid, SLICE
        self._left -= 1
        delivery, _ = queue.popitem(last=False)
        if not queue:
            del self._guests[domid]
        if not self._left:
            self._running = HOST
            if queue:
                self._guests.move_to_end(domid)
        return delivery

    # -- parts of a slice that are made elsewhere (xennet.link.joined) -----------------------------

    @property
    def guest(self) -> int:
        """The guest whose turn it is. If none has anything ready, that which waits for an answer in
        its slice; HOST if there is none."""
        return next(iter(self._guests), self._running)

    @property
    def left(self) -> tuple[int, int]:
        """How many deliveries domain 0 may make in a row, and :attr:`guest` in its slice."""
        return self._burst, self._left if self.guest == self._running else SLICE

    def ready(self) -> list[Delivery]:
        """What is ready in domain 0, and in :attr:`guest`."""
        return [*self._host, *self._guests.get(self.guest, ())]

    def made(self, guest: int, burst: int, left: int) -> None:
        """Note that ``guest``, whose turn it was, and domain 0 made deliveries elsewhere, after
        which so many are :attr:`left`. What was made is removed before, and what became ready is
        added afterwards."""
        self._burst = burst
        if left == SLICE:
            return  # domain 0 alone made any
        self._running, self._left = guest if left else HOST, left
        if not left and guest in self._guests:
            self._guests.move_to_end(guest)
