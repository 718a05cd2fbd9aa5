"""A call that waits in the middle, in a thread of its own."""

from __future__ import annotations

import pytest

from xennet.step.turns import LeftError, Turns


def test_one_of_the_two_goes_on_at_a_time() -> None:
    seen: list[str] = []

    def call() -> None:
        seen.append("call 1")
        turns.wait()
        seen.append("call 2")

    turns = Turns(call)
    assert seen == []
    turns.go()
    seen.append("reader")
    assert not turns.over
    turns.go()
    assert seen == ["call 1", "reader", "call 2"]
    assert turns.over
    with pytest.raises(RuntimeError, match="over"):
        turns.go()


def test_who_leaves_ends_the_call_where_it_waits_or_looks() -> None:
    ended: list[bool] = []

    def call() -> None:
        try:
            turns.look()
            turns.wait()
        except LeftError:
            ended.append(True)
            raise

    turns = Turns(call)
    turns.go()
    turns.leave()
    turns.leave()
    assert ended == [True]
    assert turns.over
    turns = Turns(call)
    turns.leave()
    assert ended == [True]  # it never began


def test_what_the_call_raises_its_reader_raises() -> None:
    def call() -> None:
        raise KeyError("something")

    turns = Turns(call)
    with pytest.raises(KeyError, match="something"):
        turns.go()
    assert turns.over
    turns.leave()
