"""The machine that the records were made on: its interfaces, a client for each descriptor, taps."""

from __future__ import annotations

from errno import errorcode
from functools import partial
from typing import Any

from attrs import define, field

from xennet.abi.netmap import IF, RING, SLOT
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface, join_pair
from xennet.netmap.replay.record_limits import BoundedMemory

#: Name -> address, MTU, queues.
_INTERFACES = {
    "dm0": ("0200000000d0", 1500, 1),
    "va": ("0200000000a0", 1500, 1),
    "vb": ("0200000000b0", 1500, 1),
    "va8": ("0200000000a8", 1500, 4),
    "vb8": ("0200000000b8", 1500, 4),
    "big0": ("0200000000d1", 9000, 1),
    "valx": ("0200000000d2", 1500, 1),
    "lo": ("000000000000", 65536, 1),
}
_PAIRS = (("va", "vb"), ("va8", "vb8"))


def named(errno: int) -> int | str:
    """An errno as the records have it: 0, or its name."""
    return 0 if errno == 0 else {95: "EOPNOTSUPP"}.get(errno, errorcode[errno])


@define(eq=False)
class Client:
    """A descriptor of a case, with the memory of its process. ``name``: of the port."""

    file: Descriptor
    memory: ClientMemory = field(factory=ClientMemory)
    #: Addresses of the control blocks (atok, ktoa) that an option was given.
    csb: tuple[int, int] = (0, 0)

    @property
    def region(self) -> memoryview:
        """The memory of the port."""
        return self.file.bound().port.region.u8

    @property
    def if_offset(self) -> int:
        return self.file.bound().if_offset

    def interface(self) -> Any:
        """The netmap_if."""
        return IF.read(self.region, self.if_offset)

    def ring_offsets(self) -> list[int]:
        """The ring_ofs of the netmap_if: tx, host tx, rx, host rx."""
        head = self.interface()
        count = head.ni_tx_rings + head.ni_host_tx_rings + head.ni_rx_rings + head.ni_host_rx_rings
        at = self.if_offset + IF.size
        raw = self.region[at : at + 8 * count].tobytes()
        return [
            int.from_bytes(raw[i : i + 8], "little", signed=True) for i in range(0, 8 * count, 8)
        ]

    def ring(self, name: str) -> int:
        """Where a ring is in the region, by its name in a record: tx0, htx0, rx0, hrx0."""
        head = self.interface()
        kind = name.rstrip("0123456789")
        tx_all = head.ni_tx_rings + head.ni_host_tx_rings
        first = {
            "tx": 0,
            "htx": head.ni_tx_rings,
            "rx": tx_all,
            "hrx": tx_all + head.ni_rx_rings,
        }[kind]
        offsets = self.ring_offsets()
        return self.if_offset + offsets[int(first) + int(name[len(kind) :])]

    def ring_head(self, name: str) -> Any:
        """The header of a ring."""
        return RING.read(self.region, self.ring(name))

    def set_ring(self, name: str, **values: int) -> None:
        """Write 32-bit fields of a ring's header."""
        at = self.ring(name)
        for field_name, value in values.items():
            place = at + RING.offsets[field_name]
            self.region[place : place + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    def slot_at(self, name: str, slot: int) -> int:
        return self.ring(name) + RING.size + slot * SLOT.size

    def slot(self, name: str, slot: int) -> Any:
        return SLOT.read(self.region, self.slot_at(name, slot))

    def set_slot(self, name: str, slot: int, **values: int) -> None:
        """Write fields of a slot; those that are not named stay."""
        at = self.slot_at(name, slot)
        now = SLOT.read(self.region, at)._replace(**values)
        SLOT.pack_into(self.region, at, *now)

    def buffer_at(self, name: str, index: int) -> int:
        """Where a buffer is in the region, by the ring's own offset and size."""
        head = self.ring_head(name)
        return int(self.ring(name) + head.buf_ofs + index * head.nr_buf_size)


_OUTGOING = 4


def _kind_of(frame: bytes, mac: str) -> int:
    """The packet type of a raw socket: 0 to us, 1 broadcast, 3 to another host."""
    if frame[:6] == b"\xff" * 6:
        return 1
    return 0 if frame[:6].hex() == mac else 3


@define(eq=False)
class Machine:
    """A device with the interfaces of the records. ``clients`` by the name of the descriptor."""

    device: Device = field(factory=Device)
    clients: dict[str, Client] = field(factory=dict)
    seen: dict[str, list[list[Any]]] = field(factory=dict)
    #: The descriptor of the last step that had one.
    last: str = ""
    #: Errnos of requests that were answered later: of threads that have started a kernel loop.
    answers: list[int] = field(factory=list)
    #: Bytes by which the next control blocks (atok, ktoa) are not where they should be.
    csb_shift: tuple[int, int] = (0, 0)

    def __attrs_post_init__(self) -> None:
        state = self.device.state
        for name, (mac, mtu, queues) in _INTERFACES.items():
            interface = state.add_interface(NetInterface(name, mtu, queues))
            interface.taps.append(partial(self._tapped, name, mac))
        for one, other in _PAIRS:
            join_pair(state.interfaces[one], state.interfaces[other])

    def _tapped(self, name: str, mac: str, frame: bytes, outgoing: bool) -> None:
        kind = _OUTGOING if outgoing else _kind_of(frame, mac)
        shown = [len(frame), frame[:32].hex(), kind]
        self.seen.setdefault(name, []).append(shown)

    def open(self, name: str) -> Client:
        memory = BoundedMemory()
        client = self.clients[name] = Client(self.device.open(memory), memory)
        return client

    def close(self, name: str) -> None:
        """munmap, then close."""
        file = self.clients.pop(name).file
        while file.mappings:
            file.munmap()
        while file.descriptors:
            self.device.close(file)

    def begin(self) -> None:
        """The beginning of a case: no descriptor is open, nothing was seen on the wire."""
        for name in tuple(self.clients):
            self.close(name)
        self.seen.clear()
        self.answers.clear()
        self.csb_shift = (0, 0)
