"""The rate limit of a guest's transmit side: credit in bytes, replenished once per period.

The rules are those of Linux xen-netback (xen_net_read_rate, tx_add_credit, tx_credit_exceeded,
xen_net_rate_changed), with a clock of nanoseconds in place of jiffies. The kernels charge each
packet with the size in its first request; they may take :attr:`Credit.remaining`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import field, frozen

from xennet.interface import Hypervisor
from xennet.netback.guest_tx import UNLIMITED

#: Least upper bound of credit in bytes, for low rates: a packet that no credit covers would block
#: the ring for ever.
MIN_BURST = 131072

_RATE = re.compile(rb"([0-9]{1,20}),([0-9]{1,20})")


@frozen
class Rate:
    """A rate: ``bytes`` in each period of ``usec`` microseconds. If one of them is 0 there is no
    limit."""

    bytes: int = 0
    usec: int = 0
    #: Whether there is a limit.
    limits: bool = field(init=False, eq=False, repr=False)

    @limits.default
    def _limits(self) -> bool:
        return self.bytes > 0 and self.usec > 0


NO_LIMIT = Rate()


def parse_rate(value: bytes) -> Rate:
    """The rate in a node ``rate`` ("bytes,usec", decimal). Anything else is no limit, as in Linux.

    Linux takes "0,n" literally and never forwards a packet; here it is no limit.
    """
    match = _RATE.fullmatch(value)
    rate = Rate(int(match[1]), int(match[2])) if match else NO_LIMIT
    return rate if rate.limits else NO_LIMIT


class Credit:
    """The credit of one queue.

    ``remaining``: bytes that may be taken now. ``resume()`` is called when a timer has added
    credit. ``whose``: the queue's name.
    """

    def __init__(self, hv: Hypervisor, rate: Rate, resume: Callable[[], None], whose: str) -> None:
        self.delivery_name = f"netback tx-credit timer {whose}"
        self._hv = hv
        self._resume = resume
        self._cancel: Callable[[], None] | None = None
        self._start(rate)

    def _start(self, rate: Rate) -> None:
        self.rate = rate
        self.remaining = min(rate.bytes, UNLIMITED) if rate.limits else UNLIMITED
        self._window_start = self._hv.now

    def change(self, rate: Rate) -> None:
        """Set a new rate (xen_net_rate_changed). Credit above it is lost, and nobody waits any
        longer.

        The rate that is in force changes nothing.
        """
        if rate == self.rate:
            return
        if not (rate.limits and self.rate.limits):
            self._start(rate)
        else:
            self.rate = rate
            self.remaining = min(self.remaining, rate.bytes)
        if self._cancel is not None:
            self.cancel()
            if rate.limits:
                self._add()
            self._resume()

    def exceeded(self, size: int) -> bool:
        """Whether a packet of ``size`` bytes, which the credit does not cover, has to wait for
        ``resume``.

        False if a period has passed and the new credit is enough.
        """
        if self._cancel is not None:
            return True
        now, period = self._hv.now, self.rate.usec * 1000
        if now >= self._window_start + period:
            self._window_start = now
            self._add()
        if size <= self.remaining:
            return False
        self._window_start += period
        self._cancel = self._hv.call_after(self._window_start - now, self._replenish)
        return True

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    def _replenish(self) -> None:
        self._cancel = None
        self._add()
        self._resume()

    def _add(self) -> None:
        burst = max(MIN_BURST, self.rate.bytes)
        self.remaining = min(self.remaining + self.rate.bytes, burst, UNLIMITED)
