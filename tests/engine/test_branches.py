"""Counters at branches: the right ones, the same ones in plain and compiled code, and none
elsewhere."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import branching
import pytest
from branching import Methods, called, kinds

from xennet.engine.branches import Branches, reached
from xennet.engine.counted_plain import BranchCounters, CountedCode, counting_kernel
from xennet.fuzz import payload

SOURCE = Path(branching.__file__).read_text().splitlines()


def counters() -> BranchCounters:
    return BranchCounters(Branches(reached(kinds)))


def counts(found: BranchCounters) -> dict[str, int]:
    """What was counted, by the text of the line and the kind."""
    counted: Counter[str] = Counter()
    for name, hit in zip(found.branches.names, found.hits, strict=False):
        counted[f"{SOURCE[name.line - 1].strip()} ({name.kind})"] += hit
    return dict(+counted)


def run(kernel: Callable[..., int], words: list[int]) -> tuple[int, int]:
    res = array("q", bytes(8))
    return kernel(array("I", words), res), res[0]


def test_each_branch_is_counted_as_often_as_it_was_taken() -> None:
    found = counters()
    kernel = counting_kernel(kinds, found)
    words = [11, 7, 9, 3, 7]
    assert run(kernel, words) == run(kinds, words)
    assert counts(found) == {
        "def kinds(words: U32Array, res: Vector) -> int: (entry)": 1,
        "word = words[i] (loop)": 5,
        "total += called(word, i) (if)": 1,
        "elif (word == 7 and i < 2) or word == 9: (else)": 4 + 2,
        "elif (word == 7 and i < 2) or word == 9: (and)": 2,
        "elif (word == 7 and i < 2) or word == 9: (or)": 3,
        "total -= 1 (if)": 2,
        "total += 100 if word != 3 else 1000 (then)": 4,
        "total += 100 if word != 3 else 1000 (otherwise)": 1,
        "word >>= 1 (loop)": 4 + 3 + 4 + 2 + 3,
        "def called(word: int, i: int) -> int: (entry)": 1,
        "if word >= 1 << 20: (else)": 1,
    }


def test_operands_of_comparisons_that_do_not_hold_are_kept() -> None:
    found = counters()
    counting_kernel(kinds, found)(array("I", [11]), array("q", bytes(8)))
    pairs = list(zip(found.operands[::2], found.operands[1::2], strict=True))
    # word > LIMIT held; word != 3 differed; word >= 1 << 20 did not hold.
    assert sorted(pair for pair in pairs if any(pair)) == [(11, 3), (11, 1 << 20)]
    assert len(pairs) == len(found.branches.comparisons)


def test_a_counter_stays_at_255() -> None:
    found = counters()
    counting_kernel(kinds, found)(array("I", [1] * 300), array("q", bytes(8)))
    assert counts(found)["word = words[i] (loop)"] == 255


def test_lines_are_those_of_the_source() -> None:
    found = counters()
    counting_kernel(kinds, found)(array("I", [3]), array("q", bytes(8)))
    (lines,) = found.branches.lines(found.hits).values()
    hit = {SOURCE[line - 1].strip() for line, count in lines.items() if count}
    assert "word = words[i]" in hit
    assert "return word <= i" not in hit
    assert str(found.branches.names[0]) == f"branching.py:{min(lines)} kinds (entry)"


def test_a_kernel_that_is_not_counted_is_the_function_itself() -> None:
    code = kinds.__code__, called.__code__
    counting_kernel(kinds, counters())
    assert (kinds.__code__, called.__code__) == code


def test_compiled_code_counts_the_same_branches_and_keeps_the_same_operands() -> None:
    pytest.importorskip("numba")
    from xennet.engine.fast import FAST
    from xennet.engine.fast.counted import counting_kernel as compiled_counting

    plain, fast = counters(), counters()
    compiled = compiled_counting(kinds, fast)
    counted = counting_kernel(kinds, plain)
    random = Random(1)
    for _ in range(50):
        words = [random.choice([3, 7, 9, 11, 2**21, 2**32 - 1]) for _ in range(random.randrange(6))]
        res = array("q", bytes(8))
        assert compiled(FAST.view(array("I", words)), FAST.view(res)) == run(counted, words)[0]
        assert bytes(plain.memory) == bytes(fast.memory)
    assert any(plain.operands)


@pytest.mark.parametrize("value", [5, 0, "a", 1.5])
def test_methods_count_while_they_are_asked_to(value: Any) -> None:
    judge, small = Methods.judge, Methods.small
    before, code = Methods().judge(value), judge.__code__
    with CountedCode([branching]) as counted:
        assert Methods(2).small
        assert Methods().judge(value) == before
        assert Methods.judge is judge
        kinds_seen = counts(counted.counters)
        assert kinds_seen["def small(self) -> bool: (entry)"] == 1
        wanted = {
            5: 'return "number" if value else "nothing" (then)',
            0: 'return "number" if value else "nothing" (otherwise)',
            "a": 'return "short" (except)',
        }.get(value, "def judge(self, value: object, *, strict: bool = True) -> str: (entry)")
        assert kinds_seen[wanted] == 1
    assert judge.__code__ is code
    assert Methods.small is small
    counted.counters.hits[:] = bytes(len(counted.counters.hits))
    assert Methods().judge(value) == before
    assert not any(counted.counters.hits)


def test_counting_code_leaves_no_names_and_is_taken_back_once() -> None:
    before, code = dict(vars(branching)), Methods.judge.__code__
    counted = CountedCode([branching])
    for _ in range(2):
        counted.open()
        counted.open()
        counted.close()
        assert Methods.judge.__code__ is not code
        counted.close()
        counted.close()
        assert Methods.judge.__code__ is code
        assert vars(branching) == before


def test_counting_code_that_is_lent_over_another_gives_that_back() -> None:
    before = dict(vars(payload))
    with CountedCode([payload]) as outer:
        with CountedCode([payload]) as inner:
            payload.frames()
        assert any(inner.counters.hits)
        assert not any(outer.counters.hits)
        payload.frames()
        assert bytes(outer.counters.hits) == bytes(inner.counters.hits)
    assert vars(payload) == before
