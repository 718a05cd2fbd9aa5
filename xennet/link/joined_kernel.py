"""Deliveries of a vif that only sends, made by a kernel in place of the run loop: all there are, or
those of a time slice.

It calls the kernels that the drivers call, in the order in which the run loop would have them
called, and keeps the books that Python keeps around them: what is ready, what was counted, which
events were asked for. It has no rule of a ring of its own. :mod:`xennet.link.joined` says when that
may be, and puts the books back into place.

    run_deliveries       the run loop: the delivery that is next, again and again
      bring_next           which that is in a time slice; else it is the oldest
      poll_front           netfront: Queue._poll, poll_tx
        next_frames          the frames of a port (put_numbered), or what give gives
          give, refill, feed   frames for one of several queues (xennet.flow.steering)
            tell_flows           which queue they go to, by flow
      poll_back            netback: Queue._poll, poll_tx
      hear_front           netfront: Queue._tx_event
      hear_back            netback: Queue._tx_event

The bits of events are not written here: of an event that was taken nothing is left but what the
last ones left, which is noted. Nor are the frames of the middle batch: each queue has its own made
in its own batch, whose bytes are those of the first queue's. At the end the port makes those again
that are in the batches then.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from xennet.abi.words import REQ_PROD, RSP_PROD, TX_SLOTS
from xennet.engine.kernel import Each, Frames, Ring, U32Array, Vector
from xennet.flow.classify import Hashing, classify
from xennet.flow.distribute import take
from xennet.frames import CSUM_BLANK
from xennet.gnttab.copy import grant_copy
from xennet.host.timeslices import BURST
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
from xennet.port.numbered import N_FLOWS, N_SIZE, Numbered, put_again, put_numbered
from xennet.ring import BACK_REQ_CONS, FRONT_RSP_CONS

# Deliveries: a kind, and the number of the queue above it.
FRONT_WORK = 0
BACK_WORK = 1
FRONT_EVENT = 2
BACK_EVENT = 3
KINDS = 4

# Why run_deliveries ended.
#: All deliveries that were allowed are made, or none is ready.
MADE = 0
#: The next delivery is not like those before, or of another guest, and was not made.
NOT_MADE = 1
#: The frontend, or the backend, of the queue of the last delivery is within it: responses, or
#: requests, were taken, with a verdict.
FRONT_STOPS = 2
BACK_STOPS = 3

#: Most queues.
QUEUES = 8
#: Deliveries that are ready, and those that were made last: a ring of so many.
LOOP = 64
_LOOP_MASK = LOOP - 1

# Places in what is kept of the run loop: the oldest delivery is at HEAD, READY of them are. Those
# that were made last are in front of it.
HEAD = 0
READY = 1
STEPS = 2
#: The number of the last work item that was deferred.
IDENT = 3
#: Whether there are time slices. Then: how many deliveries domain 0 may make in a row, and the
#: guest in its slice; the same before the last one; and where that was before it came to the head.
SLICED = 4
BURST_LEFT = 5
SLICE_LEFT = 6
BURST_BEFORE = 7
SLICE_BEFORE = 8
AT = 9
# Of the events to the frontends, and to the backends: how many of them were sent since one was
# taken; the first of those, or of those before; the last; then which, in order.
CHAIN = 10
C_SENT = 0
C_FIRST = 1
C_LAST = 2
C_QUEUES = 3
CHAIN_STATE = C_QUEUES + QUEUES
LOOP_STATE = CHAIN + 2 * CHAIN_STATE

# Places in what is kept of the port: frames that it has given, and that are left; then of several
# queues: their number, the frames of the middle batch, those that were not taken, and the number
# of the first; that is -1 as long as they lie there.
GIVEN = 0
LEFT = 1
NUMBER_OF_QUEUES = 2
COUNT = 3
WAITING = 4
FIRST = 5
#: By queue: it was told "nothing" without the port being asked.
HUNGRY = 6
PORT_STATE = HUNGRY + QUEUES

# Places in the books of a queue.
QUEUE = 0
#: The rings on which the backend has work.
WORK = 1
#: The indices that the ends saw with the last event.
FRONT_SEEN = 2
BACK_SEEN = 3
#: By kind of delivery: whether it is ready; and if so, whether it was from the beginning.
DUE = 4
DUE_ANEW = 1
DUE_FROM_BEGINNING = 2
# The batch of the frontend: the next frame, frames, bytes, the places that have frames that are
# alike but for a number; that of the backend: frames, bytes.
NEXT = 8
FRAMES = 9
USED = 10
ALIKE = 11
BACK_FRAMES = 12
BACK_USED = 13
# Sums: of the frontend,
RESPONSES = 14
REFUSED = 15
UNSENDABLE = 16
SENT = 17
SENT_BYTES = 18
SENT_SLOTS = 19
SENT_EXTRAS = 20
#: by the event of who is notified: notifications sent, and avoided;
NOTIFIED = 21 - FRONT_EVENT
AVOIDED = 23 - FRONT_EVENT
# of the backend,
ARRIVED = 25
ARRIVED_BYTES = 26
ARRIVED_SLOTS = 27
ERRORS = 28
CSUM_FIXUP = 29
BAD_CSUM = 30
# and of the hypervisor: copies that did not fail.
COPIES = 31
BOOKS = 32

#: The fixed arguments of a kernel.
Args: TypeAlias = tuple[Any, ...]
#: codes, idents, state: the deliveries, and the numbers of those that are work items.
Loop: TypeAlias = "tuple[U32Array, Vector, Vector]"
#: ring, frames, timestamp, state, res, then the fixed arguments of put_requests, take_responses.
#: The bytes of the frames are the same of all queues.
Front: TypeAlias = "tuple[Ring, Frames, Vector, Vector, Vector, Args, Args]"
#: ring, ops, res, caller, then the fixed arguments of take_requests, grant_copy, put_responses,
#: judge_checksums.
Back: TypeAlias = "tuple[Ring, U32Array, Vector, int, Args, Args, Args, Args]"
#: state, numbered, frames, timestamp: the port, and the batch that its frames are pulled into, of
#: the only queue or in the middle.
Port: TypeAlias = "tuple[Vector, Numbered, Frames, Vector, Steering]"
#: queue, chains, hashing: of the middle batch; of_flows: the queue of each flow; own: numbered, of
#: the frames of one queue alone.
Steering: TypeAlias = "tuple[U32Array, Args, Hashing, U32Array, Numbered]"


def run_deliveries(
    most: int,
    log: Vector,
    loop: Loop,
    books: Each,
    fronts: Each,
    backs: Each,
    port: Port,
) -> int:
    """Make at most ``most`` deliveries, the oldest first or as a time slice has them. Returns why
    it ended. ``books``, ``fronts`` and ``backs`` are by queue."""
    codes, _idents, state = loop
    sliced = state[SLICED]
    at_once = 1 if sliced else most  # a loop of their own: they take a tenth less time
    outcome = MADE
    while most and outcome == MADE:
        if sliced and not bring_next(loop):
            return NOT_MADE
        left = at_once
        while left and state[READY] and outcome == MADE:
            code = codes[state[HEAD] & _LOOP_MASK]
            queue = code // KINDS
            kind = code % KINDS
            if kind == FRONT_WORK:
                outcome = poll_front(log, loop, queue, books, fronts[queue], port)
            elif kind == BACK_WORK:
                outcome = poll_back(log, loop, books[queue], backs[queue])
            elif kind == FRONT_EVENT:
                outcome = hear_front(loop, books[queue], fronts[queue])
            else:
                outcome = hear_back(loop, books[queue], backs[queue])
            left -= 1
        most -= at_once
    if sliced and outcome == NOT_MADE:
        leave(loop)
    return outcome


def bring_next(loop: Loop) -> int:
    """Bring the delivery that is next in a time slice to the head (TimeSlices.next). Returns 0, and
    nothing is changed, if that is another guest's."""
    _codes, _idents, state = loop
    state[AT] = state[HEAD]
    state[BURST_BEFORE] = state[BURST_LEFT]
    state[SLICE_BEFORE] = state[SLICE_LEFT]
    behind = state[HEAD] + state[READY]
    at = behind
    if state[BURST_LEFT]:
        at = oldest(loop, 1)
        state[BURST_LEFT] -= 1
    if at == behind:
        if state[SLICE_LEFT]:
            at = oldest(loop, 0)
        state[BURST_LEFT] = BURST
        state[SLICE_LEFT] -= 1
    if at == behind:
        leave(loop)
        return 0
    state[AT] = at
    move(loop, at, state[HEAD])
    return 1


