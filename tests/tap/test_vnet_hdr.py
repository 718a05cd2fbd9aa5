"""Headers of frames that are read, and of those that are written, against Linux 6.18."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from tap_frames import (
    ETHER,
    V4,
    V6,
    arp,
    blank,
    header,
    tagged,
    tcp,
    udp,
    vxlan_tcp,
)

from xennet.abi.virtio_net import VNET_HDR, VNET_WORDS
from xennet.engine.choice import current, using
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, FrameBatch
from xennet.offload.headers import PLACES
from xennet.tap import vnet_hdr

pytestmark = pytest.mark.usefixtures("engine")

BLANK = CSUM_BLANK | DATA_VALIDATED
TCPV4, TCPV6 = 1, 2

Row = tuple[bytes, int, int, int]


class Headers:
    """The kernels and their memory."""

    def __init__(self, words: array[int], batch: FrameBatch) -> None:
        engine = current()
        self.res = array("q", bytes(8 * vnet_hdr.RESULTS))
        self.words, self.batch = words, batch
        vectors = (engine.view(array("q", bytes(8 * PLACES))), engine.view(self.res))
        self.args = (engine.view(words), batch.for_kernels(engine.view), *vectors)
        self.take_kernel = engine.kernel(vnet_hdr.take_headers)
        self.put_kernel = engine.kernel(vnet_hdr.put_headers)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Completed, inexpressible, in error."""
        return self.res[0], self.res[1], self.res[2]


def batch_of(*frames: bytes) -> FrameBatch:
    batch = FrameBatch(memoryview(bytearray(1 << 20)), len(frames))
    for frame in frames:
        batch.append(frame)
        batch.gso_type[batch.count - 1] = 0xEE  # whatever was there before
    return batch


def take(*pairs: tuple[bytes, bytes]) -> tuple[list[Row], Headers]:
    """What frames with their headers become: bytes, flags, gso_size, gso_type."""
    batch = batch_of(*(frame for _, frame in pairs))
    headers = Headers(array("H", b"".join(head for head, _ in pairs)), batch)
    batch.count = headers.take_kernel(0, len(pairs), *headers.args)
    rows = [
        (bytes(batch.frame(i)), batch.flags[i], batch.gso_size[i], batch.gso_type[i])
        for i in range(batch.count)
    ]
    return rows, headers


def put(*rows: Row) -> tuple[list[bytes], Headers]:
    """The headers of frames with these flags, gso_size and gso_type."""
    batch = batch_of(*(row[0] for row in rows))
    for i, (_, flags, gso_size, gso_type) in enumerate(rows):
        batch.flags[i], batch.gso_size[i], batch.gso_type[i] = flags, gso_size, gso_type
    headers = Headers(array("H", [0xEEEE] * VNET_WORDS * len(rows)), batch)
    headers.put_kernel(0, len(rows), *headers.args)
    octets = headers.words.tobytes()
    size = VNET_HDR.size
    return [octets[i * size : i * size + 10] for i in range(len(rows))], headers


def hexed(text: str) -> bytes:
    """A header as the facts have it, with its number of buffers."""
    return bytes.fromhex(text).ljust(VNET_HDR.size, b"\0")


#: Frames that the kernel gave: header, frame, gso_size and gso_type of netif.
LOCAL: dict[str, tuple[str, bytes, int, int]] = {
    "tcp v4": ("0100 0000 0000 2200 1000", blank(ETHER / V4 / tcp(), 34, 16), 0, 0),
    "syn v6": ("0100 0000 0000 3600 1000", blank(ETHER / V6 / tcp(0, "S"), 54, 16), 0, 0),
    "udp v4": ("0100 0000 0000 2200 0600", blank(ETHER / V4 / udp(64), 34, 6), 0, 0),
    "udp v6": ("0100 0000 0000 3600 0600", blank(ETHER / V6 / udp(64), 54, 6), 0, 0),
    "gso v4": ("0101 4200 a805 2200 1000", blank(ETHER / V4 / tcp(9000), 34, 16), 1448, TCPV4),
    "gso v6": ("0104 5600 9405 3600 1000", blank(ETHER / V6 / tcp(9000), 54, 16), 1428, TCPV6),
    "gso tagged": (
        # hdr_len does not count the tag.
        "0101 3600 e803 2600 1000",
        blank(tagged(V4 / tcp(9000)), 38, 16),
        1000,
        TCPV4,
    ),
    "merged by gro": (
        # hdr_len is headers and first segment.
        "0101 1e04 e803 2200 1000",
        blank(ETHER / V4 / tcp(4000), 34, 16),
        1000,
        TCPV4,
    ),
    "gso with cwr": (
        "0181 4200 a805 2200 1000",
        blank(ETHER / V4 / tcp(9000, "AC"), 34, 16),
        1448,
        TCPV4,
    ),
}


