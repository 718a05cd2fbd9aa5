"""What a netfront puts on its transmit ring (netif.h, "Guest transmit")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import field, frozen

from xennet.abi.netif import (
    EXTRA_GSO,
    NETIF_RSP_OKAY,
    TX_REQUEST,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.sent_packets import (
    SURVIVED,
    EchoEnd,
    Sent,
    about,
    echo_all,
    enter_with,
    require_same,
)
from xennet.check.ip_frames import IPV6, UDP, Flow, Sum, judge_sum, packet, plain, without_sum
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer

_RX_BLANK = NETRXF_csum_blank | NETRXF_data_validated
_TX_FLAGS = NETTXF_csum_blank | NETTXF_data_validated | NETTXF_more_data | NETTXF_extra_info
_KNOWN_EXTRAS = range(XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_HASH + 1)
_TCP6, _UDP = Flow(version=IPV6), Flow(protocol=UDP)
MSS = 1448


@frozen
class Shape:
    """A packet for the netfront: its ``frame``, the flags and the slots in which it is delivered,
    and what the netfront has to have negotiated for it."""

    frame: bytes = field(repr=False)
    needs: frozenset[str] = frozenset()
    flags: int = 0
    sizes: tuple[int, ...] = ()
    gso_size: int = 0
    gso_type: int = 0
    flow: Flow | None = None

    def deliver(self, end: EchoEnd) -> None:
        """Deliver it, and let the netfront do what it does."""
        end.deliver(self.frame, self.flags, **self._slots)

    def returned(self, end: EchoEnd) -> Sent:
        """Deliver it. Returns what the netfront sends back, not answered, the same but for a
        checksum that may be filled in."""
        sent = end.returned(self.frame, self.flags, **self._slots)
        if self.flow is None or without_sum(sent.frame, self.flow) != without_sum(
            self.frame, self.flow
        ):
            require_same(sent, self.frame)
        return sent

    @property
    def _slots(self) -> dict[str, Any]:
        gso = {"gso_size": self.gso_size, "gso_type": self.gso_type} if self.gso_size else {}
        return {"sizes": self.sizes, **gso}


_SG = frozenset({"sg"})
ONE_SLOT = {str(size): Shape(plain(size)) for size in (14, 60, 1514, 4095, 4096)}
SEVERAL_SLOTS = {
    "two-slots": Shape(plain(4097), _SG),
    "three-slots": Shape(plain(9014), _SG),
    "short-first-slot": Shape(plain(5000), _SG, sizes=(60,)),
    "many-slots": Shape(plain(18 * 1000), _SG, sizes=(1000,) * 17),
    "65535": Shape(plain(65535), _SG),
}
GSO = {
    "gso-tcpv4": Shape(
        packet(9014, blank=True),
        frozenset({"sg", "csum", "gso-tcpv4"}),
        _RX_BLANK,
        (),
        MSS,
        XEN_NETIF_GSO_TYPE_TCPV4,
        Flow(),
    ),
    "gso-tcpv6": Shape(
        packet(9034, _TCP6, blank=True),
        frozenset({"sg", "csum-v6", "gso-tcpv6"}),
        _RX_BLANK,
        (),
        MSS - 20,
        XEN_NETIF_GSO_TYPE_TCPV6,
        _TCP6,
    ),
    "gso-one-slot": Shape(
        packet(3000, blank=True),
        frozenset({"sg", "csum", "gso-tcpv4"}),
        _RX_BLANK,
        (),
        MSS,
        XEN_NETIF_GSO_TYPE_TCPV4,
        Flow(),
    ),
}
BLANK = {
    "tcpv4": Shape(packet(1514, blank=True), frozenset({"csum"}), _RX_BLANK, flow=Flow()),
    "udpv4": Shape(packet(1514, _UDP, blank=True), frozenset({"csum"}), _RX_BLANK, flow=_UDP),
    "tcpv6": Shape(packet(1514, _TCP6, blank=True), frozenset({"csum-v6"}), _RX_BLANK, flow=_TCP6),
}
SHAPES = {**ONE_SLOT, **SEVERAL_SLOTS, **GSO, **BLANK}

#: What is asked of a packet that came back. Raises Violation.
Judge = Callable[[Sent, Shape], None]


def first_size(sent: Sent, shape: Shape) -> None:
    """the first slot has the size of the whole packet"""
    if sent.first.size != len(shape.frame):
        raise about(
            sent.first, f"the first slot's size is {sent.first.size}, not {len(shape.frame)}"
        )


def more_data(sent: Sent, shape: Shape) -> None:
    """more_data is set on every data slot but the last"""
    if len(sent.frame) != len(shape.frame):
        raise about(sent.data[-1], f"the packet ends after {len(sent.frame)} bytes")


def content(sent: Sent, shape: Shape) -> None:
    """its bytes are those that were delivered"""
    require_same(sent, shape.frame)


def in_page(sent: Sent, shape: Shape) -> None:
    """each slot lies in its page"""
    for request, size in zip(sent.data, sent.sizes, strict=True):
        if request.offset + size > PAGE_SIZE:
            raise about(request, f"{size} bytes from offset {request.offset} are not in a page")


def slots_filled(sent: Sent, shape: Shape) -> None:
    """no slot of the packet is empty"""
    for request, size in zip(sent.data, sent.sizes, strict=True):
        if not size:
            raise about(request, "a slot has no byte of the packet")


def few_slots(sent: Sent, shape: Shape) -> None:
    """it takes at most 18 data slots"""
    if len(sent.data) > XEN_NETIF_NR_SLOTS_MIN:
        raise about(sent.first, f"the packet takes {len(sent.data)} slots")


def flags_known(sent: Sent, shape: Shape) -> None:
    """only flags of the header are set, and none but more_data on later slots"""
    if sent.first.flags & ~_TX_FLAGS:
        raise about(sent.first, f"flags {sent.first.flags:#x} are not those of netif.h")
    for request in sent.data[1:]:
        if request.flags & ~NETTXF_more_data:
            raise about(request, f"a later slot has flags {request.flags:#x}")


def no_offload_flags(sent: Sent, shape: Shape) -> None:
    """a frame without an offload has none of the offloads' flags"""
    if sent.first.flags & (NETTXF_csum_blank | NETTXF_extra_info):
        raise about(sent.first, f"flags are {sent.first.flags:#x} for a frame that needs none")


