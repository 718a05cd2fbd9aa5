"""Vectors for netbacks: a page of the transmit ring, what is delivered and what is answered.

Inputs are written here; what comes out is what the hardened backend does, which the tests hold
against a model that shares nothing with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from attrs import frozen

from xennet.abi import netif
from xennet.abi.grant_table import GTF_permit_access, GTF_readonly
from xennet.abi.netif import (
    EXTRA_GSO,
    EXTRA_HASH,
    EXTRA_MCAST,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    TX_REQUEST,
    TX_RESPONSE,
)
from xennet.abi.ring import NETIF_TX_RING_SIZE, SRING_WORD_rsp_event
from xennet.abi.xen import PAGE_SIZE
from xennet.check.vectors.vector import Packet, Response, Result, Vector
from xennet.check.vectors.vector_pages import (
    ARP_PAGE,
    FIRST_GREF,
    PAGES,
    TCP4_PAGE,
    TCP6_PAGE,
    UDP4_PAGE,
    VLAN_PAGE,
    payload,
)
from xennet.netback.guest_tx import R_NOTIFY
from xennet.netback.poll_page import PagePoller
from xennet.ring import MASK32, tx_ring, tx_ring_page

MORE, EXTRA = netif.NETTXF_more_data, netif.NETTXF_extra_info
BLANK, VALIDATED = netif.NETTXF_csum_blank, netif.NETTXF_data_validated
GSO, HASH = netif.XEN_NETIF_EXTRA_TYPE_GSO, netif.XEN_NETIF_EXTRA_TYPE_HASH
ADD, DEL = netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, netif.XEN_NETIF_EXTRA_TYPE_MCAST_DEL
_MORE_EXTRAS = netif.XEN_NETIF_EXTRA_FLAG_MORE
_MAC = bytes.fromhex("01005e000001")

#: Grants of a vector that differ from the usual ones.
Grants = Mapping[int, "tuple[int, bool] | None"]
#: What else than giving up may be done about a page: most backends can refuse the packet.
_OR_REFUSED = (Result.REFUSED,)
#: A chain that goes on past req_prod may be waited for.
_OR_WAITS = (Result.REFUSED, Result.WAITS)


@frozen(kw_only=True)
class Case:
    """The input of a vector: raw ``slots`` from index ``start`` on, ``claimed`` of them published
    (None: all). ``rsp_event``: how far ahead of rsp_prod the frontend wants an event.
    ``instead``: results that are as good as Linux's."""

    name: str
    rule: str
    what: str
    slots: Sequence[bytes]
    start: int = 0
    claimed: int | None = None
    rsp_event: int = 1
    grants: Grants = MappingProxyType({})
    instead: Sequence[Result] = ()


def tx(
    size: int, flags: int = 0, *, offset: int = 0, page: int = 0, ident: int = 1, gref: int = 0
) -> bytes:
    """A tx request for payload page ``page``, or for reference ``gref``."""
    return TX_REQUEST.pack(gref or FIRST_GREF + page, offset, flags, ident, size)


def gso(size: int = 1448, kind: int = netif.XEN_NETIF_GSO_TYPE_TCPV4, flags: int = 0) -> bytes:
    """A GSO extra info."""
    return EXTRA_GSO.pack(GSO, flags, size, kind, 0, 0)


def raw_extra(kind: int, flags: int = 0) -> bytes:
    """An extra info of any type, with a multicast address in it."""
    return EXTRA_MCAST.pack(kind, flags, _MAC)


def chain(first: int, *later: int, flags: int = 0, extras: Sequence[bytes] = ()) -> list[bytes]:
    """A packet whose first slot says ``first`` bytes, and whose later slots have ``later``; page
    and id go up from slot to slot."""
    sizes = (first, *later)
    slots = []
    for place, size in enumerate(sizes):
        more = MORE if place + 1 < len(sizes) else 0
        bits = more if place else more | flags | (EXTRA if extras else 0)
        slots.append(tx(size, bits, page=place, ident=place + 1))
        if not place:
            slots += extras
    return slots


