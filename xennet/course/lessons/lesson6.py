"""Lesson 6: a hostile peer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TypeAlias

from attrs import frozen

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_NONE,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.adversary import Access
from xennet.course.lesson import Functions, Lesson, MisunderstandingError, Question
from xennet.course.polled_backend import Backend, gso, numbered_pages, tx
from xennet.course.recordings import acting, begin, interleavings
from xennet.course.ring_scene import BACKEND, FRONTEND, guest_page
from xennet.engine.choice import shared
from xennet.netback.poll_page import FIRST_GREF
from xennet.ring import tx_ring_page

SKELETON = '''\
"""Exercise 6: a backend takes one packet from a guest that may do anything."""

PAGE_SIZE = 4096
MORE_DATA, EXTRA_INFO, MORE_EXTRAS = 4, 8, 1
FATAL, ERROR = "fatal", "ERROR"


def take_packet(slots, count):
    """The packet that begins in slots[0]; count slots are published, slots behind are old ones.

    Returns its parts, a list of (gref, offset, size), or FATAL (the ring is given up), or ERROR
    (its slots are answered ERROR, and the ring goes on).

    slots[i] is in shared memory: each use of gref, offset, flags, id, size (of a data slot),
    extra_type, extra_flags (of extra info) is a load. slots[i].copy() is private and has the same.

    FATAL   the packet goes on behind what is published; a part reaches beyond its page; extra
            info of another type than 1, 2, 3, 4 or 5; more than 20 data slots behind the first
    ERROR   more than 18 data slots behind the first; less than 14 bytes in the first slot once
            the sizes of the others are subtracted
    """
    raise NotImplementedError
'''

HINTS = (
    "copy() each slot once, and look at nothing but the copy afterwards.",
    "Extra info comes right behind the first slot, if that says so; it is no part of the packet.",
    "size of the first slot is the whole packet's: what the later slots leave is its own part.",
    "offset and size are below 65536, so their sum may be above it. Python does not mind; C does.",
    "Count before you load: slots[count] was not published, whatever lies there.",
)

MORE, EXTRA = NETTXF_more_data, NETTXF_extra_info
Part: TypeAlias = "tuple[int, int, int]"
Take: TypeAlias = "Callable[[SharedSlots, int], object]"


@frozen
class SlotCopy:
    """A slot as it was when it was copied, as a data slot and as extra info."""

    gref: int
    offset: int
    flags: int
    id: int
    size: int
    extra_type: int
    extra_flags: int


@frozen
class SharedSlot:
    """A slot in shared memory: ``words`` are its ring's, ``at`` is its first one."""

    words: memoryview
    at: int

    @property
    def gref(self) -> int:
        return self.words[self.at]

    @property
    def offset(self) -> int:
        return self.words[self.at + 1] & 0xFFFF

    @property
    def flags(self) -> int:
        return self.words[self.at + 1] >> 16

    @property
    def id(self) -> int:
        return self.words[self.at + 2] & 0xFFFF

    @property
    def size(self) -> int:
        return self.words[self.at + 2] >> 16

    @property
    def extra_type(self) -> int:
        return self.words[self.at] & 0xFF

    @property
    def extra_flags(self) -> int:
        return self.words[self.at] >> 8 & 0xFF

    def copy(self) -> SlotCopy:
        """RING_COPY_REQUEST: each word is loaded once."""
        first, second, third = (self.words[self.at + i] for i in range(3))
        return SlotCopy(
            first,
            second & 0xFFFF,
            second >> 16,
            third & 0xFFFF,
            third >> 16,
            first & 0xFF,
            first >> 8 & 0xFF,
        )


@frozen
class SharedSlots:
    """The slots of a transmit ring in shared memory, by their index."""

    words: memoryview

    def __getitem__(self, index: int) -> SharedSlot:
        return SharedSlot(self.words, 16 + 3 * (index % 256))


@frozen
class _Case:
    """A packet: its ``slots``, how many are ``published`` (None: all), and the ``idea`` that who
    takes it otherwise than the backend has not had."""

    idea: str
    text: str
    slots: tuple[bytes, ...]
    published: int | None = None

    @property
    def count(self) -> int:
        return len(self.slots) if self.published is None else self.published


