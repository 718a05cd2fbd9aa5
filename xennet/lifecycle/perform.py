"""Plays a scenario and judges how it ended."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import Counting, Scene, uncounted
from xennet.lifecycle.transcript import Entry


@frozen
class Ending:
    """Whether a scenario ended as it should (``good``), and the ``reasons``."""

    good: bool
    reasons: tuple[str, ...]


def perform(scenario: Scenario, say: Callable[[str], None], counting: Counting = uncounted) -> bool:
    """Play ``scenario`` and call ``say(line)`` for each line. Returns whether it ended as it
    should."""
    return play(scenario, lambda entry: say(entry.line), counting).good


def play(
    scenario: Scenario, tell: Callable[[Entry], None], counting: Counting = uncounted
) -> Ending:
    """Play ``scenario`` and call ``tell(entry)`` for each entry of its transcript.

    It ends badly if an expectation on the way did not hold; if the vif is blocked and should not
    be, or the other way round; if frames of the trial did not arrive; or if teardown left something
    in the hypervisor or in the store.
    """
    scene = Scene(tell, scenario.kind, scenario.policy, scenario.front, counting)
    try:
        tell(Entry("title", f"{scenario.name}: {scenario.shows}"))
        scenario.play(scene)
        scene.tell_states()
        reasons = scene.tell_why()
        wrong = list(scene.wrong)
        if not scenario.blocked:
            good = "traffic passes, as it should"
            wrong += ["the vif is blocked"] if reasons else []
            wrong += [] if scene.trial() else ["frames were lost"]
        else:
            paths = scene.vif.paths
            expected = scenario.blocked.format(frontend=paths.frontend, backend=paths.backend)
            named = expected.strip("[; ")
            good = f"the vif is blocked, as it should be here, and a reason names {named}"
            if not any(expected in reason for reason in reasons):
                wrong.append(f"no reason names {expected}")
        wrong += scene.tear_down()
        ending = Ending(not wrong, tuple(wrong or (good, "nothing is left behind")))
        scene.tell_verdict(ending.good, "; ".join(ending.reasons))
        return ending
    finally:
        scene.destroy()
