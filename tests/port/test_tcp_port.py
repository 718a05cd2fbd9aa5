"""The TCP generator: frames as an offloading stack hands them to a device, judged by scapy."""

from __future__ import annotations

from array import array

import pytest
from port_helpers import new_batch
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES
from xennet.port import Port, PortError, open_port
from xennet.port.base import Counters


def pulled(port: Port, size: int = 1 << 20) -> list[tuple[bytes, int, int, int, int]]:
    got = []
    batch = new_batch(size)
    while port.pull(batch):
        for i in range(batch.count):
            meta = (batch.flags[i], batch.gso_size[i], batch.gso_type[i], batch.timestamp[i])
            got.append((bytes(batch.frame(i)), *meta))
        batch.clear()
    assert port.exhausted
    return got


def completed(frame: bytes) -> bytes:
    data = memoryview(bytearray(frame))
    words = data[: len(data) & ~3].cast("I")
    assert complete(data, words, 0, len(data), array("q", bytes(8 * PLACES))) == FOUND
    return bytes(data)


def rebuilt(frame: bytes) -> bytes:
    packet: Packet = Ether(frame)
    del packet[TCP].chksum
    if IP in packet:
        del packet[IP].chksum, packet[IP].len
    else:
        del packet[IPv6].plen
    return bytes(packet)


@pytest.mark.parametrize("spec", ["tcp:66x2", "tcp:67x2", "tcp:1514x3", "tcp:65535x2"])
@pytest.mark.parametrize("version", ["", "6"])
def test_frames_are_right_tcp_packets_once_the_checksum_is_filled(spec: str, version: str) -> None:
    if version:
        spec = spec.replace("tcp:66", "tcp:86").replace("tcp:67", "tcp:87")
        spec = spec.replace("tcp:", "tcp6:")
    size = int(spec.split(":")[1].split("x")[0])
    for frame, flags, _, _, _ in pulled(open_port(spec)):
        assert len(frame) == size
        assert flags == CSUM_BLANK | DATA_VALIDATED
        assert completed(frame) == rebuilt(frame)
        assert (IPv6 if version else IP) in Ether(frame)


@pytest.mark.parametrize(("spec", "header"), [("tcp:1000x300", 66), ("tcp6:1000x300", 86)])
def test_each_frame_goes_on_where_the_one_before_ended(spec: str, header: int) -> None:
    frames = pulled(open_port(spec), size=7500)
    assert [Ether(item[0])[TCP].seq for item in frames] == [i * (1000 - header) for i in range(300)]
    assert [item[4] for item in frames] == [i * 1000 for i in range(300)]
    at = header - 28
    rest = {item[0][:at] + item[0][at + 4 :] for item in frames}
    assert len(rest) == 1
    assert frames[0][0][header:] == bytes(i & 0xFF for i in range(header, 1000))


def test_sequence_numbers_wrap_and_frames_without_payload_are_counted() -> None:
    port = open_port("tcp:65535x65700")
    batch = new_batch(1 << 23)
    while port.pull(batch):
        last = bytes(batch.frame(batch.count - 1))
        batch.clear()
    assert Ether(last)[TCP].seq == 65699 * 65469 % 2**32
    assert [Ether(item[0])[TCP].seq for item in pulled(open_port("tcp:66x3"))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("spec", "gso"),
    [
        ("tcp:1514x1", (0, 0)),
        ("tcp:1515x1", (1448, 1)),
        ("tcp6:1514x1", (0, 0)),
        ("tcp6:1515x1", (1428, 2)),
        ("tcp:64000x1", (1448, 1)),
        ("tcp:166x1/100", (0, 0)),
        ("tcp:167x1/100", (100, 1)),
        ("tcp6:187x1/100", (100, 2)),
        ("tcp:64000x1/65535", (0, 0)),
    ],
)
def test_more_payload_than_a_segment_is_gso(spec: str, gso: tuple[int, int]) -> None:
    assert pulled(open_port(spec))[0][2:4] == gso


@pytest.mark.parametrize("scheme", ["tcp", "tcp6"])
def test_flows_take_turns_and_each_goes_on_where_it_was(scheme: str) -> None:
    frames = [item[0] for item in pulled(open_port(f"{scheme}:200x100@3"), size=1400)]
    payload = 200 - (66 if scheme == "tcp" else 86)
    tcp = [Ether(frame)[TCP] for frame in frames]
    assert [segment.sport for segment in tcp] == [49152 + i % 3 for i in range(100)]
    assert [segment.seq for segment in tcp] == [i // 3 * payload for i in range(100)]
    assert all(completed(frame) == rebuilt(frame) for frame in frames)


def test_an_ordinary_port_in_all_else() -> None:
    port = open_port("tcp:70x5/1+null:")
    assert port.expected == 5
    assert open_port("tcp:70x5/1").name == "tcp:70x5/1"
    assert len(pulled(port)) == 5
    assert port.counters == Counters(frames_in=5, bytes_in=350)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tcp:", "tcp: wants SIZExCOUNT"),
        ("tcp:100", "tcp: wants SIZExCOUNT"),
        ("tcp:65x1", "tcp: SIZE must be 66 to 65535 bytes, not 65"),
        ("tcp6:85x1", "tcp6: SIZE must be 86 to 65535 bytes, not 85"),
        ("tcp:65536x1", "tcp: SIZE must be"),
        ("tcp:100x4294967297", "tcp: COUNT must be"),
        ("tcp:100x1/", "tcp: MSS must be 1 to 65535, not ''"),
        ("tcp:100x1/0", "not '0'"),
        ("tcp:100x1/65536", "not '65536'"),
        ("tcp:100x1/-1", "not '-1'"),
        ("tcp:100x1/1/1", "not '1/1'"),
        ("tcp:100x1@", "tcp: FLOWS must be 1 to 1024, not ''"),
        ("tcp:100x1@0", "FLOWS must be 1 to 1024, not '0'"),
        ("tcp:100x1/9@1025", "FLOWS must be 1 to 1024, not '1025'"),
        ("tcp:100x1@2/9", "FLOWS must be 1 to 1024, not '2/9'"),
    ],
)
def test_a_bad_argument_is_named(spec: str, message: str) -> None:
    with pytest.raises(PortError, match=message):
        open_port(spec)
