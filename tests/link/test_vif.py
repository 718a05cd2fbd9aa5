"""``xennet run`` for real: whole machines, real files, every direction."""

from __future__ import annotations

import json
from pathlib import Path

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import Stack

from xennet.cli import main
from xennet.errors import LinkError
from xennet.frames import FrameBatch
from xennet.lifecycle.remarks import remarks
from xennet.link.inventory import rings
from xennet.link.vif import VifLink
from xennet.observe import Notification
from xennet.port import open_port, open_ports
from xennet.run.checker import Checker
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.run.progress import no_progress
from xennet.run.report import RunReport
from xennet.xenbus.backend import Advertisement

CAPTURE = Path(__file__).parents[2] / "xennet" / "data" / "guest-and-host-tcp.pcap"


def frames(path: Path) -> list[tuple[float, bytes]]:
    with path.open("rb") as file:
        return [(round(float(when), 6), frame) for when, frame in dpkt.pcap.Reader(file)]


def carry(guest: str, host: str, *, version: int = 1, empty: bool = False) -> RunReport:
    left, right = open_ports([guest, host])
    try:
        with no_progress() as progress:
            return run_ports([left], [right], RunOptions(version, allow_empty=empty), progress)
    finally:
        left.close()
        right.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_capture_crosses_from_guest_to_host(tmp_path: Path, version: int) -> None:
    out = tmp_path / "out.pcap"
    report = carry(f"pcap:{CAPTURE}", f"record:{out}", version=version)
    assert report.verdict.good, report.verdict.reasons
    assert frames(out) == frames(CAPTURE)


@pytest.mark.parametrize("version", [1, 2])
def test_a_capture_crosses_from_host_to_guest(tmp_path: Path, version: int) -> None:
    out = tmp_path / "out.pcap"
    report = carry(f"record:{out}", f"pcap:{CAPTURE}", version=version)
    assert report.verdict.good, report.verdict.reasons
    assert frames(out) == frames(CAPTURE)


def test_both_directions_at_once(tmp_path: Path) -> None:
    up, down = tmp_path / "up.pcap", tmp_path / "down.pcap"
    report = carry(f"pcap:{CAPTURE}+record:{down}", f"pcap:{CAPTURE}+record:{up}")
    assert report.verdict.good, report.verdict.reasons
    assert frames(up) == frames(down) == frames(CAPTURE)


def test_an_echo_gives_everything_back(tmp_path: Path) -> None:
    back = tmp_path / "back.pcap"
    report = carry(f"pcap:{CAPTURE}+record:{back}", "echo:")
    assert report.verdict.good, report.verdict.reasons
    assert [frame for _, frame in frames(back)] == [frame for _, frame in frames(CAPTURE)]


def test_an_echo_in_the_guest_gives_everything_back(tmp_path: Path) -> None:
    back = tmp_path / "back.pcap"
    report = carry("echo:", f"pcap:{CAPTURE}+record:{back}")
    assert report.verdict.good, report.verdict.reasons
    assert len(frames(back)) == 492


def test_generated_frames_of_the_longest_size_cross() -> None:
    report = carry("gen:65535x100", "gen:14x1000")
    assert report.verdict.good, report.verdict.reasons
    up, down = report.directions
    assert (up.frames_received, down.frames_received) == (100, 1000)


def test_nothing_to_carry_is_no_good_run_unless_that_is_allowed() -> None:
    verdict = carry("null:", "null:").verdict
    assert not verdict.good
    assert verdict.reasons[0].startswith("no port gave a frame, in either direction")
    allowed = carry("null:", "null:", empty=True).verdict
    assert allowed.good
    assert allowed.reasons[0] == "no port gave a frame, in either direction"


def test_the_report_adds_up() -> None:
    report = carry("gen:9014x100", "null:")
    tx, rx = report.rings
    assert tx.requests == tx.responses == tx.slots == 300
    assert (rx.requests, rx.responses) == (256, 0)
    guest = report.domains[1]
    assert guest.grants_made == 300 + 256 + 2
    for domain in report.domains:
        held = (domain.grants_held, domain.mappings, domain.event_channels, domain.pages)
        assert held == (0, 0, 0, 0)
    assert report.domains[0].bytes_copied == 100 * 9014


def test_the_timeline_tells_the_states_of_both_ends() -> None:
    states = [
        (entry.who, entry.path.rpartition("/")[0][-12:], entry.new)
        for entry in carry("null:", "null:").timeline
        if entry.kind == "state"
    ]
    assert states == [
        ("toolstack", "device/vif/0", "Initialising"),
        ("toolstack", "/backend/vif/1/0"[-12:], "Initialising"),
        ("dom0", "/backend/vif/1/0"[-12:], "InitWait"),
        ("domU1", "device/vif/0", "Connected"),
        ("dom0", "/backend/vif/1/0"[-12:], "Connected"),
        ("toolstack", "/backend/vif/1/0"[-12:], "Closing"),
        ("domU1", "device/vif/0", "Closed"),
        ("dom0", "/backend/vif/1/0"[-12:], "Closing"),
        ("dom0", "/backend/vif/1/0"[-12:], "Closed"),
    ]


