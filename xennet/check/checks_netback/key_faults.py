"""The keys of a frontend as a netback has to read them: rings, channels, queues, features, and what
a guest writes beside them (netif.h; rows F21, F23 and F26 of docs/hardening.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xennet.abi.netif import NETRXF_csum_blank, NETTXF_csum_blank, NETTXF_data_validated
from xennet.abi.xenbus import XenbusState
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netback.backend_life import (
    GIVEN_UP,
    require_connected,
    require_echo,
    require_released,
)
from xennet.check.ip_frames import Flow, Sum, judge_sum, packet, plain
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer, otherend_error, require_state
from xennet.testing.raw_peer import NodeValue

_CONNECTED, _CLOSED = XenbusState.Connected, XenbusState.Closed
#: Keys that cannot be used are refused, in whatever way.
_REFUSED = frozenset({Outcome.REFUSED, Outcome.SHUT_DOWN})
Changes = Mapping[str, "NodeValue | None"]


# -- keys that cannot be used ----------------------------------------------------------------------

#: Makes changes of the keys; ``peer`` has its rings.
Keys = Callable[[FrontendPeer], Changes]


def _fixed(**changes: Any) -> Keys:
    return lambda peer: {name.replace("_", "-"): value for name, value in changes.items()}


def _ended(name: str) -> Keys:
    """The reference of a page whose grant has been ended."""

    def changes(peer: FrontendPeer) -> Changes:
        page = peer.page()
        gref = page.gref
        peer.end(page)
        return {name: gref}

    return changes


def _readonly(name: str) -> Keys:
    """The reference of a page that may only be read."""
    return lambda peer: {name: peer.page(readonly=True).gref}


def _beyond(name: str) -> Keys:
    """The right reference, and 2^32 more."""
    return lambda peer: {name: int(str(peer.keys()[name])) + 2**32}


_REF, _PORT = "xenbus.backend.ring-key", "xenbus.backend.event-key"
_BAD_KEYS: dict[tuple[str, str], Keys] = {
    (f"{_REF}-missing", "tx"): _fixed(tx_ring_ref=None),
    (f"{_REF}-missing", "rx"): _fixed(rx_ring_ref=None),
    (f"{_REF}-garbage", "tx-empty"): _fixed(tx_ring_ref=""),
    (f"{_REF}-garbage", "tx-text"): _fixed(tx_ring_ref="eight"),
    (f"{_REF}-garbage", "tx-binary"): _fixed(tx_ring_ref=bytes(range(1, 200))),
    (f"{_REF}-garbage", "tx-unused"): _fixed(tx_ring_ref=3000),
    (f"{_REF}-garbage", "tx-out-of-table"): _fixed(tx_ring_ref=2**31),
    (f"{_REF}-garbage", "tx-negative"): _fixed(tx_ring_ref=-1),
    (f"{_REF}-garbage", "tx-beyond-32-bits"): _beyond("tx-ring-ref"),
    (f"{_REF}-garbage", "tx-ended"): _ended("tx-ring-ref"),
    (f"{_REF}-garbage", "tx-readonly"): _readonly("tx-ring-ref"),
    ("xenbus.backend.half-mapped", "rx-unused"): _fixed(rx_ring_ref=3000),
    ("xenbus.backend.half-mapped", "rx-text"): _fixed(rx_ring_ref="nine"),
    ("xenbus.backend.half-mapped", "rx-ended"): _ended("rx-ring-ref"),
    ("xenbus.backend.half-mapped", "rx-readonly"): _readonly("rx-ring-ref"),
    ("xenbus.backend.half-mapped", "rx-beyond-32-bits"): _beyond("rx-ring-ref"),
    (f"{_PORT}-missing", "all"): _fixed(event_channel=None),
    (f"{_PORT}-garbage", "text"): _fixed(event_channel="two"),
    (f"{_PORT}-garbage", "unused"): _fixed(event_channel=1000),
    (f"{_PORT}-garbage", "zero"): _fixed(event_channel=0),
    (f"{_PORT}-garbage", "negative"): _fixed(event_channel=-1),
    (f"{_PORT}-garbage", "huge"): _fixed(event_channel=2**40),
}


def _enter_bad_keys() -> None:
    for (rule, name), make in _BAD_KEYS.items():

        def play(peer: FrontendPeer, value: Any, make: Keys = make) -> None:
            peer.rest()
            peer.allocate()
            changes = make(peer)
            peer.publish(changes if value == "bad" else None)
            peer.set_state(_CONNECTED)
            peer.rest()
            if value == "right":
                require_echo(peer, plain(60))
            elif peer.wait(lambda: peer.otherend_state == _CONNECTED):
                raise Violation(f"it is Connected with {_told(changes)}", path=peer.node)
            else:
                _require_told(peer, _told(changes))

        told = (make.__doc__ or "").rstrip(".") or name.replace("-", " ")
        play.__doc__ = f"A frontend is Connected with keys that cannot be used: {told}."
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            accepts=_REFUSED,
            connect=False,
            field=Field("keys", "bad", "right"),
            hint="write an error node that names the key, unmap what was mapped, show Closing",
        )(play)


def _told(changes: Changes) -> str:
    return ", ".join(f"{name} = {value!r}"[:60] for name, value in changes.items())


def _require_told(peer: FrontendPeer, keys: str) -> None:
    """Raises Violation unless a backend that does not connect lets go of everything at once, and
    goes to Closed with its frontend."""
    require_released(peer, f"it did not connect with {keys}")
    peer.set_state(_CLOSED)
    require_state(peer, (_CLOSED,), "its frontend's Closed")


_enter_bad_keys()

#: Name -> keys of two queues that contradict each other; what they are allows more than one answer.
_ODD_QUEUES: dict[tuple[str, str], Changes] = {
    ("xenbus.backend.number-of-queues", "0"): {"multi-queue-num-queues": 0},
    ("xenbus.backend.number-of-queues", "100"): {"multi-queue-num-queues": 100},
    ("xenbus.backend.number-of-queues", "huge"): {"multi-queue-num-queues": 2**32 + 2},
    ("xenbus.backend.number-of-queues", "negative"): {"multi-queue-num-queues": -2},
    ("xenbus.backend.queue-missing", "one-too-few"): {"multi-queue-num-queues": 3},
    ("xenbus.backend.queue-missing", "a-key"): {"queue-1/rx-ring-ref": None},
    ("xenbus.backend.queue-missing", "garbage"): {"queue-1/tx-ring-ref": "x"},
}


def _enter_odd_queues() -> None:
    for (rule, name), changes in _ODD_QUEUES.items():

        def play(peer: FrontendPeer, value: Any) -> None:
            peer.rest()
            peer.allocate(queues=2)
            peer.publish(value)
            peer.set_state(_CONNECTED)
            peer.rest()
            if not value:
                if not peer.wait(lambda: peer.connected):
                    raise Violation("two queues are not connected", path=peer.otherend.path)
            elif peer.wait(lambda: peer.otherend_state == _CONNECTED):
                raise Violation(f"it is Connected with {_told(value)}", path=peer.node)
            else:
                _require_told(peer, _told(value))

        play.__doc__ = f"Two queues are set up, and {_told(changes)}."
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            accepts=_REFUSED,
            connect=False,
            queues=2,
            field=Field("changed keys", changes, {}),
            hint="compare the number with what you advertise before anything is allocated",
        )(play)


_enter_odd_queues()


@check(
    id="netback.life.same-page-twice",
    rule="xenbus.backend.same-page-twice",
    side=Side.NETBACK,
    accepts={Outcome.ANSWERED, Outcome.REFUSED, Outcome.SHUT_DOWN},
    connect=False,
    probe=False,
    field=Field("rx-ring-ref is", "that of tx", "its own"),
    hint="what is nonsense on the rings costs this vif alone",
)
def same_page_twice(peer: FrontendPeer, value: Any) -> None:
    """Both rings have one page: this vif is lost, and nothing else happens (F21)."""
    peer.rest()
    peer.allocate()
    same = {"rx-ring-ref": peer.keys()["tx-ring-ref"]}
    peer.publish(same if value == "that of tx" else None)
    peer.set_state(_CONNECTED)
    peer.wait(lambda: peer.connected)
    for number in range(5 if value == "that of tx" else 0):
        peer.send(plain(60, number))
        peer.push_tx()
        peer.notify()
        peer.rest()


@check(
    id="netback.life.error-node",
    rule="xenbus.end.error-node",
    side=Side.NETBACK,
    connect=False,
    probe=False,
    accepts={Outcome.SHUT_DOWN},
    hint="xenbus_dev_fatal: error/backend/vif/ID/N/error, with the node's name",
)
def error_node(peer: FrontendPeer, value: Any) -> None:
    """A backend that cannot use tx-ring-ref names it in its error node, and goes to Closing."""
    peer.rest()
    peer.allocate()
    peer.publish({"tx-ring-ref": "no number"})
    peer.set_state(_CONNECTED)
    peer.rest()
    error = otherend_error(peer)
    if "tx-ring-ref" not in error:
        told = f"{error!r} does not name tx-ring-ref" if error else "there is no error node"
        raise Violation(told, path=peer.otherend.path)
    require_state(peer, (XenbusState.Closing, _CLOSED), "an error")


# -- features --------------------------------------------------------------------------------------


@check(
    id="netback.life.rx-copy-not-requested",
    rule="xenbus.backend.rx-copy-not-requested",
    side=Side.NETBACK,
    accepts={Outcome.REFUSED, Outcome.SHUT_DOWN, Outcome.ANSWERED},
    connect=False,
    field=Field("request-rx-copy", 0, 1),
    hint="refuse, or serve without features; never flip pages",
)
def rx_copy_not_requested(peer: FrontendPeer, value: Any) -> None:
    """A frontend that does not ask for copies is refused, or gets no packet of several slots."""
    peer.connect({"request-rx-copy": value})
    if not peer.wait(lambda: peer.connected):
        if value:
            raise Violation("it does not connect", path=peer.otherend.path)
        return
    require_echo(peer, plain(60))
    if value:
        return
    peer.post_rx(8)
    peer.push_rx()
    peer.send(plain(6000))
    peer.push_tx()
    peer.rest()
    for came in peer.packets():
        if len(came.indices) > 1:
            raise Violation(
                "a packet of several slots comes to a frontend that did not ask for copies",
                ring="rx",
                index=came.indices[0],
            )


_ALL_FEATURES = (
    "feature-rx-notify",
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-ipv6-csum-offload",
    "feature-no-csum-offload",
)


@check(
    id="netback.life.absent-features-have-defaults",
    rule="xenbus.backend.absent-features-have-defaults",
    side=Side.NETBACK,
    connect=False,
    hint="an absent feature-no-csum-offload means that blank checksums are taken over IPv4",
)
def absent_features(peer: FrontendPeer, value: Any) -> None:
    """A frontend that publishes no feature is served: a packet with a blank checksum comes back as
    it is, flagged, or filled in (C1)."""
    require_connected(peer, dict.fromkeys(_ALL_FEATURES))
    require_echo(peer, plain(1514))
    frame = packet(1514, blank=True)
    peer.post_rx(4)
    peer.push_rx()
    peer.send(frame, NETTXF_csum_blank | NETTXF_data_validated)
    peer.push_tx()
    found: list[Any] = []

    def came() -> bool:
        found.extend(peer.packets())
        return bool(found)

    if not peer.wait(came):
        raise Violation("a packet with a blank checksum does not come back", ring="rx")
    peer.responses()
    flags, said = found[0].flags, judge_sum(found[0].frame, Flow())
    if said is not (Sum.BLANK if flags & NETRXF_csum_blank else Sum.RIGHT):
        raise Violation(
            f"flags are {flags:#x}, and the checksum field holds {said}",
            ring="rx",
            index=found[0].indices[0],
        )


#: Name -> what stands in every feature node in place of a number.
_GARBAGE: dict[str, tuple[str, NodeValue]] = {
    "empty": ("xenbus.backend.garbage-in-features", ""),
    "text": ("xenbus.backend.garbage-in-features", "yes"),
    "negative": ("xenbus.backend.garbage-in-features", "-1"),
    "huge": ("xenbus.backend.garbage-in-features", str(2**70)),
    "nul": ("xs-wire.value-is-any-bytes", b"1\0"),
    "binary": ("xs-wire.value-is-any-bytes", bytes(range(1, 256))),
    "long": ("xs-wire.long-values", "1" * 1500),
    "long-text": ("xs-wire.long-values", "%n%s/../" * 180),
}


def _enter_garbage() -> None:
    for name, (rule, garbage) in _GARBAGE.items():

        def play(peer: FrontendPeer, value: Any) -> None:
            peer.connect(dict.fromkeys((*_ALL_FEATURES, "request-multicast-control"), value))
            if peer.wait(lambda: peer.connected):
                require_echo(peer, plain(60))
            elif value == "0":
                raise Violation("it does not connect without features", path=peer.otherend.path)

        play.__doc__ = f"Every feature node of the frontend holds {repr(garbage)[:30]} (F26)."
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            accepts=GIVEN_UP | {Outcome.REFUSED},
            connect=False,
            field=Field("value of the features", garbage, "0"),
            hint="what is no number counts as absent; a buffer is as long as the value",
        )(play)


_enter_garbage()


@check(
    id="netback.life.identity-from-own-directory",
    rule="xenbus.backend.identity-from-own-directory",
    side=Side.NETBACK,
    connect=False,
    field=Field(
        "identity in the frontend's directory",
        {"mac": "%n" * 300, "handle": "77", "frontend-id": "0", "online": "0", "script": "/bin/sh"},
        {},
    ),
    hint="read names, addresses and limits from the backend's directory only",
)
def identity(peer: FrontendPeer, value: Any) -> None:
    """What a guest writes about itself into its own directory has no effect (F26)."""
    for name, content in value.items():
        peer.write(name, content)
    peer.rest()
    require_connected(peer)
    require_echo(peer, plain(60))


@check(
    id="netback.store.enoent-is-an-answer",
    rule="xs-wire.enoent-is-an-answer",
    side=Side.NETBACK,
    field=Field(
        "nodes removed while connected", ("feature-sg", "request-rx-copy", "tx-ring-ref"), ()
    ),
    hint="keys were read at connect",
)
def keys_vanish(peer: FrontendPeer, value: Any) -> None:
    """Keys that were read at connect are removed while connected."""
    for name in value:
        peer.remove(name)
        peer.rest()
    require_echo(peer, plain(60))


@check(
    id="netback.store.value-without-nul",
    rule="xs-wire.value-without-nul",
    side=Side.NETBACK,
    hint="the length of a value does not count a nul",
)
def no_nul(peer: FrontendPeer, value: Any) -> None:
    """No node of the backend that the frontend can read has a nul or white space at its end."""
    for name in peer.otherend.names():
        raw = peer.otherend.raw(name) if peer.otherend.optional_text(name) else b""
        if raw != raw.rstrip(b"\0\n "):
            raise Violation(f"{name} holds {raw!r}", path=peer.otherend.node(name))


@check(
    id="netback.store.spurious-watch-event",
    rule="xs-wire.spurious-watch-event",
    side=Side.NETBACK,
    hint="an event of a watch says to look again",
)
def spurious_watch_events(peer: FrontendPeer, value: Any) -> None:
    """Nodes of the frontend are written again with what they hold, and new ones beside them."""
    for number in range(20):
        for name in ("state", "feature-sg", "tx-ring-ref"):
            peer.write(name, peer.read(name) or "0")
        peer.write(f"nobody-knows-{number}", number)
        peer.rest()
        if number % 5 == 4:
            require_echo(peer, plain(60, number))


@check(
    id="netback.store.nodes-below-nodes",
    rule="xs-wire.nodes-below-nodes",
    side=Side.NETBACK,
    connect=False,
    hint="read the nodes that you know by name",
)
def nodes_below_nodes(peer: FrontendPeer, value: Any) -> None:
    """Nodes below state and features, and the directory of a queue beside flat keys, are nobody's
    business."""
    more = {"feature-sg/deep/er": 1, "state/4": 5, "queue-7/tx-ring-ref": 8}
    require_connected(peer, more)
    require_echo(peer, plain(60))


@check(
    id="netback.store.many-nodes",
    rule="xs-wire.many-nodes",
    side=Side.NETBACK,
    connect=False,
    hint="nothing in the protocol needs a list of the other end's nodes",
)
def many_nodes(peer: FrontendPeer, value: Any) -> None:
    """A hundred unknown nodes in the frontend's directory cost nothing."""
    require_connected(peer, {f"unknown-{number}": "x" * 50 for number in range(100)})
    require_echo(peer, plain(60))
