"""Plays a scenario, tells it line by line, and judges how it ended."""

from __future__ import annotations

from collections.abc import Callable

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import Stage


def perform(scenario: Scenario, say: Callable[[str], None]) -> bool:
    """Play ``scenario``, tell it to ``say``; whether it ended as it should.

    Wrong is: what was not as it should be on the way; a vif without a reason that should be
    blocked, or the other way round; frames of the trial that did not arrive; anything that is left
    after teardown, in the hypervisor or in the store.
    """
    stage = Stage(say, scenario.kind, scenario.policy, scenario.front)
    try:
        say(f"{scenario.name}: {scenario.shows}")
        scenario.play(stage)
        say(f"States: {stage.house.states(stage.vif)}")
        reasons = stage.tell_why()
        wrong = list(stage.wrong)
        if not scenario.blocked:
            wrong += ["the vif is blocked"] if reasons else []
            wrong += [] if stage.trial() else ["frames were lost"]
        else:
            paths = stage.vif.paths
            expected = scenario.blocked.format(frontend=paths.frontend, backend=paths.backend)
            if not any(expected in reason for reason in reasons):
                wrong.append(f"no reason names {expected}")
        wrong += stage.tear_down()
        say(f"BAD: {'; '.join(wrong)}" if wrong else "GOOD: it ended as it should")
        return not wrong
    finally:
        stage.destroy()
