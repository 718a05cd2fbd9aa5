"""NIOCTXSYNC, NIOCRXSYNC and poll, over the rings that a client is bound to.

Rules: netmap.c, netmap_ioctl and netmap_poll; of Linux's, a waiter is there before the rings are
synced, and the rings are synced in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field

from xennet.abi.netmap import NR_NO_TX_POLL, NR_TIMESTAMP, RING
from xennet.engine.choice import current
from xennet.netmap.adapter import NAF_CAN_FORWARD_DOWN, NAF_FORCE_READ, NAF_FORCE_RECLAIM
from xennet.netmap.binding import Binding
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_RCUR, K_RTAIL, Kring
from xennet.netmap.module_state import State
from xennet.netmap.prologue import reinit, rx_prologue, tx_prologue

# Events of poll(2), as Linux numbers them.
POLLIN = 0x001
POLLOUT = 0x004
POLLERR = 0x008
POLLRDNORM = 0x040
POLLWRNORM = 0x100
_OUT = POLLOUT | POLLWRNORM
_IN = POLLIN | POLLRDNORM
_TS = RING.offsets["ts.tv_sec"]


@define(eq=False)
class Syncer:
    """Syncs for one engine, of clients of ``state``."""

    state: State
    _tx_prologue: Any = field(init=False)
    _rx_prologue: Any = field(init=False)
    _reinit: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        engine = current()
        self._tx_prologue = engine.kernel(tx_prologue)
        self._rx_prologue = engine.kernel(rx_prologue)
        self._reinit = engine.kernel(reinit)

    def txsync(self, binding: Binding) -> None:
        """Send from all bound rings. A ring that breaks the contract is set right and not
        synced."""
        for kring in binding.rings(True):
            self._send(kring, _flags(binding) | NAF_FORCE_RECLAIM)

    def rxsync(self, binding: Binding) -> None:
        """Receive into all bound rings, after a ring that breaks the contract is set right."""
        for kring in binding.rings(False):
            self._receive(kring, _flags(binding) | NAF_FORCE_READ)

    def _send(self, kring: Kring, flags: int) -> bool:
        """Returns whether the client kept the contract and the port could be synced."""
        words = kring.na.region.view32
        if kring.stopped:
            return True
        if not self._tx_prologue(words, kring.view):
            self._reinit(words, kring.view)
            return False
        try:
            kring.sync(kring, flags)
        except NetmapError:
            return False
        kring.publish_tail()
        return True

    def _receive(self, kring: Kring, flags: int) -> bool:
        words = kring.na.region.view32
        if kring.stopped:
            return True
        kept = bool(self._rx_prologue(words, kring.view))
        if not kept:
            self._reinit(words, kring.view)
        try:
            kring.sync(kring, flags)
        except NetmapError:
            return False
        kring.publish_tail()
        if not self.state.parameters.no_timestamp or kring.ring_flags & NR_TIMESTAMP:
            self._stamp(kring)
        return kept

    def _stamp(self, kring: Kring) -> None:
        seconds, micros = divmod(self.state.now_us(), 1_000_000)
        at = kring.offset + _TS
        kring.na.region.u8[at : at + 16] = seconds.to_bytes(8, "little") + micros.to_bytes(
            8, "little"
        )

    def poll(self, binding: Binding, events: int) -> int:
        """Sync as poll does, and tell which of ``events`` are so; POLLERR for a broken ring.

        Tx rings with something to send are flushed also when only input was asked for, unless the
        client registered with NR_NO_TX_POLL.
        """
        if not binding.port.netmap_on:
            return POLLERR
        flags = _flags(binding)
        want_tx, want_rx = events & _OUT, events & _IN
        found = 0
        if want_tx or not binding.flags & NR_NO_TX_POLL:
            found |= self._poll_tx(binding.rings(True), want_tx, flags)
        if want_rx:
            krings = binding.rings(False)
            found |= self._poll_rx(krings, want_rx, flags)
            if any(kring.forwarded for kring in krings):
                for kring in krings:
                    kring.forwarded = False
                found |= self._poll_tx(binding.rings(True), want_tx, flags)
        return found

    def _poll_tx(self, krings: Sequence[Kring], want: int, flags: int) -> int:
        found = 0
        for kring in krings:
            if not want and kring.head == kring.hwcur:
                continue
            if not self._send(kring, flags):
                found |= POLLERR
            if _ready(kring):
                found |= want
                want = 0
        return found

    def _poll_rx(self, krings: Sequence[Kring], want: int, flags: int) -> int:
        found = 0
        for kring in krings:
            if not self._receive(kring, flags):
                found |= POLLERR
            if _ready(kring):
                found |= want
        return found


def _flags(binding: Binding) -> int:
    return NAF_CAN_FORWARD_DOWN if binding.feeds_all_nic_rings else 0


def _ready(kring: Kring) -> bool:
    return kring.pvt[K_RCUR] != kring.pvt[K_RTAIL]
