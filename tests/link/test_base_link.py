"""The base of links within a process is a link itself: a cable."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet.errors import LinkError
from xennet.link import BaseLink, EndPair
from xennet.link.protocol import Link
from xennet.run.options import RunOptions
from xennet.testing import LinkContract
from xennet.testing.link_contract import Stack
from xennet.testing.sample_frames import numbered


class TestCable(LinkContract):
    spec = "epair"  # of the run, which takes links by their names

    def make(self, folder: Path, pairs: int = 1, *, live: bool = False) -> Link:
        return BaseLink(RunOptions(live=live).clock())


class Counted(BaseLink):
    """Notes what is brought up and taken down; the second pair does not come up."""

    name = "wire"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def bring_up(self, pair: EndPair) -> None:
        self.calls.append(f"up {pair.name}")
        if pair.name == "wire1":
            raise LinkError("wire1 is cut")

    def take_down(self, pair: EndPair) -> None:
        self.calls.append(f"down {pair.name}")


def test_what_came_up_before_a_failure_is_taken_down() -> None:
    link = Counted()
    pairs = [link.join(Stack(), Stack()) for _ in range(3)]
    with pytest.raises(LinkError, match="wire1 is cut"):
        link.open()
    assert [pair.was_up for pair in pairs] == [True, True, False]
    link.close()
    link.destroy()
    assert link.calls == ["up wire0", "up wire1", "down wire0", "down wire1"]


def test_it_is_opened_once() -> None:
    link = Counted()
    link.open()
    for state in ("open", "closed"):
        with pytest.raises(LinkError, match=f"open.. of a link that is {state}"):
            link.open()
        link.close()
    assert repr(link) == "<Counted wire: 0 pairs, closed>"


def test_it_pushes_no_more_than_there_is_room_for() -> None:
    link, giver, taker = BaseLink(), Stack(), Stack(limit=3)
    link.join(giver, taker)
    link.open()
    giver.send(numbered(10))
    link.carry()
    assert taker.got == numbered(3)
    link.destroy()


def test_an_end_that_calls_wakes_it_up() -> None:
    link, giver, taker = BaseLink(RunOptions(live=True).clock()), Stack(), Stack()
    link.join(giver, taker)
    link.open()
    link.host_clock.call_after(1, lambda: giver.send(numbered(1)))
    link.carry_live(5.0, lambda: bool(taker.got))
    assert taker.got == numbered(1)
    link.destroy()
