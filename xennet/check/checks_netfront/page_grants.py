"""The grants of a netfront: what its backend may use, and how long (grant_table.h)."""

from __future__ import annotations

from typing import Any

from xennet.abi.netif import NETRXF_csum_blank, NETRXF_data_validated
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.receive import posted
from xennet.check.checks_netfront.sent_packets import SURVIVED, EchoEnd, about, echo_all
from xennet.check.ip_frames import packet, plain
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer
from xennet.interface import HypercallError
from xennet.testing.raw_backend import TxRequest

_ENDED = "end the grant when the response comes; a page that is granted can be read at any time"


def granted(peer: BackendPeer, gref: int, *, readonly: bool = True) -> bool:
    """Whether the reference can be mapped just now."""
    try:
        peer.unmap(peer.hold(gref, readonly=readonly))
    except HypercallError:
        return False
    return True


@check(
    id="netfront.grant.tx-readonly",
    rule="grant.front.tx-readonly",
    side=Side.NETFRONT,
    hint="set GTF_readonly for pages to be sent",
)
def tx_readonly(peer: BackendPeer, value: Any) -> None:
    """The page of a packet that is to be sent cannot be written by the backend."""
    end = EchoEnd(peer)
    sent = end.returned(plain(1514))
    if granted(peer, sent.first.gref, readonly=False):
        raise about(sent.first, "the page of a transmit request is granted for writing")
    end.answer(sent)


@check(
    id="netfront.grant.rings-writable",
    rule="grant.front.rings-writable",
    side=Side.NETFRONT,
    hint="a ring's grant is ended when the backend is Closed, not earlier",
)
def rings_writable(peer: BackendPeer, value: Any) -> None:
    """Both rings can be mapped for writing by their published references, before and after there
    was traffic."""
    end = EchoEnd(peer)
    for number in range(2):
        for name in ("tx-ring-ref", "rx-ring-ref"):
            gref = peer.otherend.unsigned(name)
            if not granted(peer, gref, readonly=False):
                raise Violation(
                    f"{name} = {gref} cannot be mapped for writing", path=peer.otherend.node(name)
                )
        end.echoed(plain(60, number))


@check(
    id="netfront.grant.valid-before-request",
    rule="grant.front.valid-before-request",
    side=Side.NETFRONT,
    hint="fill the entry, then the request, then req_prod",
)
def valid_before_request(peer: BackendPeer, value: Any) -> None:
    """Every reference of thirty requests that are published can be read at once."""
    end = EchoEnd(peer)
    for number in range(30):
        peer.deliver(plain(60, number))
    end.push()
    came = end.collect(30)  # reads each page, or tells
    end.answer(*came)


@check(
    id="netfront.grant.tx-ended",
    rule="grant.front.tx-ended",
    side=Side.NETFRONT,
    needs={"per-packet-grants"},
    hint=_ENDED,
)
def tx_ended(peer: BackendPeer, value: Any) -> None:
    """Once a packet was answered its pages cannot be read any more."""
    end = EchoEnd(peer)
    seen: list[TxRequest] = []
    for number in range(40):
        seen += end.echoed(plain(60, number)).data
    for request in seen:
        if not peer.wait(lambda one=request: not granted(peer, one.gref)):  # type: ignore[misc]
            raise about(request, f"gref {request.gref} is still granted")


@check(
    id="netfront.grant.rx-ended",
    rule="grant.front.rx-ended",
    side=Side.NETFRONT,
    needs={"per-packet-grants"},
    hint=_ENDED,
)
def rx_ended(peer: BackendPeer, value: Any) -> None:
    """Of all references that were ever posted as buffers only those that are posted now can be
    mapped."""
    end = EchoEnd(peer)
    seen = {request.gref for request in posted(peer)}
    for number in range(60):
        end.echoed(plain(60, number))
        seen |= {request.gref for request in posted(peer)}
    now = {request.gref for request in posted(peer)}
    for gref in sorted(seen - now):
        if granted(peer, gref):
            raise Violation(f"gref {gref} is granted, and no buffer has it", ring="rx")


@check(
    id="netfront.grant.reference-reuse",
    rule="grant.front.reference-reuse",
    side=Side.NETFRONT,
    hint="a reference goes back to the free list when its grant has been ended",
)
def reference_reuse(peer: BackendPeer, value: Any) -> None:
    """No reference is in two requests of the two rings that are pending at a time."""
    end = EchoEnd(peer)
    for number in range(20):
        peer.deliver(plain(60, number))
    end.push()
    came = end.collect(20)
    used: dict[int, str] = {request.gref: "the receive ring" for request in posted(peer)}
    for sent in came:
        for request in sent.data:
            if request.gref in used:
                raise about(request, f"gref {request.gref} is in use on {used[request.gref]} too")
            used[request.gref] = "the transmit ring"
    end.answer(*came)


