"""FreeBSD's epair as a link: each pair of endpoints gets two interfaces, back to back.

Side a is the guest's, side b the host's. An interface of the seed's generation takes frames of any
length and has no offloads, so an edge completes checksums and segments frames of an end; the later
generation refuses frames longer than its MTU.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.epair.cloner import Cloner, Epair, pair_macs
from xennet.epair.driver import DRIVERS, Driver, NetisrDriver
from xennet.frames import NOTHING, Endpoint, FrameBatch, lazy_bytes
from xennet.ifnet import ETHERMTU, Interface
from xennet.link.base_link import BATCH, BATCH_BYTES, EndPair
from xennet.link.interface_link import InterfaceLink
from xennet.pump import Clock


class EpairLink(InterfaceLink):
    """One epair for each pair that is joined, all on one machine of their own.

    ``generation``: "netisr", the seed's, or "taskqueue". ``mtu`` in bytes, None for the usual one.
    ``hostid``: 64 bits of which addresses are made. ``clock`` is the pump's (None: virtual time).
    """

    name = "epair"

    def __init__(
        self,
        generation: str = "netisr",
        mtu: int | None = None,
        hostid: int = 0x78656E6E6574,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock)
        self.driver: Driver = DRIVERS[generation](self.run_loop)
        self.cloner = Cloner(
            self.interfaces,
            self.driver,
            hostid=hostid,
            leaks_units=isinstance(self.driver, NetisrDriver),
        )
        self.mtu = ETHERMTU if mtu is None else mtu
        later = self.driver.generation != "netisr"
        self.carries = NOTHING.with_mtu(self.mtu) if later else NOTHING
        self.epairs: dict[EndPair, Epair] = {}
        self._kept: list[FrameBatch] = []

    def address(self, number: int) -> bytes:
        """The MAC address of side a of pair ``number``: each pair gets two indices, in order."""
        return pair_macs(2 * number + 1, self.cloner.hostid)[0]

    def bring_up(self, pair: EndPair) -> None:
        """Create the epair of ``pair`` and bring both sides up."""
        epair = self.epairs[pair] = self.cloner.create()
        pair.interfaces = epair.a, epair.b
        for side, end in ((epair.a, pair.guest), (epair.b, pair.host)):
            side.mtu = self.mtu
            side.input = self._into(end, side)

    def move(self, pair: EndPair, most: int) -> int:
        """Move at most ``most`` frames each way between the ends of ``pair``. Returns the number
        moved."""
        epair = self.epairs[pair]
        return self._send(pair.guest, epair.a, pair.host, most) + self._send(
            pair.host, epair.b, pair.guest, most
        )

    def take_down(self, pair: EndPair) -> None:
        """Destroy the epair of ``pair``."""
        self.cloner.destroy(self.epairs[pair].a)

    def _send(self, giver: Endpoint, side: Interface, taker: Endpoint, most: int) -> int:
        room = min(most, taker.room, self.driver.room(side))
        if room <= 0:
            return 0
        batch = self._kept.pop() if self._kept else FrameBatch(lazy_bytes(BATCH_BYTES), BATCH)
        batch.clear()
        batch.max_frames = room
        try:
            giver.pull(batch)
        finally:
            given = batch.count
            if given:  # also what a pull that raises has given
                # From here on the batch is the interface's; input() gives it back.
                self.driver.transmit(side, batch)
            else:
                self._kept.append(batch)
        if given:
            self.pump.run()
        return given

    def _into(self, end: Endpoint, side: Interface) -> Callable[[FrameBatch], None]:
        """The ``input`` of ``side``: a function that pushes incoming frames to ``end``, and lets
        taps see them."""

        def take(batch: FrameBatch) -> None:
            end.push(batch)
            side.tap(batch)
            if len(batch.data) == BATCH_BYTES:  # not one that the driver has copied
                self._kept.append(batch)

        return take
