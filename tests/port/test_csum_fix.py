"""``pcap:FILE?csum=fix`` completes what an offload was to fill in, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from port_helpers import frame, opened, pcap_header, pcap_record

from xennet.cli import main
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.port import open_port
from xennet.testing.sample_frames import Frame, completed, drain, new_batch

#: The rules hold with either engine.
ENGINES = pytest.mark.usefixtures("engine")
TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


@pytest.fixture(scope="module")
def packets() -> dict[str, bytes]:
    """Frames with right checksums, made by scapy."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
        from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
        from scapy.layers.l2 import Dot1Q, Ether
    ether, load = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"), bytes(range(101))
    v4, v6 = IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")
    tcp, udp = TCP(sport=1, dport=2, flags="A") / load, UDP(sport=3, dport=4) / load
    optioned = IP(src="192.0.2.1", dst="192.0.2.2", options=[IPOption_Router_Alert()])
    made = {
        "tcp": ether / v4 / tcp,
        "udp": ether / v4 / udp,
        "tcp6": ether / v6 / tcp,
        "udp6": ether / v6 / udp,
        "tagged": ether / Dot1Q(vlan=5) / v4 / tcp,
        "two tags": ether / Dot1Q(vlan=5) / Dot1Q(vlan=6) / v6 / udp,
        "options": ether / optioned / tcp,
        "hop by hop": ether / v6 / IPv6ExtHdrHopByHop() / udp,
        "padded": ether / v4 / (TCP(sport=1, dport=2) / b"x"),
        "icmp": ether / v4 / ICMP() / load,
    }
    return {name: bytes(packet) + bytes(5 * (name == "padded")) for name, packet in made.items()}


#: Frame offsets of the TCP or UDP header.
L4 = {
    "tcp": 34,
    "udp": 34,
    "tcp6": 54,
    "udp6": 54,
    "tagged": 38,
    "two tags": 62,
    "options": 38,
    "hop by hop": 62,
    "padded": 34,
}


def field(name: str) -> int:
    return L4[name] + (6 if name.startswith(("udp", "two", "hop")) else 16)


def put(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]


