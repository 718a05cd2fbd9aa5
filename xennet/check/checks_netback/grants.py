"""References that cannot be used, in the slots of either ring."""

from __future__ import annotations

from functools import partial

from attrs import evolve

from xennet.abi.netif import NETRXF_more_data
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.grefs import BAD, GREFS
from xennet.check.checks_netback.judge import judge, post, receive
from xennet.check.checks_netback.rows import ANSWERED, REFUSES, SURVIVES, Row, enter
from xennet.check.checks_netback.tx_packets import Data, M, TxPacket, chain, of, put
from xennet.check.ip_frames import plain
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer

_STATUS = "look at the status of each element of a grant copy, and at that of a mapping"
_RULES = {"revoked": "grant.revoked"}
_SG = frozenset({"sg"})


def _of_three(at: int, value: str) -> list[TxPacket]:
    """A packet of three slots of which one has the reference ``value``, and a good one."""
    bad = Data(0, gref=GREFS[value], usable=value == "granted")
    slots = [Data(3000, M), Data(1000, M), Data(900)]
    slots[at] = evolve(bad, size=slots[at].size, flags=slots[at].flags)
    return [of(*slots), chain(61)]


enter(
    Row(
        f"netback.grant.tx-{name}",
        _RULES.get(name, "grant.bad-reference"),
        f"A packet whose reference is {name.replace('-', ' ')} is answered with an error; the "
        "ones beside it "
        "are delivered.",
        lambda value: [
            chain(60),
            of(Data(200, gref=GREFS[value], usable=value == "granted")),
            chain(61),
        ],
        Field("reference of the second packet", name, "granted"),
        hint=_STATUS,
    )
    for name in BAD
)

enter(
    Row(
        f"netback.grant.tx-{place}-slot",
        "grant.copy-status",
        f"The {place} slot of a packet cannot be read: nothing of the packet is delivered.",
        partial(_of_three, at),
        Field(f"reference of the {place} slot", "unused", "granted"),
        needs=_SG,
        hint=_STATUS,
    )
    for at, place in enumerate(("first", "second", "last"))
)

enter(
    [
        Row(
            "netback.grant.tx-readonly",
            "grant.readonly",
            "A page that is granted read-only can be sent from.",
            lambda _: [of(Data(60, gref=GREFS["readonly"]))],
            hint="map or copy pages of the tx ring read-only",
        ),
        Row(
            "netback.grant.tx-writable",
            "grant.readonly",
            "A page that may be written as well can be sent from.",
            lambda _: [of(Data(60, gref=lambda peer, content: peer.page(content).gref or 0))],
            hint="a page to be read may be granted for writing as well",
        ),
        Row(
            "netback.grant.tx-all-bad",
            "grant.bad-reference",
            "A ring half full of packets that cannot be read is answered with errors; the ring "
            "goes on.",
            lambda value: [of(Data(100, gref=GREFS[value], usable=value == "granted"))] * 100,
            Field("reference of all packets", "out-of-table", "granted"),
            hint=_STATUS,
        ),
    ]
)


def _same_page(peer: FrontendPeer, slots: int) -> None:
    frame = plain(64 * slots)
    page = peer.page(frame, readonly=True)
    reference = lambda _peer, _content: page.gref or 0  # noqa: E731
    post(peer, 4)
    packet = of(
        *[
            Data(64 * slots if not n else 64, M if n < slots - 1 else 0, 64 * n, gref=reference)
            for n in range(slots)
        ],
        frame=frame,
    )
    one = put(peer, packet)
    peer.push_tx()
    peer.settle()
    judge(peer, [one])


@check(
    id="netback.grant.tx-same-reference",
    rule="grant.same-page",
    side=Side.NETBACK,
    needs=_SG,
    hint="no table may be keyed by the reference",
)
def tx_same_reference(peer: FrontendPeer, _: object) -> None:
    """All slots of a packet are in one page, under one reference."""
    _same_page(peer, 6)


