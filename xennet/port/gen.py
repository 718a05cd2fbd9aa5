"""``gen:SIZExCOUNT`` makes COUNT Ethernet frames of SIZE bytes, always the same ones."""

from __future__ import annotations

import re
from array import array
from functools import lru_cache
from struct import Struct
from typing import ClassVar, TypeGuard

from xennet.engine.choice import Engine, current, is_compiled
from xennet.frames import MAX_FRAME, MIN_FRAME, FrameBatch
from xennet.port.base import BasePort, PortError
from xennet.port.numbered import NumberedFrames

#: Locally administered unicast addresses (second lowest bit of the first octet).
DESTINATION = bytes.fromhex("02584e000002")
SOURCE = bytes.fromhex("02584e000001")
#: IEEE 802 local experimental ethertype 1.
ETHERTYPE = bytes.fromhex("88b5")
#: Nanoseconds between the timestamps of two frames; the first has timestamp 0.
INTERVAL = 1000

#: The sequence number: 32 bits, big-endian.
SEQUENCE = Struct(">I")
_MAX_COUNT = 1 << 32
_SPEC = re.compile(r"([0-9]{1,10})x([0-9]{1,10})", re.ASCII)
_TEMPLATE_BYTES = 1 << 20
#: Frames from which on it pays to load a compiled kernel that writes them.
_MANY = 4096


def sequence_offset(size: int) -> int:
    """The byte at which a frame of ``size`` bytes carries its sequence number.

    Right behind the Ethernet header (14); frames of less than 18 bytes have no room for it there
    and carry it in the last four octets of the source address (8).
    """
    return MIN_FRAME if size >= MIN_FRAME + SEQUENCE.size else 8


@lru_cache(maxsize=4)
def repeated(frame: bytes, most: int) -> memoryview:
    """About a MiB of copies of ``frame``, but at most ``most`` copies. Ports of equal frames share
    it."""
    return memoryview(frame * max(1, min(most, _TEMPLATE_BYTES // len(frame))))


class GenPort(BasePort):
    """``gen:SIZExCOUNT``: SIZE 14 to 65535 bytes, COUNT 0 to 2**32 frames. Raises PortError for
    others.

    Every frame differs from every other by its sequence number (0, 1, ...), see
    :func:`sequence_offset`; the rest of the payload is byte ``i & 0xff`` at frame offset ``i``.
    Whole templates are copied into the batch, then the sequence number of each frame is written.
    """

    scheme: ClassVar[str] = "gen"
    min_size: ClassVar[int] = MIN_FRAME

    def __init__(self, argument: str) -> None:
        scheme = self.scheme
        match = _SPEC.fullmatch(argument)
        if match is None:
            wants = f"SIZExCOUNT, such as {scheme}:1500x1000"
            raise PortError(f"{scheme}: wants {wants}, not {argument!r}")
        size, count = int(match[1]), int(match[2])
        if not self.min_size <= size <= MAX_FRAME:
            allowed = f"{self.min_size} to {MAX_FRAME} bytes"
            raise PortError(f"{scheme}: SIZE must be {allowed}, not {size}")
        if count > _MAX_COUNT:
            raise PortError(f"{scheme}: COUNT must be 0 to {_MAX_COUNT}, not {count}")
        super().__init__(f"{scheme}:{argument}")
        self.expected = count
        self._size = size
        self._next = 0
        self._sequence_at = sequence_offset(size)
        self._places = (0, 0)
        self._offsets = array("I")
        self._template = repeated(self._frame(size), count)
        self._kernel: NumberedFrames | None = None

    def _frame(self, size: int) -> bytes:
        """The frame without its sequence number."""
        header = DESTINATION + SOURCE + ETHERTYPE
        return header + bytes(i & 0xFF for i in range(len(header), size))

    @property
    def exhausted(self) -> bool:
        return self._next == self.expected

    @property
    def given(self) -> int:
        """How many frames have been pulled; to be set by who has made the next ones elsewhere
        (:meth:`numbered_by`)."""
        return self._next

    @given.setter
    def given(self, frames: int) -> None:
        self._pulled(frames - self._next, (frames - self._next) * self._size)
        self._next = frames

    def numbered_by(self, engine: Engine) -> NumberedFrames:
        """The kernel that makes the frames, run by ``engine``."""
        if self._kernel is None or self._kernel.engine is not engine:
            spec = array("I", self._spec())
            template = bytes(self._template[: self._size])
            self._kernel = NumberedFrames(engine, template, spec)
        return self._kernel

    def _compiled(self) -> NumberedFrames | None:
        """That kernel where it is compiled, and there are so many frames that it pays to load
        it."""
        many = self._kernel is not None or self._next + _MANY <= (self.expected or 0)
        if many and is_compiled(engine := current()):
            return self.numbered_by(engine)
        return None

    def _spec(self) -> tuple[int, ...]:
        """What xennet.port.numbered has to know."""
        return (self._size, self._sequence_at, 1, 1, 0, 0, 0, 0, 0, INTERVAL)

    def _numbers(self, first: int, count: int) -> array[int]:
        """The sequence numbers of ``count`` frames, from the ``first`` on."""
        return array("I", range(first, first + count))

    def _number(self, data: memoryview, at: int, end: int, first: int, count: int) -> None:
        """Write sequence numbers into frames: one strided copy for each of their four octets."""
        numbers = self._numbers(first, count)
        numbers.byteswap()
        octets = memoryview(numbers).cast("B")
        for i in range(SEQUENCE.size):
            data[at + i : end : self._size] = octets[i :: SEQUENCE.size]

    def pull(self, batch: FrameBatch) -> int:
        size, first, start, used = self._size, self._next, batch.count, batch.used
        assert self.expected is not None
        left = self.expected - first
        count = min(left, batch.max_frames - start, (len(batch.data) - used) // size)
        if count == 0:
            if left and not start:
                raise IndexError(f"a batch of {len(batch.data)} bytes holds no frame of {size}")
            return 0
        end = used + count * size
        if (kernel := self._compiled()) is not None:
            kernel.put(first, count, batch)
        else:
            self._put(first, count, batch)
        batch.count = start + count
        batch.used = end
        self._next = first + count
        return self._pulled(count, end - used)

    def _put(self, first: int, count: int, batch: FrameBatch) -> None:
        """Append frames to ``batch``, which has room for them: whole columns at a time."""
        size, start, used = self._size, batch.count, batch.used
        data, end = batch.data, used + count * size
        for at in range(used, end, len(self._template)):
            part = min(len(self._template), end - at)
            data[at : at + part] = self._template[:part]
        self._number(data, used + self._sequence_at, end, first, count)
        zeroes = array("I", bytes(4 * count))
        if self._places != (used, count):
            self._places = (used, count)
            self._offsets = array("I", range(used, end, size))
        batch.offset[start : start + count] = self._offsets
        batch.length[start : start + count] = array("I", (size,)) * count
        for column in (batch.flags, batch.gso_size, batch.gso_type, batch.hash_info):
            column[start : start + count] = zeroes
        batch.timestamp[start : start + count] = array(
            "q", range(first * INTERVAL, (first + count) * INTERVAL, INTERVAL)
        )


def only_numbers(port: object) -> TypeGuard[GenPort]:
    """Whether a port has nothing to do with the frames that it gives but to number them: others may
    make them in its place (:meth:`GenPort.numbered_by`)."""
    return (
        isinstance(port, GenPort) and type(port).pull is GenPort.pull and "pull" not in vars(port)
    )
