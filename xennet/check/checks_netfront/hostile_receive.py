"""Receive responses that break the protocol (rows B1, B2, B8 to B14, B20 and B21 of
docs/hardening.md), each with a twin that differs in one field and has to be sent back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from xennet.abi.netif import (
    RX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_NR_SLOTS_MIN,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.sent_packets import (
    DROPPED,
    SURVIVED,
    EchoEnd,
    about,
    require_same,
)
from xennet.check.ip_frames import packet, plain
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer

_BLANK = NETRXF_csum_blank | NETRXF_data_validated
_LENGTH = 200

#: Puts one packet on the receive ring, with ``value`` in the field of the check.
Move = Callable[[BackendPeer, Any], None]


@frozen
class Bad:
    """A packet that is to be dropped: the ``move``, its field with both values, what it needs."""

    rule: str
    move: Move
    field: Field
    needs: frozenset[str] = frozenset()
    accepts: frozenset[Outcome] = DROPPED
    hint: str = ""


def _status(peer: BackendPeer, value: Any) -> None:
    """One slot with this status."""
    peer.rx(plain(_LENGTH), status=value)


def _later_status(peer: BackendPeer, value: Any) -> None:
    """Three slots; the second has this status."""
    frame = plain(3 * _LENGTH)
    peer.rx(frame[:_LENGTH], NETRXF_more_data)
    peer.rx(frame[_LENGTH : 2 * _LENGTH], NETRXF_more_data, status=value)
    peer.rx(frame[2 * _LENGTH :])


def _offset(peer: BackendPeer, value: Any) -> None:
    """One slot whose response has this offset; the bytes lie at the control's."""
    request = peer.buffer()
    peer.fill(request.gref, plain(_LENGTH), PAGE_SIZE - _LENGTH)
    peer.raw_rx(RX_RESPONSE.pack(request.id, value, 0, _LENGTH))


def _last_flags(peer: BackendPeer, value: Any) -> None:
    """One slot with these flags, and nothing behind it."""
    peer.rx(plain(_LENGTH), value)


def _extra_type(peer: BackendPeer, value: Any) -> None:
    """A packet with an extra info of this type."""
    peer.rx(packet(1514, blank=True), _BLANK | NETRXF_extra_info)
    peer.extra(value, 0, 1448, XEN_NETIF_GSO_TYPE_TCPV4)


def _extra_flags(peer: BackendPeer, value: Any) -> None:
    """A packet whose last extra info has these flags."""
    peer.rx(packet(1514, blank=True), _BLANK | NETRXF_extra_info)
    peer.extra(XEN_NETIF_EXTRA_TYPE_GSO, value, 1448, XEN_NETIF_GSO_TYPE_TCPV4)


def _gso_size(peer: BackendPeer, value: Any) -> None:
    """A packet whose GSO extra info has this segment size."""
    peer.rx(packet(3000, blank=True), _BLANK | NETRXF_extra_info)
    peer.extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, value, XEN_NETIF_GSO_TYPE_TCPV4)


def _gso_type(peer: BackendPeer, value: Any) -> None:
    """A packet whose GSO extra info has this type."""
    peer.rx(packet(3000, blank=True), _BLANK | NETRXF_extra_info)
    peer.extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, value)


def _length(peer: BackendPeer, value: Any) -> None:
    """A packet of so many bytes, in whole pages."""
    frame = plain(max(value, 14))[:value]
    for start in range(0, len(frame) or 1, PAGE_SIZE):
        more = NETRXF_more_data if start + PAGE_SIZE < len(frame) else 0
        peer.rx(frame[start : start + PAGE_SIZE], more)


def _blank_flags(peer: BackendPeer, value: Any) -> None:
    """A packet that is no IP, with these flags."""
    peer.rx(plain(_LENGTH), value)


def _lying_header(peer: BackendPeer, value: Any) -> None:
    """A TCP packet with a blank checksum whose first byte of IP is this one."""
    frame = bytearray(packet(_LENGTH, blank=True))
    frame[14] = value
    peer.rx(bytes(frame), _BLANK)


_CSUM, _GSO = frozenset({"csum"}), frozenset({"csum", "sg", "gso-tcpv4"})
_SG = frozenset({"sg"})


