"""The target ``shmif``: two stations on a bus, a reader of each, and somebody who writes to the bus
what he likes.

A step sends frames, reads, moves a reader, or overwrites a word. What is wrong: an exception that
is no BusError; a read that does not end; without such a writer also a frame that nobody sent, or
one that is read out of order (NetBSD sys/rump/net/lib/libshmif; facts of the seed if_shmem.c).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from random import Random

from xennet.abi.shmifvar import (
    BUSMEM_DATASIZE,
    BUSMEM_SIZE,
    IFMEM_DATA,
    PKTHDR,
    SHMIF_MAGIC,
    MEM_W_first,
    MEM_W_last,
    MEM_W_magic,
)
from xennet.engine.choice import using
from xennet.frames import FrameBatch
from xennet.fuzz.steps_target import StepsTarget
from xennet.fuzz.target import Finding
from xennet.shmif import bus_ops
from xennet.shmif.bus_file import BusMemory
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import MAX_BUS_FRAME, Reader, Station

SENDS, READS, ATTACHES, SKIPS, WRITES, NEAR_LAST = range(6)
_STATIONS = (Station.numbered(1, promiscuous=True), Station.numbered(2, promiscuous=True))
_BURST, _READ = 64, 256
#: Looks in which a read has to end: a bus full of empty frames, and those before an overrun.
_LOOKS = 3 * BUSMEM_DATASIZE // PKTHDR.size
_HEAD_WORDS = IFMEM_DATA // 4


class ShmifTarget(StepsTarget):
    """Readers and writers of one bus."""

    name = "shmif"
    step_fields = (
        ("what", 1),
        ("station", 1),
        ("count", 2),
        ("length", 2),
        ("at", 4),
        ("value", 4),
    )
    modules = (
        "xennet.shmif.bus_ops",
        "xennet.shmif.shared_bus",
        "xennet.shmif.bus_file",
    )

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        with using("plain"):
            super().__init__(known)
        self._content = bytearray(BUSMEM_SIZE)

    def any_step(self, random: Random) -> tuple[int, ...]:
        what = random.choice(
            (SENDS, SENDS, SENDS, READS, READS, ATTACHES, SKIPS, WRITES, NEAR_LAST)
        )
        length = random.choice((14, 60, 1514, random.randrange(1600)))
        value = random.choice(
            (0, 1, 24, BUSMEM_DATASIZE - 1, BUSMEM_DATASIZE, random.getrandbits(32))
        )
        count = random.choice((1, 2, 64, 700))
        return 1 + what, random.randrange(2), count, length, random.randrange(16), value

    def play(self, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        self._content[:] = bytes(BUSMEM_SIZE)
        with using("plain"):
            return _Bus(self._content, self).play(steps)


class _Bus:
    """A new bus with two readers at its end."""

    def __init__(self, content: bytearray, target: ShmifTarget) -> None:
        self.target = target
        self.memory = BusMemory("bus", memoryview(content), PKTHDR)
        words = self.memory.mem32
        words[MEM_W_magic], words[MEM_W_first] = SHMIF_MAGIC, BUSMEM_DATASIZE
        self.readers = [Reader(self.memory, station) for station in _STATIONS]
        for reader in self.readers:
            reader.skip()
        self.sent = 0
        self.read = [0, 0]
        self.damaged = False
        self.res = array("q", bytes(8 * bus_ops.RESULTS))

    def play(self, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        does: dict[int, Callable[..., str]] = {
            SENDS: self._send,
            READS: self._read,
            WRITES: self._write,
            NEAR_LAST: self._near_last,
        }
        for number, (what, station, *values) in enumerate(steps):
            what, station = (what - 1) % 6, station % 2
            wrong = ""
            try:
                if what in (ATTACHES, SKIPS):
                    self._move(station, what)
                else:
                    wrong = does[what](station, *values)
            except BusError as error:
                if not self.damaged:
                    return Finding("shmif.error", f"step {number}: {error}")
            if wrong:
                return Finding("shmif.frames", f"step {number}: {wrong}")
        return None

    def _send(self, station: int, count: int, length: int, *_: int) -> str:
        length = min(max(length, 14), MAX_BUS_FRAME)
        for _begin in range(0, min(count, 10 * _BURST), _BURST):
            batch = FrameBatch(memoryview(bytearray(_BURST * length)), _BURST)
            for _frame in range(min(count, _BURST)):
                batch.append(_frame_number(self.sent, station, length))
                self.sent += 1
            columns = (*batch.columns, batch.hash_info, batch.timestamp)
            card = _STATIONS[station].card()
            bus_ops.put_frames(
                0, batch.count, 1, self.memory.views(), (batch.data, *columns), card, self.res
            )
            self.memory.judge(self.res)
            self.target.packets += batch.count
        return ""

    def _read(self, station: int, *_: int) -> str:
        reader, looked, more = self.readers[station], 0, True
        batch = FrameBatch(memoryview(bytearray(1 << 19)), _READ)
        while more:
            batch.clear()
            more = reader.take(batch, _READ)
            looked += _READ
            if looked > _LOOKS:
                return f"a read does not end: {looked} looks"
            for frame in () if self.damaged else batch:
                number = int.from_bytes(frame[14:18], "big") if len(frame) >= 18 else None
                if number is None:
                    continue
                if not self.read[station] <= number < self.sent:
                    return f"frame {number} is read, {self.read[station]} is next of {self.sent}"
                if bytes(frame) != _frame_number(number, 1 - station, len(frame)):
                    return f"frame {number} is read, and was sent with other bytes"
                self.read[station] = number + 1
        return ""

    def _move(self, station: int, what: int) -> None:
        reader = self.readers[station]
        if what == SKIPS:
            reader.skip()
        else:
            reader.attach(oldest=True)
            self.read[station] = 0

    def _write(self, _station: int, _count: int, _length: int, at: int, value: int) -> str:
        """A word of the head, or anywhere."""
        self.damaged = True
        words = self.memory.whole.cast("I")
        words[at % _HEAD_WORDS if at < _HEAD_WORDS else at % (BUSMEM_SIZE // 4)] = value
        return ""

    def _near_last(self, _station: int, _count: int, _length: int, at: int, value: int) -> str:
        """A word of the newest frame's header, or behind it."""
        self.damaged = True
        last = self.memory.mem32[MEM_W_last] % BUSMEM_DATASIZE
        words = self.memory.whole.cast("I")
        words[(IFMEM_DATA + last) // 4 % (len(words) - 16) + at % 16] = value
        return ""


def _frame_number(number: int, station: int, length: int) -> bytes:
    """A broadcast frame that has its number in it, if it has room for that."""
    head = b"\xff" * 6 + _STATIONS[station].mac + b"\x88\xb5" + number.to_bytes(4, "big")
    return (head + bytes((number + at) & 0xFF for at in range(16)) * (length // 16 + 1))[:length]