@pytest.mark.parametrize("name", LOCAL)
def test_what_the_kernel_gives_becomes_netifs(name: str) -> None:
    head, frame, gso_size, gso_type = LOCAL[name]
    rows, headers = take((hexed(head), frame))
    assert rows == [(frame, BLANK, gso_size, gso_type)]
    assert headers.counts == (0, 0, 0)


@pytest.mark.parametrize("name", LOCAL)
def test_and_back(name: str) -> None:
    head, frame, gso_size, gso_type = LOCAL[name]
    (written,), headers = put((frame, BLANK, gso_size, gso_type))
    before, after = bytearray(hexed(head)[:10]), bytearray(written)
    if gso_size:
        # Where the headers end, tag and options counted.
        start = int.from_bytes(after[6:8], "little")
        assert int.from_bytes(after[2:4], "little") == start + 32
    before[2:4] = after[2:4] = b"??"
    assert after == before
    assert headers.counts == (0, 0, 0)


def test_a_complete_frame_has_no_flag_and_a_checked_one_has() -> None:
    frame = bytes(ETHER / V4 / tcp(10))
    rows, _ = take((header(), arp()), (header(2), frame), (header(4), frame))
    assert [row[1:] for row in rows] == [(0, 0, 0), (DATA_VALIDATED, 0, 0), (0, 0, 0)]
    heads, _ = put((arp(), 0, 0, 0), (frame, DATA_VALIDATED, 0, 0), (frame, 0, 0, 0))
    assert heads == [header()[:10], header(2)[:10], header()[:10]]


def test_a_blank_checksum_is_never_said_to_be_valid() -> None:
    """Linux drops a blank checksum with flags 2 or 0."""
    frame = blank(ETHER / V4 / tcp(10), 34, 16)
    for flags in (BLANK, CSUM_BLANK):
        (head,), _ = put((frame, flags, 0, 0))
        assert head == header(1, csum_start=34, csum_offset=16)[:10]


def test_a_checksum_inside_a_tunnel_is_completed() -> None:
    whole = vxlan_tcp()
    frame = blank(Ether(whole), 84, 16)
    assert frame != whole
    rows, headers = take((hexed("0100 0000 0000 5400 1000"), frame))
    assert rows == [(whole, DATA_VALIDATED, 0, 0)]
    assert headers.counts == (1, 0, 0)


@pytest.mark.parametrize("outer", [V4, V6], ids=["v4", "v6"])
def test_a_datagram_inside_a_datagram_is_not_mistaken_for_it(outer: Packet) -> None:
    """Both have their checksum at the same offset of their header."""
    inner = ETHER / V4 / udp(100)
    whole = bytes(ETHER / outer / UDP(sport=4000, dport=4789) / VXLAN(vni=7) / inner)
    start = len(whole) - 108
    frame = blank(Ether(whole), start, 6)
    assert frame != whole
    rows, headers = take((header(1, csum_start=start, csum_offset=6), frame))
    assert rows == [(whole, DATA_VALIDATED, 0, 0)]
    assert headers.counts == (1, 0, 0)


def test_a_checksum_may_be_the_last_two_bytes_of_a_frame() -> None:
    frame = bytes(ETHER / V4 / tcp(10))
    rows, headers = take((header(1, csum_start=len(frame) - 18, csum_offset=16), frame))
    assert rows[0][1:] == (DATA_VALIDATED, 0, 0)
    rows, headers = take((header(1, csum_start=len(frame) - 17, csum_offset=16), frame))
    assert rows == []
    assert headers.counts == (0, 1, 0)


def test_no_checksum_is_completed_to_0() -> None:
    """0 in UDP means that there is none (CSUM_MANGLED_0 of Linux)."""
    inner = bytearray(vxlan_tcp(0))
    inner[84:] = b"\xff" * (len(inner) - 84)
    inner[100:102] = bytes(2)
    rows, _ = take((header(1, csum_start=84, csum_offset=16), bytes(inner)))
    assert rows[0][0][100:102] == b"\xff\xff"