def _table() -> dict[str, Bad]:
    """All packets that are to be dropped, by the check's id."""
    found: dict[str, Bad] = {}

    def bad(
        rule: str,
        move: Move,
        name: str,
        control: Any,
        values: dict[str, Any],
        needs: frozenset[str] = frozenset(),
        accepts: frozenset[Outcome] = DROPPED,
        hint: str = "",
    ) -> None:
        for key, value in values.items():
            found[check_id(Side.NETFRONT, f"netif.front.rx.{rule}", key)] = Bad(
                f"netif.front.rx.{rule}", move, Field(name, value, control), needs, accepts, hint
            )

    bad(
        "negative-status",
        _status,
        "status",
        _LENGTH,
        {"error": -1, "dropped": -2, "bad-page": -9, "most-negative": -0x8000},
        hint="status is signed: look at its sign before anything is added to it",
    )
    bad(
        "negative-status",
        _later_status,
        "status of the second slot",
        _LENGTH,
        {"later-slot": -1},
        _SG,
        hint="one bad slot drops the packet, and all its buffers are posted again",
    )
    bad(
        "in-page",
        _status,
        "status",
        _LENGTH,
        {"status-4097": PAGE_SIZE + 1, "status-32767": 0x7FFF},
        hint="offset + status is at most 4096",
    )
    bad(
        "in-page",
        _offset,
        "offset",
        PAGE_SIZE - _LENGTH,
        {
            "offset-one-more": PAGE_SIZE - _LENGTH + 1,
            "offset-4096": PAGE_SIZE,
            "offset-65535": 65535,
        },
        hint="offset + status is at most 4096",
    )
    bad(
        "in-page",
        _later_status,
        "status of the second slot",
        _LENGTH,
        {"later-slot": PAGE_SIZE + 1},
        _SG,
        hint="check each slot of a packet",
    )
    bad(
        "missing-slots",
        _last_flags,
        "flags of the last response",
        0,
        {"more-data": NETRXF_more_data},
        hint="drop the packet, or keep it until the rest comes",
    )
    bad(
        "missing-extra",
        _last_flags,
        "flags of the last response",
        0,
        {"extra-info": NETRXF_extra_info, "extra-and-data": NETRXF_extra_info | NETRXF_more_data},
        hint="look at rsp_prod before each slot that a flag promises",
    )
    bad(
        "missing-extra",
        _extra_flags,
        "flags of the extra info",
        0,
        {"more-extras": 1},
        _GSO,
        hint="look at rsp_prod before each slot that a flag promises",
    )
    bad(
        "extra-type",
        _extra_type,
        "type of the extra info",
        XEN_NETIF_EXTRA_TYPE_GSO,
        {"0": 0, "6": 6, "127": 127, "255": 255},
        _GSO,
        hint="the type is an index into nothing before it was compared",
    )
    bad(
        "gso-fields",
        _gso_size,
        "u.gso.size",
        1448,
        {"size-0": 0},
        _GSO,
        hint="a segment size of 0 divides nothing",
    )
    bad(
        "gso-fields",
        _gso_type,
        "u.gso.type",
        XEN_NETIF_GSO_TYPE_TCPV4,
        {"type-0": 0, "type-3": 3, "type-255": 255},
        _GSO,
        hint="only the two types of the header can be cut",
    )
    bad(
        "sizes",
        _length,
        "bytes of the packet",
        14,
        {"0": 0, "1": 1, "13": 13},
        hint="no Ethernet header, no frame",
    )
    bad(
        "sizes",
        _length,
        "bytes of the packet",
        65535,
        {"65536": 65536, "18-pages": 18 * PAGE_SIZE},
        _SG,
        hint="the sum of the slots is more than 16 bits hold",
    )
    bad(
        "headers",
        _blank_flags,
        "flags",
        0,
        {"no-ip": _BLANK},
        _CSUM,
        SURVIVED,
        hint="find the checksum's place before something is written there",
    )
    bad(
        "headers",
        _lying_header,
        "first byte of the IP header",
        0x45,
        {"header-of-0": 0x40, "header-of-60": 0x4F, "version-6": 0x65, "version-15": 0xF5},
        _CSUM,
        SURVIVED,
        hint="header lengths are the packet's own word: compare them with its size",
    )
    return found


def _enter(name: str, bad: Bad) -> None:
    def play(peer: BackendPeer, value: Any) -> Outcome | None:
        end = EchoEnd(peer)
        before = peer.buffers()
        bad.move(peer, value)
        end.push()
        good = value == bad.field.control
        came = end.collect(1) if good else end.take()
        if good and not came:
            raise Violation("a well-formed packet is not sent back", ring="rx")
        if came and Outcome.ANSWERED not in bad.accepts and not good:
            raise about(
                came[0].first,
                f"a packet of {len(came[0].frame)} bytes goes on: {bad.field.name} is {value}",
            )
        end.answer(*came)
        if not good and peer.connected and _goes_on(peer, before):
            return Outcome.ANSWERED if came else Outcome.REFUSED
        return None

    told = bad.move.__doc__ or ""
    play.__doc__ = f"{told[:-1]}, {bad.field.name} = {bad.field.hostile}: it goes no further."
    check(
        id=name,
        rule=bad.rule,
        side=Side.NETFRONT,
        accepts=bad.accepts,
        needs=bad.needs,
        field=bad.field,
        hint=bad.hint,
    )(play)