def leave(loop: Loop) -> None:
    """Undo what bring_next has done: the delivery was not made."""
    _codes, _idents, state = loop
    state[BURST_LEFT] = state[BURST_BEFORE]
    state[SLICE_LEFT] = state[SLICE_BEFORE]
    move(loop, state[HEAD], state[AT])


def oldest(loop: Loop, side: int) -> int:
    """The place of the oldest delivery of the guest (0), or of domain 0 (1); that behind the last
    if there is none."""
    codes, _idents, state = loop
    at = state[HEAD]
    while at < state[HEAD] + state[READY] and codes[at & _LOOP_MASK] & 1 != side:
        at += 1
    return at


def move(loop: Loop, place: int, to: int) -> None:
    """Move a delivery that is ready to another place; those in between make room."""
    codes, idents, _state = loop
    step = 1 if place < to else -1
    while place != to:
        here = place & _LOOP_MASK
        place += step
        there = place & _LOOP_MASK
        code = codes[here]
        codes[here] = codes[there]
        codes[there] = code
        ident = idents[here]
        idents[here] = idents[there]
        idents[there] = ident


def begin(loop: Loop, books: Vector, kind: int) -> None:
    """Take the delivery at the head: it is being made."""
    _codes, _idents, state = loop
    state[HEAD] += 1
    state[READY] -= 1
    state[STEPS] += 1
    books[DUE + kind] = 0
    if kind >= FRONT_EVENT:  # the upcall takes all events off their queue
        state[CHAIN + (kind - FRONT_EVENT) * CHAIN_STATE + C_SENT] = 0


