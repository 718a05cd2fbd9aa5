"""The lock of a bus: between processes, with holders that die, live on, or leave no mark."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from shmif_processes import DIES, KEEPS, line, process
from shmif_samples import Frame, batch_of, made, words

from xennet.engine import atomics
from xennet.frames import FrameBatch
from xennet.shmif import bus_lock, owner
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import Bus, Reader, Station

STATION = Station(7, bytes(6), promiscuous=True)

needs_proof = pytest.mark.skipif(
    not hasattr(fcntl, "F_OFD_SETLK"), reason="no open file description locks"
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "bus")
    Bus(path, create=True).close()
    return path


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def bus(path: str, told: list[str]) -> Bus:
    bus = Bus(path, tell=told.append)
    bus.send(batch_of([made(1, 60), made(2, 60)]), STATION.card())
    return bus


def left(bus: Bus) -> list[Frame]:
    """The frames that are on the bus."""
    reader = Reader(bus.memory, Station(0, bytes(6), promiscuous=True))
    reader.attach(oldest=True)
    batch = FrameBatch(memoryview(bytearray(1 << 20)), 1000)
    bus.take(reader, batch)
    return [Frame(batch.timestamp[i] // 1000, bytes(batch.frame(i))) for i in range(batch.count)]


def word(bus: Bus) -> int:
    return bus.memory.mem[3]


def hold(bus: Bus, lower: int, upper: int = 0) -> None:
    """The lock word as another process would leave it."""
    bus.memory.mem[3] = upper << 32 | lower


def test_a_lock_that_is_free_is_taken_and_freed(engine: str, bus: Bus) -> None:
    for writing in False, True:
        bus.lock.acquire(writing)
        assert word(bus) & 0xFFFFFFFF == 1
        assert owner.mark_of(word(bus)) == bus.lock.mark
        assert owner.is_writing(word(bus)) == writing
        bus.lock.release()
        assert word(bus) == 0


@needs_proof
def test_every_opening_has_a_mark_of_its_own(path: str, bus: Bus) -> None:
    other = Bus(path)
    assert bus.lock.mark != other.lock.mark
    assert owner.process_of(bus.lock.mark) == owner.process_of(other.lock.mark) == os.getpid()
    mark = other.lock.mark
    other.close()
    assert Bus(path).lock.mark == mark


def test_a_lock_keeps_processes_apart(engine: str, bus: Bus) -> None:
    """A load and a store with a pause in between, so that any overlap loses a step."""
    steps = f"""
import xennet.engine.choice as choice
choice._selected = choice.named({engine!r})
bus = Bus(sys.argv[1])
data = bus.memory.data[1000:1004].cast("I")
for i in range(300):
    bus.lock.acquire(writing=True)
    seen = data[0]
    time.sleep(0 if i % 50 else 0.001)
    data[0] = seen + 1
    bus.lock.release()
