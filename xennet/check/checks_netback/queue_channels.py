"""Event channels of their own for each ring, and several queues."""

from __future__ import annotations

from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.judge import judge, post, receive
from xennet.check.checks_netback.rows import SURVIVES
from xennet.check.checks_netback.tx_packets import chain, put
from xennet.check.ip_frames import plain
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer

_SPLIT = frozenset({"split-channels"})
_QUEUES = frozenset({"multi-queue"})


def _max_queues(peer: FrontendPeer) -> int:
    peer.settle()
    return int(peer.features().get("multi-queue-max-queues", "1"))


def _echo_on(peer: FrontendPeer, queue: int, number: int) -> None:
    """A packet through ``queue``; it may come back through any of them."""
    for each in range(len(peer.queues)):
        post(peer, 2, each)
    one = put(peer, chain(60, number=number), queue)
    peer.push_tx(queue)
    peer.settle()
    statuses = [response.status for response in peer.responses(queue)]
    if statuses != [0]:
        raise Violation(
            f"a packet on queue {queue} has the responses {statuses}", ring="tx", index=one.index
        )
    came = [packet.frame for each in range(len(peer.queues)) for packet in receive(peer, each)]
    if came != [one.frame]:
        raise Violation(
            f"a packet on queue {queue} came {len(came)} times", ring="tx", index=one.index
        )


# -- split channels --------------------------------------------------------------------------------


@check(
    id="netback.channel.split",
    rule="netif.channel.split",
    side=Side.NETBACK,
    needs=_SPLIT,
    connect=False,
    hint="tx responses are told by event-channel-tx, rx responses by event-channel-rx",
)
def split(peer: FrontendPeer, _: object) -> None:
    """Each ring's events come by its own channel."""
    enter_with(peer, split=True)
    queue = peer.queues[0]
    for quiet, loud in (("rx", "tx"), ("tx", "rx")):
        post(peer, 4)
        peer.set_index("rsp_event", peer.index("rsp_cons", ring=quiet) + (1 << 31), ring=quiet)
        peer.set_index("rsp_event", peer.index("rsp_cons", ring=loud) + 1, ring=loud)
        before = queue.tx_events, queue.rx_events
        one = put(peer, chain(60))
        peer.push_tx()
        peer.settle()
        told = {"tx": queue.tx_events - before[0], "rx": queue.rx_events - before[1]}
        if not told[loud] or told[quiet]:
            raise Violation(
                f"an event of the {loud} ring was asked for; {told['tx']} came by "
                "event-channel-tx, "
                f"{told['rx']} by event-channel-rx",
                ring=loud,
                index=one.index,
            )
        judge(peer, [one])


@check(
    id="netback.channel.split-requests",
    rule="netif.channel.split",
    side=Side.NETBACK,
    needs=_SPLIT | {"sg"},
    connect=False,
    hint="look at the tx ring on an event of event-channel-tx, at the rx ring on the other's",
)
def split_requests(peer: FrontendPeer, _: object) -> None:
    """A packet is told by event-channel-tx alone, buffers by event-channel-rx alone."""
    enter_with(peer, split=True)
    for number in range(3):
        written = [put(peer, chain(60, number=number)), put(peer, chain(3000, 2000))]
        peer.push_tx()
        peer.settle()
        for _number in range(4):
            post(peer, 1)
            peer.settle()
        judge(peer, written)


@check(
    id="netback.channel.wrong-channel",
    rule="netif.channel.split",
    side=Side.NETBACK,
    needs=_SPLIT,
    connect=False,
    field=Field("ring of whose channel an event is sent", "rx", "tx"),
    accepts=frozenset({Outcome.ANSWERED}),
    hint="an event without work in its ring is spurious, and no harm",
)
def wrong_channel(peer: FrontendPeer, value: str) -> None:
    """A packet is told by an event of the other channel: it may wait for the right one."""
    enter_with(peer, split=True)
    post(peer, 6)
    one = put(peer, chain(60))
    peer.queues[0].tx.push_requests()
    peer.notify(value)
    peer.settle()
    if value == "rx":
        peer.notify("tx")
        peer.settle()
    judge(peer, [one])


