"""The life of a netback as its frontend sees it: states, keys, closing (xenbus.h; rows F21 to F27
of docs/hardening.md, C1 to C10 of docs/xnb.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xennet.abi.xenbus import XenbusState
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.ip_frames import plain
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer, require_state
from xennet.testing.raw_peer import NodeValue
from xennet.xenstore.errors import XsError

_INITIALISING, _INIT_WAIT = XenbusState.Initialising, XenbusState.InitWait
_CONNECTED, _CLOSING, _CLOSED = XenbusState.Connected, XenbusState.Closing, XenbusState.Closed

#: A vif may be given up, or go on.
GIVEN_UP = frozenset({Outcome.ANSWERED, Outcome.SHUT_DOWN})
Changes = Mapping[str, "NodeValue | None"]


def require_echo(peer: FrontendPeer, frame: bytes) -> None:
    """Raises Violation unless a packet comes back as it was sent."""
    missing = peer.probe(0)
    if missing:
        raise Violation(missing, ring="tx")
    came = peer.echo(frame)
    if came is None or came.frame != frame:
        raise Violation(f"a packet of {len(frame)} bytes does not come back", ring="tx")


def require_connected(peer: FrontendPeer, changes: Changes | None = None, **shape: Any) -> None:
    """Connect. Raises Violation if the backend does not."""
    peer.connect(changes, **shape)
    if not peer.wait(lambda: peer.connected):
        raise Violation(
            f"it does not connect: its state is {peer.otherend_state}",
            path=peer.otherend.node("state"),
        )


def require_released(peer: FrontendPeer, after: str) -> None:
    """Raises Violation unless everything that the frontend has granted can be taken back."""
    held: list[str] = []

    def released() -> bool:
        held[:] = peer.release()
        return not held

    if not peer.wait(released):
        raise Violation(
            f"{held[0]} is still in use after {after}",
            hint="unmap all grants and close all ports before Closed is shown",
        )


# -- states that a frontend shows ------------------------------------------------------------------

#: Name -> what the connected frontend writes into its state node, one after the other.
_STATES: dict[str, tuple[NodeValue, ...]] = {
    "unknown": (0,),
    "initialising": (1,),
    "initwait": (2,),
    "initialised": (3,),
    "reconfiguring": (7,),
    "reconfigured": (8,),
    "closing-connected": (5, 4),
    "closed-connected": (6, 4),
    "closing-closed-connected": (5, 6, 4),
    "closing-initialising-connected": (5, 1, 4),
    "initialising-connected": (1, 4),
    "initialised-connected": (3, 4),
    "nine": (9,),
    "negative": (-1,),
    "huge": (2**32 + 4,),
    "empty": ("",),
    "text": ("Connected",),
    "nul": (b"\0",),
    "binary": (bytes(range(128, 256)),),
    "long": ("4" * 1000,),
    "back-and-forth": (5, 4, 5, 4, 5, 4),
    "all-at-random": (7, 3, 1, 8, 2, 6, 4),
}


def _enter_states() -> None:
    for name, values in _STATES.items():

        def play(peer: FrontendPeer, value: Any) -> None:
            for state in value:
                peer.write("state", state)
                peer.rest()
            peer.set_state(_CONNECTED)
            peer.rest()

        shown = ", ".join(repr(value)[:20] for value in values)
        play.__doc__ = f"A connected frontend shows {shown} as its state, and Connected again."
        known = all(isinstance(value, int) and 0 <= value <= 8 for value in values)
        rule = "xenbus.backend.every-transition" if known else "xenbus.end.unknown-state"
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            accepts=GIVEN_UP,
            field=Field("states shown", values, (4,)),
            hint="walk through Closing and Closed to wherever the frontend is; unmap on the way",
        )(play)


_enter_states()


@check(
    id="netback.life.same-state-again",
    rule="xenbus.end.same-state-again",
    side=Side.NETBACK,
    hint="a watch fires for each write: compare with the state that you have acted on",
)
def same_state_again(peer: FrontendPeer, value: Any) -> None:
    """Connected that is written fifty times more changes nothing."""
    for number in range(50):
        peer.set_state(_CONNECTED)
        if number % 10 == 9:
            require_echo(peer, plain(60, number))


# -- closing ---------------------------------------------------------------------------------------

#: Name -> the states by which a frontend closes.
_CLOSES = {
    "in-order": (_CLOSING, _CLOSED),
    "closing-twice": (_CLOSING, _CLOSING, _CLOSED, _CLOSED),
    "closed-closing-closed": (_CLOSED, _CLOSING, _CLOSED),
}


def _close(peer: FrontendPeer, states: Sequence[int]) -> None:
    """Show the states; each Closing and each Closed has to be answered by the same."""
    answered = {_CLOSING: (_CLOSING, _CLOSED), _CLOSED: (_CLOSED,)}
    for state in states:
        peer.set_state(state)
        peer.rest()
        require_state(peer, answered[XenbusState(state)], f"its frontend's {state}")


def _enter_closes() -> None:
    rule = "xenbus.backend.closing-is-answered"
    for name, states in _CLOSES.items():

        def play(peer: FrontendPeer, value: Any, states: Sequence[int] = states) -> None:
            require_echo(peer, plain(60))
            _close(peer, states)
            require_released(peer, "Closed")

        told = ", ".join(state.name for state in states)
        play.__doc__ = f"A connected frontend shows {told}; the backend answers each and unmaps."
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            accepts=GIVEN_UP,
            probe=False,
            hint="answer Closing by Closing and Closed by Closed, whatever was before",
        )(play)


_enter_closes()


@check(
    id="netback.life.straight-to-closed",
    rule="xenbus.backend.straight-to-closed",
    side=Side.NETBACK,
    accepts=GIVEN_UP,
    probe=False,
    hint="Closed without Closing is both of them",
)
def straight_to_closed(peer: FrontendPeer, value: Any) -> None:
    """A frontend that skips Closing is answered by Closed, and nothing stays mapped (field bug
    9)."""
    require_echo(peer, plain(60))
    _close(peer, (_CLOSED,))
    require_released(peer, "Closed")


@check(
    id="netback.life.closing-unmaps",
    rule="xenbus.backend.closing-unmaps",
    side=Side.NETBACK,
    accepts=GIVEN_UP,
    probe=False,
    hint="unmap first, then show the state",
)
def closing_unmaps(peer: FrontendPeer, value: Any) -> None:
    """At the moment at which a backend shows Closed no grant of the frontend is in use any more
    (field bug 8)."""
    require_echo(peer, plain(60))
    refs = [ref for queue in peer.queues for ref in (queue.tx_ref, queue.rx_ref)]
    at_closed: list[int] = []
    seen: list[int] = []

    def changed(_path: str, _token: str) -> None:
        if peer.otherend_state == _CLOSED and not seen:
            seen.append(1)
            words, shift = peer.hv.grants.status, peer.hv.grants.status_shift
            at_closed.extend(ref for ref in refs if words[ref << shift] & 0x18)

    node = peer.otherend.node("state")
    peer.hv.store.watch(node, "unmapped", changed)
    peer.set_state(_CLOSING)
    peer.rest()
    peer.set_state(_CLOSED)
    peer.wait(lambda: bool(seen))
    peer.hv.store.unwatch(node, "unmapped")
    if at_closed:
        raise Violation(f"gref {at_closed[0]}, of a ring, is in use when Closed is shown")
    require_state(peer, (_CLOSED,), "its frontend's Closed")


@check(
    id="netback.life.nodes-stay",
    rule="xenbus.backend.nodes-stay",
    side=Side.NETBACK,
    accepts=GIVEN_UP,
    probe=False,
    hint="only the toolstack removes a device",
)
def nodes_stay(peer: FrontendPeer, value: Any) -> None:
    """When a vif closes no node of the backend goes (field bug 4)."""
    before = set(peer.otherend.names())
    _close(peer, (_CLOSING, _CLOSED))
    if gone := before - set(peer.otherend.names()):
        raise Violation(f"{min(gone)} is gone", path=peer.otherend.node(min(gone)))


#: Name -> states of a frontend before it ever connects.
_FIRST_CYCLES = {
    "windows": (_CLOSING, _CLOSED),
    "closing-twice": (_CLOSING, _CLOSING, _CLOSED),
    "closed-only": (_CLOSED,),
}


def _enter_first_cycles() -> None:
    for name, states in _FIRST_CYCLES.items():

        def play(peer: FrontendPeer, value: Any, states: Sequence[int] = states) -> None:
            peer.rest()
            _close(peer, states)
            peer.set_state(_INITIALISING)
            require_state(peer, (_INIT_WAIT,), "its frontend's Initialising")
            require_connected(peer)

        told = ", ".join(state.name for state in states)
        play.__doc__ = f"A frontend shows {told} before its first start; each is answered."
        rule = "xenbus.backend.closing-before-connect"
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            connect=False,
            needs={"reconnect"},
            hint="win-xenvif closes once before it starts, and waits for each answer",
        )(play)


_enter_first_cycles()


@check(
    id="netback.life.new-start",
    rule="xenbus.backend.new-start",
    side=Side.NETBACK,
    needs={"reconnect"},
    connect=False,
    hint="a frontend that is Initialising again waits for a new InitWait",
)
def new_start(peer: FrontendPeer, value: Any) -> None:
    """A frontend closes and connects again, five times, with new rings each time."""
    require_connected(peer)
    for number in range(5):
        require_echo(peer, plain(60, number))
        _close(peer, (_CLOSING, _CLOSED))
        require_released(peer, "Closed")
        peer.set_state(_INITIALISING)
        require_state(peer, (_INIT_WAIT,), "its frontend's Initialising")
        require_connected(peer)


@check(
    id="netback.life.new-start-with-traffic",
    rule="xenbus.backend.new-start",
    side=Side.NETBACK,
    needs={"reconnect"},
    connect=False,
    hint="what was on the rings is gone with them",
)
def new_start_with_traffic(peer: FrontendPeer, value: Any) -> None:
    """A frontend closes while requests wait on both rings, and starts again."""
    require_connected(peer)
    for number in range(3):
        peer.post_rx(20)
        for _ in range(20):
            peer.send(plain(60, number))
        peer.push_rx()
        peer.push_tx()
        _close(peer, (_CLOSING, _CLOSED))
        require_released(peer, "Closed")
        peer.set_state(_INITIALISING)
        require_state(peer, (_INIT_WAIT,), "its frontend's Initialising")
        require_connected(peer)


@check(
    id="netback.life.frontend-vanishes",
    rule="xenbus.backend.frontend-vanishes",
    side=Side.NETBACK,
    accepts={Outcome.SHUT_DOWN},
    probe=False,
    hint="a frontend whose state cannot be read will not come back: unmap everything",
)
def frontend_vanishes(peer: FrontendPeer, value: Any) -> None:
    """The frontend's directory is removed while connected (F27)."""
    require_echo(peer, plain(60))
    peer.remove()
    peer.rest()
    require_released(peer, "its frontend's directory went")


