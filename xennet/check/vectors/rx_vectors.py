"""Vectors for netfronts: a page of the receive ring, and what is received.

Inputs are written here; what comes out is what Linux's netfront does, by xennet's kernels.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from attrs import frozen

from xennet.abi import netif
from xennet.abi.netif import EXTRA_GSO, EXTRA_HASH, EXTRA_MCAST, EXTRA_XDP, RX_REQUEST, RX_RESPONSE
from xennet.abi.ring import NETIF_RX_RING_SIZE, SRING_HEADER
from xennet.abi.words import RSP_EVENT
from xennet.abi.xen import PAGE_SIZE
from xennet.check.vectors.vector import Packet, Result, Vector
from xennet.check.vectors.vector_pages import (
    ARP_PAGE,
    PAGES,
    TCP4_PAGE,
    TCP6_PAGE,
    UDP4_PAGE,
    payload,
)
from xennet.frames import FrameBatch
from xennet.netfront import guest_rx
from xennet.ring import MASK32, rx_ring
from xennet.vif.ring_events import silent_log

MORE, EXTRA = netif.NETRXF_more_data, netif.NETRXF_extra_info
BLANK, VALIDATED = netif.NETRXF_csum_blank, netif.NETRXF_data_validated
_MORE_EXTRAS = netif.XEN_NETIF_EXTRA_FLAG_MORE
V4, V6 = netif.XEN_NETIF_GSO_TYPE_TCPV4, netif.XEN_NETIF_GSO_TYPE_TCPV6

#: The last request that was posted, counted from the reader's index: the ring was full.
_POSTED = NETIF_RX_RING_SIZE


@frozen(kw_only=True)
class Case:
    """The input of a vector: raw responses and extra infos, the first at index ``start``, of which
    ``published`` are (None: all). ``instead``: results that are as good as Linux's."""

    name: str
    rule: str
    what: str
    slots: Sequence[bytes]
    start: int = 0
    published: int | None = None
    instead: Sequence[Result] = ()


def rx(status: int, flags: int = 0, *, offset: int = 0, ident: int = 0) -> bytes:
    """An rx response."""
    return RX_RESPONSE.pack(ident, offset, flags, status)


def gso(size: int = 1448, kind: int = V4, flags: int = 0) -> bytes:
    """A GSO extra info."""
    return EXTRA_GSO.pack(netif.XEN_NETIF_EXTRA_TYPE_GSO, flags, size, kind, 0, 0)


def at_page(page: int) -> int:
    """The index whose buffer has the content of payload page ``page``."""
    return page


def _sizes() -> Iterator[Case]:
    good = rx(60)
    for size in (14, 60, 1514, 4095, 4096):
        yield Case(
            name=f"one-slot-{size}",
            rule="netif.front.rx.content",
            what=f"one slot of {size} bytes",
            slots=[rx(size)],
        )
    for size in (0, 1, 13):
        yield Case(
            name=f"short-{size}",
            rule="netif.front.rx.sizes",
            what=f"a packet of {size} bytes: shorter than an Ethernet header",
            slots=[rx(size), good],
        )
    for offset, size in ((1, 4095), (4082, 14), (256, 60)):
        yield Case(
            name=f"offset-{offset}-{size}",
            rule="netif.front.rx.in-page",
            what=f"{size} bytes at offset {offset}",
            slots=[rx(size, offset=offset)],
        )
    for offset, size in ((1, 4096), (4083, 14), (4096, 14), (65535, 60), (0, 4097), (0, 32767)):
        yield Case(
            name=f"beyond-page-{offset}-{size}",
            rule="netif.front.rx.in-page",
            what=f"{size} bytes at offset {offset}: they reach beyond the page",
            slots=[rx(size, offset=offset), good],
            instead=(Result.GIVEN_UP,),
        )
    for status in (-1, -2, -3, -10, -32768):
        yield Case(
            name=f"status{status}",
            rule="netif.front.rx.negative-status",
            what=f"status {status}: any negative one is an error",
            slots=[rx(status), good],
        )
    for ident in (1, 255, 0xFFFF):
        yield Case(
            name=f"id-{ident}",
            rule="netif.front.rx.same-slot",
            what=f"id {ident} in slot 0: the slot says which buffer it is, or the id is refused",
            slots=[rx(60, ident=ident)],
            instead=(Result.DROPPED, Result.GIVEN_UP),
        )