def _hash(flags: int = 0) -> bytes:
    """Extra info that does not change what a packet is."""
    return gso(0, flags, XEN_NETIF_EXTRA_TYPE_HASH)


def _chain(*sizes: int, first: int | None = None) -> tuple[bytes, ...]:
    """Slots of ``sizes``; the first says ``first``, or the sum of all."""
    said = [sum(sizes) if first is None else first, *sizes[1:]]
    last = len(sizes) - 1
    return tuple(
        tx(size, MORE if n < last else 0, gref=FIRST_GREF + n) for n, size in enumerate(said)
    )


_CASES = (
    _Case("one-slot", "One slot of 60 bytes is a packet of one part.", (tx(60),)),
    _Case(
        "page-bounds",
        "offset 4000 and size 96 end with the page, which is fine.",
        (tx(96, offset=4000),),
    ),
    _Case(
        "page-bounds",
        "offset 4000 and size 97 are in the page each, but their sum is not: what lies behind is "
        "not the guest's to send.",
        (tx(97, offset=4000),),
    ),
    _Case(
        "sixteen-bits",
        "offset 65000 + size 1000 is 464 in 16 bits. Compute the end in a wider number.",
        (tx(1000, offset=65000),),
    ),
    _Case(
        "whole-size",
        "Three slots say 600, 200 and 300: the first one's size is the whole packet's, so 100 "
        "bytes are its own part.",
        _chain(100, 200, 300),
    ),
    _Case(
        "every-slot",
        "The second slot reaches beyond its page. Each slot is the guest's word, not only the "
        "first.",
        (tx(300, MORE), tx(200, offset=4000, gref=FIRST_GREF + 1)),
    ),
    _Case(
        "sizes",
        "The later slots have more bytes than the first one says in all; what would be left for "
        "the first is negative.",
        _chain(1, 200, 300, first=400),
    ),
    _Case("sizes", "The first part has 13 bytes: no Ethernet header fits in.", (tx(13),)),
    _Case(
        "published",
        "The last published slot says more_data. Behind it lies an old slot, which is not there "
        "as long as req_prod does not say so.",
        _chain(100, 200, 300),
        2,
    ),
    _Case(
        "extra-is-no-data",
        "The slot behind the first is extra info, and is no part of the packet.",
        (tx(100, EXTRA), _hash()),
    ),
    _Case(
        "extra-is-no-data",
        "Extra info and then a data slot: more_data of the first slot is about the latter.",
        (tx(300, EXTRA | MORE), _hash(), tx(200, gref=FIRST_GREF + 1)),
    ),
    _Case(
        "published",
        "The only published slot says that extra info follows, and none does.",
        (tx(100, EXTRA), _hash()),
        1,
    ),
    _Case(
        "extra-ends",
        "Each extra info says that another one follows, to the end of what is published.",
        (tx(100, EXTRA), _hash(1), _hash(1), _hash()),
        3,
    ),
    _Case(
        "extra-type",
        "Extra info of type 0 means nothing, so nobody knows what the guest wants.",
        (tx(100, EXTRA), gso(0, kind=XEN_NETIF_EXTRA_TYPE_NONE)),
    ),
    _Case("slots", "18 slots behind the first are what every backend takes.", _chain(*[50] * 19)),
    _Case("slots", "19 slots behind the first are too many.", _chain(*[50] * 20)),
    _Case("slots", "22 slots behind the first are an attack.", _chain(*[50] * 23)),
)


def _shown(result: object) -> str:
    if not isinstance(result, list):
        return str(result)
    return f"parts {result}" if len(result) < 4 else f"{len(result)} parts"


def _checked(result: object) -> str | list[Part]:
    if isinstance(result, list) and all(
        isinstance(part, tuple) and [type(number) for number in part] == [int] * 3
        for part in result
    ):
        return result
    if isinstance(result, str) and result in ("fatal", "ERROR"):
        return result
    raise MisunderstandingError(
        "type", f"take_packet() has to return a list of triples, FATAL or ERROR: {result!r:.60}"
    )


def _scene(case: _Case) -> SharedSlots:
    machine, page = guest_page()
    page[:] = tx_ring_page(case.slots, published=case.count)
    slots = SharedSlots(shared(page.cast("I"), "tx ring"))
    begin(machine)
    return slots


