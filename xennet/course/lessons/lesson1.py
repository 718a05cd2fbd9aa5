"""Lesson 1: a page and a ring."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define, field

from xennet.abi.netif import TX_REQUEST
from xennet.adversary import Access
from xennet.course.lesson import Functions, Lesson, MisunderstandingError, Question, boolean
from xennet.course.recordings import acting, interleavings
from xennet.course.ring_scene import BACKEND, FRONTEND, ends
from xennet.ring import MASK32, BackRing, FrontRing

SKELETON = '''\
"""Exercise 1: write a request into the shared page, and publish it, in the right order."""


def send_request(front, request):
    """Put one request into the transmit ring. Returns True, or False if the ring is full.

    front.free_requests           how many more requests fit
    front.req_prod_pvt            the number of the next request; only this end sees it
    front.sring.write_slot(n, b)  write the bytes b where request number n lies
    front.sring.req_prod          "requests before this number are there": the backend reads it
                                  at any time, also between two lines of yours
    """
    raise NotImplementedError
'''

HINTS = (
    "Four steps: is there room? write the slot; count; publish.",
    "The backend may look between any two of your lines. What does it see then?",
    "The number of the next request is front.req_prod_pvt; req_prod is one more than the last one.",
    "write_slot() takes the number modulo 256 for the place. The number itself only grows.",
)

#: Where the numbers begin: at a new ring, at the end of its slots, at the end of 32 bits.
_STARTS = (0, 255, MASK32)


@define
class _World:
    """A ring in a page, both its ends, and what the backend has taken."""

    front: FrontRing
    back: BackRing
    taken: list[bytes] = field(factory=list)

    def take(self) -> None:
        """The backend takes every request that is published."""
        with acting(BACKEND, "the backend looks"):
            while self.back.unconsumed_requests:
                self.taken.append(self.back.sring.copy_slot(self.back.req_cons))
                self.back.req_cons += 1


def world(start: int) -> _World:
    """A ring that has carried ``start`` requests, all of them answered."""
    return _World(*ends(start))


def _request(ident: int) -> bytes:
    return TX_REQUEST.pack(8 + ident, 0, 0, ident, 60)


def examine(functions: Functions) -> str:
    """The verdict on a send_request()."""

    def send(front: FrontRing, request: bytes) -> Any:
        with acting(FRONTEND, "send_request()"):
            return functions["send_request"](front, request)

    for start in _STARTS:
        _alone(send, start)
    _watched(send)
    _full(send)
    return (
        "The slot is written before req_prod says so, so whenever the backend looks it finds the "
        "request whole; and no request was overwritten that had no answer."
    )


def _alone(send: Callable[..., Any], start: int) -> None:
    """One request, while the backend does nothing."""
    at = world(start)
    ring, request = at.front.sring, _request(1)
    sent = boolean("send_request", send(at.front, request))
    next_one = (start + 1) & MASK32
    if not sent:
        raise MisunderstandingError(
            "room", "All 256 slots were free, and send_request() says that the ring is full."
        )
    if ring.req_prod == start:
        raise MisunderstandingError(
            "not-published",
            "req_prod did not change. The backend sees the page and nothing else: a request is "
            "there for it when req_prod passes its number.",
        )
    if ring.req_prod != next_one:
        masked = start >= 255 and ring.req_prod == next_one % 256
        if masked:
            raise MisunderstandingError(
                "masked-index",
                f"Behind request {start} req_prod is {ring.req_prod}. The numbers are not places: "
                "they only grow, modulo 2^32, and only the place of a slot is modulo 256. "
                "Otherwise a full ring would look like an empty one.",
                ("store", "req_prod"),
            )
        raise MisunderstandingError(
            "one-request", f"One request moved req_prod from {start} to {ring.req_prod}."
        )
    if at.front.req_prod_pvt != next_one:
        raise MisunderstandingError(
            "private-index",
            f"req_prod is {next_one}, but front.req_prod_pvt is {at.front.req_prod_pvt}: the next "
            "request would go into a slot that is in use.",
        )
    if ring.copy_slot(start) != request:
        if ring.copy_slot(start + 1) == request:
            raise MisunderstandingError(
                "off-by-one",
                f"Request {start} lies in the place of request {start + 1}. req_prod is the number "
                "of the next request to write, not of the last one that was written.",
            )
        raise MisunderstandingError(
            "wrong-slot", f"The place of request {start} does not hold the bytes of the request."
        )


def _watched(send: Callable[..., Any]) -> None:
    """One request, while the backend looks behind any access to the page."""
    request = _request(1)

    def run(at: _World) -> None:
        send(at.front, request)

    def act(at: _World, access: Access) -> None:
        at.take()

    for _, at in interleavings(lambda: world(0), run, act):
        at.take()
        if at.taken != [request]:
            took = ", ".join(request.hex() for request in at.taken) or "nothing"
            raise MisunderstandingError(
                "publish-last",
                f"The backend looked in between, and took {took} for request 0: what lay in the "
                "slot before. req_prod says that a request is there, so it is stored last.",
                ("store", "req_prod"),
            )


def _full(send: Callable[..., Any]) -> None:
    """As many requests as there are slots, without an answer, and one more."""
    at = world(0)
    for ident in range(256):
        if not boolean("send_request", send(at.front, _request(ident))):
            raise MisunderstandingError(
                "room", f"After {ident} requests the ring is not full: there are 256 slots."
            )
    if send(at.front, _request(999)) is not False or at.front.sring.req_prod != 256:
        raise MisunderstandingError(
            "no-room",
            "256 requests were waiting for their answers, and one more was sent: it lies in the "
            "slot of request 0, which the backend had not read. Look at front.free_requests first.",
            ("store", "slot 0"),
        )


def _ends(random: Random) -> _World:
    """A ring in use: requests sent, some taken, some answered."""
    at = world(random.choice((0, 250, 1000, MASK32 - 20)) + random.randrange(10))
    sent = random.randint(1, 256)
    at.front.req_prod_pvt += sent
    at.front.push_requests()
    at.back.req_cons += random.randint(0, sent)
    at.back.rsp_prod_pvt += random.randint(0, (at.back.req_cons - at.back.rsp_prod_pvt) & MASK32)
    at.back.push_responses()
    at.front.rsp_cons += random.randint(0, at.front.unconsumed_responses)
    return at


def _ask_free(random: Random) -> Question:
    front = _ends(random).front
    return Question(
        "A transmit ring of 256 slots, indices modulo 2^32. The frontend's req_prod_pvt is "
        f"{front.req_prod_pvt}, its rsp_cons is {front.rsp_cons}. How many more requests "
        "may it write?",
        str(front.free_requests),
    )


def _ask_place(random: Random) -> Question:
    at = world(0)
    number = random.choice((random.randrange(256), random.randrange(256, 1 << 32)))
    return Question(
        "A transmit ring: a header of 64 bytes, then 256 slots of 12 bytes. At which byte of the "
        f"page does request number {number} begin?",
        str(at.front.sring.slot_offset(number)),
    )


def _ask_waiting(random: Random) -> Question:
    at = _ends(random)
    return Question(
        f"Indices are modulo 2^32. req_prod is {at.front.sring.req_prod}; the backend's req_cons "
        f"is {at.back.req_cons}, its rsp_prod_pvt is {at.back.rsp_prod_pvt}. How many "
        "requests can it take now?",
        str(at.back.unconsumed_requests),
    )


def _ask_slot(random: Random) -> Question:
    at = world(0)
    size = random.randint(60, 1514)
    offset = random.randrange(0, 4096 - size, 2)
    raw = TX_REQUEST.pack(random.randint(8, 400), offset, 0, random.randrange(256), size)
    at.front.sring.write_slot(0, raw)
    gref, offset, _, ident, size = TX_REQUEST.unpack_from(at.front.sring.copy_slot(0))
    return Question(
        f"A slot of the transmit ring holds the request {raw.hex()} (gref, 4 bytes; offset, flags, "
        "id, size, 2 bytes each; least significant byte first). What are gref, offset, id, size?",
        f"{gref}, {offset}, {ident}, {size}",
    )


LESSON = Lesson(
    number=1,
    title="A page and a ring",
    makers=(_ask_free, _ask_place, _ask_waiting, _ask_slot),
    skeleton=SKELETON,
    functions=("send_request",),
    hints=HINTS,
    examine=examine,
)
