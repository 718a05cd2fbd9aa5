"""Receive buffers of a netfront, and well-formed packets for it (netif.h, "Guest receive")."""

from __future__ import annotations

from typing import Any

from xennet.abi.netif import (
    RX_REQUEST,
    RX_RESPONSE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_NR_SLOTS_MIN,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netfront.sent_packets import SURVIVED, EchoEnd, echo_all, require_same
from xennet.check.ip_frames import packet, plain
from xennet.check.peers import BackendPeer
from xennet.interface import HypercallError
from xennet.testing.raw_backend import RxRequest


def posted(peer: BackendPeer) -> list[RxRequest]:
    """The buffers that are posted just now, the next one first."""
    return [peer.buffer(ahead) for ahead in range(peer.buffers())]


def _about(request: RxRequest, message: str, hint: str = "") -> Violation:
    return Violation(message, ring="rx", index=request.index, raw=request.raw, hint=hint)


# -- buffers ---------------------------------------------------------------------------------------


@check(
    id="netfront.rx.posted",
    rule="netif.front.rx.posted",
    side=Side.NETFRONT,
    hint="fill the receive ring before Connected is shown",
)
def buffers_posted(peer: BackendPeer, value: Any) -> None:
    """When both ends are Connected there are buffers for a packet of the largest number of slots,
    one of 1 where scatter-gather was not negotiated."""
    needed = XEN_NETIF_NR_SLOTS_MIN if peer.otherend.optional_text("feature-sg") == "1" else 1
    if not peer.wait(lambda: peer.buffers() >= needed):
        raise Violation(f"{peer.buffers()} buffers are posted, {needed} are needed", ring="rx")


@check(
    id="netfront.rx.request-id",
    rule="netif.front.rx.request-id",
    side=Side.NETFRONT,
    hint="the number of the slot makes a good id",
)
def request_ids(peer: BackendPeer, value: Any) -> None:
    """The posted buffers have ids of their own, at first and when some were used."""
    end = EchoEnd(peer)
    for number in range(3):
        found: dict[int, RxRequest] = {}
        for request in posted(peer):
            if request.id in found:
                raise _about(request, f"two posted buffers have the id {request.id}")
            found[request.id] = request
        end.echoed(plain(60, number))


@check(
    id="netfront.rx.request-gref",
    rule="netif.front.rx.request-gref",
    side=Side.NETFRONT,
    hint="grant each buffer for writing, before its request is published",
)
def request_grefs(peer: BackendPeer, value: Any) -> None:
    """Each posted buffer is a page of its own that may be written, at first and when some were
    used."""
    end = EchoEnd(peer)
    for number in range(2):
        found: dict[int, RxRequest] = {}
        for request in posted(peer):
            if request.gref in found:
                raise _about(request, f"two posted buffers have the reference {request.gref}")
            found[request.gref] = request
            try:
                peer.unmap(peer.hold(request.gref))
            except HypercallError as refused:
                raise _about(request, f"a posted buffer cannot be written: {refused}") from None
        end.echoed(plain(60, number))


@check(
    id="netfront.rx.request-pad",
    rule="netif.front.rx.request-pad",
    side=Side.NETFRONT,
    hint="write all eight bytes of a request",
)
def request_pads(peer: BackendPeer, value: Any) -> None:
    """The padding of requests is 0, also where a response has stood in the slot."""
    end = EchoEnd(peer)
    for number in range(0, peer.buffers() + 10, 20):
        echo_all(end, [plain(60, number)] * min(20, peer.buffers()))
    for request in posted(peer):
        pad = RX_REQUEST.unpack_from(request.raw)[1]
        if pad:
            raise _about(request, f"the padding is {pad:#x}")


@check(
    id="netfront.rx.reposted",
    rule="netif.front.rx.reposted",
    side=Side.NETFRONT,
    hint="post buffers again at the end of each pass, those of dropped packets as well",
)
def reposted(peer: BackendPeer, value: Any) -> None:
    """After 300 packets, between which are a hundred of negative status, as many buffers are posted
    as at first, and never more than the ring has slots."""
    end = EchoEnd(peer)
    before = peer.buffers()
    for number in range(30):
        for _ in range(3):
            peer.rx(b"", status=-1)
        echo_all(end, [plain(60, number)] * 10)
        asked = peer.index("req_prod", ring="rx") - peer.index("rsp_prod", ring="rx")
        if asked & 0xFFFFFFFF > 256:
            raise Violation(f"{asked} buffers are posted on a ring of 256", ring="rx")
    if not peer.wait(lambda: peer.buffers() >= before):
        raise Violation(f"{peer.buffers()} buffers are posted, {before} were at first", ring="rx")


# -- well-formed packets ---------------------------------------------------------------------------

#: Offset in the page and length of packets of one slot.
_PLACES = {
    "two": (2, 60),
    "headroom": (256, 1514),
    "unaligned": (13, 1499),
    "end-of-page": (PAGE_SIZE - 60, 60),
    "nearly-whole-page": (1, PAGE_SIZE - 1),
}

#: Lengths of the slots of packets of several; what is delivered is their sum.
_SLOTS = {
    "two": (60, 1000),
    "tiny-first": (1, 2000),
    "tiny-ones": (1,) * 18,
    "eighteen": (3600,) * 18,
    "full-pages": (PAGE_SIZE,) * 3,
}


def _enter_places() -> None:
    for name, (offset, length) in _PLACES.items():

        def play(peer: BackendPeer, value: Any, offset: int = offset, length: int = length) -> None:
            end = EchoEnd(peer)
            frame = plain(length)
            peer.rx(frame, offset=offset)
            end.push()
            for sent in end.collect(1):
                require_same(sent, frame)
                end.answer(sent)
                return
            raise Violation(f"a packet of {length} bytes at offset {offset} is lost", ring="rx")

        play.__doc__ = (
            f"A packet of {length} bytes from offset {offset} of its page is taken whole."
        )
        check(
            id=f"netfront.rx.content-{name}",
            rule="netif.front.rx.content",
            side=Side.NETFRONT,
            hint="the bytes are those from offset on, not from the page's first",
        )(play)


def _enter_slots() -> None:
    for name, lengths in _SLOTS.items():

        def play(peer: BackendPeer, value: Any, lengths: tuple[int, ...] = lengths) -> None:
            EchoEnd(peer).echoed(plain(sum(lengths)), sizes=lengths)

        play.__doc__ = (
            f"A packet in {len(lengths)} slots, the first of {lengths[0]} bytes, is whole."
        )
        check(
            id=f"netfront.rx.several-slots-{name}",
            rule="netif.front.rx.several-slots",
            side=Side.NETFRONT,
            needs={"sg"},
            hint="add up the slots as long as more_data is set",
        )(play)


_enter_places()
_enter_slots()


@check(
    id="netfront.rx.several-slots-offsets",
    rule="netif.front.rx.several-slots",
    side=Side.NETFRONT,
    needs={"sg"},
    hint="each slot has an offset of its own",
)
def slots_with_offsets(peer: BackendPeer, value: Any) -> None:
    """The slots of one packet begin at different places of their pages."""
    end = EchoEnd(peer)
    frame = plain(900)
    for number, offset in enumerate((200, 0, 3000)):
        part = frame[300 * number : 300 * number + 300]
        peer.rx(part, NETRXF_more_data if number < 2 else 0, offset=offset)
    end.push()
    for sent in end.collect(1):
        require_same(sent, frame)
        end.answer(sent)


@check(
    id="netfront.rx.empty-slot",
    rule="netif.front.rx.empty-slot",
    side=Side.NETFRONT,
    needs={"sg"},
    hint="a status of 0 is no error",
)
def empty_slot(peer: BackendPeer, value: Any) -> None:
    """A later slot without a byte adds nothing to its packet and takes nothing from it."""
    end = EchoEnd(peer)
    frame = plain(200)
    peer.rx(frame[:100], NETRXF_more_data)
    peer.rx(b"", NETRXF_more_data)
    peer.rx(frame[100:])
    end.push()
    for sent in end.collect(1):
        require_same(sent, frame)
        end.answer(sent)


@check(
    id="netfront.rx.gso",
    rule="netif.front.rx.gso",
    side=Side.NETFRONT,
    needs={"sg", "csum", "gso-tcpv4"},
    hint="the slot behind a first one with extra_info is no data",
)
def gso_whole(peer: BackendPeer, value: Any) -> None:
    """Packets with GSO extra info between their slots arrive whole, and so do those without that
    come between them."""
    end = EchoEnd(peer)
    for number in range(3):
        end.echoed(
            packet(9014, blank=True, number=number),
            NETRXF_csum_blank | NETRXF_data_validated,
            gso_size=1448,
            gso_type=XEN_NETIF_GSO_TYPE_TCPV4,
        )
        end.echoed(plain(60, number))


@check(
    id="netfront.rx.gso-unvalidated",
    rule="netif.front.rx.gso-unvalidated",
    side=Side.NETFRONT,
    needs={"sg", "gso-tcpv4"},
    hint="repair the checksum, as Linux does, or pass the frame on",
)
def gso_unvalidated(peer: BackendPeer, value: Any) -> None:
    """A GSO packet without csum_blank and without data_validated is not lost."""
    end = EchoEnd(peer)
    sent = end.returned(packet(9014), 0, gso_size=1448)
    end.answer(sent)


@check(
    id="netfront.rx.other-extras",
    rule="netif.front.rx.other-extras",
    side=Side.NETFRONT,
    needs={"sg", "csum", "gso-tcpv4"},
    hint="step over the extra infos that say nothing here",
)
def other_extras(peer: BackendPeer, value: Any) -> None:
    """A chain of extra infos of known types behind the first slot costs no packet."""
    end = EchoEnd(peer)
    frame = packet(3000, blank=True)
    peer.rx(frame, NETRXF_csum_blank | NETRXF_data_validated | NETRXF_extra_info)
    peer.extra(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_FLAG_MORE)
    peer.extra(XEN_NETIF_EXTRA_TYPE_MCAST_DEL, XEN_NETIF_EXTRA_FLAG_MORE)
    peer.extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, XEN_NETIF_GSO_TYPE_TCPV4)
    end.push()
    if not (came := end.collect(1)):
        raise Violation("a packet with three extra infos is lost", ring="rx")
    end.answer(*came)