# -- connecting ------------------------------------------------------------------------------------


@check(
    id="netback.life.features-before-initwait",
    rule="xenbus.backend.features-before-initwait",
    side=Side.NETBACK,
    connect=False,
    hint="write the features, then the state (QEMU's xen-net-device does not)",
)
def features_before_initwait(peer: FrontendPeer, value: Any) -> None:
    """At the moment at which a backend shows InitWait, feature-rx-copy stands in the store (field
    bug 21)."""
    names = [
        name if name != "state" else f"state {value.decode('ascii', 'replace')}"
        for name, value in peer.session.log.written
    ]
    shown = f"state {_INIT_WAIT:d}"
    if shown in names and "feature-rx-copy" not in names[: names.index(shown)]:
        path = peer.otherend.node("feature-rx-copy")
        raise Violation("feature-rx-copy is not there yet", path=path)
    require_connected(peer)


@check(
    id="netback.life.initwait-answers-initialising",
    rule="xenbus.backend.initwait-answers-initialising",
    side=Side.NETBACK,
    connect=False,
    hint="show InitWait when the frontend is Initialising",
)
def initwait(peer: FrontendPeer, value: Any) -> None:
    """A backend whose frontend is Initialising is in InitWait, and not further."""
    require_state(peer, (_INIT_WAIT,), "its frontend's Initialising")
    peer.rest()
    require_connected(peer)