def _sizes() -> Iterator[Case]:
    for size in (14, 15, 60, 1513, 1514, 1515, 4095, 4096):
        what = f"one slot of {size} bytes"
        yield Case(name=f"one-slot-{size}", rule="netif.tx.deliver", what=what, slots=[tx(size)])
    for size in (0, 1, 13):
        what = f"one slot of {size} bytes: shorter than an Ethernet header"
        slots = [tx(size), tx(60, ident=2)]
        yield Case(name=f"short-{size}", rule="netif.tx.short-packet", what=what, slots=slots)
    for offset, size in ((1, 4095), (4082, 14), (2048, 2048), (4036, 60)):
        what = f"{size} bytes at offset {offset}, up to the end of the page"
        slots = [tx(size, offset=offset)]
        name = f"offset-{offset}-{size}"
        yield Case(name=name, rule="netif.tx.slot-in-page", what=what, slots=slots)
    for offset, size in ((1, 4096), (4083, 14), (4096, 14), (65535, 60), (0, 4097), (0, 65535)):
        yield Case(
            name=f"beyond-page-{offset}-{size}",
            rule="netif.tx.slot-in-page",
            what=f"{size} bytes at offset {offset}: they reach beyond the page",
            slots=[tx(60), tx(size, offset=offset, ident=2), tx(60, ident=3)],
            instead=_OR_REFUSED,
        )
    for ident in (0, 1, 255, 256, 0x1234, 65535):
        yield Case(
            name=f"id-{ident}",
            rule="netif.tx.id-echo",
            what=f"id {ident} comes back as it is",
            slots=[tx(60, ident=ident)],
        )
    yield Case(
        name="byte-order",
        rule="netif.tx.layout",
        what="every field is little-endian: offset 0x0102, flags 0x0002, id 0x0304, size 0x0506",
        slots=[tx(0x0506, VALIDATED, offset=0x0102, page=7, ident=0x0304)],
    )


def _chains() -> Iterator[Case]:
    for total, later in (
        (100, (50,)),
        (1514, (500, 500)),
        (4096, (4082,)),
        (8192, (4096,)),
        (65535, (4096,) * 15),
        (14, (0,)),
        (28, (14, 0)),
        (200, (1,) * 18),
    ):
        yield Case(
            name=f"chain-{total}-in-{len(later) + 1}",
            rule="netif.tx.total-size",
            what=f"{total} bytes in {len(later) + 1} slots; the first one says the total",
            slots=[*chain(total, *later), tx(60, ident=99)],
        )
    for additional in (16, 17, 18):
        yield Case(
            name=f"slots-{additional + 1}",
            rule="netif.tx.slots-min",
            what=f"{additional} slots behind the first one, which every backend takes",
            slots=[*chain(100 + 10 * additional, *[10] * additional), tx(60, ident=99)],
        )
    for additional in (19, 20):
        yield Case(
            name=f"slots-{additional + 1}",
            rule="netif.tx.slots-max",
            what=f"{additional} slots behind the first one: more than netif.h promises",
            slots=[*chain(100 + 10 * additional, *[10] * additional), tx(60, ident=99)],
            instead=(Result.TAKEN, Result.GIVEN_UP),
        )
    yield Case(
        name="slots-22",
        rule="netif.tx.slots-max",
        what="21 slots behind the first one",
        slots=[*chain(310, *[10] * 21), tx(60, ident=99)],
        instead=(Result.TAKEN, Result.REFUSED),
    )
    for total, later in ((100, (200,)), (100, (60, 60)), (60, (40000, 25576)), (100, (87,))):
        yield Case(
            name=f"sizes-{total}-{'-'.join(map(str, later))}",
            rule="netif.tx.sizes-add-up",
            what=f"a packet of {total} bytes whose later slots leave less than 14 for the first",
            slots=[*chain(total, *later), tx(60, ident=99)],
            instead=_OR_REFUSED if max(later) > PAGE_SIZE else (),
        )
    for slots, what in (
        ([tx(100, MORE)], "one slot with more_data and nothing behind it"),
        (chain(200, 50, 50)[:2], "two of three slots"),
        ([tx(60), tx(100, MORE, ident=2)], "a good packet, then half of one"),
    ):
        yield Case(
            name=f"half-{len(slots)}-{slots[0][10]}",
            rule="netif.tx.chain-ends",
            what=what,
            slots=slots,
            instead=_OR_WAITS,
        )
    for place in (1, 2):
        sizes = [0 if at == place else 40 for at in (1, 2)]
        yield Case(
            name=f"empty-slot-{place}",
            rule="netif.tx.empty-slot",
            what=f"later slot {place} of 2 has no bytes",
            slots=[*chain(100, *sizes), tx(60, ident=99)],
            instead=_OR_REFUSED,
        )
    yield Case(
        name="all-later-slots-empty",
        rule="netif.tx.empty-slot",
        what="three later slots, none of which has a byte",
        slots=[*chain(60, 0, 0, 0), tx(60, ident=99)],
        instead=_OR_REFUSED,
    )
    yield Case(
        name="headers-in-tiny-slots",
        rule="netif.tx.slots-min",
        what="19 slots with 80 bytes together: less than a backend's linear area",
        slots=[*chain(80, *[2] * 18), tx(60, ident=99)],
    )


