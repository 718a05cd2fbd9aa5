"""Event indices and notifications: who is told, who is not, and what must not be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.between_hypercalls import COPIES, SENDS, at_hypercalls
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.grefs import GREFS
from xennet.check.checks_netback.judge import judge, play, post, receive
from xennet.check.checks_netback.rows import ANSWERED, SURVIVES
from xennet.check.checks_netback.tx_extras import offloaded
from xennet.check.checks_netback.tx_packets import (
    Data,
    E,
    Extra,
    Fate,
    M,
    TxPacket,
    Written,
    chain,
    gso,
    mcast,
    of,
    put,
)
from xennet.check.ip_frames import MULTICAST
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer

#: An event index that nothing reaches.
_FAR = 1 << 31


def _quiet(peer: FrontendPeer, *rings: str) -> None:
    """Ask for no event of these rings."""
    for ring in rings:
        peer.set_index("rsp_event", peer.index("rsp_cons", ring=ring) + _FAR, ring=ring)


def _events(peer: FrontendPeer) -> int:
    return peer.queues[0].tx_events + peer.queues[0].rx_events


def _sent(peer: FrontendPeer, count: int, *, buffers: int) -> tuple[list[Written], int]:
    """Publish ``count`` packets; they, and how many events have come."""
    if buffers:
        post(peer, buffers)
    before = _events(peer)
    written = [put(peer, chain(60, number=n)) for n in range(count)]
    peer.push_tx()
    peer.settle()
    return written, _events(peer) - before


# -- what the frontend is told ---------------------------------------------------------------------

#: What rsp_event is behind rsp_cons, how many packets are sent, whether an event has to come.
_ASKED: Mapping[str, tuple[int, int, bool]] = {
    "next": (1, 1, True),
    "last-of-five": (5, 5, True),
    "middle-of-five": (3, 5, True),
    "first-of-five": (1, 5, True),
}
_NOT_ASKED: Mapping[str, tuple[int, int, bool]] = {
    "behind-the-last": (6, 5, False),
    "far-ahead": (_FAR, 5, False),
    "passed": (0, 5, False),
}

_HOLD_OFF = {"tx": "ring.response-hold-off", "rx": "netif.channel.conditional"}

for _name, (_ahead, _count, _due) in {**_ASKED, **_NOT_ASKED}.items():
    for _ring in ("tx", "rx"):

        @check(
            id=f"netback.event.{_ring}-{_name}",
            rule="ring.response-notify" if _due else _HOLD_OFF[_ring],
            side=Side.NETBACK,
            hint="RING_PUSH_RESPONSES_AND_CHECK_NOTIFY: read rsp_event behind the store of "
            "rsp_prod",
        )
        def told_or_not(
            peer: FrontendPeer,
            _: object,
            ring: str = _ring,
            ahead: int = _ahead,
            count: int = _count,
            due: bool = _due,
        ) -> None:
            """An event comes when rsp_prod passes rsp_event, and only then."""
            _quiet(peer, "tx", "rx")
            peer.set_index("rsp_event", peer.index("rsp_cons", ring=ring) + ahead, ring=ring)
            written, events = _sent(peer, count, buffers=count + 1)
            if due and not events:
                raise Violation(
                    f"rsp_event of the {ring} ring asked for an event at {ahead} of {count} "
                    "responses; none came",
                    ring=ring,
                    index=written[0].index,
                )
            if not due and events:
                raise Violation(
                    f"{events} events came, and rsp_event of the {ring} ring asked for none",
                    ring=ring,
                )
            judge(peer, written)


for _start in ((1 << 31) - 2, (1 << 32) - 2):

    @check(
        id=f"netback.event.wraps-{_start:#x}",
        rule="ring.response-notify",
        side=Side.NETBACK,
        connect=False,
        hint="compare distances, not indices: (new - event) < (new - old), unsigned",
    )
    def event_wraps(peer: FrontendPeer, _: object, start: int = _start) -> None:
        """Events are sent right where the indices wrap."""
        enter_with(peer, start=start)
        for _number in range(6):
            _quiet(peer, "rx")
            written, events = _sent(peer, 1, buffers=2)
            if not events:
                raise Violation("no event came for a response", ring="tx", index=written[0].index)
            judge(peer, written)


for _ring in ("tx", "rx"):
    for _name, _value in (
        ("zero", 0),
        ("max", 0xFFFFFFFF),
        ("half", 0x80000000),
        ("back", 0xFFFFFF00),
    ):

        @check(
            id=f"netback.event.{_ring}-rsp-event-{_name}",
            rule="ring.event-fields",
            side=Side.NETBACK,
            field=Field(f"rsp_event of the {_ring} ring", _value, 1),
            accepts=ANSWERED,
            hint="rsp_event is compared, and nothing else is done with it",
        )
        def any_rsp_event(peer: FrontendPeer, value: int, ring: str = _ring) -> None:
            """Whatever rsp_event says, packets are taken and given."""
            for number in range(4):
                peer.set_index("rsp_event", value, ring=ring)
                written, _events_seen = _sent(peer, 3 + number, buffers=8)
                judge(peer, written)


# -- what the backend has to hear ------------------------------------------------------------------

_BAD: Mapping[str, tuple[frozenset[str], Callable[[], TxPacket]]] = {
    "empty": (frozenset(), lambda: of(Data(0))),
    "short": (frozenset(), lambda: of(Data(4))),
    "bad-grant": (frozenset(), lambda: of(Data(60, gref=GREFS["unused"], usable=False))),
    "sizes": (frozenset({"sg"}), lambda: of(Data(100, M), Data(200))),
    "unknown-extra": (frozenset(), lambda: of(Data(60, E), Extra(0xFF))),
    "no-segments": (frozenset({"gso-tcpv4", "csum"}), lambda: offloaded(200, gso(0))),
    "crosses-page": (frozenset(), lambda: of(Data(200, offset=4000))),
    "multicast": (
        frozenset({"multicast-control"}),
        lambda: of(Data(60, E), mcast(MULTICAST), fate=Fate.OPEN),
    ),
}


def _behind(peer: FrontendPeer, packets: Sequence[TxPacket]) -> None:
    """What stands behind a wrong packet in one push, and what comes in the next one."""
    play(peer, packets)
    again = chain(63)
    post(peer, 2)
    one = put(peer, again)
    peer.push_tx()
    peer.settle()
    if peer.index("rsp_prod") == peer.index("req_prod"):
        judge(peer, [one])
        return
    # Nothing yet: an event that nobody asked for must not help.
    peer.notify()
    peer.settle()
    if peer.index("rsp_prod") != peer.index("rsp_cons"):
        raise Violation(
            "a packet was served only when an event came that req_event had not asked for: its "
            "wake-up "
            "was lost",
            ring="tx",
            index=one.index,
        )


for _name, (_needs, _bad) in _BAD.items():

    @check(
        id=f"netback.event.behind-{_name}",
        rule="ring.event-index",
        side=Side.NETBACK,
        needs=_needs,
        field=Field("packet in front of the good one", _name, "good"),
        accepts=SURVIVES,
        hint="go on behind a refused packet; req_event is the last req_prod that was seen, and one",
    )
    def behind_a_wrong_one(
        peer: FrontendPeer, value: str, bad: Callable[[], TxPacket] = _bad
    ) -> None:
        """A wrong packet and a good one in one push, then another push: the good ones are served
        without an event that was not asked for, or the frontend is given up."""
        _behind(peer, [chain(62) if value == "good" else bad(), chain(61)])


_PARTS: Mapping[str, tuple[frozenset[str], int, Callable[[], TxPacket]]] = {
    "chain": (frozenset({"sg"}), 1, lambda: chain(60, 20)),
    "long-chain": (frozenset({"sg"}), 3, lambda: chain(60, 20, 20, 20, 20)),
    "extra": (frozenset({"gso-tcpv4", "csum"}), 1, lambda: offloaded(400, gso(1448))),
    "extra-and-data": (
        frozenset({"gso-tcpv4", "csum", "sg"}),
        2,
        lambda: offloaded(5000, gso(1448)),
    ),
}

for _name, (_needs, _first, _packet) in _PARTS.items():

    @check(
        id=f"netback.event.pushed-in-parts-{_name}",
        rule="ring.event-index",
        side=Side.NETBACK,
        needs=_needs,
        field=Field("slots of the first push", _first, "all"),
        accepts=frozenset({Outcome.ANSWERED, Outcome.SHUT_DOWN}),
        hint="if you wait for the rest of a packet, ask for an event of the very next request",
    )
    def pushed_in_parts(
        peer: FrontendPeer, value: int | str, packet: Callable[[], TxPacket] = _packet
    ) -> None:
        """A packet whose slots are published in two pushes: it is delivered when all of it is
        there, or the frontend is given up."""
        post(peer, 16)
        one = put(peer, packet())
        end = peer.index("req_prod_pvt")
        if isinstance(value, int):
            peer.set_index("req_prod_pvt", one.index + value)
            peer.push_tx()
            peer.settle()
            if receive(peer):
                raise Violation("a packet is delivered before its end is there", ring="tx")
            peer.set_index("req_prod_pvt", end)
        peer.push_tx()
        peer.settle()
        if peer.index("rsp_prod") == end:
            judge(peer, [one])
            return
        peer.notify()
        peer.settle()
        if peer.index("rsp_prod") == end:
            raise Violation(
                "the rest of a packet was seen only when an event came that req_event had not "
                "asked for",
                ring="tx",
                index=one.index,
            )


@check(
    id="netback.event.next-request",
    rule="ring.event-index",
    side=Side.NETBACK,
    hint="req_event = req_cons + 1 before sleeping (RING_FINAL_CHECK_FOR_REQUESTS)",
)
def next_request(peer: FrontendPeer, _: object) -> None:
    """Packets that come one by one, in pushes of different lengths, are all served at once."""
    for count in (1, 2, 1, 7, 1, 64, 1, 1):
        written, _seen = _sent(peer, count, buffers=count + 1)
        judge(peer, written)


@check(
    id="netback.event.while-it-works",
    rule="ring.final-check",
    side=Side.NETBACK,
    hint="look for requests once more behind the store of req_event",
)
def while_it_works(peer: FrontendPeer, _: object) -> None:
    """A frontend that publishes its next packet whenever an event comes is served to the end."""
    left = [60]
    written: list[Written] = []

    def more() -> None:
        if left[0]:
            left[0] -= 1
            peer.set_index("rsp_event", peer.index("rsp_prod") + 1)
            written.append(put(peer, chain(60, number=left[0])))
            peer.push_tx()

    post(peer, 80)
    peer.hv.on_event(peer.port(), more)
    more()
    peer.settle()
    while left[0] and peer.index("rsp_prod") == peer.index("req_prod"):
        more()  # its event came for the other ring, before it asked
        peer.settle()
    judge(peer, written)


for _name, _ops in (("answers", SENDS), ("copies", COPIES)):

    @check(
        id=f"netback.event.published-while-it-{_name}",
        rule="ring.final-check",
        side=Side.NETBACK,
        hint="look for requests once more behind the store of req_event: one that came before it "
        "brings no event",
    )
    def published_meanwhile(peer: FrontendPeer, _: object, ops: tuple[str, ...] = _ops) -> None:
        """A packet that is published in the middle of the backend's work is served, whether or not
        its push asked for an event."""
        left = [24]
        written: list[Written] = []

        def more() -> None:
            if left[0]:
                left[0] -= 1
                peer.set_index("rsp_event", peer.index("rsp_prod") + 1)
                written.append(put(peer, chain(60, number=left[0])))
                peer.push_tx()

        post(peer, 40)
        with at_hypercalls(peer, ops, more):
            more()
            peer.settle()
        judge(peer, written)
        if left[0] == 23:
            raise Violation("the backend answered a packet without any hypercall", ring="tx")

    @check(
        id=f"netback.event.buffer-while-it-{_name}",
        rule="ring.final-check",
        side=Side.NETBACK,
        hint="look for buffers once more behind the store of req_event of the rx ring",
    )
    def posted_meanwhile(peer: FrontendPeer, _: object, ops: tuple[str, ...] = _ops) -> None:
        """A buffer that is posted in the middle of the backend's work is used, whether or not its
        push asked for an event."""
        written = [put(peer, chain(60, number=number)) for number in range(12)]
        peer.push_tx()
        peer.settle()  # they wait for buffers
        left = [len(written)]

        def more() -> None:
            if left[0]:
                left[0] -= 1
                peer.set_index("rsp_event", peer.index("rsp_prod", ring="rx") + 1, ring="rx")
                post(peer, 1)

        with at_hypercalls(peer, ops, more):
            more()
            peer.settle()
        judge(peer, written)


@check(
    id="netback.event.never-ending",
    rule="ring.bounded-work",
    side=Side.NETBACK,
    hint="work on a ring in passes, and let others have their turn between them",
)
def never_ending(peer: FrontendPeer, _: object) -> None:
    """A frontend that fills its ring at every event is served, in order, two thousand times."""
    left = [2000]
    got: list[bytes] = []
    sent: list[bytes] = []

    def more() -> None:
        if len(got) == len(sent) and not left[0]:
            return
        peer.responses()
        got.extend(one.frame for one in receive(peer))
        post(peer, 256)
        front = peer.ring("tx")
        room = 256 - ((front.req_prod_pvt - front.rsp_cons) & 0xFFFFFFFF)
        for _number in range(min(left[0], room)):
            left[0] -= 1
            sent.append(_numbered(peer, left[0]))
        peer.push_tx()

    peer.hv.on_event(peer.port(), more)
    more()
    for _turn in range(200):
        before = len(got)
        peer.settle()
        more()
        if not left[0] and len(got) in (before, len(sent)):
            break
    if got != sent:
        raise Violation(f"{len(sent)} packets were sent, {len(got)} came back, in order or not")
    peer.responses()


def _numbered(peer: FrontendPeer, number: int) -> bytes:
    """A packet of 64 bytes out of the page of ``data``, which begins with a number."""
    offset = 16 * (number % 200)
    peer.tx(64, offset=offset)
    return peer.data[offset : offset + 64]


# -- events without work ---------------------------------------------------------------------------

for _ring in ("tx", "rx"):

    @check(
        id=f"netback.event.storm-{_ring}",
        rule="event.storm",
        side=Side.NETBACK,
        field=Field("events without work", 500, 0),
        accepts=ANSWERED,
        hint="count spurious events and answer them later and later, never not at all (XSA-332)",
    )
    def storm(peer: FrontendPeer, value: int, ring: str = _ring) -> None:
        """Events without work, one by one, and then a packet: it is served."""
        for _number in range(value):
            peer.hv.notify(peer.port(ring))
            peer.settle()
        post(peer, 4)
        one = put(peer, chain(60))
        peer.push_tx()
        peer.wait(lambda: peer.index("rsp_prod") == peer.index("req_prod"))
        peer.wait(lambda: peer.index("rsp_prod", ring="rx") != peer.index("rsp_cons", ring="rx"))
        judge(peer, [one])


@check(
    id="netback.event.no-work",
    rule="ring.no-work",
    side=Side.NETBACK,
    hint="an event is a reason to look, not a request",
)
def no_work(peer: FrontendPeer, _: object) -> None:
    """Events without requests bring no response."""
    before = peer.index("rsp_prod"), peer.index("rsp_prod", ring="rx")
    for _number in range(5):
        peer.notify()
        peer.settle()
    if before != (peer.index("rsp_prod"), peer.index("rsp_prod", ring="rx")):
        raise Violation("rsp_prod moved, and nothing was requested")


@check(
    id="netback.event.both-rings",
    rule="event.check-again",
    side=Side.NETBACK,
    hint="an event says that there may be work: look at both rings of its channel",
)
def both_rings(peer: FrontendPeer, _: object) -> None:
    """One event for a packet and for the buffers that its echo needs: both are seen."""
    peer.post_rx(3)
    written = [put(peer, chain(60))]
    peer.queues[0].rx.push_requests()
    peer.queues[0].tx.push_requests()
    peer.notify()
    peer.settle()
    judge(peer, written)


@check(
    id="netback.event.merged",
    rule="event.one-bit",
    side=Side.NETBACK,
    hint="several events may be one",
)
def merged(peer: FrontendPeer, _: object) -> None:
    """Ten pushes with ten events before the backend runs: all packets are served."""
    post(peer, 12)
    written = []
    for number in range(10):
        written.append(put(peer, chain(60, number=number)))
        peer.push_tx()
        peer.notify()
    peer.settle()
    judge(peer, written)


@check(
    id="netback.event.closed-channel",
    rule="event.closed",
    side=Side.NETBACK,
    needs=frozenset({"reconnect"}),
    connect=False,
    hint="an event that cannot be sent is lost, and nothing else",
)
def closed_channel(peer: FrontendPeer, _: object) -> None:
    """A frontend closes its channels while packets are on the way; later it connects anew."""
    enter_with(peer)
    post(peer, 4)
    put(peer, chain(60))
    peer.queues[0].tx.push_requests()
    peer.notify()
    peer.close_ports()
    peer.settle()
    if not peer.enter_again(1):
        raise Violation(f"the backend does not connect again: it is in state {peer.otherend_state}")
