"""The life of a netfront as its backend sees it: states, nodes of the store, closing (xenbus.h)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xennet.abi.xenbus import XenbusState
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.sent_packets import SURVIVED, EchoEnd, enter_with
from xennet.check.ip_frames import packet, plain
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer, otherend_error, require_state
from xennet.interface import HypercallError
from xennet.testing.raw_peer import NodeValue

_INIT_WAIT, _CONNECTED = XenbusState.InitWait, XenbusState.Connected
_CLOSING, _CLOSED = XenbusState.Closing, XenbusState.Closed
#: A vif may be given up, or go on.
_GIVEN_UP = frozenset({Outcome.ANSWERED, Outcome.SHUT_DOWN})
_WINDOWS_RESTARTS = (XenbusState.Initialising, _CLOSED)


# -- states that a backend shows -------------------------------------------------------------------

#: Name -> what the connected backend writes into its state node, one after the other.
_STATES: dict[str, tuple[NodeValue, ...]] = {
    "unknown": (0,),
    "initialising": (1,),
    "initwait": (2,),
    "initialised": (3,),
    "reconfiguring": (7,),
    "reconfigured": (8,),
    "nine": (9,),
    "negative": (-1,),
    "huge": (2**32 + 4,),
    "empty": ("",),
    "text": ("Connected",),
    "nul": (b"\0",),
    "binary": (bytes(range(128, 256)),),
    "long": ("4" * 1000,),
    "initwait-again-and-again": (2, 4, 2, 4, 2, 4),
    "initialising-then-initwait": (1, 2),
    "all-at-random": (7, 3, 1, 8, 0, 2, 4),
}


def _enter_states() -> None:
    for name, values in _STATES.items():

        def play(peer: BackendPeer, value: Any) -> None:
            end = EchoEnd(peer)
            end.echoed(plain(60))
            keys = _ring_keys(peer)
            for state in value:
                peer.write("state", state)
                peer.rest()
            if peer.otherend_state == _CONNECTED and _ring_keys(peer) != keys:
                raise Violation("it has made new rings while it is connected", path=peer.node)
            peer.set_state(_CONNECTED)
            peer.rest()

        shown = ", ".join(repr(value)[:20] for value in values)
        play.__doc__ = f"A connected backend shows {shown} as its state, and Connected again."
        known = all(isinstance(value, int) and 0 <= value <= 8 for value in values)
        if values in ((2,), (2, 4, 2, 4, 2, 4)):
            rule = "xenbus.frontend.initwait-counts-while-initialising"
        else:
            rule = "xenbus.frontend.every-transition" if known else "xenbus.end.unknown-state"
        check(
            id=check_id(Side.NETFRONT, rule, name),
            rule=rule,
            side=Side.NETFRONT,
            accepts=_GIVEN_UP,
            field=Field("states shown", values, (4,)),
            hint="each state of the backend has an answer in each of your own: to wait is one",
        )(play)


def _ring_keys(peer: BackendPeer) -> list[str]:
    return [peer.otherend.optional_text(name) for name in ("tx-ring-ref", "rx-ring-ref")]


_enter_states()


@check(
    id="netfront.life.same-state-again",
    rule="xenbus.end.same-state-again",
    side=Side.NETFRONT,
    hint="a watch fires for each write: compare with the state that you have acted on",
)
def same_state_again(peer: BackendPeer, value: Any) -> None:
    """Connected that is written fifty times more changes nothing."""
    end = EchoEnd(peer)
    keys = _ring_keys(peer)
    for number in range(50):
        peer.set_state(_CONNECTED)
        if number % 10 == 9:
            end.echoed(plain(60, number))
    if _ring_keys(peer) != keys:
        raise Violation("it has made new rings", path=peer.otherend.path)


# -- closing ---------------------------------------------------------------------------------------

#: Name -> the states by which a backend closes.
_CLOSES = {
    "in-order": (_CLOSING, _CLOSED),
    "straight-to-closed": (_CLOSED,),
    "closing-twice": (_CLOSING, _CLOSING, _CLOSED, _CLOSED),
    "back-and-forth": (_CLOSING, _CONNECTED, _CLOSING, _CLOSED),
}


def _enter_closes() -> None:
    for name, states in _CLOSES.items():

        def play(peer: BackendPeer, value: Any, states: Sequence[int] = states) -> None:
            end = EchoEnd(peer)
            end.echoed(plain(60))
            before = peer.index("req_prod")
            for state in states:
                if state == _CLOSED and peer.queues:
                    peer.detach()
                peer.set_state(state)
                if state == _CLOSING:
                    require_state(peer, (_CLOSING, _CLOSED), "its backend's Closing")
                    if peer.queues and peer.index("req_prod") != before:
                        raise Violation("it sends though its backend closes", ring="tx")
                peer.rest()
            require_state(peer, _WINDOWS_RESTARTS, "its backend's Closed")

        told = ", ".join(state.name for state in states)
        play.__doc__ = f"A backend that shows {told} is answered: the frontend closes."
        rule = "xenbus.frontend.closing-is-answered"
        check(
            id=check_id(Side.NETFRONT, rule, name),
            rule=rule,
            side=Side.NETFRONT,
            accepts=_GIVEN_UP,
            probe=False,
            hint="show Closed when the backend is Closing or Closed",
        )(play)


_enter_closes()


@check(
    id="netfront.life.frees-after-backend-closed",
    rule="xenbus.frontend.frees-after-backend-closed",
    side=Side.NETFRONT,
    accepts=_GIVEN_UP,
    probe=False,
    control_accepts=_GIVEN_UP,
    field=Field("buffers mapped while both close", 3, 0),
    may_hold=True,
    hint="keep pages that are in use for a timer that tries again; never free or reuse them",
)
def frees_after_closed(peer: BackendPeer, value: Any) -> None:
    """Pages that the backend still has mapped when both ends are Closed are neither freed nor used
    for anything else, and what is left is given back."""
    end = EchoEnd(peer)
    end.echoed(plain(60))
    held = [peer.hold(peer.buffer(ahead).gref) for ahead in range(value)]
    for mapping in held:
        mapping.page.u8[:] = b"\xee" * 4096
    peer.close()
    require_state(peer, _WINDOWS_RESTARTS, "its backend's Closed")
    for mapping in held:
        if bytes(mapping.page.u8) != b"\xee" * 4096:
            raise Violation(f"the page of gref {mapping.gref} was used though it is mapped")
        peer.unmap(mapping)
    peer.rest()


@check(
    id="netfront.event.closed-at-close",
    rule="event.front.closed-at-close",
    side=Side.NETFRONT,
    accepts=_GIVEN_UP,
    probe=False,
    hint="close the ports when the backend is Closed",
)
def ports_closed_at_close(peer: BackendPeer, value: Any) -> None:
    """When both ends are Closed the published ports cannot be bound."""
    names = ("event-channel", "event-channel-tx", "event-channel-rx")
    ports = [peer.otherend.unsigned(name) for name in names if name in peer.otherend.names()]
    EchoEnd(peer).echoed(plain(60))
    peer.close()
    require_state(peer, _WINDOWS_RESTARTS, "its backend's Closed")
    for port in ports:
        try:
            bound = peer.hv.bind_interdomain(peer.otherend_id, port)
        except HypercallError:
            continue
        peer.hv.close_port(bound)
        raise Violation(f"port {port} still waits for the backend", path=peer.otherend.path)


@check(
    id="netfront.event.unbound-for-backend",
    rule="event.front.unbound-for-backend",
    side=Side.NETFRONT,
    connect=False,
    hint="EVTCHNOP_alloc_unbound for the domain that backend-id names",
)
def unbound_for_backend(peer: BackendPeer, value: Any) -> None:
    """The published ports can be bound, once, by the backend's domain."""
    peer.connect()
    if not peer.wait(lambda: peer.connected):
        raise Violation("its rings and channels cannot be attached to", path=peer.otherend.path)
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.life.backend-vanishes",
    rule="xenbus.frontend.backend-vanishes",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    probe=False,
    hint="a node that cannot be read is a state too: Unknown",
)
def backend_vanishes(peer: BackendPeer, value: Any) -> None:
    """The backend's directory is removed while there is traffic."""
    end = EchoEnd(peer)
    sent = end.returned(plain(60))
    peer.remove()
    peer.rest()
    end.answer(sent)


