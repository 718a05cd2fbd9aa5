"""The recorded buses of tests/data/shmif, and what upstream's shmif_dumpbus made of them."""

from __future__ import annotations

import lzma
from pathlib import Path
from struct import iter_unpack, unpack_from
from typing import NamedTuple

from xennet.frames import FrameBatch
from xennet.shmif.bus_file import FORMS, BusMemory

DATA = Path(__file__).parents[1] / "data" / "shmif"
#: Those with frames, and the sender of all that are still on them.
SENDERS = {
    "02_one_frame": 0x1122334455667788,
    "05_full_plus_one": 0x1122334455667788,
    "07b_wrap_in_header_then_one": 0x1122334455667788,
    "09_wrapped_many": 0x1122334455667788,
    "12_two_senders": 0xAAAA0001,
}
#: Where the data begins, how much of it there is, and a header's size.
DATA_AT, END, HEADER = 32, 1048544, 24


class Frame(NamedTuple):
    """A frame of a capture: ``time`` in microseconds."""

    time: int
    data: bytes


def bus_bytes(name: str) -> bytearray:
    return bytearray(lzma.decompress((DATA / f"{name}.bus.xz").read_bytes()))


def memory(content: bytearray, form: str = "64") -> BusMemory:
    return BusMemory("a.bus", memoryview(content), FORMS[form])


def captured(name: str) -> list[Frame]:
    """The frames of the capture (little-endian, microseconds) in order."""
    content = lzma.decompress((DATA / f"{name}.pcap.xz").read_bytes())
    found, at = [], 24
    while at < len(content):
        seconds, micros, length, _ = unpack_from("<IIII", content, at)
        found.append(Frame(seconds * 10**6 + micros, content[at + 16 : at + 16 + length]))
        at += 16 + length
    return found


def made(index: int, length: int, source: str = "020000007788") -> Frame:
    """The frame number ``index`` as the maker of the samples made it, a millisecond a frame."""
    head = bytes.fromhex("ffffffffffff" + source + "88b5") + index.to_bytes(4, "big")
    content = head + bytes((at + index) & 0xFF for at in range(len(head), length))
    return Frame(10**9 + index // 1000 * 10**6 + index % 1000, content[:length])


def batch_of(frames: list[Frame]) -> FrameBatch:
    batch = FrameBatch(
        memoryview(bytearray(max(1, sum(len(frame.data) for frame in frames)))),
        max(1, len(frames)),
    )
    for frame in frames:
        batch.append(frame.data, timestamp=frame.time * 1000)
    return batch


def headers(content: bytes | bytearray) -> list[tuple[int, int]]:
    """Offset and frame length of the frames from shm_first to shm_last, by the layout alone."""
    first, last = unpack_from("<II", content, 16)
    found, at = [], first % END
    for _ in range(END // HEADER):
        length = int.from_bytes(circular(content, at, 4), "little")
        found.append((at, length))
        if at == last:
            return found
        at = (at + HEADER + length) % END
    raise AssertionError("no way to the newest frame")


def circular(content: bytes | bytearray, at: int, count: int) -> bytes:
    """``count`` data bytes from offset ``at`` on."""
    begin = content[DATA_AT + at : DATA_AT + min(at + count, END)]
    return bytes(begin + content[DATA_AT : DATA_AT + count - len(begin)])


def without_padding(content: bytes | bytearray) -> bytes:
    """The bus with the four bytes of padding of each header zeroed."""
    clean = bytearray(content)
    for at, _ in headers(content):
        for byte in range(12, 16):
            clean[DATA_AT + (at + byte) % END] = 0
    return bytes(clean)


def words(content: bytes | bytearray) -> tuple[int, ...]:
    """magic, version, gen, first, last, lock, spare."""
    return next(iter_unpack("<IIQIIII", content[:DATA_AT]))
