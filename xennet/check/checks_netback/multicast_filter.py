"""Multicast control: requests that amend the list, and what it lets through."""

from __future__ import annotations

from xennet.abi.netif import NETIF_RSP_NULL, NETIF_RSP_OKAY
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.grefs import GREFS
from xennet.check.checks_netback.judge import post, receive
from xennet.check.checks_netback.rows import GOES_ON, SURVIVES
from xennet.check.checks_netback.tx_packets import (
    MCAST_ADD,
    MCAST_DEL,
    MORE,
    E,
    M,
    chain,
    mcast,
    put,
)
from xennet.check.ip_frames import BROADCAST, MULTICAST, UNICAST, plain
from xennet.check.peers import FrontendPeer

_NEEDS = frozenset({"multicast-control"})
_OTHER = bytes.fromhex("01005e0000fb")
_FILTERED = {"request-multicast-control": "1"}
_HINT = "answer the request OKAY and its extra info NULL; nothing is delivered"


def _amend(
    peer: FrontendPeer,
    address: bytes,
    kind: int = MCAST_ADD,
    *,
    size: int = 60,
    gref: str = "granted",
) -> int:
    """Amend the list. Returns the status; raises Violation unless the extra info gets NULL."""
    ident = peer.tx(size, E, gref=GREFS[gref](peer, b""))
    peer.slot(mcast(address, kind).raw)
    peer.push_tx()
    peer.settle()
    answered = peer.responses()
    statuses = [response.status for response in answered]
    if len(answered) != 2 or statuses[1] != NETIF_RSP_NULL or answered[0].id != ident:
        raise Violation(
            f"a request that amends the multicast list and its extra info have statuses {statuses}",
            ring="tx",
        )
    return statuses[0]


def _must(status: int, what: str) -> None:
    if status != NETIF_RSP_OKAY:
        raise Violation(f"{what} is answered {status}", ring="tx")


def _echoed(peer: FrontendPeer, *addresses: bytes) -> list[bytes]:
    """Send a frame to each address. Returns the destinations of those that came back."""
    post(peer, len(addresses) + 1)
    for number, address in enumerate(addresses):
        peer.send(plain(60 + number, to=address))
    peer.push_tx()
    peer.settle()
    peer.responses()
    return [one.frame[:6] for one in receive(peer)]


def _expect(peer: FrontendPeer, *wanted: bytes) -> None:
    """Of frames to all kinds of addresses exactly those to the ``wanted`` ones come back."""
    all_of_them = (UNICAST, MULTICAST, BROADCAST, _OTHER)
    came = _echoed(peer, *all_of_them)
    if came != [address for address in all_of_them if address in wanted]:
        told = ", ".join(address.hex(":") for address in came) or "none"
        raise Violation(f"of frames to four addresses these came: {told}", ring="rx")


@check(
    id="netback.mcast.filter",
    rule="netif.rx.mcast-filter",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="with request-multicast-control drop what is not in the list",
)
def filtered(peer: FrontendPeer, _: object) -> None:
    """With an empty list no multicast frame comes; unicast and broadcast frames do."""
    enter_with(peer, _FILTERED)
    _expect(peer, UNICAST, BROADCAST)


@check(
    id="netback.mcast.add",
    rule="netif.rx.mcast-filter",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="compare all six bytes of the address",
)
def added(peer: FrontendPeer, _: object) -> None:
    """Frames to an address that was added come, those to others do not."""
    enter_with(peer, _FILTERED)
    _must(_amend(peer, MULTICAST), "MCAST_ADD")
    _expect(peer, UNICAST, BROADCAST, MULTICAST)


@check(
    id="netback.mcast.delete",
    rule="netif.rx.mcast-filter",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="MCAST_DEL takes its own address away and no other",
)
def deleted(peer: FrontendPeer, _: object) -> None:
    """Frames to an address that was deleted again do not come."""
    enter_with(peer, _FILTERED)
    for address in (MULTICAST, _OTHER):
        _must(_amend(peer, address), "MCAST_ADD")
    _must(_amend(peer, MULTICAST, MCAST_DEL), "MCAST_DEL")
    _expect(peer, UNICAST, BROADCAST, _OTHER)


@check(
    id="netback.mcast.unknown-delete",
    rule="netif.tx.mcast-request",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    accepts=GOES_ON,
    hint=_HINT,
)
def deleted_unknown(peer: FrontendPeer, _: object) -> None:
    """An address that is not in the list can be deleted, or not: the list stays as it was."""
    enter_with(peer, _FILTERED)
    _must(_amend(peer, MULTICAST), "MCAST_ADD")
    _amend(peer, _OTHER, MCAST_DEL)
    _expect(peer, UNICAST, BROADCAST, MULTICAST)


for _asked in (None, "0"):

    @check(
        id=f"netback.mcast.not-asked-{'for' if _asked is None else 'with-0'}",
        rule="netif.rx.mcast-filter",
        side=Side.NETBACK,
        needs=_NEEDS,
        connect=False,
        hint="the list may be amended at any time; it filters only if that is asked for",
    )
    def not_asked(peer: FrontendPeer, _: object, asked: str | None = _asked) -> None:
        """Without request-multicast-control all frames come, whatever is in the list."""
        enter_with(peer, {"request-multicast-control": asked})
        _must(_amend(peer, MULTICAST), "MCAST_ADD")
        _expect(peer, UNICAST, MULTICAST, BROADCAST, _OTHER)


