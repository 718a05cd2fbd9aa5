"""A bus that is no bus, or that anybody has written anything to: one line, and an end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shmif_samples import END, batch_of, bus_bytes, made, memory

from xennet.abi.shmifvar import BUSMEM_SIZE
from xennet.engine.choice import using
from xennet.frames import MAX_FRAME, FrameBatch
from xennet.port.base import PortError
from xennet.shmif import bus_ops
from xennet.shmif.bus_file import snapshot
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import Bus, Reader, Station

FULL = bytes(bus_bytes("05_full_plus_one"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"short", r"no bus, it has 5 bytes, not 1048576"),
        (bytes(BUSMEM_SIZE + 1), r"no bus, it has 1048577 bytes, not 1048576"),
        (bytes(BUSMEM_SIZE), r"not initialised, its magic number is 0 \(at byte offset 0\)"),
        (
            b"\xca\x11\xd0\x54" + FULL[4:],
            r"a bus of a big-endian host, which cannot be used here \(at byte offset 0\)",
        ),
        (
            b"\x01\x02\x03\x04" + FULL[4:],
            r"no bus, its magic number is 0x04030201, not 0xca11d054 \(at byte offset 0\)",
        ),
    ],
)
def test_a_file_that_is_no_bus_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.bus"
    path.write_bytes(content)
    for opens in Bus, lambda path: snapshot(path, "64"):
        with pytest.raises(BusError, match=f"^{path}: {why}$"):
            opens(str(path))
    assert path.read_bytes() == content


def test_a_file_that_is_missing_or_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"cannot be opened: No such file or directory$"):
        Bus(str(tmp_path / "missing"))
    with pytest.raises(BusError, match=r"cannot be opened: Is a directory$"):
        Bus(str(tmp_path))
    with pytest.raises(ValueError, match="there is no form 'x'; there are 64, i386"):
        Bus(str(tmp_path / "missing"), create=True, form="x")


def put(content: bytearray, offset: int, value: int) -> None:
    struct.pack_into("<I", content, offset, value)


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (16, END + 1, rf"shm_first is {END + 1}, the data has {END} bytes \(at byte offset 16\)"),
        (20, END, rf"shm_last is {END}, the data has {END} bytes \(at byte offset 20\)"),
        (
            32,  # the newest frame
            END,
            rf"a frame of {END} bytes cannot be on a bus, or is longer than is taken "
            r"\(at byte offset 32\)",
        ),
        (
            32 + 1562,  # the oldest
            0xFFFFFFFF,
            r"a frame of 4294967295 bytes cannot be on a bus, or is longer than is taken "
            r"\(at byte offset 1594\)",
        ),
        (
            32 + 1562,
            1515,
            r"a frame of 1515 bytes cannot be on a bus, or is longer than is taken "
            r"\(at byte offset 1594\)",
        ),
    ],
)
def test_damage_is_told_with_its_place(engine: str, offset: int, value: int, why: str) -> None:
    content = bytearray(FULL)
    put(content, offset, value)
    reader = Reader(memory(content), Station(1, bytes(6), promiscuous=True))
    with pytest.raises(BusError, match=f"^a.bus: {why}$"):
        read_all(reader)


def test_frames_that_lead_nowhere_are_told(engine: str) -> None:
    content = bytearray(FULL)
    put(content, 20, 4)  # no header, but what could be one
    put(content, 32 + 4, 50)
    reader = Reader(memory(content), Station(1, bytes(6), promiscuous=True), MAX_FRAME)
    why = r"a.bus: frames that do not lead to the newest one, at 36 \(at byte offset 1594\)"
    with pytest.raises(BusError, match=why):
        read_all(reader)


def read_all(reader: Reader) -> int:
    """Attach to the oldest frame and read until there is no more; at how many it looked."""
    looked, batch, more = 0, FrameBatch(memoryview(bytearray(1 << 17)), 300), True
    reader.attach(oldest=True)
    while more:
        batch.clear()
        more = reader.take(batch, 256)
        looked += 256
        # Every frame of a bus full of empty ones, and those before an overrun.
        assert looked <= 3 * END // 24
    return looked


def read(reader: Reader) -> None:
    reader.take(FrameBatch(memoryview(bytearray(1 << 20)), 1000), 1000)


@pytest.mark.parametrize(
    ("kernel", "look"), [("take_frames", read), ("attach", Reader.skip)], ids=["read", "skip"]
)
def test_damage_behind_the_last_load_of_a_look_is_left_for_the_next(
    kernel: str, look: Callable[[Reader], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever damages a bus takes no lock, and wakes its readers but once."""
    content, original = bytearray(FULL), getattr(bus_ops, kernel)

    def then_damaged(*args: Any) -> None:
        original(*args)
        put(content, 20, END)

    with using("plain"):
        monkeypatch.setattr(bus_ops, kernel, then_damaged)
        reader = Reader(memory(content), Station(1, bytes(6), promiscuous=True))
        look(reader)
        assert not reader.idle
        with pytest.raises(BusError, match="shm_last"):
            look(reader)


HEADS = st.sampled_from([0, 1, 24, END - 1, END, END + 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
LENGTHS = st.sampled_from([0, 1, 13, 14, 1514, 1515, END // 2 - 25, END // 2, END, 2**32 - 1])


@settings(max_examples=150)
@given(
    gen=st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**64 - 1]),
    first=HEADS,
    last=HEADS,
    lengths=st.lists(st.tuples(st.integers(0, END - 4), LENGTHS), max_size=12),
    fill=st.binary(min_size=1, max_size=40),
    name=st.sampled_from(["plain", "fast"]),
)
def test_whatever_is_on_a_bus_reading_and_writing_it_ends(
    gen: int, first: int, last: int, lengths: list[tuple[int, int]], fill: bytes, name: str
) -> None:
    from importlib.util import find_spec

    content = bytearray(FULL[:32] + (fill * (END // len(fill) + 1))[:END])
    struct.pack_into("<QII", content, 8, gen, first, last)
    for at, length in lengths:
        put(content, 32 + at, length)
    with using(name if find_spec("numba") else "plain"):
        reader = Reader(memory(content), Station(1, bytes(6), promiscuous=True), MAX_FRAME)
        try:
            read_all(reader)
        except PortError as e:
            message = str(e)
        else:
            message = ""
    assert "\n" not in message


def test_a_writer_does_not_write_to_a_damaged_bus(tmp_path: Path, engine: str) -> None:
    content = bytearray(FULL)
    put(content, 32 + 1562, 0xFFFFFFFF)
    path = tmp_path / "a.bus"
    path.write_bytes(content)
    bus = Bus(str(path))
    with pytest.raises(BusError, match=r"a frame of 4294967295 bytes .*\(at byte offset 1594\)"):
        bus.send(batch_of([made(i, 1514) for i in range(9)]), Station(1, bytes(6)).card())
    assert bus.memory.mem[3] == 0
    assert path.read_bytes()[8:24] == FULL[8:24]
