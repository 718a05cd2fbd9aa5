"""The toolstack's rate limit: packets wait for credit, and none is lost."""

from __future__ import annotations

from xennet.check.check import Side, Violation, check
from xennet.check.checks_netback.judge import post, receive
from xennet.check.checks_netback.tx_packets import chain, put
from xennet.check.peers import FrontendPeer

_NEEDS = frozenset({"rate", "virtual-time"})
_SECOND = 1_000_000_000


def _all_come(peer: FrontendPeer, packets: int, size: int) -> None:
    """Send ``packets`` of ``size`` bytes, and let time pass until all have come, in order."""
    sent: list[bytes] = []
    came: list[bytes] = []
    for number in range(packets):
        sent.append(put(peer, chain(size, number=number)).frame)
    post(peer, packets)
    peer.push_tx()
    peer.settle()
    for _turn in range(60):
        peer.responses()
        came += [one.frame for one in receive(peer)]
        post(peer, 40)
        if len(came) >= len(sent):
            break
        peer.session.pass_time(_SECOND)
        peer.rest()
    if came != sent:
        raise Violation(
            f"{len(sent)} packets were sent within a rate limit, {len(came)} came", ring="tx"
        )


@check(
    id="netback.rate.waits",
    rule="netif.tx.order",
    side=Side.NETBACK,
    needs=_NEEDS,
    nodes={"rate": "20000,100000"},
    hint="packets beyond the credit wait on the ring; look at it again when there is credit",
)
def waits(peer: FrontendPeer, _: object) -> None:
    """More bytes than the limit gives at once: the rest comes when there is credit again."""
    _all_come(peer, 120, 4000)


@check(
    id="netback.rate.garbage",
    rule="netif.node.features",
    side=Side.NETBACK,
    needs=_NEEDS,
    nodes={"rate": "much,soon"},
    hint="a rate that cannot be read is no limit",
)
def garbage(peer: FrontendPeer, _: object) -> None:
    """A rate that is no rate limits nothing."""
    _all_come(peer, 40, 1514)


@check(
    id="netback.rate.tiny",
    rule="netif.tx.order",
    side=Side.NETBACK,
    needs=_NEEDS,
    nodes={"rate": "100,100000"},
    hint="credit grows until the packet at hand can be sent",
)
def tiny(peer: FrontendPeer, _: object) -> None:
    """A limit of less than a packet at a time keeps no packet for ever."""
    _all_come(peer, 8, 1514)