@check(
    id="netback.grant.tx-free-after-response",
    rule="grant.used-until-response",
    side=Side.NETBACK,
    needs=_SG,
    hint="unmap before the response is published (XSA-396)",
)
def tx_free_after_response(peer: FrontendPeer, _: object) -> None:
    """When a packet is answered, nobody holds its pages any more: their grants can be ended."""
    post(peer, 8)
    pages = [peer.page(plain(4096, n)) for n in range(3)]
    idents = [
        peer.tx(3 * 4096 if not n else 4096, M if n < 2 else 0, gref=page.gref)
        for n, page in enumerate(pages)
    ]
    peer.push_tx()
    peer.settle()
    answered = {response.id for response in peer.responses()}
    for ident, page in zip(idents, pages, strict=True):
        if ident in answered and not peer.end(page):
            raise Violation(
                f"the response with id {ident} is there, and its page is still in use", ring="tx"
            )
    receive(peer)


@check(
    id="netback.grant.tx-page-given-back",
    rule="grant.used-until-response",
    side=Side.NETBACK,
    field=Field("when the page is written again", "behind the response", "never"),
    accepts=ANSWERED,
    hint="what was answered is copied, or not answered before it has been used",
)
def tx_page_given_back(peer: FrontendPeer, value: str) -> None:
    """A page that is written again when its packet is answered does not change what was sent."""
    frame = plain(2000)
    page = peer.page(frame, readonly=True)
    ident = peer.tx(len(frame), gref=page.gref)
    peer.push_tx()
    peer.settle()
    answered = [response.id for response in peer.responses()]
    if ident not in answered:
        raise Violation("a packet for which no buffer is posted is not answered", ring="tx")
    if value != "never":
        page.run.u8[:] = bytes(4096)
        peer.end(page)
    post(peer, 4)
    peer.wait(lambda: peer.index("rsp_prod", ring="rx") != peer.index("rsp_cons", ring="rx"))
    came = receive(peer)
    if [one.frame for one in came] != [frame]:
        raise Violation("what came back is not what the page held before the response", ring="rx")


# -- receive buffers -------------------------------------------------------------------------------


def _into(peer: FrontendPeer, grefs: list[str], sizes: list[int]) -> None:
    """Post a buffer of each kind, then have a frame of each size echoed, and judge the slots."""
    posted = []
    for name in grefs:
        index = peer.index("req_prod_pvt", ring="rx")
        if name == "granted":
            peer.post_rx()
        else:
            peer.post_rx(gref=GREFS[name](peer, b""))
        posted.append((index, name))
    peer.push_rx()
    for number, size in enumerate(sizes):
        peer.send(plain(size, number))
    peer.push_tx()
    peer.settle()
    peer.responses()
    came = {response.index: response for response in peer.rx_responses()}
    for index, name in posted:
        response = came.get(index)
        if response is None:
            continue
        if name != "granted" and response.status >= 0:
            raise Violation(
                f"a buffer that cannot be written is answered with status {response.status}",
                ring="rx",
                index=index,
                raw=response.raw,
            )
        if response.status < 0 and (response.offset or response.flags & ~0x1F):
            raise Violation(
                "an error response has bits of the request in its offset or flags",
                ring="rx",
                index=index,
                raw=response.raw,
            )
    if grefs[0] == "granted" and len(came) < len(sizes):
        raise Violation("good buffers are posted, and not filled", ring="rx")


for _name in (*BAD, "readonly"):

    @check(
        id=f"netback.grant.rx-{_name}",
        rule="grant.readonly" if _name == "readonly" else _RULES.get(_name, "grant.bad-reference"),
        side=Side.NETBACK,
        field=Field("reference of the first buffer", _name, "granted"),
        accepts=REFUSES,
        hint="the status of the copy goes into the status of its slot; the ring goes on",
    )
    def rx_bad_reference(peer: FrontendPeer, value: str) -> None:
        """A buffer that cannot be written is answered with a negative status, and the next one is
        used."""
        _into(peer, [value, "granted", "granted"], [60, 61])


