"""record:FILE: what it writes is what others, and pcap:FILE, read back."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import dpkt
import pytest
from full_disk import files_up_to
from hypothesis import given, settings
from hypothesis import strategies as st
from port_helpers import frame, frames_of, new_batch, opened, play

from xennet.port import PortError
from xennet.port.pcap import PcapPort
from xennet.port.record import RecordPort

SUFFIXES = ["pcap", "pcapng", "PcapNG", "cap"]


def record(path: Path, frames: list[tuple[int, bytes]]) -> None:
    port, batch = RecordPort(str(path)), new_batch(max_frames=5)
    for timestamp, data in frames:
        if not batch.has_room(len(data)):
            port.push(batch)
            batch.clear()
        batch.append(data, timestamp=timestamp)
    port.push(batch)
    port.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_frames_make_a_valid_capture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    RecordPort(str(path)).close()
    assert play(path) == ([], "")


def test_the_name_chooses_the_format(tmp_path: Path) -> None:
    starts = {}
    for suffix in SUFFIXES:
        path = tmp_path / f"out.{suffix}"
        RecordPort(str(path)).close()
        starts[suffix] = path.read_bytes()[:4].hex()
    assert starts == {
        "pcap": "4d3cb2a1",
        "pcapng": "0a0d0d0a",
        "PcapNG": "0a0d0d0a",
        "cap": "4d3cb2a1",
    }


@settings(max_examples=50, deadline=None)
@given(
    frames=st.lists(
        st.tuples(st.integers(0, 2**32 * 10**9 - 1), st.binary(min_size=14, max_size=70)),
        max_size=12,
    )
)
def test_pcap_keeps_frames_and_timestamps_exactly(tmp_path_factory, frames) -> None:
    path = tmp_path_factory.getbasetemp() / "round.pcap"
    record(path, frames)
    assert play(path) == (frames, "")


@settings(max_examples=50, deadline=None)
@given(
    frames=st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.binary(min_size=14, max_size=70)),
        max_size=12,
    )
)
def test_pcapng_keeps_any_timestamp_also_before_1970(tmp_path_factory, frames) -> None:
    path = tmp_path_factory.getbasetemp() / "round.pcapng"
    record(path, frames)
    assert play(path) == (frames, "")


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_a_capture_of_a_capture_is_byte_for_byte_the_same(tmp_path: Path, suffix: str) -> None:
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    record(one, [(10**18 + i, frame(i, 14 + i)) for i in range(40)] + [(1, frame(1, 65535))])
    source, sink, batch = opened(PcapPort(str(one))), RecordPort(str(two)), new_batch(max_frames=7)
    while not source.exhausted:
        batch.clear()
        source.pull(batch)
        sink.push(batch)
    sink.close()
    assert one.read_bytes() == two.read_bytes()


def test_dpkt_reads_the_pcap(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    record(path, [(1700000000123456789, frame(1, 9000))])
    with path.open("rb") as file:
        ((timestamp, data),) = dpkt.pcap.Reader(file)
    assert (timestamp, data) == (Decimal("1700000000.123456789"), frame(1, 9000))


def test_scapy_reads_the_pcapng(tmp_path: Path) -> None:
    from scapy.utils import RawPcapNgReader

    path = tmp_path / "out.pcapng"
    record(path, [(1700000000123456789, frame(1, 9001)), (5, frame(2, 14))])
    with RawPcapNgReader(str(path)) as reader:
        got = list(reader)
    assert [data for data, _ in got] == [frame(1, 9001), frame(2, 14)]
    meta = got[0][1]
    assert (meta.tshigh << 32 | meta.tslow, meta.tsresol) == (1700000000123456789, 10**9)
    assert (meta.wirelen, meta.linktype) == (9001, 1)


def test_an_existing_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    path.write_bytes(bytes(10_000))
    record(path, [(0, frame(1))])
    assert path.stat().st_size == 24 + 16 + 60


def test_pushes_are_counted_and_leave_the_batch_alone(tmp_path: Path) -> None:
    port, batch = RecordPort(str(tmp_path / "out.pcap")), new_batch()
    batch.append(frame(1))
    batch.append(frame(2, 100), timestamp=4)
    before = frames_of(batch)
    port.push(batch)
    assert frames_of(batch) == before
    assert (port.counters.frames_out, port.counters.bytes_out) == (2, 160)
    assert port.exhausted
    assert port.pull(batch) == 0
    port.close()
    port.close()


@pytest.mark.parametrize("timestamp", [-1, 2**32 * 10**9, 2**63 - 1, -(2**63)])
def test_a_timestamp_that_pcap_cannot_hold_is_refused_and_pcapng_named(
    tmp_path: Path, timestamp: int
) -> None:
    path = tmp_path / "out.pcap"
    port, batch = RecordPort(str(path)), new_batch()
    batch.append(frame(1))
    port.push(batch)
    batch.append(frame(2), timestamp=timestamp)
    message = (
        f"timestamp of {timestamp} ns of frame 2 does not fit: pcap has 32 bits for the seconds "
        r"since 1970; a \.pcapng file holds it"
    )
    with pytest.raises(PortError, match=message):
        port.push(batch)
    port.close()
    assert play(path) == ([(0, frame(1))], "")


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(PortError, match="cannot be opened: Is a directory"):
        RecordPort(str(tmp_path))
    with pytest.raises(PortError, match="cannot be opened: No such file"):
        RecordPort(str(tmp_path / "none" / "out.pcap"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_port_error_at_the_latest_at_close() -> None:
    port, batch = RecordPort("/dev/full"), new_batch()
    batch.append(frame(1))
    port.push(batch)
    with pytest.raises(PortError, match="/dev/full: cannot be written after 0 frames: No space"):
        port.close()
    port.close()


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_full_disk_leaves_a_valid_capture_with_as_many_frames_as_it_is_said(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"out.{suffix}"
    port = RecordPort(str(path))
    for i in range(50):
        batch = new_batch()
        batch.append(frame(i))
        port.push(batch)
    with files_up_to(1000), pytest.raises(PortError, match=r"written after [0-9]+ frames") as told:
        port.close()
    frames, error = play(path)
    assert error == ""
    assert 1 < len(frames) < 50
    assert f"after {len(frames)} frames" in str(told.value)


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_nothing_that_was_recorded_looks_cut_by_a_snap_length(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    record(path, [(0, frame(i, 14 + i)) for i in range(5)])
    port = opened(PcapPort(str(path)))
    assert port.pull(new_batch()) == 5
    assert port.counters.truncated == 0
