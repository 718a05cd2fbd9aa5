"""Every scenario, stopped after every single delivery: there is a reason, or traffic passes.

A reason is evidence: a node with its value, a counter, a queue, a domain. Reasons are asked for
after each delivery of one play. Where there is none the scenario is played again up to there, for
the first and the last delivery of each such stretch, and then frames have to arrive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scenarios import SCENARIOS, reconnects
from xennet.lifecycle.scene import TRIAL, Scene
from xennet.lifecycle.why import why
from xennet.runloop import Delivery, RunLoop

EVIDENCE = re.compile(
    r"/(local|libxl)/\S+"  # a node or a directory
    r"|\b(domain|queue) \d+\b|\b\w+ \(\d\)"  # who, or a state
    r"|raw words? [0-9a-f]{8}|: \d+$|\b0 frames$"  # what was in a slot, or a counter
)


@pytest.fixture(autouse=True, scope="module")
def _few_reconnects() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconnects, "RECONNECTS", 1)
        patch.setattr(reconnects, "_WARM_UP", 1)
        yield


class StoppedError(Exception):
    """The play ends here."""


def play(
    scenario: Scenario,
    after: Callable[[Scene, int], None],
    choose: Callable[[int], int] = lambda ready: 0,
) -> Scene:
    """Play with ``after`` called after each delivery, with its number; it may raise StoppedError
    (the stage is left as it is then). ``choose`` picks each delivery out of so many."""
    scene = Scene(lambda line: None, scenario.kind, scenario.policy, scenario.front)
    step, made = RunLoop.step, 0

    def counted(loop: RunLoop, choice: int | Delivery | None = None) -> Delivery | None:
        nonlocal made
        ready = len(loop.ready())
        delivery = step(loop, choose(ready) if ready > 1 and choice is None else choice)
        if delivery is not None:
            made += 1
            after(scene, made)
        return delivery

    with pytest.MonkeyPatch.context() as patch, suppress(StoppedError):
        patch.setattr(RunLoop, "step", counted)
        scenario.play(scene)
    return scene


def reasons_of(scene: Scene) -> list[str]:
    """The why report; every line of it has evidence."""
    reasons = why(scene.vif)
    for reason in reasons:
        assert EVIDENCE.search(reason), reason
    return reasons


def silent(scenario: Scenario) -> list[int]:
    """After which deliveries there is no reason; those that there are have evidence."""
    found = []

    def ask(scene: Scene, made: int) -> None:
        if plugged(scene) and not reasons_of(scene):
            found.append(made)

    play(scenario, ask).destroy()
    return found


def edges(numbers: list[int]) -> list[int]:
    """First and last of each stretch of consecutive numbers."""
    known = set(numbers)
    return [n for n in numbers if n - 1 not in known or n + 1 not in known]


def plugged(scene: Scene) -> bool:
    """Whether the toolstack has attached the vif."""
    return hasattr(scene, "vif") and hasattr(scene.vif, "operation")


def stop_after(end: int) -> Callable[[Scene, int], None]:
    def stop(scene: Scene, made: int) -> None:
        if made == end:
            raise StoppedError

    return stop


def check_traffic(scene: Scene) -> None:
    """All frames of a trial arrive; or what was about to happen (a claim of 1000 requests, the last
    of the credit) has now, and there is a reason."""
    before = scene.in_guest.received, scene.in_host.received
    scene.both_have_frames(TRIAL)
    scene.vif.kick()
    scene.settle()
    after = scene.in_guest.received, scene.in_host.received
    passed = after[0] - before[0] >= TRIAL and after[1] - before[1] >= TRIAL
    assert passed or reasons_of(scene)


@pytest.mark.parametrize("name", SCENARIOS)
def test_wherever_it_stops_there_is_a_reason_or_traffic_passes(name: str) -> None:
    scenario = SCENARIOS[name]
    ends = silent(scenario)
    assert ends or scenario.blocked, "it never connects"
    for end in edges(ends):
        scene = play(scenario, stop_after(end))
        assert why(scene.vif) == []
        check_traffic(scene)
        scene.destroy()


@given(name=st.sampled_from(sorted(SCENARIOS)), seed=st.integers(0, 999), end=st.integers(1, 150))
@settings(max_examples=50, deadline=None)
def test_the_same_holds_in_any_order_of_deliveries(name: str, seed: int, end: int) -> None:
    choose = Random(seed).randrange
    scene = play(SCENARIOS[name], stop_after(end), choose)
    if plugged(scene) and not reasons_of(scene):
        check_traffic(scene)
    scene.destroy()
