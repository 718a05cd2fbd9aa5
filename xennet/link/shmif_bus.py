"""NetBSD's shmif bus as a link: both ends of each pair sit on one bus file as interfaces of it.

The frames of all pairs pass through the same file, where other processes see them too. Each
interface hears only the other one of its pair: frames of other senders are left alone, as a run
proves that what came out is what was put in.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from attrs import define, evolve

from xennet.errors import LinkError
from xennet.frames import NOTHING, Endpoint, FrameBatch, lazy_bytes
from xennet.ifnet import ETHERMTU, Interface
from xennet.link.base_link import BATCH, BATCH_BYTES, EndPair
from xennet.link.interface_link import InterfaceLink
from xennet.link.report import LinkReport, LinkStatus
from xennet.pump import Clock
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import MAX_BUS_FRAME, Bus, Reader, Station

#: High word of the sender ids, "xenn".
_SENDERS = 0x78656E6E << 32
_GROUP = 1


@define(eq=False)
class BusSide:
    """One interface on the bus: as a stack sees it, as it stands on the bus, and its position."""

    interface: Interface
    station: Station
    card: array[int]
    reader: Reader


#: Called with each frame (its bytes and time stamp) that a guest's interface does not take.
Filtered = Callable[[bytes, int], None]


def _unfiltered(_frame: bytes, _timestamp: int) -> None:
    """Do nothing: nobody asks which frames were filtered."""


def require_room(mtu: int | None) -> None:
    """Raise ValueError, with one line, for an ``mtu`` that no interface of a bus has."""
    if mtu is not None and mtu > ETHERMTU:
        raise ValueError(f"shmif: an MTU of {mtu}, the interfaces of a bus have {ETHERMTU}")


class ShmifLink(InterfaceLink):
    """Two interfaces for each pair that is joined, all on the bus file ``path``
    (xennet.link.protocol.Link), which is created if it does not exist and stays where it is.

    Sender ids and addresses are numbered, from 0 on unless another process has a link on the same
    bus: a run in virtual time leaves the same bytes on a new bus each time. ``promiscuous`` False:
    the guests' interfaces take only frames for their addresses and for groups, and the others are
    told to ``filtered``. The hosts' interfaces are always promiscuous, as a bridge's are. ``mtu``
    in bytes, None for 1500, the largest. ``clock`` is the pump's (None: virtual time).

    Raises LinkError if the file cannot be opened, is no bus or cannot be locked, or for a larger
    mtu. What others write between a frame and its reading is skipped; if it overwrites the frame,
    that is told in the report's ``faults``, with the number of frames.
    """

    name = "pair"

    def __init__(
        self,
        path: str,
        *,
        promiscuous: bool = True,
        mtu: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock)
        try:
            require_room(mtu)
        except ValueError as error:
            raise LinkError(str(error)) from error
        self.mtu = ETHERMTU if mtu is None else mtu
        self.path = path
        self._promiscuous = promiscuous
        self._told: list[str] = []
        self._lost = 0
        try:
            self.bus = Bus(path, create=True, tell=self._told.append)
        except BusError as error:
            raise LinkError(str(error)) from error
        self.carries = evolve(NOTHING, max_frame=MAX_BUS_FRAME).with_mtu(self.mtu)
        self.sides: dict[EndPair, tuple[BusSide, BusSide]] = {}
        self._filtered: dict[EndPair, Filtered] = {}
        self._taken = FrameBatch(lazy_bytes(BATCH_BYTES), BATCH)
        self._senders = _SENDERS | self.bus.number << 16

    def join(self, guest: Endpoint, host: Endpoint, filtered: Filtered = _unfiltered) -> EndPair:
        """Add the next pair and return it. Raises LinkError after :meth:`open`."""
        pair = super().join(guest, host)
        self._filtered[pair] = filtered
        return pair

    def address(self, number: int) -> bytes:
        """The MAC address of the guest's interface of pair ``number``."""
        return Station.numbered(self._senders | 2 * number).mac

    def bring_up(self, pair: EndPair) -> None:
        """Put both interfaces of ``pair`` on the bus."""
        first = 2 * self.pairs.index(pair)
        guest, host = self._senders | first, self._senders | first + 1
        sides = self.sides[pair] = (
            self._side(f"shmif{first}", Station.numbered(guest, self._promiscuous, peer=host)),
            self._side(f"shmif{first + 1}", Station.numbered(host, True, peer=guest)),
        )
        pair.interfaces = sides[0].interface, sides[1].interface

    def _side(self, name: str, station: Station) -> BusSide:
        reader = Reader(self.bus.memory, station)
        self.bus.skip(reader)  # what is on the bus already is nobody's here
        interface = self.interfaces.add(name)
        interface.mac, interface.mtu = station.mac, self.mtu
        return BusSide(interface, station, station.card(), reader)

    def take_down(self, pair: EndPair) -> None:
        """Take both interfaces of ``pair`` off the bus."""
        for side in self.sides.pop(pair, ()):
            self.interfaces.remove(side.interface)
        self.bus.ring()  # as an interface that is stopped

    def move(self, pair: EndPair, most: int) -> int:
        """Move at most ``most`` frames each way over the bus. Returns the number moved."""
        guest, host = self.sides[pair]
        return self._send(pair.guest, guest, host, pair.host, _unfiltered, most) + self._send(
            pair.host, host, guest, pair.guest, self._filtered[pair], most
        )

    def _send(
        self,
        giver: Endpoint,
        sender: BusSide,
        receiver: BusSide,
        taker: Endpoint,
        filtered: Filtered,
        most: int,
    ) -> int:
        """Write frames of ``giver`` to the bus as ``sender``, and have ``taker`` take what
        ``receiver`` reads of them. Returns the number of frames written."""
        batch = self._batch
        batch.clear()
        batch.max_frames = min(most, taker.room, BATCH)
        if batch.max_frames:
            try:
                giver.pull(batch)
            finally:
                if batch.count:  # also what a pull that raises has given
                    self._pass(sender, receiver, taker, filtered)
        return batch.count

    def _pass(
        self, sender: BusSide, receiver: BusSide, taker: Endpoint, filtered: Filtered
    ) -> None:
        """Write the batch to the bus, and have ``taker`` take what is read of it."""
        batch, taken, given = self._batch, self._taken, self._batch.count
        taken.clear()
        interface, reader = sender.interface, receiver.reader
        self.bus.skip(reader)  # what others have written since
        interface.tap(batch)
        self.bus.send(batch, sender.card, self.run_loop.now)
        interface.counters.opackets += given
        interface.counters.obytes += batch.used
        foreign = reader.taken.foreign
        self.bus.take(reader, taken)
        receiver.interface.counters.ipackets += taken.count
        self._lost += given - taken.count - (reader.taken.foreign - foreign)
        if not receiver.station.promiscuous:
            self._tell_filtered(filtered, receiver.station.mac, batch)
        if taken.count:
            receiver.interface.counters.ibytes += taken.used
            taker.push(taken)
            receiver.interface.tap(taken)

    @staticmethod
    def _tell_filtered(filtered: Filtered, mac: bytes, batch: FrameBatch) -> None:
        """Tell ``filtered`` of the frames that an interface with the address ``mac`` does not take,
        before those behind them arrive."""
        for index, frame in enumerate(batch):
            if not frame[0] & _GROUP and frame[:6] != mac:
                filtered(bytes(frame), batch.timestamp[index])

    def report(self) -> LinkReport:
        """A report of the interfaces with their counters, as they were when the link was closed,
        and of what went wrong on the bus."""
        faults = list(self._told)
        if self._lost:
            faults.append(
                f"{self.path}: {self._lost} frames were overwritten by other processes before they "
                "were read (overrun)"
            )
        return evolve(
            super().report(),
            faults=tuple(faults),
            filter=("the interface's filter", "for other addresses"),
        )

    def status(self) -> LinkStatus:
        """The frames that other processes have overwritten."""
        return LinkStatus(dropped=self._lost)

    def explain(self, error: Exception) -> str | None:
        """What is wrong with the bus; None for any other exception."""
        return str(error) if isinstance(error, BusError) else None

    def left_behind(self) -> list[str]:
        """The interfaces that still exist, and a lock that is held, a line for each."""
        locked = [f"the lock of {self.path}"] if self.bus.lock.held else []
        return [*super().left_behind(), *locked]

    def destroy(self) -> None:
        """Leave the bus and release everything. May be repeated."""
        super().destroy()
        self.bus.close()
