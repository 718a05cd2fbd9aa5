"""What kernels say about single packets and slots, when somebody listens.

A kernel that is given a log appends one record (what, ring index, two values) for each packet it
handled and each thing that went wrong; :func:`take` turns the records into :class:`RingEvent` and
empties the log. Without an observer the log is a bare header, and kernels write nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from attrs import frozen

from xennet.kernel import LOG_HEADER, LOG_LOST, LOG_RECORD, LOG_USED

# What happened. The two values are named in _KINDS.
TX_PACKET = 1
TX_REFUSED = 2
TX_COPY_FAILED = 3
RX_PACKET = 4
RX_COPY_FAILED = 5
TX_SENT = 6
TX_RESPONSE = 7
RX_RECEIVED = 8
RX_DROPPED = 9

#: what -> (ring, name, names of the two values)
_KINDS = {
    TX_PACKET: ("tx", "packet from the guest", ("slots", "bytes")),
    TX_REFUSED: ("tx", "packet answered ERROR", ("slots", "bytes")),
    TX_COPY_FAILED: ("tx", "grant copy failed", ("status", "gref")),
    RX_PACKET: ("rx", "packet to the guest", ("slots", "bytes")),
    RX_COPY_FAILED: ("rx", "grant copy failed", ("status", "gref")),
    TX_SENT: ("tx", "packet sent", ("slots", "bytes")),
    TX_RESPONSE: ("tx", "response", ("id", "status")),
    RX_RECEIVED: ("rx", "packet received", ("slots", "bytes")),
    RX_DROPPED: ("rx", "packet dropped", ("slots", "reason")),
}

#: Records that fit the log of one kernel call: a ring full of packets, each with a failed slot.
RECORDS = 1024


@frozen
class RingEvent:
    """One packet or slot. ``index`` is the ring index (0..2^32-1) at which it begins; ``values``
    are named: slots and bytes of a packet, status and gref of a copy, id and status of a response.
    """

    domid: int
    ring: str
    what: str
    index: int
    values: tuple[tuple[str, int], ...]


@frozen
class EventsLost:
    """``count`` ring events of a pass did not fit its log."""

    domid: int
    count: int


def silent_log() -> array[int]:
    """A log that takes nothing."""
    return array("q", (LOG_HEADER, 0))


def new_log() -> array[int]:
    """An empty log for one kernel call."""
    log = array("q", bytes(8 * (LOG_HEADER + LOG_RECORD * RECORDS)))
    log[LOG_USED] = LOG_HEADER
    return log


def take(domid: int, log: array[int]) -> Iterator[RingEvent | EventsLost]:
    """The records of ``log`` in order; the log is empty afterwards."""
    used, lost = log[LOG_USED], log[LOG_LOST]
    log[LOG_USED], log[LOG_LOST] = LOG_HEADER, 0
    for at in range(LOG_HEADER, used, LOG_RECORD):
        what, index, first, second = log[at : at + LOG_RECORD]
        ring, name, keys = _KINDS[what]
        yield RingEvent(domid, ring, name, index, ((keys[0], first), (keys[1], second)))
    if lost:
        yield EventsLost(domid, lost)
