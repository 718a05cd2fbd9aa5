"""The benchmark works and says what it means; its figures are not judged here."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from xennet.bench import __main__ as bench_main
from xennet.bench import (
    climit,
    compiler,
    features,
    figures,
    fuzz_speed,
    netmap_programs,
    rounds,
    taps,
)
from xennet.bench.bus_speed import OverBus, over_socket, why_not
from xennet.bench.contestants import Kernels, Vif, copy_loop, seqpacket
from xennet.bench.features import FEATURES, Connecting, Crossing
from xennet.bench.figures import LINK_SIZES, SECTIONS, Bench, Json, leaf, netmap_ways
from xennet.bench.link_speed import LINKS, Crossed
from xennet.bench.markdown import tables
from xennet.bench.netmap_speed import OverNetmap
from xennet.bench.polling import PollPage, pages
from xennet.bench.rounds import Contestant, Figure, race
from xennet.netmap.user.mapped_ring import Ring
from xennet.port.null import NullPort

_ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


@pytest.mark.parametrize(
    "way",
    [Vif("plain"), Kernels("plain"), Kernels("plain", log=True), seqpacket, copy_loop],
    ids=["vif", "kernels", "kernels with log", "seqpacket", "copy loop"],
)
def test_every_way_carries_frames_and_takes_time(way: Contestant) -> None:
    assert way(1514, 300) > 0


@pytest.mark.parametrize(
    "way",
    [
        fuzz_speed.Pages("plain", counted=False),
        fuzz_speed.Pages("plain", counted=True),
        fuzz_speed.Loop("plain"),
    ],
    ids=["pages", "counted", "loop"],
)
def test_pages_are_executed_in_every_way(way: fuzz_speed.Way) -> None:
    turn = way(1000)
    assert turn.executions == 1000
    assert turn.seconds > 0
    assert turn.packets > 500


@pytest.mark.parametrize("link", LINKS)
def test_every_link_is_crossed(engine: str, link: str) -> None:
    assert Crossed(engine, link)(1514, 3000) > 0


@pytest.mark.parametrize("size", LINK_SIZES)
def test_netmap_is_crossed_in_every_way(engine: str, size: int) -> None:
    for way in netmap_ways(engine, size).values():
        assert way(size, 1500) > 0


def test_frames_that_netmap_drops_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ring, "hand_over", lambda ring, slots=1: None)
    with pytest.raises(RuntimeError, match="0 of 100 frames arrived"):
        OverNetmap("plain")(60, 100)


@pytest.mark.skipif(why_not() != "", reason="no buses between processes here")
@pytest.mark.parametrize("flooded", [False, True])
def test_frames_come_from_another_process(engine: str, flooded: bool) -> None:
    way = OverBus(engine, flooded)
    assert way(1514, 2000) > 0
    shares = way.shares(1514, 2000)
    assert 0 <= shares.waiting <= shares.taking <= 1
    assert over_socket(1514, 300) > 0


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_is_crossed(name: str) -> None:
    size, make = FEATURES[name]
    assert make("plain")(size, 300) > 0


@pytest.mark.parametrize("to_guest", [False, True])
def test_guests_share_the_frames(to_guest: bool) -> None:
    assert Crossing("plain", guests=3, to_guest=to_guest)(60, 300) > 0


def test_the_first_frames_cross_pages_that_nobody_has_touched() -> None:
    assert Crossing("plain", guests=2, warm=0)(60, 1200) > 0


def test_frames_that_do_not_arrive_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NullPort, "push", lambda self, batch: None)
    with pytest.raises(RuntimeError, match="0 of 900 frames arrived"):
        Crossing("plain")(60, 300)


def test_connections_are_made_and_closed() -> None:
    assert Connecting("plain", queues=2)(0, 3) > 0


def test_the_harness_is_polled() -> None:
    assert PollPage("plain")(0, 1000) > 0
    assert len(set(pages())) > 900


def test_the_c_limit_compiles_and_carries(tmp_path: Path) -> None:
    reason = climit.missing()
    if reason:
        pytest.skip(reason)
    assert climit.CLimit(tmp_path)(9014, 1000) > 0
    assert climit.CLimit(tmp_path, guests=3)(9014, 3000) > 0


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was half as fast in the second round, for both.
    assert Figure((100.0, 50.0, 100.0)).of(Figure((200.0, 100.0, 200.0))) == 0.5


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """In place of the garbage collector, for which a process of tests has a lot to look through."""
    collector = Mock(spec=gc)
    monkeypatch.setattr(rounds, "gc", collector)
    return collector


def test_all_take_turns_and_no_garbage_is_collected_meanwhile(collector: Mock) -> None:
    turns: list[str] = []
    collector.freeze.side_effect = lambda: turns.append("frozen")

    def contestant(name: str) -> Contestant:
        def run(_size: int, _count: int) -> float:
            turns.append(name)
            return 1.0

        return run

    race({"a": contestant("a"), "b": contestant("b")}, 60, 3, 1.0, {"a": 1, "b": 1})
    assert turns == ["frozen", "a", "frozen", "b"] * 3
    assert collector.collect.call_count == collector.unfreeze.call_count == 6


def test_all_sections_make_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(name: str) -> Callable[[Bench], Json]:
        return lambda bench: {name: {"rounds": bench.rounds}}

    monkeypatch.setattr(figures, "SECTIONS", {name: one(name) for name in SECTIONS})
    bench = Bench(3, 0.1, lambda what: None)
    bench.missing.append("C limit: no gcc")
    found = figures.measure(bench, ["store", "vif"])
    assert found == {
        "format": "xennet-bench/1",
        "rounds": 3,
        "store": {"rounds": 3},
        "vif": {"rounds": 3},
        "missing": ["C limit: no gcc"],
    }
    assert list(found) == ["format", "rounds", "store", "vif", "missing"]


@pytest.mark.parametrize("name", ["vif", "log", "connect", "features"])
def test_a_section_is_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # One race of each kind of figure; what carries frames is tried above.
    monkeypatch.setattr(rounds, "count_for", lambda contestant, size, seconds: 100)
    monkeypatch.setattr(figures, "SIZES", (1514,))
    monkeypatch.setattr(features, "CONNECTS", 1)
    monkeypatch.setattr(features, "QUEUES", (1, 2))
    found = figures.measure(Bench(2, 0.01, lambda what: None, ("plain",)), [name])
    assert json.loads(json.dumps(found)) == found
    assert_leaves(found[name])
    assert all(row for table in tables(found) for row in table.rows)


def assert_leaves(found: Json) -> None:
    """Check that what has a spread has a median in it, and that there is one."""
    if "spread" in found:
        low, high = found["spread"]
        assert low <= found[next(key for key in found if key.endswith("_s"))] <= high
        return
    assert found
    for part in found.values():
        assert_leaves(part)


def test_sections_are_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def measured(bench: Bench, only: list[str]) -> Json:
        asked.append(only)
        return {"rounds": bench.rounds, "missing": []}

    monkeypatch.setattr(bench_main, "measure", measured)
    target, run = tmp_path / "figures.json", CliRunner().invoke
    arguments = ["--rounds", "2", "--json", f"{target}", "--only", "guests,vif"]
    assert run(bench_main.main, arguments).exit_code == 0
    assert json.loads(target.read_text()) == {"rounds": 2, "missing": []}
    assert run(bench_main.main, []).exit_code == 0
    assert asked == [["guests", "vif"], list(SECTIONS)]
    refused = run(bench_main.main, ["--only", "vif,gusts"])
    assert refused.exit_code == 2
    assert "there is no section 'gusts'; there are: vif, " in refused.output


#: A figure of every section, as a file has them.
_FIGURE = leaf(Figure((1e5, 2e5, 1.5e5)), of_c=Figure((2e5, 4e5, 3e5)))
_SEQPACKET = _FIGURE | {"of_seqpacket": 1.0}
_SAMPLE: Json = {
    "format": "xennet-bench/1",
    "rounds": 3,
    "vif": {"plain": {"60": _SEQPACKET, "1514": _SEQPACKET}},
    "kernels": {"plain": {"60": _SEQPACKET, "1514": _SEQPACKET}},
    "seqpacket": {"60": _SEQPACKET, "1514": _SEQPACKET},
    "harness": {"plain": {"calls_s": 75e3, "spread": [7e4, 8e4]}},
    "log": {"plain": {"off": _FIGURE, "on": _FIGURE | {"of_off": 0.5}}},
    "start": {
        "xennet --help": {
            "seconds": 0.25,
            "spread": [0.25, 0.5],
            "wall": 0.125,
            "wall_spread": [0.1, 0.2],
        }
    },
    "features": {"plain": {"GSO": _FIGURE | {"size": 64000, "of_first": 0.05, "of_memcpy": 0.5}}},
    "guests": {"plain": {"60": {"200": _FIGURE | {"cost_of_one": 2.0}}}},
    "first_use": {"C": {"60": _FIGURE | {"cost_of_warm": 40.0}}},
    "connect": {"plain": {"8": {"cycles_s": 100.0, "spread": [80.0, 120.0]}}},
    "links": {"plain": {"60": {"epair:netisr": _FIGURE | {"of_vif": 3.0}}}},
    "bus": {
        "SEQPACKET": _SEQPACKET,
        "bus, plain, flooded": _FIGURE | {"of_seqpacket": 0.5, "lock": 0.25, "lock_wait": 0.1},
    },
    "netmap": {"60": {"plain: pipe": _FIGURE | {"of_seqpacket": 3.0}}},
    "store": {
        "READ": {
            "1": {
                "requests_s": 1e4,
                "spread": [1e4, 1e4],
                "of_real": 0.5,
                "of_real_range": [0.25, 0.75],
                "best_of_best": 0.6,
                "cpu_of_real": 0.4,
            }
        }
    },
    "store_lone": {"xennet": {"seconds": 5e-4, "spread": [2.5e-4, 1e-3], "of_real": 2.0}},
    "store_start": {"xennet": {"seconds": 0.125, "spread": [0.125, 0.25]}},
    "store_growth": {"WRITE": {"xennet": 1.25}},
    "store_memory": {"xennet": {"few_kib": 25600, "many_kib": 51200, "emptied_kib": 30720}},
    "fuzz": {"atheris": {"executions_s": 17e3, "spread": [1e4, 2e4], "packets_a_page": 0.56}},
    "memory": {"10000": {"kib": 1000}, "1000000": {"kib": 1000}},
    "missing": ["C limit: no gcc"],
}


@pytest.mark.parametrize(
    "row",
    [
        "| vif, plain | 150,000 | 67% | 1.00 x | 0.500 x |",
        "| plain | 75,000 | 13% |",
        "| plain | 150,000 | 150,000 | 0.50 x |",
        "| xennet --help | 0.250 | 100% | 0.125 | 0.100 to 0.200 |",
        "| plain: GSO, 64000 bytes | 150,000 | 9,600 | 67% | 0.05 x | 0.50 x |",
        "| plain: 200 | 150,000 | 67% | 2.00 x |",
        "| C: 60 bytes | 150,000 | 67% | 40.00 x | 0.50 x |",
        "| plain: 8 | 100 | 40% |",
        "| plain: epair:netisr, 60 bytes | 150,000 | 67% | 3.00 x |",
        "| SEQPACKET | 150,000 | 67% | 1.00 x | - | - |",
        "| bus, plain, flooded | 150,000 | 67% | 0.50 x | 25% | 10% |",
        "| plain: pipe, 60 bytes | 150,000 | 67% | 3.00 x |",
        "| READ | 1 | 10,000 | 0% | - | 0.50 x | 0.25 to 0.75 | 0.60 x | 0.40 x |",
        "| xennet | 0.50 | 0.25 to 1.00 | 2.00 x |",
        "| WRITE | 1.25 x | - |",
        "| xennet | 25.0 | 50.0 | 30.0 |",
        "| atheris | 17,000 | 59% | 0.56 | - |",
        "| 1,000,000 | 1,000 | 1.00 x |",
    ],
)
def test_every_section_has_a_table(row: str) -> None:
    assert row in "\n".join(table.markdown() for table in tables(_SAMPLE)).splitlines()


def test_every_section_is_in_the_sample() -> None:
    assert set(SECTIONS) <= set(_SAMPLE)


def test_the_page_and_its_picture_come_from_the_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no picture")
    (tmp_path / "figures.json").write_text(json.dumps(_SAMPLE))
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    subprocess.run(
        [sys.executable, "tools/bench_doc.py", f"{tmp_path}/figures.json", "--docs", f"{tmp_path}"],
        check=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": f"{_ROOT}"},
    )
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Left out: C limit: no gcc." in text
    assert (tmp_path / "performance.svg").read_text().startswith("<?xml")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text('{"format": "else"}')
    command = [sys.executable, f"{_ROOT}/tools/bench_doc.py", f"{tmp_path}/figures.json"]
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "figures.json is no xennet-bench/1 but 'else'" in done.stderr


def test_interfaces_are_not_measured_by_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *args: True)
    assert taps.missing() == "/dev/net/tun and network namespaces take root"


def test_a_relay_between_two_stacks_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := taps.missing():
        pytest.skip(reason)
    monkeypatch.setattr(taps, "_SLOW", (2, 0.01))
    monkeypatch.setattr(taps, "_FAST", (200, 0.002))
    table = taps.measure({taps.RELAY: taps.WAYS[taps.RELAY]}, rounds=1, seconds=1)
    (row,) = table.rows
    assert row[0] == taps.RELAY
    assert row[2::2] == ("1.00 x",) * 6
    assert float(row[1]) > 0


def test_programs_on_netmap_are_measured(tmp_path: Path) -> None:
    if reason := compiler.why_not():
        pytest.skip(reason)
    costs = netmap_programs.measure("plain", netmap_programs.built(tmp_path), 5000, calls=5)
    (row,) = netmap_programs.table({"plain": costs}).rows
    assert row[0] == "plain"
    assert all(float(cell.replace(",", "")) > 0 for cell in row[1:])
