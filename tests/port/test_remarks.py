"""What a pcapng file says of its sections, interfaces and packets survives a recording."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from struct import pack, unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from port_helpers import (
    block,
    enhanced,
    frame,
    interface,
    new_batch,
    opened,
    option,
    play,
    section,
)

from xennet.frames import FrameBatch, Offload
from xennet.port.echo import EchoPort
from xennet.port.pcap import PcapPort
from xennet.port.record import RecordPort
from xennet.wrap.offload_edge import OffloadEdge

END = option(0, b"")
NANO = option(9, b"\x09")


def named_section(*comments: bytes, order: str = "<") -> bytes:
    body = pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    return block(0x0A0D0D0A, body + b"".join(option(1, c, order) for c in comments), order)


def copied(tmp_path: Path, content: bytes, name: str = "out.pcapng") -> bytes:
    """What a recorder makes of a capture."""
    source, target = tmp_path / "in.pcapng", tmp_path / name
    source.write_bytes(content)
    player, recorder, batch = PcapPort(str(source)), RecordPort(str(target)), new_batch()
    while not player.exhausted:
        batch.clear()
        player.pull(batch)
        recorder.push(batch)
    recorder.close()
    player.close()
    return target.read_bytes()


def blocks(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of the blocks of a little-endian file, whose lengths must be right."""
    at = 0
    while at < len(content):
        kind, length = unpack_from("<II", content, at)
        assert length % 4 == 0
        assert unpack_from("<I", content, at + length - 4) == (length,)
        yield kind, content[at + 8 : at + length - 4]
        at += length


def options(body: bytes, at: int) -> list[tuple[int, bytes]]:
    found = []
    while at < len(body):
        code, length = unpack_from("<HH", body, at)
        found.append((code, body[at + 4 : at + 4 + length]))
        at += 4 + (length + 3 & ~3)
    assert not found or found[-1] == (0, b"")
    return found[:-1]


def told(content: bytes) -> list[tuple[object, ...]]:
    """Sections, interfaces and packets of a recording, with what is said of them."""
    said: list[tuple[object, ...]] = []
    for kind, body in blocks(content):
        if kind == 0x0A0D0D0A:
            said.append(("section", *(value for _, value in options(body, 16))))
        elif kind == 1:
            said.append(("interface", *((c, v) for c, v in options(body, 8) if c != 9)))
        else:
            number, _, _, captured, _ = unpack_from("<5I", body)
            comments = options(body, 20 + (captured + 3 & ~3))
            said.append(("packet", number, body[20], *(value for _, value in comments)))
    return said


@pytest.mark.parametrize("order", ["<", ">"])
def test_comments_and_names_survive(tmp_path: Path, order: str) -> None:
    lan = option(2, b"lan", order) + option(3, "Büro".encode(), order) + option(1, b"10G", order)
    content = (
        named_section(b"one", b"two", order=order)
        + interface(order, options=lan + option(9, b"\x06", order))
        + interface(order, options=option(2, b"wan0", order))
        + enhanced(frame(1), order=order, options=option(1, b"first", order))
        + enhanced(frame(2), order=order, number=1)
        + enhanced(
            frame(3, 61),
            order=order,
            options=option(1, b"a", order) + option(2, bytes(4), order) + option(1, b"b", order),
        )
    )
    assert told(copied(tmp_path, content)) == [
        ("section", b"one", b"two"),
        ("interface", (2, b"lan"), (3, "Büro".encode()), (1, b"10G")),
        ("packet", 0, 1, b"first"),
        ("interface", (2, b"wan0")),
        ("packet", 1, 2),
        ("packet", 0, 3, b"a", b"b"),
    ]


def test_sections_stay_apart(tmp_path: Path) -> None:
    one = named_section(b"one") + interface(options=option(2, b"eth0")) + enhanced(frame(1))
    two = named_section(order=">") + interface(">") + enhanced(frame(2), order=">")
    assert told(copied(tmp_path, one + two + one)) == [
        ("section", b"one"),
        ("interface", (2, b"eth0")),
        ("packet", 0, 1),
        ("section",),
        ("interface",),
        ("packet", 0, 2),
        ("section", b"one"),
        ("interface", (2, b"eth0")),
        ("packet", 0, 1),
    ]