@check(
    id="netfront.rx.in-pieces",
    rule="netif.front.rx.in-pieces",
    side=Side.NETFRONT,
    hint="a pass takes what is there, a later event brings the rest",
)
def in_pieces(peer: BackendPeer, value: Any) -> None:
    """Thirty packets that are published together, and then one at a time, arrive once each and
    in order."""
    end = EchoEnd(peer)
    count = min(30, peer.buffers())
    frames = [plain(60, number) for number in range(count)]
    for frame in frames:
        peer.deliver(frame)
    end.push()
    came = end.collect(count)
    end.answer(*came)
    if [sent.frame for sent in came] != frames:
        raise Violation(f"{count} packets that are published together do not come back", ring="rx")
    for frame in frames:
        end.echoed(frame)


@check(
    id="netfront.rx.same-slot",
    rule="netif.front.rx.same-slot",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("id: the buffer so many places behind", 1, 0),
    hint="the place of the response says which buffer it is",
)
def same_slot(peer: BackendPeer, value: Any) -> None:
    """A response whose id is another buffer's is about the buffer in its place all the same: no
    other page is taken for it."""
    end = EchoEnd(peer)
    here, named, frame = peer.buffer(), peer.buffer(value), plain(60, 1)
    peer.fill(peer.buffer(1).gref, plain(60, 2))
    peer.fill(here.gref, frame)
    peer.raw_rx(RX_RESPONSE.pack(named.id, 0, 0, len(frame)))
    end.push()
    came = end.take() if value else end.collect(1)
    for sent in came:
        require_same(sent, frame)
    end.answer(*came)