@check(
    id="netback.channel.single",
    rule="netif.channel.single",
    side=Side.NETBACK,
    hint="event-channel is for frontends that want one channel",
)
def single(peer: FrontendPeer, _: object) -> None:
    """One channel for both rings tells of both."""
    queue = peer.queues[0]
    post(peer, 4)
    before = queue.tx_events
    one = put(peer, chain(60))
    peer.push_tx()
    peer.settle()
    if queue.tx_events == before:
        raise Violation("no event came", ring="tx", index=one.index)
    judge(peer, [one])


# -- several queues --------------------------------------------------------------------------------

for _count in (2, 4, 8):
    for _split in (False, True):

        @check(
            id=f"netback.queues.{_count}{'-split' if _split else ''}",
            rule="netif.queues.several",
            side=Side.NETBACK,
            needs=_QUEUES | (_SPLIT if _split else frozenset()),
            queues=_count,
            connect=False,
            probe=False,
            hint="the keys of queue N are under queue-N/",
        )
        def several(
            peer: FrontendPeer, _: object, count: int = _count, with_split: bool = _split
        ) -> None:
            """As many queues as both ends have: each takes packets and answers them."""
            enter_with(peer, queues=min(count, _max_queues(peer)), split=with_split)
            for turn in range(2):
                for queue in range(len(peer.queues)):
                    _echo_on(peer, queue, 10 * turn + queue)


@check(
    id="netback.queues.one-with-number",
    rule="netif.queues.flat-keys",
    side=Side.NETBACK,
    needs=_QUEUES,
    connect=False,
    hint="with one queue the keys are at the top, whether or not the number is written",
)
def one_with_number(peer: FrontendPeer, _: object) -> None:
    """multi-queue-num-queues = 1 means one queue with flat keys."""
    enter_with(peer, {"multi-queue-num-queues": 1})
    _echo_on(peer, 0, 1)


@check(
    id="netback.queues.one-not-served",
    rule="netif.queues.independent",
    side=Side.NETBACK,
    queues=2,
    connect=False,
    probe=False,
    hint="queues share nothing that one of them can hold up",
)
def one_not_served(peer: FrontendPeer, _: object) -> None:
    """A queue whose tx ring is full of responses that nobody takes holds no other queue up."""
    enter_with(peer, queues=2)
    for number in range(256):
        peer.send(plain(60, number), queue=1)
    peer.push_tx(1)
    peer.settle()
    for each in (0, 1):
        for _turn in range(4):
            post(peer, 200, each)
            peer.settle()
            receive(peer, each)
    for number in range(3):
        _echo_on(peer, 0, number)


@check(
    id="netback.queues.one-given-up",
    rule="netif.queues.independent",
    side=Side.NETBACK,
    queues=2,
    field=Field("offset of a slot of queue 1", 4000, 0),
    accepts=SURVIVES,
    hint="a fatal error ends all queues of a vif, or its own",
)
def one_given_up(peer: FrontendPeer, value: int) -> None:
    """A wrong packet on one queue: the vif is given up as a whole, or the others go on."""
    post(peer, 4)
    peer.tx(200, offset=value, queue=1)
    peer.push_tx(1)
    peer.settle()
    peer.responses(1)
    receive(peer, 1)


@check(
    id="netback.queues.same-rings",
    rule="grant.same-page",
    side=Side.NETBACK,
    queues=2,
    connect=False,
    field=Field("rings of the second queue", "those of the first", "its own"),
    accepts=SURVIVES | {Outcome.WEDGED},
    hint="it is the frontend's own ring that it breaks",
)
def same_rings(peer: FrontendPeer, value: str) -> None:
    """Two queues with the same ring pages: refused, or broken for this frontend alone."""
    peer.settle()
    peer.allocate(queues=2)
    first = peer.queues[0]
    changes = {"queue-1/tx-ring-ref": first.tx_ref, "queue-1/rx-ring-ref": first.rx_ref}
    peer.connect(changes if value == "those of the first" else {})
    peer.wait(lambda: peer.connected)
