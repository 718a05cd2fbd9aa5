"""NetBSD's bus as a link of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dpkt
import pytest

from xennet.cli import main
from xennet.errors import LinkError
from xennet.frames import BaseEndpoint, FrameBatch
from xennet.link.shmif_bus import ShmifLink
from xennet.port import open_ports
from xennet.port.gen import GenPort
from xennet.port.null import NullPort
from xennet.run.links import file_of, run_ports
from xennet.run.options import RunOptions
from xennet.run.progress import no_progress
from xennet.run.report import RunReport
from xennet.shmif.bus_port import ShmifPort
from xennet.shmif.shared_bus import Bus

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "bus")


def frames_of(capture: Path) -> list[bytes]:
    with capture.open("rb") as file:
        return [bytes(frame) for _, frame in dpkt.pcap.Reader(file)]


def carry(link: str, *specs: str, **options: object) -> RunReport:
    ports = open_ports(specs)
    wanted = RunOptions(link=f"shmif:{link}", **options)  # type: ignore[arg-type]
    hosts = [] if wanted.switch else ports[1::2]
    try:
        with no_progress() as progress:
            return run_ports(ports if wanted.switch else ports[::2], hosts, wanted, progress)
    finally:
        for port in ports:
            port.close()


def batch_of(*frames: bytes) -> FrameBatch:
    batch = FrameBatch(memoryview(bytearray(sum(map(len, frames)))), len(frames))
    for frame in frames:
        batch.append(frame)
    return batch


class Stack(BaseEndpoint):
    """An end that gives ``sending``, a frame at a time, and keeps what it gets."""

    def __init__(self, *sending: bytes) -> None:
        self.sending = list(sending)
        self.got: list[bytes] = []

    def pull(self, batch: FrameBatch, /) -> int:
        if not self.sending:
            return 0
        batch.append(self.sending.pop(0))
        return 1

    def push(self, batch: FrameBatch, /) -> None:
        self.got += map(bytes, batch)


def test_the_command_carries_a_capture_and_leaves_it_on_the_bus(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, out, dumped = (tmp_path / f"{name}.pcap" for name in ("sent", "out", "dumped"))
    assert main(["run", "--guest", "tcp:1400x30", "--host", f"record:{sent}", "--quiet"]) == 0
    capsys.readouterr()
    ports = ["--guest", f"pcap:{sent}", "--host", f"record:{out}"]
    assert main(["run", "--link", f"shmif:{path}", *ports, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"]["good"]
    guest, host = told["interfaces"]
    assert (guest["name"], host["name"]) == ("shmif0", "shmif1")
    assert (guest["mac"], host["mac"]) == ("b2:a0:00:00:00:00", "b2:a0:01:00:00:00")
    assert guest["opackets"] == host["ipackets"] == told["directions"][0]["frames_received"]
    assert main(["shmif", "dump", path, "--pcap", str(dumped)]) == 0
    assert frames_of(sent) == frames_of(out) == frames_of(dumped)
    assert len(frames_of(out)) == 30


def test_frames_go_both_ways_round_the_bus_many_times(path: str) -> None:
    report = carry(path, "gen:60x9000", "gen:1514x3000")
    assert report.verdict.good, report.verdict
    assert [way.frames_received for way in report.directions] == [9000, 3000]
    assert int.from_bytes(Path(path).read_bytes()[8:16], "little") >= 5


def test_a_run_leaves_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in "ab":
        assert carry(f"{tmp_path}/{name}", "gen:300x4000", "gen:1514x700").verdict.good
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("host", ["null:", "gen:100x50"])
def test_a_run_goes_on_where_another_has_been(path: str, host: str) -> None:
    """The ids are the same, and yet the newest frame of the run before is not read again."""
    for _ in range(2):
        report = carry(path, "gen:1514x50", host)
        assert report.verdict.good, report.verdict


def test_several_guests_share_a_bus(path: str) -> None:
    report = carry(path, *["gen:200x500", "gen:1000x300"] * 3, guests=3)
    assert report.verdict.good, report.verdict
    assert len(report.interfaces) == 6
    assert len({one.mac for one in report.interfaces}) == 6


@pytest.mark.parametrize("promiscuity", ["", "?promisc=off"])
def test_guests_talk_through_a_switch(path: str, promiscuity: str) -> None:
    report = carry(path + promiscuity, *["gen:300x500"] * 3, guests=3, switch=True)
    assert report.verdict.good, report.verdict
    assert report.switch is not None
    assert report.switch.learned == 3


def test_a_port_with_offloads_is_fitted_to_the_bus(path: str) -> None:
    report = carry(path, "tcp:20000x10", "null:")
    assert report.verdict.good, report.verdict
    assert report.vifs[0].up.segmented == 10
    assert report.vifs[0].up.max_frame == 1514
    report = carry(path, "gen:1515x3", "null:")
    assert "guest to host: 3 frames were too long for the shmif" in report.verdict.reasons


def test_an_mtu_is_kept_and_1500_is_the_largest(path: str) -> None:
    assert carry(path, "gen:1014x3", "null:", mtu=1000).verdict.good
    report = carry(path, "gen:1015x3", "null:", mtu=1000)
    assert "guest to host: 3 frames were too long for the shmif" in report.verdict.reasons
    with pytest.raises(LinkError, match="an MTU of 1501, the interfaces of a bus have 1500"):
        carry(path, "null:", "null:", mtu=1501)


def test_frames_that_the_filter_takes_are_filtered(path: str) -> None:
    """Of the host's frames, those for the guest's address and for groups arrive."""
    link = ShmifLink(path, promiscuous=False)
    to_guest = link.address(0) + b"\2" + bytes(53)
    others = [link.address(1) + b"\2" + bytes([n]) + bytes(52) for n in range(2)]
    group = b"\1\0\x5e\0\0\1" + bytes(54)
    guest, host = Stack(others[0]), Stack(others[0], to_guest, others[1], group)
    filtered: list[bytes] = []
    link.join(guest, host, lambda frame, timestamp: filtered.append(frame))
    link.open()
    link.carry()
    assert guest.got == [to_guest, group]
    assert filtered == others
    assert host.got == [others[0]]
    assert link.report().faults == ()
    link.destroy()


def test_what_is_filtered_is_told_and_no_fault(path: str) -> None:
    report = carry(f"{path}?promisc=off", "gen:60x10", "gen:60x20")
    assert report.verdict.good, report.verdict
    assert (
        "host to guest: the interface's filter took 20 frames for other addresses"
        in report.verdict.reasons
    )


def test_two_links_on_a_bus_have_ids_of_their_own(path: str) -> None:
    links = [ShmifLink(path) for _ in range(2)]
    assert links[0].address(0) != links[1].address(0)
    again = links[0].address(0)
    links[0].destroy()
    third = ShmifLink(path)
    assert third.address(0) == again
    for link in (links[1], third):
        link.destroy()


def test_what_others_write_in_between_is_left_alone(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ShmifPort(path)
    send = Bus.send

    def both(self: Bus, *arguments: object) -> None:
        other_batch = batch_of(b"\xff" * 60, b"\xff" * 1514)
        send(self, other_batch, other._card)
        send(self, *arguments)  # type: ignore[arg-type]
        send(self, other_batch, other._card)

    monkeypatch.setattr(Bus, "send", both)
    report = carry(path, "gen:1000x3000", "gen:60x500")
    assert report.verdict.good, report.verdict
    other.close()


def test_frames_that_others_overwrite_are_counted(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many frames of others come in between that all but a part of the run's are lost."""
    flood = batch_of(*[b"\xff" * 1514] * 256)
    other = ShmifPort(path)
    send = Bus.send

    def flooded(self: Bus, *arguments: object) -> None:
        send(self, *arguments)  # type: ignore[arg-type]
        for _ in range(3):
            send(self, flood, other._card)

    monkeypatch.setattr(Bus, "send", flooded)
    report = carry(path, "gen:60x500", "null:")
    assert not report.verdict.good
    assert report.verdict.reasons[:2] == (
        f"{path}: 500 frames were overwritten by other processes before they were read (overrun)",
        "guest to host: 500 frames did not arrive",
    )
    other.close()


