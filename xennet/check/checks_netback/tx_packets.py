"""What a check puts on the tx ring, and what a backend has to do with it.

A :class:`TxPacket` is written as data slots and extra infos, of which any may be wrong.
:func:`fate_of` says by the rules alone what becomes of it: it is the judge, and no driver of
xennet's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from attrs import field, frozen

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MAX,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.check.ip_frames import ETHERNET_HEADER, Flow, plain
from xennet.check.peers import FrontendPeer

C, V = NETTXF_csum_blank, NETTXF_data_validated
M, E = NETTXF_more_data, NETTXF_extra_info
#: XEN_NETIF_EXTRA_FLAG_MORE.
MORE = XEN_NETIF_EXTRA_FLAG_MORE
GSO, TCPV4, TCPV6 = XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
MCAST_ADD, MCAST_DEL = XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL

#: Makes the grant reference of a slot; the argument is what its page is to hold from the start on.
MakeGref = Callable[[FrontendPeer, bytes], int]


def granted(peer: FrontendPeer, content: bytes) -> int:
    """A page of the slot's own, which may be read."""
    gref = peer.page(content, readonly=True).gref
    if gref is None:
        raise AssertionError("a new page is granted")
    return gref


@frozen
class Data:
    """A data slot. ``ident`` None: its index; ``gref``: where its reference comes from, and
    ``usable`` whether that can be read."""

    size: int
    flags: int = 0
    offset: int = 0
    ident: int | None = None
    gref: MakeGref = granted
    usable: bool = True


@frozen
class Extra:
    """An extra info slot of type ``kind``: its ``body`` is the 6 bytes behind type and flags."""

    kind: int = GSO
    flags: int = 0
    body: bytes = bytes(6)

    @property
    def raw(self) -> bytes:
        """The slot."""
        return bytes([self.kind & 0xFF, self.flags & 0xFF]) + self.body + bytes(4)


def gso(size: int = 1448, kind: int = TCPV4, *, flags: int = 0) -> Extra:
    """The extra info of a GSO packet."""
    return Extra(GSO, flags, size.to_bytes(2, "little") + bytes([kind, 0, 0, 0]))


def mcast(address: bytes, kind: int = MCAST_ADD, *, flags: int = 0) -> Extra:
    """An extra info that amends the multicast list."""
    return Extra(kind, flags, address)


Slot = Data | Extra


class Fate(Enum):
    """What a backend has to do with a packet: deliver it; refuse it, one way or another; deliver it
    whole, or not at all."""

    DELIVER = "deliver"
    REFUSE = "refuse"
    OPEN = "open"


@frozen
class TxPacket:
    """The ``slots`` of one packet in ring order. ``frame``: its bytes, None for a frame of no
    protocol; they are laid into the pages of its slots. ``flow``: whose checksum may be completed
    on the way. ``fate``: what becomes of it, None for what :func:`fate_of` says."""

    slots: tuple[Slot, ...]
    frame: bytes | None = None
    flow: Flow | None = None
    fate: Fate | None = None
    number: int = 0

    @property
    def data(self) -> list[Data]:
        """Its data slots."""
        return [slot for slot in self.slots if isinstance(slot, Data)]

    @property
    def extras(self) -> list[Extra]:
        """Its extra infos."""
        return [slot for slot in self.slots if isinstance(slot, Extra)]


def of(*slots: Slot, **more: object) -> TxPacket:
    """A packet of these slots."""
    return TxPacket(slots, **more)  # type: ignore[arg-type]


def chain(*sizes: int, number: int = 0) -> TxPacket:
    """A good packet whose slots hold ``sizes`` bytes each, in pages of their own."""
    more = [M] * (len(sizes) - 1) + [0]
    later = [Data(*slot) for slot in zip(sizes[1:], more[1:], strict=True)]
    return TxPacket((Data(sum(sizes), more[0]), *later), number=number)


def sizes_of(packet: TxPacket) -> list[int]:
    """The bytes that each data slot holds; what the first one holds may be less than none."""
    data = packet.data
    later = [slot.size for slot in data[1:]]
    return [data[0].size - sum(later), *later]


def fate_of(packet: TxPacket) -> Fate:
    """What a backend has to do with ``packet``, by the rules (xen 4.17 netif.h, "Guest
    transmit")."""
    if packet.fate is not None:
        return packet.fate
    data, extras, sizes = packet.data, packet.extras, sizes_of(packet)
    whole = not data[-1].flags & M and all(slot.flags & M for slot in data[:-1])
    announced = bool(data[0].flags & E) == bool(extras) and all(
        bool(extra.flags & MORE) == (extra is not extras[-1]) for extra in extras
    )
    fits = all(
        slot.offset + size <= PAGE_SIZE and (slot.usable or not size)
        for slot, size in zip(data, sizes, strict=True)
    )
    known = all(0 < extra.kind < XEN_NETIF_EXTRA_TYPE_MAX for extra in extras)
    segments = all(_segments(extra) for extra in extras if extra.kind == GSO)
    if sizes[0] < ETHERNET_HEADER or not (whole and announced and fits and known and segments):
        return Fate.REFUSE
    return Fate.DELIVER if len(packet.slots) <= XEN_NETIF_NR_SLOTS_MIN else Fate.OPEN


def _segments(extra: Extra) -> bool:
    return extra.body[:2] != bytes(2) and extra.body[2] in (TCPV4, TCPV6)


@frozen
class Written:
    """A packet on the ring: its ``frame``, the ``idents`` of its data slots, its first ``index``,
    its ``fate``."""

    packet: TxPacket
    frame: bytes
    idents: tuple[int, ...]
    index: int
    fate: Fate = field(init=False)

    @fate.default
    def _fate(self) -> Fate:
        return fate_of(self.packet)


def put(peer: FrontendPeer, packet: TxPacket, queue: int = 0) -> Written:
    """Write a packet behind what is there; nothing is published."""
    sizes = sizes_of(packet)
    frame = packet.frame
    if frame is None:
        total = sum(max(0, size) for size in sizes)
        frame = plain(max(ETHERNET_HEADER, total), packet.number)[:total]
    index = peer.index("req_prod_pvt", queue=queue)
    left, idents = frame, []
    parts = iter(sizes)
    for slot in packet.slots:
        if isinstance(slot, Extra):
            peer.slot(slot.raw, queue=queue)
            continue
        size = max(0, next(parts))
        content = (bytes(slot.offset) + left[:size])[:PAGE_SIZE]
        left = left[size:]
        gref = slot.gref(peer, content)
        idents.append(peer.tx(slot.size, slot.flags, slot.ident, slot.offset, gref, queue=queue))
    peer.frames.append((peer.hv.now, frame))
    return Written(packet, frame, tuple(idents), index)


def pages(packets: Sequence[TxPacket]) -> int:
    """Receive buffers that suffice for the echo of all of them, extra infos and segments too."""
    return sum(
        2 + len(packet.extras) + sum(max(0, size) for size in sizes_of(packet)) // 1000
        if packet.extras
        else 1 + sum(max(0, size) for size in sizes_of(packet)) // PAGE_SIZE
        for packet in packets
    )