def pseudo(data: bytes, name: str, *, with_length: bool = True) -> int:
    """The folded sum of the pseudo-header, word by word."""
    l4 = L4[name]
    v6 = name in ("tcp6", "udp6", "two tags", "hop by hop")
    l3 = {"tagged": 18, "two tags": 22}.get(name, 14)
    addresses = data[l3 + 8 : l3 + 40] if v6 else data[l3 + 12 : l3 + 20]
    end = l3 + (
        40 + int.from_bytes(data[l3 + 4 : l3 + 6], "big")
        if v6
        else int.from_bytes(data[l3 + 2 : l3 + 4], "big")
    )
    protocol = 17 if name.startswith(("udp", "two", "hop")) else 6
    total = protocol + (end - l4 if with_length else 0)
    total += sum(int.from_bytes(addresses[i : i + 2], "big") for i in range(0, len(addresses), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def played(tmp_path: Path, *frames: bytes, option: str = "?csum=fix") -> tuple[list[bytes], int]:
    """The frames that a capture of ``frames`` gives, and how many of them were completed."""
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap_header() + b"".join(pcap_record(data) for data in frames))
    port = opened(open_port(f"pcap:{path}{option}"))
    found = drain(port)
    assert all(one.flags == one.gso_size == 0 for one in found)
    return [one.data for one in found], port.counters.csum_completed


@ENGINES
@pytest.mark.parametrize("name", L4)
def test_the_sum_of_a_pseudo_header_is_completed(
    tmp_path: Path, packets: dict[str, bytes], name: str
) -> None:
    right = packets[name]
    wrong = put(right, field(name), pseudo(right, name))
    assert wrong != right
    assert played(tmp_path, wrong, right) == ([right, right], 1)
    assert played(tmp_path, wrong, option="") == ([wrong], 0)


@ENGINES
@pytest.mark.parametrize("name", ["tcp", "tcp6", "tagged"])
def test_a_sum_without_the_length_or_nothing_at_all_is_completed(
    tmp_path: Path, packets: dict[str, bytes], name: str
) -> None:
    right = packets[name]
    without = put(right, field(name), pseudo(right, name, with_length=False))
    empty = put(right, field(name), 0)
    assert played(tmp_path, without, empty) == ([right, right], 2)


@ENGINES
@pytest.mark.parametrize("name", ["tcp", "udp", "tagged", "options", "icmp"])
def test_an_empty_checksum_of_an_ipv4_header_is_completed(
    tmp_path: Path, packets: dict[str, bytes], name: str
) -> None:
    right = packets[name]
    at = {"tagged": 18}.get(name, 14) + 10
    assert played(tmp_path, put(right, at, 0), right) == ([right, right], 1)
    damaged = put(right, at, 0x1234)
    assert played(tmp_path, damaged) == ([damaged], 0)


@ENGINES
def test_a_damaged_frame_stays_damaged(tmp_path: Path, packets: dict[str, bytes]) -> None:
    tcp, udp = packets["tcp"], packets["udp"]
    wrong = [put(tcp, field("tcp"), 0x1234), tcp[:-1] + b"\xff", udp[:-1] + b"\xff"]
    assert played(tmp_path, *wrong) == (wrong, 0)


@ENGINES
def test_what_has_no_checksum_or_is_not_whole_stays(
    tmp_path: Path, packets: dict[str, bytes]
) -> None:
    tcp, udp = packets["tcp"], packets["udp"]
    blank = put(tcp, field("tcp"), pseudo(tcp, "tcp"))
    first, later = (put(put(blank, 20, bits), 24, 0x5555) for bits in (0x2000, 1))
    others = [put(udp, field("udp"), 0), blank[:-1], blank[:40], first, later, frame(1), bytes(14)]
    assert played(tmp_path, *others) == (others, 0)


@ENGINES
def test_a_bridges_frame_is_not_taken_for_ipv4(tmp_path: Path) -> None:
    # 802.3: a length in place of a type, and an LLC that begins with 4 as IPv4 does.
    bpdu = bytes.fromhex("0180c200000002000000000100264242030000000000") + bytes(38)
    assert played(tmp_path, bpdu) == ([bpdu], 0)


@ENGINES
def test_checksums_that_the_capture_calls_blank_are_completed(tmp_path: Path) -> None:
    path = tmp_path / "in.pcapng"
    blank = drain(open_port("tcp:1514x1")) + drain(open_port("tcp6:1514x1"))
    long = drain(open_port("tcp:9000x1"))
    recorder = open_port(f"record:{path}")
    recorder.push(new_batch([*blank, *long, Frame(frame(1), flags=CSUM_BLANK)]))
    recorder.close()
    port = opened(open_port(f"pcap:{path}?csum=fix"))
    got = drain(port)
    assert got[:2] == [completed(one) for one in blank]
    assert {one.flags for one in got[:2]} == {DATA_VALIDATED}
    # It waits for segmentation, which completes its checksums as well.
    assert got[2:3] == long
    # No TCP, no UDP: nobody can complete it, and its flag stays for the one who drops it (F17).
    assert got[3] == Frame(frame(1), flags=CSUM_BLANK)
    assert port.counters.csum_completed == 2


# --- a run ----------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main(["run", "--json", *words])
    out = capsys.readouterr().out
    assert code == 0, out
    report: dict[str, Any] = json.loads(out)
    return report


@pytest.fixture
def taken_before_the_offload(tmp_path: Path) -> Path:
    """A capture of 7 frames with blank checksums, in a format that cannot say so."""
    path = tmp_path / "offloaded.pcap"
    recorder = open_port(f"record:{path}")
    recorder.push(new_batch(drain(open_port("tcp:1514x4")) + drain(open_port("tcp6:1514x3"))))
    recorder.close()
    return path


ROADS = {
    "vif": ["--no-csum"],
    "epair": ["--link", "epair"],
    "shmif": ["--link", "shmif:BUS"],
    "taskqueue": ["--link", "epair:taskqueue"],
    "freebsd": ["--no-csum", "--frontend", "freebsd"],
    "queues": ["--no-csum", "--queues", "4"],
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("way", ["guest", "host"])
def test_each_road_tells_of_wrong_checksums_that_it_passed_on(
    taken_before_the_offload: Path, capsys: pytest.CaptureFixture[str], road: str, way: str
) -> None:
    bus = str(taken_before_the_offload.with_name("bus"))
    options = [word.replace("BUS", bus) for word in ROADS[road]]
    other = "host" if way == "guest" else "guest"
    sent = [f"--{way}", f"pcap:{taken_before_the_offload}", f"--{other}", "null:"]
    told = (
        f"{way} to {other}: 7 frames passed on with a wrong TCP or UDP checksum, to an end that "
        "takes no blank ones"
    )
    assert told in run(capsys, *options, *sent)["verdict"]["reasons"]
    sent[1] += "?csum=fix"
    report = run(capsys, *options, *sent)
    assert not [reason for reason in report["verdict"]["reasons"] if "checksum" in reason]
    (port,) = [one for one in report["ports"] if one["spec"].startswith("pcap:")]
    assert port["counters"]["csum_completed"] == 7


def test_the_switch_tells_of_wrong_checksums_too(
    taken_before_the_offload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"pcap:{taken_before_the_offload}"
    words = ["--no-csum", "--guests", "2", "--switch", "--guest", source, "--guest", "null:"]
    reasons = run(capsys, *words)["verdict"]["reasons"]
    assert [reason for reason in reasons if "wrong TCP or UDP checksum" in reason]


def test_a_bus_is_told_of_too(
    taken_before_the_offload: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"pcap:{taken_before_the_offload}"
    words = ["--guest", source, "--host", f"shmif:{tmp_path}/bus", "--for", "1.5"]
    told = "guest to host: 7 frames passed on with a wrong TCP or UDP checksum"
    assert [one for one in run(capsys, *words)["verdict"]["reasons"] if one.startswith(told)]


@TSHARK
def test_tshark_finds_every_checksum_right(
    taken_before_the_offload: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pcapng"
    source = f"pcap:{taken_before_the_offload}?csum=fix"
    run(capsys, "--guest", source, "--host", f"record:{out}")
    words = ["-o", "tcp.check_checksum:TRUE", "-T", "fields", "-e", "tcp.checksum.status"]
    done = subprocess.run(["tshark", "-r", str(out), *words], capture_output=True, text=True)
    assert done.stdout.split() == ["1"] * 7, done.stderr
