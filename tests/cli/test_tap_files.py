"""``xennet run --tap-file``: what the ends of a link see, in both directions, as captures."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from xennet.cli import main
from xennet.frames import FrameBatch
from xennet.port import open_port

LINKS = pytest.mark.parametrize("link", ["vif", "epair", "epair:taskqueue", "shmif:{folder}/bus"])


def lengths(path: Path) -> list[int]:
    """The lengths of the frames in a capture, in order."""
    batch = FrameBatch(memoryview(bytearray(1 << 22)), 10_000)
    with closing(open_port(f"pcap:{path}")) as port:
        while port.pull(batch):
            pass
        assert port.counters.faults == ()
    return list(batch.length[: batch.count])


def run(*words: str) -> int:
    return main(["run", "--quiet", *words])


@LINKS
@pytest.mark.parametrize("ending", ["pcap", "pcapng", "pcap.gz"])
def test_both_ends_see_what_passes_both_ways(link: str, ending: str, tmp_path: Path) -> None:
    guest, host = tmp_path / f"guest.{ending}", tmp_path / f"host.{ending}"
    taps = ("--tap-file", f"guest={guest}", "--tap-file", f"host={host}")
    words = ("--link", link.format(folder=tmp_path), *taps)
    assert run(*words, "--guest", "gen:60x700", "--host", "gen:100x500") == 0
    for seen in (lengths(guest), lengths(host)):
        assert (seen.count(60), seen.count(100), len(seen)) == (700, 500, 1200)


@LINKS
def test_a_tap_file_is_what_the_port_records_with_its_time_stamps(
    link: str, tmp_path: Path
) -> None:
    sample = Path(__file__).parents[2] / "xennet" / "data" / "guest-and-host-tcp.pcap"
    out, tap = tmp_path / "out.pcap", tmp_path / "tap.pcap"
    words = ("--mtu", "9000") if link.startswith("epair") else ()
    words += ("--guest", f"pcap:{sample}", "--host", f"record:{out}", "--tap-file", f"host={tap}")
    run("--link", link.format(folder=tmp_path), *words)
    assert tap.read_bytes() == out.read_bytes()
    assert len(lengths(tap)) > 100


def test_frames_are_seen_as_they_cross_the_link(tmp_path: Path) -> None:
    """Long ones with a blank checksum over a vif, segments over an epair."""
    for link, length in (("vif", 30_000), ("epair", 1514)):
        tap = tmp_path / f"{link}.pcap"
        words = ("--guest", "tcp:30000x10", "--host", "null:", "--tap-file", f"guest={tap}")
        assert run("--link", link, *words) == 0
        assert lengths(tap)[0] == length


def test_the_vifs_of_several_guests_have_one_file_or_one_each(tmp_path: Path) -> None:
    whole, second = tmp_path / "all.pcap", tmp_path / "second.pcap"
    ports = ("--guest", "gen:60x30", "--guest", "gen:70x20", "--host", "null:", "--guests", "2")
    assert run(*ports, "--tap-file", f"guest={whole}", "--tap-file", f"host2={second}") == 0
    assert sorted(lengths(whole)) == [60] * 30 + [70] * 20
    assert lengths(second) == [70] * 20


def test_at_a_switch_an_end_sees_the_first_frame_too(tmp_path: Path) -> None:
    tap = tmp_path / "tap.pcap"
    ports = ("--guest", "gen:60x30", "--guest", "gen:70x20", "--guests", "2", "--switch")
    assert run(*ports, "--tap-file", f"guest1={tap}") == 0
    seen = lengths(tap)
    assert (seen.count(60), seen.count(70)) == (30, 20)


def test_the_report_counts_what_it_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tap = tmp_path / "tap.pcap"
    words = ["run", "--guest", "gen:60x9", "--host", "null:", "--tap-file", f"host={tap}"]
    assert main([*words, "--json"]) == 0
    ports = json.loads(capsys.readouterr().out)["ports"]
    assert [port["side"] for port in ports] == ["guest", "host", "host tap"]
    assert ports[2]["spec"] == f"record:{tap}"
    assert ports[2]["counters"]["frames_out"] == 9


def test_it_can_be_piped_on(tmp_path: Path) -> None:
    words = ["run", "--guest", "gen:60x9", "--host", "null:", "--tap-file", "guest=-", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "xennet", *words], capture_output=True, check=True)
    tap = tmp_path / "tap.pcap"
    tap.write_bytes(done.stdout)
    assert lengths(tap) == [60] * 9
    assert done.stderr.startswith(b"GOOD")


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        ("gest=x", "'gest=x': wants guest=FILE or host=FILE, or guest2=FILE for vif 2 alone"),
        ("guest", "'guest': no file name, wants guest=FILE"),
        ("host2=", "'host2=': no file name, wants host2=FILE"),
        ("guest0=x", "wants guest=FILE"),
        ("guest3=x", "--tap-file guest3: the last vif is 2."),
        ("host=x.pcap+gen:60x1", "is no file name but ports joined by +"),
        ("host={folder}/none/x.pcap", "none/x.pcap: cannot be opened: No such file"),
        ("host={folder}/in.pcap", "in.pcap: cannot be recorded to, the run reads it as"),
        ("host={folder}/out.pcap", "out.pcap: cannot be recorded to, the run writes it as"),
    ],
)
def test_what_cannot_be_recorded_is_one_line_and_nothing_is_overwritten(
    tap: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played, recorded = tmp_path / "in.pcap", tmp_path / "out.pcap"
    assert run("--guest", "gen:60x2", "--host", f"record:{played}") == 0
    before = played.read_bytes()
    words = ["--guest", f"pcap:{played}", "--host", "null:", "--host", f"record:{recorded}"]
    words += ["--guests", "2", "--tap-file", tap.format(folder=tmp_path)]
    capsys.readouterr()
    assert run(*words) == 2
    assert said in capsys.readouterr().err
    assert played.read_bytes() == before


def test_two_tap_files_are_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tap = tmp_path / "tap.pcap"
    taps = ("--tap-file", f"guest={tap}", "--tap-file", f"host={tap}")
    assert run("--guest", "gen:60x2", "--host", "null:", *taps) == 2
    assert "cannot be recorded to" in capsys.readouterr().err