@check(
    id="netfront.life.node-vanishes",
    rule="xs-wire.enoent-is-an-answer",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("nodes removed", ("state",), ("feature-rx-flip",)),
    hint="ENOENT is an answer: the state is Unknown then",
)
def node_vanishes(peer: BackendPeer, value: Any) -> None:
    """The backend's state node is removed and comes back."""
    EchoEnd(peer).echoed(plain(60))
    for name in value:
        peer.remove(name)
        peer.rest()
    peer.set_state(_CONNECTED)
    peer.rest()


@check(
    id="netfront.life.new-start",
    rule="xenbus.frontend.new-start",
    side=Side.NETFRONT,
    needs={"reconnect"},
    accepts=_GIVEN_UP,
    hint="a start begins with rings of zeros and all keys written anew",
)
def new_start(peer: BackendPeer, value: Any) -> None:
    """A backend that closes and starts again is answered: the frontend closes and waits, or
    connects anew with rings that begin at 0."""
    for _ in range(3):
        EchoEnd(peer).echoed(plain(60))
        if not peer.enter_again(1):
            raise Violation("it does not close", path=peer.otherend.node("state"))
        if not peer.queues:
            return
        if peer.index("rsp_prod") or peer.index("req_prod"):
            raise Violation("the rings of a new start do not begin at 0", ring="tx")