def test_the_command_line_prints_json_and_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--json", "--guest", "gen:60x10", "--host", "null:"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"]["good"] is True


def test_a_driver_that_damages_a_frame_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push = Checker.push

    def spoil(self: Checker, batch: FrameBatch) -> None:
        batch.data[batch.offset[2] + 20] ^= 1
        push(self, batch)

    monkeypatch.setattr(Checker, "push", spoil)
    assert main(["run", "--json", "--guest", "gen:60x10", "--host", "null:"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["directions"][0]["evidence"][0]["frame"] == 2
    assert "1 frames did not arrive as they were sent" in report["verdict"]["reasons"][0]


def test_a_grant_that_is_left_behind_spoils_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from xennet.netfront.buffers import GrantedPages

    monkeypatch.setattr(GrantedPages, "end", lambda self: True)
    report = carry("gen:60x10", "null:")
    assert not report.verdict.good
    assert any(
        "domU1" in reason and "grants reference" in reason for reason in report.verdict.reasons
    )


def test_a_link_that_cannot_connect_says_in_which_states_the_ends_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from xennet.netback.device import Vif

    advertisement = Advertisement((("feature-rx-copy", 0),))
    monkeypatch.setattr(Vif, "probe", lambda self, dev: advertisement)
    link = VifLink(open_port("null:"), open_port("null:"))
    with pytest.raises(LinkError, match=r"backend/vif/1/0/state = InitWait \(2\)"):
        link.open()
    link.destroy()


def test_notifications_are_observed_as_they_are_counted() -> None:
    source, sink = open_port("gen:60x1000"), open_port("null:")
    link = VifLink(source, sink)
    seen: list[Notification] = []
    link.machine.observers.subscribe(seen.append, Notification)  # type: ignore[arg-type]
    link.open()
    link.carry()
    assert link.netfront is not None
    counters = (link.netfront.counters, link.netback.counters)
    for sent in (True, False):
        counted = sum(
            (ring.notified if sent else ring.avoided)
            for end in counters
            for ring in (end.tx, end.rx)
        )
        assert sum(event.sent is sent for event in seen) == counted
    link.close()
    assert not link.leaks()
    link.destroy()


def test_closing_twice_is_harmless() -> None:
    link = VifLink(Stack(), Stack())
    link.open()
    link.close()
    link.close()
    assert not link.leaks()
    link.destroy()


@settings(max_examples=25, deadline=None)
@given(
    up=st.lists(st.integers(14, 12000) | st.sampled_from([4096, 65535]), max_size=40),
    down=st.lists(st.integers(14, 12000) | st.sampled_from([4096, 65535]), max_size=40),
    version=st.sampled_from([1, 2]),
    data=st.data(),
)
def test_any_frames_cross_in_any_order_of_deliveries(
    up: list[int], down: list[int], version: int, data: st.DataObject
) -> None:
    guest, host = Stack(), Stack()
    link = VifLink(guest, host, grant_version=version)
    link.open()
    guest.to_send = sent_up = [bytes([i & 0xFF]) * size for i, size in enumerate(up)]
    host.to_send = sent_down = [bytes([i & 0xFF]) * size for i, size in enumerate(down)]
    sent_up, sent_down = list(sent_up), list(sent_down)
    for pair in link.pairs:
        pair.guest.flowing = pair.host.flowing = True
    link.kick()
    link.machine.run_loop.run_until_idle(
        lambda ready: data.draw(st.integers(0, len(ready) - 1)) if len(ready) > 1 else 0
    )
    assert host.received == sent_up
    assert guest.received == sent_down
    link.close()
    assert not link.leaks()
    link.destroy()


def test_the_report_has_the_lost_frames_of_either_end() -> None:
    guest, host = Stack(), Stack()
    link = VifLink(guest, host)
    link.open()
    guest.room = host.room = 0  # neither end takes anything
    guest.to_send = [bytes([number & 0xFF]) * 60 for number in range(700)]
    host.to_send = [bytes([number & 0xFF]) * 60 for number in range(700)]
    link.carry()
    left = len(guest.to_send), len(host.to_send)
    link.close()
    tx, rx = rings(link.vifs)
    assert (guest.received, host.received) == ([], [])
    # A ring full of each is on the ring.
    assert (tx.lost, rx.lost) == (700 - 256 - left[0], 700 - 256 - left[1])
    assert min(tx.lost, rx.lost) > 0
    waited = "still waited for"
    assert remarks(link.vifs[0])[-2:] == [
        f"frames of the guest that {waited} the ring when the vif disconnected: {tx.lost}",
        f"frames for the guest that {waited} buffers when the vif disconnected: {rx.lost}",
    ]
    link.destroy()
