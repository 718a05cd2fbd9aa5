"""Checks as rows of a table: packets for the tx ring, of which one field may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import frozen

from xennet.check.check import Field, Side, check
from xennet.check.checks_netback.judge import play
from xennet.check.checks_netback.tx_packets import TxPacket
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer

ANSWERED = frozenset({Outcome.ANSWERED})
#: Accepted of a wrong packet: it is refused, or its sender is given up.
REFUSES = frozenset({Outcome.REFUSED, Outcome.SHUT_DOWN})
#: Accepted of what a backend may take or not, if it goes on.
GOES_ON = frozenset({Outcome.ANSWERED, Outcome.REFUSED})
#: Accepted of what nothing depends on but that the backend survives it.
SURVIVES = GOES_ON | {Outcome.SHUT_DOWN}


@frozen
class Row:
    """A check: ``packets(value)`` are published together and judged one by one
    (xennet.check.checks_netback.judge); the rest is as in :class:`~xennet.check.check.Check`."""

    id: str
    rule: str
    summary: str
    packets: Callable[[Any], Sequence[TxPacket]]
    field: Field | None = None
    accepts: frozenset[Outcome] = REFUSES
    needs: frozenset[str] = frozenset()
    hint: str = ""


def always(*packets: TxPacket) -> Callable[[Any], Sequence[TxPacket]]:
    """What makes the same packets whatever the value is."""
    return lambda _: packets


def enter(rows: Iterable[Row]) -> None:
    """Make a check of each row; one without a field is about good packets, which are answered."""
    for row in rows:
        _enter(row)


def _enter(row: Row) -> None:
    def put_on_the_ring(peer: FrontendPeer, value: Any) -> None:
        play(peer, row.packets(value))

    put_on_the_ring.__doc__ = row.summary
    check(
        id=row.id,
        rule=row.rule,
        side=Side.NETBACK,
        accepts=ANSWERED if row.field is None else row.accepts,
        needs=row.needs,
        field=row.field,
        hint=row.hint,
    )(put_on_the_ring)
