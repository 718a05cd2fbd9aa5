"""What a netfront publishes when it connects: rings, channels, queues, features (netif.h), and in
which state the shared pages are then (ring.h)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from xennet.abi.xenbus import XenbusState
from xennet.check.check import Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.page_grants import granted
from xennet.check.checks_netfront.sent_packets import EchoEnd, enter_with
from xennet.check.ip_frames import plain
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer
from xennet.xenbus.nodes import NodeDirectory

_RINGS = ("tx-ring-ref", "rx-ring-ref")
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_FLAGS = (
    "feature-rx-notify",
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-gso-tcpv4-prefix",
    "feature-gso-tcpv6-prefix",
    "feature-no-csum-offload",
    "feature-ipv6-csum-offload",
    "request-rx-copy",
    "request-multicast-control",
)
_READY = (XenbusState.Initialised, XenbusState.Connected)


def _raw(keys: NodeDirectory, name: str) -> bytes | None:
    """A node as it stands in the store; None if there is none."""
    return keys.raw(name) if name in keys.names() else None


def _number(keys: NodeDirectory, name: str) -> int:
    """A node that has to hold a number, and nothing else. Raises Violation."""
    raw = _raw(keys, name)
    if raw is None or not _NUMBER.fullmatch(raw.decode("ascii", "replace")):
        told = "is missing" if raw is None else f"holds {raw!r}, which is no decimal number"
        raise Violation(f"{name} {told}", path=keys.node(name))
    return int(raw)


def _ring_keys(peer: BackendPeer, keys: NodeDirectory) -> None:
    """two ring references are published that can be mapped for writing"""
    tx, rx = (_number(keys, name) for name in _RINGS)
    if tx == rx:
        raise Violation(f"both rings have the reference {tx}", path=keys.node("rx-ring-ref"))
    for name, gref in (("tx-ring-ref", tx), ("rx-ring-ref", rx)):
        if not granted(peer, gref, readonly=False):
            raise Violation(f"{name} = {gref} cannot be mapped", path=keys.node(name))


def _event_keys(peer: BackendPeer, keys: NodeDirectory) -> None:
    """one channel or a pair of different ones is published, not both"""
    single, pair = "event-channel" in keys.names(), "event-channel-tx" in keys.names()
    if single == pair:
        what = "both event-channel and event-channel-tx" if single else "no event channel"
        raise Violation(f"{what} is published", path=keys.node("event-channel"))
    if single:
        _number(keys, "event-channel")
    elif _number(keys, "event-channel-tx") == _number(keys, "event-channel-rx"):
        raise Violation("both channels have one port", path=keys.node("event-channel-rx"))


def _split(peer: BackendPeer, keys: NodeDirectory) -> None:
    """a pair of channels is published to a backend that knows of split channels, and no single one
    beside it"""
    if "event-channel-tx" not in keys.names() or "event-channel" in keys.names():
        raise Violation("it has no pair of channels", path=keys.node("event-channel-tx"))


def _flat_keys(peer: BackendPeer, keys: NodeDirectory) -> None:
    """a single queue has flat keys, and there is no directory of a queue"""
    if found := [name for name in keys.names() if name.startswith("queue-")]:
        raise Violation(f"{found[0]} is there beside flat keys", path=keys.node(found[0]))
    if _number(keys, "multi-queue-num-queues") != 1 if _has_count(keys) else False:
        raise Violation("flat keys are those of one queue", path=keys.node(_COUNT))


_COUNT = "multi-queue-num-queues"


def _has_count(keys: NodeDirectory) -> bool:
    return _COUNT in keys.names()


def _rx_copy(peer: BackendPeer, keys: NodeDirectory) -> None:
    """request-rx-copy is 1"""
    if _number(keys, "request-rx-copy") != 1:
        raise Violation("request-rx-copy is not 1", path=keys.node("request-rx-copy"))


def _rx_notify(peer: BackendPeer, keys: NodeDirectory) -> None:
    """feature-rx-notify is 1"""
    if _number(keys, "feature-rx-notify") != 1:
        raise Violation("feature-rx-notify is not 1", path=keys.node("feature-rx-notify"))


def _numbers(peer: BackendPeer, keys: NodeDirectory) -> None:
    """each feature that is published is 0 or 1"""
    for name in _FLAGS:
        if name in keys.names() and _number(keys, name) not in (0, 1):
            raise Violation(f"{name} is neither 0 nor 1", path=keys.node(name))


def _gso_sg(peer: BackendPeer, keys: NodeDirectory) -> None:
    """GSO is published with feature-sg only"""
    gso = [name for name in _FLAGS if name.startswith("feature-gso")]
    if any(keys.optional_unsigned(name) for name in gso) and not keys.optional_unsigned(
        "feature-sg"
    ):
        raise Violation(
            "it takes GSO, and no packet of several slots", path=keys.node("feature-sg")
        )


def _state_text(peer: BackendPeer, keys: NodeDirectory) -> None:
    """the state is a number, with nothing around it"""
    _number(keys, "state")


def _no_nul(peer: BackendPeer, keys: NodeDirectory) -> None:
    """no value that is published has a nul or white space at its end"""
    for name in keys.names():
        raw = _raw(keys, name) or b""
        if raw != raw.rstrip(b"\0\n "):
            raise Violation(f"{name} holds {raw!r}", path=keys.node(name))


def _mcast_key(peer: BackendPeer, keys: NodeDirectory) -> None:
    """request-multicast-control stands before Connected, if at all"""
    if "request-multicast-control" in keys.names():
        _number(keys, "request-multicast-control")


def _ctrl_keys(peer: BackendPeer, keys: NodeDirectory) -> None:
    """the control ring has a reference and a channel, or neither"""
    names = {"ctrl-ring-ref", "event-channel-ctrl"} & set(keys.names())
    if len(names) == 1:
        raise Violation(f"only {names.pop()} is published", path=keys.path)
    for name in names:
        _number(keys, name)


#: What is looked at: the rule, the judge, what it needs, a hint.
_KEYS: tuple[tuple[str, Callable[[BackendPeer, NodeDirectory], None], frozenset[str], str], ...] = (
    ("xenbus.frontend.ring-keys", _ring_keys, frozenset(), "grant a page of its own for each ring"),
    (
        "xenbus.frontend.event-keys",
        _event_keys,
        frozenset(),
        "write event-channel, or both event-channel-tx and event-channel-rx",
    ),
    (
        "xenbus.frontend.split-only-if-there",
        _split,
        frozenset({"split-channels"}),
        "remove the key of an earlier connection that this one does not use",
    ),
    (
        "xenbus.frontend.flat-keys-of-one-queue",
        _flat_keys,
        frozenset(),
        "queue-N directories are for two and more queues",
    ),
    (
        "xenbus.frontend.request-rx-copy",
        _rx_copy,
        frozenset(),
        "write request-rx-copy = 1: a backend ignores all other features without it",
    ),
    (
        "xenbus.frontend.feature-rx-notify",
        _rx_notify,
        frozenset({"rx-notify"}),
        "write feature-rx-notify = 1 and notify when buffers are posted",
    ),
    ("xenbus.frontend.features-are-numbers", _numbers, frozenset(), "write 1, or nothing"),
    ("xenbus.frontend.gso-needs-sg", _gso_sg, frozenset(), "publish feature-sg, or no GSO"),
    ("xenbus.end.state-is-decimal", _state_text, frozenset(), "write the number as decimal text"),
    (
        "xs-wire.value-without-nul",
        _no_nul,
        frozenset(),
        "the length of a value does not count a nul",
    ),
    (
        "netif.front.mcast.key",
        _mcast_key,
        frozenset({"multicast-control"}),
        "write it with the keys",
    ),
    ("netif.front.ctrl.keys", _ctrl_keys, frozenset({"ctrl-ring"}), "publish both in one go"),
)


def _enter_keys() -> None:
    for rule, judge, needs, hint in _KEYS:

        def play(peer: BackendPeer, value: Any, judge: Any = judge) -> None:
            judge(peer, peer.otherend)

        told = " ".join((judge.__doc__ or "").split())
        play.__doc__ = f"When it is Connected, {told}."
        name = check_id(Side.NETFRONT, rule)
        check(id=name, rule=rule, side=Side.NETFRONT, needs=needs, hint=hint)(play)


_enter_keys()


@check(
    id="netfront.life.split-only-if-there-not-there",
    rule="xenbus.frontend.split-only-if-there",
    side=Side.NETFRONT,
    connect=False,
    hint="read feature-split-event-channels at each connect",
)
def split_not_offered(peer: BackendPeer, value: Any) -> None:
    """A backend without split channels gets the single event-channel only."""
    enter_with(peer, {"feature-split-event-channels": None})
    _event_keys(peer, peer.otherend)
    if "event-channel-tx" in peer.otherend.names():
        raise Violation("a pair is published", path=peer.otherend.node("event-channel-tx"))
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.ctrl.keys-not-there",
    rule="netif.front.ctrl.keys",
    side=Side.NETFRONT,
    connect=False,
    hint="publish a control ring to a backend with feature-ctrl-ring only",
)
def ctrl_not_offered(peer: BackendPeer, value: Any) -> None:
    """A backend without a control ring gets no keys of one."""
    enter_with(peer, {"feature-ctrl-ring": None})
    for name in ("ctrl-ring-ref", "event-channel-ctrl"):
        if name in peer.otherend.names():
            raise Violation(f"{name} is published", path=peer.otherend.node(name))
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.life.number-of-queues-none-there",
    rule="xenbus.frontend.number-of-queues",
    side=Side.NETFRONT,
    connect=False,
    hint="do not write multi-queue-num-queues to a backend without multi-queue-max-queues",
)
def queues_not_offered(peer: BackendPeer, value: Any) -> None:
    """A backend that does not know of queues gets the flat keys of one and no number."""
    enter_with(peer, {"multi-queue-max-queues": None})
    _flat_keys(peer, peer.otherend)
    if _has_count(peer.otherend):
        raise Violation(f"{_COUNT} is published", path=peer.otherend.node(_COUNT))
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.life.number-of-queues-one-there",
    rule="xenbus.frontend.number-of-queues",
    side=Side.NETFRONT,
    queues=4,
    connect=False,
    hint="the number is the smaller of what you want and what the backend has",
)
def one_queue_offered(peer: BackendPeer, value: Any) -> None:
    """A backend with one queue gets one, however many the netfront could have."""
    enter_with(peer, {"multi-queue-max-queues": 1})
    _flat_keys(peer, peer.otherend)
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.life.queue-directories",
    rule="xenbus.frontend.queue-directories",
    side=Side.NETFRONT,
    queues=4,
    hint="queue-0 to queue-(n-1), each with its rings and channels; nothing flat",
)
def queue_directories(peer: BackendPeer, value: Any) -> None:
    """Two and more queues have their keys in directories, numbered from 0, and none beside."""
    keys = peer.otherend
    count = _number(keys, _COUNT)
    if not 1 < count <= 4:
        raise Violation(f"{_COUNT} is {count} with a backend of 4", path=keys.node(_COUNT))
    for name in (*_RINGS, "event-channel", "event-channel-tx", "event-channel-rx"):
        if name in keys.names():
            raise Violation(f"{name} is there beside queue-0", path=keys.node(name))
    found = sorted(name for name in keys.names() if name.startswith("queue-"))
    if found != [f"queue-{number}" for number in range(count)]:
        raise Violation(f"of {count} queues there are {found}", path=keys.path)
    for name in found:
        _ring_keys(peer, keys.sub(name))
        _event_keys(peer, keys.sub(name))


@check(
    id="netfront.rx.any-queue",
    rule="netif.front.rx.any-queue",
    side=Side.NETFRONT,
    queues=4,
    hint="post buffers and take packets on each queue that was set up",
)
def any_queue_rx(peer: BackendPeer, value: Any) -> None:
    """A packet that is delivered on any queue is sent back, on one of them."""
    ends = [EchoEnd(peer, number) for number in range(len(peer.queues))]
    for number, end in enumerate(ends):
        frame = plain(60, number)
        end.deliver(frame)
        came = [sent for other in ends for sent in _answered(other)]
        if frame not in came and not peer.wait(
            lambda wanted=frame: wanted in [one for other in ends for one in _answered(other)]  # type: ignore[misc]
        ):
            raise Violation(f"a packet on queue {number} is not sent back", ring="rx")


def _answered(end: EchoEnd) -> list[bytes]:
    came = end.take()
    end.answer(*came)
    return [sent.frame for sent in came]


@check(
    id="netfront.tx.any-queue",
    rule="netif.front.tx.any-queue",
    side=Side.NETFRONT,
    queues=4,
    hint="ids and grants belong to a queue; a response on one says nothing of another",
)
def any_queue_tx(peer: BackendPeer, value: Any) -> None:
    """Each queue of several goes on for itself: forty packets round each, answered last first."""
    ends = [EchoEnd(peer, number) for number in range(len(peer.queues))]
    wanted = []
    for number, end in enumerate(ends):
        for i in range(10):
            frame = plain(60 + number, i)
            peer.deliver(frame, queue=number)
            wanted.append(frame)
        end.push()
    came: list[bytes] = []

    def enough() -> bool:
        for end in ends:
            packets = end.take()
            came.extend(sent.frame for sent in packets)
            end.answer(*reversed(packets))
        return len(came) >= len(wanted)

    peer.wait(enough)
    if sorted(came) != sorted(wanted):
        raise Violation(f"of {len(wanted)} packets on {len(ends)} queues {len(came)} come back")


@check(
    id="netfront.life.waits-for-initwait",
    rule="xenbus.frontend.waits-for-initwait",
    side=Side.NETFRONT,
    connect=False,
    probe=False,
    accepts={Outcome.ANSWERED, Outcome.SHUT_DOWN},
    hint="InitWait says that features can be read; what is there before may change",
)
def waits_for_initwait(peer: BackendPeer, value: Any) -> None:
    """While the backend is Initialising nothing is published, whatever features stand there; it
    connects when InitWait is shown."""
    peer.write("feature-rx-copy", 1)
    peer.rest()
    for name in (*_RINGS, "queue-0"):
        if name in peer.otherend.names():
            raise Violation(
                f"{name} is published before the backend has shown InitWait",
                path=peer.otherend.node(name),
            )
    enter_with(peer, {})
    EchoEnd(peer).echoed(plain(60))


@check(
    id="netfront.life.keys-before-connected",
    rule="xenbus.frontend.keys-before-connected",
    side=Side.NETFRONT,
    connect=False,
    hint="write all keys, then the state",
)
def keys_before_connected(peer: BackendPeer, value: Any) -> None:
    """At the moment at which a netfront shows Initialised or Connected all its keys stand in the
    store."""
    missing: list[str] = []

    def changed(_path: str, _token: str) -> None:
        if peer.otherend_state in _READY and not missing:
            names = peer.otherend.names()
            wanted = (*_RINGS, "request-rx-copy")
            missing.extend(name for name in wanted if name not in names)
            if not any(name.startswith("event-channel") for name in names):
                missing.append("event-channel")

    state = peer.otherend.node("state")
    peer.hv.store.watch(state, "keys", changed)
    enter_with(peer, {})
    peer.hv.store.unwatch(state, "keys")
    if missing:
        raise Violation(f"{missing[0]} is not there yet", path=peer.otherend.node(missing[0]))


@check(
    id="netfront.life.no-request-before-connected",
    rule="xenbus.frontend.no-request-before-connected",
    side=Side.NETFRONT,
    connect=False,
    hint="start the transmit queue when the backend is Connected",
)
def no_request_before_connected(peer: BackendPeer, value: Any) -> None:
    """A packet that is delivered early does not make a netfront send before its backend is
    Connected."""
    peer.announce()
    if not peer.wait(lambda: peer.otherend_state in _READY):
        peer.connect()  # one that closes first
        return
    peer.attach()
    if peer.buffers():
        peer.deliver(plain(60))
        peer.push_rx()
    peer.rest()
    if peer.index("req_prod") != peer.index("rsp_prod"):
        raise Violation("a packet is sent though the backend is in InitWait", ring="tx")
    peer.set_state(XenbusState.Connected)
    end = EchoEnd(peer)
    end.answer(*end.collect(1))


@check(
    id="netfront.ring.initialised",
    rule="ring.front.initialised",
    side=Side.NETFRONT,
    connect=False,
    hint="SHARED_RING_INIT on a page of zeros, before it is granted",
)
def initialised(peer: BackendPeer, value: Any) -> None:
    """When the rings can be mapped first no response stands in them, and both event indices are 1
    or ask for the next."""
    peer.connect()
    peer.wait(lambda: peer.connected)
    for ring in ("tx", "rx"):
        page = peer.shared(ring)
        if page.rsp_prod != 0:
            raise Violation(
                f"rsp_prod is {page.rsp_prod} on a ring that nobody has used", ring=ring
            )
        if page.rsp_event != 1:
            raise Violation(f"rsp_event is {page.rsp_event}, not 1", ring=ring)
        if page.req_event != 1:
            raise Violation(
                f"req_event is {page.req_event}, not 1: that is the backend's", ring=ring
            )
    if peer.index("req_prod") != 0:
        raise Violation("there are requests already", ring="tx")