@check(
    id="netback.life.connected-follows-frontend",
    rule="xenbus.backend.connected-follows-frontend",
    side=Side.NETBACK,
    connect=False,
    hint="read the keys when the frontend is Connected, not when they appear",
)
def connected_follows(peer: FrontendPeer, value: Any) -> None:
    """Keys that are published do not connect a backend whose frontend is Initialising."""
    peer.rest()
    peer.allocate()
    peer.publish()
    peer.rest()
    if peer.otherend_state == _CONNECTED:
        raise Violation("it is Connected before its frontend", path=peer.otherend.node("state"))
    require_connected(peer)


@check(
    id="netback.life.initialised-is-no-error",
    rule="xenbus.backend.initialised-is-no-error",
    side=Side.NETBACK,
    connect=False,
    hint="FreeBSD shows Initialised and then Connected: connect at one of them",
)
def initialised(peer: FrontendPeer, value: Any) -> None:
    """A frontend shows Initialised with its keys, later Connected: it is connected to in the
    end."""
    peer.rest()
    peer.allocate()
    peer.publish()
    peer.set_state(XenbusState.Initialised)
    peer.rest()
    peer.set_state(_CONNECTED)
    if not peer.wait(lambda: peer.connected):
        raise Violation(f"it is in state {peer.otherend_state}", path=peer.otherend.node("state"))
    require_echo(peer, plain(60))


