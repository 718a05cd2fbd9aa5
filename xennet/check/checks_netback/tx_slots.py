"""One slot of the tx ring: what it says, and what it must not say."""

from __future__ import annotations

from functools import partial

from xennet.check.check import Field
from xennet.check.checks_netback.rows import GOES_ON, Row, always, enter
from xennet.check.checks_netback.tx_packets import Data, TxPacket, chain, of
from xennet.check.ip_frames import ETHERNET_HEADER

_IN_PAGE = "netif.tx.slot-in-page"
_SHORT = "netif.tx.short-packet"


def _at_offset(size: int, value: int) -> list[TxPacket]:
    return [of(Data(size, offset=value))]


enter(
    Row(
        f"netback.tx.deliver-{size}",
        "netif.tx.deliver",
        f"A packet of {size} bytes in one slot is delivered, unchanged, and answered OKAY.",
        always(chain(size)),
        hint="copy size bytes from offset of the page behind gref",
    )
    for size in (ETHERNET_HEADER, 60, 1514, 4096)
)

enter(
    Row(
        f"netback.tx.offset-{offset}",
        "netif.tx.layout",
        f"A packet of 60 bytes at offset {offset} of its page is delivered from there.",
        always(of(Data(60, offset=offset))),
        hint="gref is in bytes 0..3 of the slot, offset in 4..5, flags in 6..7, id in 8..9, size "
        "in 10..11, "
        "little-endian",
    )
    for offset in (1, 0x123, 4096 - 60)
)

enter(
    Row(
        f"netback.tx.id-{ident:#06x}",
        "netif.tx.id-echo",
        f"A request with id {ident:#06x} is answered by that id.",
        always(of(Data(60, ident=ident))),
        hint="the id is 16 bits of the frontend's own; give it back as it is",
    )
    for ident in (0, 0x00FF, 0x0100, 0x1234, 0x8000, 0xFFFF)
)

enter(
    [
        Row(
            "netback.tx.same-id",
            "netif.tx.id-echo",
            "Three requests with one id get three responses with that id.",
            lambda _: [of(Data(60 + n, ident=7), number=n) for n in range(3)],
            hint="do not use the id as a key",
        ),
        Row(
            "netback.tx.order",
            "netif.tx.order",
            "Packets of one push are delivered in the order of their slots.",
            lambda _: [chain(60 + n % 3, number=n) for n in range(40)],
            hint="queue packets in ring order",
        ),
        Row(
            "netback.tx.full-ring",
            "netif.tx.one-response",
            "A ring full of packets, 256 at once, is taken and answered slot by slot.",
            lambda _: [chain(60, number=n) for n in range(256)],
            hint="more than one pass may be needed; ask for the next event only when nothing is "
            "left",
        ),
        Row(
            "netback.tx.neighbours",
            "netif.tx.deliver",
            "Packets that share a page, side by side, are delivered each with its own bytes.",
            lambda _: [of(Data(200, offset=300 * n), number=n) for n in range(8)],
            hint="a page may belong to several packets",
        ),
        Row(
            "netback.tx.unknown-flags",
            "netif.tx.layout",
            "Flags that no version of the protocol has set are not taken for known ones.",
            lambda value: [of(Data(60, value)), chain(61)],
            Field("flags of the slot", 0xFFF0, 0),
            GOES_ON,
            hint="test the bits that are known, ignore or refuse others",
        ),
    ]
)

enter(
    Row(
        f"netback.tx.{name}",
        _IN_PAGE,
        f"A slot of {size} bytes at offset {offset} reaches beyond its page: it is not copied.",
        partial(_at_offset, size),
        Field("offset of the slot", offset, control),
        hint="refuse offset + size > 4096, added in more than 16 bits",
    )
    for name, size, offset, control in (
        ("page-end-by-one", 60, 4037, 4036),
        ("slot-in-page", 200, 4000, 3896),
        ("page-end-whole-page", 4096, 1, 0),
        ("page-end-offset-of-a-page", 60, 4096, 0),
        ("page-end-sum-wraps", 60, 0xFFF0, 0x0FC0),
        ("page-end-offset-65535", 60, 0xFFFF, 0),
    )
)

enter(
    Row(
        f"netback.tx.larger-than-a-page-{size}",
        _IN_PAGE,
        f"One slot that says {size} bytes cannot have them in its page: it is not copied.",
        lambda value: [of(Data(value))],
        Field("size of the slot", size, 4096),
        hint="refuse offset + size > 4096",
    )
    for size in (4097, 40000, 65000, 65535)
)

enter(
    Row(
        f"netback.tx.short-{size}",
        _SHORT,
        f"A packet of {size} bytes is no Ethernet frame: it is refused, consumed, and answered "
        "once.",
        lambda value: [of(Data(value))],
        Field("size of the slot", size, ETHERNET_HEADER),
        hint="answer NETIF_RSP_ERROR and move req_cons on, also where there is nothing to copy",
    )
    for size in (0, 1, 4, 13)
)

enter(
    [
        Row(
            "netback.tx.short-many",
            "netif.tx.one-response",
            "Two hundred packets of no bytes are answered once each; the ring goes on.",
            lambda value: [of(Data(value)) for _ in range(200)],
            Field("size of the slots", 0, 60),
            hint="every consumed slot gets one response; count such slots, do not print each",
        ),
        Row(
            "netback.tx.short-between-good",
            "netif.tx.status",
            "Good packets in front of a short one and behind it are delivered.",
            lambda value: [chain(60), of(Data(value)), chain(61), chain(62)],
            Field("size of the second packet", 4, 60),
            hint="a refused packet ends neither the pass nor the ring",
        ),
    ]
)
