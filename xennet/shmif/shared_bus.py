"""A bus that this process has joined: sending and reading frames under its lock."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

from attrs import define

from xennet.abi.shmifvar import (
    BUSMEM_DATASIZE,
    BUSMEM_SIZE,
    IFMEM_DATA,
    IFMEM_WAKEUP,
    LOCK_UNLOCKED,
    PKTHDR,
    SHMIF_MAGIC,
    SHMIF_VERSION,
    MEM_W_first,
    MEM_W_gen,
    MEM_W_lock,
    MEM_W_magic,
)
from xennet.engine.choice import current
from xennet.engine.kernel import compare_and_swap
from xennet.frames import ETHERNET_HEADER, FrameBatch
from xennet.ring import MASK32
from xennet.shmif import bus_ops, owner
from xennet.shmif.bus_file import BusMemory, form_named, map_bus, open_bus
from xennet.shmif.bus_lock import WORD, BusLock, take_lock
from xennet.shmif.errors import BusError

#: Longest frame that an interface sends, or takes: ETHERMTU and the Ethernet header.
MAX_BUS_FRAME = 1500 + ETHERNET_HEADER
#: Frames that are written or looked at before the lock is freed for others.
BURST = 64
#: Number of frames that a bus can hold if they are as short as can be.
_LAP = BUSMEM_DATASIZE // PKTHDR.size
#: Indices of the words of struct shmif_mem, as words of 64 bits.
_GEN, _ENDS = MEM_W_gen // 2, MEM_W_first // 2
_DOORBELL = SHMIF_VERSION.to_bytes(4, "little")


def _halves(number: int) -> tuple[int, int]:
    """The low and the high word of a number of 64 bits."""
    return number & MASK32, number >> 32 & MASK32


@define
class Station:
    """An interface as it stands on the bus: ``sender`` is its id (64 bits), ``mac`` its address (6
    bytes), ``promiscuous`` whether it takes frames for others, ``link`` False while its link is
    down. ``peer``: the id of the only sender whose frames it takes, None for any."""

    sender: int
    mac: bytes
    promiscuous: bool = False
    link: bool = True
    peer: int | None = None

    @classmethod
    def random(cls, promiscuous: bool = False) -> Station:
        """A station with a random sender id."""
        return cls.numbered(int.from_bytes(os.urandom(8), "little"), promiscuous)

    @classmethod
    def numbered(cls, sender: int, promiscuous: bool = False, peer: int | None = None) -> Station:
        """The station with this sender id; the low bytes of the id are part of its address, as in
        the seed's allocif."""
        mac = b"\xb2\xa0" + sender.to_bytes(8, "little")[:4]
        return cls(sender, mac, promiscuous, peer=peer)

    def card(self) -> array[int]:
        """The station as kernels take it (indices C_* of xennet.shmif.bus_ops)."""
        words = [*_halves(self.sender), *self.mac, self.promiscuous, not self.link]
        return array("I", [*words, self.peer is not None, *_halves(self.peer or 0)])


@define
class Taken:
    """What a reader found, counted in frames. ``overruns``: number of times it had fallen behind
    and lost frames. The last five are frames it did not return: ``short`` (less than an Ethernet
    header), its ``own``, for ``foreign`` addresses, come while its link was ``down``, from
    ``others`` than its peer."""

    frames: int = 0
    overruns: int = 0
    short: int = 0
    own: int = 0
    foreign: int = 0
    down: int = 0
    others: int = 0

    def add(self, res: array[int]) -> None:
        """Add the counters in ``res``, the result vector of take_frames."""
        self.frames += res[bus_ops.R_FRAMES]
        self.overruns += res[bus_ops.R_OVERRUNS]
        self.short += res[bus_ops.R_SHORT]
        self.own += res[bus_ops.R_OWN]
        self.foreign += res[bus_ops.R_FOREIGN]
        self.down += res[bus_ops.R_DOWN]
        self.others += res[bus_ops.R_OTHERS]


