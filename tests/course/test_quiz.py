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


def allowed(header: str, _: str, domid: str, how: str) -> str:
    entry = int(header, 16)
    mine = entry >> 16 == int(domid)
    return "yes" if mine and (how != "for writing" or not entry & 4) else "no"


def words(domid: int, readonly: bool, gref: int) -> str:
    first = 1 + 4 * readonly + domid * 65536
    return f"words {gref * 2 + 1} and {gref * 2}; 0x{first:08x}"


PATTERNS: dict[str, Callable[..., str]] = {
    r"256 slots\. .* req_prod_pvt is (\d+), its rsp_cons is (\d+)": free,
    r"does request number (\d+) begin": place,
    r"req_prod is (\d+); the backend's req_cons is (\d+), its rsp_prod_pvt is (\d+)": waiting,
    r"req_event is (\d+)\. The frontend moves req_prod from (\d+) to (\d+)": (
        lambda *numbers: "yes" if passes(*numbers) else "no"
    ),
    r"before number (\d+)\. (\d+) more come": lambda a, b: str((a + b + 1) % TWO_32),
    r"maps it (\d+) times, and undoes (\d+)": lambda a, b: "yes" if a == b else "no",
    r"req_prod is (\d+), req_event is (\d+), and .* times: (\d+), (\d+), (\d+), (\d+) ": batches,
}
ORDERS = {
    "before the store": "sleeps not; not sent",
    "between the store and the load": "sleeps not; sent",
    "behind the load": "sleeps; sent",
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
        assert questions == quiz(lesson, seed, 8)
        texts = [question.text for question in questions]
        assert all(a != b for a, b in pairwise(texts))
        assert texts != before
        before = texts
        for question in questions:
            assert question.answer == answer(question), question