print("done", flush=True)
"""
    with process(bus.path, steps) as first, process(bus.path, steps) as second:
        assert line(first) == line(second) == "done"
    assert bus.memory.data[1000:1004].cast("I")[0] == 600


@needs_proof
def test_a_writer_that_died_with_the_lock_is_found_out_and_the_bus_emptied(
    engine: str, bus: Bus, told: list[str]
) -> None:
    gen = words(bus.memory.whole)[2]
    late = Reader(bus.memory, Station(1, bytes(6), promiscuous=True))
    bus.attach(late)
    with process(bus.path, DIES.format(writing=True)) as dying:
        pid = line(dying)
        assert dying.wait() == -signal.SIGKILL
    assert left(bus) == []
    assert [re.sub("process [0-9]+", "process N", text) for text in told] == [
        f"{bus.path}: process N died while it held the lock, and may have been writing: the lock "
        "is taken over, the bus emptied; readers lose what they had not read"
    ]
    assert f"process {pid} " in told[0]
    assert bus.lock.dead_holders == 1
    assert word(bus) == 0
    assert words(bus.memory.whole)[2:5] == (gen + 2, 1048544, 0)
    # A reader that was there before has lost frames, and goes on.
    bus.send(batch_of([made(3, 60)]), STATION.card())
    batch = FrameBatch(memoryview(bytearray(1 << 16)), 40)
    assert bus.take(late, batch) == 1
    assert bytes(batch.frame(0)) == made(3, 60).data
    assert late.taken.overruns == 1


@needs_proof
def test_a_reader_that_died_with_the_lock_costs_no_frame(bus: Bus, told: list[str]) -> None:
    before = left(bus)
    with process(bus.path, DIES.format(writing=False)) as dying:
        assert line(dying)
        dying.wait()
    assert left(bus) == before
    assert len(told) == 1
    assert told[0].endswith(" died while it held the lock, for reading; the lock is taken over")


@needs_proof
def test_who_dies_while_it_recovers_is_a_writer_that_died(
    bus: Bus, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the lock for reading from a writer, so half of the emptying may be done."""
    with process(bus.path, DIES.format(writing=True)) as dying:
        assert line(dying)
        dying.wait()
    recovers = """
import xennet.shmif.bus_lock as bus_lock
bus_lock.empty = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
print("begins", flush=True)
bus.lock.acquire(writing=False)
"""
    with process(bus.path, recovers) as dying:
        assert line(dying) == "begins"
        assert dying.wait() == -signal.SIGKILL
    assert owner.is_writing(word(bus))
    assert left(bus) == []
    assert "may have been writing" in told[0]


@needs_proof
def test_the_lock_of_a_holder_that_lives_is_never_taken(bus: Bus, told: list[str]) -> None:
    with process(bus.path, KEEPS) as keeping:
        pid = int(line(keeping))
        os.kill(pid, signal.SIGSTOP)
        held = word(bus)
        with pytest.raises(BusError, match=f"bus: locked for 0.3 s: by process {pid}, which lives"):
            bus.lock.acquire(writing=True, patience=0.3)
        with pytest.raises(
            BusError, match=f"not unlocked: it is held by process {pid}, which lives"
        ):
            bus.lock.declare_dead(0.1)
        assert word(bus) == owner.asked_for(held)
        os.kill(pid, signal.SIGCONT)
        assert keeping.stdin is not None
        print(file=keeping.stdin, flush=True)
        bus.lock.acquire(writing=True)
        assert line(keeping) == "released"
        bus.lock.release()
    assert not told


def test_a_holder_without_a_mark_is_never_deprived_unless_it_is_declared_dead(
    engine: str, bus: Bus, told: list[str]
) -> None:
    hold(bus, 1)
    with pytest.raises(
        BusError, match="so nobody can tell whether it lives; if it is dead, say so"
    ):
        bus.lock.acquire(writing=False, patience=0.1)
    assert word(bus) == 1
    assert bus.lock.declare_dead(0.05) == "was taken from a process declared dead"
    assert word(bus) == 0
    assert left(bus) == []
    assert told == [
        f"{bus.path}: a process without a mark was declared dead while it held the lock, and may "
        "have been writing: the lock is taken over, the bus emptied; readers lose what they had "
        "not read"
    ]


