"""``xennet run`` with every option for real, and verdicts that are honest."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import dpkt
import pytest

from xennet.cli import main
from xennet.frames import FrameBatch
from xennet.link.switch import Switch, SwitchPort
from xennet.link.vifs import Vifs
from xennet.netback.defects import BackendPanic
from xennet.netback.device import Vif
from xennet.port import BasePort, PortError, open_ports
from xennet.run.checker import Checker
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.run.progress import no_progress
from xennet.run.report import RunReport

CAPTURE = Path(__file__).parents[2] / "xennet" / "data" / "guest-and-host-tcp.pcap"
#: Both directions, of a capture with several flows and frames of many pages.
BOTH = ("--guest", f"pcap:{CAPTURE}+null:", "--host", f"pcap:{CAPTURE}+null:")


class Command:
    """The command line, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str) -> tuple[int, dict]:
        code = main(["run", "--json", *args])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def good(outcome: tuple[int, dict]) -> dict:
    code, report = outcome
    assert (code, report["verdict"]["good"]) == (0, True), report["verdict"]["reasons"]
    return report


def bad(outcome: tuple[int, dict]) -> str:
    code, report = outcome
    assert (code, report["verdict"]["good"]) == (1, False)
    return "\n".join(report["verdict"]["reasons"])


def carry(guests: list[str], hosts: list[str], /, **options) -> RunReport:
    ports = open_ports([*guests, *hosts])
    with no_progress() as progress, ExitStack() as closed:
        for port in ports:
            closed.callback(port.close)
        left, right = ports[: len(guests)], ports[len(guests) :]
        return run_ports(left, right, RunOptions(**options), progress)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("queues", [1, 2, 8])
@pytest.mark.parametrize("split", [True, False])
def test_queues_and_channels(run: Command, queues: int, split: bool) -> None:
    channels = "--split-channels" if split else "--single-channel"
    report = good(run("--queues", str(queues), channels, *BOTH))
    vif = report["vifs"][0]
    assert (vif["queues"], vif["split_channels"]) == (queues, split)
    assert [way["frames_received"] for way in report["directions"]] == [492, 492]
    order = "in order" if queues == 1 else "in the order of its flow"
    assert order in report["verdict"]["reasons"][0]


@pytest.mark.parametrize("frontend", ["linux", "freebsd", "windows"])
@pytest.mark.parametrize("evtchn", ["2l", "fifo"])
def test_frontends_and_event_channels(run: Command, frontend: str, evtchn: str) -> None:
    report = good(run("--frontend", frontend, "--evtchn", evtchn, *BOTH))
    options = report["options"]
    assert (options["frontend"], options["evtchn"]) == (frontend, evtchn)
    # FreeBSD's netfront knows one channel for both rings, and GSO over IPv4.
    vif = report["vifs"][0]
    assert vif["split_channels"] == (frontend != "freebsd")
    assert vif["down"]["gso"] == (["tcpv4"] if frontend == "freebsd" else ["tcpv4", "tcpv6"])


@pytest.mark.parametrize(
    ("frontend", "usual"), [("linux", "fifo"), ("freebsd", "2l"), ("windows", "fifo")]
)
def test_the_report_names_the_event_channels_that_are_usual_for_a_frontend(
    run: Command, frontend: str, usual: str
) -> None:
    report = good(run("--frontend", frontend, "--guest", "gen:60x2", "--host", "null:"))
    assert report["options"]["evtchn"] == usual


