"""A bound on CPU time leaves nothing behind, whenever it is over."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from xennet.check.cpu_bound import TimeOverError, cpu_bound


def work(seconds: float) -> None:
    """Use ``seconds`` of CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_takes_too_long_is_interrupted() -> None:
    with pytest.raises(TimeOverError, match=r"0\.05 s of CPU time"), cpu_bound(0.05):
        work(60)


def test_what_blocks_is_interrupted() -> None:
    with (
        pytest.raises(TimeOverError, match=r"it blocks: 0\.05 s without"),
        cpu_bound(60, real=0.05),
    ):
        time.sleep(1000)


def test_a_timer_that_was_armed_before_goes_on() -> None:
    went_off = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda number, frame: went_off.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        with suppress(TimeOverError), cpu_bound(60, real=0.05):
            time.sleep(1000)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left < 1000
        assert interval == 0
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with cpu_bound(60, real=1000):  # the other one is over first
            assert went_off.wait(60)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_is_in_time_goes_on() -> None:
    with cpu_bound(60):
        work(0.001)


def test_nothing_stays_armed_even_if_the_time_is_over_at_the_very_end() -> None:
    before, alarm = signal.getsignal(signal.SIGVTALRM), signal.getsignal(signal.SIGALRM)
    for number in range(300):
        limit = 0.00002 + number * 0.000005
        with suppress(TimeOverError), cpu_bound(limit, real=limit):
            work(limit)
        assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGVTALRM) == before
        assert signal.getsignal(signal.SIGALRM) == alarm


def test_another_thread_is_not_bound() -> None:
    done = []

    def run() -> None:
        with cpu_bound(0.001):
            work(0.05)
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert done == [True]