def test_comments_that_are_no_utf_8_and_the_longest_one_survive(tmp_path: Path) -> None:
    said = [b"\xff\xfe\x00", bytes(65535), b""]
    content = (
        section()
        + interface()
        + enhanced(frame(1), options=b"".join(option(1, comment) for comment in said))
    )
    assert told(copied(tmp_path, content))[-1] == ("packet", 0, 1, *said)


def test_as_many_comments_as_a_block_holds_survive(tmp_path: Path) -> None:
    many = 500_000
    content = section() + interface() + enhanced(frame(1), options=option(1, b"") * many)
    assert len(told(copied(tmp_path, content))[-1]) == 3 + many


def test_packets_without_options_have_the_name_of_their_interface(tmp_path: Path) -> None:
    simple = block(3, pack("<I", 60) + frame(1))
    obsolete = block(2, pack("<HHIIII", 0, 9, 0, 5, 60, 60) + frame(2) + option(1, b"old"))
    content = section() + interface(options=option(2, b"eth0")) + simple + obsolete
    assert told(copied(tmp_path, content))[1:] == [
        ("interface", (2, b"eth0")),
        ("packet", 0, 1),
        ("packet", 0, 2, b"old"),
    ]


def test_what_lies_behind_a_simple_packet_is_no_option(tmp_path: Path) -> None:
    # As captured with a snap length of 60 that the interface tells, in a block with room for more.
    simple = block(3, pack("<I", 80) + frame(1) + option(1, b"payload") + option(2, b"\x80\0\0\0"))
    content = section() + interface(snaplen=60) + simple
    assert told(copied(tmp_path, content))[-1] == ("packet", 0, 1)


def test_an_fcs_that_was_cut_off_is_not_told_of_any_more(tmp_path: Path) -> None:
    content = (
        section()
        + interface(options=option(13, b"\x04"))
        + enhanced(frame(1) + b"FCS!", options=option(2, pack("<I", 4 << 5)))
    )
    made = copied(tmp_path, content)
    assert told(made)[1:] == [("interface",), ("packet", 0, 1)]
    (tmp_path / "again.pcapng").write_bytes(made)
    assert play(tmp_path / "again.pcapng") == ([(0, frame(1))], "")


@pytest.mark.parametrize("offset", [-2_000_000_000, 1_700_000_000, -(2**33)])
def test_an_if_tsoffset_is_kept_where_it_expresses_the_time(tmp_path: Path, offset: int) -> None:
    content = (
        section()
        + interface(options=NANO + option(14, pack("<q", offset)) + option(2, b"eth0"))
        + enhanced(frame(1), 123456789)
    )
    made = copied(tmp_path, content)
    assert told(made)[1] == ("interface", (2, b"eth0"), (14, pack("<q", offset)))
    path = tmp_path / "again.pcapng"
    path.write_bytes(made)
    assert play(path) == ([(offset * 10**9 + 123456789, frame(1))], "")


def test_interfaces_of_other_link_types_are_not_recorded(tmp_path: Path) -> None:
    content = (
        section()
        + interface(linktype=127, options=option(2, b"wlan0"))
        + interface(options=option(2, b"eth0"))
        + enhanced(frame(1))
        + enhanced(frame(2), number=1)
    )
    assert told(copied(tmp_path, content))[1:] == [("interface", (2, b"eth0")), ("packet", 0, 2)]


def test_a_pcap_recording_has_no_place_for_remarks(tmp_path: Path) -> None:
    content = section() + interface() + enhanced(frame(1), options=option(1, b"first"))
    assert len(copied(tmp_path, content, "out.pcap")) == 24 + 16 + 60


