"""Frames from one process to another: NetBSD's bus against a SEQPACKET socket.

A bus makes no writer wait, so its frames are carried in two ways: *in a window*, where the reader
answers with a frame of its own now and then and the writer waits for that, as a protocol would, so
that none is lost; and *flooded*, where the writer writes without end and what the reader gets is
counted. A process that has nothing to do waits for the bus to be written to.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from xennet.engine.choice import using
from xennet.frames import FrameBatch
from xennet.shmif.bus_port import ShmifPort

#: Frames on their way at most, and frames that one answer is for.
_WINDOW, _ANSWERED = 512, 128
_FRAMES, _BYTES = 256, 1 << 20
#: Bytes of an answer; frames have more.
_ANSWER = 14
#: Where a file is memory, if there is such a place.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


def why_not() -> str:
    """Why buses cannot be measured here; empty if they can."""
    return "" if hasattr(os, "fork") else "no fork"


@frozen
class Shares:
    """The time that a process spends with the lock of its bus, of all its time: ``taking`` and
    freeing it, of which ``waiting`` for others. As numbers from 0 to 1."""

    taking: float
    waiting: float


@frozen
class OverBus:
    """A contestant: frames over a bus. ``flooded``: the writer does not wait for the reader."""

    engine: str
    flooded: bool = False

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine), TemporaryDirectory(dir=_FOLDER) as folder:
            path = f"{folder}/bus"
            port = ShmifPort(path)
            try:
                with _child(self._writes, path, size):
                    return _read(port, frames, answers=not self.flooded)
            finally:
                port.close()

    def shares(self, size: int, frames: int) -> Shares:
        """The lock's shares of the reader's time; this is measured in a run of its own, as the
        clock is asked with each hold."""
        with using(self.engine), TemporaryDirectory(dir=_FOLDER) as folder:
            path = f"{folder}/bus"
            port = ShmifPort(path)
            lock, spent = port._bus.lock, [0.0]
            _timed(lock, "acquire", spent)
            _timed(lock, "release", spent)

            def begins() -> None:
                spent[0] = lock.waited = 0.0

            try:
                with _child(self._writes, path, size):
                    seconds = _read(port, frames, begins, answers=not self.flooded)
            finally:
                port.close()
            return Shares(spent[0] / seconds, lock.waited / seconds)

    def _writes(self, path: str, size: int) -> None:
        """Write frames without end, in the child."""
        port = ShmifPort(path)
        out, answers = (
            _batch_of(size, _ANSWERED),
            FrameBatch(memoryview(bytearray(_BYTES)), _FRAMES),
        )
        on_their_way = 0
        while True:
            port.push(out)
            if self.flooded:
                continue
            on_their_way += _ANSWERED
            while on_their_way + _ANSWERED > _WINDOW:
                answers.clear()
                if port.pull(answers):
                    on_their_way -= _ANSWERED * answers.count
                else:
                    port.wait(1)


def over_socket(size: int, frames: int) -> float:
    """A contestant: frames over a SEQPACKET socket, one send and one receive for each."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def writes() -> None:
        reader.close()
        frame, send = bytes(size), writer.send
        while True:
            send(frame)

    with reader, writer, _child(writes):
        writer.close()
        buffer, receive = bytearray(65536), reader.recv_into
        receive(buffer)
        started = time.perf_counter()
        for _ in range(frames):
            receive(buffer)
        return time.perf_counter() - started


@contextmanager
def _child(work: Callable[..., None], *arguments: object) -> Iterator[None]:
    """A context in which a child process does ``work``; it is killed in the end."""
    pid = os.fork()
    if not pid:
        try:
            work(*arguments)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _read(
    port: ShmifPort, frames: int, begins: Callable[[], None] = lambda: None, *, answers: bool
) -> float:
    """Read frames, and answer them if wanted. Returns the seconds from the first ones on, at which
    ``begins()`` is called."""
    batch, answer = FrameBatch(memoryview(bytearray(_BYTES)), _FRAMES), _batch_of(_ANSWER, 1)
    got = answered = 0
    started = 0.0
    while got < frames:
        batch.clear()
        pulled = port.pull(batch)
        if not pulled:
            port.wait(1)
            continue
        if not got:
            begins()
            started = time.perf_counter()
        got += pulled
        while answers and got - answered >= _ANSWERED:
            port.push(answer)
            answered += _ANSWERED
    return time.perf_counter() - started


def _batch_of(size: int, count: int) -> FrameBatch:
    batch = FrameBatch(memoryview(bytearray(size * count)), count)
    for _ in range(count):
        batch.append(b"\xff" * size, timestamp=1)
    return batch


def _timed(holder: object, name: str, spent: list[float]) -> None:
    """Add the seconds of each call of a method to ``spent``."""
    call = getattr(holder, name)

    def timed(*arguments: object, **more: object) -> None:
        started = time.perf_counter()
        call(*arguments, **more)
        spent[0] += time.perf_counter() - started

    setattr(holder, name, timed)