def test_a_bus_that_is_damaged_on_the_way_ends_the_run_in_one_line(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Bus.send

    def damaged(self: Bus, *arguments: object) -> None:
        send(self, *arguments)  # type: ignore[arg-type]
        self.memory.mem32[5] = 0xFFFFFFF0

    monkeypatch.setattr(Bus, "send", damaged)
    report = carry(path, "gen:60x500", "null:")
    assert not report.verdict.good
    said = "shm_last is 4294967280, the data has 1048544 bytes (at byte offset 20)"
    assert report.verdict.reasons[0] == f"{path}: {said}"


def test_what_is_left_behind_is_told(path: str) -> None:
    link = ShmifLink(path)
    link.join(NullPort(), GenPort("60x3"))
    link.open()
    assert link.left_behind() == ["interface shmif0", "interface shmif1"]
    link.bus.lock.acquire(writing=False)
    assert link.left_behind()[2:] == [f"the lock of {path}"]
    link.bus.lock.release()
    link.close()
    assert link.left_behind() == []
    assert [one.name for one in link.report().interfaces] == ["shmif0", "shmif1"]
    link.destroy()


def test_a_bus_whose_name_looks_like_an_option_is_that_bus(path: str) -> None:
    odd = f"{path}?promisc=off"
    assert file_of(f"shmif:{odd}") == path
    ShmifLink(odd).destroy()
    assert file_of(f"shmif:{odd}") == odd
    assert file_of(f"shmif:{odd}?promisc=on") == odd
    assert file_of(f"shmif:{path}") == path
    assert file_of("epair") is None


def test_a_bus_of_the_run_is_not_recorded_to(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    ShmifLink(path).destroy()
    content = Path(path).read_bytes()
    words = ["--guest", "gen:60x1", "--host", f"record:{path}"]
    assert main(["run", "--link", f"shmif:{path}", *words]) == 2
    assert "cannot be recorded to, the run reads it as" in capsys.readouterr().err
    assert Path(path).read_bytes() == content


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("shmif", "no file name, wants shmif:FILE[?promisc=off]"),
        ("shmif:?promisc=off", "no file name, wants shmif:FILE[?promisc=off]"),
        (
            "shmif:x?promisc=maybe",
            "x: no option 'promisc=maybe', there is promisc=on, promisc=of",
        ),
        ("shmif:/no/such/folder/bus", "/no/such/folder/bus: cannot be opened: No such file"),
    ],
)
def test_a_bus_that_cannot_be_had_is_one_line(
    capsys: pytest.CaptureFixture[str], link: str, said: str
) -> None:
    assert main(["run", "--link", link, "--guest", "null:", "--host", "null:"]) == 2
    assert said in capsys.readouterr().err


def test_runs_of_two_processes_share_a_bus_and_count_what_they_lose(path: str) -> None:
    words = ["run", "--link", f"shmif:{path}", "--guest", "gen:1514x80000", "--host", "gen:60x5000"]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "xennet", *words, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XENNET_ENGINE": "plain"},
        )
        for _ in range(2)
    ]
    told = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    for one in told:
        ways = one["directions"]
        lost = sum(way["frames_sent"] - way["frames_received"] for way in ways)
        assert [way["mismatches"] for way in ways] == [0, 0]
        assert one["verdict"]["good"] == (not lost)
        if lost:
            said = (
                f"{path}: {lost} frames were overwritten by other processes before they were read"
            )
            assert one["verdict"]["reasons"][0].startswith(said)
