"""A link that was interrupted by Control-C at any line, or by an observer that raised at any event,
goes on as if nothing had been."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from contextlib import suppress
from itertools import accumulate, count
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.frames import FrameBatch
from xennet.host.setup import Setup
from xennet.link.epair import EpairLink
from xennet.link.vifs import Vifs
from xennet.netback.policy import VifOptions
from xennet.netfront.options import NetfrontOptions
from xennet.observe import EventDelivered, EventSent, FramePassed, Hypercall, Notification
from xennet.port import open_port
from xennet.port.gen import GenPort
from xennet.vif.ring_events import RingEvent


class Taking(GenPort):
    """A port that gives frames and keeps what it takes."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self.taken: list[bytes] = []

    def push(self, batch: FrameBatch, /) -> None:
        super().push(batch)
        self.taken += map(bytes, batch)


class Interrupted:
    """A context in which Control-C comes at line ``at`` of the program, 0: never."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and self._left:
            self._left -= 1
            if not self._left:
                signal.raise_signal(signal.SIGINT)
        return self._trace


class TwoWays(Vifs):
    """A link of ``guests`` that have ``queues`` each, with 300 frames in each direction."""

    def __init__(self, guests: int, queues: int) -> None:
        front, back = NetfrontOptions(queues=queues), VifOptions(max_queues=queues)
        super().__init__(Setup(guests=guests, front=front, back=back))
        self.ends = [(Taking("60x300"), Taking("1514x300")) for _ in range(guests)]
        for ends in self.ends:
            self.join(*ends)
        self.open()

    def finish(self) -> None:
        """Close it. Every frame has to have arrived, once."""
        for guest, host in self.ends:
            for sent, taken in ((guest, host.taken), (host, guest.taken)):
                again = FrameBatch(memoryview(bytearray(300 * 1514)), 300)
                open_port(sent.name).pull(again)
                assert Counter(taken) == Counter(map(bytes, again))
        self.close()
        assert not self.leaks()
        self.destroy()


@settings(max_examples=10, deadline=None)
@given(
    guests=st.integers(1, 2),
    queues=st.integers(1, 2),
    lines=st.lists(st.integers(1, 5000), min_size=1, max_size=6),
)
def test_no_frame_is_lost_where_a_run_is_interrupted(
    guests: int, queues: int, lines: list[int]
) -> None:
    link = TwoWays(guests, queues)
    for line in (*lines, 0):
        with suppress(KeyboardInterrupt), Interrupted(line):
            link.carry()
    link.finish()


@settings(max_examples=10, deadline=None)
@given(lines=st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_no_frame_of_a_link_without_a_machine_is_lost(lines: list[int]) -> None:
    link = EpairLink()
    sent, taken = Taking("60x3000"), Taking("60x0")
    link.join(sent, taken)
    link.open()
    for line in (*lines, 0):
        with suppress(KeyboardInterrupt), Interrupted(line):
            link.carry()
    numbers = [int.from_bytes(frame[14:18], "big") for frame in taken.taken]
    assert numbers == list(range(3000))
    link.close()


@pytest.mark.parametrize(
    "kind",
    [EventDelivered, EventSent, FramePassed, Hypercall, Notification, RingEvent],
    ids=lambda kind: kind.__name__,
)
@settings(max_examples=4, deadline=None)
@given(queues=st.integers(1, 2), events=st.lists(st.integers(1, 500), min_size=1, max_size=6))
def test_no_frame_is_lost_where_an_observer_raises(
    kind: type, queues: int, events: list[int]
) -> None:
    """The machine goes on by itself: no driver is kicked again."""
    link, at, seen = TwoWays(1, queues), set(accumulate(events)), count(1)

    def observe(_: object) -> None:
        if next(seen) in at:
            raise InterruptedError

    leave = link.host.machine.observers.subscribe(observe, kind)
    link.kick()
    for _ in range(len(events) + 1):
        with suppress(InterruptedError):
            link.settle()
    leave()
    link.finish()