def test_without_gso_frames_are_cut_before_they_cross(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    report = good(run("--no-gso", "--guest", "tcp:30000x10/1448", "--host", f"record:{out}"))
    up = report["vifs"][0]["up"]
    assert (up["gso"], up["segmented"], up["carried"]) == ([], 10, up["segments"])
    with out.open("rb") as file:
        lengths = [len(frame) for _, frame in dpkt.pcap.Reader(file)]
    assert len(lengths) == up["segments"] > 200
    assert max(lengths) <= 1514


def test_without_csum_checksums_are_filled_in_and_nothing_is_segmented_later(
    run: Command,
) -> None:
    report = good(run("--no-csum", "--guest", "tcp:1000x10", "--host", "tcp6:30000x10"))
    vif = report["vifs"][0]
    assert (vif["up"]["csum"], vif["up"]["gso"]) == ([], [])
    assert vif["up"]["completed"] == 10
    assert vif["down"]["segmented"] == 10


def test_without_sg_a_frame_has_to_fit_into_a_page(run: Command) -> None:
    args = ("--no-sg", "--guest", "gen:4096x5", "--host")
    assert good(run(*args, "gen:4096x5"))["vifs"][0]["up"]["sg"] is False
    reasons = bad(run(*args, "gen:4097x7"))
    assert reasons == "host to guest: 7 frames were too long for the vif"


def test_an_mtu_is_what_frames_are_held_to(run: Command) -> None:
    args = ("--mtu", "9000", "--guest", "gen:9014x5", "--host")
    report = good(run(*args, "gen:9014x5"))
    assert report["vifs"][0]["down"]["max_frame"] == 9014
    nodes = {entry["path"]: entry["value"] for entry in report["timeline"] if entry["value"]}
    assert nodes["/local/domain/1/device/vif/0/mtu"] == "9000"
    assert "host to guest: 5 frames were too long" in bad(run(*args, "gen:9015x5"))


def capture(path: Path, *frames: bytes) -> Path:
    """A pcap file of ``frames``, a second apart."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=1 << 17)
        for second, frame in enumerate(frames):
            writer.writepkt(frame, second)
    return path


@pytest.mark.parametrize("tags", ["81000005", "88a80005", "88a8000581000006"])
@pytest.mark.parametrize("options", [[], ["--no-csum"], ["--backend", "xnb"]])
def test_an_mtu_does_not_count_vlan_tags(
    run: Command, tmp_path: Path, tags: str, options: list[str]
) -> None:
    head = bytes.fromhex("00163e000002 00163e000001" + tags + "88b5")
    fits = capture(tmp_path / "fits.pcap", *[head.ljust(1514 + len(tags) // 2, b"x")] * 3)
    good(run("--mtu", "1500", *options, "--guest", f"pcap:{fits}", "--host", f"pcap:{fits}"))
    long = capture(tmp_path / "long.pcap", head.ljust(1515 + len(tags) // 2, b"x"))
    ports = ("--guest", f"pcap:{long}", "--host", f"pcap:{long}")
    reasons = bad(run("--mtu", "1500", *options, *ports))
    assert "guest to host: 1 frames were too long" in reasons
    assert "host to guest: 1 frames were too long" in reasons


def test_a_switch_carries_tagged_frames_that_fit_the_mtu(run: Command, tmp_path: Path) -> None:
    head = bytes.fromhex("00163e000002 00163e000001 81000005 88b5")
    source = capture(tmp_path / "in.pcap", *[head.ljust(1518, b"x")] * 3)
    good(run("--mtu", "1500", "--guests", "2", "--switch", "--guest", f"pcap:{source}"))


def test_gso_frames_may_be_longer_than_the_mtu(run: Command) -> None:
    report = good(run("--mtu", "1500", "--guest", "tcp:60000x10", "--host", "null:"))
    assert report["vifs"][0]["up"]["segmented"] == 0
    assert report["directions"][0]["bytes_received"] == 600_000


# --- several vifs ---------------------------------------------------------------------------------


def test_each_guest_and_each_vif_has_its_own_ports() -> None:
    report = carry(
        ["gen:60x5", "gen:60x6", "gen:60x7", "gen:60x8"], ["echo:"] * 4, guests=2, vifs=2
    )
    assert report.verdict.good, report.verdict.reasons
    assert [(vif.name, vif.up.carried, vif.down.carried) for vif in report.vifs] == [
        ("vif1.0", 5, 5),
        ("vif1.1", 6, 6),
        ("vif2.0", 7, 7),
        ("vif2.1", 8, 8),
    ]
    assert [port.counters.frames_out for port in report.ports[:4]] == [5, 6, 7, 8]
    assert [domain.name for domain in report.domains] == ["Domain-0", "domU1", "domU2"]


def test_guests_on_a_switch_send_to_the_next_one(run: Command, tmp_path: Path) -> None:
    out = [tmp_path / f"{i}.pcap" for i in range(3)]
    ports = [("--guest", f"gen:{100 + i}x300+record:{path}") for i, path in enumerate(out)]
    report = good(run("--guests", "3", "--switch", *(word for port in ports for word in port)))
    for i, path in enumerate(out):
        with path.open("rb") as file:
            frames = [frame for _, frame in dpkt.pcap.Reader(file)]
        before = (i - 1) % 3
        assert [len(frame) for frame in frames] == [100 + before] * 300
        assert {frame[:6].hex() for frame in frames} == {f"00163e0000{i + 1:02x}"}
        assert {frame[6:12].hex() for frame in frames} == {f"00163e0000{before + 1:02x}"}
        assert [int.from_bytes(frame[14:18]) for frame in frames] == list(range(300))
    switch = report["switch"]
    assert switch["through"]["frames_received"] == 900
    assert (switch["learned"], switch["dropped"]) == (3, 0)
    assert switch["forwarded"] + switch["flooded"] == 900
    assert "where it should" in report["verdict"]["reasons"][0]


@pytest.mark.parametrize(
    "args",
    [
        ("--guests", "2", "--guest", "gen:1500x2000"),
        ("--vifs", "8", "--guest", "gen:60x300"),
        ("--guests", "3", "--guest", "tcp:50000x50", "--queues", "4", "--evtchn", "fifo"),
        ("--guests", "3", "--guest", "tcp6:50000x50", "--no-gso", "--no-csum"),
        ("--guests", "2", "--guest", f"pcap:{CAPTURE}"),
        ("--guests", "3", "--guest", "gen:60x900", "--guest", "echo:", "--guest", "null:"),
    ],
)
def test_traffic_between_guests_is_lossless(run: Command, args: tuple[str, ...]) -> None:
    report = good(run("--switch", *args))
    assert report["switch"]["dropped"] == 0
    assert report["switch"]["through"]["frames_received"] > 0


def test_fifty_guests_on_a_switch() -> None:
    report = carry(["gen:60x10"] * 50, [], guests=50, switch=True)
    assert report.verdict.good, report.verdict.reasons
    assert report.switch is not None
    assert report.switch.through.frames_received == 500
    # One first frame of each guest goes to everybody, at most.
    assert report.switch.flooded <= 50
    assert len(report.rings) == 2


def test_progress_is_a_running_total_of_each_direction() -> None:
    told: dict[str, list[int]] = {}
    ports = open_ports(["gen:60x300"] * 3 + ["gen:60x500"] * 3)
    options = RunOptions(guests=3)
    run_ports(ports[:3], ports[3:], options, lambda way, n: told.setdefault(way, []).append(n))
    for way, frames in (("guest to host", 900), ("host to guest", 1500)):
        assert told[way] == sorted(told[way])
        assert told[way][-1] == frames


# --- frames that a filter takes, checksums that are wrong -----------------------------------------


GROUP, UNICAST = (
    bytes.fromhex(mac) + b"\2\0\0\0\0\2\x88\xb5" for mac in ("333300000001", "021122334455")
)


def group_and_others(path: Path, count: int) -> Path:
    """``count`` frames for a group, each before one for a station."""
    pairs = [(GROUP.ljust(64 + i), UNICAST.ljust(80 + i)) for i in range(count)]
    return capture(path, *(frame for pair in pairs for frame in pair))


@pytest.mark.parametrize("options", [(), ("--queues", "4"), ("--evtchn", "2l"), ("--no-csum",)])
def test_what_the_multicast_filter_takes_is_counted_and_no_fault(
    run: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    source, out = group_and_others(tmp_path / "in.pcap", 300), tmp_path / "out.pcap"
    ports = ("--host", f"pcap:{source}", "--guest", f"record:{out}")
    report = good(run("--frontend", "windows", *ports, *options))
    up, down = report["directions"]
    assert (down["frames_sent"], down["frames_received"], down["filtered"]) == (600, 300, 300)
    assert (up["filtered"], report["vifs"][0]["down"]["filtered"]) == (0, 300)
    reasons = report["verdict"]["reasons"]
    assert reasons[0].startswith("every frame but the filtered ones arrived unchanged")
    assert "host to guest: the backend's multicast filter took 300 frames" in reasons[-1]
    with out.open("rb") as file:
        recorded = [(when, frame[:1]) for when, frame in dpkt.pcap.Reader(file)]
    assert recorded == [(2 * i + 1, UNICAST[:1]) for i in range(300)]


def test_group_frames_of_a_guest_that_come_back_are_filtered_too(
    run: Command, tmp_path: Path
) -> None:
    source = group_and_others(tmp_path / "in.pcap", 50)
    ports = ("--guest", f"pcap:{source}", "--host", "echo:")
    report = good(run("--frontend", "windows", "--vifs", "2", *ports))
    up, down = report["directions"]
    assert (up["frames_received"], up["filtered"]) == (200, 0)
    assert (down["frames_received"], down["filtered"]) == (100, 100)
    assert [vif["down"]["filtered"] for vif in report["vifs"]] == [50, 50]


def test_a_run_of_which_everything_was_filtered_says_so(run: Command, tmp_path: Path) -> None:
    source = capture(tmp_path / "in.pcap", *[GROUP.ljust(64)] * 1000)
    report = good(run("--frontend", "windows", "--host", f"pcap:{source}", "--guest", "null:"))
    assert report["verdict"]["reasons"][0] == "no frame was to arrive: all were filtered"


def test_frames_that_really_get_lost_are_not_taken_for_filtered_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Vifs, "_filtered", lambda self, event: None)
    source = group_and_others(tmp_path / "in.pcap", 10)
    report = carry(["null:"], [f"pcap:{source}"], frontend="windows")
    assert report.verdict.reasons == ("host to guest: 10 frames did not arrive",)


def test_other_guests_ask_for_no_filter(run: Command, tmp_path: Path) -> None:
    source = group_and_others(tmp_path / "in.pcap", 10)
    report = good(run("--host", f"pcap:{source}", "--guest", "null:"))
    assert report["directions"][1]["filtered"] == 0
    assert len(report["verdict"]["reasons"]) == 2


@pytest.mark.parametrize("family", ["tcp", "tcp6"])
def test_wrong_checksums_are_told_where_nobody_can_complete_them(
    run: Command, tmp_path: Path, family: str
) -> None:
    # What a vif carries with blank checksums, recorded: nothing marks them any more.
    taken = tmp_path / "taken.pcap"
    good(run("--guest", f"{family}:1000x7", "--host", f"record:{taken}"))
    ports = ("--guest", f"pcap:{taken}", "--host", f"pcap:{taken}")
    report = good(run("--no-csum", *ports))
    assert [report["vifs"][0][way]["wrong_checksums"] for way in ("up", "down")] == [7, 7]
    told = [
        f"{way}: 7 frames passed on with a wrong TCP or UDP checksum, to an end that takes no "
        "blank ones"
        for way in ("guest to host", "host to guest")
    ]
    assert report["verdict"]["reasons"][2:] == told
    assert report["verdict"]["reasons"][0] == "every frame arrived unchanged and in order"
    # Linux' ends take blank ones of both families, FreeBSD's guest those of IPv4.
    assert len(good(run(*ports))["verdict"]["reasons"]) == 2
    freebsd = good(run("--frontend", "freebsd", *ports))["vifs"][0]
    assert freebsd["down"]["wrong_checksums"] == (7 if family == "tcp6" else 0)


def test_checksums_that_are_completed_or_right_are_not_told(run: Command) -> None:
    report = good(run("--no-csum", "--guest", "tcp:1000x7", "--host", "tcp6:20000x3"))
    assert report["vifs"][0]["up"]["wrong_checksums"] == 0
    assert len(report["verdict"]["reasons"]) == 2


def test_remarks_are_made_of_bad_runs_too(run: Command, tmp_path: Path) -> None:
    source = group_and_others(tmp_path / "in.pcap", 1)
    ports = ("--host", f"pcap:{source}", "--guest", "gen:2000x1")
    reasons = bad(run("--frontend", "windows", "--mtu", "1500", *ports))
    assert "guest to host: 1 frames were too long" in reasons
    assert "multicast filter took 1 frames" in reasons


# --- honest verdicts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ports",
    [
        ("--guest", "null:", "--host", "null:"),
        ("--guest", "echo:", "--host", "null:"),
        ("--guest", "null:", "--host", "echo:"),
        ("--guest", "null:", "--switch", "--guests", "2"),
    ],
)
def test_a_run_without_a_frame_shows_nothing(run: Command, ports: tuple[str, ...]) -> None:
    assert "no port gave a frame, in either direction" in bad(run(*ports))
    assert "no port gave a frame" in good(run("--allow-empty", *ports))["verdict"]["reasons"][0]


def test_a_run_with_a_frame_in_one_direction_is_no_empty_one(run: Command) -> None:
    for ports in (("gen:60x1", "null:"), ("null:", "gen:60x1")):
        reasons = good(run("--guest", ports[0], "--host", ports[1]))["verdict"]["reasons"]
        assert "every frame arrived" in reasons[0]


def test_an_empty_capture_is_an_empty_run(run: Command, tmp_path: Path) -> None:
    empty = capture(tmp_path / "empty.pcap")
    assert "no port gave a frame" in bad(run("--guest", f"pcap:{empty}", "--host", "null:"))


def test_a_switch_that_loses_a_frame_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    put = SwitchPort.put
    lost: list[int] = []

    def lose(self: SwitchPort, batch: FrameBatch, index: int) -> bool:
        if not lost and self.counters.sent > 5:
            lost.append(index)
            return False
        return put(self, batch, index)

    monkeypatch.setattr(SwitchPort, "put", lose)
    report = carry(["gen:60x1000"] * 2, [], guests=2, switch=True)
    assert not report.verdict.good
    assert any("through the switch: 1 frames did not arrive" in r for r in report.verdict.reasons)


def test_a_switch_that_sends_frames_to_the_wrong_port_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Switch, "_targets", lambda self, ingress, destination: [ingress])
    report = carry(["gen:60x10"] * 3, [], guests=3, switch=True)
    reasons = "\n".join(report.verdict.reasons)
    assert "vif1.0, through the switch: 10 frames did not arrive" in reasons
    assert not report.verdict.good


def test_a_switch_that_turns_the_order_round_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Switch.forward

    def turned(self: Switch, ingress: SwitchPort, batch: FrameBatch) -> None:
        batch.offset[: batch.count] = batch.offset[: batch.count][::-1]
        forward(self, ingress, batch)

    monkeypatch.setattr(Switch, "forward", turned)
    report = carry(["gen:60x100"] * 2, [], guests=2, switch=True)
    assert any("did not arrive as they were sent" in r for r in report.verdict.reasons)


def test_evidence_shows_where_a_frame_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    push = Checker.push

    def flip(self: Checker, batch: FrameBatch) -> None:
        if self.incoming.frames_received <= 5 < self.incoming.frames_received + batch.count:
            batch.data[batch.offset[5 - self.incoming.frames_received] + 77] ^= 1
        push(self, batch)

    monkeypatch.setattr(Checker, "push", flip)
    mismatch = carry(["gen:1514x20"], ["null:"]).directions[0].evidence[0]
    assert (mismatch.frame, mismatch.offset) == (5, 77)
    sent, received = bytes.fromhex(mismatch.sent), bytes.fromhex(mismatch.received)
    assert (len(sent), sent[0] ^ received[0], sent[1:]) == (32, 1, received[1:])


@pytest.mark.parametrize("port", ["gen:1500x300", "gen:9014x50", "tcp:1000x50"])
def test_the_seed_backend_carries_what_is_well_formed(run: Command, port: str) -> None:
    report = good(run("--backend", "xnb", "--guest", port, "--host", "gen:60x10"))
    assert report["options"]["backend"] == "xnb"
    # It knows neither split channels nor several queues, nor IPv6.
    vif = report["vifs"][0]
    assert (vif["queues"], vif["split_channels"], vif["up"]["csum"]) == (1, False, ["ipv4"])


def test_a_backend_that_panics_is_a_bad_run_that_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def panic(self: Vif) -> None:
        raise BackendPanic("the table is too short", "A9")

    monkeypatch.setattr(Vif, "kick", panic)
    report = carry(["gen:60x10"], ["null:"])
    assert not report.verdict.good
    assert report.verdict.reasons[0].startswith(
        "the backend panicked: the table is too short [A9] (while delivering "
    )


def test_many_reasons_are_not_all_told() -> None:
    report = carry(["gen:9000x1"] * 20, ["null:"] * 20, guests=20, mtu=1500)
    assert len(report.verdict.reasons) == 13
    assert report.verdict.reasons[-1] == "and 8 more reasons"
    assert report.verdict.reasons[0] == "vif1.0, guest to host: 1 frames were too long for the vif"


# --- captures that are not quite right ------------------------------------------------------------


def test_a_damaged_capture_is_carried_as_far_as_it_is_whole(run: Command, tmp_path: Path) -> None:
    cut, out = tmp_path / "cut.pcap", tmp_path / "out.pcap"
    cut.write_bytes(CAPTURE.read_bytes()[:400_000])
    reason = bad(run("--guest", f"pcap:{cut}", "--host", f"record:{out}"))
    where = re.fullmatch(
        rf"{cut}: capture damaged at byte offset (\d+): record cut short, \d+ of \d+ bytes", reason
    )
    assert where
    with cut.open("rb") as whole, out.open("rb") as carried:
        whole.seek(24)
        frames = list(dpkt.pcap.Reader(carried))
        assert sum(16 + len(data) for _, data in frames) == int(where[1]) - 24
        assert len(frames) > 100


def test_a_frame_that_no_packet_holds_is_refused_and_the_others_cross(
    run: Command, tmp_path: Path
) -> None:
    path = tmp_path / "in.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for length in (60, 92442, 61, 65549, 62):
            writer.writepkt(bytes(length), 1)
    both = ("--guest", f"pcap:{path}+null:", "--host", f"pcap:{path}+null:")
    outcome = run(*both)
    assert bad(outcome) == (
        f"{path}: frame of 92442 bytes, the longest is 65535 (at byte offset 100), "
        "and 1 more like it (at 2 ports)"
    )
    report = outcome[1]
    assert [way["frames_received"] for way in report["directions"]] == [3, 3]
    assert [port["counters"]["refused_oversize"] for port in report["ports"]] == [2, 2]


@pytest.mark.parametrize("queues", ["1", "4"])
def test_comments_and_interface_names_cross_the_vif_in_both_directions(
    run: Command, tmp_path: Path, queues: str
) -> None:
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgWriter, RawPcapNgReader

    path, up, down = (tmp_path / f"{name}.pcapng" for name in ("in", "up", "down"))
    with PcapNgWriter(str(path)) as writer:
        for number in range(300):
            packet = Ether(bytes((number & 0xFF,)) * (60 + number))
            packet.time, packet.comments = number, [b"packet %d" % number]
            packet.sniffed_on = f"eth{number % 3}"
            writer.write(packet)
    good(
        run(
            "--queues",
            queues,
            "--guest",
            f"pcap:{path}+record:{down}",
            "--host",
            f"pcap:{path}+record:{up}",
        )
    )
    for recording in (up, down):
        with RawPcapNgReader(str(recording)) as reader:
            told = [(len(data), meta.comments, meta.ifname) for data, meta in reader]
        assert told == [
            (60 + number, [b"packet %d" % number], b"eth%d" % (number % 3)) for number in range(300)
        ]


class FailingPort(BasePort):
    """Gives three frames and fails."""

    exhausted = False

    def pull(self, batch: FrameBatch) -> int:
        if self.counters.frames_in:
            raise PortError("the card is gone")
        for number in range(3):
            batch.append(bytes((number,)) * 60)
        return self._pulled(3, 180)


def test_a_port_that_fails_is_an_error_after_the_frames_before_it_arrived() -> None:
    host = BasePort("host")
    with no_progress() as progress, pytest.raises(PortError, match="the card is gone"):
        run_ports([FailingPort("guest")], [host], RunOptions(), progress)
    assert host.counters.frames_out == 3
