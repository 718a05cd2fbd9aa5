"""The scenarios by topic: each module has a table of its own, and here are all of them."""

from __future__ import annotations

from xennet.lifecycle.perform import perform, play
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scenarios.backends import BACKENDS
from xennet.lifecycle.scenarios.closing import CLOSING
from xennet.lifecycle.scenarios.hostile import HOSTILE
from xennet.lifecycle.scenarios.keys import KEYS
from xennet.lifecycle.scenarios.moves import MOVES
from xennet.lifecycle.scenarios.reconnects import RECONNECT
from xennet.lifecycle.scenarios.stalls import STALLS
from xennet.lifecycle.scenarios.starts import KINDS, STARTS

__all__ = ["SCENARIOS", "Scenario", "perform", "play"]

_ALL = (*STARTS, *KEYS, *CLOSING, *BACKENDS, *MOVES, *RECONNECT, *HOSTILE, *STALLS, *KINDS)

#: Name -> scenario, in the order of a vif's life.
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
