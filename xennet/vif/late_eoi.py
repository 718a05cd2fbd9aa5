"""Event channels that bring nothing are unmasked late: Linux's answer to storms of events.

A driver of Linux tells the event channel code when it is done with an event (xen_irq_lateeoi), and
whether the event was in vain (XEN_EOI_FLAG_SPURIOUS). The port stays masked until then, so an event
that comes meanwhile is pending and delivered afterwards: nothing is lost, but a peer that sends
events without reason gets one looked at after a jiffy, then after two, four ... up to a second
(XSA-332 for backends, XSA-391 for frontends; hardening rules F19 and B18).

An event is spurious here if the peer has published nothing since the last one. (Linux also counts
one whose work was found before it came; a driver that polls would be slowed down by those.)

One difference: here the delay grows until an event brings something. In Linux 6.1 the end of a
delay is itself an EOI that is not spurious: the count begins anew, and no delay gets past a jiffy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from xennet.interface import HypercallError, Hypervisor

#: Jiffies in a second, and how long one is in ns (CONFIG_HZ of distributions' kernels).
HZ = 250
JIFFY = 1_000_000_000 // HZ
#: So many spurious events in a row are forgiven (a xenbus device's spurious_threshold).
SPURIOUS_THRESHOLD = 1


class EventCounters(Protocol):
    """As the attributes of a xenbus device in sysfs: ``spurious`` events, and for how many jiffies
    in all the next one was held back because of them."""

    spurious: int
    jiffies_eoi_delayed: int


class LateEoi:
    """The end of an event at ``port``. ``seen``: what had been published when the port was bound.

    ``delays`` False: spurious events are counted and nothing else, as by drivers other than
    Linux's. ``spurious_cnt``: how many have come in a row, as long as it makes a difference.
    """

    __slots__ = ("_cancel", "_counters", "_delays", "_hv", "_port", "_seen", "spurious_cnt")

    def __init__(
        self,
        hv: Hypervisor,
        port: int,
        counters: EventCounters,
        *,
        seen: int = 0,
        delays: bool = True,
    ) -> None:
        self._hv = hv
        self._port = port
        self._counters = counters
        self._seen = seen
        self._delays = delays
        self._cancel: Callable[[], None] | None = None
        self.spurious_cnt = 0

    def heard(self, published: int) -> None:
        """An event came; ``published`` is the peer's index, or both of them in one number."""
        if published != self._seen:
            self._seen = published
            self.spurious_cnt = 0
        else:
            self._spurious()

    @property
    def delayed(self) -> bool:
        """Whether the next event is held back just now."""
        return self._cancel is not None

    def cancel(self) -> None:
        """End a delay without looking at what it held back: the port is about to be closed."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _spurious(self) -> None:
        self._counters.spurious += 1
        if not self._delays:
            return
        if 1 << self.spurious_cnt < HZ << 2:
            self.spurious_cnt += 1
        beyond = self.spurious_cnt - SPURIOUS_THRESHOLD
        if beyond > 0:
            delay = min(1 << beyond - 1, HZ)
            self._counters.jiffies_eoi_delayed += delay
            self._hv.mask(self._port)
            self._cancel = self._hv.call_after(delay * JIFFY, self._unmask)

    def _unmask(self) -> None:
        self._cancel = None
        # A suspend has taken the port meanwhile.
        with suppress(HypercallError):
            self._hv.unmask(self._port)
