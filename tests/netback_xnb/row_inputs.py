"""For each row that a ring can trigger an input that comes to it, also when all others are known.

``ring(...)`` is an input of tx slots, ``to_guest(...)`` one of receive buffers and frames.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet import XnbPoller
from xennet.abi.netif import (
    EXTRA_GSO,
    RX_REQUEST,
    TX_REQUEST,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.netback.poll_page import FIRST_GREF
from xennet.netback.xnb.known import DELIVERED, PARSED, PLANNED
from xennet.netback.xnb.mbuf import MCLBYTES
from xennet.netback.xnb.rx import SoftcFeatures
from xennet.ring import rx_ring_page, tx_ring_page

C, V, M, E = NETTXF_csum_blank, NETTXF_data_validated, NETTXF_more_data, NETTXF_extra_info
#: A reference that grants nothing.
NO_GRANT = 400


class Input:
    """What is written into a poller before a pass, by ``loads``; called, it makes the pass too."""

    def __init__(self, *loads: Callable[[XnbPoller], None]) -> None:
        self.loads = loads

    def load(self, poller: XnbPoller) -> None:
        for load in self.loads:
            load(poller)

    def __call__(self, poller: XnbPoller) -> int:
        self.load(poller)
        return poller.poll()

    def __add__(self, other: Input) -> Input:
        return Input(*self.loads, *other.loads)


def request(
    size: int, flags: int = 0, *, gref: int = FIRST_GREF, offset: int = 0, ident: int = 7
) -> bytes:
    return TX_REQUEST.pack(gref, offset, flags, ident, size)


def extra(
    kind: int = XEN_NETIF_EXTRA_TYPE_GSO,
    flags: int = 0,
    size: int = 1448,
    gso: int = XEN_NETIF_GSO_TYPE_TCPV4,
) -> bytes:
    return EXTRA_GSO.pack(kind, flags, size, gso, 0, 0).ljust(TX_REQUEST.size, b"\0")


def udp(payload: bytes = bytes(30), checksum: bytes = bytes(2)) -> bytes:
    """An Ethernet frame with IPv4 and UDP."""
    length = (8 + len(payload)).to_bytes(2, "big")
    header = bytes([0x45, 0]) + (28 + len(payload)).to_bytes(2, "big") + bytes(4) + b"\x40\x11"
    ports = b"\0\1\0\2"
    return (
        bytes(12)
        + b"\x08\0"
        + header
        + bytes(2)
        + bytes(range(8))
        + ports
        + length
        + checksum
        + payload
    )


def ring(
    *slots: bytes, produced: int | None = None, memory: bytes = b"", meanwhile: str = ""
) -> Input:
    """A pass over a tx ring with ``slots``; ``memory`` is what the first granted page holds.

    ``meanwhile`` "rewrites" makes the second slot 4000 bytes longer once the packet is parsed;
    "produces" pushes one more packet for each that was delivered.
    """

    def load(poller: XnbPoller) -> None:
        poller.pages[: len(memory)] = memory
        poller.load(tx_ring_page(slots, published=produced))
        pushed = len(slots)

        def rewrites(step: str) -> None:
            if step == PARSED:
                at = SRING_HEADER_SIZE + TX_REQUEST.size
                poller.ring_page[at : at + TX_REQUEST.size] = request(4000)

        def produces(step: str) -> None:
            nonlocal pushed
            if step == DELIVERED:
                at = SRING_HEADER_SIZE + pushed % 256 * TX_REQUEST.size
                poller.ring_page[at : at + TX_REQUEST.size] = request(60)
                pushed += 1
                poller.ring_page[:4] = pushed.to_bytes(4, "little")

        if meanwhile:
            poller.meanwhile = {"rewrites": rewrites, "produces": produces}[meanwhile]

    return Input(load)


def to_guest(
    grefs: list[int],
    frames: list[int],
    *,
    gso: int = 0,
    ahead: int = 0,
    features: SoftcFeatures | None = None,
    rewrites: bool = False,
    segments: int = MCLBYTES,
) -> Input:
    """A pass with ``frames`` (their lengths) for the guest, which has posted ``grefs``.

    ``ahead``: so much further is req_prod. ``rewrites``: the first gref becomes another one once
    the copy is planned. ``segments``: the length of the mbufs of a frame.
    """

    def load(poller: XnbPoller) -> None:
        buffers = [RX_REQUEST.pack(i, 0xAAAA, gref) for i, gref in enumerate(grefs)]
        poller.rx_page[:] = rx_ring_page(buffers, published=len(grefs) + ahead)
        if features is not None:
            poller.features = features

        def rewrite(step: str) -> None:
            if step == PLANNED:
                poller.rx_page[SRING_HEADER_SIZE + 4] ^= 1

        if rewrites:
            poller.meanwhile = rewrite
        for length in frames:
            poller.queue(bytes(length), gso_size=gso, segment=segments)

    return Input(load)


POSTED = [FIRST_GREF + i for i in range(20)]

#: Row -> its input.
INPUTS: dict[str, Input] = {
    "A1": ring(request(100, M), request(200)),
    "A2": ring(request(60, M), *[request(4096, M)] * 16, request(40)),
    "A3": ring(request(0)),
    "A4": ring(request(60, E)),
    "A5": ring(
        request(60, E),
        extra(flags=XEN_NETIF_EXTRA_FLAG_MORE),
        extra(XEN_NETIF_EXTRA_TYPE_HASH),
        request(60),
    ),
    "A6": ring(request(100, M), request(40, E), extra()),
    "A7": ring(request(60, E), extra(XEN_NETIF_EXTRA_TYPE_HASH)),
    "A8": ring(*[request(60, M)] * 256),
    "A9": ring(request(84, M), *[request(1, M)] * 68, request(1)),
    "A10": ring(request(60, E), extra(0xFF), request(60)),
    "A11": ring(request(60, M)),
    "A12": ring(request(200, offset=4000)),
    "A13": ring(request(65000)),
    # Ids that are grefs: a response leaves its slot a request.
    "A14": ring(*[request(60, ident=FIRST_GREF)] * 256, produced=1000),
    "A15": ring(request(60), meanwhile="produces"),
    "A16": ring(request(100, M), request(60), meanwhile="rewrites"),
    "A17": ring(request(len(udp()), C | V), memory=udp()[:17] + b"\x10" + udp()[18:]),
    "A18": ring(request(76, M), *[request(1, M | C)] * 61, request(1)),
    "A19": ring(request(len(udp()), C), memory=udp()),
    "A20": ring(request(60, E), extra(size=0)),
    "A21": ring(request(60, E), extra(9)),
    "A22": ring(request(60, E), extra()),
    "B1": to_guest([24, 24], [4196]),
    "B2": to_guest([24, 24, 24], [6000, 60]),
    "B3": to_guest([NO_GRANT], [60]),
    "B4": to_guest(POSTED, [9000], gso=1448),
    "B5": to_guest([NO_GRANT, *POSTED], [5000]),
    "B6": to_guest(POSTED, [60], ahead=1000),
    "B7": to_guest(POSTED, [60], rewrites=True),
    "B8": to_guest(POSTED, [70], segments=1),
    "B9": to_guest(POSTED, [65636]),
    "B10": to_guest(POSTED, [5000], features=SoftcFeatures(0, 0, 0, True)),
}
