"""Deliveries of one vif that only sends, made by a kernel in place of the run loop.

It calls the kernels that the drivers call, in the order in which the run loop would have them
called, and keeps the books that Python keeps around them: what is ready, what was counted, which
events were asked for. It has no rule of a ring of its own. :mod:`xennet.link.joined` says when that
may be, and puts the books back into place.

    run_deliveries       the run loop: the oldest delivery that is ready, again and again
      poll_front           netfront: Queue._poll, poll_tx
        send_frames          TxPass.put_requests, of the frames of a port (put_numbered)
      poll_back            netback: Queue._poll, poll_tx
      hear_front           netfront: Queue._tx_event
      hear_back            netback: Queue._tx_event

The bits of an event are not written: :meth:`xennet.evtchn.EventChannels.settled` has seen to it
that a send that is delivered leaves all as it was.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from xennet.abi.words import REQ_PROD, RSP_PROD, TX_SLOTS
from xennet.engine.kernel import Frames, Ring, U32Array, Vector
from xennet.frames import CSUM_BLANK
from xennet.gnttab.copy import grant_copy
from xennet.netback.guest_tx import OK as BACK_OK
from xennet.netback.guest_tx import (
    R_BAD_CSUM,
    R_CSUM_FIXUP,
    R_FLAGS_SEEN,
    R_OPS,
    R_SLOTS,
    await_requests,
    put_responses,
    take_requests,
)
from xennet.netback.guest_tx import R_BYTES as BACK_R_BYTES
from xennet.netback.guest_tx import R_ERRORS as BACK_R_ERRORS
from xennet.netback.guest_tx import R_NOTIFY as BACK_R_NOTIFY
from xennet.netback.queue import TX_WORK
from xennet.netback.tx_checksum import judge_checksums
from xennet.netfront.guest_tx import OK as FRONT_OK
from xennet.netfront.guest_tx import R_BYTES as FRONT_R_BYTES
from xennet.netfront.guest_tx import R_ERRORS as FRONT_R_ERRORS
from xennet.netfront.guest_tx import (
    R_EXTRAS,
    R_MORE,
    R_REQUESTS,
    R_RESPONSES,
    R_UNSENDABLE,
    S_FREE,
    put_requests,
    take_responses,
)
from xennet.netfront.guest_tx import R_NOTIFY as FRONT_R_NOTIFY
from xennet.port.numbered import Numbered, put_numbered
from xennet.ring import BACK_REQ_CONS, FRONT_RSP_CONS

# Deliveries.
FRONT_WORK = 0
BACK_WORK = 1
FRONT_EVENT = 2
BACK_EVENT = 3

# Why run_deliveries ended.
#: All deliveries that were allowed are made, or none is ready.
MADE = 0
#: The next delivery is not like those before, and was not made.
NOT_MADE = 1
#: The frontend, or the backend, is within a delivery: responses, or requests, were taken, with a
#: verdict.
FRONT_STOPS = 2
BACK_STOPS = 3

#: Deliveries that are ready, and those that were made last: a ring of so many.
LOOP = 64
_LOOP_MASK = LOOP - 1

# Places in the books: first what is ready. The oldest delivery is at HEAD, READY of them are.
HEAD = 0
READY = 1
STEPS = 2
#: The number of the last work item that was deferred.
IDENT = 3
#: By FRONT_WORK, BACK_WORK: whether the work is ready; by FRONT_EVENT, BACK_EVENT: the event.
DUE = 4
#: The rings on which the backend has work.
WORK = 8
#: The indices that the ends saw with the last event.
FRONT_SEEN = 9
BACK_SEEN = 10
# The batch of the frontend: the next frame, frames, bytes; how many are alike but for a number.
NEXT = 11
FRAMES = 12
USED = 13
ALIKE = 14
# The port: bytes of a frame, how many it has given, how many are left.
SIZE = 15
GIVEN = 16
LEFT = 17
#: The batch of the backend: frames and bytes.
BACK_FRAMES = 18
BACK_USED = 19
# Sums: of the frontend,
RESPONSES = 20
REFUSED = 21
UNSENDABLE = 22
SENT = 23
SENT_BYTES = 24
SENT_SLOTS = 25
SENT_EXTRAS = 26
#: by FRONT_EVENT and BACK_EVENT, the one who is notified: notifications sent, and avoided;
NOTIFIED = 27 - FRONT_EVENT
AVOIDED = 29 - FRONT_EVENT
# of the backend,
ARRIVED = 31
ARRIVED_BYTES = 32
ARRIVED_SLOTS = 33
ERRORS = 34
CSUM_FIXUP = 35
BAD_CSUM = 36
# and of the hypervisor: copies that did not fail.
COPIES = 37
BOOKS = 38

#: The fixed arguments of a kernel.
Args: TypeAlias = tuple[Any, ...]
#: codes, idents: the deliveries, and the numbers of those that are work items.
Loop: TypeAlias = "tuple[U32Array, Vector]"
#: ring, frames, timestamp, state, res, then the fixed arguments of put_requests, take_responses.
Front: TypeAlias = "tuple[Ring, Frames, Vector, Vector, Vector, Args, Args]"
#: ring, ops, res, caller, then the fixed arguments of take_requests, grant_copy, put_responses,
#: judge_checksums.
Back: TypeAlias = "tuple[Ring, U32Array, Vector, int, Args, Args, Args, Args]"


def run_deliveries(
    most: int,
    log: Vector,
    books: Vector,
    loop: Loop,
    front: Front,
    back: Back,
    numbered: Numbered,
) -> int:
    """Make at most ``most`` deliveries, the oldest first. Returns why it ended."""
    codes, _idents = loop
    outcome = MADE
    while most and books[READY] and outcome == MADE:
        code = codes[books[HEAD] & _LOOP_MASK]
        if code == FRONT_WORK:
            outcome = poll_front(log, books, loop, front, numbered)
        elif code == BACK_WORK:
            outcome = poll_back(log, books, loop, back)
        elif code == FRONT_EVENT:
            outcome = hear_front(books, loop, front)
        else:
            outcome = hear_back(books, loop, back)
        most -= 1
    return outcome


def begin(books: Vector, code: int) -> None:
    """Take the oldest delivery: it is being made."""
    books[HEAD] += 1
    books[READY] -= 1
    books[STEPS] += 1
    books[DUE + code] = 0


def become_ready(books: Vector, loop: Loop, code: int) -> None:
    """Make a delivery ready if it is not (RunLoop.post, defer)."""
    if books[DUE + code]:
        return
    codes, idents = loop
    at = (books[HEAD] + books[READY]) & _LOOP_MASK
    codes[at] = code
    if code < FRONT_EVENT:  # a work item
        books[IDENT] += 1
        idents[at] = books[IDENT]
    books[READY] += 1
    books[DUE + code] = 1


def announce(books: Vector, loop: Loop, event: int, notify: int) -> None:
    """Count a push, and send the event that was asked for."""
    if notify:
        books[NOTIFIED + event] += 1
        become_ready(books, loop, event)
    else:
        books[AVOIDED + event] += 1


def hear_front(books: Vector, loop: Loop, front: Front) -> int:
    """The frontend's event. One that brings nothing new is left to others (F19)."""
    ring, _frames, _timestamp, _state, _res, _put_args, _take_args = front
    page, pvt = ring
    published = page[RSP_PROD]
    if published == books[FRONT_SEEN]:
        return NOT_MADE
    begin(books, FRONT_EVENT)
    books[FRONT_SEEN] = published
    if published != pvt[FRONT_RSP_CONS]:
        become_ready(books, loop, FRONT_WORK)
    return MADE


