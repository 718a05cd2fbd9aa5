"""A finding is executed again."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from attrs import frozen

from xennet.fuzz.container import ContainerError
from xennet.fuzz.finding_file import Recorded, read_recorded
from xennet.fuzz.target import Finding, Target
from xennet.fuzz.target_table import UnknownTargetError, open_target

#: Name of the JSON layout; a new number when a key changes its meaning or goes away.
FORMAT = "xennet-fuzz-replay/1"


class Replay(Enum):
    """What became of a finding; the value is an exit code."""

    SAME = 0
    DIFFERENT = 1
    GONE = 2


@frozen
class Replayed:
    """A finding that was executed again: what it is now, None for nothing."""

    recorded: Recorded
    now: Finding | None

    @property
    def verdict(self) -> Replay:
        """By their rules. An input without a finding is the same if there still is none."""
        then, now = self.recorded.finding, self.now
        if (then and then.rule) == (now and now.rule):
            return Replay.SAME
        return Replay.GONE if now is None else Replay.DIFFERENT

    @property
    def says(self) -> str:
        """What there was and what there is, in a sentence."""
        then, now = self.recorded.finding, self.now
        if self.verdict is Replay.SAME:
            return "nothing is wrong" if now is None else f"{now.rule}, {now.where}"
        was = "nothing" if then is None else f"{then.rule}, {then.where}"
        return f"it was {was}" if now is None else f"{now.rule}, {now.where}; it was {was}"

    def to_json(self) -> dict[str, Any]:
        """The same by name."""

        def told(finding: Finding | None) -> dict[str, str] | None:
            return None if finding is None else {"rule": finding.rule, "where": finding.where}

        return {
            "format": FORMAT,
            "target": self.recorded.fuzz_input.target,
            "verdict": self.verdict.name.lower(),
            "then": told(self.recorded.finding),
            "now": told(self.now),
        }


def open_recorded(path: Path) -> tuple[Recorded, Target]:
    """What is in the file ``path``, and its target. Raises ContainerError, OSError."""
    recorded = read_recorded(path)
    try:
        target = open_target(recorded.fuzz_input.target, recorded.known)
    except UnknownTargetError as error:
        raise ContainerError(str(path), 0, str(error)) from error
    return recorded, target


def replay(path: Path) -> Replayed:
    """Execute what is in ``path`` again. Raises ContainerError, OSError."""
    recorded, target = open_recorded(path)
    try:
        return Replayed(recorded, target.execute(recorded.fuzz_input))
    finally:
        target.close()