def _extras() -> Iterator[Case]:
    v4, v6 = netif.XEN_NETIF_GSO_TYPE_TCPV4, netif.XEN_NETIF_GSO_TYPE_TCPV6
    blank = BLANK | VALIDATED | EXTRA
    for kind, page, name in ((v4, TCP4_PAGE, "tcpv4"), (v6, TCP6_PAGE, "tcpv6")):
        yield Case(
            name=f"gso-{name}",
            rule="netif.tx.gso",
            what=f"a GSO packet ({name}) with a blank checksum",
            slots=[tx(3000, blank, page=page), gso(1400, kind), tx(60, ident=2)],
        )
        yield Case(
            name=f"gso-{name}-two-slots",
            rule="netif.tx.extra-place",
            what="the extra info lies between the first and the second data slot",
            slots=[
                tx(6000, blank | MORE, page=page),
                gso(1400, kind),
                tx(2000, page=9, ident=2),
                tx(60, ident=3),
            ],
        )
    yield Case(
        name="gso-csum-not-blank",
        rule="netif.tx.csum-blank",
        what="GSO without csum_blank: Linux puts flag and pseudo-header sum in",
        slots=[tx(3000, EXTRA, page=TCP4_PAGE), gso(1400)],
        instead=_OR_REFUSED,
    )
    yield Case(
        name="gso-size-0",
        rule="netif.tx.gso-size",
        what="GSO with segments of no bytes",
        slots=[tx(60), tx(3000, blank, page=TCP4_PAGE, ident=2), gso(0), tx(60, ident=3)],
        instead=_OR_REFUSED,
    )
    for kind in (0, 3, 255):
        yield Case(
            name=f"gso-type-{kind}",
            rule="netif.tx.gso-type",
            what=f"GSO of type {kind}, which there is not",
            slots=[tx(60), tx(3000, blank, page=TCP4_PAGE, ident=2), gso(1400, kind)],
            instead=_OR_REFUSED,
        )
    for kind in (0, netif.XEN_NETIF_EXTRA_TYPE_MAX_in_linux, 0xFF):
        yield Case(
            name=f"extra-type-{kind}",
            rule="netif.tx.extra-type",
            what=f"an extra info of type {kind}, which there is not",
            slots=[tx(60), tx(60, EXTRA, ident=2), raw_extra(kind), tx(60, ident=3)],
            instead=_OR_REFUSED,
        )
    yield Case(
        name="extra-missing",
        rule="netif.tx.extra-missing",
        what="extra_info, and no slot behind it",
        slots=[tx(60), tx(60, EXTRA, ident=2)],
        instead=_OR_WAITS,
    )
    yield Case(
        name="extra-more-missing",
        rule="netif.tx.extra-missing",
        what="an extra info that announces another, and no slot behind it",
        slots=[tx(3000, blank, page=TCP4_PAGE), gso(1400, flags=_MORE_EXTRAS)],
        instead=_OR_WAITS,
    )
    hashed = EXTRA_HASH.pack(HASH, 0, 1, 1, bytes.fromhex("01020304"))
    yield Case(
        name="gso-and-hash",
        rule="netif.tx.extra-more",
        what="two extra infos: GSO, then a hash",
        slots=[
            tx(3000, blank, page=TCP4_PAGE),
            gso(1400, flags=_MORE_EXTRAS),
            hashed,
            tx(60, ident=2),
        ],
    )
    yield Case(
        name="gso-twice",
        rule="netif.tx.extra-more",
        what="two GSO extra infos: the later one counts, each is answered NULL",
        slots=[
            tx(3000, blank, page=TCP4_PAGE),
            gso(1000, flags=_MORE_EXTRAS),
            gso(1400),
            tx(60, ident=2),
        ],
    )
    yield Case(
        name="extra-flag-on-a-later-slot",
        rule="netif.tx.extra-first-only",
        what="extra_info on the second data slot says nothing",
        slots=[tx(100, MORE), tx(40, EXTRA, page=1, ident=2), tx(60, ident=3)],
        instead=(Result.REFUSED, Result.GIVEN_UP),
    )
    for kind, name in ((ADD, "add"), (DEL, "del")):
        yield Case(
            name=f"multicast-{name}",
            rule="netif.tx.mcast-request",
            what="a multicast request is no packet: it is answered, its extra info NULL",
            slots=[tx(60, EXTRA), raw_extra(kind), tx(60, ident=2)],
        )
    yield Case(
        name="multicast-65",
        rule="netif.tx.mcast-limit",
        what="65 addresses: the last one is refused",
        slots=[
            slot for ident in range(65) for slot in (tx(60, EXTRA, ident=ident), raw_extra(ADD))
        ],
        instead=(Result.TAKEN,),
    )


