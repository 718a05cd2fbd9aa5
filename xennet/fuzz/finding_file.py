"""A finding in a file: its input, and in a section more what was wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import evolve, frozen

from xennet.fuzz.container import ContainerError, read_file, write_file
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.target import Finding

#: The section that no target reads.
_SECTION = "finding"


@frozen
class Recorded:
    """What is in a file: an input, the finding that it had, None for an input of a corpus, and the
    rules behind which it was found."""

    fuzz_input: FuzzInput
    finding: Finding | None = None
    known: frozenset[str] = frozenset()


def write_finding(path: Path, recorded: Recorded) -> None:
    """Write a finding to ``path``. Raises OSError."""
    finding = recorded.finding
    assert finding is not None
    about = {"rule": finding.rule, "where": finding.where, "known": sorted(recorded.known)}
    write_file(path, recorded.fuzz_input.with_section(_SECTION, json.dumps(about).encode()))


def read_recorded(path: Path) -> Recorded:
    """What is in ``path``. Raises ContainerError, OSError."""
    whole = read_file(path)
    kept = tuple(pair for pair in whole.sections if pair[0] != _SECTION)
    fuzz_input = evolve(whole, sections=kept)
    if kept == whole.sections:
        return Recorded(fuzz_input)
    try:
        about = json.loads(whole.section(_SECTION))
        rule, where, known = about["rule"], about["where"], about["known"]
        if not all(isinstance(text, str) for text in (rule, where, *known)):
            raise TypeError("not text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContainerError(str(path), 0, f"its finding cannot be read: {error}") from error
    return Recorded(fuzz_input, Finding(rule, where), frozenset(known))
