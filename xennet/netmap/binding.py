"""Which rings of a port a client is bound to: the modes and flags of a registration.

Rules: netmap.c, netmap_interp_ringid, netmap_krings_get, netmap_krings_put.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL

from attrs import define, field

from xennet.abi.netmap import (
    NR_EXCLUSIVE,
    NR_REG_ALL_NIC,
    NR_REG_NIC_SW,
    NR_REG_NULL,
    NR_REG_ONE_NIC,
    NR_REG_ONE_SW,
    NR_REG_SW,
    NR_RX_RINGS_ONLY,
    NR_TX_RINGS_ONLY,
)
from xennet.netmap.adapter import Adapter
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import Kring

_ONLY = {True: NR_RX_RINGS_ONLY, False: NR_TX_RINGS_ONLY}
_HOST_MODES = (NR_REG_SW, NR_REG_NIC_SW, NR_REG_ONE_SW)


def ring_range(port: Adapter, mode: int, ringid: int, flags: int, tx: bool) -> range:
    """The rings of one direction that a registration binds.

    Raises NetmapError(EINVAL) for a mode that is none or that the port cannot have, and for a ring
    that is beyond both directions. A ring beyond this direction alone stands for ring 0 there.
    """
    _check(port, mode, ringid)
    if flags & _ONLY[tx]:
        return range(0)
    nic, host = port.nrings(tx), port.host_count(tx)
    one_nic = ringid if ringid < nic else 0
    one_host = nic + (ringid if ringid < host else 0)
    return {
        NR_REG_ALL_NIC: range(nic),
        NR_REG_NULL: range(nic),
        NR_REG_SW: range(nic, nic + host),
        NR_REG_NIC_SW: range(nic + host),
        NR_REG_ONE_NIC: range(one_nic, one_nic + 1),
        NR_REG_ONE_SW: range(one_host, one_host + 1),
    }[mode]


def _check(port: Adapter, mode: int, ringid: int) -> None:
    if mode in _HOST_MODES and not port.host_rings:
        raise NetmapError(EINVAL, f"{port.name} has no host rings")
    known = (NR_REG_ALL_NIC, NR_REG_NULL, NR_REG_ONE_NIC, *_HOST_MODES)
    if mode not in known:
        raise NetmapError(EINVAL, f"no mode {mode}")
    most = None
    if mode == NR_REG_ONE_NIC:
        most = max(port.tx_rings, port.rx_rings)
    elif mode == NR_REG_ONE_SW:
        most = max(port.host_tx_rings, port.host_rx_rings)
    if most is not None and ringid >= most:
        raise NetmapError(EINVAL, f"{port.name} has no ring {ringid}")


@define(eq=False)
class Binding:
    """A client's part of a port: rings ``tx`` and ``rx``, and ``flags`` of the registration."""

    port: Adapter
    tx: range
    rx: range
    flags: int
    #: The rings are counted as used.
    taken: bool = field(init=False, default=False)

    @classmethod
    def of(cls, port: Adapter, mode: int, ringid: int, flags: int) -> Binding:
        """Raises NetmapError(EINVAL), as :func:`ring_range`."""
        tx, rx = (ring_range(port, mode, ringid, flags, way) for way in (True, False))
        return cls(port, tx, rx, flags)

    def rings(self, tx: bool) -> list[Kring]:
        """The bound rings of one direction."""
        bound = self.tx if tx else self.rx
        return self.port.rings(tx)[bound.start : bound.stop]

    def every(self) -> list[Kring]:
        """The bound rings of both directions."""
        return [*self.rings(False), *self.rings(True)]

    def owns(self, kring: Kring) -> bool:
        """Whether a ring of the port is bound."""
        return kring.na is self.port and kring.ring_id in (self.tx if kring.tx else self.rx)

    def take(self) -> list[Kring]:
        """Count the rings as used. Returns those that nobody used before.

        Raises NetmapError(EBUSY), with nothing taken, if another client has one for itself, or this
        one wants that and there is another.
        """
        exclusive = bool(self.flags & NR_EXCLUSIVE)
        every = self.every()
        for kring in every:
            if kring.exclusive or (kring.users and exclusive):
                raise NetmapError(EBUSY, f"{kring.name} is used by another client")
        for kring in every:
            kring.users += 1
            kring.exclusive = exclusive
        self.taken = True
        return [kring for kring in every if kring.users == 1]

    def release(self) -> list[Kring]:
        """Count them as left. Returns those that nobody uses now."""
        every = self.every()
        for kring in every:
            kring.users -= 1
            if self.flags & NR_EXCLUSIVE:
                kring.exclusive = False
        self.taken = False
        return [kring for kring in every if not kring.users]

    @property
    def feeds_all_nic_rings(self) -> bool:
        """Whether all tx rings of the NIC are bound, so that host frames may be forwarded there."""
        return self.tx.start == 0 and self.tx.stop >= self.port.tx_rings and self.port.tx_rings > 0