def _compare(case: _Case, backend: Backend, result: str | list[Part]) -> None:
    """Raise MisunderstandingError unless the backend takes the packet like the learner."""
    outcome = backend.take(case.slots, case.published)
    if isinstance(result, list):
        wanted = outcome.packets[0].data if outcome.packets else None
        same = b"".join(backend.part(*part) for part in result) == wanted
    else:
        same = result == outcome.verdict
    if not same:
        counts = Counter(outcome.statuses).items()
        said = outcome.why or ", ".join(f"{count} x {status}" for status, count in counts)
        raise MisunderstandingError(
            case.idea, f"{case.text} You say: {_shown(result)}. The backend: {said}."
        )


def _invert(slots: SharedSlots, access: Access) -> None:
    """The guest rewrites the word that was just loaded."""
    with acting(FRONTEND, "the guest rewrites it"):
        slots.words[access.word] ^= 0xFFFFFFFF


def _rewrite(take: Take, case: _Case, wanted: str | list[Part]) -> int:
    """Let the guest rewrite each word right behind its load, in a run of its own. Returns how many
    there are; raises MisunderstandingError where that changes what the learner says."""
    points = 0
    results: list[object] = []
    for access, _ in interleavings(
        scene=lambda: _scene(case),
        run=lambda slots: results.append(take(slots, case.count)),
        act=_invert,
    ):
        points += 1
        if results[-1] != wanted:
            slot, word = divmod(access.word - 16, 3)
            raise MisunderstandingError(
                "load-once",
                f"The guest rewrote word {word} of slot {slot} right after you had loaded it, and "
                f"you say {_shown(results[-1])} in place of {_shown(wanted)}: what you have "
                "checked is not what you use. Copy a slot once, then look at the copy.",
            )
    return points


def examine(functions: Functions) -> str:
    """Compare with the backend, then rewrite each word as soon as it has been loaded."""

    def take(slots: SharedSlots, count: int) -> object:
        with acting(BACKEND, "take_packet()"):
            return functions["take_packet"](slots, count)

    backend = numbered_pages()
    results = []
    for case in _CASES:
        results.append(_checked(take(_scene(case), case.count)))
        _compare(case, backend, results[-1])
    points = sum(_rewrite(take, case, result) for case, result in zip(_CASES, results, strict=True))
    return (
        f"{len(_CASES)} packets are taken as xennet's backend takes them, and a guest that "
        f"rewrites each of {points} words as soon as it was loaded changes nothing."
    )


# -- questions -------------------------------------------------------------------------------------


def _ask(text: str, slots: tuple[bytes, ...], published: int | None = None) -> Question:
    outcome = numbered_pages().take(slots, published)
    return Question(f"{text} What becomes of it: OKAY, ERROR or fatal?", outcome.verdict)


def _bounds(random: Random) -> Question:
    offset = random.choice((random.randrange(4083), random.randrange(61440, 65536)))
    size = max(14, min(65535, (PAGE_SIZE - offset) % 65536 + random.randrange(-2, 3)))
    return _ask(
        f"A packet of one slot has offset {offset} and size {size}.", (tx(size, offset=offset),)
    )


def _sizes(random: Random) -> Question:
    later = [random.randrange(1, 1000) for _ in range(random.randrange(1, 4))]
    size = sum(later) + random.randrange(0, 28)
    sizes = ", ".join(map(str, [size, *later]))
    return _ask(
        f"The slots of a packet, all with offset 0, have sizes {sizes}.",
        _chain(size - sum(later), *later),
    )


def _many(random: Random) -> Question:
    more = random.randrange(15, 25)
    size = random.randrange(14, 100)
    return _ask(
        f"A packet has a first slot and {more} more data slots; {size} bytes in each of them.",
        _chain(*[size] * (more + 1)),
    )


def _unfinished(random: Random) -> Question:
    slots = random.randrange(2, 9)
    published = random.randrange(1, slots + 1)
    size = random.randrange(14, 400)
    return _ask(
        f"A packet of {slots} slots with {size} bytes each is in the ring from index 0 on; "
        f"req_prod is {published}.",
        _chain(*[size] * slots),
        published,
    )


LESSON = Lesson(
    number=6,
    title="A hostile peer",
    makers=(_bounds, _sizes, _many, _unfinished),
    skeleton=SKELETON,
    functions=("take_packet",),
    hints=HINTS,
    examine=examine,
)