def _checksums() -> Iterator[Case]:
    blank = BLANK | VALIDATED
    for page, name in ((TCP4_PAGE, "tcp4"), (TCP6_PAGE, "tcp6"), (UDP4_PAGE, "udp4")):
        yield Case(
            name=f"csum-blank-{name}",
            rule="netif.tx.csum-blank",
            what=f"a blank checksum ({name}) stays marked as blank",
            slots=[tx(100, blank, page=page)],
        )
    yield Case(
        name="csum-blank-alone",
        rule="netif.tx.csum-blank",
        what="csum_blank without data_validated",
        slots=[tx(100, BLANK, page=TCP4_PAGE)],
    )
    yield Case(
        name="csum-validated",
        rule="netif.tx.csum-untouched",
        what="data_validated alone: no byte of the packet changes",
        slots=[tx(100, VALIDATED, page=TCP4_PAGE)],
    )
    for page, name in ((ARP_PAGE, "arp"), (0, "noise"), (VLAN_PAGE, "vlan")):
        yield Case(
            name=f"csum-blank-{name}",
            rule="netif.tx.csum-headers",
            what=f"csum_blank on a packet in which Linux finds no TCP or UDP header ({name})",
            slots=[tx(100, blank, page=page), tx(60, ident=2)],
            instead=(Result.TAKEN, Result.REFUSED),
        )
    yield Case(
        name="csum-blank-cut-header",
        rule="netif.tx.csum-headers",
        what="csum_blank on 40 bytes, which end inside the TCP header",
        slots=[tx(40, blank, page=TCP4_PAGE), tx(60, ident=2)],
        instead=(Result.TAKEN, Result.REFUSED),
    )


