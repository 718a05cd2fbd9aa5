"""Slots of the transmit ring, as a netback has to read them."""

from __future__ import annotations

from xennet.check.check import Field, Side, check
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer


@check(
    id="netback.tx.slot-in-page",
    rule="netif.tx.slot-in-page",
    side=Side.NETBACK,
    accepts={Outcome.REFUSED, Outcome.SHUT_DOWN},
    field=Field("offset", hostile=4000, control=0),
    hint="check offset + size <= 4096 on your copy of the slot",
)
def slot_in_page(peer: FrontendPeer, offset: int) -> None:
    """A request of 200 bytes at offset 4000 reaches out of its page: it is not copied."""
    peer.tx(200, offset=offset)
    peer.push_tx()
    peer.rest()
