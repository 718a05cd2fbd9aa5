"""Other processes on a bus: small programs that are told what to do, and say when they did it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BEGIN = """
import os, signal, sys, time
from xennet.shmif.shared_bus import Bus, Reader, Station
bus = Bus(sys.argv[1])
"""


@contextmanager
def process(path: str, program: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the bus ``path`` open as ``bus`` and runs ``program``; it is killed in
    the end, if it still runs."""
    running = subprocess.Popen(
        [sys.executable, "-c", _BEGIN + program, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def line(running: subprocess.Popen[str]) -> str:
    """The next line that the process says, "" if it has ended."""
    assert running.stdout is not None
    return running.stdout.readline().rstrip("\n")


#: Takes the lock and dies with it, for writing or for reading.
DIES = """
bus.lock.acquire(writing={writing})
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
#: Takes the lock and keeps it until a line comes.
KEEPS = """
bus.lock.acquire(writing=True)
print(os.getpid(), flush=True)
sys.stdin.readline()
bus.lock.release()
print("released", flush=True)
"""
