"""What both drivers do after they published an index: count it, notify if the other end asked."""

from __future__ import annotations

from xennet.interface import Hypervisor
from xennet.observe import Notification
from xennet.vif.counters import RingCounters


def announce(hv: Hypervisor, port: int, ring: str, counters: RingCounters, notify: int) -> None:
    """``notify`` is what the kernel that published the index returned; ``ring`` its name."""
    sent = counters.pushed(notify)
    if hv.observes(Notification):
        hv.emit(Notification(hv.domid, ring, sent))
    if sent:
        hv.notify(port)
