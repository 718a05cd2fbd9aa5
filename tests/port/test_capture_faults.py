"""Captures that are not quite right: what is whole is played, the rest is counted and named."""

from __future__ import annotations

from pathlib import Path
from struct import pack

import pytest
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
    section,
)

from xennet.port import Counters, PortError
from xennet.port.pcap import PcapPort

ORDERS = ["<", ">"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.pcap"


def played(path: Path, content: bytes) -> tuple[list[bytes], Counters]:
    """The frames of a capture, and what its port counted."""
    path.write_bytes(content)
    port = PcapPort(str(path))
    got, error = drain(port)
    port.close()
    assert error is None
    return [data for _, data in got], port.counters


# --- frames that no packet can carry --------------------------------------------------------------


def test_the_longest_frame_passes_and_one_byte_more_is_refused(path: Path) -> None:
    frames = [frame(1, 65535), frame(2, 65536), frame(3), frame(4, 262144), frame(5)]
    got, counters = played(path, pcap_header() + b"".join(map(pcap_record, frames)))
    assert got == [frames[0], frames[2], frames[4]]
    assert counters.frames_in == 3
    assert counters.refused_oversize == 2
    assert counters.faults == (
        f"{path}: frame of 65536 bytes, the longest is 65535 (at byte offset 65575), "
        "and 1 more like it",
    )


def test_pcapng_refuses_a_long_frame_and_goes_on(path: Path) -> None:
    frames = [frame(1), frame(2, 80156), frame(3)]
    got, counters = played(path, section() + interface() + b"".join(map(enhanced, frames)))
    assert got == [frames[0], frames[2]]
    assert counters.refused_oversize == 1
    assert "frame of 80156 bytes" in counters.faults[0]


@pytest.mark.parametrize("length", [262145, 4325376, 3925868813, 2**32 - 1])
def test_a_length_beyond_every_snap_length_is_damage(path: Path, length: int) -> None:
    head = pcap_header() + pcap_record(frame(1))
    bad = pcap_record(b"", captured=length) + bytes(300_000)
    got, counters = played(path, head + bad)
    assert got == [frame(1)]
    assert counters.refused_oversize == 0
    assert counters.faults == (
        f"{path}: capture damaged at byte offset {len(head)}: "
        f"frame of {length} bytes, captures have 262144",
    )


def test_a_time_that_no_batch_can_hold_is_refused_and_the_rest_goes_on(path: Path) -> None:
    seconds = option(9, b"\x00")
    got, counters = played(
        path,
        section()
        + interface(options=seconds)
        + enhanced(frame(1), 2**63)
        + enhanced(frame(2), 5)
        + enhanced(frame(3), 2**63),
    )
    assert got == [frame(2)]
    assert counters.refused_time == 2
    (fault,) = counters.faults
    assert f"timestamp of {2**63 * 10**9} ns is out of range (at byte offset 56)" in fault


# --- captures that end too early ------------------------------------------------------------------


def test_what_is_whole_before_a_cut_is_played_and_the_cut_is_named(path: Path) -> None:
    got, counters = played(path, pcap_header() + pcap_record(frame(1)) + pcap_record(frame(2))[:-1])
    assert got == [frame(1)]
    assert counters.faults == (
        f"{path}: capture damaged at byte offset 100: record cut short, 59 of 60 bytes",
    )


def test_a_damaged_port_is_exhausted_and_says_so_once(path: Path) -> None:
    path.write_bytes(pcap_header() + pcap_record(frame(1)) + b"cut")
    port, batch = opened(PcapPort(str(path))), new_batch()
    assert port.pull(batch) == 1
    assert port.exhausted
    assert port.pull(batch) == 0
    assert len(port.counters.faults) == 1


@pytest.mark.parametrize("zeros", [1, 15, 16, 17, 4096, 3 << 20])
def test_zeros_behind_a_pcap_are_damage_and_no_empty_records(path: Path, zeros: int) -> None:
    whole = pcap_header() + pcap_record(frame(1), 1)
    got, counters = played(path, whole + bytes(zeros))
    assert got == [frame(1)]
    assert counters.skipped_empty == 0
    (fault,) = counters.faults
    assert f"capture damaged at byte offset {len(whole)}: " in fault
    if zeros >= 16:
        assert "only zeros from there on" in fault


@pytest.mark.parametrize("zeros", [4, 8, 12, 4096, 3 << 20])
def test_zeros_behind_a_pcapng_are_damage(path: Path, zeros: int) -> None:
    whole = section() + interface() + enhanced(frame(1))
    got, counters = played(path, whole + bytes(zeros))
    assert got == [frame(1)]
    assert counters.faults == (
        f"{path}: capture damaged at byte offset {len(whole)}: only zeros from there on",
    )


@pytest.mark.parametrize("blank", [1, 3, 70_000])
def test_records_of_zeros_before_others_are_empty_records(path: Path, blank: int) -> None:
    content = pcap_header() + pcap_record(b"") * blank + pcap_record(frame(1), 1)
    got, counters = played(path, content)
    assert (got, counters.skipped_empty, counters.faults) == ([frame(1)], blank, ())


def test_a_modified_record_at_time_zero_is_not_taken_for_zeros(path: Path) -> None:
    head = bytes.fromhex("34cdb2a1") + pcap_header()[4:]
    empty = pack("<IIIIIHBB", 0, 0, 0, 0, 1, 0, 0, 0)
    got, counters = played(path, head + empty + pack("<6I", 1, 0, 60, 60, 1, 0) + frame(1))
    assert (got, counters.skipped_empty, counters.faults) == ([frame(1)], 1, ())


def test_damage_before_the_first_frame_is_known_before_a_run(path: Path) -> None:
    path.write_bytes(pcap_header() + bytes(64))
    with pytest.raises(PortError, match=r"only zeros from there on \(at byte offset 24\)"):
        PcapPort(str(path))


@pytest.mark.parametrize(
    "bad",
    [
        enhanced(frame(2), number=7),
        enhanced(frame(2), captured=61),
        block(5, bytes(4), trailer=99),
        pack("<II", 6, 13),
        enhanced(frame(2))[:-4],
    ],
)
def test_a_bad_block_ends_a_pcapng_and_is_named(path: Path, bad: bytes) -> None:
    whole = section() + interface() + enhanced(frame(1))
    got, counters = played(path, whole + bad)
    assert got == [frame(1)]
    (fault,) = counters.faults
    assert fault.startswith(f"{path}: capture damaged at byte offset {len(whole)}: ")


# --- packets of other link types ------------------------------------------------------------------


def test_an_interface_of_another_link_type_without_packets_hurts_nobody(path: Path) -> None:
    content = section() + interface() + interface(linktype=127) + enhanced(frame(1))
    got, counters = played(path, content)
    assert (got, counters.skipped_linktype, counters.faults) == ([frame(1)], 0, ())


@pytest.mark.parametrize("order", ORDERS)
def test_packets_of_another_link_type_are_skipped_and_counted(path: Path, order: str) -> None:
    obsolete = pack(order + "HHIIII", 0, 9, 0, 5, 20, 20) + frame(3, 20)
    simple = pack(order + "I", 60) + frame(4)
    got, counters = played(
        path,
        section(order)
        + interface(order, linktype=105)
        + interface(order)
        + enhanced(frame(1), order=order)
        + enhanced(frame(2), order=order, number=1)
        + block(2, obsolete, order)
        + block(3, simple, order)
        + enhanced(bytes(300_000), order=order),
    )
    assert got == [frame(2)]
    assert counters.skipped_linktype == 4
    assert (counters.skipped_runt, counters.truncated, counters.faults) == (0, 0, ())


def test_packets_of_another_link_type_are_not_held_in_memory(path: Path) -> None:
    # A USB capture has packets of any length; a longer block than libpcap looks into is no matter.
    content = section() + interface(linktype=220) + interface()
    content += enhanced(bytes(17 << 20)) + enhanced(frame(1), number=1)
    got, counters = played(path, content)
    assert (got, counters.skipped_linktype) == ([frame(1)], 1)


def test_a_capture_of_another_link_type_alone_has_no_frames(path: Path) -> None:
    got, counters = played(path, section() + interface(linktype=101) + enhanced(frame(1)))
    assert (got, counters.skipped_linktype, counters.faults) == ([], 1, ())


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("version", "swapped"),
    [
        ((2, 0), True),
        ((2, 1), True),
        ((2, 2), True),
        ((2, 3), True),
        ((2, 3), False),
        ((2, 4), False),
        ((543, 0), True),
    ],
)
def test_pcap_versions_have_their_lengths_in_their_order(
    path: Path, order: str, version: tuple[int, int], swapped: bool
) -> None:
    content = pcap_header(order, version=version)
    for data, wire in ((frame(1, 100), 100), (frame(2, 96), 1514)):
        lengths = (wire, len(data)) if swapped else (len(data), wire)
        content += pack(order + "IIII", 1, 2, *lengths) + data
    got, counters = played(path, content)
    assert got == [frame(1, 100), frame(2, 96)]
    assert (counters.truncated, counters.faults) == (1, ())


