"""What both drivers do after they have published an index: count it, and notify if it is needed."""

from __future__ import annotations

from xennet.interface import Hypervisor
from xennet.observe import Notification
from xennet.vif.counters import RingCounters


class Announcer:
    """Announces the pushes of one end of ``ring`` ("tx", "rx") through ``port``.

    Each is counted in ``counters`` and shown to observers.
    """

    def __init__(self, hv: Hypervisor, port: int, ring: str, counters: RingCounters) -> None:
        self._hv = hv
        self._port = port
        self._ring = ring
        self._counters = counters
        self._interest = hv.interest(Notification)

    def announce(self, notify: int) -> None:
        """Send an event if ``notify``, what the kernel that published the index returned."""
        if notify:
            self._counters.notified += 1
        else:
            self._counters.avoided += 1
        if self._interest.any:
            self._hv.emit(Notification(self._hv.domid, self._ring, notify != 0))
        if notify:
            self._hv.notify(self._port)