class _Views:
    """Caches the views of the batch and of the card that were used last, since the same ones come
    again and again."""

    def __init__(self) -> None:
        self._batch: FrameBatch | None = None
        self._of_batch: Any = ()
        self._card: array[int] | None = None
        self._of_card: Any = None

    def batch(self, batch: FrameBatch) -> Any:
        """``batch`` as kernels take it (xennet.shmif.bus_ops.BatchViews)."""
        if batch is not self._batch:
            columns = (*batch.columns, batch.hash_info, batch.timestamp)
            view = current().view
            self._of_batch = tuple(view(column) for column in (batch.data, *columns))
            self._batch = batch
        return self._of_batch

    def card(self, card: array[int]) -> Any:
        """``card`` as kernels take it."""
        if card is not self._card:
            self._card, self._of_card = card, current().view(card)
        return self._of_card


class Reader:
    """A position on a bus from which frames are read. ``taken`` counts what was found; ``full``
    says that the last read ended because the batch was full."""

    def __init__(self, memory: BusMemory, station: Station, longest: int = MAX_BUS_FRAME) -> None:
        engine = current()
        self._memory = memory
        self._longest = longest
        views = memory.views()
        self._header32 = views[3]
        self._bus: Any = tuple(engine.view(part) for part in views)
        self._take = engine.kernel(bus_ops.take_frames)
        self._attach = engine.kernel(bus_ops.attach)
        self._state, self._card = array("I", bytes(4 * bus_ops.STATE)), station.card()
        self._limits, self._res = array("I", bytes(20)), array("q", bytes(8 * bus_ops.RESULTS))
        fixed = self._card, self._state, self._res
        self._fixed = tuple(engine.view(vector) for vector in fixed)
        self._limits_view = engine.view(self._limits)
        self._views = _Views()
        self._mem = memory.mem
        self._seen: tuple[int, int] | None = None
        self.taken = Taken()
        self.full = False

    def stand(self, station: Station) -> None:
        """Read as ``station`` from now on."""
        self._card[:] = station.card()

    def attach(self, oldest: bool = False) -> None:
        """Move before the newest frame, which is read (again) next, or with ``oldest`` before the
        oldest. The lock, if there is one, is held. Raises BusError for a damaged bus."""
        self._seen = None
        self._put(bus_ops.OLDEST if oldest else bus_ops.NEWEST)

    def skip(self) -> None:
        """Move behind the newest frame, as if all had been read. The lock is held. Raises BusError
        for a damaged bus."""
        ends = self._ends()
        self._put(bus_ops.BEHIND)
        self._seen = ends

    def _put(self, where: int) -> None:
        _, state, res = self._fixed
        self._attach(where, self._bus, state, res)
        self._memory.judge(self._res)

    def take(self, batch: FrameBatch, looks: int = BURST) -> bool:
        """Append frames to ``batch`` until there are no more, the batch is full or ``looks`` frames
        were looked at. The lock is held.

        Returns whether there may be more frames; ``full`` says whether the batch ended the read.
        Raises BusError for a damaged bus.
        """
        self._limits[:] = array(
            "I", [batch.count, batch.used, batch.max_frames, self._longest, looks]
        )
        card, state, res = self._fixed
        views = self._views.batch(batch)
        # Before the read: what changes behind it, by a writer without the lock, is looked at next.
        ends = self._ends()
        self._take(self._limits_view, self._bus, views, card, state, res)
        found = self._res
        batch.count += found[bus_ops.R_FRAMES]
        batch.used += found[bus_ops.R_BYTES]
        self.taken.add(found)
        self._memory.judge(found)
        more = found[bus_ops.R_MORE]
        self.full = more == bus_ops.FULL
        self._seen = None if more else ends
        return bool(more)

    @property
    def idle(self) -> bool:
        """Whether the bus stands where the last read found no more frames: a look without the lock,
        which says nothing if others write at this moment."""
        return self._seen is not None and self._seen == self._ends()

    def _ends(self) -> tuple[int, int]:
        """shm_gen; shm_first and shm_last as one number. One of them changes with each frame."""
        return self._mem[_GEN], self._mem[_ENDS]

    @property
    def sender(self) -> int:
        """The sender id of the last frame that was looked at."""
        at = self._memory.form.offsets["sp_sender"] // 4
        low, high = self._header32[at : at + 2]
        return low | high << 32


