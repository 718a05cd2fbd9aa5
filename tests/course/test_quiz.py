"""Questions of 200 seeds: none twice in a row, and answers that another computation gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from xennet.course.contents import TITLES, load
from xennet.course.lesson import Question, quiz

TWO_32 = 1 << 32


def free(req_prod_pvt: int, rsp_cons: int) -> str:
    return str(256 - (req_prod_pvt - rsp_cons) % TWO_32)


def place(number: int) -> str:
    return str(64 + number % 256 * 12)


def waiting(req_prod: int, req_cons: int, _: int) -> str:
    # A frontend that obeys the rules has never more than 256 requests without a response.
    return str((req_prod - req_cons) % TWO_32)


def passes(event: int, old: int, new: int) -> bool:
    """Step by step: does the index become ``event`` on its way?"""
    while old != new:
        old = (old + 1) % TWO_32
        if old == event:
            return True
    return False


def batches(start: int, event: int, *counts: int) -> str:
    sent = []
    for number, count in enumerate(counts, 1):
        if passes(event, start, start + count):
            sent.append(str(number))
        start += count
    return ", ".join(sent) or "none"


def turns(start: int, steps: str) -> str:
    """How many events: the sleeper is woken once, and then not until it has slept again."""
    asleep, events = True, 0
    for step in steps.split(", "):
        if step.endswith("more"):
            events += asleep
            asleep = False
        else:
            asleep = True
    return str(events)


def marks(header: str) -> str:
    uses = [word for word, bit in (("read", 8), ("written", 16)) if int(header, 16) & bit]
    return f"in use, may be {' and '.join(uses)}" if uses else "not in use"


def how_many(size: str, offset: str, how: str) -> str:
    return str((int(size) + int(offset) + 4095) // 4096 + (how == "with"))


def allowed(header: str, _: str, domid: str, how: str) -> str:
    entry = int(header, 16)
    mine = entry >> 16 == int(domid)
    return "yes" if mine and (how != "for writing" or not entry & 4) else "no"


def words(domid: int, readonly: bool, gref: int) -> str:
    first = 1 + 4 * readonly + domid * 65536
    return f"words {gref * 2 + 1} and {gref * 2}; 0x{first:08x}"


PATTERNS: dict[str, Callable[..., str]] = {
    r"256 slots, .* req_prod_pvt is (\d+), its rsp_cons is (\d+)": free,
    r"does request number (\d+) begin": place,
    r"req_prod is (\d+); the backend's req_cons is (\d+), its rsp_prod_pvt is (\d+)": waiting,
    r"req_event is (\d+)\. The frontend moves req_prod from (\d+) to (\d+)": (
        lambda *numbers: "yes" if passes(*numbers) else "no"
    ),
    r"before number (\d+)\. (\d+) more come": lambda a, b: str((a + b + 1) % TWO_32),
    r"mappings of it (\d+) were made and (\d+) undone": lambda a, b: "yes" if a == b else "no",
    r"req_prod is (\d+), req_event is (\d+), and .* times: (\d+), (\d+), (\d+), (\d+) ": batches,
}
ORDERS = {
    "before the store": "sleeps not; not sent",
    "between the store and the load": "sleeps not; sent",
    "behind the load": "sleeps; sent",
}


NAMES = [
    "Unknown",
    "Initialising",
    "InitWait",
    "Initialised",
    "Connected",
    "Closing",
    "Closed",
    "Reconfiguring",
    "Reconfigured",
]


def named(state: int) -> str:
    return f"{NAMES[state] if 0 <= state <= 8 else 'not a XenbusState'} ({state})"


def reaction(doing: str, own: str, backend: str) -> str:
    """What xen-netfront's netback_changed and xennet_bus_close do."""
    connect = own == "1"
    running = {
        "2": "set up rings and connect" if connect else "",
        "4": "announce itself on the network",
        "5": "show Closed",
        "6": "end grants and channels, then show Closed",
    }
    unloading = {
        "0": "show Closed, then end",
        "5": "show Closed" if own == "5" else "",
        "6": "show Closed, then end",
    }
    done = (running if doing == "runs" else unloading).get(backend, "")
    return done or "nothing: it waits"


def walk(own: str, frontend: str) -> str:
    """The shortest way of a backend, the lower state first."""
    ways: list[list[int]] = [[int(own)]]
    edges = {1: (2, 6), 2: (4, 5), 4: (5,), 5: (6,), 6: (2, 5)}
    target = {1: 2, 4: 4, 5: 5, 6: 6}[int(frontend)]
    while ways[0][-1] != target:
        ways += [[*ways[0], state] for state in edges[ways[0][-1]]]
        ways.pop(0)
    return ", ".join(map(named, ways[0][1:])) or "none: it stays"


