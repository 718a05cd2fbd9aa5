"""The target ``tx``: one pass of the hardened backend over a tx ring page."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from random import Random

from xennet.abi.netif import TX_REQUEST
from xennet.abi.ring import SRING_HEADER, SRING_HEADER_SIZE
from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.fuzz.fuzz_input import FuzzInput, Section
from xennet.fuzz.target import Finding, InputField
from xennet.netback.poll_page import FIRST_GREF, PAGES, PagePoller

PAGE, START = "tx page", "start"

#: Lengths of packets that a host may get (rules F4, F6).
_SHORTEST, _LONGEST = 14, 65535
_U32 = 2**32 - 1

_GREFS = (FIRST_GREF, FIRST_GREF + PAGES - 1, 0, _U32)
_OFFSETS = (0, 0, 0, 100, PAGE_SIZE - 14, PAGE_SIZE - 1, PAGE_SIZE, 0xFFFF)
_SIZES = (14, 60, 1514, 4000, PAGE_SIZE, 13, 0, 0xFFFF)
_FLAGS = (0, 0, 0, 1, 2, 3, 4, 4, 8, 12, 0xFFFF)

# What an execution was like, one counter each: the verdict, packets, errors.
_VERDICTS, _PACKETS, _ERRORS = 16, 9, 9


class TxTarget:
    """One pass over the page by a backend that begins at index ``start``.

    A packet that is longer or shorter than any that a host may get is a finding, and so is an
    exception.
    """

    name = "tx"
    sections = (Section(PAGE, PAGE_SIZE), Section(START, 4))
    unit_executions = 8192

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self._poller = PagePoller()
        self._seen = bytearray(_VERDICTS + _PACKETS + _ERRORS)
        self.counters = memoryview(self._seen)
        self.packets = 0

    def execute(self, fuzz_input: FuzzInput) -> Finding | None:
        poller, seen = self._poller, self._seen
        seen[:] = bytes(len(seen))
        poller.load(fuzz_input.section(PAGE)[:PAGE_SIZE])
        try:
            verdict = poller.poll(_start(fuzz_input))
        except Exception as error:
            return Finding("exception", f"{type(error).__name__}: {error}")
        lengths = [len(packet.data) for packet in poller.packets()]
        self.packets = len(lengths)
        seen[verdict] = 1
        seen[_VERDICTS + min(len(lengths).bit_length(), _PACKETS - 1)] = 1
        seen[_VERDICTS + _PACKETS + min(poller.errors.bit_length(), _ERRORS - 1)] = 1
        wrong = [length for length in lengths if not _SHORTEST <= length <= _LONGEST]
        return Finding("length", f"a packet of {wrong[0]} bytes") if wrong else None

    def start(self, random: Random) -> FuzzInput:
        requests = b"".join(_request(random) for _ in range(random.randrange(1, 8)))
        page = SRING_HEADER.pack(len(requests) // TX_REQUEST.size, 1, 0, 1, b"", b"") + requests
        return FuzzInput(self.name, ((PAGE, page.ljust(PAGE_SIZE, b"\0")),))

    def mutate(self, fuzz_input: FuzzInput, random: Random, other: FuzzInput) -> FuzzInput:
        page = bytearray(fuzz_input.section(PAGE).ljust(PAGE_SIZE, b"\0"))
        for _ in range(random.randrange(1, 4)):
            slot = random.randrange(max(self.slots(fuzz_input), 1))
            at = SRING_HEADER_SIZE + slot * TX_REQUEST.size
            if random.random() < 0.2:  # a slot of the other input
                page[at : at + TX_REQUEST.size] = other.section(PAGE)[
                    at : at + TX_REQUEST.size
                ].ljust(TX_REQUEST.size, b"\0")
            elif random.random() < 0.2:  # one request more or less, or any number
                count = (slot, slot + 1, slot + 2, random.randrange(TX_SLOTS + 2))
                page[:4] = random.choice(count).to_bytes(4, "little")
            else:
                page[at : at + TX_REQUEST.size] = _request(random)
        rest = tuple(pair for pair in fuzz_input.sections if pair[0] != PAGE)
        return FuzzInput(self.name, ((PAGE, bytes(page)), *rest))

    def slots(self, fuzz_input: FuzzInput) -> int:
        prod = int.from_bytes(fuzz_input.section(PAGE)[:4], "little")
        return min((prod - _start(fuzz_input)) & _U32, TX_SLOTS)

    def without(self, fuzz_input: FuzzInput, slot: int) -> FuzzInput:
        page = bytearray(fuzz_input.section(PAGE).ljust(PAGE_SIZE, b"\0"))
        start, slots = _start(fuzz_input), self.slots(fuzz_input)
        places = [slice(at, at + TX_REQUEST.size) for at in _places(start, slots)]
        for place, behind in zip(places[slot:], places[slot + 1 :], strict=False):
            page[place] = page[behind]
        page[places[-1]] = bytes(TX_REQUEST.size)
        page[:4] = ((start + slots - 1) & _U32).to_bytes(4, "little")
        return fuzz_input.with_section(PAGE, bytes(page))

    def fields(self, fuzz_input: FuzzInput) -> Sequence[InputField]:
        found = [InputField("req_prod", PAGE, 0, 4), InputField("start", START, 0, 4)]
        for slot, at in enumerate(_places(_start(fuzz_input), self.slots(fuzz_input))):
            for name in TX_REQUEST.fields:
                field = (PAGE, at + TX_REQUEST.offsets[name], TX_REQUEST.sizes[name])
                found.append(InputField(name, *field, slot))
        return found

    def trace(self) -> bytes:
        return sha256(self._seen).digest()[:8]

    def close(self) -> None:
        self._poller.close()


def _start(fuzz_input: FuzzInput) -> int:
    return int.from_bytes(fuzz_input.section(START)[:4], "little")


def _places(start: int, slots: int) -> list[int]:
    """Where the ``slots`` requests from index ``start`` on lie in the page."""
    indices = (start + i for i in range(slots))
    return [SRING_HEADER_SIZE + index % TX_SLOTS * TX_REQUEST.size for index in indices]


def _request(random: Random) -> bytes:
    return TX_REQUEST.pack(
        random.choice(_GREFS),
        random.choice(_OFFSETS),
        random.choice(_FLAGS),
        random.randrange(0x10000),
        random.choice(_SIZES),
    )
