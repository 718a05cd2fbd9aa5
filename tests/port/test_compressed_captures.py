"""gzip, xz and Zstandard: read by content, written by name, cut short like any other capture."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from struct import pack

import pytest
from port_helpers import drain, frame, new_batch, pcap_header, pcap_record, play

from xennet.port import PortError
from xennet.port.pcap import PcapPort
from xennet.port.record import RecordPort

zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.decompress,
    "xz": lzma.decompress,
    "zst": zstd.decompress,
}
TOOLS = {"gz": "gzip", "xz": "xz", "zst": "zstd"}
#: Frames that no compressor makes much shorter.
FRAMES = [os.urandom(1000 + i) for i in range(400)]
WHOLE = pcap_header() + b"".join(pcap_record(data, 1) for data in FRAMES)
EXPECTED = [(10**9, data) for data in FRAMES]

kinds = pytest.mark.parametrize("kind", PACK)


@kinds
@pytest.mark.parametrize("name", ["in.pcap", "in.pcap.gz", "in"])
def test_content_tells_what_is_to_be_unpacked(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACK[kind](WHOLE))
    assert play(path) == (EXPECTED, "")


@kinds
def test_members_that_follow_each_other_are_one_capture(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in"
    path.write_bytes(PACK[kind](WHOLE[:1000]) + PACK[kind](WHOLE[1000:]))
    assert play(path) == (EXPECTED, "")


@kinds
def test_a_damaged_member_behind_a_whole_one_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in"
    whole = len(pcap_header() + pcap_record(FRAMES[0], 1))
    path.write_bytes(PACK[kind](WHOLE[:whole]) + b"X" + PACK[kind](WHOLE[whole:])[1:])
    got, fault = play(path)
    assert got == EXPECTED[:1]
    assert f"capture damaged at byte offset {whole} of the unpacked file" in fault


def test_padding_behind_xz_streams_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(
        lzma.compress(WHOLE[:1000]) + bytes(8) + lzma.compress(WHOLE[1000:]) + bytes(65536)
    )
    assert play(path) == (EXPECTED, "")


def test_a_zstandard_file_may_begin_with_a_skippable_frame(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(pack("<II", 0x184D2A50, 5) + b"12345" + zstd.compress(WHOLE))
    assert play(path) == (EXPECTED, "")


@kinds
@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_the_name_of_a_recording_tells_how_it_is_packed(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    plain, packed = tmp_path / f"out.{suffix}", tmp_path / f"out.{suffix.upper()}.{kind}"
    for path in (plain, packed):
        port, batch = RecordPort(str(path)), new_batch()
        for i in range(3):
            batch.append(frame(i), timestamp=i)
        port.push(batch)
        port.push(batch)
        port.close()
        port.close()
    assert UNPACK[kind](packed.read_bytes()) == plain.read_bytes()
    assert play(packed) == play(plain)


@kinds
def test_the_tool_of_the_field_unpacks_a_recording(tmp_path: Path, kind: str) -> None:
    if not (tool := shutil.which(TOOLS[kind])):
        pytest.skip(f"needs {TOOLS[kind]}")
    path = tmp_path / f"out.pcap.{kind}"
    RecordPort(str(path)).close()
    out = subprocess.run([tool, "-dc", str(path)], capture_output=True, check=True).stdout
    assert len(out) == 24


def test_equal_recordings_are_equal_gzip_files(tmp_path: Path) -> None:
    contents = set()
    for name in ("one.pcap.gz", "two.pcap.gz"):
        RecordPort(str(tmp_path / name)).close()
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


@kinds
def test_a_packed_file_that_is_cut_gives_what_is_whole_in_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"in.pcap.{kind}"
    packed = PACK[kind](WHOLE)
    path.write_bytes(packed[: len(packed) * 3 // 4])
    got, fault = play(path)
    assert 0 < len(got) < len(FRAMES)
    assert got == EXPECTED[: len(got)]
    assert f"{path}: capture damaged at byte offset " in fault
    assert "of the unpacked file" in fault
    assert "end-of-stream marker" in fault


def test_a_wrong_check_sum_is_told_after_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap.gz"
    packed = bytearray(gzip.compress(WHOLE))
    packed[-8] ^= 0xFF  # a gzip file ends in CRC and size
    path.write_bytes(packed)
    got, fault = play(path)
    assert got == EXPECTED
    assert f"capture damaged at byte offset {len(WHOLE)} of the unpacked file" in fault
    assert "CRC check failed" in fault


@kinds
def test_a_packed_file_that_is_no_capture_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in"
    path.write_bytes(PACK[kind](b"GIF89a..."))
    with pytest.raises(PortError, match=r"starts with 47494638 \(at byte offset 0 of the unpacked"):
        PcapPort(str(path))


@kinds
@pytest.mark.parametrize("size", [2, 4, 6, 12, 20])
def test_the_first_bytes_of_a_packed_file_alone_are_refused(
    tmp_path: Path, kind: str, size: int
) -> None:
    path = tmp_path / "in"
    path.write_bytes(PACK[kind](WHOLE)[:size])
    with pytest.raises(PortError, match=f"^{path}: "):
        PcapPort(str(path))


@kinds
def test_a_pipe_that_gives_byte_by_byte_is_unpacked(tmp_path: Path, kind: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    packed = PACK[kind](pcap_header() + pcap_record(frame(1), 1))

    def write() -> None:
        with open(fifo, "wb", buffering=0) as file:
            for i in range(len(packed)):
                file.write(packed[i : i + 1])

    writer = threading.Thread(target=write)
    writer.start()
    got = play(fifo)
    writer.join()
    assert got == ([(10**9, frame(1))], "")


@kinds
def test_memory_does_not_grow_with_what_a_file_unpacks_to(tmp_path: Path, kind: str) -> None:
    path, many = tmp_path / "in", 30_000
    path.write_bytes(PACK[kind](pcap_header() + pcap_record(frame(1, 1000), 1) * many))
    batch = new_batch(max_frames=256)
    tracemalloc.start()
    try:
        with closing(PcapPort(str(path))) as port:
            while not port.exhausted:
                batch.clear()
                port.pull(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert port.counters.frames_in == many
    assert peak < 16_000_000  # xz has a window of 8 MiB


@kinds
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_for_packed_recordings_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.pcap.{kind}"
    path.symlink_to("/dev/full")
    port, batch = RecordPort(str(path)), new_batch()
    batch.append(frame(1))
    port.push(batch)
    with pytest.raises(PortError, match="cannot be written after 1 frames: No space"):
        port.close()
    port.close()


def test_without_the_module_a_zstandard_file_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.pcap.zst"
    path.write_bytes(zstd.compress(WHOLE))
    monkeypatch.setitem(sys.modules, zstd.__name__, None)
    for open_it in (PcapPort, RecordPort):
        with pytest.raises(PortError, match=f"need the Python module {zstd.__name__}"):
            open_it(str(path))
    assert path.read_bytes() == zstd.compress(WHOLE)


def test_an_uncompressed_capture_that_looks_like_nothing_else_is_read_in_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "in.pcap.gz"  # the name does not count
    path.write_bytes(pcap_header() + pcap_record(frame(1), 1))
    with closing(PcapPort(str(path))) as port:
        assert drain(port) == ([(10**9, frame(1))], None)
