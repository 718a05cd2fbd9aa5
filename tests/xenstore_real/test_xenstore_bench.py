"""The benchmark measures what it says, with the real daemon or without."""

from __future__ import annotations

import gc
from unittest.mock import Mock

import pytest

from xennet.bench import rounds, xenstore
from xennet.bench.real_xenstored import CannotStartError
from xennet.bench.xenstore_load import WORKLOADS, Load


@pytest.fixture(autouse=True)
def two_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xenstore, "CLIENTS", (2,))
    monkeypatch.setattr(xenstore, "CROWD", 1)
    monkeypatch.setattr(xenstore, "ALONE", 2)


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of tests has a lot to look through."""
    monkeypatch.setattr(rounds, "gc", Mock(spec=gc))


def quick() -> xenstore.Results:
    return xenstore.measure(rounds=1, seconds=0.005, nodes=(10, 250))


def test_every_workload_is_measured_next_to_the_real_daemon(real_xenstored: None) -> None:
    results = quick()
    assert results.reason == ""
    assert [(r.workload, r.clients) for r in results.rates] == [
        (workload, 2) for workload in WORKLOADS
    ]
    ratios = [r.figures[xenstore.OURS].of(r.figures[xenstore.REAL]) for r in results.rates]
    assert min(ratios) > 0.05
    assert {growth.workload for growth in results.growth} == set(xenstore.GROWING)
    servers = {xenstore.OURS, xenstore.REAL}
    assert set(results.memory_kib) == set(results.lone) == set(results.starts) == servers
    assert all(rate.busy[name].median > 0 for rate in results.rates for name in servers)


def test_without_the_real_daemon_ours_is_measured_and_the_reason_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise CannotStartError("no gcc (to compile the shim)")

    monkeypatch.setattr(xenstore, "RealXenstored", missing)
    monkeypatch.setattr(xenstore, "WORKLOADS", {"READ": Load.read})
    monkeypatch.setattr(xenstore, "GROWING", ("READ",))
    results = quick()
    assert results.reason == "no gcc (to compile the shim)"
    names = [results.lone, results.starts, results.memory_kib]
    names += [rate.figures for rate in results.rates]
    assert all(set(found) == {xenstore.OURS} for found in names)
