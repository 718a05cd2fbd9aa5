"""One of two processes that work on one memory at the same time; run by test_two_processes.

    python litmus.py FD ENGINE ME

FD: a memfd of one page; ENGINE: how kernels run here; ME: 0 or 1. Prints what it found as JSON. The
kernels below are the same source in both engines, so in the plain one their words are changed
through xennet.engine.atomics, as everything is that is not compiled.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from array import array
from collections.abc import Callable

from xennet.engine import atomics
from xennet.engine.choice import using
from xennet.engine.kernel import (
    U32Words,
    Vector,
    arm,
    compare_and_swap,
    fetch_and,
    fetch_or,
    publish,
)

# Words of the page, each in a cache line of its own.
REQ_PROD, REQ_EVENT = 0, 16
#: Rounds that each side has finished, and what it saw in them, by parity of the round.
PUBLISHED, SLEPT = 32, 48
NOTIFIED, SAW = 64, 80
STOP = 96
#: Which of the two is there, for each of the tests.
READY = 112
BITS = 128
COUNTER = 144

#: Loads before one that waits in vain lets others have the processor.
SPINS = 20_000
#: Seconds that each test takes; rounds of publishing and sleeping, at least; and of the others at
#: once, between two looks at the clock.
SECONDS, LEAST, CHUNK = 0.2, 100, 1000
#: Seconds after which the other process is taken for dead.
DEAD = 60.0


def wait(words: U32Words, word: int, least: int) -> int:
    """1 once ``words[word]`` is ``least`` or more, 0 if it takes long."""
    for _ in range(SPINS):
        if words[word] >= least:
            return 1
    return 0


def publish_rounds(words: U32Words, done: int, until: int, res: Vector) -> int:
    """A producer: publish one index in each round, and look whether the other wants an event.

    Returns how many rounds are done. ``res[0]``: in how many of them the other did not see the
    index and was not to be told of it, so that it sleeps for ever; ``res[1]``: in how many neither
    was behind the other.
    """
    while done < until and wait(words, SLEPT, done):
        if done:
            last = (done - 1) & 1
            res[0] += 1 if not words[NOTIFIED + last] and not words[SAW + last] else 0
            res[1] += 1 if words[NOTIFIED + last] and words[SAW + last] else 0
        words[NOTIFIED + (done & 1)] = publish(words, REQ_PROD, REQ_EVENT, done + 1)
        compare_and_swap(words, PUBLISHED, done, done + 1)
        done += 1
    return done


def sleep_rounds(words: U32Words, done: int, until: int, res: Vector) -> int:
    """A consumer that is about to sleep: ask for an event, then look once more, in each round."""
    while done < until and wait(words, PUBLISHED, done):
        arm(words, REQ_EVENT, done + 1)
        words[SAW + (done & 1)] = 1 if words[REQ_PROD] == done + 1 else 0
        compare_and_swap(words, SLEPT, done, done + 1)
        done += 1
    return done


def set_and_clear(words: U32Words, me: int, rounds: int) -> int:
    """Set and clear one's own half of the bits, one after the other, while the other process does
    that with its half: how many bits were not what one had made them."""
    lost = 0
    for i in range(rounds):
        bit = 1 << (me * 16 + (i & 15))
        lost += 1 if fetch_or(words, BITS, bit) & bit else 0
        lost += 0 if fetch_and(words, BITS, ~bit) & bit else 1
    return lost


def count(words: U32Words, rounds: int) -> int:
    """Add 1 ``rounds`` times; how often the other process came between load and swap."""
    again = 0
    for _ in range(rounds):
        seen = words[COUNTER]
        while True:
            found = compare_and_swap(words, COUNTER, seen, seen + 1)
            if found == seen:
                break
            seen = found
            again += 1
    return again


def patiently(condition: Callable[[], bool]) -> None:
    """Wait for the other process; SystemExit if it does not come."""
    end = time.monotonic() + DEAD
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the other process is not there")
        time.sleep(0)


def main(fd: int, engine_name: str, me: int) -> dict[str, object]:
    words = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("I")
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[me % len(cpus)]})  # at the same time, if there are two
    with using(engine_name) as engine:
        names = (publish_rounds, sleep_rounds, set_and_clear, count, fetch_or)
        publisher, sleeper, bits, counter, meet_bit = map(engine.kernel, names)
        view = engine.view(words)
        res, way = array("q", (0, 0)), atomics.of(words)
        found = engine.view(res)
        # Compile before the other waits.
        (publisher, sleeper)[me](view, 0, 0, found)
        bits(view, me, 0)
        counter(view, 0)

        def meet(test: int) -> None:
            meet_bit(view, READY, 1 << (2 * test + me))
            patiently(lambda: words[READY] >> 2 * test & 3 == 3)

        meet(0)
        done, end = 0, time.monotonic() + SECONDS
        while not words[STOP]:
            if time.monotonic() > end + DEAD:
                raise SystemExit("the other process is not there")
            before = done
            done = (publisher, sleeper)[me](view, done, done + 1000, found)
            if me == 0 and time.monotonic() > end and done >= LEAST:
                words[STOP] = 1
            if done == before:
                os.sched_yield()

        meet(1)
        lost, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            lost += bits(view, me, CHUNK)
        meet(2)
        again, counted, end = 0, 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            again += counter(view, CHUNK)
            counted += CHUNK
        meet(3)
    return {
        "way": type(way).__name__,
        "rounds": done,
        "asleep": res[0],
        "both saw": res[1],
        "lost bits": lost,
        "counted": counted,
        "again": again,
        "counter": words[COUNTER],
        "bits left": words[BITS],
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
