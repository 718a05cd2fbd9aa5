"""Free-running indices: where a ring is entered, what is published, and producers that cannot
be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from xennet.abi.netif import RX_REQUEST, TX_REQUEST
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.between_hypercalls import COPIES, at_hypercalls
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.judge import judge, play, post, receive
from xennet.check.checks_netback.rows import ANSWERED, SURVIVES
from xennet.check.checks_netback.tx_packets import M, TxPacket, Written, chain, put
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer

SLOTS = 256
_BEYOND = frozenset({Outcome.SHUT_DOWN, Outcome.REFUSED, Outcome.ANSWERED})

# -- where a ring is entered -----------------------------------------------------------------------


def _around(peer: FrontendPeer) -> None:
    """Packets of one slot and of several, more than the ring has slots."""
    for number in range(22):
        play(peer, [chain(60, 10, 10, number=number), *[chain(61, number=n) for n in range(9)]])


for _start in (1, 77, 255, 256, (1 << 31) - 3, (1 << 32) - 2):

    @check(
        id=f"netback.ring.start-{_start:#x}",
        rule="ring.attach" if _start < 257 else "ring.index-wraps",
        side=Side.NETBACK,
        connect=False,
        needs=frozenset({"sg"}),
        hint="BACK_RING_ATTACH at rsp_prod; all arithmetic of indices is unsigned, of 32 bits",
    )
    def start_index(peer: FrontendPeer, _: object, start: int = _start) -> None:
        """Rings whose indices begin elsewhere than at 0 are entered there."""
        enter_with(peer, start=start)
        play(peer, [chain(60, 10, 10), chain(61), chain(62)])
        if start > SLOTS:
            play(peer, [chain(60, number=n) for n in range(20)])


@check(
    id="netback.ring.around",
    rule="ring.size",
    side=Side.NETBACK,
    needs=frozenset({"sg"}),
    hint="a slot is index & 255; chains go on in the first slot",
)
def around(peer: FrontendPeer, _: object) -> None:
    """Packets and chains go around both rings, through every slot of them."""
    _around(peer)


@check(
    id="netback.ring.one-by-one",
    rule="ring.size",
    side=Side.NETBACK,
    hint="a slot is index & 255",
)
def one_by_one(peer: FrontendPeer, _: object) -> None:
    """Three hundred packets, one after the other, each with one buffer."""
    for number in range(300):
        peer.post_rx()
        peer.push_rx()
        one = put(peer, chain(60, number=number))
        peer.push_tx()
        peer.settle()
        judge(peer, [one])


def _published_before(
    peer: FrontendPeer, start: int, *, buffers: int, packets: int
) -> list[Written]:
    """Rings with buffers and packets on them, published before the backend sees the keys."""
    peer.settle()
    peer.allocate(start=start)
    peer.post_rx(buffers)
    peer.queues[0].rx.push_requests()
    written = [put(peer, chain(60 + n, number=n)) for n in range(packets)]
    peer.queues[0].tx.push_requests()
    enter_with(peer)
    peer.settle()
    return written


for _start in (0, 300):

    @check(
        id=f"netback.ring.buffers-before-connect-{_start}",
        rule="ring.frontend-initialises",
        side=Side.NETBACK,
        connect=False,
        hint="never initialise the shared page in a backend: receive buffers are posted already",
    )
    def buffers_before(peer: FrontendPeer, _: object, start: int = _start) -> None:
        """Receive buffers that were posted before the backend connected are used, in order."""
        _published_before(peer, start, buffers=32, packets=0)
        if peer.index("req_prod", ring="rx") != start + 32:
            raise Violation("req_prod of the rx ring has changed", ring="rx")
        written = [put(peer, chain(60, number=n)) for n in range(8)]
        peer.push_tx()
        peer.settle()
        slots = [slot.index for came in judge(peer, written) for slot in came.slots]
        if slots != list(range(start, start + 8)):
            raise Violation(f"buffers are used at {slots}, not from index {start} on", ring="rx")

    @check(
        id=f"netback.ring.packets-before-connect-{_start}",
        rule="event.bind-pending",
        side=Side.NETBACK,
        connect=False,
        hint="look at both rings when the channel is bound",
    )
    def packets_before(peer: FrontendPeer, _: object, start: int = _start) -> None:
        """Packets that were published before the backend connected need no other event."""
        judge(peer, _published_before(peer, start, buffers=32, packets=5))


for _ring in ("tx", "rx"):

    @check(
        id=f"netback.ring.{_ring}-overflow-at-connect",
        rule="ring.attach-overflow",
        side=Side.NETBACK,
        connect=False,
        field=Field(f"{_ring} req_prod - rsp_prod", SLOTS + 1, SLOTS),
        accepts=SURVIVES,
        hint="refuse to connect, or give the vif up, when req_prod - rsp_prod > 256",
    )
    def overflow_at_connect(peer: FrontendPeer, value: int, ring: str = _ring) -> None:
        """A ring that says it has more requests than slots when it is entered is not worked on."""
        peer.settle()
        peer.allocate(start=40)
        peer.post_rx(SLOTS)
        peer.queues[0].rx.push_requests()
        if ring == "tx":
            for number in range(SLOTS):
                peer.tx(60, ident=number)
        peer.set_index("req_prod", 40 + value, ring=ring)
        peer.connect()
        peer.wait(lambda: peer.connected)
        taken = (peer.index("rsp_prod", ring=ring) - 40) & 0xFFFFFFFF
        if taken > SLOTS:
            raise Violation(f"{taken} responses on a ring of {SLOTS} slots", ring=ring)
        if value > SLOTS:
            return
        if not peer.connected:
            raise Violation("a full ring is not entered", ring=ring)
        written = [put(peer, chain(60, number=n)) for n in range(8)] if ring == "rx" else []
        peer.push_tx()
        peer.settle()
        if ring == "rx":
            judge(peer, written)
        peer.drain()


@check(
    id="netback.ring.attach-in-chain",
    rule="ring.attach-in-chain",
    side=Side.NETBACK,
    connect=False,
    needs=frozenset({"sg"}),
    field=Field("flags of the slot before rsp_prod", M, 0),
    accepts=SURVIVES,
    hint="rsp_prod can stand inside a packet (Linux answers its slots out of order): give up what "
    "belongs to a chain that was answered in part",
)
def attach_in_chain(peer: FrontendPeer, value: int) -> None:
    """A ring that is entered inside a chain: its rest is not delivered as a packet of its own."""
    peer.settle()
    peer.allocate(start=9)
    peer.post_rx(32)
    peer.queues[0].rx.push_requests()
    # What an earlier backend has left of the first slot: a response over its first word.
    head = TX_REQUEST.pack(0, 0, value, 9, 4066)
    peer.write_slot(8, b"\x08\x00\x00\x00" + head[4:])
    rest = TxPacket(chain(3000, 1000).slots)
    written = [put(peer, rest), put(peer, chain(61))]
    peer.queues[0].tx.push_requests()
    enter_with(peer)
    peer.settle()
    came = [one.frame for one in receive(peer)]
    answered = {response.id for response in peer.responses()}
    if value and written[0].frame in came:
        raise Violation("the rest of a packet was delivered as a packet", ring="tx", index=9)
    if not value and came != [one.frame for one in written]:
        raise Violation(
            f"two packets are on the ring, {len(came)} came, {sorted(answered)} are answered"
        )


@check(
    id="netback.ring.reserved",
    rule="ring.reserved",
    side=Side.NETBACK,
    connect=False,
    hint="a backend writes rsp_prod, req_event and responses",
)
def reserved(peer: FrontendPeer, _: object) -> None:
    """The bytes between the indices and the slots are not changed."""
    peer.settle()
    peer.allocate()
    pattern = bytes(range(100, 148))
    for ring in ("tx", "rx"):
        peer.shared(ring).u8[16:64] = pattern
    enter_with(peer)
    play(peer, [chain(60), chain(61)])
    for ring in ("tx", "rx"):
        if bytes(peer.shared(ring).u8[16:64]) != pattern:
            raise Violation(f"the padding of the {ring} ring has changed", ring=ring)


# -- producers -------------------------------------------------------------------------------------


def _beyond_tx(peer: FrontendPeer) -> None:
    """Slots beyond what is published, as good as requests can be."""
    for ahead in range(200):
        index = peer.index("req_prod_pvt") + ahead
        peer.write_slot(index, TX_REQUEST.pack(peer.gref, 64, 0, 0x5000 + ahead, 100 + ahead))


def _beyond_rx(peer: FrontendPeer) -> None:
    front = peer.ring("rx")
    page = peer.page()
    for ahead in range(200):
        raw = RX_REQUEST.pack(0x5000 + ahead, 0, page.gref or 0)
        peer.write_slot(front.req_prod_pvt + ahead, raw, ring="rx")


def _judge_overflow(peer: FrontendPeer, ring: str, base: int, sent: list[Written]) -> None:
    """Nothing beyond what was written is answered or delivered."""
    published = (peer.index("req_prod_pvt", ring=ring) - base) & 0xFFFFFFFF
    produced = (peer.index("rsp_prod", ring=ring) - base) & 0xFFFFFFFF
    if produced > published:
        raise Violation(
            f"{produced} responses to {published} requests: slots beyond them were taken for some",
            ring=ring,
            index=base + published,
            raw=peer.shared(ring).copy_slot(base + published),
        )
    frames = [one.frame for one in sent]
    for came in receive(peer):
        if came.frame not in frames:
            raise Violation(
                f"a packet of {len(came.frame)} bytes came that was never published",
                ring="rx",
                index=came.slots[0].index,
            )
        frames.remove(came.frame)
    peer.responses()


for _name, _ahead in (
    ("257", SLOTS + 1),
    ("1000", 1000),
    ("half", 1 << 31),
    ("backwards", (1 << 32) - 1),
    ("far-backwards", (1 << 32) - 200),
):

    @check(
        id=f"netback.ring.tx-overflow-{_name}",
        rule="ring.request-overflow",
        side=Side.NETBACK,
        field=Field("req_prod - rsp_prod", _ahead, 1),
        accepts=_BEYOND,
        hint="compare the unsigned distance with the size of the ring, once for each pass",
    )
    def tx_overflow(peer: FrontendPeer, value: int) -> None:
        """A req_prod that cannot be is no work: no slot of it is taken for a request."""
        play(peer, [chain(62), chain(63)])
        post(peer, 40)
        base = peer.index("rsp_cons")
        sent = [put(peer, chain(60))]
        _beyond_tx(peer)
        peer.set_index("req_prod", base + value)
        peer.notify()
        peer.settle()
        _judge_overflow(peer, "tx", base, sent)

    @check(
        id=f"netback.ring.rx-overflow-{_name}",
        rule="ring.request-overflow",
        side=Side.NETBACK,
        field=Field("req_prod - rsp_prod of the rx ring", _ahead, 2),
        accepts=_BEYOND,
        hint="compare the unsigned distance with the size of the ring, once for each pass",
    )
    def rx_overflow(peer: FrontendPeer, value: int) -> None:
        """More receive buffers than the ring has slots are none: none of them is written into."""
        play(peer, [chain(62), chain(63)])
        peer.settle()
        while peer.index("rsp_cons", ring="rx") != peer.index("req_prod_pvt", ring="rx"):
            one = put(peer, chain(70))  # use up what is posted
            peer.push_tx()
            peer.settle()
            judge(peer, [one])
        base = peer.index("rsp_cons", ring="rx")
        peer.post_rx(2)
        _beyond_rx(peer)
        peer.set_index("req_prod", base + value, ring="rx")
        sent = [put(peer, chain(60, number=n)) for n in range(4)]
        peer.push_tx()
        peer.notify(ring="rx")
        peer.settle()
        _judge_overflow(peer, "rx", base, sent)


@check(
    id="netback.ring.published-only",
    rule="ring.published-only",
    side=Side.NETBACK,
    needs=frozenset({"sg"}),
    hint="stop at the req_prod that was read",
)
def published_only(peer: FrontendPeer, _: object) -> None:
    """Slots behind req_prod are no requests yet, with an event or without; later they are."""
    post(peer, 12)
    first = put(peer, chain(60))
    peer.push_tx()
    later = [put(peer, chain(61, 20)), put(peer, chain(62))]
    peer.notify()
    peer.settle()
    judge(peer, [first])
    peer.push_tx()
    peer.settle()
    judge(peer, later)


@check(
    id="netback.ring.responses-published",
    rule="ring.responses-published",
    side=Side.NETBACK,
    hint="write the slot, then rsp_prod",
)
def responses_published(peer: FrontendPeer, _: object) -> None:
    """Whenever an event comes, what is below rsp_prod is a response, and no more than was asked."""
    seen: list[int] = []

    def look() -> None:
        produced = peer.index("rsp_prod")
        asked = peer.index("req_prod")
        if (asked - produced) & 0xFFFFFFFF > SLOTS:
            seen.append(produced)

    peer.hv.on_event(peer.port(), look)
    post(peer, 120)
    written = [put(peer, chain(60, number=n)) for n in range(100)]
    peer.push_tx()
    peer.settle()
    judge(peer, written)
    if seen:
        raise Violation(f"rsp_prod {seen[0]} is ahead of req_prod", ring="tx")


@check(
    id="netback.ring.rewritten-tx",
    rule="ring.copy-once",
    side=Side.NETBACK,
    field=Field("what is written over the slots while they are copied", b"\xff" * 12, b""),
    accepts=ANSWERED,
    hint="copy each slot once; the id of a response is the one that was read",
)
def rewritten_tx(peer: FrontendPeer, value: bytes) -> None:
    """A tx slot that is rewritten while its packet is copied: the packet and its response are those
    of the slot that was read."""
    post(peer, 20)
    written = [put(peer, chain(60, number=n)) for n in range(8)]
    # The first one: a backend may read the others when it has copied that.
    with _rewriting(peer, [("tx", written[0].index, value)] if value else []):
        peer.push_tx()
        peer.settle()
    judge(peer, written)


@check(
    id="netback.ring.rewritten-rx",
    rule="ring.copy-once",
    side=Side.NETBACK,
    needs=frozenset({"sg"}),
    field=Field("what is written over the rx slots while they are filled", b"\xff" * 8, b""),
    accepts=ANSWERED,
    hint="copy each slot once: id and reference of a response are those that were read",
)
def rewritten_rx(peer: FrontendPeer, value: bytes) -> None:
    """An rx slot that is rewritten while its buffer is filled: the response is that of the slot
    that was read."""
    first = peer.index("req_prod_pvt", ring="rx")
    written = [put(peer, chain(3000, 3000)), put(peer, chain(60))]
    peer.push_tx()
    peer.settle()  # they are read; what is copied next goes into the buffers
    with _rewriting(peer, [("rx", first, value)] if value else []):
        post(peer, 8)
        peer.settle()
    judge(peer, written)


def _rewriting(
    peer: FrontendPeer, moves: Sequence[tuple[str, int, bytes]]
) -> AbstractContextManager[None]:
    """A context in which the slots of ``moves`` (ring, index, bytes) are rewritten once, at the
    first grant copy or mapping."""
    left = list(moves)

    def rewrite() -> None:
        while left:
            ring, index, raw = left.pop()
            if (index - peer.index("rsp_prod", ring=ring)) & 0xFFFFFFFF < SLOTS:
                peer.write_slot(index, raw, ring=ring)

    return at_hypercalls(peer, COPIES, rewrite)