def _chains() -> Iterator[Case]:
    good = rx(60)
    for sizes in ((4096, 100), (100, 100), (14, 1), (4096,) * 15 + (4095,), (1, 13)):
        yield Case(
            name=f"chain-{len(sizes)}-{sum(sizes)}",
            rule="netif.front.rx.several-slots",
            what=f"{sum(sizes)} bytes in {len(sizes)} slots",
            slots=[*chain(sizes), good],
        )
    yield Case(
        name="chain-offsets",
        rule="netif.front.rx.several-slots",
        what="each slot has an offset of its own",
        slots=[rx(100, MORE, offset=7), rx(50, offset=4046), good],
    )
    yield Case(
        name="chain-empty-slot",
        rule="netif.front.rx.empty-slot",
        what="the second of three slots has no bytes",
        slots=[rx(100, MORE), rx(0, MORE), rx(100), good],
        instead=(Result.DROPPED,),
    )
    yield Case(
        name="longer-than-65535",
        rule="netif.front.rx.sizes",
        what="16 full slots: 65536 bytes",
        slots=[*chain((4096,) * 16), good],
        instead=(Result.TAKEN,),
    )
    for slots in (18, 19):
        yield Case(
            name=f"slots-{slots}",
            rule="netif.front.rx.several-slots" if slots == 18 else "netif.front.rx.too-many-slots",
            what=f"{slots} slots, the first of them with 1000 bytes",
            slots=[*chain((1000, *[100] * (slots - 1))), good],
            instead=() if slots == 18 else (Result.TAKEN, Result.GIVEN_UP),
        )
    yield Case(
        name="missing-slot",
        rule="netif.front.rx.missing-slots",
        what="more_data, and no response behind it",
        slots=[good, rx(100, MORE)],
        instead=(Result.WAITS, Result.GIVEN_UP),
    )
    yield Case(
        name="error-in-the-middle",
        rule="netif.front.rx.negative-status",
        what="the second of three slots has an error: the packet is lost, its buffers are not",
        slots=[rx(100, MORE), rx(-1, MORE), rx(100), good],
    )


def chain(sizes: Sequence[int]) -> list[bytes]:
    """A packet of slots with so many bytes each."""
    last = len(sizes) - 1
    return [rx(size, MORE if place < last else 0) for place, size in enumerate(sizes)]


def _extras() -> Iterator[Case]:
    good = rx(60)
    both = BLANK | VALIDATED
    for kind, page, name in ((V4, TCP4_PAGE, "tcpv4"), (V6, TCP6_PAGE, "tcpv6")):
        yield Case(
            name=f"gso-{name}",
            rule="netif.front.rx.gso",
            what=f"a GSO packet ({name}) in two slots; the extra info lies between them",
            slots=[rx(3000, both | MORE | EXTRA), gso(1400, kind), rx(1000), good],
            start=at_page(page),
        )
    yield Case(
        name="gso-unvalidated",
        rule="netif.front.rx.gso-unvalidated",
        what="GSO without data_validated and csum_blank: Linux puts both in",
        slots=[rx(3000, EXTRA), gso(1400), good],
        start=at_page(TCP4_PAGE),
        instead=(Result.DROPPED,),
    )
    for size, kind, name in ((0, V4, "size-0"), (1400, 0, "type-0"), (1400, 3, "type-3")):
        yield Case(
            name=f"gso-{name}",
            rule="netif.front.rx.gso-fields",
            what=f"GSO with {name.replace('-', ' ')}",
            slots=[rx(3000, both | EXTRA), gso(size, kind), good],
            start=at_page(TCP4_PAGE),
            instead=(Result.GIVEN_UP,),
        )
    for kind in (0, netif.XEN_NETIF_EXTRA_TYPE_MAX_in_linux, 0xFF):
        yield Case(
            name=f"extra-type-{kind}",
            rule="netif.front.rx.extra-type",
            what=f"an extra info of type {kind}, which there is not",
            slots=[rx(60, EXTRA), EXTRA_MCAST.pack(kind, 0, bytes(6)), good],
            instead=(Result.GIVEN_UP,),
        )
    yield Case(
        name="extra-missing",
        rule="netif.front.rx.missing-extra",
        what="extra_info, and no slot behind it",
        slots=[good, rx(60, EXTRA)],
        instead=(Result.WAITS, Result.GIVEN_UP),
    )
    hashed = EXTRA_HASH.pack(netif.XEN_NETIF_EXTRA_TYPE_HASH, 0, 1, 1, bytes(4))
    yield Case(
        name="gso-and-hash",
        rule="netif.front.rx.other-extras",
        what="GSO and a hash",
        slots=[rx(3000, both | EXTRA), gso(1400, flags=_MORE_EXTRAS), hashed, good],
        start=at_page(TCP4_PAGE),
    )
    for headroom, what in ((256, "64 bytes behind it"), (61, "more than the status")):
        status = 60 if headroom == 61 else headroom + 64
        yield Case(
            name=f"xdp-{headroom}",
            rule="netif.front.rx.xdp-headroom",
            what=f"a headroom of {headroom} bytes, {what}; the status counts it",
            slots=[
                rx(status, EXTRA),
                EXTRA_XDP.pack(netif.XEN_NETIF_EXTRA_TYPE_XDP, 0, headroom, 0, 0),
                good,
            ],
        )