@check(
    id="netfront.life.closes-before-connected",
    rule="xenbus.frontend.closing-is-answered",
    side=Side.NETFRONT,
    connect=False,
    probe=False,
    accepts=_GIVEN_UP,
    control_accepts=_GIVEN_UP,
    field=Field("states of the backend before it was ever connected", (2, 5, 6), (2,)),
    hint="a backend may close at any time, also while you wait for it",
)
def closes_before_connected(peer: BackendPeer, value: Any) -> None:
    """A backend closes between InitWait and Connected."""
    peer.announce()
    for state in value:
        peer.set_state(state)
        peer.rest()
    if value[-1] == _CLOSED:
        require_state(peer, (1, 5, 6), "its backend's Closed")


@check(
    id="netfront.life.watch-before-read",
    rule="xs-wire.watch-before-read",
    side=Side.NETFRONT,
    connect=False,
    hint="register the watch first: its first event is the look",
)
def quick_backend(peer: BackendPeer, value: Any) -> None:
    """A backend that shows InitWait with its features at once, and no state again, is connected
    to."""
    peer.announce()
    if not peer.wait(lambda: peer.otherend_state != XenbusState.Initialising):
        raise Violation("it has missed InitWait", path=peer.node)
    enter_with(peer, {})
    EchoEnd(peer).echoed(plain(60))


# -- the backend's nodes ---------------------------------------------------------------------------

#: Name -> what stands in a feature node in place of a number.
_GARBAGE: dict[str, tuple[str, NodeValue]] = {
    "empty": ("xenbus.frontend.garbage-in-features", ""),
    "text": ("xenbus.frontend.garbage-in-features", "yes"),
    "negative": ("xenbus.frontend.garbage-in-features", "-1"),
    "huge": ("xenbus.frontend.garbage-in-features", str(2**70)),
    "hexadecimal": ("xenbus.frontend.garbage-in-features", "0x1"),
    "nul": ("xs-wire.value-is-any-bytes", b"1\0"),
    "only-nuls": ("xs-wire.value-is-any-bytes", bytes(8)),
    "binary": ("xs-wire.value-is-any-bytes", bytes(range(1, 256))),
    "long": ("xs-wire.long-values", "1" * 1500),
    "long-text": ("xs-wire.long-values", "%n%s/../" * 180),
}
#: Features whose absence and whose values are both legal: what stands there decides little.
_OPTIONAL = (
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-ipv6-csum-offload",
    "feature-no-csum-offload",
    "feature-sg",
    "feature-multicast-control",
    "feature-split-event-channels",
    "feature-ctrl-ring",
    "feature-xdp-headroom",
    "multi-queue-max-queues",
    "carrier-of-nobody",
)