def become_ready(loop: Loop, books: Vector, kind: int) -> None:
    """Make a delivery ready if it is not (RunLoop.post, defer)."""
    if books[DUE + kind]:
        return
    codes, idents, state = loop
    at = (state[HEAD] + state[READY]) & _LOOP_MASK
    codes[at] = books[QUEUE] * KINDS + kind
    if kind < FRONT_EVENT:  # a work item
        state[IDENT] += 1
        idents[at] = state[IDENT]
    state[READY] += 1
    books[DUE + kind] = DUE_ANEW


def announce(loop: Loop, books: Vector, event: int, notify: int) -> None:
    """Count a push, and send the event that was asked for."""
    if not notify:
        books[AVOIDED + event] += 1
        return
    books[NOTIFIED + event] += 1
    _codes, _idents, state = loop
    sent = CHAIN + (event - FRONT_EVENT) * CHAIN_STATE
    queue = books[QUEUE]
    linked = False
    for at in range(state[sent + C_SENT]):
        linked = linked or state[sent + C_QUEUES + at] == queue
    if not linked:
        if state[sent + C_SENT] == 0:
            state[sent + C_FIRST] = queue
        state[sent + C_LAST] = queue
        state[sent + C_QUEUES + state[sent + C_SENT]] = queue
        state[sent + C_SENT] += 1
    become_ready(loop, books, event)


def hear_front(loop: Loop, books: Vector, front: Front) -> int:
    """The frontend's event. One that brings nothing new is left to others (F19)."""
    ring, _frames, _timestamp, _state, _res, _put_args, _take_args = front
    page, pvt = ring
    published = page[RSP_PROD]
    if published == books[FRONT_SEEN]:
        return NOT_MADE
    begin(loop, books, FRONT_EVENT)
    books[FRONT_SEEN] = published
    if published != pvt[FRONT_RSP_CONS]:
        become_ready(loop, books, FRONT_WORK)
    return MADE


