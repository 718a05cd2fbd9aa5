"""The rx ring: what a backend writes into buffers and slots, and what it does without them."""

from __future__ import annotations

from xennet.abi.netif import RX_REQUEST
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.judge import judge, play, post, receive
from xennet.check.checks_netback.rows import ANSWERED, GOES_ON
from xennet.check.checks_netback.tx_packets import Written, chain, put
from xennet.check.peers import FrontendPeer

_SG = frozenset({"sg"})
_SECOND = 1_000_000_000


def _send(peer: FrontendPeer, *sizes: int) -> list[Written]:
    """Packets of these sizes, in pages of their own, published."""
    written = []
    for number, size in enumerate(sizes):
        parts = [4096] * (size // 4096) + ([size % 4096] if size % 4096 else [])
        written.append(put(peer, chain(*parts, number=number)))
    peer.push_tx()
    peer.settle()
    return written


for _size, _rule in (
    (14, "netif.rx.layout"),
    (60, "netif.rx.layout"),
    (1514, "netif.rx.status-size"),
    (4095, "netif.rx.status-size"),
    (4096, "netif.rx.status-size"),
    (4097, "netif.rx.more-data"),
    (5000, "netif.rx.sum"),
    (8192, "netif.rx.more-data"),
    (12289, "netif.rx.sum"),
    (65535, "netif.rx.sum"),
):

    @check(
        id=f"netback.rx.size-{_size}",
        rule=_rule,
        side=Side.NETBACK,
        needs=_SG if _size > 4096 else frozenset(),
        hint="each slot says its own bytes; all but the last have more_data",
    )
    def size_of_packet(peer: FrontendPeer, _: object, size: int = _size) -> None:
        """A packet for the guest is the sum of its slots."""
        post(peer, size // 4096 + 3)
        judge(peer, _send(peer, size))


@check(
    id="netback.rx.ids",
    rule="netif.rx.id-echo",
    side=Side.NETBACK,
    needs=_SG,
    hint="keep the id of a request until its response",
)
def ids(peer: FrontendPeer, _: object) -> None:
    """Buffers with any ids, also the same one twice, are answered by these ids."""
    given = {}
    for ident in (0xABCD, 5, 5, 0xFFFF, 0, 0x0100):
        given[peer.index("req_prod_pvt", ring="rx")] = ident
        peer.post_rx(ident=ident)
    peer.push_rx()
    written = _send(peer, 60, 5000, 61)
    frames = [one.frame for one in receive(peer, ids=given)]
    if frames != [one.frame for one in written]:
        raise Violation(
            f"{len(written)} packets were sent, {len(frames)} came as they were", ring="rx"
        )
    peer.responses()


@check(
    id="netback.rx.same-slot",
    rule="netif.rx.same-slot",
    side=Side.NETBACK,
    needs=_SG,
    hint="use buffers in ring order, and answer each in its own slot",
)
def same_slot(peer: FrontendPeer, _: object) -> None:
    """Packets use the posted buffers one after the other, and none is left out."""
    first = peer.index("req_prod_pvt", ring="rx")
    post(peer, 20)
    came = judge(peer, _send(peer, 60, 9000, 61, 5000, 62))
    used = [slot.index - first for one in came for slot in one.slots]
    if used != list(range(len(used))):
        raise Violation(f"the buffers are used in the order {used}", ring="rx", index=first)


@check(
    id="netback.rx.pad",
    rule="netif.rx.every-byte",
    side=Side.NETBACK,
    needs=_SG,
    field=Field("pad of the rx requests", 0xFFFF, 0),
    accepts=ANSWERED,
    hint="write all 8 bytes of a response; offset lies where pad was, flags where the reference "
    "was",
)
def pad(peer: FrontendPeer, value: int) -> None:
    """Nothing of a request is left in its response."""
    for _number in range(6):
        index = peer.index("req_prod_pvt", ring="rx")
        peer.post_rx()
        raw = bytearray(peer.shared("rx").copy_slot(index))
        _ident, _pad, gref = RX_REQUEST.unpack_from(raw)
        peer.write_slot(index, RX_REQUEST.pack(index & 0xFF, value, gref), ring="rx")
    peer.push_rx()
    judge(peer, _send(peer, 60, 5000, 61))


@check(
    id="netback.rx.many",
    rule="netif.rx.whole-packet",
    side=Side.NETBACK,
    hint="go on until no packet or no buffer is left",
)
def many(peer: FrontendPeer, _: object) -> None:
    """A ring nearly full of buffers takes as many packets, twice."""
    for _turn in range(2):
        post(peer, 240)
        written = [put(peer, chain(60 + number % 50, number=number)) for number in range(240)]
        peer.push_tx()
        peer.settle()
        judge(peer, written)


# -- too few buffers -------------------------------------------------------------------------------

for _size, _posted in ((5000, 1), (9000, 2), (65535, 15), (60, 0)):

    @check(
        id=f"netback.rx.lacks-{_size}-of-{_posted}",
        rule="netif.rx.whole-packet",
        side=Side.NETBACK,
        needs=_SG,
        accepts=GOES_ON,
        hint="wait until as many buffers are posted as the packet needs, and ask for that event",
    )
    def lacks(peer: FrontendPeer, _: object, size: int = _size, posted: int = _posted) -> None:
        """A packet for which too few buffers are posted waits, whole, and comes when they are
        there."""
        post(peer, posted)
        written = _send(peer, size, 61)
        early = receive(peer)
        if any(one.frame != written[1].frame for one in early):
            raise Violation("part of a packet is given before its buffers are there", ring="rx")
        post(peer, size // 4096 + 4)
        peer.settle()
        came = [*early, *receive(peer)]
        if [one.frame for one in came] != [one.frame for one in written]:
            raise Violation(
                f"{len(written)} packets waited for buffers, {len(came)} came when they were "
                "posted",
                ring="rx",
                hint="req_event of the rx ring is where the buffer will be that is waited for",
            )
        peer.responses()


@check(
    id="netback.rx.one-by-one",
    rule="ring.event-index",
    side=Side.NETBACK,
    needs=_SG,
    hint="while a packet waits, req_event of the rx ring asks for the buffer that completes it",
)
def one_by_one(peer: FrontendPeer, _: object) -> None:
    """Buffers that are posted one by one bring packets of several slots, with no other event."""
    written = _send(peer, 9000, 60, 9001)
    came = []
    for _number in range(7):
        post(peer, 1)
        peer.settle()
        came += receive(peer)
    if [one.frame for one in came] != [one.frame for one in written]:
        raise Violation(f"seven buffers for three packets: {len(came)} came", ring="rx")
    peer.responses()


@check(
    id="netback.rx.no-buffers",
    rule="netif.rx.no-buffers",
    side=Side.NETBACK,
    accepts=GOES_ON,
    hint="bound what waits for a guest; do not forget the tx ring when there is room again",
)
def no_buffers(peer: FrontendPeer, _: object) -> None:
    """A guest that posts no buffers and sends on and on; when it posts some, the ring goes on."""
    sent = 0
    for turn in range(6):
        front = peer.ring("tx")
        room = 256 - ((front.req_prod_pvt - front.rsp_cons) & 0xFFFFFFFF)
        for number in range(min(room, 100)):
            put(peer, chain(60, number=100 * turn + number))
            sent += 1
        peer.push_tx()
        peer.settle()
        peer.responses()
    got = 0
    for _turn in range(20):
        post(peer, 256)
        peer.settle()
        peer.responses()
        came = len(receive(peer))
        got += came
        if not came:
            break
    if got > sent:
        raise Violation(f"{sent} packets were sent, {got} came", ring="rx")


@check(
    id="netback.rx.stalled-for-minutes",
    rule="netif.rx.no-buffers",
    side=Side.NETBACK,
    needs=frozenset({"virtual-time"}),
    accepts=GOES_ON,
    hint="a carrier that was taken away comes back when enough buffers are posted",
)
def stalled(peer: FrontendPeer, _: object) -> None:
    """A guest that posts no buffers for two minutes, and then some: packets come again."""
    _send(peer, *[60] * 20)
    peer.responses()
    for _turn in range(12):
        _pass_time(peer, 10 * _SECOND)
        _send(peer, 60, 61)
        peer.responses()
    post(peer, 100)
    _pass_time(peer, 2 * _SECOND)
    receive(peer)
    peer.responses()


@check(
    id="netback.rx.one-too-few",
    rule="netif.rx.no-buffers",
    side=Side.NETBACK,
    needs=frozenset({"virtual-time", "sg"}),
    accepts=GOES_ON,
    hint="judge a stall by the buffers that the next packet needs (XSA-392)",
)
def one_too_few(peer: FrontendPeer, _: object) -> None:
    """A guest that keeps one buffer too few posted for two minutes gets packets again later."""
    post(peer, 1)
    _send(peer, 5000)
    for _turn in range(12):
        _pass_time(peer, 10 * _SECOND)
        peer.responses()
        if receive(peer):
            post(peer, 1)
        _send(peer, 5000)
    post(peer, 100)
    _pass_time(peer, 2 * _SECOND)
    receive(peer)
    peer.responses()


@check(
    id="netback.rx.unannounced-buffers",
    rule="netif.rx.notify-feature",
    side=Side.NETBACK,
    needs=frozenset({"virtual-time", "rx-notify"}),
    accepts=GOES_ON,
    connect=False,
    hint="without feature-rx-notify nobody tells of buffers: look by a timer, drop what waits "
    "too long",
)
def unannounced(peer: FrontendPeer, _: object) -> None:
    """A frontend without feature-rx-notify posts buffers and sends no event: they are found."""
    enter_with(peer, {"feature-rx-notify": None})
    written = _send(peer, 60, 61)
    peer.responses()
    post_quietly(peer, 8)
    _pass_time(peer, _SECOND)
    came = [one.frame for one in receive(peer)]
    if came and came != [one.frame for one in written][-len(came) :]:
        raise Violation("packets came that nobody has sent", ring="rx")
    if not came:
        # They may have been dropped; the next one finds its buffer.
        more = _send(peer, 62)
        peer.responses()
        _pass_time(peer, _SECOND)
        if [one.frame for one in receive(peer)] != [more[0].frame]:
            raise Violation("buffers that were posted without an event are not found", ring="rx")


def post_quietly(peer: FrontendPeer, buffers: int) -> None:
    """Post receive buffers, and send no event."""
    peer.post_rx(buffers)
    peer.queues[0].rx.push_requests()
    peer.settle()


def _pass_time(peer: FrontendPeer, ns: int) -> None:
    peer.session.pass_time(ns)
    peer.rest()


@check(
    id="netback.rx.largest-frames-in-turn",
    rule="netif.rx.more-data",
    side=Side.NETBACK,
    needs=_SG,
    hint="tables of a pass are for all packets of a ring, or are emptied between packets",
)
def largest_in_turn(peer: FrontendPeer, _: object) -> None:
    """Several packets of 64 KiB in one push, each in 16 buffers."""
    post(peer, 200)
    judge(peer, _send(peer, 65535, 65000, 40000, 65535))


@check(
    id="netback.rx.plain-after-all",
    rule="netif.rx.status-size",
    side=Side.NETBACK,
    needs=_SG,
    hint="a slot's status is counted anew for each packet",
)
def plain_after(peer: FrontendPeer, _: object) -> None:
    """A small packet behind a large one has its own size."""
    post(peer, 40)
    judge(peer, _send(peer, 20000, 60, 65535, 61))
    play(peer, [chain(60)])
