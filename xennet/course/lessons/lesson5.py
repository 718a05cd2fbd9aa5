"""Lesson 5: extra info, GSO and checksums."""

from __future__ import annotations

from itertools import accumulate
from random import Random
from typing import NamedTuple

from attrs import frozen

from xennet.abi.netif import (
    EXTRA_GSO,
    TX_REQUEST,
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.course.lesson import Functions, Lesson, MisunderstandingError, Question
from xennet.course.polled_backend import EXTRA, SLOT, Backend, Outcome, gso, numbered_pages, tx
from xennet.course.recordings import begin
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.netback.poll_page import FIRST_GREF
from xennet.port import open_port
from xennet.testing.sample_frames import Frame, drain, numbered

SKELETON = '''\
"""Exercise 5: a frontend splits a frame into slots of the transmit ring."""

from xennet.abi.netif import EXTRA_GSO, TX_REQUEST

CSUM_BLANK, DATA_VALIDATED, MORE_DATA, EXTRA_INFO = 1, 2, 4, 8  # flags of a request
GSO, TCPV4 = 1, 1  # type of an extra info slot, type of GSO


def slots_of(pieces, gso_size, blank):
    """The slots of one frame: a list of packed slots, in the order of the ring.

    pieces: where the frame lies, a list of (gref, offset, size). gso_size: bytes of a TCPv4
    segment, 0 if the frame need not be cut. blank: its checksum is still to be computed.

    TX_REQUEST.pack(gref, offset, flags, id, size) makes a request,
    EXTRA_GSO.pack(GSO, 0, gso_size, TCPV4, 0, 0) an extra info slot.
    """
    raise NotImplementedError
'''

HINTS = (
    "size of the first slot is that of the whole frame: the backend subtracts the others.",
    "more_data says that a data slot follows; an extra info slot is none.",
    "extra_info of the first slot says that the next slot is extra info, so it comes second.",
    "A checksum that is blank cannot be wrong: csum_blank and data_validated go together.",
    "The id comes back in the response. How do you know which page it is about?",
)


#: Where a backend finds out: as it loads the first slot, or the one behind it.
_FIRST, _SECOND = ("load", "slot 0"), ("load", "slot 1")


@frozen
class _Case:
    """A frame in ``pieces`` (gref, offset, size)."""

    frame: Frame
    pieces: tuple[tuple[int, int, int], ...]

    @property
    def blank(self) -> bool:
        return bool(self.frame.flags & CSUM_BLANK)

    def contents(self) -> list[bytes]:
        """What the pages hold."""
        ends = accumulate(size for _, _, size in self.pieces)
        return [
            bytes(offset) + self.frame.data[end - size : end]
            for (_, offset, size), end in zip(self.pieces, ends, strict=True)
        ]


def _case(frame: Frame, *places: tuple[int, int]) -> _Case:
    """``places``: offset and size in a page each; the last size is what is left."""
    left = len(frame.data) - sum(size for _, size in places[:-1])
    sized = [*places[:-1], (places[-1][0], left)]
    return _Case(
        frame, tuple((FIRST_GREF + n, offset, size) for n, (offset, size) in enumerate(sized))
    )


def _cases() -> list[_Case]:
    plain = numbered(1, 60)[0]
    long = numbered(1, 6000)[0]
    (blank,) = drain(open_port("tcp:1514x1"))
    (large,) = drain(open_port("tcp:9000x1"))
    return [
        _case(plain, (100, 0)),
        _case(long, (96, 2000), (0, 2500), (4000 - 3904, 0)),
        _case(blank, (2, 0)),
        _case(large, (66, 4030), (0, 4096), (8, 0)),
    ]


def _judge(case: _Case, slots: object) -> None:
    """Raise MisunderstandingError unless a backend receives the frame of ``case``."""
    if not isinstance(slots, list) or not all(
        isinstance(slot, bytes) and len(slot) in (EXTRA, SLOT) for slot in slots
    ):
        raise MisunderstandingError(
            "type", f"slots_of() has to return a list of packed slots: {slots!r:.60}"
        )
    backend = Backend()
    begin(backend.machine)
    backend.fill(case.contents())
    outcome = backend.take(slots)
    _explain(case, slots, outcome)
    frame = case.frame
    wanted = (frame.data, frame.flags, frame.gso_size)
    if [(one.data, one.flags, one.gso_size) for one in outcome.packets] != [wanted]:
        raise MisunderstandingError(
            "other",
            f"The backend did not receive the frame of {len(frame.data)} bytes. {_said(outcome)}",
        )


def _said(outcome: Outcome) -> str:
    if outcome.why:
        return f"The backend gave you up: {outcome.why}."
    if not outcome.packets:
        return f"The backend answered {', '.join(outcome.statuses) or 'nothing'}."
    sizes = ", ".join(f"{len(one.data)} bytes" for one in outcome.packets)
    return f"What it received: {sizes}."


class _Request(NamedTuple):
    gref: int
    offset: int
    flags: int
    id: int
    size: int


def _explain(case: _Case, slots: list[bytes], outcome: Outcome) -> None:
    """Raise MisunderstandingError for what the slots say of the frame that is not so."""
    size, said = len(case.frame.data), _said(outcome)
    count = len(case.pieces)
    extras = 1 if case.frame.gso_size else 0
    requests = [_Request(*TX_REQUEST.unpack_from(slot.ljust(SLOT, b"\0"))) for slot in slots]
    if not requests:
        raise MisunderstandingError("other", "No slot, no frame.")
    first_flags = requests[0].flags
    if not extras and first_flags & NETTXF_extra_info:
        raise MisunderstandingError(
            "extra-for-nothing",
            "A frame that need not be cut had extra info. A backend takes GSO of size 0 for an "
            f"attack. {said}",
            _FIRST,
        )
    if extras and (
        not first_flags & NETTXF_extra_info
        or len(slots) != count + 1
        or slots[1][0] != XEN_NETIF_EXTRA_TYPE_GSO
    ):
        raise MisunderstandingError(
            "extra-second",
            "The segment size goes into an extra info slot right behind the first slot, whose flag "
            f"extra_info says so; only its place makes a slot extra info. {said}",
            _SECOND,
        )
    data = [requests[0], *requests[1 + extras :]]
    if len(data) != count:
        raise MisunderstandingError(
            "other", f"{count} pieces are {count} data slots, and there are {len(data)}. {said}"
        )
    if data[0].size != size:
        raise MisunderstandingError(
            "whole-size",
            f"The frame has {size} bytes, and size of its first slot is {data[0].size}: it has to "
            f"be that of the whole frame, which the backend wants to know first. {said}",
            _FIRST,
        )
    if [bool(one.flags & NETTXF_more_data) for one in data] != [True] * (count - 1) + [False]:
        raise MisunderstandingError(
            "more-data",
            "more_data says: another data slot of this frame follows. So all data slots have it "
            f"but the last, and extra info does not count. {said}",
            _FIRST,
        )
    blank = data[0].flags & (NETTXF_csum_blank | NETTXF_data_validated)
    if not case.blank and blank & NETTXF_csum_blank:
        raise MisunderstandingError(
            "not-blank",
            "The checksum was complete, and you called it blank: the host that sends it on would "
            f"compute it where there may be none. {said}",
            _FIRST,
        )
    if case.blank and blank != NETTXF_csum_blank | NETTXF_data_validated:
        raise MisunderstandingError(
            "blank-is-validated",
            "The checksum is blank: say csum_blank, so that it is computed later, and "
            f"data_validated, so that nobody verifies it before. {said}",
            _FIRST,
        )
    places = [(one.gref, one.offset) for one in data]
    if places != [piece[:2] for piece in case.pieces]:
        wanted = next(
            piece for piece, place in zip(case.pieces, places, strict=True) if piece[:2] != place
        )
        raise MisunderstandingError(
            "place",
            f"A piece lies at offset {wanted[1]} of the page that reference {wanted[0]} grants, "
            f"and no slot says so in its turn; (gref, offset) are {places}. {said}",
            _FIRST,
        )
    if extras and EXTRA_GSO.unpack_from(slots[1])[2] != case.frame.gso_size:
        raise MisunderstandingError(
            "gso-size",
            f"gso_size is the payload of a segment, {case.frame.gso_size} here. {said}",
            _SECOND,
        )
    if len({one.id for one in data}) != count:
        raise MisunderstandingError(
            "own-id",
            "Two requests had the same id. The response has nothing but the id: it would not say "
            "which page is free again.",
        )


def examine(functions: Functions) -> str:
    """Give the slots of several frames to xennet's backend."""
    for case in _cases():
        slots = functions["slots_of"](list(case.pieces), case.frame.gso_size, case.blank)
        _judge(case, slots)
    return (
        "The backend received every frame as it was, one of 9,000 bytes in one piece: cut into "
        "segments, and its checksum computed, only where it leaves the host, if it does."
    )


# -- questions -------------------------------------------------------------------------------------


def _first_page(random: Random) -> Question:
    later = [random.randrange(1, 1500) for _ in range(random.randrange(1, 4))]
    size = sum(later) + random.randrange(14, 2000)
    slots = [tx(size, NETTXF_more_data)]
    slots += [tx(one, NETTXF_more_data, gref=FIRST_GREF + n) for n, one in enumerate(later, 1)]
    slots[-1] = tx(later[-1], gref=FIRST_GREF + len(later))
    (packet,) = numbered_pages().take(slots).packets
    sizes = ", ".join(map(str, [size, *later]))
    return Question(
        f"The data slots of a packet on the transmit ring have sizes {sizes}. How many bytes of it "
        "lie in the page of the first slot?",
        str(packet.data.count(1)),
    )


def _checksum(random: Random) -> Question:
    flags = random.randrange(4)
    size = random.randrange(66, 1515)
    (frame,) = drain(open_port(f"tcp:{size}x1"))
    backend = numbered_pages()
    backend.fill([frame.data])
    (packet,) = backend.take([tx(len(frame.data), flags)]).packets
    backend.fill([b"\1" * len(frame.data)])
    words = [
        word
        for bit, word in ((CSUM_BLANK, "blank"), (DATA_VALIDATED, "validated"))
        if packet.flags & bit
    ]
    return Question(
        f"The only slot of a TCP frame of {size} bytes on the transmit ring has flags {flags}. "
        "What does the host learn of its checksum?",
        ", ".join(words) or "nothing: it has to be verified",
    )


def _answers(random: Random) -> Question:
    more = random.randrange(0, 4)
    extra = random.random() < 0.7
    bad = random.randrange(0, more + 1) if random.random() < 0.5 else -1
    grefs = [40000 if number == bad else FIRST_GREF + number for number in range(more + 1)]
    flags = (NETTXF_extra_info | NETTXF_csum_blank) if extra else 0
    slots = [tx(1000 + 100 * more, flags | (NETTXF_more_data if more else 0), gref=grefs[0])]
    if extra:
        slots.append(gso(random.randrange(500, 1461)))
    for number in range(1, more + 1):
        flag = NETTXF_more_data if number < more else 0
        slots.append(tx(100, flag, gref=grefs[number]))
    outcome = numbered_pages().take(slots)
    kinds = ["data", *(["extra info"] if extra else []), *["data"] * more]
    wrong = f"; the reference of data slot {bad + 1} grants nothing" if bad >= 0 else ""
    return Question(
        f"A packet takes these slots: {', '.join(kinds)}{wrong}. What are the statuses of its "
        "responses, in the order of the ring?",
        ", ".join(outcome.statuses),
    )


def _how_many(random: Random) -> Question:
    size, offset = random.randrange(60, 20000), random.randrange(0, 4000)
    cut = random.random() < 0.5
    sizes = [min(size, PAGE_SIZE - offset)]
    while (left := size - sum(sizes)) > 0:
        sizes.append(min(left, PAGE_SIZE))
    more = [NETTXF_more_data] * (len(sizes) - 1) + [0]
    blank = NETTXF_csum_blank | NETTXF_data_validated | NETTXF_extra_info if cut else 0
    slots = [tx(size, more[0] | blank, offset)]
    slots += [gso(1448)] if cut else []
    slots += [
        tx(one, flag, gref=FIRST_GREF + n)
        for n, (one, flag) in enumerate(zip(sizes[1:], more[1:], strict=True), 1)
    ]
    outcome = numbered_pages().take(slots)
    how = "with GSO" if cut else "without GSO"
    return Question(
        f"A frame of {size} bytes begins at offset {offset} of a page and goes on in whole pages; "
        f"it is sent {how}, a data slot for each page. How many slots of the ring does it take?",
        str(len(outcome.statuses)),
    )


LESSON = Lesson(
    number=5,
    title="Extra info, GSO and checksums",
    makers=(_first_page, _checksum, _answers, _how_many),
    skeleton=SKELETON,
    functions=("slots_of",),
    hints=HINTS,
    examine=examine,
)
