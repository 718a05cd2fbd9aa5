"""Frames from one process to another: NetBSD's bus against a SEQPACKET socket.

A bus makes no writer wait, so its frames are carried in two ways: *in a window*, where the reader
answers with a frame of its own now and then and the writer waits for that, as a protocol would, so
that none is lost; and *flooded*, where the writer writes without end and what the reader gets is
counted. A process that has nothing to do waits for the bus to be written to.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from xennet.engine import atomics
from xennet.engine.choice import VARIABLE, using
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
    try:
        atomics.of_processes()
    except atomics.AtomicsError as error:
        return str(error)
    return ""


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
        with self._joined() as port:
            return self._carry(port, size, frames, lambda: None)

    def shares(self, size: int, frames: int) -> Shares:
        """The lock's shares of the reader's time; this is measured in a run of its own, as the
        clock is asked with each hold."""
        with self._joined() as port:
            lock, spent = port._bus.lock, [0.0]
            _timed(lock, "acquire", spent)
            _timed(lock, "release", spent)

            def begins() -> None:
                spent[0] = lock.waited = 0.0

            seconds = self._carry(port, size, frames, begins)
            return Shares(spent[0] / seconds, lock.waited / seconds)

    @contextmanager
    def _joined(self) -> Iterator[ShmifPort]:
        """A port on a bus of its own."""
        with using(self.engine), TemporaryDirectory(dir=_FOLDER) as folder:
            port = ShmifPort(f"{folder}/bus")
            try:
                yield port
            finally:
                port.close()

    def _carry(self, port: ShmifPort, size: int, frames: int, begins: Callable[[], None]) -> float:
        """Read frames of another process, and answer them if it waits for that. Returns the seconds
        from the first ones on, at which ``begins()`` is called."""
        batch, answer = FrameBatch(memoryview(bytearray(_BYTES)), _FRAMES), _batch_of(_ANSWER, 1)
        got = answered = 0
        started = 0.0
        how = "flooded" if self.flooded else "window"
        path = port.name.partition(":")[2]
        with _process(self.engine, "bus", path, str(size), how) as alive:
            while got < frames:
                batch.clear()
                pulled = port.pull(batch)
                if not pulled:
                    alive()
                    port.wait(1)
                    continue
                if not got:
                    begins()
                    started = time.perf_counter()
                got += pulled
                while not self.flooded and got - answered >= _ANSWERED:
                    port.push(answer)
                    answered += _ANSWERED
            return time.perf_counter() - started


def over_socket(size: int, frames: int) -> float:
    """A contestant: frames over a SEQPACKET socket, one send and one receive for each."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = writer.fileno()
    with reader, writer, _process("plain", "socket", str(fd), str(size), fds=(fd,)):
        writer.close()
        buffer, receive = bytearray(65536), reader.recv_into
        if not receive(buffer):
            raise RuntimeError("the writer of the socket has ended")
        started = time.perf_counter()
        for _ in range(frames):
            receive(buffer)
        return time.perf_counter() - started


@contextmanager
def _process(engine: str, *words: str, fds: tuple[int, ...] = ()) -> Iterator[Callable[[], None]]:
    """A context in which another process does what :func:`_write` says; it is killed in the end.
    What it gives raises RuntimeError if the process has ended by itself."""
    command = [sys.executable, "-m", "xennet.bench.bus_speed", *words]
    process = subprocess.Popen(command, env=os.environ | {VARIABLE: engine}, pass_fds=fds)

    def alive() -> None:
        if process.poll() is not None:
            raise RuntimeError(f"the writer has ended with {process.returncode}")

    try:
        yield alive
    finally:
        process.kill()
        process.wait()


def _write(way: str, where: str, size: int, how: str = "") -> None:
    """Write frames without end: to the bus ``where``, or to the socket that has this number."""
    if way == "socket":
        send, frame = socket.socket(fileno=int(where)).send, bytes(size)
        while True:
            send(frame)
    port, out = ShmifPort(where), _batch_of(size, _ANSWERED)
    answers = FrameBatch(memoryview(bytearray(_BYTES)), _FRAMES)
    on_their_way = 0
    while True:
        port.push(out)
        if how == "flooded":
            continue
        on_their_way += _ANSWERED
        while on_their_way + _ANSWERED > _WINDOW:
            answers.clear()
            if port.pull(answers):
                on_their_way -= _ANSWERED * answers.count
            else:
                port.wait(1)


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


if __name__ == "__main__":
    _way, _where, _size, *_how = sys.argv[1:]
    _write(_way, _where, int(_size), *_how)