def test_frames_of_which_nothing_is_known_join_the_section_there_is(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(
        named_section(b"one") + interface(options=option(2, b"eth0")) + enhanced(frame(1))
    )
    batch, recorder = new_batch(), RecordPort(str(target))
    opened(PcapPort(str(source))).pull(batch)
    batch.append(frame(2), timestamp=-1)
    batch.append(frame(3), timestamp=1)
    recorder.push(batch)
    recorder.close()
    assert [entry[:3] for entry in told(target.read_bytes()) if entry[0] != "interface"] == [
        ("section", b"one"),
        ("packet", 0, 1),
        ("packet", 1, 2),
        ("packet", 2, 3),
    ]
    assert play(target) == ([(0, frame(1)), (-1, frame(2)), (1, frame(3))], "")


# --- on the way ----------------------------------------------------------------------------------


def commented(numbers: range, *, long: int) -> bytes:
    """Packets with their number as comment; every third one is of ``long`` bytes."""
    return b"".join(
        enhanced(frame(n, 60 if n % 3 else long), options=option(1, b"%d" % n)) for n in numbers
    )


def test_remarks_go_with_their_frames_where_others_are_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(section() + interface() + commented(range(1, 40), long=2000))
    edge, recorder = OffloadEdge(opened(PcapPort(str(source)))), RecordPort(str(target))
    edge.negotiated(Offload(max_frame=1514))
    batch = FrameBatch(memoryview(bytearray(1 << 16)), 8)
    while edge.pull(batch):
        recorder.push(batch)
        batch.clear()
    recorder.close()
    kept = [n for n in range(1, 40) if n % 3]
    assert told(target.read_bytes())[2:] == [("packet", 0, n, b"%d" % n) for n in kept]
    assert edge.pulled.refused == 13


class Narrow(RecordPort):
    """Takes two frames at a time, none longer than 1514 bytes."""

    carries = Offload(max_frame=1514)
    room = 2


def test_remarks_go_with_frames_that_wait_for_room(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(section() + interface() + commented(range(1, 12), long=2000))
    player, recorder, batch = (
        opened(PcapPort(str(source))),
        Narrow(str(target)),
        new_batch(max_frames=2),
    )
    edge = OffloadEdge(recorder)
    while player.pull(batch):
        edge.push(batch)
        batch.clear()
    assert edge.room
    recorder.close()
    kept = [n for n in range(1, 12) if n % 3]
    assert told(target.read_bytes())[2:] == [("packet", 0, n, b"%d" % n) for n in kept]


def test_an_echo_gives_remarks_back(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(section() + interface() + commented(range(1, 30), long=60))
    player, echo, recorder = (
        opened(PcapPort(str(source))),
        EchoPort(slots=4),
        RecordPort(str(target)),
    )
    batch = new_batch(max_frames=3)
    while player.pull(batch):
        echo.push(batch)
        batch.clear()
        echo.pull(batch)
        recorder.push(batch)
        batch.clear()
    recorder.close()
    assert told(target.read_bytes())[2:] == [("packet", 0, n, b"%d" % n) for n in range(1, 30)]


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.none() | st.integers(0, 9)),
            st.tuples(st.just("cut"), st.integers(0, 5)),
            st.tuples(st.just("clear"), st.none()),
        ),
        max_size=30,
    )
)
def test_a_batch_never_mixes_up_remarks(actions: list[tuple[str, int | None]]) -> None:
    batch, expected = new_batch(size=4096), []
    for action, value in actions:
        if action == "append":
            batch.append(frame(1), remark=value)
            expected.append(value)
        elif action == "clear":
            batch.clear()
            expected.clear()
        elif value is not None and value < len(expected):
            batch.cut(value)
            del expected[value:]
        assert [batch.remarks.get(i) for i in range(batch.count)] == expected
        assert batch.used == 60 * len(expected)


def test_memory_does_not_grow_with_comments(tmp_path: Path) -> None:
    source, many = tmp_path / "in.pcapng", 8000
    packet = enhanced(frame(1, 100), options=option(1, b"c" * 1000))
    sections = named_section(b"s" * 1000) + interface(options=option(2, b"eth0")) + packet * 20
    source.write_bytes(sections * (many // 20))
    player, recorder = opened(PcapPort(str(source))), RecordPort(str(tmp_path / "out.pcapng"))
    batch = new_batch()
    tracemalloc.start()
    try:
        while not player.exhausted:
            batch.clear()
            player.pull(batch)
            recorder.push(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    recorder.close()
    assert recorder.counters.frames_out == many
    assert peak < 4_000_000
