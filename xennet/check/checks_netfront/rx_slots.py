"""Responses of the receive ring, as a netfront has to read them."""

from __future__ import annotations

from xennet.abi.netif import RX_RESPONSE
from xennet.check.check import Field, Side, check
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer, probe_frame


@check(
    id="netfront.rx.slot-in-page",
    rule="netif.front.rx.in-page",
    side=Side.NETFRONT,
    accepts={Outcome.REFUSED, Outcome.SHUT_DOWN},
    field=Field("offset", hostile=4000, control=0),
    hint="check offset + status <= 4096 on your copy of the response",
)
def slot_in_page(peer: BackendPeer, offset: int) -> None:
    """A response of 200 bytes at offset 4000 reaches out of its page: it is not received."""
    request = peer.buffer()
    peer.fill(request.gref, probe_frame(9, 0).ljust(200, b"."))
    peer.raw_rx(RX_RESPONSE.pack(request.id, offset, 0, 200))
    peer.push_rx()
    peer.rest()
