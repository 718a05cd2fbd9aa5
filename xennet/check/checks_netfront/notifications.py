"""When a netfront notifies, and what it does about events (ring.h, event_channel.h)."""

from __future__ import annotations

from typing import Any

from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netfront.sent_packets import SURVIVED, EchoEnd, enter_with
from xennet.check.ip_frames import plain
from xennet.check.peers import BackendPeer

#: How far ahead an event index is that no push reaches.
_FAR = 200
_NO_SPLIT = {"feature-split-event-channels": 0}


def _not_before(peer: BackendPeer, ring: str, ahead: int) -> None:
    """Ask for an event at the request so many places behind those that are published."""
    peer.set_index("req_event", peer.index("req_prod", ring=ring) + ahead, ring=ring)


def _events(peer: BackendPeer) -> int:
    return peer.queues[0].tx_events + peer.queues[0].rx_events


@check(
    id="netfront.ring.notify-if-asked-tx",
    rule="ring.front.notify-if-asked",
    side=Side.NETFRONT,
    hint="RING_PUSH_REQUESTS_AND_CHECK_NOTIFY says whether to send an event",
)
def notify_tx(peer: BackendPeer, value: Any) -> None:
    """A request that reaches req_event brings an event, ten times over."""
    end = EchoEnd(peer)
    end.echoed(plain(60))  # which asks for the next one
    for number in range(10):
        _not_before(peer, "rx", _FAR)
        before = _events(peer)
        sent = end.returned(plain(60, number))
        if not peer.wait(lambda one=before: _events(peer) > one):  # type: ignore[misc]
            raise Violation(
                f"request {sent.first.index} reached req_event, and no event came", ring="tx"
            )
        end.answer(sent)


@check(
    id="netfront.ring.no-notify-unasked-tx",
    rule="ring.front.no-notify-unasked",
    side=Side.NETFRONT,
    hint="compare the new req_prod, and the one before, with req_event",
)
def no_notify_tx(peer: BackendPeer, value: Any) -> None:
    """Requests that do not reach req_event bring no event."""
    end = EchoEnd(peer)
    end.echoed(plain(60))
    _not_before(peer, "tx", _FAR)
    _not_before(peer, "rx", _FAR)
    before = _events(peer)
    for number in range(10):
        peer.deliver(plain(60, number))
        end.push()
    peer.rest()
    if (came := _events(peer) - before) > 0:
        raise Violation(f"{came} events came for requests that ask for none", ring="tx")
    end.answer(*end.collect(10))


@check(
    id="netfront.ring.notify-if-asked-rx",
    rule="ring.front.notify-if-asked",
    side=Side.NETFRONT,
    needs={"rx-notify"},
    hint="posting buffers is a push like any other",
)
def notify_rx(peer: BackendPeer, value: Any) -> None:
    """Buffers that are posted up to req_event of the receive ring bring an event."""
    end = EchoEnd(peer)
    end.echoed(plain(60))
    _not_before(peer, "rx", 1)
    before, posted = _events(peer), peer.index("req_prod", ring="rx")
    _not_before(peer, "tx", _FAR)
    for number in range(80):  # a frontend may wait until it is worth it
        peer.rx(b"", status=-1)
        end.push()
        if peer.index("req_prod", ring="rx") != posted and _events(peer) > before:
            return
        end.answer(*end.take())
        _not_before(peer, "tx", _FAR)
        if number > 64 and peer.index("req_prod", ring="rx") == posted:
            break
    raise Violation("buffers were posted up to req_event, and no event came", ring="rx")


@check(
    id="netfront.ring.final-check-tx",
    rule="ring.front.final-check",
    side=Side.NETFRONT,
    hint="set rsp_event behind what was taken, then look at rsp_prod once more",
)
def final_check_tx(peer: BackendPeer, value: Any) -> None:
    """With one request outstanding a netfront that rests has asked for the event of its response,
    however often before."""
    end = EchoEnd(peer)
    for number in range(30):
        sent = end.returned(plain(60, number))
        asked, there = peer.index("rsp_event"), peer.index("rsp_prod")
        if (asked - there) & 0xFFFFFFFF != 1:
            raise Violation(
                f"the next response has index {there}, and rsp_event is {asked}: nobody will "
                "notify it",
                ring="tx",
            )
        end.answer(sent)


@check(
    id="netfront.ring.final-check-rx",
    rule="ring.front.final-check",
    side=Side.NETFRONT,
    hint="set rsp_event behind what was taken, then look at rsp_prod once more",
)
def final_check_rx(peer: BackendPeer, value: Any) -> None:
    """A netfront that rests has asked for the event of the next packet."""
    end = EchoEnd(peer)
    for number in range(30):
        end.echoed(plain(60, number))
        asked = peer.index("rsp_event", ring="rx")
        there = peer.index("rsp_prod", ring="rx")
        if (asked - there) & 0xFFFFFFFF != 1:
            raise Violation(
                f"the next response has index {there}, and rsp_event is {asked}: nobody will "
                "notify it",
                ring="rx",
            )


