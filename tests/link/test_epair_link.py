"""The epair as a link of a run."""

from __future__ import annotations

import json
from pathlib import Path

import dpkt
import pytest

from xennet.cli import main
from xennet.errors import LinkError
from xennet.link.epair import EpairLink
from xennet.link.protocol import Link
from xennet.port import open_ports
from xennet.port.null import NullPort
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.run.progress import no_progress
from xennet.run.report import RunReport

CAPTURE = Path(__file__).parents[2] / "xennet" / "data" / "guest-and-host-tcp.pcap"
GENERATIONS = pytest.mark.parametrize("spec", ["epair", "epair:netisr", "epair:taskqueue"])


def frames_of(capture: Path) -> list[bytes]:
    with capture.open("rb") as file:
        return [bytes(frame) for _, frame in dpkt.pcap.Reader(file)]


def carry(*specs: str, link: str = "epair", **options: object) -> RunReport:
    ports = open_ports(specs)
    wanted = RunOptions(link=link, **options)  # type: ignore[arg-type]
    hosts = [] if wanted.switch else ports[1::2]
    try:
        with no_progress() as progress:
            guests = ports if wanted.switch else ports[::2]
            return run_ports(guests, hosts, wanted, progress)
    finally:
        for port in ports:
            port.close()


@GENERATIONS
def test_a_capture_crosses_it_byte_for_byte(spec: str, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    report = carry(f"pcap:{CAPTURE}", f"record:{out}", link=spec, mtu=65000)
    assert report.verdict.good, report.verdict
    assert frames_of(out) == frames_of(CAPTURE)


@GENERATIONS
def test_frames_go_both_ways_and_interfaces_count_them(spec: str) -> None:
    report = carry("gen:60x5000", "gen:1514x3000", link=spec)
    assert report.verdict.good, report.verdict
    assert [way.frames_received for way in report.directions] == [5000, 3000]
    a, b = report.interfaces
    assert (a.name, a.opackets, a.ipackets, a.obytes) == ("epair0a", 5000, 3000, 300_000)
    assert (b.name, b.opackets, b.ipackets, b.oerrors) == ("epair0b", 3000, 5000, 0)


def test_a_port_with_offloads_has_its_checksums_filled_in_and_its_segments_cut() -> None:
    report = carry("tcp:20000x10", "null:")
    assert report.verdict.good, report.verdict
    assert report.vifs[0].up.segmented == 10
    assert report.vifs[0].up.max_frame == 0


def test_the_later_generation_has_an_mtu_that_frames_have_to_keep() -> None:
    report = carry("gen:3000x10", "null:", link="epair:taskqueue")
    assert "guest to host: 10 frames were too long for the epair" in report.verdict.reasons
    assert carry("gen:3000x10", "null:", link="epair:taskqueue", mtu=9000).verdict.good
    assert carry("gen:3000x10", "null:", link="epair").verdict.good


def test_guests_talk_through_the_switch_over_epairs() -> None:
    report = carry(*["gen:300x500"] * 3, guests=3, switch=True)
    assert report.verdict.good, report.verdict
    assert report.switch is not None
    assert report.switch.learned == 3
    assert [one.name for one in report.interfaces[:3]] == ["epair0a", "epair0b", "epair1a"]


def test_an_echo_gives_back_what_it_got() -> None:
    report = carry("gen:60x1000", "echo:")
    assert report.verdict.good, report.verdict
    assert [way.frames_received for way in report.directions] == [1000, 1000]


def test_the_address_of_a_guest_is_known_before_the_link_is_open() -> None:
    link = EpairLink()
    told = [link.address(number) for number in range(3)]
    for _ in range(3):
        link.join(NullPort(), NullPort())
    link.open()
    made = [epair.a.mac for epair in link.epairs.values()]
    assert made == told
    link.destroy()


def test_calls_out_of_order_say_so_and_nothing_is_left_behind() -> None:
    link = EpairLink()
    of_a_run: Link = link
    with pytest.raises(LinkError, match=r"carry\(\) of a link that is not open"):
        of_a_run.carry()
    link.join(NullPort(), NullPort())
    link.open()
    with pytest.raises(LinkError, match=r"join\(\) of a link that is open"):
        link.join(NullPort(), NullPort())
    assert link.left_behind() == ["interface epair0a", "interface epair0b"]
    link.close()
    link.close()
    assert link.left_behind() == []
    link.destroy()


def test_the_command_takes_it_and_shows_its_interfaces(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--link", "epair", "--guest", "gen:60x10", "--host", "null:"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Interfaces" in shown
    assert "epair0a" in shown
    assert "Negotiated" not in shown
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["options"]["link"] == "epair"
    assert [one["opackets"] for one in told["interfaces"]] == [10, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--link", "cable"], "no link 'cable'; there are vif, epair"),
        (["--link", "epair:"], "epair has no variant ''; there are: netisr, taskqueue"),
        (["--link", "vif:x"], "vif has no variant 'x'; there are: none"),
        (["--link", "epair", "--queues", "2"], "--queues is for vifs: --link epair has none."),
        (["--link", "epair", "--no-gso"], "--no-gso is for vifs"),
        (["--link", "epair", "--xenstore-socket", "/x"], "--xenstore-socket is for vifs"),
    ],
)
def test_what_it_cannot_be_asked_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["run", *words, "--guest", "null:", "--host", "null:"]) == 2
    assert said in capsys.readouterr().err