@cache
def _warm_up(_engine: str) -> None:
    """Run each kernel of the engine in force once, on a bus without a file. Code is compiled when a
    kernel is first called, which may take seconds: not with the lock of a bus, for which others
    wait."""
    engine = current()
    memory = BusMemory("", memoryview(bytearray(BUSMEM_SIZE)), PKTHDR)
    memory.mem32[MEM_W_magic], memory.mem32[MEM_W_first] = SHMIF_MAGIC, BUSMEM_DATASIZE
    words, word = engine.view(memory.mem), owner.held_by(1, True)
    engine.kernel(take_lock)(words, word, 0)
    engine.kernel(compare_and_swap)(words, WORD, word, LOCK_UNLOCKED)
    station, batch = Station(0, bytes(6), promiscuous=True), FrameBatch(memoryview(bytearray(64)))
    reader = Reader(memory, station)
    reader.attach()
    batch.append(bytes(ETHERNET_HEADER))
    bus = tuple(engine.view(part) for part in memory.views())
    card, res = engine.view(station.card()), engine.view(array("q", bytes(8 * bus_ops.RESULTS)))
    engine.kernel(bus_ops.put_frames)(0, 1, 1, bus, _Views().batch(batch), card, res)
    reader.take(batch)


class Bus:
    """The bus file ``path``, open and mapped. ``create``: create a missing file and initialise a
    new one. ``form``: the packet headers, "64" or "i386". ``tell``: as of BusLock.

    Raises BusError if the file cannot be opened, is no bus, or cannot be locked.
    """

    def __init__(
        self,
        path: str,
        *,
        create: bool = False,
        form: str = "64",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        engine = current()
        _warm_up(engine.name)
        self._fd = open_bus(path, create)
        try:
            self._map = map_bus(path, self._fd)
            self.memory = BusMemory(path, memoryview(self._map), form_named(form))
            size = self.memory.form.size
            self.lock = BusLock(path, self._fd, self.memory.mem, self.memory.data, size, tell)
            if create and self.memory.mem32[MEM_W_magic] == 0:
                self._initialise()
            self.memory.check()
        except BaseException:
            os.close(self._fd)
            raise
        self._bus: Any = tuple(engine.view(part) for part in self.memory.views())
        self._put = engine.kernel(bus_ops.put_frames)
        self._res = array("q", bytes(8 * bus_ops.RESULTS))
        self._res_view = engine.view(self._res)
        self._views = _Views()
        self._number: int | None = None

    def _initialise(self) -> None:
        """Write the head of a new bus, unless another process has done so meanwhile (if_shmem.c
        initbackend)."""
        self.lock.acquire(writing=True)
        words = self.memory.mem32
        if words[MEM_W_magic] == 0:
            words[MEM_W_magic] = SHMIF_MAGIC
            words[MEM_W_first] = BUSMEM_DATASIZE
        self.lock.release()

    @property
    def number(self) -> int:
        """A number (16 bits) of this opening of the file, the lowest that no other one has; of it
        sender ids can be made that nobody else has. It is claimed when it is first read."""
        if self._number is None:
            self._number = owner.claim_number(self._fd)
        return self._number

    @property
    def fileno(self) -> int:
        """The descriptor of the bus file, for watching it."""
        return self._fd

    def send(self, batch: FrameBatch, card: array[int], now: int | None = None) -> None:
        """Write all frames of a batch, each at most MAX_BUS_FRAME bytes long, and wake all readers.

        ``card``: of the Station that sends. ``now``: the time of frames without one, in nanoseconds
        (None: since boot). Raises BusError for a frame that is too long (no frame
        is written then), for a damaged bus (the frames before the damage are written), or if the
        lock cannot be had.
        """
        lengths = batch.length[: batch.count]
        if max(lengths, default=0) > MAX_BUS_FRAME:
            i = next(i for i, length in enumerate(lengths) if length > MAX_BUS_FRAME)
            what = f"frame {i} has {lengths[i]} bytes, the bus takes {MAX_BUS_FRAME}"
            raise BusError(f"{self.path}: {what}")
        views, view = self._views.batch(batch), self._views.card(card)
        time_now = time.monotonic_ns() if now is None else now
        for start in range(0, batch.count, BURST):
            count = min(BURST, batch.count - start)
            self.lock.acquire(writing=True)
            try:
                self._put(start, count, time_now, self._bus, views, view, self._res_view)
            except BaseException:  # raised by a signal handler, in the middle of a write
                self.lock.give_up()
                raise
            self.lock.release()
            self.memory.judge(self._res)
        self.ring()

    def take(self, reader: Reader, batch: FrameBatch) -> int:
        """Append the frames that ``reader`` finds to ``batch``, as long as they fit. Returns the
        number of frames appended.

        The read ends after as many frames as a bus can hold, however fast others write. Raises
        IndexError if the batch is empty and yet too small for the next frame, BusError for a
        damaged bus or if the lock cannot be had.
        """
        before = batch.count
        if reader.idle:
            return 0
        for _ in range(_LAP // BURST):
            if not self.look(reader, batch) or reader.full:
                break
        if reader.full and not batch.count:
            raise IndexError(f"{self.path}: the batch is too small for the next frame")
        return batch.count - before

    def look(self, reader: Reader, batch: FrameBatch, looks: int = BURST) -> bool:
        """Call Reader.take under the lock. Raises BusError as :meth:`take` does."""
        self.lock.acquire(writing=False)
        try:
            return reader.take(batch, looks)
        finally:
            self.lock.release()

    def attach(self, reader: Reader, oldest: bool = False) -> None:
        """Put ``reader`` before the newest frame, or with ``oldest`` before the oldest, under the
        lock. Raises BusError as :meth:`take` does."""
        self.lock.acquire(writing=False)
        try:
            reader.attach(oldest)
        finally:
            self.lock.release()

    def skip(self, reader: Reader) -> None:
        """Put ``reader`` behind the newest frame, unless nothing has been written since its last
        read, under the lock. Raises BusError as :meth:`take` does."""
        if reader.idle:
            return
        self.lock.acquire(writing=False)
        try:
            reader.skip()
        finally:
            self.lock.release()

    def ring(self) -> None:
        """Wake all processes that watch the bus, by writing four bytes of the file: stores into a
        map are no event of the file. Raises BusError if they cannot be written."""
        try:
            os.pwrite(self._fd, _DOORBELL, IFMEM_WAKEUP)
        except OSError as e:
            raise BusError(f"{self.path}: cannot be written: {e.strerror}") from e

    def copy(self, patience: float) -> BusMemory:
        """Copy the whole bus as it is between two frames, under the lock. Raises BusError if the
        lock cannot be had for ``patience`` seconds."""
        self.lock.acquire(writing=False, patience=patience)
        content = bytearray(self.memory.whole[:BUSMEM_SIZE])
        self.lock.release()
        content[4 * MEM_W_lock : IFMEM_DATA] = bytes(8)  # the lock that we hold
        return BusMemory(self.path, memoryview(content), self.memory.form)

    def close(self) -> None:
        """Leave the bus. The map goes when the last view of it does. May be repeated."""
        if self._fd >= 0:
            if self._number is not None:
                owner.release_number(self._fd, self._number)
            self.lock.close()
            os.close(self._fd)
            self._fd = -1
