"""Ending a run early: what a port's pull gives then, and what a batch holds afterwards."""

from __future__ import annotations

import pytest

from xennet.frames import FrameBatch
from xennet.port import open_port
from xennet.port.base import BasePort, PullStopped
from xennet.run.checker import Checker
from xennet.run.stop import Stop
from xennet.wrap.in_order import InOrderCheck

FRAME = bytes(60)


class Waiting(BasePort):
    """A port that puts a frame into the batch and then waits for ever for the next one."""

    exhausted = False

    def __init__(self, stop: Stop) -> None:
        super().__init__("waiting:")
        self.stop = stop

    def pull(self, batch: FrameBatch) -> int:
        batch.append(FRAME)
        self.stop.ask("SIGINT")
        self.stop.overdue()
        raise AssertionError("nobody left this pull")


def checker_of(port: BasePort, stop: Stop) -> Checker:
    return Checker(port, InOrderCheck(), InOrderCheck(), lambda frames: None, stop=stop)


def batch_of(frames: int) -> FrameBatch:
    batch = FrameBatch(memoryview(bytearray(4096)), 16)
    for _ in range(frames):
        batch.append(FRAME)
    return batch


def test_a_port_that_is_left_waiting_has_given_nothing() -> None:
    stop, batch = Stop(), batch_of(2)
    checker = checker_of(Waiting(stop), stop)
    assert checker.pull(batch) == 0
    assert (batch.count, batch.used) == (2, 2 * len(FRAME))
    assert checker.outgoing.frames_sent == 0
    assert checker.exhausted


def test_a_run_that_is_to_end_asks_no_port() -> None:
    stop = Stop()
    checker, batch = checker_of(open_port("gen:60x9"), stop), batch_of(0)
    stop.ask("SIGTERM")
    assert (checker.pull(batch), batch.count) == (0, 0)
    assert checker.exhausted


def test_the_first_reason_is_kept() -> None:
    stop = Stop()
    stop.ask("SIGINT")
    stop.ask("SIGTERM")
    assert stop.reason == "SIGINT"


def test_a_run_is_overdue_only_inside_a_pull() -> None:
    stop = Stop()
    stop.ask("SIGINT")
    stop.overdue()
    stop.pulling = True
    with pytest.raises(PullStopped):
        stop.overdue()
