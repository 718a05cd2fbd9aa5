"""Extra infos behind the first slot of a packet: where they stand, which there are, what they
say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xennet.abi.netif import XEN_NETIF_EXTRA_TYPE_HASH
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import Field
from xennet.check.checks_netback.rows import SURVIVES, Row, enter
from xennet.check.checks_netback.tx_packets import (
    MORE,
    TCPV4,
    TCPV6,
    C,
    Data,
    E,
    Extra,
    Fate,
    M,
    Slot,
    TxPacket,
    V,
    chain,
    gso,
    of,
)
from xennet.check.ip_frames import IPV6, Flow, packet

_V4, _V6 = Flow(), Flow(IPV6)
_GSO4, _GSO6 = frozenset({"gso-tcpv4", "csum"}), frozenset({"gso-tcpv6", "csum-v6"})
_SG = frozenset({"sg"})
_HASH = XEN_NETIF_EXTRA_TYPE_HASH


def offloaded(
    size: int, *extras: Extra, flow: Flow = _V4, flags: int = C | V, fate: Fate | None = None
) -> TxPacket:
    """A TCP packet with a blank checksum and these extra infos; one of more than a page has its
    headers in the first slot, and the rest in pages."""
    frame = packet(size, flow, blank=bool(flags & C))
    left = size - flow.headers if size > PAGE_SIZE else 0
    later = [*[PAGE_SIZE] * (left // PAGE_SIZE), *([left % PAGE_SIZE] if left % PAGE_SIZE else [])]
    first = Data(size, flags | (E if extras else 0) | (M if later else 0))
    rest: list[Slot] = [Data(part, M if n < len(later) - 1 else 0) for n, part in enumerate(later)]
    return TxPacket((first, *extras, *rest), frame, flow, fate)


def _with_extra(make: Callable[[int], Extra], value: int) -> list[TxPacket]:
    return [offloaded(4000, make(value))]


enter(
    [
        Row(
            "netback.extra.gso-tcpv4",
            "netif.tx.gso",
            "A TCPv4 packet of 4000 bytes with segments of 1448 is taken in one slot.",
            lambda _: [offloaded(4000, gso(1448))],
            needs=_GSO4,
            hint="a GSO packet may be larger than the MTU; its checksum is blank",
        ),
        Row(
            "netback.extra.gso-chain",
            "netif.tx.gso",
            "A TCPv4 packet of 12000 bytes in four slots behind its extra info.",
            lambda _: [offloaded(12000, gso(1448))],
            needs=_GSO4 | _SG,
            hint="data slots go on behind the extra info",
        ),
        Row(
            "netback.extra.gso-largest",
            "netif.tx.gso",
            "A TCPv4 packet of 65226 bytes in 17 slots and an extra info, as Linux sends them.",
            lambda _: [offloaded(65226, gso(1448))],
            needs=_GSO4 | _SG,
            hint="extra infos do not count as data slots",
        ),
        Row(
            "netback.extra.gso-tcpv6",
            "netif.tx.gso",
            "A TCPv6 packet of 9000 bytes with segments of 1428.",
            lambda _: [offloaded(9000, gso(1428, TCPV6), flow=_V6)],
            needs=_GSO6 | _SG,
            hint="an IPv6 header has 40 bytes and no checksum of its own",
        ),
        Row(
            "netback.extra.gso-one-segment",
            "netif.tx.gso",
            "A GSO packet of less payload than one segment.",
            lambda _: [offloaded(700, gso(1448))],
            needs=_GSO4,
            hint="a packet that is one segment already is only completed",
        ),
        Row(
            "netback.extra.gso-then-plain",
            "netif.tx.extra-place",
            "A packet without extra infos behind one with: it has none of them.",
            lambda _: [offloaded(4000, gso(1448)), chain(60), offloaded(3000, gso(500)), chain(61)],
            needs=_GSO4,
            hint="forget extra infos with their packet",
        ),
        Row(
            "netback.extra.gso-without-blank",
            "netif.tx.gso",
            "A GSO packet with a whole checksum and no csum_blank is taken all the same (buggy "
            "guests "
            "send them).",
            lambda _: [offloaded(4000, gso(1448), flags=0, fate=Fate.OPEN)],
            needs=_GSO4,
            hint="make the checksum blank, or refuse the packet",
        ),
        Row(
            "netback.extra.hash",
            "netif.tx.extra-known",
            "A packet with a hash extra info is delivered.",
            lambda _: [of(Data(60, E), Extra(_HASH, 0, bytes([1, 1, 1, 2, 3, 4]))), chain(61)],
            needs=frozenset({"ctrl-ring"}),
            hint="consume the slot, answer NETIF_RSP_NULL, ignore what is not needed",
        ),
        Row(
            "netback.extra.two",
            "netif.tx.extra-more",
            "Two extra infos of one packet, GSO and hash: both are consumed.",
            lambda _: [
                offloaded(4000, gso(1448, flags=MORE), Extra(_HASH)),
                chain(61),
                offloaded(4000, Extra(_HASH, MORE), gso(1448)),
                chain(62),
            ],
            needs=_GSO4 | {"ctrl-ring"},
            hint="go on while XEN_NETIF_EXTRA_FLAG_MORE is set",
        ),
        Row(
            "netback.extra.two-of-a-type",
            "netif.tx.extra-more",
            "Two GSO extra infos of one packet: both are consumed, one counts.",
            lambda _: [offloaded(4000, gso(1000, flags=MORE), gso(1448)), chain(61)],
            needs=_GSO4,
            hint="answer every slot by NETIF_RSP_NULL, not every type",
        ),
        Row(
            "netback.extra.many",
            "netif.tx.extra-place",
            "A ring full of packets with an extra info each.",
            lambda _: [offloaded(300, gso(1448))] * 120,
            needs=_GSO4,
            hint="room for extra infos is needed for every slot of the ring",
        ),
    ]
)

enter(
    [
        Row(
            "netback.extra.missing",
            "netif.tx.extra-missing",
            "extra_info is set on the last slot there is.",
            lambda value: [chain(61), of(Data(60, value))],
            Field("flags of the last slot", E, 0),
            hint="do not read beyond req_prod, and do not answer a slot that was not consumed",
        ),
        Row(
            "netback.extra.missing-alone",
            "netif.tx.extra-missing",
            "extra_info is set on the only slot there is.",
            lambda value: [of(Data(60, value))],
            Field("flags of the slot", E, 0),
            hint="do not read beyond req_prod, and do not answer a slot that was not consumed",
        ),
        Row(
            "netback.extra.more-missing",
            "netif.tx.extra-missing",
            "XEN_NETIF_EXTRA_FLAG_MORE is set on the last slot there is.",
            lambda value: [offloaded(4000, gso(1448, flags=value))],
            Field("flags of the extra info", MORE, 0),
            needs=_GSO4,
            hint="do not read beyond req_prod: an extra info may be missing too",
        ),
        Row(
            "netback.extra.data-missing",
            "netif.tx.chain-ends",
            "The data slot behind an extra info is missing.",
            lambda value: [
                TxPacket((Data(4000, value | E | C | V), gso(1448)), packet(4000, blank=True), _V4)
            ],
            Field("flags of the first slot", M, 0),
            needs=_GSO4,
            hint="do not read beyond req_prod, with an extra info or without",
        ),
        Row(
            "netback.extra.on-a-later-slot",
            "netif.tx.extra-first-only",
            "extra_info on a later slot has nothing behind it: what follows is the next packet.",
            lambda value: [
                TxPacket((Data(100, M), Data(40, value)), fate=Fate.OPEN if value else None),
                TxPacket((Data(62),), fate=Fate.OPEN if value else None),
            ],
            Field("flags of the second slot", E, 0),
            SURVIVES,
            needs=_SG,
            hint="look at extra_info of a packet's first slot only",
        ),
        Row(
            "netback.extra.short-packet",
            "netif.tx.null-response",
            "A short packet with an extra info: an error for it, NETIF_RSP_NULL for the extra "
            "info.",
            lambda value: (
                [TxPacket((Data(value, E | C | V), gso(1448)), packet(200, blank=True), _V4)]
                if value > 13
                else [of(Data(value, E | C | V), gso(1448)), chain(61)]
            ),
            Field("size of the first slot", 4, 200),
            needs=_GSO4,
            hint="every extra info slot gets a response, also in a packet that is refused",
        ),
        Row(
            "netback.extra.endless",
            "netif.tx.extra-more",
            "Two hundred extra infos, each with XEN_NETIF_EXTRA_FLAG_MORE, and no end.",
            lambda value: [
                TxPacket(
                    (Data(300, E | C | V), *[gso(1448, flags=MORE)] * 199, gso(1448, flags=value)),
                    packet(300, blank=True),
                    _V4,
                    None if value else Fate.OPEN,
                )
            ],
            Field("flags of the last extra info", MORE, 0),
            SURVIVES,
            needs=_GSO4,
            hint="extra infos go into no table by their number",
        ),
    ]
)

enter(
    Row(
        f"netback.extra.type-{kind:#04x}",
        "netif.tx.extra-type",
        f"An extra info of type {kind} is none: its packet is refused.",
        lambda value: [
            TxPacket(
                (Data(200, E | C | V), Extra(value, 0, gso().body)), packet(200, blank=True), _V4
            )
        ],
        Field("type of the extra info", kind, 1),
        needs=_GSO4,
        hint="check 0 < type < XEN_NETIF_EXTRA_TYPE_MAX before the type indexes anything",
    )
    for kind in (0, 6, 7, 0x7F, 0x80, 0xFF)
)

enter(
    Row(
        f"netback.extra.second-type-{kind:#04x}",
        "netif.tx.extra-type",
        f"A second extra info of type {kind} is none: its packet is refused, and what is behind "
        "it is not "
        "read as a request.",
        lambda value: [
            TxPacket(
                (Data(200, E | C | V), gso(1448, flags=MORE), Extra(value, 0, gso().body)),
                packet(200, blank=True),
                _V4,
            ),
            chain(61),
        ],
        Field("type of the second extra info", kind, 1),
        needs=_GSO4,
        hint="judge every extra info before any is used",
    )
    for kind in (0, 0xFF)
)

enter(
    Row(
        f"netback.extra.{name}",
        rule,
        f"{what}: the packet is refused.",
        partial(_with_extra, make),
        field,
        needs=_GSO4,
        hint=hint,
    )
    for name, rule, what, make, field, hint in (
        (
            "gso-size-0",
            "netif.tx.gso-size",
            "A GSO packet with segments of no bytes",
            lambda value: gso(value),
            Field("size of the segments", 0, 1448),
            "refuse size 0: segmentation would divide by it, or never end",
        ),
        *[
            (
                f"gso-type-{kind}",
                "netif.tx.gso-type",
                f"A GSO packet of type {kind}",
                lambda value: gso(1448, value),
                Field("GSO type", kind, TCPV4),
                "refuse types other than TCPV4 and TCPV6",
            )
            for kind in (0, 3, 9, 255)
        ],
    )
)
