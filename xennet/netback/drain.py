"""Packets for a guest that posts no buffers: they expire, and then the queue stalls.

Linux xen-netback (rx.c) keeps a packet for 10 s, or for 30 ms if the frontend has not promised to
notify when it posts buffers (feature-rx-notify): then the backend looks by itself. A queue that
makes no progress for 60 s while fewer buffers are posted than its next packet needs has stalled.
The vif loses its carrier, and packets are dropped as they come, until that many buffers are posted.
The number of slots that are *needed* is the measure, because a frontend that keeps one slot free
would otherwise never be found out (XSA-392, hardening rule F18).

Two differences: the 60 s begin when buffers are too few, not with the last packet; and a stalled
queue remembers how many buffers it needs, where Linux is content with any number once its queue is
empty.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.interface import Hypervisor
from xennet.ring import MASK32, BackRing, memory_barrier


class Carrier:
    """Whether packets can flow through a vif. ``on_change()`` is called at every change.

    ``disabled``: the frontend broke the protocol (until it connects again). ``stalled``: the number
    of queues that have stalled; one is enough to lose the carrier.
    """

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self._on_change = on_change
        self._connected = False
        self.disabled = False
        self.stalled = 0
        self.up = False

    def __repr__(self) -> str:
        return f"<Carrier {'on' if self.up else 'off'}>"

    def connect(self) -> None:
        """Give the carrier: all queues are connected, earlier faults are forgotten."""
        self._connected, self.disabled, self.stalled = True, False, 0
        self._update()

    def disconnect(self) -> None:
        """Take the carrier: the queues go."""
        self._connected = False
        self._update()

    def disable(self) -> None:
        """Take the carrier until the next connect: the frontend broke the protocol."""
        self.disabled = True
        self._update()

    def stall(self, queues: int) -> None:
        """Count ``queues`` more (1) or less (-1) that have stalled."""
        self.stalled += queues
        self._update()

    def _update(self) -> None:
        up = self._connected and not self.disabled and not self.stalled
        if up != self.up:
            self.up = up
            self._on_change(up)


class Patience:
    """The timers of one queue whose packets wait for buffers.

    ``drain`` and ``stall``: timeouts in ns, 0 = never. ``wake()`` is called when a timeout has
    passed. ``whose``: the queue's name. While buffers suffice, only :meth:`refilled` and
    :meth:`progressed` are called.
    """

    def __init__(
        self, hv: Hypervisor, drain: int, stall: int, wake: Callable[[], None], whose: str
    ) -> None:
        self.delivery_name = f"netback rx-stall timer {whose}"
        self._hv = hv
        self._drain = drain
        self._stall = stall
        self._wake = wake
        self._cancel: Callable[[], None] | None = None
        self._waiting_since = -1
        self._lacking_since = -1

    def refilled(self) -> None:
        """New packets have come: their time begins when buffers are too few."""
        self._waiting_since = -1

    def progressed(self) -> None:
        """Buffers were used."""
        self._lacking_since = -1

    def lack(self) -> tuple[bool, bool]:
        """There are too few buffers. Returns (whether the packets have expired, whether the queue
        has stalled).

        If neither is so, ``wake`` will be called in time.
        """
        now = self._hv.now
        if self._waiting_since < 0:
            self._waiting_since = now
        if self._lacking_since < 0:
            self._lacking_since = now
        due = [
            since + timeout
            for since, timeout in (
                (self._waiting_since, self._drain),
                (self._lacking_since, self._stall),
            )
            if timeout
        ]
        expired = bool(self._drain) and now >= self._waiting_since + self._drain
        stalled = bool(self._stall) and now >= self._lacking_since + self._stall
        if due and not (expired or stalled) and self._cancel is None:
            # A timer that runs already is not due later than that.
            self._cancel = self._hv.call_after(min(due) - now, self._ring)
        return expired, stalled

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    def _ring(self) -> None:
        self._cancel = None
        self._wake()


def await_slots(ring: BackRing, needed: int) -> bool:
    """Whether ``needed`` requests are posted. If not, an event is asked for with the next one.

    Also True if requests came in between: the caller has to look again
    (xenvif_rx_ring_slots_available).
    """
    shared = ring.sring
    prod = shared.req_prod
    if (prod - ring.req_cons) & MASK32 >= needed:
        return True
    shared.req_event = prod + 1
    memory_barrier()
    return shared.req_prod != prod