def scanned(text: str) -> str:
    """As the %d of the kernel's sscanf, which knows no plus."""
    match = re.match(r"\s*(-?\d+)", text)
    number = int(match[1]) if match else 0
    return named(number) if 0 <= number <= 8 else f"{number} (not a XenbusState)"


def rest(sizes: str) -> int:
    first, *later = map(int, sizes.split(", "))
    return first - sum(later)


def statuses(kinds: str, bad: str | None) -> str:
    found, data = [], 0
    for kind in kinds.split(", "):
        data += kind == "data"
        wrong = kind == "data" and bad is not None and data == int(bad)
        found.append("NULL" if kind == "extra info" else "ERROR" if wrong else "OKAY")
    return ", ".join(found)


def checksum(flags: str) -> str:
    words = [word for bit, word in ((1, "blank"), (2, "validated")) if int(flags) & bit]
    return ", ".join(words) or "nothing: it has to be verified"


def many(more: str) -> str:
    return "fatal" if int(more) > 20 else "ERROR" if int(more) > 18 else "OKAY"


#: Patterns whose groups are words.
OF_WORDS: dict[str, Callable[..., str]] = {
    r"all before (\d+) has gone .* works: (.*)\. How many": lambda start, s: turns(int(start), s),
    r"grant entry is (0x\w+) ": marks,
    r"frame of (\d+) bytes begins at offset (\d+) .* (with|without) GSO": how_many,
    r"netfront (.*); its state is \w+ \((\d)\)\. .* which is \w+ \((\d)\)": reaction,
    r"netback is in \w+ \((\d)\), and finds its frontend in \w+ \((\d)\)": walk,
    r'a frontend holds "(.*)"\.': scanned,
    r"transmit ring have sizes ([\d, ]+)\. How": lambda sizes: str(rest(sizes)),
    r"transmit ring has flags (\d)\.": checksum,
    r"takes these slots: ([^;.]+)(?:; the reference of data slot (\d))?": statuses,
    r"one slot has offset (\d+) and size (\d+)": (
        lambda offset, size: "fatal" if int(offset) + int(size) > 4096 else "OKAY"
    ),
    r"offset 0, have sizes ([\d, ]+)\.": lambda sizes: "ERROR" if rest(sizes) < 14 else "OKAY",
    r"a first slot and (\d+) more": many,
    r"packet of (\d+) slots .* req_prod is (\d+)": (
        lambda slots, published: "fatal" if int(published) < int(slots) else "OKAY"
    ),
}


def slot(raw: str) -> str:
    gref, rest = raw[:8], raw[8:]
    numbers = [gref, rest[0:4], rest[8:12], rest[12:16]]
    return ", ".join(
        str(int("".join(reversed(re.findall("..", number))), 16)) for number in numbers
    )


def answer(question: Question) -> str:
    text = question.text
    if match := re.search(r"request ([0-9a-f]{24}) ", text):
        return slot(match[1])
    if match := re.search(r"is published (.*?)\. Does", text):
        return ORDERS[match[1]]
    if match := re.search(
        r"first word (\w+) .* second (\d+)\. Domain (\d+) maps it (.*?)\. D", text
    ):
        return allowed(*match.groups())
    if match := re.search(r"to domain (\d+)(, read-only,)? by reference (\d+)", text):
        return words(int(match[1]), bool(match[2]), int(match[3]))
    for pattern, compute in OF_WORDS.items():
        if match := re.search(pattern, text):
            return compute(*match.groups())
    for pattern, compute in PATTERNS.items():
        if match := re.search(pattern, text):
            return compute(*map(int, match.groups()))
    raise AssertionError(f"nobody knows the answer: {text}")


@pytest.mark.parametrize("number", TITLES)
def test_answers_of_200_seeds_are_right_and_no_question_comes_twice_in_a_row(number: int) -> None:
    lesson = load(number)
    before: list[str] = []
    for seed in range(200):
        questions = quiz(lesson, seed, 8)
        assert seed > 10 or questions == quiz(lesson, seed, 8)
        texts = [question.text for question in questions]
        assert all(a != b for a, b in pairwise(texts))
        assert texts != before
        before = texts
        for question in questions:
            assert question.answer == answer(question), question