def test_the_outer_checksum_of_a_tunnel_is_the_packets_own() -> None:
    frame = blank(ETHER / V4 / udp(100), 34, 6)
    rows, _ = take((hexed("0100 0000 0000 2200 0600"), frame))
    assert rows == [(frame, BLANK, 0, 0)]


@pytest.mark.parametrize(
    "head",
    [
        header(1, 5, 42, 1000, 34, 6),  # UDP_L4: netif has no such type
        header(1, 3, 42, 1000, 34, 6),  # UFO
        header(1, 0x21, 116, 1398, 84, 16),  # in a UDP tunnel
        header(0, 1, 66, 1448),  # GSO without a blank checksum
        header(1, 1, 66, 1448, 84, 16),  # GSO whose checksum is another packet's
        header(1, csum_start=9000, csum_offset=16),  # beyond the frame
    ],
)
def test_what_netif_cannot_express_is_dropped_and_counted(head: bytes) -> None:
    frame, last = blank(ETHER / V4 / tcp(5000), 34, 16), arp()
    rows, headers = take((header(), last), (head, frame), (header(), last))
    assert [row[0] for row in rows] == [last, last]
    assert headers.counts[1] == 1


@pytest.mark.parametrize(
    "row",
    [
        (arp(), BLANK, 0, 0),
        (bytes(ETHER / V4 / IP()), BLANK, 0, 0),
        (blank(ETHER / V6 / tcp(5000), 54, 16), BLANK, 1000, TCPV4),
        (blank(ETHER / V4 / tcp(5000), 34, 16), BLANK, 1000, TCPV6),
        (blank(ETHER / V4 / tcp(5000), 34, 16), BLANK, 1000, 5),
        (blank(ETHER / V4 / udp(5000), 34, 6), BLANK, 1000, TCPV4),
        (bytes(ETHER / V4 / tcp(5000)), 0, 1000, TCPV4),
        (arp(), BLANK, 1000, TCPV4),
    ],
)
def test_what_is_not_what_its_columns_say_is_not_written(row: Row) -> None:
    heads, headers = put((arp(), 0, 0, 0), row, (arp(), 0, 0, 0))
    assert [int.from_bytes(head[:2], "little") for head in heads] == [0, vnet_hdr.NOT_WRITTEN, 0]
    assert headers.counts == (0, 0, 1)


def test_nothing_behind_a_frame_is_looked_at() -> None:
    frame = blank(ETHER / V6 / udp(0), 54, 6)
    batch = FrameBatch(memoryview(bytearray(len(frame))), 1)
    batch.append(frame, flags=BLANK, gso_size=1000, gso_type=TCPV6)
    headers = Headers(array("H", bytes(VNET_HDR.size)), batch)
    headers.put_kernel(0, 1, *headers.args)
    assert headers.counts == (0, 0, 1)


@pytest.mark.parametrize("gso_size", [1000, 1001, 65535])
def test_a_single_segment_is_written_without_gso(gso_size: int) -> None:
    """gso_size 65535 (GSO_BY_FRAGS) would be EINVAL."""
    (head,), _ = put((blank(ETHER / V4 / tcp(1000), 34, 16), BLANK, gso_size, TCPV4))
    assert head[1] == 0
    (head,), _ = put((blank(ETHER / V4 / tcp(1001), 34, 16), BLANK, 1000, TCPV4))
    assert head[1] == 1


@given(
    head=st.binary(min_size=10, max_size=10),
    frame=st.binary(min_size=14, max_size=200),
    start=st.integers(0, 220),
    real=st.booleans(),
)
def test_any_header_and_any_frame_are_safe(
    head: bytes, frame: bytes, start: int, real: bool
) -> None:
    if real:
        frame = blank(ETHER / V4 / tcp(100), 34, 16)[: len(frame)]
        head = head[:6] + start.to_bytes(2, "little") + head[8:]
    results = []
    for engine in ("plain", current().name):
        with using(engine):
            rows, headers = take((head + b"\0\0", frame), (header(), arp()))
            back, _ = put(*rows)
            results.append((rows, headers.counts, back))
    assert results[0] == results[1]
    assert results[0][0][-1] == (arp(), 0, 0, 0)