def hear_back(books: Vector, loop: Loop, back: Back) -> int:
    """The backend's event. One that brings nothing new is left to others (F19)."""
    ring, _ops, _res, _caller, _take_args, _copy_args, _put_args, _judge_args = back
    page, pvt = ring
    published = page[REQ_PROD]
    if published == books[BACK_SEEN]:
        return NOT_MADE
    begin(books, BACK_EVENT)
    books[BACK_SEEN] = published
    if published != pvt[BACK_REQ_CONS]:
        books[WORK] |= TX_WORK
        become_ready(books, loop, BACK_WORK)
    return MADE


def poll_front(log: Vector, books: Vector, loop: Loop, front: Front, numbered: Numbered) -> int:
    """The frontend's work: take responses, then send. A port that does not have a ring full of
    frames any more is left to others."""
    ring, _frames, _timestamp, state, res, _put_args, take_args = front
    page, pvt = ring
    if books[NEXT] == books[FRAMES] and books[LEFT] < TX_SLOTS:
        return NOT_MADE
    begin(books, FRONT_WORK)
    more = 0
    if page[RSP_PROD] != pvt[FRONT_RSP_CONS]:
        verdict = take_responses(log, *take_args)
        if verdict != FRONT_OK:
            return FRONT_STOPS
        books[RESPONSES] += res[R_RESPONSES]
        books[REFUSED] += res[FRONT_R_ERRORS]
        more = res[R_MORE]
    if send_frames(log, books, loop, front, numbered) and state[S_FREE]:
        more = 1
    if more:
        become_ready(books, loop, FRONT_WORK)
    return MADE


