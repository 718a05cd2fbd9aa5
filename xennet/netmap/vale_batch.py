"""The vectors that the kernels of a switch work on, and the calls of these kernels.

One set for each switch: a batch is read, routed and delivered before the next begins.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from xennet.abi.netmap import SLOT_W_ptr
from xennet.engine.choice import current
from xennet.netmap.address_space import AddressSpace, FaultError
from xennet.netmap.kring import Kring
from xennet.netmap.region import Region
from xennet.netmap.vale_forward import (
    DROPPED,
    F_INDIRECT,
    F_NONE,
    NM_BDG_BROADCAST,
    NM_BDG_MAXPORTS,
    NM_BDG_MAXRINGS,
    NM_BDG_MAXSLOTS,
    NO_PACKET,
    R_END,
    R_INDIRECT,
    R_PLACES,
    collect,
    deliver,
    route,
)
from xennet.netmap.vale_hash import NM_BDG_HASH

#: A whole ring: a packet may have as many fragments.
_BATCH = NM_BDG_MAXSLOTS + 1
_PLACES = (NM_BDG_MAXPORTS + 1) * NM_BDG_MAXRINGS
_BROADCASTS = NM_BDG_BROADCAST * NM_BDG_MAXRINGS


class Forwarder:
    """Reads batches, sorts them by destination, and copies them there."""

    def __init__(self) -> None:
        engine = current()
        self._macs = array("q", bytes(8 * NM_BDG_HASH))
        self._ports = array("I", bytes(4 * NM_BDG_HASH))
        self._last = array("q", [-1]) * (NM_BDG_MAXPORTS + 1)
        self._at, self.length, self.frags, self.following, self.flags = self._fields = tuple(
            array("I", bytes(4 * _BATCH)) for _ in range(5)
        )
        self._lists = tuple(array("I", [NO_PACKET]) * _PLACES for _ in range(2))
        self._used = array("I", bytes(4 * _PLACES))
        self._res = array("q", bytes(8 * R_PLACES))
        self._table = tuple(engine.view(a) for a in (self._macs, self._ports, self._last))
        self._batch = tuple(engine.view(a) for a in self._fields)
        self._list_views = tuple(engine.view(a) for a in self._lists)
        self._used_view = engine.view(self._used)
        self._res_view = engine.view(self._res)
        self._nothing_staged = engine.view(memoryview(bytearray(1)))
        self._collect = engine.kernel(collect)
        self._route = engine.kernel(route)
        self._deliver = engine.kernel(deliver)
        #: What the slots with NS_INDIRECT of the batch stand for.
        self.staged: Any = self._nothing_staged

    def forget_all(self) -> None:
        """Empty the table of addresses."""
        for i in range(NM_BDG_HASH):
            self._macs[i] = self._ports[i] = 0

    def forget_last(self, number: int) -> None:
        """Port ``number`` is a new one: its next source is learned."""
        self._last[number] = -1

    def read(
        self, region: Region, kring: Kring, begin: int, head: int, client: AddressSpace
    ) -> int:
        """Load a batch from the slots ``begin`` to ``head`` of a tx ring; ``client`` has the memory
        that NS_INDIRECT means. Returns the number of slots; :attr:`end` is the slot behind."""
        count: int = self._collect(
            region.view32, kring.view, begin, head, self._batch, self._res_view
        )
        self.staged = self._nothing_staged
        if self._res[R_INDIRECT]:
            self._stage(region, kring, count, client)
        return count

    def load(self, frames: Sequence[bytes]) -> int:
        """Make a batch of frames that are in no ring. Returns how many."""
        staged = bytearray(b"\0")
        for i, frame in enumerate(frames):
            self._at[i] = len(staged)
            staged += frame
            self.length[i] = len(frame)
            self.frags[i] = 1
            self.following[i] = NO_PACKET
            self.flags[i] = F_INDIRECT
        self.staged = current().view(memoryview(staged))
        return len(frames)

    @property
    def end(self) -> int:
        """The ring index behind the batch."""
        return self._res[R_END]

    def _stage(self, region: Region, kring: Kring, count: int, client: AddressSpace) -> None:
        staged = bytearray(b"\0")
        for i in range(count):
            if not self.flags[i] & F_INDIRECT:
                continue
            slot = kring.slot_at(self._at[i])
            low, high = region.u32[slot + SLOT_W_ptr], region.u32[slot + SLOT_W_ptr + 1]
            self._at[i] = len(staged)
            try:
                staged += client.read(low | high << 32, self.length[i])
            except FaultError:
                self.length[i] = 0
                self.flags[i] |= F_NONE
        self.staged = current().view(memoryview(staged))

    def route(self, region: Region, count: int, header: int, me: int, ring: int) -> list[int]:
        """Sort the batch by destination. Returns the lists that are used, broadcasts aside, as
        port * NM_BDG_MAXRINGS + ring."""
        lists = self._route(
            region.view8,
            region.view32,
            self.staged,
            count,
            header,
            me,
            ring,
            self._batch,
            self._table,
            self._list_views,
            self._used_view,
        )
        return self._used[:lists].tolist()

    def first_of(self, place: int) -> int:
        """The first packet of a list, or NO_PACKET."""
        return self._lists[0][place]

    @property
    def first_broadcast(self) -> int:
        """The first packet that goes to all ports, or NO_PACKET."""
        return self._lists[0][_BROADCASTS]

    def empty_lists(self, places: list[int]) -> None:
        """Forget the lists of a batch."""
        for place in (*places, _BROADCASTS):
            self._lists[0][place] = NO_PACKET

    def deliver(self, source: Region, unicast: int, broadcast: int, target: Kring) -> int:
        """Copy the packets of two lists to an rx ring, which counts those it has no room for.
        Returns the number of slots filled."""
        region = target.na.region
        result: int = self._deliver(
            source.view8,
            self.staged,
            self._batch,
            unicast,
            broadcast,
            region.view8,
            region.view32,
            target.view,
        )
        target.dropped += result // DROPPED
        return result % DROPPED

    def packets(self, source: Region, unicast: int, broadcast: int) -> list[list[bytes]]:
        """The packets of two lists in the order in which they were sent, each as its fragments."""
        found = []
        while unicast != NO_PACKET or broadcast != NO_PACKET:
            packet = min(unicast, broadcast)
            if packet == unicast:
                unicast = self.following[packet]
            else:
                broadcast = self.following[packet]
            found.append([self._bytes_of(source, packet + i) for i in range(self.frags[packet])])
        return found

    def _bytes_of(self, source: Region, i: int) -> bytes:
        memory = self.staged if self.flags[i] & F_INDIRECT else source.u8
        return bytes(memory[self._at[i] : self._at[i] + self.length[i]])
