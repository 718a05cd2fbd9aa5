"""Blank checksums of what the frontend sends, and of what the backend gives; headers that lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xennet.abi.netif import NETRXF_csum_blank
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.judge import Came, judge, post
from xennet.check.checks_netback.rows import GOES_ON, SURVIVES, Row, always, enter
from xennet.check.checks_netback.tx_extras import offloaded
from xennet.check.checks_netback.tx_packets import (
    C,
    Data,
    E,
    Fate,
    M,
    TxPacket,
    V,
    chain,
    gso,
    put,
)
from xennet.check.ip_frames import IPV4, IPV6, TCP, UDP, Flow, packet, plain, with_header_sum
from xennet.check.peers import FrontendPeer

_FLOWS = {
    "tcp4": Flow(IPV4, TCP),
    "udp4": Flow(IPV4, UDP),
    "tcp6": Flow(IPV6, TCP),
    "udp6": Flow(IPV6, UDP),
}
_HINT = "csum_blank is bit 0 of a tx request, bit 1 of an rx response; the other is data_validated"


def _needs(name: str) -> frozenset[str]:
    return frozenset({"csum"} if name.endswith("4") else {"csum-v6"})


enter(
    Row(
        f"netback.csum.blank-{name}{suffix}",
        "netif.tx.csum-blank" if suffix else "netif.rx.csum-blank",
        f"The blank checksum of a {name} packet with {said} is completed, or told to be blank.",
        always(
            TxPacket((Data(600, flags),), packet(600, flow, blank=True), flow),
            TxPacket((Data(601, flags),), packet(601, flow, blank=True, number=1), flow),
        ),
        needs=_needs(name),
        hint=_HINT,
    )
    for name, flow in _FLOWS.items()
    for suffix, said, flags in (
        ("", "both flags", C | V),
        ("-alone", "csum_blank alone", C),
    )
)

enter(
    [
        Row(
            "netback.csum.blank-in-a-chain",
            "netif.tx.csum-blank",
            "The blank checksum of a packet whose headers are spread over slots.",
            lambda _: [
                TxPacket(
                    (Data(700, C | V | M), Data(20, M), Data(12, M), Data(654)),
                    packet(700, blank=True),
                    Flow(),
                )
            ],
            needs=frozenset({"csum", "sg"}),
            hint="gather the headers before the checksum is written",
        ),
        Row(
            "netback.csum.validated",
            "netif.tx.csum-untouched",
            "A packet with data_validated alone is delivered as it is.",
            lambda _: [TxPacket((Data(600, V),), packet(600)), chain(61)],
            hint="data_validated says that nobody has to look; it asks for nothing",
        ),
        Row(
            "netback.csum.right",
            "netif.tx.csum-untouched",
            "A packet without checksum flags and with a right checksum is delivered as it is.",
            lambda _: [TxPacket((Data(600),), packet(600)), TxPacket((Data(600, V),), plain(600))],
            hint="without csum_blank no byte is changed",
        ),
        Row(
            "netback.csum.wrong-untouched",
            "netif.tx.csum-untouched",
            "A packet without csum_blank and with a wrong checksum is delivered as it is, or "
            "dropped.",
            lambda _: [
                TxPacket((Data(600),), _patched(50, b"\x12\x34"), fate=Fate.OPEN),
                chain(61),
            ],
            hint="no checksum is repaired that was not said to be blank",
        ),
    ]
)


def _patched(at: int, data: bytes, size: int = 600, *, blank: bool = False) -> bytes:
    frame = bytearray(packet(size, blank=blank))
    frame[at : at + len(data)] = data
    return with_header_sum(bytes(frame))


#: Name -> what the header says, and where which bytes are wrong; the control has the right ones.
_LIES: dict[str, tuple[str, int, bytes, bytes]] = {
    "header-of-60": ("an IPv4 header of 60 bytes, which are not there", 14, b"\x4f", b"\x45"),
    "header-of-16": ("an IPv4 header of 16 bytes", 14, b"\x44", b"\x45"),
    "header-of-0": ("an IPv4 header of no bytes", 14, b"\x40", b"\x45"),
    "version-6": ("version 6 in an IPv4 frame", 14, b"\x65", b"\x45"),
    "total-65535": ("a total length of 65535", 16, b"\xff\xff", b"\x00\x2e"),
    "total-0": ("a total length of 0", 16, b"\x00\x00", b"\x00\x2e"),
    "total-19": ("a total length of less than its header", 16, b"\x00\x13", b"\x00\x2e"),
    "total-of-headers": ("a total length without a whole TCP header", 16, b"\x00\x1c", b"\x00\x2e"),
    "fragment": ("a fragment offset", 20, b"\x00\x08", b"\x40\x00"),
    "more-fragments": ("more fragments to come", 20, b"\x20\x00", b"\x40\x00"),
    "protocol": ("a protocol that is neither TCP nor UDP", 23, b"\x2f", b"\x06"),
    "ethertype": ("an ethertype that nobody knows", 12, b"\x88\xb5", b"\x08\x00"),
    "vlan": ("a VLAN tag with nothing behind it", 12, b"\x81\x00", b"\x08\x00"),
    "data-offset": ("a TCP header of 60 bytes, which are not there", 46, b"\xf0", b"\x50"),
}
_SIZE = 60


def _lie(at: int, lie: bytes, value: bytes) -> list[TxPacket]:
    frame = _patched(at, value, _SIZE, blank=True)
    fate = Fate.OPEN if value == lie else None
    flow = None if value == lie else Flow()
    return [
        chain(62),
        TxPacket((Data(_SIZE, C | V),), frame, flow, fate),
        chain(61),
    ]


def _lies() -> list[Row]:
    return [
        Row(
            f"netback.csum.lie-{name}",
            "netif.tx.csum-headers",
            f"csum_blank on a packet that says {what}: nothing but that packet is lost.",
            partial(_lie, at, lie),
            Field(f"bytes {at}.. of the frame", lie, right),
            SURVIVES,
            needs=frozenset({"csum"}),
            hint="check every length of a header against the bytes that are there",
        )
        for name, (what, at, lie, right) in _LIES.items()
    ]


enter(_lies())

enter(
    Row(
        f"netback.csum.truncated-{size}",
        "netif.tx.csum-headers",
        f"csum_blank on an IPv4 packet of {size} bytes, whose headers end too early.",
        lambda value: [
            TxPacket(
                (Data(value, C | V),),
                packet(60, blank=True)[:value] if value < 60 else packet(60, blank=True),
                Flow() if value == 60 else None,
                Fate.OPEN if value < 60 else None,
            ),
            chain(61),
        ],
        Field("size of the slot", size, 60),
        SURVIVES,
        needs=frozenset({"csum"}),
        hint="headers are read as far as the packet goes",
    )
    for size in (14, 20, 33, 34, 40, 53)
)

enter(
    [
        Row(
            "netback.csum.gso-lie",
            "netif.tx.csum-headers",
            "A GSO packet whose headers cannot be read.",
            lambda value: [
                TxPacket(
                    (Data(_SIZE, C | V | E), gso(1448)),
                    _patched(14, value, _SIZE, blank=True),
                    Flow() if value == b"\x45" else None,
                    Fate.OPEN if value != b"\x45" else None,
                ),
                chain(61),
            ],
            Field("byte 14 of the frame", b"\x4f", b"\x45"),
            SURVIVES,
            needs=frozenset({"csum", "gso-tcpv4"}),
            hint="check every length of a header against the bytes that are there",
        ),
        Row(
            "netback.csum.gso-of-another-version",
            "netif.tx.csum-headers",
            "A GSO packet of type TCPv6 with IPv4 in it.",
            lambda value: [
                TxPacket(
                    (Data(4000, C | V | E), gso(1448, value)),
                    packet(4000, blank=True),
                    Flow() if value == 1 else None,
                    Fate.OPEN if value != 1 else None,
                ),
                chain(61),
            ],
            Field("GSO type", 2, 1),
            SURVIVES,
            needs=frozenset({"csum", "gso-tcpv4", "gso-tcpv6"}),
            hint="the GSO type and the packet have to agree before it is segmented",
        ),
    ]
)

# -- what the frontend takes -----------------------------------------------------------------------


def _from_backend(
    peer: FrontendPeer, changes: dict[str, str | None], sent: TxPacket, judged: Callable[..., str]
) -> None:
    enter_with(peer, changes)
    post(peer, 24)
    one = put(peer, sent)
    peer.push_tx()
    peer.settle()
    for came in judge(peer, [one]):
        if wrong := judged(came):
            slot = came.slots[0]
            raise Violation(wrong, ring="rx", index=slot.index, raw=slot.raw)


#: Name -> features of the frontend, the packet that it sends, what may not come back.
_NOT_ASKED: dict[str, tuple[str, dict[str, str | None], Callable[[], TxPacket], str]] = {
    "no-csum-offload": (
        "netif.rx.no-csum-offload",
        {"feature-no-csum-offload": "1", "feature-gso-tcpv4": None},
        lambda: TxPacket((Data(600, C | V),), packet(600, blank=True), Flow(), Fate.OPEN),
        "csum",
    ),
    "no-ipv6-csum-offload": (
        "netif.rx.ipv6-csum-offload",
        {"feature-ipv6-csum-offload": None, "feature-gso-tcpv6": None},
        lambda: TxPacket(
            (Data(600, C | V),), packet(600, Flow(IPV6), blank=True), Flow(IPV6), Fate.OPEN
        ),
        "csum-v6",
    ),
}

for _name, (_rule, _changes, _sent, _need) in _NOT_ASKED.items():

    @check(
        id=f"netback.csum.{_name}",
        rule=_rule,
        side=Side.NETBACK,
        accepts=GOES_ON,
        needs=frozenset({_need}),
        connect=False,
        hint="complete what the frontend does not take blank, or drop it",
    )
    def nothing_blank(
        peer: FrontendPeer,
        _: object,
        changes: dict[str, str | None] = _changes,
        sent: Callable[[], TxPacket] = _sent,
    ) -> None:
        """A frontend that says it does not take blank checksums gets none."""
        _from_backend(
            peer,
            changes,
            sent(),
            lambda came: (
                "csum_blank, which the frontend has not asked for"
                if came.flags & NETRXF_csum_blank
                else ""
            ),
        )


for _version, _feature in ((IPV4, "feature-gso-tcpv4"), (IPV6, "feature-gso-tcpv6")):

    @check(
        id=f"netback.csum.no-gso-tcpv{_version}",
        rule="netif.rx.gso",
        side=Side.NETBACK,
        accepts=GOES_ON,
        needs=frozenset({f"gso-tcpv{_version}", "csum" if _version == IPV4 else "csum-v6"}),
        connect=False,
        hint="segment for a frontend without the feature, or drop the packet",
    )
    def no_gso(
        peer: FrontendPeer, _: object, version: int = _version, feature: str = _feature
    ) -> None:
        """A frontend without a GSO feature gets no packet of that type."""
        sent = offloaded(
            4000,
            gso(1428, 1 if version == IPV4 else 2),
            flow=Flow(version),
            fate=Fate.OPEN,
        )
        _from_backend(
            peer,
            {feature: None},
            sent,
            lambda came: (
                "a GSO packet, which the frontend has not asked for"
                if came.gso_size or len(came.frame) > 1514
                else ""
            ),
        )


@check(
    id="netback.csum.no-sg",
    rule="netif.rx.sg",
    side=Side.NETBACK,
    accepts=GOES_ON,
    needs=frozenset({"sg"}),
    connect=False,
    hint="a frontend without feature-sg takes packets of one slot",
)
def no_sg(peer: FrontendPeer, _: object) -> None:
    """A frontend without feature-sg gets no packet of several data slots."""
    sent = TxPacket(chain(4000, 1000).slots, fate=Fate.OPEN)
    changes: dict[str, str | None] = {
        "feature-sg": None,
        "feature-gso-tcpv4": None,
        "feature-gso-tcpv6": None,
    }
    _from_backend(
        peer,
        changes,
        sent,
        lambda came: f"a packet of {len(came.slots)} slots" if len(came.slots) > 1 else "",
    )


_GSO = frozenset({"gso-tcpv4", "csum"})


def _gso_echo(peer: FrontendPeer, *sizes: int) -> list[Came]:
    """GSO packets of these sizes, judged; those that came back as such."""
    post(peer, 60)
    sent = [put(peer, offloaded(size, gso(1448))) for size in sizes]
    peer.push_tx()
    peer.settle()
    return [came for came in judge(peer, sent) if came.gso_size]


@check(
    id="netback.csum.gso-more-data",
    rule="netif.rx.more-data",
    side=Side.NETBACK,
    needs=_GSO | {"sg"},
    hint="decide more_data by data slots, and do not count extra infos among them",
)
def gso_more_data(peer: FrontendPeer, _: object) -> None:
    """A GSO packet of several data slots for the guest has more_data on all but the last."""
    _gso_echo(peer, 9000, 16000, 5000)


@check(
    id="netback.csum.gso-validated",
    rule="netif.rx.gso-validated",
    side=Side.NETBACK,
    needs=_GSO,
    hint="an aggregated packet without data_validated is checked again, segment by segment",
)
def gso_validated(peer: FrontendPeer, _: object) -> None:
    """A GSO packet for the guest has data_validated, and csum_blank with a pseudo-header sum."""
    for came in _gso_echo(peer, 4000, 3000):
        if not came.flags & NETRXF_csum_blank:
            slot = came.slots[0]
            raise Violation(
                "a GSO packet without csum_blank", ring="rx", index=slot.index, raw=slot.raw
            )


@check(
    id="netback.csum.gso-extra",
    rule="netif.rx.extra-first-only",
    side=Side.NETBACK,
    needs=_GSO,
    hint="the extra info is right behind the first slot of its packet, and of no other",
)
def gso_extra(peer: FrontendPeer, _: object) -> None:
    """A plain packet behind a GSO packet has no extra info."""
    post(peer, 20)
    sent = [put(peer, offloaded(4000, gso(1448))), put(peer, chain(60)), put(peer, chain(61))]
    peer.push_tx()
    peer.settle()
    for came in judge(peer, sent)[-2:]:
        if came.extras:
            slot = came.slots[0]
            raise Violation(
                "a plain packet has extra infos", ring="rx", index=slot.index, raw=slot.raw
            )