@pytest.mark.parametrize("minor", [0, 2])
def test_pcapng_1_0_and_1_2_are_the_same(path: Path, minor: int) -> None:
    got, counters = played(path, section(version=(1, minor)) + interface() + enhanced(frame(1)))
    assert (got, counters.faults) == ([frame(1)], ())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("minor", [1, 3, 7])
def test_a_section_of_another_minor_version_is_refused_and_the_others_are_played(
    path: Path, order: str, minor: int
) -> None:
    first = section() + interface() + enhanced(frame(1))
    strange = section(order, (1, minor)) + interface(order) + enhanced(frame(2), order=order)
    got, counters = played(path, first + strange + section() + interface() + enhanced(frame(3)))
    assert got == [frame(1), frame(3)]
    assert counters.faults == (
        f"{path}: section of pcapng version 1.{minor} refused, 1.0 and 1.2 are known "
        f"(at byte offset {len(first)})",
    )


@pytest.mark.parametrize("order", ORDERS)
def test_a_section_of_another_major_version_is_skipped_and_counted(path: Path, order: str) -> None:
    foreign = section(order, (2, 0)) + block(1, b"\xff" * 12, order) + block(6, b"\xff" * 24, order)
    ours = section() + interface() + enhanced(frame(1))
    for content, frames in ((ours + foreign + ours, 2), (foreign + ours, 1), (foreign, 0)):
        got, counters = played(path, content)
        assert (got, counters.skipped_sections, counters.faults) == ([frame(1)] * frames, 1, ())