def hear_back(loop: Loop, books: Vector, back: Back) -> int:
    """The backend's event. One that brings nothing new is left to others (F19)."""
    ring, _ops, _res, _caller, _take_args, _copy_args, _put_args, _judge_args = back
    page, pvt = ring
    published = page[REQ_PROD]
    if published == books[BACK_SEEN]:
        return NOT_MADE
    begin(loop, books, BACK_EVENT)
    books[BACK_SEEN] = published
    if published != pvt[BACK_REQ_CONS]:
        books[WORK] |= TX_WORK
        become_ready(loop, books, BACK_WORK)
    return MADE


def poll_front(log: Vector, loop: Loop, queue: int, books: Each, front: Front, port: Port) -> int:
    """The frontend's work: take responses, then send. A port that does not have a batch full of
    frames any more is left to others."""
    ring, frames, timestamp, state, res, put_args, take_args = front
    port_state, numbered, port_frames, _port_timestamp, _steering = port
    _data, _data32, offset, _length, _flags, _gso_size, _gso_type, _info, _value = port_frames
    page, pvt = ring
    own = books[queue]
    empty = own[NEXT] == own[FRAMES]
    if empty and port_state[WAITING] == 0 and port_state[LEFT] < len(offset):
        return NOT_MADE
    begin(loop, own, FRONT_WORK)
    more = 0
    if page[RSP_PROD] != pvt[FRONT_RSP_CONS]:
        verdict = take_responses(log, *take_args)
        if verdict != FRONT_OK:
            return FRONT_STOPS
        own[RESPONSES] += res[R_RESPONSES]
        own[REFUSED] += res[FRONT_R_ERRORS]
        more = res[R_MORE]
    if empty:
        next_frames(loop, queue, books, front, port)
    elif port_state[NUMBER_OF_QUEUES] > 1:  # other queues have had the bytes meanwhile
        put_again(own[NEXT], own[FRAMES], own[ALIKE], numbered, frames, timestamp)
    taken = 0
    if own[NEXT] != own[FRAMES]:
        taken = put_requests(own[NEXT], own[FRAMES], log, *put_args)
    if taken:
        count_sent(loop, own, taken, res)
        if state[S_FREE]:
            more = 1
    if more:
        become_ready(loop, own, FRONT_WORK)
    return MADE


def count_sent(loop: Loop, books: Vector, taken: int, res: Vector) -> None:
    """Count the frames that the ring has taken, and announce their requests (_announce_tx)."""
    books[NEXT] += taken
    books[UNSENDABLE] += res[R_UNSENDABLE]
    books[SENT] += taken - res[R_UNSENDABLE]
    books[SENT_BYTES] += res[FRONT_R_BYTES]
    if res[R_REQUESTS]:
        books[SENT_SLOTS] += res[R_REQUESTS]
        books[SENT_EXTRAS] += res[R_EXTRAS]
        announce(loop, books, BACK_EVENT, res[FRONT_R_NOTIFY])


def next_frames(loop: Loop, queue: int, books: Each, front: Front, port: Port) -> None:
    """Fill the empty batch of a queue with frames of the port, if it gets any."""
    _ring, frames, timestamp, _state, _res, _put_args, _take_args = front
    state, numbered, _port_frames, _port_timestamp, _steering = port
    own = books[queue]
    own[NEXT] = own[FRAMES] = own[USED] = 0
    if state[NUMBER_OF_QUEUES] == 1:
        end = state[GIVEN] + state[LEFT]
        state[GIVEN] = make_own(state[GIVEN], end, own, numbered, frames, timestamp)
        state[LEFT] = end - state[GIVEN]
    else:
        give(loop, queue, books, frames, timestamp, port)


def make_own(
    first: int, behind: int, own: Vector, numbered: Numbered, frames: Frames, timestamp: Vector
) -> int:
    """Fill the empty batch of a queue with those frames from number ``first`` to below ``behind``
    that are its own. Returns the number of the next one."""
    count, following = put_numbered(first, behind, 0, 0, own[ALIKE], numbered, frames, timestamp)
    _template, spec, _followings, _infos, _values = numbered
    own[FRAMES] = count
    own[USED] = count * spec[N_SIZE]
    own[ALIKE] = max(own[ALIKE], count)
    return following