def send_frames(log: Vector, books: Vector, loop: Loop, front: Front, numbered: Numbered) -> int:
    """Send the frames of the batch; the next ones of the port if there are none. Returns how many
    the ring has taken."""
    _ring, frames, timestamp, _state, res, put_args, _take_args = front
    data, _data32, _offset, _length, _flags, _gso_size, _gso_type, _info, _value = frames
    if books[NEXT] == books[FRAMES]:
        count = min(len(data) // books[SIZE], TX_SLOTS)
        put_numbered(books[GIVEN], count, 0, 0, books[ALIKE], numbered, frames, timestamp)
        books[ALIKE] = books[FRAMES] = count
        books[USED] = count * books[SIZE]
        books[NEXT] = 0
        books[GIVEN] += count
        books[LEFT] -= count
    taken = put_requests(books[NEXT], books[FRAMES], log, *put_args)
    if taken:
        books[NEXT] += taken
        books[UNSENDABLE] += res[R_UNSENDABLE]
        books[SENT] += taken - res[R_UNSENDABLE]
        books[SENT_BYTES] += res[FRONT_R_BYTES]
        if res[R_REQUESTS]:
            books[SENT_SLOTS] += res[R_REQUESTS]
            books[SENT_EXTRAS] += res[R_EXTRAS]
            announce(books, loop, BACK_EVENT, res[FRONT_R_NOTIFY])
    return taken


def poll_back(log: Vector, books: Vector, loop: Loop, back: Back) -> int:
    """The backend's work: a pass over the ring, to a host that takes everything and has no frames
    for the guest."""
    ring, ops, res, caller, take_args, copy_args, put_args, judge_args = back
    begin(books, BACK_WORK)
    work = books[WORK]
    books[WORK] = 0
    if not work & TX_WORK:
        return MADE
    if take_requests(TX_SLOTS, log, *take_args) != BACK_OK:
        return BACK_STOPS
    books[BACK_FRAMES] = books[BACK_USED] = 0
    if res[R_SLOTS]:
        if res[R_OPS]:
            books[COPIES] += res[R_OPS] - grant_copy(ops, res[R_OPS], caller, *copy_args)
        packets = put_responses(log, *put_args)
        if res[R_FLAGS_SEEN] & CSUM_BLANK:
            packets = judge_checksums(log, *judge_args)
        books[BACK_FRAMES] = packets
        books[BACK_USED] = res[BACK_R_BYTES]
        books[ARRIVED] += packets
        books[ARRIVED_BYTES] += res[BACK_R_BYTES]
        books[ARRIVED_SLOTS] += res[R_SLOTS]
        books[ERRORS] += res[BACK_R_ERRORS]
        books[CSUM_FIXUP] += res[R_CSUM_FIXUP]
        books[BAD_CSUM] += res[R_BAD_CSUM]
        announce(books, loop, FRONT_EVENT, res[BACK_R_NOTIFY])
    if await_requests(ring):
        books[WORK] |= TX_WORK
        become_ready(books, loop, BACK_WORK)
    return MADE