@check(
    id="netback.life.requests-before-connected",
    rule="xenbus.backend.requests-before-connected",
    side=Side.NETBACK,
    connect=False,
    hint="look at the rings once when they are mapped: no event will come for what is there",
)
def requests_before_connected(peer: FrontendPeer, value: Any) -> None:
    """Requests and events that come before the backend is Connected are served once it is (field
    bug 5)."""
    peer.rest()
    peer.allocate()
    frame = plain(60)
    peer.post_rx(8)
    peer.push_rx()
    (ident,) = peer.send(frame)
    peer.push_tx()
    peer.notify()
    require_connected(peer)
    frames: list[bytes] = []
    statuses: dict[int, int] = {}

    def over() -> bool:
        statuses.update((one.id, one.status) for one in peer.responses())
        frames.extend(packet.frame for packet in peer.packets())
        return ident in statuses and frame in frames

    if not peer.wait(over):
        raise Violation("a request that was there before it connected is not served", ring="tx")


def _set_hotplug_status(peer: FrontendPeer, status: NodeValue) -> None:
    """What the toolstack's script does when it ends."""
    session = peer.session
    session.host.store.write(f"{session.vif.paths.backend}/hotplug-status", status)
    peer.rest()


def _enter_hotplug() -> None:
    rule = "xenbus.backend.waits-for-hotplug-status"
    for name, status in {"empty": "", "error": "error", "nul": b"connected\0"}.items():

        def play(peer: FrontendPeer, value: Any) -> None:
            peer.rest()
            _set_hotplug_status(peer, value)
            peer.connect()
            if value != "connected":
                if peer.wait(lambda: peer.otherend_state == _CONNECTED):
                    raise Violation(
                        f"it is Connected though hotplug-status is {value!r}",
                        path=peer.otherend.node("state"),
                    )
                _set_hotplug_status(peer, "connected")
            if not peer.wait(lambda: peer.connected):
                raise Violation("it is not Connected though the script has ended", path=peer.node)

        play.__doc__ = f"While hotplug-status is {status!r} a backend is not Connected; then it is."
        check(
            id=check_id(Side.NETBACK, rule, name),
            rule=rule,
            side=Side.NETBACK,
            needs={"hotplug-script"},
            connect=False,
            field=Field("hotplug-status", status, "connected"),
            hint="map the rings, watch hotplug-status, show Connected when it is that very word",
        )(play)


_enter_hotplug()