def give(
    loop: Loop, queue: int, books: Each, frames: Frames, timestamp: Vector, port: Port
) -> None:
    """Fill the batch of one of several queues with its own frames of the middle batch."""
    state, _numbered, middle_frames, middle_timestamp, steering = port
    _queue, chains, _hashing, _of_flows, numbered = steering
    head, _link = chains
    own = books[queue]
    if state[WAITING] == 0:
        refill(loop, queue, books, port)
    if head[queue] == state[COUNT]:
        state[HUNGRY + queue] = 1 if state[WAITING] else 0
        return
    if state[FIRST] < 0:
        own[FRAMES], own[USED] = take(
            queue, state[COUNT], chains, middle_frames, middle_timestamp, 0, 0, frames, timestamp
        )
    else:
        begin = state[FIRST]
        following = make_own(
            begin + head[queue], begin + state[COUNT], own, numbered, frames, timestamp
        )
        head[queue] = min(following - begin, state[COUNT])
    state[WAITING] -= own[FRAMES]
    if state[WAITING] == 0:
        feed(loop, queue, books, port)


def refill(loop: Loop, queue: int, books: Each, port: Port) -> None:
    """Take the next frames of the port for the middle batch, and kick the queues other than
    ``queue`` that got some."""
    state, numbered, frames, _timestamp, steering = port
    _queue, chains, _hashing, of_flows, _own = steering
    data, _data32, offset, _length, _flags, _gso_size, _gso_type, _info, _value = frames
    head, _link = chains
    if state[FIRST] < 0:
        tell_flows(port)
    _template, spec, _followings, _infos, _values = numbered
    flows = spec[N_FLOWS]
    count = state[COUNT] = state[WAITING] = min(len(data) // spec[N_SIZE], len(offset))
    state[FIRST] = state[GIVEN]
    state[GIVEN] += count
    state[LEFT] -= count
    for other in range(state[NUMBER_OF_QUEUES]):
        head[other] = count
    for place in range(min(count, flows) - 1, -1, -1):
        head[of_flows[(state[FIRST] + place) % flows]] = place
    for other in range(state[NUMBER_OF_QUEUES]):
        if head[other] != count and other != queue:
            state[HUNGRY + other] = 0
            become_ready(loop, books[other], FRONT_WORK)


def tell_flows(port: Port) -> None:
    """Note queue and hash of each flow, as its first frame has them, and the way to the next frame
    of the same queue. The middle batch is free for that."""
    state, numbered, frames, timestamp, steering = port
    queues, chains, hashing, of_flows, own = steering
    _data, _data32, _offset, _length, _flags, _gso_size, _gso_type, hash_info, hash_value = frames
    _template, spec, followings, infos, values = own
    head, _link = chains
    flows = spec[N_FLOWS]
    flow = 0
    while flow < flows:
        count, following = put_numbered(flow, flows, 0, 0, 0, numbered, frames, timestamp)
        classify(0, count, state[NUMBER_OF_QUEUES], hashing, frames, queues)
        for place in range(count):
            of_flows[flow + place] = queues[place]
            infos[flow + place] = hash_info[place]
            values[flow + place] = hash_value[place]
        flow = following
    for ahead in range(2 * flows - 1, -1, -1):  # twice: head is right from the first turn on
        flow = ahead % flows
        followings[flow] = head[of_flows[flow]]
        head[of_flows[flow]] = flow


def feed(loop: Loop, queue: int, books: Each, port: Port) -> None:
    """Kick one of the queues that were put off, after ``queue`` took the last frame."""
    state, _numbered, _frames, _timestamp, _steering = port
    for other in range(state[NUMBER_OF_QUEUES]):
        if state[HUNGRY + other] and other != queue:
            state[HUNGRY + other] = 0
            become_ready(loop, books[other], FRONT_WORK)
            return


def poll_back(log: Vector, loop: Loop, books: Vector, back: Back) -> int:
    """The backend's work: a pass over the ring, to a host that takes everything and has no frames
    for the guest."""
    ring, ops, res, caller, take_args, copy_args, put_args, judge_args = back
    begin(loop, books, BACK_WORK)
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
        announce(loop, books, FRONT_EVENT, res[BACK_R_NOTIFY])
    if await_requests(ring):
        books[WORK] |= TX_WORK
        become_ready(loop, books, BACK_WORK)
    return MADE
