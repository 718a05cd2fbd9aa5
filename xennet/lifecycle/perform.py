"""Plays a scenario, tells it, and judges how it ended."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import Counting, Scene, uncounted
from xennet.lifecycle.told import Told


@frozen
class Ending:
    """Whether it ended as it should, and the ``reasons`` for that."""

    good: bool
    reasons: tuple[str, ...]


def perform(scenario: Scenario, say: Callable[[str], None], counting: Counting = uncounted) -> bool:
    """Play ``scenario``, tell it to ``say`` line by line; whether it ended as it should."""
    return play(scenario, lambda told: say(told.line), counting).good


def play(
    scenario: Scenario, tell: Callable[[Told], None], counting: Counting = uncounted
) -> Ending:
    """Play ``scenario`` and tell it to ``tell``.

    Wrong is: what was not as it should be on the way; a vif without a reason that should be
    blocked, or the other way round; frames of the trial that did not arrive; anything that is left
    after teardown, in the hypervisor or in the store.
    """
    scene = Scene(tell, scenario.kind, scenario.policy, scenario.front, counting)
    try:
        tell(Told("title", f"{scenario.name}: {scenario.shows}"))
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