@check(
    id="netfront.ring.final-check-garbage-before",
    rule="ring.front.final-check",
    side=Side.NETFRONT,
    hint="ask for the next event on every way out of a pass, errors too",
)
def final_check_garbage(peer: BackendPeer, value: Any) -> None:
    """A packet that is dropped and a good one behind it are published together; the good one
    arrives, and the next is announced again (field bug 15)."""
    end = EchoEnd(peer)
    for number in range(10):
        frame = plain(60, number)
        peer.rx(b"", status=-1)
        peer.deliver(frame)
        end.push()
        came = end.collect(1)
        if [sent.frame for sent in came] != [frame]:
            raise Violation("the packet behind one that was dropped does not arrive", ring="rx")
        end.answer(*came)


@check(
    id="netfront.event.spurious",
    rule="event.front.spurious",
    side=Side.NETFRONT,
    hint="an event says to look; it does not say that there is something",
)
def spurious(peer: BackendPeer, value: Any) -> None:
    """Events without work change nothing on either ring."""
    end = EchoEnd(peer)
    end.echoed(plain(60))
    before = {ring: peer.index("req_prod", ring=ring) for ring in ("tx", "rx")}
    for _ in range(5):
        for ring in ("tx", "rx"):
            peer.notify(ring)
            peer.rest()
    after = {ring: peer.index("req_prod", ring=ring) for ring in ("tx", "rx")}
    if before != after:
        raise Violation(f"events without work moved req_prod from {before} to {after}")


@check(
    id="netfront.event.work-without-event",
    rule="event.front.work-without-event",
    side=Side.NETFRONT,
    hint="look at the indices, not at what the event was for",
)
def work_without_event(peer: BackendPeer, value: Any) -> None:
    """Three packets that are published without an event are there at the next event, which is one
    for both rings or either."""
    end = EchoEnd(peer)
    frames = [plain(60, number) for number in range(3)]
    for frame in frames:
        peer.deliver(frame)
        peer.set_index("rsp_prod", peer.index("rsp_prod_pvt", ring="rx"), ring="rx")
    peer.notify("rx")
    came = end.collect(3)
    if [sent.frame for sent in came] != frames:
        raise Violation(f"of 3 packets {len(came)} are sent back", ring="rx")
    end.answer(*came)


@check(
    id="netfront.event.storm",
    rule="event.front.storm",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("events without work", 400, 0),
    hint="end an event late where the one before had no work (late EOI), or just look and return",
)
def storm(peer: BackendPeer, value: Any) -> None:
    """Four hundred events without work, and a packet after each fiftieth: all are served."""
    end = EchoEnd(peer)
    for number in range(value):
        peer.notify("tx" if number & 1 else "rx")
        peer.rest()
        if number % 50 == 49:
            end.echoed(plain(60, number))
    end.echoed(plain(60))


@check(
    id="netfront.event.closed-port",
    rule="event.front.closed-port",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    probe=False,
    hint="a channel may lose its other end at any time",
)
def closed_port(peer: BackendPeer, value: Any) -> None:
    """The backend closes its ends of the channels while there is traffic; the netfront comes to no
    harm, and closes when it is told to."""
    end = EchoEnd(peer)
    sent = end.returned(plain(60))
    peer.close_ports()
    end.put(sent.first.id)
    peer.set_index("rsp_prod", peer.index("rsp_prod_pvt"))
    peer.rest()
    peer.set_state(5)
    if not peer.wait(lambda: peer.otherend_state in (5, 6)):
        raise Violation(
            f"it is in state {peer.otherend_state} though its backend closes",
            path=peer.otherend.node("state"),
        )


@check(
    id="netfront.event.wrong-channel",
    rule="event.front.work-without-event",
    side=Side.NETFRONT,
    needs={"split-channels"},
    accepts=SURVIVED,
    field=Field("channel of the event for a packet", "tx", "rx"),
    hint="an event of the other ring's channel is an event without work there",
)
def wrong_channel(peer: BackendPeer, value: Any) -> None:
    """The event for a packet comes by the transmit ring's channel: it is late at worst."""
    end = EchoEnd(peer)
    frame = plain(60)
    peer.deliver(frame)
    peer.set_index("rsp_prod", peer.index("rsp_prod_pvt", ring="rx"), ring="rx")
    peer.notify(value)
    peer.rest()
    came = end.take()
    if not came:
        peer.notify("rx")
        came = end.collect(1)
    if [sent.frame for sent in came] != [frame]:
        raise Violation("a packet does not arrive", ring="rx")
    end.answer(*came)


@check(
    id="netfront.ring.notify-if-asked-one-channel",
    rule="ring.front.notify-if-asked",
    side=Side.NETFRONT,
    connect=False,
    hint="one channel serves both rings then, in both directions",
)
def one_channel(peer: BackendPeer, value: Any) -> None:
    """With a backend that does not split channels both rings are served by one."""
    enter_with(peer, _NO_SPLIT)
    if peer.otherend.optional_text("event-channel-tx"):
        raise Violation(
            "split channels are published to a backend that does not know them",
            path=peer.otherend.node("event-channel-tx"),
        )
    end = EchoEnd(peer)
    for number in range(10):
        before = _events(peer)
        sent = end.returned(plain(60, number))
        if not peer.wait(lambda one=before: _events(peer) > one):  # type: ignore[misc]
            raise Violation("a request that was asked for brings no event", ring="tx")
        end.answer(sent)
