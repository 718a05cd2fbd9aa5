"""A pcapng recording keeps the metadata of frames, and stays readable by everybody."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from port_helpers import block, enhanced, frame, interface, new_batch, option, section

from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.port import Counters, open_port
from xennet.port.pcap import PcapPort
from xennet.port.record import RecordPort
from xennet.testing.sample_frames import Frame, drain
from xennet.testing.sample_frames import new_batch as batch_of

TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
NANO = option(9, b"\x09")


def mine(
    flags: int = 0,
    size: int = 0,
    kind: int = 0,
    info: int = 0,
    value: int = 0,
    *,
    order: str = "<",
    version: int = 1,
    number: int = 32473,
    name: bytes = b"xennet",
) -> bytes:
    """The value of xennet's custom option."""
    return pack(order + "I6sBBIIII", number, name, version, flags, size, kind, info, value)


def capture(*packets: bytes, order: str = "<") -> bytes:
    return (
        section(order) + interface(order, options=NANO if order == "<" else b"") + b"".join(packets)
    )


def written(path: Path, frames: list[Frame], remarks: dict[int, object] | None = None) -> bytes:
    port = RecordPort(str(path))
    batch = batch_of(frames)
    batch.remarks.update(remarks or {})
    port.push(batch)
    port.close()
    return path.read_bytes()


def played(path: Path) -> tuple[list[Frame], Counters]:
    port = PcapPort(str(path))
    frames = drain(port)
    port.close()
    return frames, port.counters


def read(path: Path, content: bytes) -> tuple[list[Frame], Counters]:
    path.write_bytes(content)
    return played(path)


# --- what is written ------------------------------------------------------------------------------


