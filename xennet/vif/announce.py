"""What both drivers do after they have published an index: count it, and notify if it is needed."""

from __future__ import annotations

from xennet.interface import Hypervisor
from xennet.observe import Notification
from xennet.vif.counters import RingCounters


def announce(hv: Hypervisor, port: int, ring: str, counters: RingCounters, notify: int) -> None:
    """Count a push on ``ring`` ("tx", "rx"), show it to observers, and send an event if ``notify``.

    ``notify`` is what the kernel that published the index returned.
    """
    sent = counters.pushed(notify)
    if hv.observes(Notification):
        hv.emit(Notification(hv.domid, ring, sent))
    if sent:
        hv.notify(port)