@check(
    id="netback.life.closes-while-script-runs",
    rule="xenbus.backend.closes-while-script-runs",
    side=Side.NETBACK,
    needs={"hotplug-script"},
    connect=False,
    probe=False,
    accepts=GIVEN_UP,
    hint="what the frontend does counts more than what the script has not done yet",
)
def closes_while_script_runs(peer: FrontendPeer, value: Any) -> None:
    """A frontend that closes while the script still runs is answered at once, and gets everything
    back."""
    peer.rest()
    _set_hotplug_status(peer, "")
    peer.connect()
    _close(peer, (_CLOSING, _CLOSED))
    require_released(peer, "Closed")


@check(
    id="netback.store.watch-before-read",
    rule="xs-wire.watch-before-read",
    side=Side.NETBACK,
    connect=False,
    hint="register the watch first: its first event is the look",
)
def quick_frontend(peer: FrontendPeer, value: Any) -> None:
    """A frontend that publishes its keys and shows Connected at once, and no state again, is
    connected to."""
    peer.allocate()
    peer.publish()
    peer.set_state(_CONNECTED)
    if not peer.wait(lambda: peer.connected):
        raise Violation("it has missed Connected", path=peer.node)
    require_echo(peer, plain(60))


@check(
    id="netback.life.reconfiguring",
    rule="xenbus.backend.reconfiguring",
    side=Side.NETBACK,
    needs={"xdp-headroom"},
    hint="read xdp-headroom again, show Reconfigured, and Connected when the frontend is",
)
def reconfiguring(peer: FrontendPeer, value: Any) -> None:
    """Reconfiguring is answered by Reconfigured, Connected by Connected, and packets pass then."""
    require_echo(peer, plain(60))
    peer.write("xdp-headroom", 0)
    peer.set_state(XenbusState.Reconfiguring)
    require_state(peer, (XenbusState.Reconfigured,), "its frontend's Reconfiguring")
    peer.set_state(_CONNECTED)
    require_state(peer, (_CONNECTED,), "its frontend's Connected")
    require_echo(peer, plain(60))


@check(
    id="netback.life.own-directory",
    rule="xenbus.end.own-directory",
    side=Side.NETBACK,
    connect=False,
    hint="the frontend's nodes are the frontend's (QEMU writes its mac)",
)
def own_directory(peer: FrontendPeer, value: Any) -> None:
    """Nothing in the frontend's directory is written by the netback."""
    require_connected(peer)
    before = {name: peer.read(name) for name in peer.hv.store.directory(peer.node)}
    require_echo(peer, plain(60))
    after = {name: peer.read(name) for name in peer.hv.store.directory(peer.node)}
    if before != after:
        name = next(one for one in {**before, **after} if before.get(one) != after.get(one))
        raise Violation(f"{name} of the frontend has changed", path=peer.node)


@check(
    id="netback.life.state-is-decimal",
    rule="xenbus.end.state-is-decimal",
    side=Side.NETBACK,
    hint="write the number as decimal text, without a newline or nul",
)
def state_text(peer: FrontendPeer, value: Any) -> None:
    """The state is a number, with nothing around it."""
    raw = peer.otherend.raw("state")
    if raw != b"4":
        raise Violation(f"the state is {raw!r}", path=peer.otherend.node("state"))


@check(
    id="netback.life.vanished-before-probe",
    rule="xenbus.end.vanished-before-probe",
    side=Side.NETBACK,
    connect=False,
    probe=False,
    accepts=GIVEN_UP | {Outcome.REFUSED},
    hint="write in a transaction that reads state first",
)
def vanished(peer: FrontendPeer, value: Any) -> None:
    """The toolstack removes the backend's directory while the frontend connects: it does not come
    back half filled (field bug 12)."""
    peer.rest()
    peer.allocate()
    peer.publish()
    host, paths = peer.session.host, peer.session.vif.paths
    host.store.rm(paths.backend)
    peer.set_state(_CONNECTED)
    peer.rest()
    try:
        found = host.store.directory(paths.backend)
    except XsError:
        return
    raise Violation(f"the directory is there again, with {found}", path=paths.backend)