def _checksums() -> Iterator[Case]:
    good, both = rx(60), BLANK | VALIDATED
    for page, name in ((TCP4_PAGE, "tcp4"), (TCP6_PAGE, "tcp6"), (UDP4_PAGE, "udp4")):
        yield Case(
            name=f"csum-blank-{name}",
            rule="netif.front.rx.csum-blank",
            what=f"a blank checksum ({name})",
            slots=[rx(100, both)],
            start=at_page(page),
        )
    for page, name in ((ARP_PAGE, "arp"), (0, "noise")):
        yield Case(
            name=f"csum-blank-{name}",
            rule="netif.front.rx.headers",
            what=f"csum_blank on a packet in which there is no TCP or UDP header ({name})",
            slots=[rx(100, both), good],
            start=at_page(page),
            instead=(Result.TAKEN,),
        )
    yield Case(
        name="csum-validated",
        rule="netif.front.rx.content",
        what="data_validated alone: no byte changes",
        slots=[rx(100, VALIDATED)],
        start=at_page(TCP4_PAGE),
    )


def _indices() -> Iterator[Case]:
    for start in (1, 255, 0xFFFFFFF0, 0xFFFFFFFF):
        yield Case(
            name=f"start-{start:x}",
            rule="ring.index-wraps",
            what=f"three packets from index {start:#x} on",
            slots=[rx(60 + i) for i in range(3)],
            start=start,
        )
    yield Case(
        name="full-ring",
        rule="ring.size",
        what="256 packets of one slot",
        slots=[rx(14 + i) for i in range(NETIF_RX_RING_SIZE)],
        start=100,
    )
    yield Case(
        name="one-of-two",
        rule="ring.published-only",
        what="two responses are written, one is published",
        slots=[rx(60), rx(61)],
        published=1,
    )
    for published, name in ((_POSTED + 1, "257"), (1 << 31, "2-31"), (MASK32, "backwards")):
        yield Case(
            name=f"rsp-prod-{name}",
            rule="ring.front.rsp-prod-overflow",
            what=f"rsp_prod is {published} past rsp_cons, and {_POSTED} were posted",
            slots=[rx(60)],
            published=published,
        )


def cases() -> list[Case]:
    """All inputs."""
    groups = (_sizes, _chains, _extras, _checksums, _indices)
    return [case for group in groups for case in group()]


def ring_page(case: Case) -> bytes:
    """The page of a case: a full ring of requests, over whose first ones responses are written.
    Request i has id i and reference i + 8."""
    published = len(case.slots) if case.published is None else case.published
    page = bytearray(PAGE_SIZE)
    page[: SRING_HEADER.size] = SRING_HEADER.pack(
        (case.start + _POSTED) & MASK32,
        (case.start + _POSTED + 1) & MASK32,
        (case.start + published) & MASK32,
        (case.start + 1) & MASK32,
        b"",
        b"",
    )
    view = memoryview(page)
    ring = rx_ring(view, view.cast("I"))
    for place in range(NETIF_RX_RING_SIZE):
        ring.write_slot(place, RX_REQUEST.pack(place, 0, place + 8))
    for place, raw in enumerate(case.slots):
        ring.write_slot(case.start + place, raw)
    return bytes(page)


def vectors() -> list[Vector]:
    """All vectors."""
    return [_vector(case) for case in cases()]


def _vector(case: Case) -> Vector:
    page = ring_page(case)
    words = memoryview(bytearray(page)).cast("I")
    pvt = memoryview(array("I", ((case.start + _POSTED) & MASK32, case.start)))
    grefs = memoryview(array("I", [place + 8 for place in range(NETIF_RX_RING_SIZE)]))
    pages = memoryview(payload() * (NETIF_RX_RING_SIZE // PAGES))
    batch = FrameBatch(
        memoryview(bytearray(NETIF_RX_RING_SIZE * PAGE_SIZE + guest_rx.MAX_CHAIN_BYTES)),
        NETIF_RX_RING_SIZE,
    )
    state, res = (array("q", bytes(8 * n)) for n in (guest_rx.STATES, guest_rx.RESULTS))
    verdict = guest_rx.take_responses(
        NETIF_RX_RING_SIZE,
        silent_log(),
        (words, pvt),
        (pages, grefs, memoryview(b"")),
        (words, 0, words, 0, 0, 0),  # granted for life: no entry is looked at
        batch.for_kernels(lambda column: column),
        (0, 1),
        array("q", bytes(8 * guest_rx.EXTRAS)),
        state,
        res,
    )
    batch.count = res[guest_rx.R_PACKETS]
    packets = [
        Packet(bytes(frame), batch.flags[i], batch.gso_size[i], batch.gso_type[i])
        for i, frame in enumerate(batch)
    ]
    dropped = bool(res[guest_rx.R_DROPPED])
    consumed = 0 if verdict else res[guest_rx.R_SLOTS]
    before = (res[guest_rx.R_DROP_INDEX] - case.start) & MASK32 if dropped else 0
    in_question = consumed if not (dropped or case.instead) else before
    result = Result.GIVEN_UP if verdict else Result.DROPPED if dropped else Result.TAKEN
    return Vector(
        name=case.name,
        rule=case.rule,
        what=case.what,
        page=page,
        start=case.start,
        grants=MappingProxyType({}),
        results=(result, *case.instead),
        packets=packets,
        responses=(),
        consumed=consumed,
        # In these pages what stands before the packet in question has one slot each.
        settled=(in_question if dropped or case.instead else len(packets), in_question),
        notify=bool(res[guest_rx.R_NOTIFY]) if consumed else None,
        event=words[RSP_EVENT],
    )