def layout(sent: Sent, shape: Shape) -> None:
    """the bytes of a request are where netif.h has them"""
    fields = TX_REQUEST.unpack_from(sent.first.raw)
    if fields[4] != len(shape.frame) or fields[1] + sent.sizes[0] > PAGE_SIZE:
        raise about(sent.first, "offset and size are not where netif.h has them")


def gso_extra(sent: Sent, shape: Shape) -> None:
    """a GSO extra info names the segment size and the protocol"""
    found = [EXTRA_GSO.unpack_from(extra.raw) for extra in sent.extras]
    gso = [one for one in found if one[0] == XEN_NETIF_EXTRA_TYPE_GSO]
    if len(gso) != 1:
        raise about(sent.first, f"{len(gso)} GSO extra infos are behind the first slot, not 1")
    _, _, size, kind, pad, features = gso[0]
    if (size, kind) != (shape.gso_size, shape.gso_type):
        raise about(
            sent.extras[0],
            f"segments of {size} bytes, type {kind}, not {shape.gso_size}, {shape.gso_type}",
        )
    if pad or features:
        raise about(sent.extras[0], f"reserved fields are {pad} and {features}, not 0")


def gso_csum(sent: Sent, shape: Shape) -> None:
    """a packet to be segmented has csum_blank"""
    if not sent.first.flags & NETTXF_csum_blank:
        raise about(sent.first, f"flags {sent.first.flags:#x} lack csum_blank")


def extra_chain(sent: Sent, shape: Shape) -> None:
    """extra infos are of known types, and MORE is set on all but the last"""
    for number, extra in enumerate(sent.extras):
        kind, flags = extra.raw[0], extra.raw[1]
        if kind not in _KNOWN_EXTRAS:
            raise about(extra, f"an extra info has type {kind}")
        if flags & ~XEN_NETIF_EXTRA_FLAG_MORE:
            raise about(extra, f"extra info number {number} has flags {flags:#x}")


