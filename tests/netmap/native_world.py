"""A netfront queue whose rings a netmap client has, and a backend that does what the test says."""

from __future__ import annotations

from attrs import frozen
from netmap_clients import opened
from vif_peers import GUEST, RawBackend

from xennet.abi.netif import TX_REQUEST, NETTXF_more_data
from xennet.ifnet import Interface
from xennet.netfront.driven import DrivenRings
from xennet.netmap import InterfaceEnd
from xennet.netmap.device import Device
from xennet.netmap.native import NativePort
from xennet.netmap.region import PoolSize, Sizes

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
#: Slots of a ring of a vif, in netmap as in Xen.
N = 256


def frame(number: int, size: int = 60) -> bytes:
    return (B + A + b"\x88\xb5" + number.to_bytes(4, "big")).ljust(size, b"\0")


@frozen
class Packet:
    """A packet of the transmit ring: the ids of its requests, and its bytes."""

    ids: list[int]
    data: bytes


class NativeWorld:
    """``raw``: the backend. ``client``: has all rings of xn0, whose other side is ``stack``."""

    def __init__(self, mtu: int = 1500, *, can_sg: bool = True, buf_size: int = 2048) -> None:
        self.raw = RawBackend(can_sg=can_sg)
        self.stack = self.raw.stack
        self.end = InterfaceEnd(self.stack)
        self.end.listen(self.raw.queue.kick)
        self.raw.queue.guest = self.end
        self.driven = DrivenRings(self.raw.queue)
        self.end.rings([self.driven])
        self.device = Device()
        self.end.add(self.device, Interface("xn0", 1, mtu=mtu))
        sizes = Sizes(PoolSize(20, 1024), PoolSize(20, 36864), PoolSize(4098, buf_size))
        self.region = self.device.state.regions.private(sizes)
        self.region.references += 1
        self.open()
        assert isinstance(self.client.port, NativePort)

    def open(self, **fields: int) -> None:
        """A client gets all rings."""
        self.client = opened(self.device, "xn0", nr_mem_id=self.region.nm_id, **fields)
        self.tx, self.rx = self.client.ring(True), self.client.ring(False)
        self.woken: list[str] = []
        self.tx.waiters.append(lambda: self.woken.append("tx"))
        self.rx.waiters.append(lambda: self.woken.append("rx"))
        self.raw.run()
        self.woken.clear()

    def put(self, *frames: bytes, flags: int = 0) -> None:
        """Put frames into slots from the client's head on, without a sync."""
        head = self.tx.shown()[0]
        for one in frames:
            self.client.put(head, one, flags)
            head = (head + 1) % N
        self.client.write(True, head, head)

    def sent(self) -> list[Packet]:
        """The packets that the backend finds on its ring."""
        packets, slots = [], []
        for raw in self.raw.requests():
            slots.append(TX_REQUEST.unpack_from(raw))
            if not slots[-1][2] & NETTXF_more_data:
                packets.append(self._packet(slots))
                slots = []
        assert not slots
        return packets

    def _packet(self, slots: list[tuple[int, ...]]) -> Packet:
        # The first request has the size of the whole packet.
        sizes = [slots[0][4] - sum(slot[4] for slot in slots[1:]), *(slot[4] for slot in slots[1:])]
        data = b""
        for (gref, offset, *_), size in zip(slots, sizes, strict=True):
            mapping = self.raw.host.map_grant(GUEST, gref, readonly=True)
            data += bytes(mapping.page.u8[offset : offset + size])
            self.raw.host.unmap_grant(mapping)
        return Packet([slot[3] for slot in slots], data)

    def answer(self, *idents: int) -> None:
        for ident in idents:
            self.raw.answer(ident)
        self.raw.push_tx()

    def arrive(self, *frames: bytes) -> None:
        """The backend sends frames of up to a page."""
        for one in frames:
            self.raw.rx(one)
        self.raw.push_rx()

    @property
    def posted(self) -> int:
        """Rx requests that the backend may use."""
        ring = self.raw.rx_ring
        return (ring.sring.req_prod - ring.req_cons) & 0xFFFFFFFF