def test_a_bus_that_moves_is_in_use_whatever_is_declared(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moves(_: float) -> None:
        bus.memory.mem32[5] += 24

    hold(bus, 1)
    monkeypatch.setattr("xennet.shmif.bus_lock.time.sleep", moves)
    with pytest.raises(BusError, match="not unlocked: the bus is in use, it moves"):
        bus.lock.declare_dead(60)
    assert word(bus) == 1


def test_a_bus_that_moved_while_the_one_who_waits_was_away_is_in_use(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has slept until the time was over looks once more."""
    now = 0.0

    def moves(_: float) -> None:
        nonlocal now
        now += 1
        bus.memory.mem32[5] += 24

    hold(bus, 1)
    clock = SimpleNamespace(monotonic=lambda: now, sleep=moves)
    monkeypatch.setattr(bus_lock, "time", clock)
    with pytest.raises(BusError, match="not unlocked: the bus is in use, it moves"):
        bus.lock.declare_dead(0.5)
    assert word(bus) == 1


def test_a_lock_that_is_free_or_of_a_dead_process_needs_no_declaration(bus: Bus) -> None:
    before = left(bus)
    assert bus.lock.declare_dead(0.1) == "is free"
    assert left(bus) == before
    if bus.lock.mark:
        with process(bus.path, DIES.format(writing=True)) as dying:
            assert line(dying)
            dying.wait()
        assert bus.lock.declare_dead(0.1) == "was taken from a dead process"
    assert word(bus) == 0


@needs_proof
def test_who_holds_the_lock_himself_is_not_taken_for_dead(bus: Bus, told: list[str]) -> None:
    bus.lock.acquire(writing=True)
    with pytest.raises(BusError, match=r"locked for 0.1 s: by this process itself"):
        bus.lock.acquire(writing=True, patience=0.1)
    assert not told
    # Asking for its own byte would have been granted, and given its mark away.
    assert owner.claim(os.open(bus.path, os.O_RDWR)) != bus.lock.mark


@needs_proof
def test_a_dead_holders_mark_is_nobodys_while_its_lock_is_taken_over(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Bus(bus.path)
    mark = other.lock.mark
    other.lock.acquire(writing=True)
    other.close()
    claimed = []

    def tell(_: str) -> None:
        claimed.append(Bus(bus.path).lock.mark)

    monkeypatch.setattr(bus.lock, "_tell", tell)
    assert left(bus) == []
    assert claimed
    assert mark not in claimed


def test_a_lock_that_was_broken_by_others_is_told_to_its_holder(engine: str, bus: Bus) -> None:
    bus.lock.acquire(writing=True)
    hold(bus, 0)
    with pytest.raises(BusError, match="the lock was broken by another process while it was held"):
        bus.lock.release()


def test_a_writer_that_is_interrupted_leaves_a_bus_that_is_whole(
    bus: Bus, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = bus._put

    def interrupted(*arguments: object) -> None:
        put(*arguments)
        bus.memory.mem32[5] += 4  # no frame is there
        raise KeyboardInterrupt

    late = Reader(bus.memory, Station(1, bytes(6), promiscuous=True))
    bus.attach(late)
    monkeypatch.setattr(bus, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.send(batch_of([made(3, 60)]), STATION.card())
    assert word(bus) == 0
    assert left(bus) == []
    assert told == [
        f"{bus.path}: interrupted while it was written to, so the bus is emptied; readers lose "
        "what they had not read"
    ]
    assert bus.take(late, FrameBatch(memoryview(bytearray(2000)))) == 0
    assert late.taken.overruns == 1


def test_an_upstream_process_and_its_lock_are_respected(bus: Bus) -> None:
    """It swaps the lower half alone, and sees 1 there while it is held."""
    half = bus.memory.mem32
    swap = atomics.of_processes().compare_and_swap
    bus.lock.acquire(writing=True)
    assert swap(half, 6, 0, 1) == 1
    bus.lock.release()
    assert swap(half, 6, 0, 1) == 0
    with pytest.raises(BusError, match="leaves no mark"):
        bus.lock.acquire(writing=True, patience=0.05)
    assert swap(half, 6, 1, 0) == 1
    assert len(left(bus)) == 2


def test_without_atomic_operations_a_bus_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise atomics.AtomicsError("there are none here: install libatomic")

    monkeypatch.setattr(atomics, "of_processes", missing)
    with pytest.raises(BusError, match=r"bus: cannot be locked: .*install libatomic"):
        Bus(path)


def test_without_the_locks_of_open_files_nobody_has_a_mark(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fcntl, "F_OFD_SETLK", raising=False)
    bus = Bus(path)
    assert bus.lock.mark == 0
    bus.lock.acquire(writing=False)
    assert word(bus) == 1
    assert owner.is_writing(word(bus))
    with pytest.raises(BusError, match="by a process that leaves no mark"):
        bus.lock.acquire(writing=False, patience=0.05)


def test_a_child_opens_the_bus_itself(path: str) -> None:
    forks = """
if not os.fork():
    try:
        bus.lock.acquire(writing=False)
    except BusError as error:
        print(error, flush=True)
    bus = Bus(sys.argv[1])
    bus.lock.acquire(writing=False)
    print("opened", flush=True)
"""
    with process(path, "from xennet.shmif.errors import BusError" + forks) as forking:
        assert line(forking) == f"{path}: was opened before a fork: the child opens it itself"
        assert line(forking) == "opened"


@needs_proof
def test_a_holder_for_whom_somebody_waits_gives_way(engine: str, bus: Bus) -> None:
    """It frees the lock whoever has noted that he waits, and does not take it again before others
    have had the processor."""
    waits = f"""
import xennet.engine.choice as choice
choice._selected = choice.named({engine!r})
bus = Bus(sys.argv[1])
print("begins", flush=True)
bus.lock.acquire(writing=True)
print(bus.lock.waits, bus.lock.waited > 0, flush=True)
bus.lock.release()
"""
    bus.lock.acquire(writing=True)
    held = word(bus)
    with process(bus.path, waits) as waiting:
        assert line(waiting) == "begins"
        until = time.monotonic() + 60
        while word(bus) == held and time.monotonic() < until:
            time.sleep(0.001)
        assert word(bus) == owner.asked_for(held)
        assert owner.mark_of(word(bus)) == bus.lock.mark
        assert owner.is_writing(word(bus))
        bus.lock.release()
        assert line(waiting) == "1 True"
        waiting.wait()
    assert word(bus) == 0
    assert bus.lock.waits == 0
    ways: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus_lock, "_yield", lambda: ways.append(word(bus)))
        for _ in range(2):
            bus.lock.acquire(writing=False)
            bus.lock.release()
    assert 1 <= len(ways) <= bus_lock._COURTESY  # once, and not at the second hold
    assert not any(ways)


def test_a_holder_gives_way_once_however_busy_the_machine_is(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away for a second before it did so."""
    ways: list[int] = []
    seconds = count()
    monkeypatch.setattr(bus_lock, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(bus_lock, "_yield", lambda: ways.append(word(bus)))
    bus.lock._asked = True
    bus.lock.acquire(writing=False)
    bus.lock.release()
    assert ways == [0]


@needs_proof
def test_a_writer_that_died_while_others_waited_is_found_out(bus: Bus, told: list[str]) -> None:
    with process(bus.path, DIES.format(writing=True)) as dying:
        assert line(dying)
        dying.wait()
    hold(bus, word(bus) & 0xFFFFFFFF, owner.asked_for(word(bus)) >> 32)
    assert left(bus) == []
    assert len(told) == 1
    assert "may have been writing" in told[0]


def test_nobody_asks_a_holder_without_a_mark(bus: Bus) -> None:
    """A NetBSD process frees the lower half of the word only."""
    hold(bus, 1)
    with pytest.raises(BusError, match="leaves no mark"):
        bus.lock.acquire(writing=False, patience=0.05)
    assert word(bus) == 1


@pytest.mark.parametrize("seen", [1, 0x80000001, 0x7FFFFFFF, 2])
def test_a_lock_word_that_nobody_writes_is_waited_for_and_told(
    bus: Bus, seen: int, told: list[str]
) -> None:
    hold(bus, seen)
    with pytest.raises(BusError, match=r"locked for 0.05 s"):
        bus.lock.acquire(writing=True, patience=0.05)
    assert word(bus) == seen
    assert not told