def blank_or_right(sent: Sent, shape: Shape) -> None:
    """a checksum that was blank is blank still and flagged, or filled in"""
    flow = shape.flow or Flow()
    found = judge_sum(sent.frame, flow)
    blank = bool(sent.first.flags & NETTXF_csum_blank)
    if found is not (Sum.BLANK if blank else Sum.RIGHT):
        raise about(
            sent.first,
            f"with flags {sent.first.flags:#x} the checksum field holds {found}",
            "write feature-no-csum-offload if blank checksums cannot be dealt with",
        )


def csum_flags(sent: Sent, shape: Shape) -> None:
    """csum_blank comes with data_validated"""
    flags = sent.first.flags
    if flags & NETTXF_csum_blank and not flags & NETTXF_data_validated:
        raise about(sent.first, f"flags are {flags:#x}: FreeBSD's netback looks at the other one")


def _enter_judges(rule: str, judge: Judge, shapes: dict[str, Shape], hint: str) -> None:
    """Make a check for each of the shapes."""
    for name, shape in shapes.items():

        def play(peer: BackendPeer, value: Any, shape: Shape = shape) -> None:
            end = EchoEnd(peer)
            sent = shape.returned(end)
            judge(sent, shape)
            end.answer(sent)

        play.__doc__ = f"Of a packet ({name}) that is sent back, {judge.__doc__}."
        check(
            id=check_id(Side.NETFRONT, rule, name),
            rule=rule,
            side=Side.NETFRONT,
            needs=shape.needs,
            hint=hint,
        )(play)


def _pick(*names: str) -> dict[str, Shape]:
    return {name: SHAPES[name] for name in names}


_enter_judges(
    "netif.front.tx.size",
    first_size,
    ONE_SLOT,
    "size is the number of bytes of the frame, as the guest's stack gave it",
)
_enter_judges(
    "netif.front.tx.first-size-is-total",
    first_size,
    {**SEVERAL_SLOTS, **_pick("gso-tcpv4")},
    "put the size of the whole packet into the first request",
)
_enter_judges(
    "netif.front.tx.more-data",
    more_data,
    {**SEVERAL_SLOTS, **_pick("gso-tcpv4")},
    "set more_data on every data request but the last; extra infos do not count",
)
_enter_judges(
    "netif.front.tx.content",
    content,
    _pick("60", "4096", "three-slots", "65535"),
    "the bytes lie at offset of the page whose reference the slot has",
)
_enter_judges(
    "netif.front.tx.slot-in-page",
    in_page,
    _pick("4096", "short-first-slot", "65535"),
    "end a slot where its page ends",
)
_enter_judges(
    "netif.front.tx.no-empty-slot",
    slots_filled,
    _pick("4096", "two-slots", "short-first-slot", "65535"),
    "a frame that ends with its page needs no further slot",
)
_enter_judges(
    "netif.front.tx.slots",
    few_slots,
    _pick("many-slots", "65535"),
    "put a frame together anew where it lies in too many pieces",
)
_enter_judges(
    "netif.front.tx.flags",
    flags_known,
    _pick("60", "three-slots", "gso-tcpv4", "tcpv4"),
    "write flags anew for each request; a slot still holds its last response",
)
_enter_judges(
    "netif.front.tx.flags",
    no_offload_flags,
    {"plain": SHAPES["1514"], "plain-three-slots": SHAPES["three-slots"]},
    "set csum_blank for frames whose checksum is blank, and for no other",
)
_enter_judges(
    "netif.front.tx.byte-layout",
    layout,
    _pick("1514", "two-slots"),
    "gref 4 bytes, offset 2, flags 2, id 2, size 2, little-endian",
)
_enter_judges(
    "netif.front.tx.gso-extra",
    gso_extra,
    GSO,
    "the extra info is the slot behind the first request: type 1, the MSS, 1 for TCPv4",
)
_enter_judges(
    "netif.front.tx.gso-needs-csum",
    gso_csum,
    GSO,
    "leave the checksum of a packet to be segmented blank, and say so",
)
_enter_judges(
    "netif.front.tx.extra-chain",
    extra_chain,
    GSO,
    "MORE says that another extra info follows, not that data does",
)
_enter_judges(
    "netif.front.tx.csum-flags", csum_flags, {**BLANK, **_pick("gso-tcpv4")}, "set both flags"
)
_enter_judges(
    "netif.front.rx.csum-blank",
    blank_or_right,
    BLANK,
    "pass csum_blank on with the frame, or fill the checksum in",
)


