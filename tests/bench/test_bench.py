"""The benchmark works and says what it means; its figures are not judged here."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from xennet.bench import climit, compiler, fuzz_speed, netmap_programs, rounds, taps
from xennet.bench.__main__ import BEGIN, END, _write
from xennet.bench.bus_speed import OverBus, Shares, over_socket, why_not
from xennet.bench.contestants import Kernels, Vif, copy_loop, seqpacket
from xennet.bench.features import FEATURES, Connecting, Crossing, FeatureResults
from xennet.bench.figures import LINK_SIZES, LOGGED, SEQPACKET, Results, netmap_ways
from xennet.bench.link_speed import LINKS, Crossed
from xennet.bench.markdown import tables
from xennet.bench.netmap_speed import OverNetmap
from xennet.bench.polling import PollPage, pages
from xennet.bench.rounds import Contestant, Figure, race
from xennet.netmap.user.mapped_ring import Ring
from xennet.port.null import NullPort


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


def test_tables_and_picture_are_written_between_the_marks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no picture")
    figure = Figure((1e5, 2e5, 1.5e5))
    ways = {"vif, plain": figure, SEQPACKET: figure}
    results = Results(
        rounds=3,
        frames={60: ways, 1514: ways},
        polls={"plain": figure},
        startup={"plain": figure},
        logs={"plain": {"plain": figure, LOGGED: figure}},
        features=FeatureResults(
            frames={"plain": dict.fromkeys(FEATURES, figure)},
            guests={"plain": {60: {1: figure, 200: Figure((5e4, 1e5, 1e5))}}},
            connects={"plain": {8: figure}},
        ),
        peaks={10_000: 1000, 1_000_000: 1000},
        missing=("C limit: no gcc",),
    )
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    _write(tmp_path, tables(results), results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| vif, plain | 150,000 | 67% | 1.00 x | - |" in text
    assert "| plain: GSO, 64000 bytes | 150,000 | 9,600 | 67% | 1.00 x |" in text
    assert "| plain: 200 | 100,000 | 50% | 2.00 x |" in text
    assert "| plain: 8 | 150,000 | 67% |" in text
    assert "Left out: C limit: no gcc." in text
    assert (tmp_path / "performance.svg").read_text().startswith("<?xml")


def test_links_and_buses_have_tables() -> None:
    figure = Figure((1e5, 2e5, 1.5e5))
    results = Results(
        rounds=3,
        frames={},
        polls={},
        startup={},
        logs={},
        links={"plain": {60: {"vif": figure, "epair:netisr": Figure((3e5, 6e5, 3e5))}}},
        bus={SEQPACKET: figure, "bus, plain, flooded": Figure((5e4, 1e5, 1e5))},
        lock={"bus, plain, flooded": Shares(0.25, 0.1)},
        netmap={60: {SEQPACKET: figure, "plain: pipe": Figure((3e5, 6e5, 3e5))}},
    )
    text = "\n".join(table.markdown() for table in tables(results))
    assert "| plain: epair:netisr, 60 bytes | 300,000 | 100% | 3.00 x |" in text
    assert "| bus, plain, flooded | 100,000 | 50% | 0.50 x | 25% | 10% |" in text
    assert f"| {SEQPACKET} | 150,000 | 67% | 1.00 x | - | - |" in text


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
