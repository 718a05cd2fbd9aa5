"""A client of the device that fills rings in: for tests that care about rings, not requests."""

from __future__ import annotations

from attrs import define, field

from xennet.abi.netmap import (
    HEADER,
    NIOCCTRL,
    NIOCRXSYNC,
    NIOCTXSYNC,
    NR_REG_ALL_NIC,
    REGISTER,
)
from xennet.netmap.adapter import Adapter
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.device import Device
from xennet.netmap.kring import Kring
from xennet.netmap.region import Region
from xennet.netmap.vale_forward import frame_at


def register_request(memory: ClientMemory, name: str, **fields: int) -> tuple[int, int]:
    """A REGISTER in ``memory``. Returns the addresses of header and body."""
    values = dict.fromkeys(REGISTER.fields, 0) | {"nr_mode": NR_REG_ALL_NIC} | fields
    body = memory.map(bytearray(REGISTER.pack(*(values[field] for field in REGISTER.fields))))
    header = HEADER.pack(14, 1, 0, name.encode(), 0, body)
    return memory.map(bytearray(header)), body


@define(eq=False)
class Client:
    """An open file. ``name``: of the port that it is registered to."""

    device: Device
    memory: ClientMemory = field(factory=ClientMemory)
    file: Descriptor = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.file = self.device.open(self.memory)

    def register(self, name: str, **fields: int) -> int:
        """Register, with slot counts of 8 unless said otherwise. Returns the errno."""
        counts = {"nr_tx_slots": 8, "nr_rx_slots": 8} | fields
        header, _ = register_request(self.memory, name, **counts)
        return self.device.ioctl(self.file, NIOCCTRL, header)

    @property
    def port(self) -> Adapter:
        return self.file.bound().port

    @property
    def region(self) -> Region:
        return self.port.region

    def ring(self, tx: bool, index: int | None = None) -> Kring:
        """Ring ``index`` of the port; the first that is bound unless said otherwise."""
        binding = self.file.bound().binding
        first = (binding.tx if tx else binding.rx).start
        return self.port.rings(tx)[first if index is None else index]

    def write(self, tx: bool, head: int, cur: int, tail: int | None = None) -> None:
        """Write head, cur and perhaps tail of the first ring."""
        at = self.ring(tx).offset // 4
        self.region.u32[at + 5] = head
        self.region.u32[at + 6] = cur
        if tail is not None:
            self.region.u32[at + 7] = tail

    def slot(self, tx: bool, index: int) -> tuple[int, int, int]:
        """Buffer index, length and flags of a slot of the first ring."""
        at = self.ring(tx).slot_at(index)
        second = self.region.u32[at + 1]
        return self.region.u32[at], second & 0xFFFF, second >> 16

    def set_slot(self, tx: bool, index: int, buffer: int, length: int, flags: int) -> None:
        at = self.ring(tx).slot_at(index)
        self.region.u32[at] = buffer
        self.region.u32[at + 1] = length | flags << 16

    def put(self, index: int, data: bytes, flags: int = 0) -> None:
        """Put a frame into a slot of the first tx ring."""
        buffer = self.slot(True, index)[0]
        at = self.region.bufs.offset_of(buffer)
        self.region.u8[at : at + len(data)] = data
        self.set_slot(True, index, buffer, len(data), flags)

    def frame(self, index: int) -> bytes:
        """The frame in a slot of the first rx ring."""
        kring = self.ring(False)
        length = self.slot(False, index)[1]
        at = frame_at(self.region.u32, kring.slot_at(index), length, kring.pvt)
        return bytes(self.region.u8[at : at + length])

    def send(self, *frames: bytes) -> None:
        """Send frames from the first tx ring, which has room for them."""
        head, _, _ = self.ring(True).shown()
        for data in frames:
            self.put(head, data)
            head = (head + 1) % self.ring(True).num_slots
        self.write(True, head, head)
        assert self.txsync() == 0

    def receive(self) -> list[bytes]:
        """Take all frames of the first rx ring."""
        assert self.rxsync() == 0
        kring = self.ring(False)
        head, _, tail = kring.shown()
        frames = []
        while head != tail:
            frames.append(self.frame(head))
            head = (head + 1) % kring.num_slots
        self.write(False, head, head)
        assert self.rxsync() == 0
        return frames

    def txsync(self) -> int:
        return self.device.ioctl(self.file, NIOCTXSYNC)

    def rxsync(self) -> int:
        return self.device.ioctl(self.file, NIOCRXSYNC)

    def close(self) -> None:
        self.device.close(self.file)


def opened(device: Device, name: str, **fields: int) -> Client:
    """A client that is registered to a port."""
    client = Client(device)
    assert client.register(name, **fields) == 0
    return client


def all_free(region: Region) -> bool:
    """Whether every object of a region's pools is free."""
    pools = (region.ifs, region.rings, region.bufs)
    return all(pool.objfree == pool.layout.objtotal - pool.reserved for pool in pools)
