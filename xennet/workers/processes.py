"""Workers that are processes of this machine.

Each has a socket to the one that gives work. It ends when that socket is closed, or when its parent
ends, however that happens; a worker that ends is replaced.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from attrs import define, field

from xennet.workers.mapping import MAX_DEATHS, R, T, WorkersError

#: prctl(2): the signal that this process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
#: What reading from or writing to a worker that has died raises.
_DIED = (EOFError, OSError)

#: Number of a task, and what to do.
_Task = tuple[int, Callable[[Any], Any], Any]


@define(eq=False)
class _Worker:
    """A process, the socket to it, and what it does, if anything."""

    process: subprocess.Popen[bytes]
    connection: Connection
    task: _Task | None = None

    @staticmethod
    def start() -> _Worker:
        ours, others = socket.socketpair()
        code = (
            f"from xennet.workers.processes import serve; serve({others.fileno()}, {os.getpid()})"
        )
        with others:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=[others.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                process_group=0,  # Control-C on a terminal is for the process that gives work
            )
        return _Worker(process, Connection(ours.detach()))

    def give(self, task: _Task) -> None:
        """Let it do ``task``; whether it has died meanwhile shows when its answer is read."""
        self.task = task
        packed = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        with suppress(*_DIED):
            self.connection.send_bytes(packed)

    def end(self) -> None:
        """End it, at once."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


@define(eq=False)
class Processes:
    """``jobs`` processes, each of which is started when there is work for it."""

    jobs: int
    _workers: list[_Worker] = field(factory=list, init=False)
    _numbered: int = field(default=0, init=False)

    @property
    def pids(self) -> list[int]:
        """The processes that there are."""
        return [worker.process.pid for worker in self._workers]

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        first = next_result = self._numbered
        waiting: deque[_Task] = deque()
        results: dict[int, R] = {}
        deaths: dict[int, int] = {}
        left = iter(items)
        while True:
            while (idle := self._idle()) is not None:
                if not waiting:
                    try:
                        waiting.append((self._numbered, function, next(left)))
                    except StopIteration:
                        break
                    self._numbered += 1
                idle.give(waiting.popleft())
            while next_result in results:
                yield results.pop(next_result)
                next_result += 1
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            for worker in self._ready(busy):
                task = worker.task
                assert task is not None
                try:
                    number, good, value = pickle.loads(worker.connection.recv_bytes())
                except _DIED:
                    self._workers.remove(worker)
                    worker.end()
                    deaths[task[0]] = deaths.get(task[0], 0) + 1
                    if deaths[task[0]] >= MAX_DEATHS:
                        raise WorkersError(
                            f"item {task[0] - first} has ended {MAX_DEATHS} workers"
                        ) from None
                    if task[0] >= first:
                        waiting.append(task)
                    continue
                worker.task = None
                if number < first:
                    continue  # of a map that nobody waits for any more
                if not good:
                    raise value
                results[number] = value

    def close(self) -> None:
        while self._workers:
            self._workers.pop().end()

    def _idle(self) -> _Worker | None:
        """A worker that has nothing to do, a new one if there may be another."""
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) < self.jobs:
            self._workers.append(_Worker.start())
            return self._workers[-1]
        return None

    @staticmethod
    def _ready(busy: list[_Worker]) -> list[_Worker]:
        """Those that have answered, or died; waits for one of them."""
        ready = set(map(id, wait([worker.connection for worker in busy])))
        return [worker for worker in busy if id(worker.connection) in ready]


def serve(descriptor: int, parent: int) -> None:
    """The life of a worker: answer each task that comes from the socket ``descriptor``, until it is
    closed or ``parent`` ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        return
    connection = Connection(descriptor)
    with suppress(*_DIED):
        while True:
            number, function, item = pickle.loads(connection.recv_bytes())
            connection.send_bytes(_answer(number, function, item))


def _answer(number: int, function: Callable[[Any], Any], item: Any) -> bytes:
    try:
        return pickle.dumps((number, True, function(item)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        with suppress(Exception):
            packed = pickle.dumps((number, False, error), pickle.HIGHEST_PROTOCOL)
            pickle.loads(packed)  # some exceptions can be packed only
            return packed
        told = WorkersError(f"{type(error).__name__}: {error}")
        return pickle.dumps((number, False, told), pickle.HIGHEST_PROTOCOL)
