"""pcap:FILE with files of other writers, hand-made ones and damaged ones."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path
from struct import pack

import dpkt
import pytest
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from port_helpers import (
    block,
    drain,
    enhanced,
    frame,
    interface,
    new_batch,
    opened,
    option,
    pcap_header,
    pcap_record,
    play,
    section,
)

import xennet
from xennet.port import PortError
from xennet.port.pcap import PcapPort

SAMPLE = Path(xennet.__file__).parent / "data" / "guest-and-host-tcp.pcap"
SECOND = 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.pcap"


# --- files of other writers -----------------------------------------------------------------------


def test_recorded_vif_capture_agrees_with_dpkt() -> None:
    got, error = play(SAMPLE)
    with SAMPLE.open("rb") as file:
        theirs = [(round(ts * 10**6) * 1000, data) for ts, data in dpkt.pcap.Reader(file)]
    assert error == ""
    assert got == theirs
    assert len(got) == 492
    assert sum(len(data) > 4096 for _, data in got) == 43


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_pcap_written_by_scapy(path: Path, endianness: str, nano: bool) -> None:
    from scapy.utils import RawPcapWriter

    writer = RawPcapWriter(str(path), linktype=1, nano=nano, endianness=endianness)
    writer.write_header(None)
    fraction = 123456789 if nano else 123456
    writer.write_packet(frame(1), sec=1700000000, usec=fraction)
    writer.write_packet(frame(2, 1514), sec=1700000001, usec=0, wirelen=9000)
    writer.close()
    unit = 1 if nano else 1000
    assert play(path) == (
        [
            (1700000000 * SECOND + fraction * unit, frame(1)),
            (1700000001 * SECOND, frame(2, 1514)),
        ],
        "",
    )


def test_pcapng_written_by_scapy(path: Path) -> None:
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgWriter

    packets = [Ether(frame(i)) for i in (1, 2)]
    for i, packet in enumerate(packets):
        packet.time = 1700000000 + i
    writer = PcapNgWriter(str(path))
    writer.write(packets)
    writer.close()
    assert play(path) == ([((1700000000 + i) * SECOND, frame(i + 1)) for i in (0, 1)], "")


def test_pcapng_written_by_dpkt(path: Path) -> None:
    with path.open("wb") as file:
        writer = dpkt.pcapng.Writer(file, snaplen=65535)
        writer.writepkt(frame(7, 61), ts=1454725786)
    assert play(path) == ([(1454725786 * SECOND, frame(7, 61))], "")


# --- classic pcap ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("unit", [1, 1000])
def test_timestamps_are_exact_in_both_units_and_byte_orders(
    path: Path, order: str, unit: int
) -> None:
    last = SECOND // unit - 1
    path.write_bytes(pcap_header(order, unit) + pcap_record(frame(1), 2**32 - 1, last, order=order))
    assert play(path) == ([((2**32 - 1) * SECOND + last * unit, frame(1))], "")


def test_a_million_microseconds_are_the_next_second(path: Path) -> None:
    # Field: scapy and dpkt round a fraction up to it and leave the second as it was.
    path.write_bytes(pcap_header(unit=1000) + pcap_record(frame(1), 1700000000, 1_000_000))
    assert play(path) == ([(1700000001 * SECOND, frame(1))], "")


def test_modified_pcap_has_records_with_eight_more_header_bytes(path: Path) -> None:
    head = bytes.fromhex("34cdb2a1") + pcap_header()[4:]
    record = pack("<IIIIIHBB", 5, 6, 60, 60, 1, 0, 0, 0) + frame(1)
    path.write_bytes(head + record * 2)
    assert play(path) == ([(5 * SECOND + 6000, frame(1))] * 2, "")


def test_snap_length_cuts_pass_and_are_counted(path: Path) -> None:
    path.write_bytes(
        pcap_header()
        + pcap_record(frame(1), wire_length=1514)
        + pcap_record(frame(2))
        + pcap_record(frame(3, 5), wire_length=99)
    )
    port = opened(PcapPort(str(path)))
    got, _ = drain(port)
    assert [data for _, data in got] == [frame(1), frame(2)]
    assert port.counters.truncated == 1
    assert port.counters.skipped_runt == 1


def test_empty_and_runt_records_are_skipped_and_counted(path: Path) -> None:
    records = [b"", frame(1, 13), frame(2, 14), b"", frame(3, 1), frame(4, 60), b""]
    path.write_bytes(pcap_header() + b"".join(pcap_record(data, 1) for data in records))
    port = opened(PcapPort(str(path)))
    got, error = drain(port)
    assert error is None
    assert [data for _, data in got] == [frame(2, 14), frame(4, 60)]
    counters = port.counters
    assert (counters.frames_in, counters.bytes_in) == (2, 74)
    assert (counters.skipped_empty, counters.skipped_runt) == (3, 2)


def test_capture_without_frames_is_exhausted_at_once(path: Path) -> None:
    path.write_bytes(pcap_header())
    port = opened(PcapPort(str(path)))
    assert port.exhausted
    assert port.pull(new_batch()) == 0


def test_what_is_pushed_to_a_player_is_swallowed_and_counted(path: Path) -> None:
    path.write_bytes(pcap_header() + pcap_record(frame(1)))
    port, batch = opened(PcapPort(str(path))), new_batch()
    port.pull(batch)
    port.push(batch)
    assert (port.counters.frames_out, port.counters.bytes_out) == (1, 60)
    assert path.read_bytes() == pcap_header() + pcap_record(frame(1))


def test_a_full_batch_leaves_the_rest_for_the_next_pull(path: Path) -> None:
    frames = [frame(i, 20 + i) for i in range(10)]
    path.write_bytes(pcap_header() + b"".join(map(pcap_record, frames)))
    for batch in (new_batch(max_frames=3), new_batch(size=70)):
        got, error = play(path, batch)
        assert ([data for _, data in got], error) == (frames, "")


def test_pull_appends_after_what_the_batch_holds(path: Path) -> None:
    path.write_bytes(pcap_header() + pcap_record(frame(1), 3))
    batch = new_batch()
    batch.append(frame(9))
    assert opened(PcapPort(str(path))).pull(batch) == 1
    assert [bytes(data) for data in batch] == [frame(9), frame(1)]


def test_a_batch_too_small_for_the_next_frame_is_the_callers_error(path: Path) -> None:
    path.write_bytes(pcap_header() + pcap_record(frame(1)))
    with pytest.raises(IndexError, match="60 bytes"):
        opened(PcapPort(str(path))).pull(new_batch(size=59))


# --- files that are no good -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not a pcap or pcapng file, it has 0 bytes \(at byte offset 0\)"),
        (b"\xd4\xc3", "it has 2 bytes"),
        (b"GIF89a...", "not a pcap or pcapng file, it starts with 47494638"),
        (pcap_header()[:23], "pcap header cut short, 23 of 24 bytes"),
        (pcap_header(linktype=113), r"link type 113 is not Ethernet \(1\) \(at byte offset 20\)"),
        (pcap_header(version=(2, 5)), r"pcap version 2.5 is not 2.0 to 2.4 \(at byte offset 4\)"),
        (pcap_header(version=(1, 2)), "pcap version 1.2 is not 2.0 to 2.4"),
        (section()[:11], "section header cut short"),
        (section()[:27], "block cut short, 27 of 28 bytes"),
        (pack("<III", 0x0A0D0D0A, 28, 0xDEAD) + bytes(16), "no byte-order magic in adde0000"),
        (section() + enhanced(frame(1)), "packet of interface 0, only 0 described"),
        (section() + interface()[:-1], "block cut short, 19 of 20"),
        (section() + pack("<II", 5, 13), r"impossible block length 13 \(at byte offset 28\)"),
        (section() + pack("<II", 5, 8), "impossible block length 8"),
        (section() + pack("<II", 6, 1 << 25), "block of 33554432 bytes"),
        (section() + pack("<II", 5, 1 << 25) + bytes(64), "block cut short, 72 of 33554432"),
        (section() + b"1234", "block header cut short, 4 of 8 bytes"),
        (section() + block(6, bytes(4)), "block with 4 bytes inside, needs 20"),
        (section() + block(5, bytes(4), trailer=99), "does not end in its length"),
        (section() + interface() + enhanced(b"", captured=1), "packet of 1 bytes runs past its"),
        (section() + interface(options=pack("<HH", 9, 99)), "option 9 of 99 bytes runs past its"),
    ],
)
def test_a_bad_file_is_refused_before_a_frame_is_asked_for(
    path: Path, content: bytes, message: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(PortError, match=message) as caught:
        PcapPort(str(path))
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_file_directory_and_nul_are_named(tmp_path: Path) -> None:
    with pytest.raises(PortError, match=r"none\.pcap: cannot be opened: No such file"):
        PcapPort(str(tmp_path / "none.pcap"))
    with pytest.raises(PortError, match="cannot be opened: Is a directory"):
        PcapPort(str(tmp_path))
    with pytest.raises(PortError, match="cannot be opened"):
        PcapPort("a\0b")


def test_a_file_that_cannot_be_read_is_named() -> None:
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("needs Linux procfs")
    with pytest.raises(PortError, match=r"/proc/self/mem: cannot be read: .* \(at byte offset 0\)"):
        PcapPort("/proc/self/mem")


# --- pcapng ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_interfaces_have_their_own_resolution_and_offset(path: Path, order: str) -> None:
    resolutions = [
        b"",
        option(9, b"\x09", order),
        option(9, b"\x03", order) + option(14, pack(order + "q", -5), order),
        option(9, b"\x8a", order),  # 2**-10 s
        option(9, b"\x0c", order),  # ps: finer than a timestamp here
    ]
    ticks = [1700000000123456, 1700000000123456789, 9001, 1025, 1999]
    path.write_bytes(
        section(order)
        + b"".join(interface(order, options=options) for options in resolutions)
        + b"".join(enhanced(frame(i), ticks[i], order=order, number=i) for i in (4, 3, 2, 1, 0))
    )
    assert play(path) == (
        [
            (1, frame(4)),
            (SECOND + SECOND // 1024, frame(3)),
            (4_001_000_000, frame(2)),
            (1700000000123456789, frame(1)),
            (1700000000123456000, frame(0)),
        ],
        "",
    )


def test_sections_of_different_byte_order_follow_each_other(path: Path) -> None:
    nano = option(9, b"\x09")
    path.write_bytes(
        section("<")
        + interface("<", options=nano)
        + enhanced(frame(1), 7)
        + section(">")
        + interface(">")
        + enhanced(frame(2), 7, order=">")
    )
    assert play(path) == ([(7, frame(1)), (7000, frame(2))], "")


def test_a_new_section_forgets_the_interfaces_of_the_old(path: Path) -> None:
    path.write_bytes(section() + interface() + enhanced(frame(1)) + section() + enhanced(frame(2)))
    got, error = play(path)
    assert len(got) == 1
    assert "packet of interface 0, only 0 described before it" in error


def test_simple_and_obsolete_packet_blocks(path: Path) -> None:
    obsolete = block(2, pack("<HHIIII", 0, 9, 0, 5, 20, 20) + frame(2, 20))
    cut = block(3, pack("<I", 1000) + frame(3, 64))
    path.write_bytes(section() + interface(snaplen=64) + obsolete + cut)
    port = opened(PcapPort(str(path)))
    assert drain(port) == ([(5000, frame(2, 20)), (0, frame(3, 64))], None)
    assert port.counters.truncated == 1


@pytest.mark.parametrize(("snaplen", "carried"), [(61, 61), (0, 100)])
def test_snap_length_alone_says_how_much_of_a_simple_packet_was_captured(
    path: Path, snaplen: int, carried: int
) -> None:
    """Its padding is no part of the frame, and a snap length of 0 is none."""
    simple = block(3, pack("<I", 100) + frame(3, carried).ljust(carried + -carried % 4, b"\xee"))
    path.write_bytes(section() + interface(snaplen=snaplen) + simple)
    assert play(path) == ([(0, frame(3, carried))], "")


@pytest.mark.parametrize("number", [7, 6])
def test_verdict_of_a_packet_is_passed_over_also_where_a_copy_calls_it_a_queue(
    path: Path, number: int
) -> None:
    """epb_verdict, and what editcap 4.0.17 makes of it (findings/editcap_epb_verdict.sh)."""
    verdict = option(number, b"\x02" + pack("<Q", 2))
    path.write_bytes(section() + interface() + enhanced(frame(1, 61), 3, options=verdict))
    assert play(path) == ([(3000, frame(1, 61))], "")


def test_blocks_nobody_needs_and_odd_options_are_passed_over(path: Path) -> None:
    not_utf8 = option(1, b"\xff\xfe\xfd")
    end = option(0, b"")
    path.write_bytes(
        section()
        + block(0x0BAD, bytes(3 << 20))  # longer than the window
        + interface(options=not_utf8 + option(9, b"\x09") + end + b"\x09\x00\xff\xff")
        + block(4, b"names")
        + enhanced(frame(1, 61), 3, options=not_utf8 + end)
        + block(5, b"statistics")
    )
    assert play(path) == ([(3, frame(1, 61))], "")


# --- anything at all ------------------------------------------------------------------------------


def _captures() -> dict[str, tuple[bytes, list[int]]]:
    """Whole captures and, for each, the offsets at which a record or block ends."""
    frames = [frame(1), frame(2, 15), frame(3, 33)]
    classic = [pcap_header(), *map(pcap_record, frames)]
    blocks = [
        section(),
        interface(),
        *map(enhanced, frames[:2]),
        block(4, bytes(8)),
        enhanced(frames[2]),
    ]
    result = {}
    for name, parts in (("pcap", classic), ("pcapng", blocks)):
        ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
        result[name] = (b"".join(parts), ends)
    return result


CAPTURES = _captures()


@pytest.mark.parametrize("name", CAPTURES)
def test_a_cut_anywhere_gives_the_frames_before_it_and_one_error(path: Path, name: str) -> None:
    whole, ends = CAPTURES[name]
    path.write_bytes(whole)
    all_frames, _ = play(path)
    assert len(all_frames) == 3
    sizes = {end: sum(frame[1] in whole[:end] for frame in all_frames) for end in [0, *ends]}
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        got, error = play(path)
        before = max(end for end in sizes if end <= cut)
        assert got == all_frames[: sizes[before]], cut
        if cut in ends:
            assert error == "", cut
        else:
            where = re.search(r"at byte offset (\d+)", error)
            assert where, (cut, error)
            assert 0 <= int(where[1]) <= cut


@settings(max_examples=examples(300), deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda tail: pcap_header() + tail),
        st.binary(max_size=200).map(lambda tail: section() + interface() + tail),
        st.tuples(
            st.sampled_from([CAPTURES["pcap"][0], CAPTURES["pcapng"][0]]),
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
        ).map(lambda change: _changed(*change)),
    )
)
def test_random_bytes_raise_nothing_but_port_errors(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.pcap"
    path.write_bytes(data)
    for _, got in play(path)[0]:
        assert 14 <= len(got) <= 65535


def _changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed)


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_memory_does_not_grow_with_the_file(path: Path, kind: str) -> None:
    many = 20_000
    if kind == "pcap":
        path.write_bytes(pcap_header() + pcap_record(frame(1, 1000)) * many)
    else:
        path.write_bytes(section() + interface() + enhanced(frame(1, 1000)) * many)
    batch = new_batch(max_frames=256)
    tracemalloc.start()
    try:
        port = opened(PcapPort(str(path)))
        while not port.exhausted:
            batch.clear()
            port.pull(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert port.counters.frames_in == many
    assert path.stat().st_size > 20_000_000
    assert peak < 2_000_000


def test_a_pipe_can_be_played(tmp_path: Path) -> None:
    import threading

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = pcap_header() + pcap_record(frame(1)) * 3000
    writer = threading.Thread(target=fifo.write_bytes, args=(content,))
    writer.start()
    got, error = play(fifo)
    writer.join()
    assert (len(got), error) == (3000, "")