@check(
    id="netback.mcast.asked-later",
    rule="netif.rx.mcast-filter",
    side=Side.NETBACK,
    needs=_NEEDS | {"dynamic-multicast-control"},
    hint="watch request-multicast-control while connected",
)
def asked_later(peer: FrontendPeer, _: object) -> None:
    """request-multicast-control can be set while connected, and taken back."""
    _expect(peer, UNICAST, MULTICAST, BROADCAST, _OTHER)
    peer.write("request-multicast-control", "1")
    peer.settle()
    _expect(peer, UNICAST, BROADCAST)
    peer.write("request-multicast-control", "0")
    peer.settle()
    _expect(peer, UNICAST, MULTICAST, BROADCAST, _OTHER)


@check(
    id="netback.mcast.no-packet",
    rule="netif.tx.mcast-request",
    side=Side.NETBACK,
    needs=_NEEDS,
    hint=_HINT,
)
def no_packet(peer: FrontendPeer, _: object) -> None:
    """A request that amends the list is no packet: nothing of it is delivered."""
    post(peer, 4)
    for kind in (MCAST_ADD, MCAST_DEL, MCAST_ADD):
        _must(_amend(peer, MULTICAST, kind, size=600), "a request that amends the list")
    if receive(peer):
        raise Violation("a request that amends the multicast list was delivered", ring="tx")


@check(
    id="netback.mcast.dummy",
    rule="netif.tx.mcast-request",
    side=Side.NETBACK,
    needs=_NEEDS,
    accepts=GOES_ON,
    field=Field("reference of the request", "unused", "granted"),
    hint="there is nothing to copy: do not look at reference, offset and size",
)
def dummy(peer: FrontendPeer, value: str) -> None:
    """The reference of such a request need not be one."""
    _amend(peer, MULTICAST, gref=value)


@check(
    id="netback.mcast.more-data",
    rule="netif.tx.mcast-request",
    side=Side.NETBACK,
    needs=_NEEDS | {"sg"},
    field=Field("flags of the request", E | M, E),
    accepts=SURVIVES,
    hint="more_data has no meaning there: what follows is the next packet, or refuse all of it",
)
def more_data(peer: FrontendPeer, value: int) -> None:
    """more_data on a request that amends the list: what is behind it comes whole or not at all."""
    post(peer, 6)
    peer.tx(60, value)
    peer.slot(mcast(MULTICAST).raw)
    written = [put(peer, chain(61)), put(peer, chain(62))]
    peer.push_tx()
    peer.settle()
    frames = [one.frame for one in receive(peer)]
    if any(frame not in [one.frame for one in written] for frame in frames):
        raise Violation("a packet came that nobody has sent", ring="rx")
    if value == E and len(frames) != len(written):
        raise Violation("packets behind a request that amends the list are lost", ring="tx")
    if len(peer.responses()) > 4:
        raise Violation("more responses than slots", ring="tx")


@check(
    id="netback.mcast.two-extras",
    rule="netif.tx.mcast-request",
    side=Side.NETBACK,
    needs=_NEEDS,
    hint="answer every slot: the request, and NULL for each extra info",
)
def two_extras(peer: FrontendPeer, _: object) -> None:
    """MCAST_ADD and MCAST_DEL in one request are two slots that get NULL."""
    post(peer, 4)
    peer.tx(60, E)
    peer.slot(mcast(MULTICAST, flags=MORE).raw)
    peer.slot(mcast(_OTHER, MCAST_DEL).raw)
    one = put(peer, chain(61))
    peer.push_tx()
    peer.settle()
    statuses = [response.status for response in peer.responses()]
    if len(statuses) != 4 or statuses.count(NETIF_RSP_NULL) != 2:
        raise Violation(f"four slots have the statuses {statuses}", ring="tx", index=one.index - 3)
    if [came.frame for came in receive(peer)] != [one.frame]:
        raise Violation("the packet behind is lost", ring="tx", index=one.index)


@check(
    id="netback.mcast.list-full",
    rule="netif.tx.mcast-limit",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    field=Field("addresses added", 300, 8),
    accepts=GOES_ON,
    hint="refuse an address for which there is no room by NETIF_RSP_ERROR (Linux keeps 64)",
)
def list_full(peer: FrontendPeer, value: int) -> None:
    """More addresses than anybody keeps: those that are refused are not in the list, the others
    are."""
    enter_with(peer, _FILTERED)
    addresses = [b"\x01\x00\x5e" + number.to_bytes(3, "big") for number in range(1, value + 1)]
    kept = [address for address in addresses if _amend(peer, address) == NETIF_RSP_OKAY]
    for some in (addresses[:8], addresses[-8:]):
        came = _echoed(peer, *some)
        if came != [address for address in some if address in kept]:
            raise Violation(
                "frames came to addresses that were refused, or not to those kept", ring="rx"
            )


@check(
    id="netback.mcast.twice",
    rule="netif.tx.mcast-request",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="an address is in the list, or not",
)
def twice(peer: FrontendPeer, _: object) -> None:
    """An address that is added twice is in the list."""
    enter_with(peer, _FILTERED)
    for _number in range(2):
        _amend(peer, MULTICAST)
    _expect(peer, UNICAST, BROADCAST, MULTICAST)
