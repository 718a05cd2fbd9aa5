"""Transmit responses that break the protocol (rows B1 and B3 to B7 of docs/hardening.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from xennet.abi.netif import NETIF_RSP_NULL, NETIF_RSP_OKAY
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.sent_packets import SURVIVED, EchoEnd, Sent
from xennet.check.ip_frames import plain
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer

#: Packets that wait for their responses when a move begins.
_WAITING = 3
#: Packets that are published together.
_BATCH = 20
#: Answers what waits, with ``value`` in the field of the check.
Move = Callable[[EchoEnd, "list[Sent]", Any], None]


@frozen
class Answer:
    """One way to answer three packets: the ``move`` and its field with both values."""

    rule: str
    move: Move
    field: Field
    accepts: frozenset[Outcome] = SURVIVED
    hint: str = ""


def _status(end: EchoEnd, waiting: list[Sent], value: Any) -> None:
    """The second of three packets is answered with this status."""
    for number, sent in enumerate(waiting):
        end.put(sent.first.id, value if number == 1 else NETIF_RSP_OKAY)


def _id(end: EchoEnd, waiting: list[Sent], value: Any) -> None:
    """Three responses come for three packets; the id of the last is this one (-1: its own)."""
    for sent in waiting[:-1]:
        end.put(sent.first.id)
    own = waiting[-1].first.id
    end.put(own if value == -1 else value)


def _twice(end: EchoEnd, waiting: list[Sent], value: Any) -> None:
    """Three responses come for three packets; the last is for the packet of this number."""
    for number in (0, 1, value):
        end.put(waiting[number].first.id)


def _late(end: EchoEnd, waiting: list[Sent], value: Any) -> None:
    """A packet that was answered before is answered so many times more, in place of others."""
    old, *rest = waiting
    end.put(old.first.id)
    end.peer.push_tx()
    end.peer.settle()
    for number, sent in enumerate(rest):
        end.put(old.first.id if number < value else sent.first.id)


def _table() -> dict[str, Answer]:
    found: dict[str, Answer] = {}

    def answers(
        rule: str,
        move: Move,
        name: str,
        control: Any,
        values: dict[str, Any],
        hint: str,
        **more: Any,
    ) -> None:
        for key, value in values.items():
            found[check_id(Side.NETFRONT, rule, key)] = Answer(
                rule, move, Field(name, value, control), hint=hint, **more
            )

    answers(
        "netif.front.tx.error-response",
        _status,
        "status",
        NETIF_RSP_OKAY,
        {"error": -1, "dropped": -2, "other": -77, "most-negative": -0x8000, "positive": 2},
        "a response frees its slot, whatever its status",
    )
    answers(
        "netif.front.tx.null-response",
        _status,
        "status",
        NETIF_RSP_OKAY,
        {"null": NETIF_RSP_NULL},
        "NULL answers extra info slots; count those, or free the slot",
    )
    answers(
        "ring.front.response-id",
        _id,
        "id of the response",
        -1,
        {"256": 256, "1000": 1000, "65535": 65535, "32768": 0x8000},
        "compare the id with the number of your slots before it is an index",
    )
    answers(
        "ring.front.response-pending",
        _id,
        "id of the response",
        -1,
        {"never-sent": 200},
        "keep a mark for each id that says whether it is pending",
    )
    answers(
        "ring.front.response-pending",
        _twice,
        "number of the packet answered last",
        2,
        {"twice-at-once": 1, "first-again": 0},
        "the mark goes with the first response",
    )
    answers(
        "ring.front.response-pending",
        _late,
        "responses that are for the first packet again",
        0,
        {"late-again": 1, "late-twice": 2},
        "the mark goes with the first response",
    )
    return found


def _waiting(end: EchoEnd) -> list[Sent]:
    """Three packets that the netfront has sent back and that are not answered."""
    for number in range(_WAITING):
        end.peer.deliver(plain(60, number))
    end.push()
    found = end.collect(_WAITING)
    if len(found) != _WAITING:
        raise Violation(f"of {_WAITING} packets {len(found)} are sent back", ring="tx")
    return found


def _flood(end: EchoEnd, number: int) -> None:
    """Whatever became of the move: of forty packets that are sent back none has the id of another
    one that is pending, which EchoEnd.take would tell."""
    for i in range(min(40, end.peer.buffers())):
        end.peer.deliver(plain(60, number + i))
    end.push()
    end.answer(*end.take())


def _enter(name: str, answer: Answer) -> None:
    def play(peer: BackendPeer, value: Any) -> None:
        end = EchoEnd(peer)
        waiting = _waiting(end)
        answer.move(end, waiting, value)
        peer.push_tx()
        peer.settle()
        _flood(end, 100)

    told = (answer.move.__doc__ or "").partition("\n\n")[0].rstrip(".")
    play.__doc__ = (
        f"{told}, {answer.field.name} = {answer.field.hostile}: no slot is lost or freed."
    )
    check(
        id=name,
        rule=answer.rule,
        side=Side.NETFRONT,
        accepts=answer.accepts,
        field=answer.field,
        hint=answer.hint,
        may_hold=True,
    )(play)


for _name, _answer in _table().items():
    _enter(_name, _answer)


def _enter_index(key: str, ahead: int) -> None:
    def play(peer: BackendPeer, value: Any) -> None:
        end = EchoEnd(peer)
        waiting = _waiting(end)
        for sent in waiting:
            end.put(sent.first.id)
        right = peer.index("rsp_prod_pvt")
        peer.set_index("rsp_prod", right + value)
        peer.notify()
        peer.settle()
        peer.set_index("rsp_prod", right)
        _flood(end, 100)

    play.__doc__ = f"rsp_prod of the transmit ring stands {ahead} past what was answered."
    check(
        id=f"netfront.ring.rsp-prod-overflow-tx-{key}",
        rule="ring.front.rsp-prod-overflow",
        side=Side.NETFRONT,
        accepts=SURVIVED,
        field=Field("rsp_prod, beside its right value", ahead, 0),
        hint="compare rsp_prod with what was requested before a response is read",
        may_hold=True,
    )(play)


for _key, _ahead in {"one": 1, "ring": 256, "ring-and-one": 257, "half": 0x80000000}.items():
    _enter_index(_key, _ahead)


@check(
    id="netfront.ring.rsp-prod-backwards-tx",
    rule="ring.front.rsp-prod-backwards",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("rsp_prod, beside its right value", -1, 0),
    hint="an index that moves backwards is no work",
    may_hold=True,
)
def tx_backwards(peer: BackendPeer, value: Any) -> None:
    """rsp_prod of the transmit ring goes back by one."""
    end = EchoEnd(peer)
    end.answer(*_waiting(end))
    right = peer.index("rsp_prod_pvt")
    peer.set_index("rsp_prod", right + value)
    peer.notify()
    peer.settle()
    peer.set_index("rsp_prod", right)
    _flood(end, 100)


@check(
    id="netfront.tx.null-response-many",
    rule="netif.front.tx.null-response",
    side=Side.NETFRONT,
    accepts=SURVIVED,
    field=Field("status of 300 responses", NETIF_RSP_NULL, NETIF_RSP_OKAY),
    hint="NULL answers extra info slots; count those, or free the slot",
    may_hold=True,
)
def many_nulls(peer: BackendPeer, value: Any) -> None:
    """Three hundred packets are answered NULL: it gives the vif up at once, or loses no slot by
    it."""
    end = EchoEnd(peer)
    for number in range(0, 300, _BATCH):
        for i in range(min(_BATCH, peer.buffers())):
            end.peer.deliver(plain(60, number + i))
        end.push()
        came = end.take()
        if not came:
            if number > 2 * _BATCH:
                raise Violation(f"no more is sent after {number} NULL responses", ring="tx")
            break
        end.answer(*came, status=value)