def _grants() -> Iterator[Case]:
    for gref, name in ((0, "0"), (7, "7"), (511, "511"), (512, "512"), (0xFFFFFFFF, "ffffffff")):
        if not gref:
            slots = [TX_REQUEST.pack(0, 0, 0, 1, 60)]
        else:
            slots = [tx(60, gref=gref)]
        yield Case(
            name=f"bad-reference-{name}",
            rule="grant.bad-reference",
            what=f"reference {gref:#x} grants nothing",
            slots=[*slots, tx(60, ident=2)],
        )
    yield Case(
        name="bad-reference-in-a-later-slot",
        rule="grant.copy-status",
        what="the second of three slots names a reference that grants nothing",
        slots=[
            tx(120, MORE),
            tx(40, MORE, gref=7, ident=2),
            tx(40, page=2, ident=3),
            tx(60, ident=4),
        ],
    )
    yield Case(
        name="readonly",
        rule="grant.readonly",
        what="a page that is granted read-only is read",
        slots=[tx(60)],
        grants={FIRST_GREF: (0, True)},
    )
    yield Case(
        name="revoked",
        rule="grant.revoked",
        what="a reference that grants nothing any more",
        slots=[tx(60), tx(60, page=1, ident=2)],
        grants={FIRST_GREF: None},
    )
    yield Case(
        name="same-page-twice",
        rule="grant.same-page",
        what="two references grant one page",
        slots=[tx(60), tx(60, page=1, ident=2)],
        grants={FIRST_GREF + 1: (0, False)},
    )
    yield Case(
        name="empty-packet-bad-reference",
        rule="netif.tx.empty-slot",
        what="a later slot without bytes whose reference grants nothing: it is not looked at",
        slots=[tx(60, MORE), tx(0, gref=7, ident=2), tx(60, ident=3)],
        instead=_OR_REFUSED,
    )


def _indices() -> Iterator[Case]:
    for start in (1, 255, 256, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF):
        yield Case(
            name=f"start-{start:x}",
            rule="ring.index-wraps",
            what=f"three packets from index {start:#x} on",
            slots=[tx(60 + i, page=i, ident=i) for i in range(3)],
            start=start,
        )
    yield Case(
        name="chain-over-the-ring-end",
        rule="ring.index-wraps",
        what="a packet whose slots lie in the last place of the page and in the first ones",
        slots=chain(300, 100, 100),
        start=0xFFFFFFFF,
    )
    yield Case(
        name="full-ring",
        rule="ring.size",
        what="256 packets of one slot",
        slots=[tx(14 + i, page=i % PAGES, ident=i) for i in range(NETIF_TX_RING_SIZE)],
        start=100,
    )
    yield Case(
        name="empty-ring",
        rule="ring.no-work",
        what="nothing is published",
        slots=[tx(60)],
        claimed=0,
    )
    yield Case(
        name="one-of-two",
        rule="ring.published-only",
        what="two slots are written, one is published",
        slots=[tx(60), tx(61, ident=2)],
        claimed=1,
    )
    for claimed, name in ((257, "257"), (1 << 31, "2-31"), (MASK32, "backwards")):
        yield Case(
            name=f"req-prod-{name}",
            rule="ring.request-overflow",
            what=f"req_prod is {claimed} past req_cons",
            slots=[tx(60)],
            claimed=claimed,
        )
    for ahead, name in ((1, "next"), (2, "last"), (3, "beyond"), (0, "passed"), (-5, "behind")):
        yield Case(
            name=f"rsp-event-{name}",
            rule="ring.response-notify",
            what=f"two responses, and rsp_event is {ahead} past the earlier rsp_prod",
            slots=[tx(60), tx(60, ident=2)],
            start=0xFFFFFFFF,
            rsp_event=ahead,
        )


def cases() -> list[Case]:
    """All inputs."""
    groups = (_sizes, _chains, _extras, _checksums, _grants, _indices)
    return [case for group in groups for case in group()]


