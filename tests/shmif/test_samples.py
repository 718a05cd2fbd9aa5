"""The recorded buses are read as shmif_dumpbus read them, and written byte for byte again."""

from __future__ import annotations

from pathlib import Path

import pytest
from shmif_samples import (
    DATA_AT,
    END,
    HEADER,
    SENDERS,
    Frame,
    batch_of,
    bus_bytes,
    captured,
    circular,
    headers,
    made,
    memory,
    without_padding,
    words,
)

from xennet.abi.shmifvar import SHMIF_MEM
from xennet.engine.choice import current
from xennet.frames import FrameBatch
from xennet.shmif import bus_ops
from xennet.shmif.shared_bus import Bus, Reader, Station

pytestmark = pytest.mark.usefixtures("engine")


def write(content: bytearray, frames: list[Frame], sender: int) -> None:
    """Write frames to the bus in ``content``, and ring the bell as a writer does."""
    from array import array

    view, held = current().view, memory(content)
    batch, res = batch_of(frames), array("q", bytes(8 * bus_ops.RESULTS))
    columns = (batch.data, *batch.columns, batch.hash_info, batch.timestamp)
    card = Station(sender, bytes(6)).card()
    put = current().kernel(bus_ops.put_frames)
    put(
        0,
        batch.count,
        1,
        tuple(map(view, held.views())),
        tuple(map(view, columns)),
        view(card),
        view(res),
    )
    held.judge(res)
    content[4] = 3


def read_all(content: bytearray) -> list[Frame]:
    reader = Reader(memory(content), Station(0, bytes(6), promiscuous=True))
    reader.attach(oldest=True)
    batch, found, more = FrameBatch(memoryview(bytearray(1 << 16)), 40), [], True
    while more:
        batch.clear()
        more = reader.take(batch)
        found += [
            Frame(batch.timestamp[i] // 1000, bytes(batch.frame(i))) for i in range(batch.count)
        ]
    assert reader.taken.overruns == 0
    return found


@pytest.mark.parametrize("name", SENDERS)
def test_a_recorded_bus_is_read_as_its_capture(name: str) -> None:
    assert read_all(bus_bytes(name)) == captured(name)


def test_a_new_bus_has_no_frame() -> None:
    assert read_all(bus_bytes("00_fresh_v0")) == []


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("02_one_frame", [60]),
        ("05_full_plus_one", [1514] * 681 + [994, 100, 60]),
        ("07b_wrap_in_header_then_one", [1514] * 681 + [1108, 300, 60]),
    ],
)
def test_a_recorded_bus_is_written_byte_for_byte(name: str, lengths: list[int]) -> None:
    content = bus_bytes("00_fresh_v0")
    frames = [made(index, length) for index, length in enumerate(lengths)]
    write(content, frames, SENDERS[name])
    assert without_padding(content) == without_padding(bus_bytes(name))


@pytest.mark.parametrize("name", ["09_wrapped_many", "12_two_senders"])
def test_the_last_lap_of_a_recorded_bus_is_written_byte_for_byte(name: str) -> None:
    """What was sent before the oldest frame is not known, so the writer begins behind that one."""
    recorded = bus_bytes(name)
    *_, gen, first, last, _, _ = words(recorded)
    frames, places = captured(name), headers(recorded)
    lap = next(i for i, (at, length) in enumerate(places) if at + HEADER + length >= END)
    content = bytearray(recorded)
    for at, length in places[1:]:  # all but the lengths, which lead the oldest frame's way
        for byte in (*range(4, 12), *range(16, HEADER + length)):
            content[DATA_AT + (at + byte) % END] ^= 0xFF
    # To the end of the data, the oldest frame just ahead of the writer.
    SHMIF_MEM.pack_into(content, 0, *words(recorded)[:2], gen - 1, places[1][0], places[0][0], 0, 0)
    write(content, frames[1 : lap + 1], SENDERS[name])
    assert words(content)[2] == gen
    assert words(content)[4] == places[lap][0]
    # From its begin on, the oldest frame where it is in the end.
    SHMIF_MEM.pack_into(content, 0, *words(recorded)[:2], gen, first, places[lap][0], 0, 0)
    write(content, frames[lap + 1 :], SENDERS[name])
    assert words(content)[4] == last
    assert without_padding(content) == without_padding(recorded)


def test_the_worked_bytes_of_a_bus_that_is_filled_and_wraps() -> None:
    content = bus_bytes("00_fresh_v0")
    frames = [made(index, length) for index, length in enumerate([1514] * 681 + [994, 100])]
    write(content, frames, 1)
    assert words(content)[2:5] == (1, 24, 1048420)  # filled exactly: the first moved to the quirk
    assert circular(content, 0, 24) == bytes(24)
    write(content, [made(683, 60)], 1)
    assert words(content)[2:5] == (1, 1562, 0)


@pytest.mark.parametrize(
    ("lengths", "last", "following"),
    [
        ([1054, 200], 1048480, 160),  # the payload wraps
        ([1108, 300], 1048534, 314),  # the header wraps
        ([1094, 150], 1048520, 150),  # the header ends at the end
    ],
)
def test_a_frame_that_wraps_counts_once(lengths: list[int], last: int, following: int) -> None:
    content = bus_bytes("00_fresh_v0")
    filled = [1514] * 681 + lengths
    write(content, [made(index, length) for index, length in enumerate(filled)], 1)
    assert words(content)[2:5] == (1, 1562, last)
    assert read_all(content)[-1] == made(682, lengths[-1])
    write(content, [made(683, 60)], 1)
    assert words(content)[2:5] == (1, 1562, following)


def test_a_sent_frame_is_the_recorded_bus(tmp_path: Path) -> None:
    """Through the file, its lock and its bell, to which the recorded version number is due."""
    path = tmp_path / "a.bus"
    path.write_bytes(bus_bytes("00_fresh_v0"))
    bus = Bus(str(path))
    station = Station(SENDERS["02_one_frame"], bytes(6))
    bus.send(batch_of([made(0, 60)]), station.card())
    assert without_padding(path.read_bytes()) == without_padding(bus_bytes("02_one_frame"))
    bus.close()
