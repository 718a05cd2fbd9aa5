"""Every scenario ends as it should, and one that stops half way says why."""

from __future__ import annotations

import re

import pytest
from attrs import evolve

from xennet.cli import main
from xennet.lifecycle import scenarios
from xennet.lifecycle.scenarios import SCENARIOS, perform

LONG = "reconnect-1000"
BLOCKED = [name for name, scenario in SCENARIOS.items() if scenario.blocked]


@pytest.fixture(autouse=True)
def _few_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "RECONNECTS", 20)


def told(name: str) -> list[str]:
    lines: list[str] = []
    assert perform(SCENARIOS[name], lines.append), "\n".join(lines)
    return lines


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_should(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["lifecycle", name])
    out = capsys.readouterr().out
    assert code == 0, out
    assert out.endswith("GOOD: it ended as it should\n")
    assert re.search("^States: /local/domain/[12]/device/vif/0/state", out, re.MULTILINE)
    assert "no domain holds anything" in out


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_story_is_the_same_every_time_and_names_no_machine(name: str) -> None:
    lines = told(name)
    assert lines == told(name)
    assert not [line for line in lines if re.search(r"0x[0-9a-f]{6,}|/tmp|/home|/work", line)]


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("no-script-answer", "/local/domain/0/backend/vif/1/0/hotplug-status"),
        ("script-fails", '/hotplug-error = "bridge xbr0 does not exist"'),
        ("garbage-ring-ref", "/local/domain/1/device/vif/0/tx-ring-ref"),
        ("missing-event-channel", "/local/domain/1/device/vif/0/event-channel"),
        ("guest-closes", "/local/domain/1/device/vif/0/state = Closed (6)"),
        ("toolstack-detaches", "/local/domain/1/device/vif/0 does not exist"),
        ("backend-closes", "/local/domain/0/backend/vif/1/0/state = Closed (6)"),
        ("straight-to-closed", "/local/domain/1/device/vif/0/state = Closed (6)"),
        ("directory-removed", "/local/domain/0/backend/vif/1/0 does not exist"),
        ("guest-crash", "domain 1, which has the frontend, does not run"),
        ("backend-reload-without-udev", "backend/vif/1/0/hotplug-status does not exist"),
        ("hostile-packet", "packets for it that were dropped: 10)"),
        ("hostile-response", "[B1; raw word 00001388]"),
        ("guest-stops-receiving", "queue 0 of vif1.0: the guest has posted no receive buffers"),
        ("rate-limited", '/rate = "100,1000000"'),
    ],
)
def test_a_scenario_that_stops_names_the_node_or_counter(name: str, node: str) -> None:
    assert [line for line in told(name) if line.startswith("  because ") and node in line]


def test_every_blocked_scenario_is_in_the_table_of_expected_nodes() -> None:
    marks = test_a_scenario_that_stops_names_the_node_or_counter.pytestmark
    assert sorted(row[0] for row in marks[0].args[1]) == sorted(BLOCKED)


def test_a_slow_script_is_named_only_until_it_has_answered() -> None:
    lines = told("slow-script")
    assert sum("hotplug script has not answered" in line for line in lines) == 1
    assert lines.index("Traffic can pass.") > lines.index("Now the hotplug script runs.")


def test_a_scenario_that_does_not_end_as_it_should_is_bad() -> None:
    lines: list[str] = []
    assert not perform(evolve(SCENARIOS["guest-closes"], blocked=""), lines.append)
    assert lines[-1] == "BAD: the vif is blocked; frames were lost"
    assert not perform(evolve(SCENARIOS["suspend-resume"], blocked="a node"), lines.append)
    assert lines[-1] == "BAD: no reason names a node"


def test_without_a_name_all_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(SCENARIOS)
    assert LONG in listed


def test_an_unknown_name_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle", "no-such-life"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "xennet: There is no scenario 'no-such-life'; 'xennet lifecycle' lists them.\n",
    )