def _enter_garbage() -> None:
    for name, (rule, garbage) in _GARBAGE.items():

        def play(peer: BackendPeer, value: Any) -> None:
            nodes = dict.fromkeys(_OPTIONAL, value)
            peer.connect(nodes)
            if not peer.wait(lambda: peer.connected):
                if peer.otherend_state in (_CLOSING, _CLOSED):
                    return
                raise Violation(
                    f"it waits in state {peer.otherend_state} though InitWait was shown",
                    path=peer.otherend.node("state"),
                )
            EchoEnd(peer).echoed(plain(60))

        play.__doc__ = f"Every optional feature node of the backend holds {repr(garbage)[:30]}."
        check(
            id=check_id(Side.NETFRONT, rule, name),
            rule=rule,
            side=Side.NETFRONT,
            accepts=SURVIVED,
            connect=False,
            field=Field("value of the optional features", garbage, "0"),
            hint="what is no number counts as absent; a buffer is as long as the value",
        )(play)


_enter_garbage()

#: Name -> nodes that a connected backend changes.
_CHANGES: dict[str, dict[str, NodeValue]] = {
    "sg": {"feature-sg": 0},
    "gso": {"feature-gso-tcpv4": 0, "feature-gso-tcpv6": 0},
    "csum": {"feature-no-csum-offload": 1},
    "split": {"feature-split-event-channels": 0},
    "queues": {"multi-queue-max-queues": 8},
    "rx-copy": {"feature-rx-copy": 0},
    "ctrl-ring": {"feature-ctrl-ring": 0},
    "all-garbage": dict.fromkeys(_OPTIONAL, "?"),
}


def _enter_changes() -> None:
    for name, nodes in _CHANGES.items():

        def play(peer: BackendPeer, value: Any) -> None:
            end = EchoEnd(peer)
            end.echoed(plain(60))
            for node, content in value.items():
                peer.write(node, content)
            peer.rest()
            for size in (60, 1514, 4096):
                end.echoed(plain(size))

        told = ", ".join(f"{node} = {content!r}" for node, content in nodes.items())
        play.__doc__ = f"A connected backend writes {told[:60]}: it means nothing yet."
        check(
            id=check_id(Side.NETFRONT, "xenbus.frontend.features-read-at-connect", name),
            rule="xenbus.frontend.features-read-at-connect",
            side=Side.NETFRONT,
            field=Field("nodes written", nodes, {"feature-rx-flip": 0}),
            hint="read features when you connect, and keep what you have read",
        )(play)


_enter_changes()


@check(
    id="netfront.life.rx-copy-declined",
    rule="xenbus.frontend.rx-copy-declined",
    side=Side.NETFRONT,
    connect=False,
    probe=False,
    accepts=_GIVEN_UP,
    field=Field("feature-rx-copy", 0, 1),
    hint="without copies there is nothing to connect to: say so and hold nothing",
)
def rx_copy_declined(peer: BackendPeer, value: Any) -> None:
    """A backend that cannot copy is declined or served; a ring that is published can be mapped."""
    peer.connect({"feature-rx-copy": value})
    if peer.wait(lambda: peer.connected):
        EchoEnd(peer).echoed(plain(60))
    elif value:
        raise Violation("it does not connect to a backend that can copy", path=peer.node)