# -- without the backend's features ----------------------------------------------------------------


@frozen
class Without:
    """Features that the backend does not have, and what must not be seen of a packet then."""

    nodes: dict[str, int]
    shape: Shape
    judge: Judge


def _one_slot(sent: Sent, shape: Shape) -> None:
    if len(sent.data) > 1:
        raise about(sent.data[1], "a packet has several slots, and there is no feature-sg")


def _no_gso(sent: Sent, shape: Shape) -> None:
    if sent.extras:
        raise about(sent.extras[0], "a packet has an extra info that the backend did not ask for")


def _no_blank(sent: Sent, shape: Shape) -> None:
    if sent.first.flags & NETTXF_csum_blank:
        raise about(sent.first, "a checksum is left blank that the backend cannot fill in")
    if shape.flow is not None and judge_sum(sent.frame, shape.flow) is not Sum.RIGHT:
        raise about(sent.first, "a checksum is wrong, and csum_blank is not set")


_NO_GSO = {"feature-gso-tcpv4": 0, "feature-gso-tcpv6": 0}
WITHOUT = {
    ("netif.front.tx.no-sg", "two-slots"): Without(
        {"feature-sg": 0, **_NO_GSO}, SHAPES["two-slots"], _one_slot
    ),
    ("netif.front.tx.no-sg", "one-slot"): Without(
        {"feature-sg": 0, **_NO_GSO}, SHAPES["1514"], _one_slot
    ),
    ("netif.front.tx.no-gso", "tcpv4"): Without(_NO_GSO, SHAPES["gso-tcpv4"], _no_gso),
    ("netif.front.tx.no-gso", "tcpv6"): Without(_NO_GSO, SHAPES["gso-tcpv6"], _no_gso),
    ("netif.front.tx.no-gso", "tcpv6-only"): Without(
        {"feature-gso-tcpv6": 0}, SHAPES["gso-tcpv6"], _no_gso
    ),
    ("netif.front.tx.no-csum", "tcpv4"): Without(
        {"feature-no-csum-offload": 1, **_NO_GSO}, SHAPES["tcpv4"], _no_blank
    ),
    ("netif.front.tx.no-csum", "udpv4"): Without(
        {"feature-no-csum-offload": 1, **_NO_GSO}, SHAPES["udpv4"], _no_blank
    ),
    ("netif.front.tx.no-csum", "tcpv6"): Without(
        {"feature-ipv6-csum-offload": 0, **_NO_GSO}, SHAPES["tcpv6"], _no_blank
    ),
}


def _enter_without(rule: str, name: str, case: Without) -> None:
    """A packet that would need what the backend lacks is changed, cut up or not sent."""

    def play(peer: BackendPeer, value: Any) -> None:
        enter_with(peer, case.nodes)
        end, shape = EchoEnd(peer), case.shape
        shape.deliver(end)
        for sent in end.collect(1):
            case.judge(sent, shape)
            end.answer(sent)

    lacks = ", ".join(f"{node} = {value}" for node, value in case.nodes.items())
    play.__doc__ = f"What is sent to a backend with {lacks} does without."
    check(
        id=check_id(Side.NETFRONT, rule, name),
        rule=rule,
        side=Side.NETFRONT,
        accepts={Outcome.ANSWERED, Outcome.REFUSED},
        needs=case.shape.needs,
        connect=False,
        hint="read the backend's features at each connect, and keep to them",
    )(play)


for (_rule, _name), _case in WITHOUT.items():
    _enter_without(_rule, _name, _case)


# -- many packets ----------------------------------------------------------------------------------


def _deliver_some(end: EchoEnd, sizes: Sequence[int], number: int = 0) -> list[bytes]:
    """Deliver frames of these sizes, published together; returns them."""
    frames = [plain(size, number + i) for i, size in enumerate(sizes)]
    for frame in frames:
        end.peer.deliver(frame, queue=end.queue)
    end.push()
    return frames