@check(
    id="netfront.grant.in-use-is-kept-tx",
    rule="grant.front.in-use-is-kept",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    needs={"per-packet-grants"},
    field=Field("page is mapped when its response comes", 1, 0),
    hint="gnttab_end_foreign_access may fail: keep the page then, and its reference",
    may_hold=True,
)
def tx_in_use(peer: BackendPeer, value: Any) -> None:
    """A packet is answered while the backend still has its page mapped: what the page holds stays,
    and the reference is not used for another."""
    end = EchoEnd(peer)
    sent = end.returned(plain(200))
    held = peer.hold(sent.first.gref, readonly=True) if value else None
    before = b"" if held is None else bytes(held.page.u8)
    try:
        end.answer(sent)
        for number in range(30):
            if not peer.buffers():
                break
            end.deliver(plain(201, number))
            for later in end.take():
                if held is not None and later.first.gref == held.gref:
                    raise about(later.first, f"gref {held.gref} is used again while it is mapped")
                end.answer(later)
        if held is not None and bytes(held.page.u8) != before:
            raise about(sent.first, "a page that the backend has mapped was used for other data")
    finally:
        if held is not None:
            peer.unmap(held)


_GSO = {"sg", "csum", "gso-tcpv4"}


def _enter_rx_in_use() -> None:
    for name, place in {"rx": 0, "rx-extra": 1}.items():

        def play(peer: BackendPeer, value: Any, place: int = place) -> None:
            _rx_in_use(peer, place, bool(value))

        what = "under an extra info" if place else "with a packet"
        play.__doc__ = (
            f"A buffer {what} is answered while the backend has it mapped: it is neither posted "
            "again nor used for anything that is sent."
        )
        check(
            id=check_id(Side.NETFRONT, "grant.front.in-use-is-kept", name),
            rule="grant.front.in-use-is-kept",
            side=Side.NETFRONT,
            accepts=SURVIVED,
            needs={"per-packet-grants"} | (_GSO if place else set()),
            field=Field("page is mapped when its response comes", 1, 0),
            hint="gnttab_end_foreign_access may fail: keep the page then, and its reference",
            may_hold=True,
        )(play)


def _rx_in_use(peer: BackendPeer, place: int, mapped: bool) -> None:
    """Deliver a packet while the buffer of its slot number ``place`` is mapped."""
    end = EchoEnd(peer)
    held = peer.hold(peer.buffer(place).gref) if mapped else None
    try:
        if place:
            blank = NETRXF_csum_blank | NETRXF_data_validated
            peer.deliver(packet(3000, blank=True), blank, gso_size=1448)
        else:
            peer.deliver(plain(200))
        end.push()
        end.answer(*end.take())
        for number in range(10):
            if held is None or not peer.connected or not peer.buffers():
                break
            if any(one.gref == held.gref for one in posted(peer)):
                raise Violation(f"gref {held.gref} is posted again while it is mapped", ring="rx")
            held.page.u8[:] = b"\xee" * 4096
            end.deliver(plain(201, number))
            end.answer(*end.take())
    finally:
        if held is not None:
            peer.unmap(held)


_enter_rx_in_use()


@check(
    id="netfront.trusted",
    rule="netif.front.trusted",
    side=Side.NETFRONT,
    needs={"trusted"},
    nodes={"trusted": "0"},
    hint="with trusted = 0 copy what is sent into a page that was wiped",
)
def untrusted(peer: BackendPeer, value: Any) -> None:
    """With trusted = 0 the rest of a page that is granted to send a short packet holds nothing of a
    longer one before."""
    end = EchoEnd(peer)
    for number in range(15):  # each of the frontend's pages was used
        echo_all(end, [b"\xff" * 12 + b"\x88\xb5" + b"\xa5" * (4000 + number)] * 20)
    for number in range(40):
        sent = end.returned(plain(60, number))
        page = peer.fetch(sent.first.gref)
        first, last = sent.first.offset, sent.first.offset + 60
        if b"\xa5\xa5\xa5\xa5" in page[:first] + page[last:]:
            raise about(sent.first, "the page of a packet holds bytes of an earlier one")
        end.answer(sent)
    for request in posted(peer):
        if b"\xa5\xa5\xa5\xa5" in peer.fetch(request.gref):
            raise Violation(
                "a posted buffer holds bytes of an earlier packet",
                ring="rx",
                index=request.index,
                raw=request.raw,
            )


@check(
    id="netfront.grant.ended-at-close",
    rule="grant.front.ended-at-close",
    side=Side.NETFRONT,
    accepts={Outcome.SHUT_DOWN},
    hint="end every grant when the backend is Closed: rings, buffers, pages that were to be sent",
)
def ended_at_close(peer: BackendPeer, value: Any) -> None:
    """When both ends are Closed no reference that the backend has ever seen can be mapped."""
    end = EchoEnd(peer)
    seen = {request.gref for request in posted(peer)}
    for number in range(20):
        seen |= {request.gref for request in end.returned(plain(60, number)).data}
    seen |= {peer.otherend.unsigned(name) for name in ("tx-ring-ref", "rx-ring-ref")}
    peer.close()
    for gref in sorted(seen):
        if not peer.wait(lambda one=gref: not granted(peer, one)):  # type: ignore[misc]
            raise Violation(f"gref {gref} can still be mapped")