def _goes_on(peer: BackendPeer, before: int) -> bool:
    """Whether the netfront takes another packet. Raises Violation if it does, and has not posted
    all buffers of the move again: there were ``before``."""
    if peer.probe(0):
        return False
    if not peer.wait(lambda: peer.buffers() >= before):
        raise Violation(
            f"{before - peer.buffers()} buffers of the packet are not posted again",
            ring="rx",
            hint="every slot of a dropped packet gives its buffer back, extra infos too",
        )
    return True


for _name, _bad in _table().items():
    _enter(_name, _bad)


def _enter_slots(count: int) -> None:
    def play(peer: BackendPeer, value: Any) -> None:
        end = EchoEnd(peer)
        frame = plain(300 * value)
        end.deliver(frame, sizes=(300,) * value)
        came = end.collect(1) if value == XEN_NETIF_NR_SLOTS_MIN else end.take()
        if value == XEN_NETIF_NR_SLOTS_MIN and not came:
            raise Violation(f"a packet of {value} slots is not sent back", ring="rx")
        for sent in came:
            require_same(sent, frame)
        end.answer(*came)

    play.__doc__ = f"A packet of {count} slots arrives whole or not at all."
    check(
        id=f"netfront.rx.too-many-slots-{count}",
        rule="netif.front.rx.too-many-slots",
        side=Side.NETFRONT,
        accepts=SURVIVED,
        needs={"sg"},
        field=Field("number of slots", count, XEN_NETIF_NR_SLOTS_MIN),
        hint="count the slots, and bound the array that they go into",
    )(play)


for _count in (19, 20, 21, 40, 200):
    _enter_slots(_count)


# -- indices ---------------------------------------------------------------------------------------


def _enter_index(name: str, rule: str, ahead: int, what: str) -> None:
    def play(peer: BackendPeer, value: Any) -> None:
        end = EchoEnd(peer)
        frame = plain(60)
        for _ in range(2):
            end.echoed(frame)
        peer.rx(frame)
        right = peer.index("rsp_prod_pvt", ring="rx")
        beyond = range(right, right + peer.buffers()) if ahead > 0 else range(0)
        requests = [peer.shared("rx").copy_slot(index) for index in beyond]
        for index in beyond:  # what lies there would do as a response
            peer.write_slot(index, RX_RESPONSE.pack(index & 0xFF, 0, 0, 60), ring="rx")
        peer.set_index("rsp_prod", right + value, ring="rx")
        peer.notify("rx")
        peer.settle()
        came = end.take() if value else end.collect(1)
        if any(sent.frame != frame for sent in came):
            raise Violation("what is sent back was never delivered", ring="rx")
        if len(came) > 1 or (not value and not came):
            raise Violation(f"1 packet was delivered, {len(came)} are sent back", ring="rx")
        end.answer(*came)
        peer.set_index("rsp_prod", right, ring="rx")
        for index, raw in zip(beyond, requests, strict=True):
            peer.write_slot(index, raw, ring="rx")

    play.__doc__ = what
    check(
        id=name,
        rule=rule,
        side=Side.NETFRONT,
        accepts=SURVIVED,
        field=Field("rsp_prod, beside its right value", ahead, 0),
        hint="compare rsp_prod with what was requested before a response is read",
    )(play)


for _key, _ahead in {"ring": 256, "far": 0x1000, "half": 0x80000000}.items():
    _enter_index(
        f"netfront.ring.rsp-prod-overflow-rx-{_key}",
        "ring.front.rsp-prod-overflow",
        _ahead,
        f"rsp_prod of the receive ring stands {_ahead} past what was answered.",
    )
for _key, _ahead in {"one": -1, "two": -2, "ring": -256}.items():
    _enter_index(
        f"netfront.ring.rsp-prod-backwards-rx-{_key}",
        "ring.front.rsp-prod-backwards",
        _ahead,
        f"rsp_prod of the receive ring stands {-_ahead} before what was answered.",
    )


@check(
    id="netfront.rx.missing-extra-chain-around-the-ring",
    rule="netif.front.rx.missing-extra",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("MORE on each of 200 extra infos", 1, 0),
    hint="a chain of extra infos ends with rsp_prod, not with its own flags",
)
def long_chain(peer: BackendPeer, value: Any) -> None:
    """Extra infos that follow each other for most of a ring end nowhere."""
    end = EchoEnd(peer)
    if value:
        peer.rx(plain(60), NETRXF_extra_info)
        for _ in range(min(200, peer.buffers())):
            peer.extra(XEN_NETIF_EXTRA_TYPE_HASH, value)
        end.push()
        end.take()
    else:
        end.echoed(plain(60))