@check(
    id="netfront.life.carrier",
    rule="xenbus.frontend.carrier",
    side=Side.NETFRONT,
    needs={"carrier"},
    connect=False,
    hint="watch carrier while connected; without the node the link is up",
)
def carrier(peer: BackendPeer, value: Any) -> None:
    """While the backend's carrier is 0 nothing is sent; when it is 1 again packets pass."""
    enter_with(peer, {"carrier": 1})
    end = EchoEnd(peer)
    end.echoed(plain(60))
    peer.write("carrier", 0)
    peer.rest()
    peer.deliver(plain(60))
    end.push()
    if end.take():
        raise Violation("a packet is sent though the link is down", ring="tx")
    peer.write("carrier", 1)
    peer.rest()
    end.echoed(plain(60, 1))


@check(
    id="netfront.store.spurious-watch-event",
    rule="xs-wire.spurious-watch-event",
    side=Side.NETFRONT,
    hint="an event of a watch says to look again",
)
def spurious_watch_events(peer: BackendPeer, value: Any) -> None:
    """Nodes of the backend are written again with what they hold, and new ones beside them."""
    end = EchoEnd(peer)
    for number in range(20):
        for name in ("state", "feature-sg", "feature-rx-copy"):
            peer.write(name, peer.read(name) or "0")
        peer.write(f"nobody-knows-{number}", number)
        if number % 5 == 4:
            end.echoed(plain(60, number))


@check(
    id="netfront.store.nodes-below-nodes",
    rule="xs-wire.nodes-below-nodes",
    side=Side.NETFRONT,
    connect=False,
    hint="read the nodes that you know by name",
)
def nodes_below_nodes(peer: BackendPeer, value: Any) -> None:
    """Nodes below state and features, and a queue directory of the backend's own, are nobody's
    business."""
    more = {"feature-sg/deep/er": 1, "state/4": 5, "queue-0/tx-ring-ref": 8, "feature-sg": 1}
    enter_with(peer, more)
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.store.many-nodes",
    rule="xs-wire.many-nodes",
    side=Side.NETFRONT,
    connect=False,
    hint="nothing in the protocol needs a list of the other end's nodes",
)
def many_nodes(peer: BackendPeer, value: Any) -> None:
    """Three hundred unknown nodes in the backend's directory cost nothing."""
    enter_with(peer, {f"unknown-{number}": "x" * 50 for number in range(300)})
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.life.own-directory",
    rule="xenbus.end.own-directory",
    side=Side.NETFRONT,
    connect=False,
    hint="the backend's nodes are the backend's",
)
def own_directory(peer: BackendPeer, value: Any) -> None:
    """Nothing in the backend's directory is written by the netfront."""
    enter_with(peer, {})
    before = {name: peer.read(name) for name in peer.hv.store.directory(peer.node)}
    EchoEnd(peer).echoed(packet(1514))
    after = {name: peer.read(name) for name in peer.hv.store.directory(peer.node)}
    if before != after:
        changed = sorted(
            name for name in {**before, **after} if before.get(name) != after.get(name)
        )
        raise Violation(f"{changed[0]} of the backend has changed", path=peer.node)


@check(
    id="netfront.life.mac-and-mtu",
    rule="xenbus.frontend.mac-and-mtu",
    side=Side.NETFRONT,
    nodes={"mtu": "0"},
    hint="an mtu that cannot be is 1500; it does not count the Ethernet header",
)
def garbage_mtu(peer: BackendPeer, value: Any) -> None:
    """With an mtu of 0 in its directory a netfront connects all the same, and a whole frame of
    1,514 bytes passes (field bug 10)."""
    EchoEnd(peer).echoed(plain(1514))


@check(
    id="netfront.life.error-node",
    rule="xenbus.end.error-node",
    side=Side.NETFRONT,
    nodes={"mac": "no address"},
    connect=False,
    accepts=_GIVEN_UP,
    hint="write what is wrong into error/device/vif/N/error, then show Closing",
)
def garbage_mac(peer: BackendPeer, value: Any) -> None:
    """A mac that is none: a netfront that cannot use it names the node in its error node, one that
    does not read it connects."""
    peer.connect()
    if peer.wait(lambda: peer.connected):
        return
    error = otherend_error(peer)
    if "mac" not in error:
        told = f"{error!r} does not name mac" if error else "there is no error node"
        raise Violation(told, path=peer.otherend.node("mac"))
