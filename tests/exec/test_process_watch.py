"""What programs do, as /proc shows it: who sleeps until somebody comes, and who does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from xennet.exec.process_watch import Look, ProcessWatch, at_rest

#: Seconds that only a hang reaches.
PATIENCE = 60.0
#: The program shows by its name that its start is over.
READY = "open('/proc/self/comm', 'w').write('ready')"
Start = Callable[..., ProcessWatch]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program that leads a session of its own. Returns its watch."""
    started: list[tuple[ProcessWatch, subprocess.Popen[bytes]]] = []

    def begin(*argv: str) -> ProcessWatch:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
        started.append((ProcessWatch(process.pid), process))
        return started[-1][0]

    yield begin
    for watch, process in started:
        for pid in {watch.pid, *watch.processes()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        watch.close()


def python(start: Start, source: str) -> ProcessWatch:
    return start(sys.executable, "-c", source)


def wait(watch: ProcessWatch, so: Callable[[Look], bool]) -> Look:
    """Look until something is so."""
    end = time.monotonic() + PATIENCE
    while not so(look := watch.look()):
        assert time.monotonic() < end, look
    return look


def sleeping(look: Look) -> bool:
    return bool(look) and all(thread.state == "S" for thread in look.values())


@pytest.mark.parametrize(
    ("call", "timed"),
    [
        ("os.read(0, 1)", False),
        ("select.poll().poll()", False),
        ("select.poll().poll(10**7)", True),
        ("select.epoll().poll()", False),
        ("select.epoll().poll(10**4)", True),
        ("select.select([0], [], [])", False),
        ("select.select([0], [], [], 10**4)", True),
        ("signal.pause()", False),
        ("time.sleep(10**4)", True),
        ("threading.Lock().acquire() and threading.Event().wait()", False),
        ("threading.Event().wait(10**4)", True),
    ],
)
def test_a_thread_that_may_wake_up_by_itself_is_told_from_others(
    start: Start, call: str, timed: bool
) -> None:
    modules = "os, select, signal, sys, threading, time"
    watch = python(start, f"import {modules}\n{READY}\n{call}")

    def there(look: Look) -> bool:
        """It sleeps, and not while it starts."""
        return sleeping(look) and Path(f"/proc/{watch.pid}/comm").read_text() == "ready\n"

    wait(watch, there)
    settled = wait(watch, lambda look: there(look) and look == watch.look())
    (thread,) = settled.values()
    assert (thread.sleeps is not None) is timed


def test_it_rests_only_if_nobody_ran_between_two_looks(start: Start) -> None:
    watch = start("cat")
    first = wait(watch, sleeping)
    assert at_rest(first, first)
    ((key, thread),) = first.items()
    assert not at_rest(first, {key: thread._replace(runs=thread.runs + 1)})
    assert not at_rest({key: thread._replace(state="R")}, first)


def test_a_program_that_computes_does_not_rest_and_uses_time(start: Start) -> None:
    watch = start("sh", "-c", "while :; do :; done")
    wait(watch, lambda look: watch.cpu_time() > 0.05)
    assert not any(at_rest(watch.look(), watch.look()) for _ in range(50))


def test_a_stopped_program_does_not_rest(start: Start) -> None:
    watch = start("sh", "-c", "kill -STOP $$")
    look = wait(watch, lambda look: any(thread.state == "T" for thread in look.values()))
    assert not at_rest(look, look)


def test_processes_that_it_starts_are_found_and_counted(start: Start) -> None:
    watch = start("sh", "-c", "sh -c 'while :; do :; done' & cat")
    look = wait(watch, lambda look: len({pid for pid, _ in look}) == 3)
    wait(watch, lambda look: watch.cpu_time() > 0.05)
    assert not at_rest(look, watch.look())


def test_nothing_is_left_of_a_program_that_has_ended(start: Start) -> None:
    """Nor if no other process was made since: then nothing is looked for."""
    watch = start("sleep", "infinity")
    assert watch.processes() == [watch.pid]
    os.kill(watch.pid, signal.SIGKILL)
    os.waitid(os.P_PID, watch.pid, os.WEXITED | os.WNOWAIT)
    assert (watch.processes(), watch.look()) == ([], {})


def test_a_program_lives_on_when_its_first_thread_has_ended(start: Start) -> None:
    source = """
import ctypes, os, threading
threading.Thread(target=os.read, args=(0, 1)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    watch = python(start, source)
    first = Path(f"/proc/{watch.pid}/stat")
    wait(watch, lambda look: ") Z " in first.read_text())
    ((_, thread),) = wait(watch, sleeping)
    assert (watch.processes(), thread != watch.pid) == ([watch.pid], True)


def test_threads_are_looked_at_one_by_one(start: Start) -> None:
    source = """
import os, sys, threading
threading.Thread(target=os.read, args=(0, 1), daemon=True).start()
while True: pass
"""
    watch = python(start, source)
    look = wait(watch, lambda look: sorted(one.state for one in look.values()) == ["R", "S"])
    assert len(look) == 2