def test_a_section_of_another_major_version_that_tells_its_length_needs_no_blocks(
    path: Path,
) -> None:
    inside = b"anything but blocks."
    head = block(0x0A0D0D0A, pack("<IHHq", 0x1A2B3C4D, 2, 0, len(inside)))
    ours = section() + interface() + enhanced(frame(1))
    got, counters = played(path, ours + head + inside + ours)
    assert (got, counters.skipped_sections, counters.faults) == ([frame(1)] * 2, 1, ())
    got, counters = played(path, ours + head + inside[:-1])
    assert got == [frame(1)]
    assert "section of 20 bytes cut short" in counters.faults[0]


# --- frame check sequences ------------------------------------------------------------------------

FCS = b"\xde\xad\xbe\xef"


@pytest.mark.parametrize(
    "bits",
    [
        1 << 26 | 2 << 28,  # two units of two bytes, as libpcap's DAG reader writes
        1 << 26 | 4 << 28,  # bytes, by early drafts
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_the_fcs_that_a_link_type_tells_of_is_cut_off(path: Path, order: str, bits: int) -> None:
    content = pcap_header(order, linktype=1 | bits)
    content += pcap_record(frame(1) + FCS, order=order)
    got, counters = played(path, content)
    assert got == [frame(1)]
    assert (counters.fcs_cut, counters.truncated, counters.bytes_in) == (1, 0, 60)


@pytest.mark.parametrize("bits", [0, 2 << 28, 1 << 26])
def test_a_link_type_that_tells_of_no_fcs_leaves_frames_alone(path: Path, bits: int) -> None:
    got, counters = played(path, pcap_header(linktype=1 | bits) + pcap_record(frame(1)))
    assert (got, counters.fcs_cut) == ([frame(1)], 0)


@pytest.mark.parametrize(
    ("captured", "kept", "cut", "truncated"),
    [(64, 60, 1, 0), (62, 60, 1, 0), (60, 60, 0, 0), (50, 50, 0, 1)],
)
def test_a_snap_length_may_have_taken_the_fcs_already(
    path: Path, captured: int, kept: int, cut: int, truncated: int
) -> None:
    whole = frame(1) + FCS
    record = pcap_record(whole[:captured], wire_length=64)
    got, counters = played(path, pcap_header(linktype=1 | 1 << 26 | 2 << 28) + record)
    assert got == [frame(1, kept)]
    assert (counters.fcs_cut, counters.truncated) == (cut, truncated)


def test_a_packet_that_is_hardly_more_than_its_fcs_is_a_runt(path: Path) -> None:
    content = pcap_header(linktype=1 | 1 << 26 | 2 << 28)
    content += pcap_record(FCS, 1) + pcap_record(b"\x01" * 10, 1) + pcap_record(b"\x01" * 3, 1)
    got, counters = played(path, content)
    assert (got, counters.skipped_empty, counters.skipped_runt) == ([], 2, 1)
    assert counters.fcs_cut == 0


def test_a_frame_that_fits_without_its_fcs_passes(path: Path) -> None:
    content = pcap_header(linktype=1 | 1 << 26 | 2 << 28) + pcap_record(frame(1, 65535) + FCS)
    got, counters = played(path, content)
    assert (got, counters.refused_oversize) == ([frame(1, 65535)], 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("told", [4, 32])
def test_if_fcslen_counts_for_all_packets_of_its_interface(
    path: Path, order: str, told: int
) -> None:
    obsolete = pack(order + "HHIIII", 1, 0, 0, 5, 64, 64) + frame(3) + FCS
    got, counters = played(
        path,
        section(order)
        + interface(order)
        + interface(order, options=option(13, bytes([told]), order))
        + enhanced(frame(1), order=order)
        + enhanced(frame(2) + FCS, order=order, number=1)
        + block(2, obsolete, order),
    )
    assert got == [frame(1), frame(2), frame(3)]
    assert counters.fcs_cut == 2


@pytest.mark.parametrize("order", ORDERS)
def test_epb_flags_tell_the_fcs_of_one_packet(path: Path, order: str) -> None:
    def flags(fcs: int) -> bytes:
        return option(2, pack(order + "I", fcs << 5 | 0xFF00001F), order)

    got, counters = played(
        path,
        section(order)
        + interface(order, options=option(13, b"\x02", order))
        + enhanced(frame(1) + FCS, order=order, options=flags(4))
        + enhanced(frame(2) + FCS[:2], order=order, options=flags(0))
        + enhanced(frame(3) + FCS[:2], order=order)
        + block(3, pack(order + "I", 62) + frame(4) + FCS, order),
    )
    assert got == [frame(1), frame(2), frame(3), frame(4)]
    assert counters.fcs_cut == 4


# --- options of the wrong length ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        option(2, b"\x80"),  # epb_flags of one byte
        pack("<HH", 2, 400) + bytes(4),  # runs past the block
        option(1, b"") + pack("<HH", 1, 0xFFFF),
        b"\x01\x00",
    ],
)
def test_a_packet_with_bad_options_is_a_packet_all_the_same(path: Path, options: bytes) -> None:
    content = section() + interface() + enhanced(frame(1), options=options) + enhanced(frame(2))
    got, counters = played(path, content)
    assert (got, counters.faults) == ([frame(1), frame(2)], ())


@pytest.mark.parametrize("code", [9, 13, 14])
@pytest.mark.parametrize("length", [0, 2, 3, 7, 9])
def test_interface_options_of_the_wrong_length_are_not_taken(
    path: Path, code: int, length: int
) -> None:
    content = section() + interface(options=option(code, b"\x04" * length)) + enhanced(frame(1), 7)
    got, counters = played(path, content)
    assert (got, counters.fcs_cut, counters.faults) == ([frame(1)], 0, ())


def test_a_section_that_describes_interfaces_without_end_is_damage(path: Path) -> None:
    content = section() + interface() + enhanced(frame(1)) + interface() * 70_000
    got, counters = played(path, content + enhanced(frame(2)))
    assert got == [frame(1)]
    assert "more interfaces than 65536 make no sense" in counters.faults[0]
