"""Events about single packets and slots, as kernels log them.

A kernel that is given a log appends one record (what, ring index, two values, refusal) for each
packet that it handled and for each fault; :func:`take` makes a :class:`RingEvent` of each record
and empties the log. Without an observer the log is a bare header, and kernels write nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from xennet.abi.grant_table import GNTST_NAMES
from xennet.engine.kernel import LOG_HEADER, LOG_LOST, LOG_RECORD, LOG_USED
from xennet.interface import Hypervisor
from xennet.observe import Event
from xennet.vif.refusals import REFUSALS

# What a record says. Its values, at most two, are named in _KINDS.
TX_PACKET = 1
TX_REFUSED = 2
TX_COPY_FAILED = 3
RX_PACKET = 4
RX_COPY_FAILED = 5
TX_SENT = 6
TX_RESPONSE = 7
RX_RECEIVED = 8
RX_DROPPED = 9
TX_BAD_CSUM = 10

#: what -> (ring, name, names of the values).
_KINDS = {
    TX_PACKET: ("tx", "packet from the guest", ("slots", "bytes")),
    TX_REFUSED: ("tx", "packet answered ERROR", ("slots", "bytes")),
    TX_COPY_FAILED: ("tx", "grant copy failed", ("status", "gref")),
    RX_PACKET: ("rx", "packet to the guest", ("slots", "bytes")),
    RX_COPY_FAILED: ("rx", "grant copy failed", ("status", "gref")),
    TX_SENT: ("tx", "packet sent", ("slots", "bytes")),
    TX_RESPONSE: ("tx", "response", ("id", "status")),
    RX_RECEIVED: ("rx", "packet received", ("slots", "bytes")),
    RX_DROPPED: ("rx", "packet dropped", ("slots", "bytes")),
    TX_BAD_CSUM: ("tx", "packet answered OKAY and dropped", ("bytes",)),
}
#: Records whose first value is a GNTST_ code.
_COPIES = frozenset((TX_COPY_FAILED, RX_COPY_FAILED))

#: Records in the log of one kernel call: a ring full of packets, each with a failed slot.
RECORDS = 1024


@frozen(repr=False)
class RingEvent(Event):
    """One packet or slot.

    ``index`` is the ring index (0..2^32-1) at which it begins. ``values`` are named: slots and
    bytes of a packet, status (GNTST_bad_gntref ...) and gref of a copy, id and status (NETIF_RSP_
    number) of a response. ``rule`` is the hardening rule by which it was refused though the ring
    goes on (F3, B8 ...), or for which the other end was given up (F5, B3 ...), and ``why`` the
    refusal in words; both are "" if nothing was refused.
    """

    domid: int
    ring: str
    what: str
    index: int
    values: tuple[tuple[str, int | str], ...]
    rule: str = ""
    why: str = ""


def tell_refused(
    hv: Hypervisor, ring: str, what: str, index: int, refusal: int, **values: int | str
) -> None:
    """Emit that something was refused for the reason ``refusal`` (xennet.vif.refusals), if it is
    observed."""
    if hv.interest(RingEvent).any:
        hv.emit(_event(hv.domid, ring, what, index, values, refusal))


def tell_given_up(
    hv: Hypervisor, end: str, ring: str, index: int, raw: Sequence[int], rule: str, why: str
) -> None:
    """Emit that the other ``end``, "frontend" or "backend", broke ``rule`` beyond repair, if it is
    observed. ``raw``: the words that were read at ``index``."""
    if hv.interest(RingEvent).any:
        values = tuple((f"word {at}", f"{word:#010x}") for at, word in enumerate(raw))
        hv.emit(RingEvent(hv.domid, ring, f"{end} given up", index, values, rule, why))


def _event(
    domid: int, ring: str, what: str, index: int, values: Mapping[str, int | str], refusal: int
) -> RingEvent:
    reason = REFUSALS[refusal]
    return RingEvent(domid, ring, what, index, tuple(values.items()), reason.rule, reason.text)


@frozen(repr=False)
class EventsLost(Event):
    """``count`` ring events of a pass did not fit into its log."""

    domid: int
    count: int


def silent_log() -> array[int]:
    """A log that is off."""
    return array("q", (LOG_HEADER, 0))


def new_log() -> array[int]:
    """An empty log for one kernel call."""
    log = array("q", bytes(8 * (LOG_HEADER + LOG_RECORD * RECORDS)))
    log[LOG_USED] = LOG_HEADER
    return log


def take(domid: int, log: array[int]) -> Iterator[RingEvent | EventsLost]:
    """Yield the records of ``log`` as events, in order; the log is empty afterwards."""
    used, lost = log[LOG_USED], log[LOG_LOST]
    log[LOG_USED], log[LOG_LOST] = LOG_HEADER, 0
    for at in range(LOG_HEADER, used, LOG_RECORD):
        what, index, first, second, refusal = log[at : at + LOG_RECORD]
        ring, name, keys = _KINDS[what]
        status = GNTST_NAMES.get(first, first) if what in _COPIES else first
        values = dict(zip(keys, (status, second), strict=False))
        yield _event(domid, ring, name, index, values, refusal)
    if lost:
        yield EventsLost(domid, lost)
