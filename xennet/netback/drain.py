"""What becomes of packets for a guest that posts no buffers: they expire, and then the link stalls.

Linux xen-netback (rx.c) gives a packet 10 s; a frontend that has not promised to notify when it
posts buffers (feature-rx-notify) gets 30 ms, after which the backend looks by itself. A queue that
makes no progress for 60 s while fewer buffers are posted than its next packet needs has stalled:
the vif loses its carrier, packets are dropped as they come, until that many buffers are there.
Judged against the slots that are *needed*, because a frontend that keeps one slot free would
otherwise never be found out (XSA-392, hardening rule F18).

Two differences: the 60 s count from when buffers began to lack, not from the last packet; and a
stalled queue remembers how many buffers it lacked, where Linux is content with any number once its
queue has run empty.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.interface import Hypervisor
from xennet.ring import MASK32, BackRing, memory_barrier


class Carrier:
    """Whether packets can flow through a vif; ``on_change`` hears of every change.

    ``disabled``: the frontend broke the protocol (until it reconnects). ``stalled``: how many
    queues have stalled; one is enough to lose the carrier.
    """

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self._on_change = on_change
        self._connected = False
        self.disabled = False
        self.stalled = 0
        self.up = False

    def connect(self) -> None:
        """All queues are connected: whatever was wrong before is forgotten."""
        self._connected, self.disabled, self.stalled = True, False, 0
        self._update()

    def disconnect(self) -> None:
        """The queues go."""
        self._connected = False
        self._update()

    def disable(self) -> None:
        """The frontend broke the protocol."""
        self.disabled = True
        self._update()

    def stall(self, queues: int) -> None:
        """``queues`` more (1) or less (-1) have stalled."""
        self.stalled += queues
        self._update()

    def _update(self) -> None:
        up = self._connected and not self.disabled and not self.stalled
        if up != self.up:
            self.up = up
            self._on_change(up)


class Patience:
    """The clock of one queue whose packets wait for buffers.

    ``drain`` and ``stall``: timeouts in ns, 0 = never. ``wake`` is called when the time has come to
    look again. Costs nothing while buffers suffice but :meth:`refilled` and :meth:`progressed`.
    """

    def __init__(self, hv: Hypervisor, drain: int, stall: int, wake: Callable[[], None]) -> None:
        self._hv = hv
        self._drain = drain
        self._stall = stall
        self._wake = wake
        self._cancel: Callable[[], None] | None = None
        self._waiting_since = -1
        self._lacking_since = -1

    def refilled(self) -> None:
        """New packets: their time has not begun."""
        self._waiting_since = -1

    def progressed(self) -> None:
        """Buffers were used."""
        self._lacking_since = -1

    def lack(self) -> tuple[bool, bool]:
        """There are too few buffers now: (whether the packets have expired, the queue stalled).

        If neither, ``wake`` will be called in time.
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
            # One that is pending already runs out no later.
            self._cancel = self._hv.call_after(min(due) - now, self._ring)
        return expired, stalled

    def cancel(self) -> None:
        """Forget the timer."""
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    def _ring(self) -> None:
        self._cancel = None
        self._wake()


def await_slots(ring: BackRing, needed: int) -> bool:
    """Whether ``needed`` requests are posted; if not, an event was asked for with the next one.

    True as well when requests came meanwhile: look again (xenvif_rx_ring_slots_available).
    """
    shared = ring.sring
    prod = shared.req_prod
    if (prod - ring.req_cons) & MASK32 >= needed:
        return True
    shared.req_event = prod + 1
    memory_barrier()
    return shared.req_prod != prod
