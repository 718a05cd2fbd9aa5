"""Keys that name another domain's pages or ports, nodes that nobody knows, and what a backend
advertises. Keys that are missing, malformed or contradict each other are in key_faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.grefs import GREFS
from xennet.check.checks_netback.judge import play
from xennet.check.checks_netback.tx_packets import chain
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer

#: A key, the rule, and what makes a value of it that belongs to a domain that takes no part.
_FOREIGN: Mapping[str, tuple[str, Callable[[FrontendPeer], int]]] = {
    "tx-ring-ref": ("grant.ring-reference", lambda peer: GREFS["foreign"](peer, b"")),
    "rx-ring-ref": ("grant.ring-reference", lambda peer: GREFS["foreign"](peer, b"")),
    "event-channel": ("event.bad-port", lambda peer: peer.hv.alloc_unbound(0x7EE0)),
}

for _key, (_rule, _make) in _FOREIGN.items():

    @check(
        id=f"netback.keys.foreign-{_key}",
        rule=_rule,
        side=Side.NETBACK,
        connect=False,
        field=Field(_key, "of another domain", "right"),
        accepts=frozenset({Outcome.SHUT_DOWN}),
        hint="name the node in the error, go to Closing, and hold nothing",
    )
    def foreign(
        peer: FrontendPeer,
        value: str,
        key: str = _key,
        make: Callable[[FrontendPeer], int] = _make,
    ) -> None:
        """A page or a port that is meant for another domain is an error of the device."""
        peer.settle()
        peer.allocate()
        peer.connect({} if value == "right" else {key: make(peer)})
        peer.wait(lambda: peer.connected)


@check(
    id="netback.keys.again",
    rule="grant.ring-reference",
    side=Side.NETBACK,
    connect=False,
    needs=frozenset({"reconnect"}),
    hint="what failed half-way is undone: the next start is a start",
)
def again(peer: FrontendPeer, _: object) -> Outcome:
    """A frontend whose keys were refused closes, starts again with right ones, and is served."""
    peer.settle()
    peer.connect({"rx-ring-ref": 0xFFFFFF})
    peer.wait(lambda: peer.connected)
    if not peer.enter_again(1):
        raise Violation(f"it does not connect again: its state is {peer.otherend_state}")
    if missing := peer.probe(0):
        raise Violation(f"it is connected again, and {missing}")
    return Outcome.ANSWERED


@check(
    id="netback.keys.unknown-nodes",
    rule="netif.node.features",
    side=Side.NETBACK,
    connect=False,
    hint="read the nodes that you know by their names",
)
def unknown_nodes(peer: FrontendPeer, _: object) -> None:
    """Nodes that nobody knows are ignored."""
    enter_with(peer, {f"feature-of-tomorrow-{n}": "1" for n in range(20)})
    play(peer, [chain(60)])


@check(
    id="netback.keys.advertised",
    rule="netif.node.features",
    side=Side.NETBACK,
    hint="write 0 or 1, or nothing",
)
def advertised(peer: FrontendPeer, _: object) -> None:
    """Features of the backend are 0 or 1."""
    for name, value in peer.features().items():
        if name.startswith("feature-") and value not in ("0", "1"):
            raise Violation(f"{name} is {value!r}", path=f"{peer.otherend.path}/{name}")


@check(
    id="netback.keys.carrier",
    rule="netif.node.carrier",
    side=Side.NETBACK,
    needs=frozenset({"carrier"}),
    hint="write 1 when the link is up, 0 when it is not",
)
def carrier(peer: FrontendPeer, _: object) -> None:
    """The node carrier, if there is one, is 1 while the vif is connected."""
    value = peer.features().get("carrier", "1")
    if value != "1":
        raise Violation(f"carrier is {value!r}", path=f"{peer.otherend.path}/carrier")


@check(
    id="netback.keys.mtu",
    rule="netif.node.mtu",
    side=Side.NETBACK,
    hint="1500 bytes of payload are a frame of 1514, or 1518 with a tag",
)
def mtu(peer: FrontendPeer, _: object) -> None:
    """Frames of the usual mtu with their header, and with a VLAN tag, are delivered whole."""
    play(peer, [chain(1514), chain(1518)])
