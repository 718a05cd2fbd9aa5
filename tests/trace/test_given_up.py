"""A driver that gives the other end up says so in a recording, at the rule that was broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet.cli import main
from xennet.trace import Trace


@pytest.mark.parametrize(
    ("scenario", "dom", "what", "rule", "ring"),
    [
        ("hostile-packet", 0, "frontend given up", "F1", "tx"),
        ("hostile-response", 1, "backend given up", "B1", "rx"),
    ],
)
def test_the_other_end_is_given_up_by_a_rule(
    scenario: str, dom: int, what: str, rule: str, ring: str, tmp_path: Path
) -> None:
    assert main(["trace", "lifecycle", scenario, "-o", str(tmp_path / "life.jsonl")]) == 0
    trace = Trace.read(tmp_path / "life.jsonl")
    (told,) = [event for event in trace.of_kind("packet") if "given up" in event["what"]]
    assert (told["dom"], told["what"], told["rule"], told["ring"]) == (dom, what, rule, ring)
    assert told["why"]
