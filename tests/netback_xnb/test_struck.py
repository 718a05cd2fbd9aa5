"""Frames of well-behaved peers over xnb: each arrives whole, or a defect is named for it."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.cli import main
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, BaseEndpoint, FrameBatch
from xennet.host.setup import Setup
from xennet.link.vif import VifLink
from xennet.netback.defects import DefectStruck
from xennet.netback.policy import BackendPolicy
from xennet.netback.xnb import passes
from xennet.netback.xnb.known import FIXED
from xennet.netback.xnb.policy import XNB, xnb_policy
from xennet.netfront.kinds import KINDS
from xennet.offload.checksum import blank, complete
from xennet.offload.headers import FOUND, PLACES
from xennet.wrap.offload_edge import OffloadEdge

BLANK = CSUM_BLANK | DATA_VALIDATED
ADDRESSES = bytes.fromhex("00163e000002 00163e000001")


def unique(number: int, size: int) -> bytes:
    """A frame that is no IP."""
    return (ADDRESSES + b"\x88\xb5" + number.to_bytes(4) + bytes(range(256)) * 256)[:size]


def tcp(number: int, size: int, *, tag: bytes = b"", options: int = 0) -> bytes:
    """A TCP/IPv4 frame of at least ``size`` bytes with its checksums right."""
    payload = number.to_bytes(4) + bytes(max(0, size - 58 - len(tag) - 4 * options))
    segment = dpkt.tcp.TCP(sport=1, dport=2, seq=number, data=payload)
    packet = dpkt.ip.IP(src=b"\xc0\0\2\1", dst=b"\xc0\0\2\2", p=6, data=segment)
    packet.hl, packet.opts = 5 + options, b"\x01" * (4 * options)
    packet.len = 20 + 4 * options + len(segment)
    return ADDRESSES + tag + b"\x08\x00" + bytes(packet)


def words(frame: bytes) -> tuple[memoryview, memoryview, array[int]]:
    copy = memoryview(bytearray(frame + bytes(-len(frame) % 4)))
    return copy, copy.cast("I"), array("q", bytes(8 * PLACES))


def blanked(frame: bytes) -> bytes:
    copy, u32, found = words(frame)
    assert blank(copy, u32, 0, len(frame), found) == FOUND
    return bytes(copy[: len(frame)])


def completed(frame: bytes) -> bytes:
    copy, u32, found = words(frame)
    assert complete(copy, u32, 0, len(frame), found) == FOUND
    return bytes(copy[: len(frame)])


Item = tuple[bytes, dict[str, int]]


class End(BaseEndpoint):
    """A network stack: gives ``items``, keeps frames with their flags in ``got``."""

    room = 1 << 30

    def __init__(self, items: list[Item]) -> None:
        self.items = list(items)
        self.got: list[tuple[bytes, int]] = []

    def pull(self, batch: FrameBatch) -> int:
        count = 0
        while self.items and batch.has_room(len(self.items[0][0])):
            data, more = self.items.pop(0)
            batch.append(data, **more)
            count += 1
        return count

    def push(self, batch: FrameBatch) -> None:
        self.got += [(bytes(batch.frame(i)), batch.flags[i]) for i in range(batch.count)]


def over_xnb(up: list[Item], down: list[Item], kind: str = "linux", backend: BackendPolicy = XNB):
    """Both ends, and the rows that struck each packet: of those from the guest, of those to it."""
    guest, host = End(up), End(down)
    struck: list[str] = []
    by_packet: tuple[list[list[str]], list[list[str]]] = ([], [])
    recv, send = passes.recv, passes.send

    def observed_recv(*args):
        before = len(struck)
        error, mbufc = recv(*args)
        if mbufc is not None:
            by_packet[0].append(struck[before:])
        return error, mbufc

    def observed_send(*args):
        before = len(struck)
        error = send(*args)
        if not error:
            by_packet[1].append(struck[before:])
        return error

    setup = Setup(policy=backend, back=backend.options, kind=KINDS[kind])
    link = VifLink(OffloadEdge(guest), OffloadEdge(host), setup=setup)
    link.machine.observers.subscribe(lambda event: struck.append(event.row), DefectStruck)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "recv", observed_recv)
        patch.setattr(passes, "send", observed_send)
        link.open()
        link.carry()
        link.close()
    assert not link.leaks()
    return guest, host, *by_packet


def arrived(got: list[tuple[bytes, int]], frame: bytes, flags: int) -> bool:
    """Whether a frame came as it was sent, or with its blank checksum filled in."""
    if not flags & CSUM_BLANK:
        return any(data == frame and not other & CSUM_BLANK for data, other in got)
    return (frame, flags) in got or any(
        data == completed(frame) and not other & CSUM_BLANK for data, other in got
    )


sizes = st.sampled_from([60, 64, 2048, 2049, 4096, 4097, 8192, 8193, 20000, 65535]) | st.integers(
    60, 12000
)
kinds = st.sampled_from(["plain", "plain", "tcp", "blank", "gso", "tagged", "options", "validated"])


def item(number: int, kind: str, size: int) -> Item:
    if kind == "plain":
        return unique(number, size), {}
    if kind == "tagged":
        return tcp(number, size, tag=b"\x81\x00\x00\x05"), {}
    if kind in ("tcp", "validated"):
        return tcp(number, size), {"flags": DATA_VALIDATED if kind == "validated" else 0}
    if kind == "options":
        return blanked(tcp(number, size, options=2)), {"flags": BLANK}
    more = {"gso_size": 1448, "gso_type": 1} if kind == "gso" and size > 1514 else {}
    return blanked(tcp(number, size)), {"flags": BLANK, **more}


def numbered(made: list[tuple[str, int, int]]) -> list[Item]:
    each = [(kind, size) for kind, size, times in made for _ in range(times)]
    return [item(number, kind, size) for number, (kind, size) in enumerate(each)]


#: A ring full of short frames behind a long one meets what that left in the copy table (B2).
items = st.lists(st.tuples(kinds, sizes, st.integers(1, 5)), min_size=1, max_size=20).map(numbered)
laps = st.lists(
    st.tuples(st.just("plain"), sizes, st.just(1))
    | st.tuples(kinds, st.integers(60, 2048), st.sampled_from([10, 257])),
    min_size=1,
    max_size=6,
).map(numbered)


@settings(max_examples=20, deadline=None)
@given(items, items | laps, st.sampled_from(["linux", "freebsd"]))
def test_every_frame_arrives_whole_or_a_defect_is_named_for_it(
    up: list[Item], down: list[Item], kind: str
) -> None:
    guest, host, from_guest, to_guest = over_xnb(up, down, kind)
    for sent, got, struck in ((up, host.got, from_guest), (down, guest.got, to_guest)):
        assert len(sent) == len(struck)
        for (frame, more), rows in zip(sent, struck, strict=True):
            assert arrived(got, frame, more.get("flags", 0)) == (not rows), rows


@settings(max_examples=10, deadline=None)
@given(items, items | laps, st.sampled_from(["linux", "freebsd"]))
def test_with_all_rows_known_every_frame_arrives_whole(
    up: list[Item], down: list[Item], kind: str
) -> None:
    guest, host, from_guest, to_guest = over_xnb(up, down, kind, xnb_policy(FIXED))
    for sent, got, struck in ((up, host.got, from_guest), (down, guest.got, to_guest)):
        assert not any(struck)
        assert len(got) == len(sent)
        assert all(arrived(got, frame, more.get("flags", 0)) for frame, more in sent)


def behind_a_long_one() -> list[bytes]:
    """The last frame takes the slot in which the first one began, a ring later, and no frame
    between them needs more than one element of the copy table."""
    return [unique(0, 20000), *(unique(1 + i, 60) for i in range(251)), unique(252, 64)]


def test_B2_strikes_a_plain_frame_whose_buffer_began_a_long_one() -> None:
    down = [(frame, {}) for frame in behind_a_long_one()]
    guest, _, _, struck = over_xnb([], down)
    assert struck[-1] == ["B2"]
    assert not any(struck[:-1])
    assert [len(data) for data, _ in guest.got] == [20000, *[60] * 251, 64 + 2048]
    assert guest.got[-1][0][:64] == down[-1][0]


@pytest.mark.parametrize("frontend", ["linux", "freebsd"])
def test_a_run_names_B2_and_blames_no_other_frame(
    frontend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.pcap"
    with source.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=1 << 17)
        for frame in [*behind_a_long_one(), unique(500, 1000), unique(501, 1000)]:
            writer.writepkt(frame, 1)
    ports = ("--guest", "null:", "--host", f"pcap:{source}", "--frontend", frontend)
    assert main(["run", "--backend", "xnb", *ports, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(defect["row"], defect["packets"]) for defect in report["defects"]] == [("B2", 1)]
    down = report["directions"][1]
    assert (down["frames_received"], down["mismatches"]) == (255, 1)
    (evidence,) = down["evidence"]
    assert (evidence["frame"], evidence["offset"], evidence["sent"]) == (252, 64, "")
    assert "sent 64 bytes" in evidence["problem"]
    assert "received 2112 bytes" in evidence["problem"]
    reasons = report["verdict"]["reasons"]
    assert reasons[0].startswith("defect B2 of the xnb backend: the last slot of a packet counts")
    assert reasons[1:] == ["host to guest: 1 frames did not arrive as they were sent"]


def test_B2_may_make_a_slot_longer_than_its_page_and_the_frontend_drops_that_frame() -> None:
    # Two elements of the long one for the slot of a whole page: 8192 bytes in it.
    between = [*(unique(1 + i, 60) for i in range(251)), unique(252, 3000)]
    frames = [unique(0, 20000), *between, unique(253, 4096)]
    guest, _, _, struck = over_xnb([], [(frame, {}) for frame in [*frames, unique(900, 70)]])
    assert struck[-2:] == [["B2"], []]
    assert not any(struck[:-2])
    assert [data for data, _ in guest.got] == [*frames[:-1], unique(900, 70)]


def test_A17_writes_a_checksum_where_there_are_options() -> None:
    _, host, struck, _ = over_xnb([item(7, "options", 200)], [])
    assert struck == [["A17"]]
    assert len(host.got[0][0]) == len(item(7, "options", 200)[0])


def test_A19_loses_a_blank_checksum_that_was_not_said_to_be_valid() -> None:
    frame = blanked(tcp(7, 200))
    _, host, struck, _ = over_xnb([(frame, {"flags": CSUM_BLANK})], [])
    assert struck == [["A19"]]
    assert host.got == [(frame, 0)]


def test_torn_frames_that_come_back_are_explained_too(capsys: pytest.CaptureFixture[str]) -> None:
    # B4 on the way to the guest, whose echo then carries headers that lie about their frame.
    args = ("--guest", "echo:", "--host", "tcp:20000x7+null:", "--json")
    assert main(["run", "--backend", "xnb", *args]) == 1
    report = json.loads(capsys.readouterr().out)
    rows = {defect["row"]: defect["packets"] for defect in report["defects"]}
    up, down = report["directions"]
    assert rows["B4"] == 7
    assert (down["frames_sent"], down["frames_received"], down["mismatches"]) == (7, 14, 14)
    assert up["mismatches"] == rows.get("A17", 0) + rows.get("A19", 0)