@check(
    id="netback.grant.rx-flags-of-an-error",
    rule="netif.rx.every-byte",
    side=Side.NETBACK,
    field=Field("reference of the buffer", 0xC, 0),
    accepts=SURVIVES,
    control_accepts=frozenset({Outcome.ANSWERED, Outcome.REFUSED}),
    hint="write all fields of an error response: its flags lie where the reference was",
)
def rx_flags_of_an_error(peer: FrontendPeer, value: int) -> None:
    """The response to a buffer whose reference is 12, the bits of more_data and extra_info, has no
    such flags."""
    index = peer.index("req_prod_pvt", ring="rx")
    for _ in range(2):
        peer.post_rx(gref=(1 << 20) + value)
    peer.push_rx()
    peer.send(plain(60))
    peer.push_tx()
    peer.settle()
    peer.responses()
    for response in peer.rx_responses():
        if response.index == index and response.flags:
            raise Violation(
                f"an error response has flags {response.flags:#06x}",
                ring="rx",
                index=index,
                raw=response.raw,
            )


@check(
    id="netback.grant.rx-second-of-three",
    rule="netif.rx.error-status",
    side=Side.NETBACK,
    needs=_SG,
    field=Field("reference of the second buffer", "unused", "granted"),
    accepts=REFUSES,
    hint="one response for each slot of a packet, whatever failed",
)
def rx_second_of_three(peer: FrontendPeer, value: str) -> None:
    """A packet of three slots of which one cannot be written has three responses."""
    first = peer.index("req_prod_pvt", ring="rx")
    for name in ("granted", value, "granted", "granted"):
        if name == "granted":
            peer.post_rx()
        else:
            peer.post_rx(gref=GREFS[name](peer, b""))
    peer.push_rx()
    peer.send(plain(3 * 4096))
    peer.push_tx()
    peer.settle()
    peer.responses()
    came = {response.index - first: response for response in peer.rx_responses()}
    if came and set(came) != {0, 1, 2}:
        raise Violation(f"a packet of three slots has {len(came)} responses", ring="rx")
    if value != "granted" and came and came[1].status >= 0:
        raise Violation("the slot that could not be written has no error", ring="rx")
    chained = [number for number, slot in came.items() if slot.flags & NETRXF_more_data]
    if came and sorted(chained) != [0, 1]:
        raise Violation(
            f"of three slots these have more_data: {sorted(chained)}",
            ring="rx",
            hint="an error changes the status of a slot and nothing of its chain",
        )


@check(
    id="netback.grant.rx-same-reference",
    rule="grant.same-page",
    side=Side.NETBACK,
    needs=_SG,
    hint="count slots, not changes of the reference",
)
def rx_same_reference(peer: FrontendPeer, _: object) -> None:
    """Buffers that share a page are answered one by one: 4196 bytes take two of them."""
    page = peer.page()
    first = peer.index("req_prod_pvt", ring="rx")
    for _number in range(3):
        peer.post_rx(gref=page.gref)
    peer.push_rx()
    for size, slots in ((4196, [4096, 100]), (60, [60])):
        peer.send(plain(size))
        peer.push_tx()
        peer.settle()
        peer.responses()
        came = peer.rx_responses()
        statuses = [response.status for response in came]
        if statuses != slots or [response.index - first for response in came] != list(
            range(len(slots))
        ):
            raise Violation(
                f"a packet of {size} bytes in buffers of one reference has statuses {statuses}",
                ring="rx",
                index=first,
            )
        first += len(slots)


@check(
    id="netback.grant.rx-within-status",
    rule="grant.within-page",
    side=Side.NETBACK,
    hint="copy as many bytes as the packet has",
)
def rx_within_status(peer: FrontendPeer, _: object) -> None:
    """Of a receive buffer only the bytes are written that the response tells of."""
    peer.post_rx(2)
    for page in peer.queues[0].buffers.values():
        page.run.u8[:] = b"\xa5" * 4096
    peer.push_rx()
    peer.send(plain(77))
    peer.push_tx()
    peer.settle()
    peer.responses()
    for came in receive(peer):
        (slot,) = came.slots
        page = peer.queues[0].buffers[slot.index & 0xFF]
        rest = bytes(page.run.u8[: slot.offset]) + bytes(page.run.u8[slot.offset + 77 :])
        if rest != b"\xa5" * len(rest):
            raise Violation(
                "bytes beside the packet are written", ring="rx", index=slot.index, raw=slot.raw
            )