def test_frames_without_metadata_are_written_as_ever(tmp_path: Path) -> None:
    data = frame(1)
    content = written(tmp_path / "x.pcapng", [Frame(data, timestamp=7), Frame(frame(2, 61))])
    # A section header, an interface of nanoseconds, packet blocks without options.
    head = block(0x0A0D0D0A, pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    lan = block(1, pack("<HHI", 1, 0, 262144) + NANO + option(0, b""))
    first = block(6, pack("<5I", 0, 0, 7, 60, 60) + data)
    second = block(6, pack("<5I", 0, 0, 0, 61, 61) + frame(2, 61))
    assert content == head + lan + first + second


def test_metadata_is_in_two_options_behind_the_frame(tmp_path: Path) -> None:
    data = frame(1, 61)
    state = {"flags": 3, "gso_size": 1448, "gso_type": 1, "hash_info": 0x102, "hash_value": 0xDEAD}
    content = written(tmp_path / "x.pcapng", [Frame(data, **state)])
    told = option(2, pack("<I", 1 << 9 | 1 << 10 | 1 << 11))
    told += option(2989, mine(3, 1448, 1, 0x102, 0xDEAD)) + option(0, b"")
    packet = block(6, pack("<5I", 0, 0, 0, 61, 61) + data + bytes(3) + told)
    assert content.endswith(packet)


def test_pcap_has_no_place_for_metadata(tmp_path: Path) -> None:
    plain, marked = Frame(frame(1)), Frame(frame(1), flags=3, gso_size=1, gso_type=1)
    contents = [written(tmp_path / f"{i}.pcap", [one]) for i, one in enumerate((plain, marked))]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_comments_stay_beside_metadata(tmp_path: Path, order: str) -> None:
    told = (
        option(1, b"a", order) + option(2989, mine(1, order=order), order) + option(1, b"b", order)
    )
    source, copy = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(capture(enhanced(frame(1), order=order, options=told), order=order))
    player, recorder, batch = PcapPort(str(source)), RecordPort(str(copy)), new_batch()
    player.pull(batch)
    recorder.push(batch)
    recorder.close()
    player.close()
    content = copy.read_bytes()
    comments = option(1, b"a") + option(1, b"b")
    assert comments + option(2, pack("<I", 1 << 9)) + option(2989, mine(1)) in content
    assert played(copy) == played(source)


# --- what is read ---------------------------------------------------------------------------------


@st.composite
def states(draw: Any) -> Frame:
    gso = draw(
        st.one_of(st.just((0, 0)), st.tuples(st.integers(1, 65535), st.sampled_from([1, 2])))
    )
    kinds = st.builds(
        lambda algorithm, kind: algorithm << 8 | kind, st.integers(0, 255), st.integers(1, 4)
    )
    info = draw(st.one_of(st.just(0), kinds))
    return Frame(
        draw(st.binary(min_size=14, max_size=100)),
        draw(st.integers(-(1 << 63), (1 << 63) - 1)),
        draw(st.integers(0, 3)),
        *gso,
        info,
        draw(st.integers(0, (1 << 32) - 1)) if info else 0,
    )


@given(frames=st.lists(states(), max_size=20), name=st.sampled_from(["a.pcapng", "a.pcapng.gz"]))
@settings(max_examples=60)
def test_what_is_recorded_is_played_again(
    tmp_path_factory: pytest.TempPathFactory, frames: list[Frame], name: str
) -> None:
    path = tmp_path_factory.mktemp("round") / name
    written(path, frames)
    assert played(path) == (frames, Counters(len(frames), sum(len(one.data) for one in frames)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_is_read_in_either_byte_order(tmp_path: Path, order: str) -> None:
    told = option(2989, mine(3, 1448, 2, 0x104, 5, order=order), order)
    content = capture(enhanced(frame(1), order=order, options=told), order=order)
    (one,), _ = read(tmp_path / "x", content)
    assert (one.flags, one.gso_size, one.gso_type, one.hash_info, one.hash_value) == (
        3,
        1448,
        2,
        260,
        5,
    )


def test_metadata_of_an_obsolete_packet_block_is_read(tmp_path: Path) -> None:
    body = pack("<HHIIII", 0, 0, 0, 0, 60, 60) + frame(1) + option(2989, mine(2))
    (one,), _ = read(tmp_path / "x", capture(block(2, body)))
    assert one.flags == DATA_VALIDATED


@pytest.mark.parametrize(
    "value",
    [
        mine(3, number=1234),
        mine(3, name=b"other!"),
        b"",
        pack("<I", 32473),
        pack("<I", 32473) + b"xennet",
        pack("<I", 9) + bytes(100),
    ],
    ids=["number", "name", "empty", "only a number", "no version", "long"],
)
def test_custom_options_of_others_are_passed_over(tmp_path: Path, value: bytes) -> None:
    content = capture(enhanced(frame(1), options=option(2989, value)))
    assert read(tmp_path / "x", content) == ([Frame(frame(1))], Counters(1, 60))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (mine(3, version=2), "version 2 of xennet's option, 1 is known"),
        (mine(3)[:-1], "xennet's option has 27 bytes, not 28"),
        (mine(3)[:11], "xennet's option has 11 bytes, not 28"),
        (mine(3) + b"x", "xennet's option has 29 bytes, not 28"),
        (mine(4), "xennet's option makes no sense: flags 0x4"),
        (mine(3, 1448, 3), "makes no sense: GSO type 3"),
        (mine(3, 1448, 0xFFFFFFFF), "makes no sense: GSO type 4294967295"),
        (mine(3, 1448, 0), "makes no sense: segments of 1448 bytes with GSO type 0"),
        (mine(3, 0, 1), "makes no sense: segments of 0 bytes with GSO type 1"),
        (mine(3, 65536, 1), "makes no sense: segments of 65536 bytes with GSO type 1"),
        (mine(0, info=0x105), "makes no sense: hash 0x105"),
        (mine(0, info=0x100), "makes no sense: hash 0x100"),
        (mine(0, info=0x10001), "makes no sense: hash 0x10001"),
    ],
    ids=[
        *("version", "short", "cut", "long", "flags", "GSO type", "large GSO type"),
        *("size without a type", "type without a size", "large size"),
        *("hash type", "no hash type", "large hash"),
    ],
)
def test_an_option_that_cannot_be_read_is_one_fault_with_its_place(
    tmp_path: Path, value: bytes, problem: str
) -> None:
    path = tmp_path / "x.pcapng"
    packet = enhanced(frame(1), options=option(2, pack("<I", 1 << 9)) + option(2989, value))
    head = capture()
    frames, counters = read(path, head + packet * 3)
    assert [one.data for one in frames] == [frame(1)] * 3
    assert [one.flags for one in frames] == [0, 0, 0]
    (fault,) = counters.faults
    assert re.fullmatch(
        rf"{re.escape(str(path))}: (.*) \(at byte offset {len(head)}\), and 2 more like it", fault
    )
    assert problem in fault


def test_an_option_that_runs_past_its_block_is_a_fault(tmp_path: Path) -> None:
    cut = pack("<HH", 2989, 100) + mine(3)
    _, counters = read(tmp_path / "x", capture(enhanced(frame(1), options=cut[:20])))
    assert "xennet's option has 16 bytes, not 28" in counters.faults[0]
    _, counters = read(tmp_path / "x", capture(enhanced(frame(1), options=pack("<HH", 2989, 9))))
    assert counters.faults == ()


@given(value=st.binary(max_size=40), junk=st.binary(max_size=40))
@example(value=mine(255, 1, 255, 1 << 31)[7:], junk=b"")
def test_any_bytes_are_read_or_a_fault(
    tmp_path_factory: pytest.TempPathFactory, value: bytes, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "x"
    told = option(2989, pack("<I", 32473) + b"xennet\x01" + value) + junk
    frames, counters = read(path, capture(enhanced(frame(1), options=told)))
    assert [one.data for one in frames] == [frame(1)]
    assert len(counters.faults) <= 1


def test_a_frame_that_is_not_whole_waits_for_no_offload(tmp_path: Path) -> None:
    told = option(2989, mine(3, 1448, 1, 0x102, 9))
    cut = enhanced(frame(1), wire_length=9000, options=told)
    ready = enhanced(frame(1), wire_length=61, options=option(2, pack("<I", 1 << 9)))
    frames, counters = read(tmp_path / "x", capture(cut, ready))
    assert frames == [Frame(frame(1), hash_info=0x102, hash_value=9), Frame(frame(1))]
    assert (counters.truncated, counters.faults) == (2, ())


# --- what other programs say ----------------------------------------------------------------------


def tcp(spec: str = "tcp:1514x1") -> Frame:
    return drain(open_port(spec))[0]


def flagged(data: bytes, word: int) -> bytes:
    return capture(enhanced(data, options=option(2, pack("<I", word))))


def test_a_checksum_that_another_program_says_is_not_ready_is_blank(tmp_path: Path) -> None:
    one = tcp()
    spoilt = one.data[:50] + b"\x12\x34" + one.data[52:]
    (got,), _ = read(tmp_path / "x", flagged(spoilt, 1 << 9))
    assert got.flags == CSUM_BLANK | DATA_VALIDATED
    assert got.data == one.data  # the sum of the pseudo-header is where a peer wants it


def test_a_checksum_that_another_program_says_is_valid_is_validated(tmp_path: Path) -> None:
    (got,), _ = read(tmp_path / "x", flagged(frame(1), 1 << 10))
    assert (got.flags, got.data) == (DATA_VALIDATED, frame(1))


@pytest.mark.parametrize("word", [1 << 9, 1 << 11, 1 << 12, 0])
def test_where_there_is_no_checksum_nothing_is_blank(tmp_path: Path, word: int) -> None:
    (got,), counters = read(tmp_path / "x", flagged(frame(1), word))
    assert (got, counters.faults) == (Frame(frame(1)), ())


# --- other programs read it -----------------------------------------------------------------------


def offloaded(path: Path) -> list[Frame]:
    """A recording of frames with all kinds of metadata; returns them."""
    frames = [
        tcp(),
        tcp("tcp:64000x1"),
        tcp("tcp6:9000x1/1000"),
        Frame(frame(1), hash_info=0x102, hash_value=0xCAFE),
        Frame(frame(2), flags=DATA_VALIDATED),
        Frame(frame(3)),
    ]
    written(path, frames)
    return frames


@TSHARK
def test_tshark_reads_offloaded_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    frames = offloaded(path)
    fields = [f"-e{name}" for name in ("frame.len", "frame.packet_flags", "tcp.len", "data.len")]
    done = subprocess.run(
        ["tshark", "-r", str(path), "-T", "fields", *fields], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [int(row[0]) for row in rows] == [len(one.data) for one in frames]
    words = [int(row[1] or "0", 16) for row in rows]
    assert words == [0x600, 0xE00, 0xE00, 0, 0x400, 0]
    assert [row[2] for row in rows[:3]] == ["1448", "63934", "8914"]
    assert "alformed" not in done.stdout + done.stderr


def test_scapy_reads_offloaded_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    frames = offloaded(path)
    script = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from scapy.utils import PcapNgReader\n"
        "print(*(bytes(packet).hex() for packet in PcapNgReader(sys.argv[1])))"
    )
    words = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [one.data.hex() for one in frames]


def test_dpkt_reads_offloaded_frames(tmp_path: Path) -> None:
    from dpkt.pcapng import Reader

    path = tmp_path / "x.pcapng"
    frames = offloaded(path)
    with path.open("rb") as file:
        assert [data for _, data in Reader(file)] == [one.data for one in frames]


@TSHARK
def test_tshark_copies_what_it_knows_and_the_copy_is_played(tmp_path: Path) -> None:
    path, copy = tmp_path / "x.pcapng", tmp_path / "copy.pcapng"
    frames = offloaded(path)
    subprocess.run(["tshark", "-r", str(path), "-w", str(copy)], check=True, capture_output=True)
    assert played(copy) == (frames, played(path)[1])


def test_a_whole_run_keeps_it(tmp_path: Path) -> None:
    from xennet.cli import main

    path = tmp_path / "x.pcapng"
    words = ["run", "--quiet", "--guest", "tcp:20000x5", "--host", f"record:{path}"]
    assert main(words) == 0
    frames, _ = played(path)
    assert {(one.flags, one.gso_size, one.gso_type) for one in frames} == {(3, 1448, 1)}
    assert main(["run", "--quiet", "--guest", f"pcap:{path}", "--host", "null:", "--no-gso"]) == 0