@check(
    id="netfront.tx.order",
    rule="netif.front.tx.order",
    side=Side.NETFRONT,
    hint="a queue is first in, first out, also where the ring was full in between",
)
def order(peer: BackendPeer, value: Any) -> None:
    """Twenty packets that are delivered together are sent back in their order."""
    end = EchoEnd(peer)
    frames = _deliver_some(end, [60 + number for number in range(20)])
    came = end.collect(len(frames))
    end.answer(*came)
    if [sent.frame for sent in came] != frames:
        raise Violation(f"{len(frames)} packets do not come back in their order", ring="tx")


@check(
    id="netfront.tx.id-unique",
    rule="netif.front.tx.id-unique",
    side=Side.NETFRONT,
    hint="keep a free list of ids; an id is free again when its response has come",
)
def id_unique(peer: BackendPeer, value: Any) -> None:
    """Thirty packets that are not answered have different ids; once they were answered in the
    reverse order, thirty more have so again."""
    end = EchoEnd(peer)
    for _ in range(2):
        _deliver_some(end, [60] * 30)
        came = end.collect(30)
        if len(came) != 30:
            raise Violation(f"of 30 packets {len(came)} are sent back", ring="tx")
        end.answer(*reversed(came))


@check(
    id="netfront.tx.answered-slots-return",
    rule="netif.front.tx.answered-slots-return",
    side=Side.NETFRONT,
    hint="each response frees its slot; look at the indices modulo the ring's size",
)
def answered_slots_return(peer: BackendPeer, value: Any) -> None:
    """Six hundred packets go round both rings, answered out of order, and each arrives whole."""
    end = EchoEnd(peer)
    for start in range(0, 600, 30):
        frames = _deliver_some(end, [60 + number for number in range(30)], start)
        came = end.collect(len(frames))
        if [sent.frame for sent in came] != frames:
            raise Violation(
                f"of packets {start} to {start + 29} not all come back as they were", ring="tx"
            )
        end.answer(*came[1::2], *came[::2])


@check(
    id="netfront.ring.wrap",
    rule="ring.front.wrap",
    side=Side.NETFRONT,
    needs={"sg"},
    hint="the slot behind number 255 is number 0, also inside a packet",
)
def wrap(peer: BackendPeer, value: Any) -> None:
    """Packets of three slots go round both rings; some lie across the end."""
    end = EchoEnd(peer)
    for number in range(20):
        echo_all(end, [plain(9000, number + i) for i in range(5)])


@check(
    id="netfront.ring.outstanding",
    rule="ring.front.outstanding",
    side=Side.NETFRONT,
    hint="stop when the ring is full, go on when responses come",
)
def outstanding(peer: BackendPeer, value: Any) -> None:
    """With no response it stops before it has more requests outstanding than the ring has slots,
    and goes on, with nothing lost or out of order, once they come."""
    end = EchoEnd(peer)
    frames: list[bytes] = []
    came: list[Sent] = []
    for start in range(0, 400, 25):
        if peer.buffers() < 25:
            break  # it takes no more while it cannot send
        frames += _deliver_some(end, [60] * 25, start)
        came += end.take()
        _within_ring(peer)
    unanswered = list(came)
    while unanswered:
        end.answer(*unanswered)
        unanswered = end.collect(1)
        came += unanswered
        _within_ring(peer)
    returned = [sent.frame for sent in came]
    if returned != frames[: len(returned)] or len(returned) < 200:
        raise Violation(
            f"of {len(frames)} packets {len(returned)} come back, or not in their order", ring="tx"
        )


def _within_ring(peer: BackendPeer) -> None:
    asked = (peer.index("req_prod") - peer.index("rsp_prod")) & 0xFFFFFFFF
    if asked > 256:
        raise Violation(f"{asked} requests are outstanding on a ring of 256", ring="tx")


