"""The late end of an event (EOI): Linux's answer to storms of events.

A driver of Linux tells the event channel code when it is done with an event (xen_irq_lateeoi), and
whether the event was in vain (XEN_EOI_FLAG_SPURIOUS). The port stays masked until then, so an event
that comes meanwhile is pending and delivered afterwards: nothing is lost, but of a peer that sends
events without reason one is handled after a jiffy, the next after two, four ... up to a second
(XSA-332 for backends, XSA-391 for frontends; hardening rules F19 and B18).

An event is spurious here if the peer has published nothing since the last one. (Linux also counts
an event whose work was done before it came; that would slow down a driver that polls.)

One difference: here the delay grows until an event brings something. In Linux 6.1 the end of a
delay is itself an EOI that is not spurious: the count begins anew, and no delay exceeds a jiffy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from xennet.interface import HypercallError, Hypervisor

#: Jiffies in a second (CONFIG_HZ of distributions' kernels), and ns in a jiffy.
HZ = 250
JIFFY = 1_000_000_000 // HZ
#: Spurious events in a row that cause no delay (spurious_threshold of a xenbus device).
SPURIOUS_THRESHOLD = 1


class EventCounters(Protocol):
    """Counters like the attributes of a xenbus device in sysfs.

    ``spurious``: events that brought nothing. ``jiffies_eoi_delayed``: jiffies for which later
    events were held back because of them.
    """

    spurious: int
    jiffies_eoi_delayed: int


class LateEoi:
    """The end of the events of ``port``.

    ``seen``: what was published when the port was bound. ``delays`` False: spurious events are only
    counted, as by drivers other than Linux's. ``spurious_cnt``: how many have come in a row, as
    long as it makes a difference. ``name``: of whose events, for recordings.
    """

    __slots__ = (
        "_cancel",
        "_counters",
        "_delays",
        "_hv",
        "_port",
        "delivery_name",
        "seen",
        "spurious_cnt",
    )

    def __init__(
        self,
        hv: Hypervisor,
        port: int,
        counters: EventCounters,
        *,
        seen: int = 0,
        delays: bool = True,
        name: str = "",
    ) -> None:
        self._hv = hv
        self._port = port
        self._counters = counters
        self.seen = seen
        self._delays = delays
        self.delivery_name = f"{name} late EOI, port {port}"
        self._cancel: Callable[[], None] | None = None
        self.spurious_cnt = 0

    def __repr__(self) -> str:
        return f"<LateEoi port {self._port}, {self.spurious_cnt} spurious events in a row>"

    def heard(self, published: int) -> None:
        """Handle an event; ``published`` is the peer's index, or both of them in one number."""
        if published != self.seen:
            self.seen = published
            self.spurious_cnt = 0
        else:
            self._spurious()

    @property
    def delayed(self) -> bool:
        """Whether the next event is being held back."""
        return self._cancel is not None

    def cancel(self) -> None:
        """End a delay without unmasking the port, which is about to be closed."""
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
        # The port may have gone in a suspend.
        with suppress(HypercallError):
            self._hv.unmask(self._port)