def ring_page(case: Case) -> bytes:
    """The page of a case: its header, its slots, zeros elsewhere."""
    page = bytearray(tx_ring_page(case.slots, case.start, case.claimed))
    words = memoryview(page).cast("I")
    words[SRING_WORD_rsp_event] = (case.start + case.rsp_event) & MASK32
    return bytes(page)


def vectors() -> list[Vector]:
    """All vectors."""
    poller = PagePoller()
    try:
        return [_vector(case, poller) for case in cases()]
    finally:
        poller.close()


def _vector(case: Case, poller: PagePoller) -> Vector:
    page = ring_page(case)
    poller.reset()
    poller.load(page)
    poller.pages[:] = payload()
    _grant(poller, case.grants)
    verdict = poller.poll(case.start)
    view = memoryview(bytes(poller.ring_page))
    ring = tx_ring(view, view.cast("I"))
    consumed = (ring.rsp_prod - case.start) & MASK32
    answers = [TX_RESPONSE.read(ring.copy_slot(case.start + place)) for place in range(consumed)]
    groups = list(packet_slots(case.slots[:consumed]))
    packets = [Packet(one.data, one.flags, one.gso_size, one.gso_type) for one in poller.packets()]
    refused = [any(answers[at].status == NETIF_RSP_ERROR for at in group) for group in groups]
    dropped = len(packets) < _wanted(case.slots, groups) - sum(refused)
    result = (
        Result.GIVEN_UP
        if verdict
        else (Result.REFUSED if any(refused) else Result.DROPPED if dropped else Result.TAKEN)
    )
    # The packet in question is the first one, where it cannot be told from the answers.
    bad = len(groups)
    if any(refused):
        bad = refused.index(True)
    elif not verdict and (dropped or case.instead):
        bad = 0
    in_question = groups[bad] if bad < len(groups) else range(consumed, consumed)
    lenient = in_question if result in (Result.REFUSED, Result.DROPPED) else range(0)
    return Vector(
        name=case.name,
        rule=case.rule,
        what=case.what,
        page=page,
        start=case.start,
        grants=case.grants,
        results=(result, *case.instead),
        packets=packets,
        responses=[
            Response(
                (case.start + at) & MASK32,
                None if answer.status == NETIF_RSP_NULL else answer.id,
                answer.status,
                at in lenient and answer.status != NETIF_RSP_NULL,
            )
            for at, answer in enumerate(answers)
        ],
        consumed=consumed,
        settled=(_wanted(case.slots, groups[:bad]), in_question.start),
        notify=bool(poller.res[R_NOTIFY]) if consumed else None,
        event=ring.req_event,
    )


def packet_slots(slots: Sequence[bytes]) -> Iterator[range]:
    """The places of the slots of each packet, in order (xen/io/netif.h, "Guest transmit")."""
    at = 0
    while at < len(slots):
        begin, flags = at, TX_REQUEST.read(slots[at]).flags
        at += 1
        multicast = False
        if flags & EXTRA:
            more = True
            while more and at < len(slots):
                multicast |= slots[at][0] in (ADD, DEL)
                more = bool(slots[at][1] & _MORE_EXTRAS)
                at += 1
        while flags & MORE and not multicast and at < len(slots):
            flags = TX_REQUEST.read(slots[at]).flags
            at += 1
        yield range(begin, at)


def _wanted(slots: Sequence[bytes], groups: Sequence[range]) -> int:
    """How many of the groups are packets; multicast requests are none."""
    return sum(
        not (TX_REQUEST.read(slots[group[0]]).flags & EXTRA and slots[group[1]][0] in (ADD, DEL))
        for group in groups
    )


def _grant(poller: PagePoller, grants: Grants) -> None:
    words = poller.grant_table.cast("I")
    frames = [words[2 * (FIRST_GREF + page) + 1] for page in range(PAGES)]
    for gref, granted in grants.items():
        if granted is None:
            words[2 * gref] = 0
            continue
        page, readonly = granted
        words[2 * gref + 1] = frames[page]
        words[2 * gref] = GTF_permit_access | (GTF_readonly if readonly else 0)