@check(
    id="netfront.ring.req-prod-moves-forward",
    rule="ring.front.req-prod-moves-forward",
    side=Side.NETFRONT,
    hint="req_prod is published once for each batch and never taken back",
)
def moves_forward(peer: BackendPeer, value: Any) -> None:
    """req_prod of either ring never goes back, and requests that were published stay as they
    were until they are answered."""
    end = EchoEnd(peer)
    before = {ring: peer.index("req_prod", ring=ring) for ring in ("tx", "rx")}
    for number in range(30):
        sent = end.returned(plain(60, number))
        raw = sent.first.raw
        end.deliver(plain(60, number + 100))
        later = end.collect(1)
        if peer.shared("tx").copy_slot(sent.first.index) != raw:
            raise about(sent.first, "a request was written over before it was answered")
        end.answer(sent, *later)
        for ring, old in before.items():
            new = peer.index("req_prod", ring=ring)
            if (new - old) & 0x80000000:
                raise Violation(f"req_prod went from {old} back to {new}", ring=ring)
            before[ring] = new


#: Name -> the packet with which the ring is filled.
_FILLS = {
    "five-slots": Shape(plain(20_000), _SG),
    "extra-info": GSO["gso-tcpv4"],
    "eighteen-slots": Shape(plain(65535), _SG, sizes=(3700,) * 17),
}


def _enter_fills() -> None:
    for name, shape in _FILLS.items():

        def play(peer: BackendPeer, value: Any, shape: Shape = shape) -> None:
            end = EchoEnd(peer)
            # One slot before: then packets of four, extra info included, do not fit exactly.
            came = [end.returned(plain(60))]
            for _ in range(80):
                if peer.buffers() < 20:
                    break  # it takes no more while it cannot send
                shape.deliver(end)
                came += end.take()
                _within_ring(peer)
            while came:
                end.answer(*came)
                came = end.collect(1)
                _within_ring(peer)

        play.__doc__ = f"While the ring fills up ({name}) no packet is published in part."
        check(
            id=f"netfront.tx.whole-packets-{name}",
            rule="netif.front.tx.whole-packets",
            side=Side.NETFRONT,
            needs=shape.needs,
            hint="count all slots of a packet, extra infos too, before its first is written",
        )(play)


_enter_fills()


@check(
    id="netfront.tx.max-size",
    rule="netif.front.tx.max-size",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    needs={"sg"},
    field=Field("bytes delivered", 65536, 65535),
    hint="size has 16 bits: a longer frame has to be refused before it is sent",
)
def max_size(peer: BackendPeer, value: Any) -> None:
    """A packet of more than 65,535 bytes that was delivered is not sent back with a size that has
    wrapped."""
    _long_or_short(peer, value, 65535)


@check(
    id="netfront.tx.min-size",
    rule="netif.front.tx.min-size",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("bytes delivered", 13, 14),
    hint="a frame has an Ethernet header",
)
def min_size(peer: BackendPeer, value: Any) -> None:
    """A packet of 13 bytes that was delivered is not sent back as it is."""
    _long_or_short(peer, value, 14)


def _long_or_short(peer: BackendPeer, size: int, legal: int) -> None:
    """Deliver a packet of ``size`` bytes, which is ``legal`` or no legal size."""
    end = EchoEnd(peer)
    frame = plain(size + 1)[:size]
    end.deliver(frame)
    came = end.collect(1) if size == legal else end.take()
    for sent in came:
        if not 14 <= len(sent.frame) == sent.first.size:
            raise about(sent.first, f"{size} bytes were delivered, {len(sent.frame)} are sent")
    end.answer(*came)
    if size == legal and not came:
        raise Violation(f"a packet of {size} bytes is not sent back", ring="rx")


@check(
    id="netfront.tx.error-response-mixed",
    rule="netif.front.tx.error-response",
    side=Side.NETFRONT,
    needs={"sg"},
    hint="a response frees its slot, whatever the status",
)
def error_of_one_slot(peer: BackendPeer, value: Any) -> None:
    """Of packets of three slots the middle one is answered ERROR, the others OKAY, a hundred times
    over: no slot is lost (F13 as Linux answers)."""
    end = EchoEnd(peer)
    for number in range(20):
        for i in range(5):
            peer.deliver(plain(9000, number + i))
        end.push()
        for sent in end.collect(5):
            for place, request in enumerate(sent.data):
                end.put(request.id, -1 if place == 1 else NETIF_RSP_OKAY)
        peer.push_tx()
        peer.settle()
