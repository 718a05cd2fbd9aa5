"""Play record files and tell where the device does something else than the real module did."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from xennet.netmap.replay.control_step import masked
from xennet.netmap.replay.prologue_tables import table
from xennet.netmap.replay.record_limits import MOST_FILE_BYTES, MOST_SECONDS
from xennet.netmap.replay.recorded_machine import Machine
from xennet.netmap.replay.steps import STEPS
from xennet.netmap.replay.unrecorded import inserted, why_not_playable

Shown = dict[str, Any]
#: Values in each other, at most; those of a record of the module are eight.
_DEEPEST = 50


class RecordError(Exception):
    """The file is no record of the form that is played."""


@frozen
class Difference:
    """The first step of a case in which the device differs: its number in the record, what it does,
    the value that differs, what was recorded and what came."""

    step: int
    what: str
    key: str
    recorded: Any
    actual: Any

    def lines(self) -> list[str]:
        """The difference for a reader."""
        return [
            f"step {self.step}: {self.what}",
            f"  {self.key}",
            f"    recorded  {_short(self.recorded, self.actual)}",
            f"    here      {_short(self.actual, self.recorded)}",
        ]


@define
class Outcome:
    """How a case went. Not played: ``why`` says the reason, and there is no difference."""

    case_id: str
    defect: bool = False
    difference: Difference | None = None
    why: str | None = None


@define
class Played:
    """The outcomes of one file."""

    outcomes: list[Outcome] = field(factory=list)

    @property
    def agree(self) -> list[Outcome]:
        """Cases in which every step was as recorded."""
        return [o for o in self.outcomes if o.difference is None and o.why is None]

    @property
    def differ(self) -> list[Outcome]:
        """Cases with a difference, those apart that are marked as defects of the module."""
        return [o for o in self.outcomes if o.difference is not None and not o.defect]

    @property
    def defects(self) -> list[Outcome]:
        """Cases that are marked as defects, in which the device does something else."""
        return [o for o in self.outcomes if o.difference is not None and o.defect]

    @property
    def not_played(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.why is not None]


def read_record(path: Path) -> Any:
    """The JSON value of a file. Raises RecordError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_FILE_BYTES + 1)
        if len(raw) > MOST_FILE_BYTES:
            raise RecordError(f"{path}: no record of netmap (more than {MOST_FILE_BYTES} bytes)")
        record = json.loads(raw)
    except OSError as e:
        raise RecordError(f"{path}: {e.strerror}") from e
    except ValueError as e:  # no JSON; no UTF-8; a number of thousands of digits
        raise RecordError(f"{path}: no record of netmap ({type(e).__name__}: {e})") from e
    except RecursionError as e:
        raise _too_deep(path) from e
    level = [record]
    for _ in range(_DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
    if level:
        raise _too_deep(path)
    return record


def _too_deep(path: Path) -> RecordError:
    return RecordError(f"{path}: no record of netmap (more than {_DEEPEST} values in each other)")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def load(path: Path) -> list[dict[str, Any]]:
    """The cases of a record file. Raises RecordError."""
    return cases_of(path, read_record(path))


def cases_of(path: Path, record: Any) -> list[dict[str, Any]]:
    """The cases of ``record``, which was in the file ``path``. Raises RecordError."""
    cases = record.get("cases") if isinstance(record, dict) else None
    if not isinstance(cases, list):
        raise RecordError(f"{path}: no record of netmap (neither cases nor names nor regions)")
    for number, case in enumerate(cases):
        if not isinstance(case, dict):
            raise RecordError(f"{path}: case number {number}: no object of id and steps")
        case_id, steps = case.get("id"), case.get("steps")
        if not (isinstance(case_id, str) and case_id):
            raise RecordError(f"{path}: case number {number}: its id is no word")
        if not isinstance(steps, list):
            raise RecordError(f"{path}: case {case_id!r}: no list of steps")
        for place, step in enumerate(steps):
            if not (isinstance(step, dict) and isinstance(step.get("op"), str)):
                raise RecordError(f"{path}: case {case_id!r}: step {place}: no object with an op")
    return cases


def play(cases: list[dict[str, Any]]) -> Played:
    """Play the cases of one file on one machine, in their order, as they were recorded. Raises
    RecordError if they take too long."""
    machine = Machine()
    played = Played()
    until = time.process_time() + MOST_SECONDS
    for case in cases:
        outcome = Outcome(case["id"], bool(case.get("defect")), why=why_not_playable(case["id"]))
        if outcome.why is None:
            if time.process_time() > until:
                raise RecordError(f"case {case['id']!r}: more than {MOST_SECONDS} s until here")
            machine.begin()
            unknown = {step["op"] for step in case["steps"]} - STEPS.keys() - {"table"}
            if unknown:
                outcome.why = f"no step {', '.join(sorted(unknown))}"
            else:
                outcome.difference = _play_case(machine, case)
        played.outcomes.append(outcome)
    machine.begin()
    return played


def _play_case(machine: Machine, case: dict[str, Any]) -> Difference | None:
    more = inserted(case["id"])
    difference = None
    until = time.process_time() + MOST_SECONDS
    for number, step in enumerate(case["steps"]):
        if time.process_time() > until:
            raise RecordError(
                f"case {case['id']!r}: more than {MOST_SECONDS} s until step {number}"
            )
        found: list[Difference | Shown | None] = []
        found += [_done(machine, case["id"], number, extra) for extra in more.get(number, ())]
        # Also behind a difference the rest is done: the next case begins where this one ends.
        found.append(_play_step(machine, case["id"], number, step))
        difference = difference or _first(found)
    last = len(case["steps"])
    return difference or _first(
        [_done(machine, case["id"], last, extra) for extra in more.get(-1, ())]
    )


def _first(found: Sequence[Difference | Shown | None]) -> Difference | None:
    return next((one for one in found if isinstance(one, Difference)), None)


def _done(machine: Machine, case_id: str, number: int, step: dict[str, Any]) -> Difference | Shown:
    """Do a step. Returns what is shown of it in the record's form, or why it cannot be played."""
    try:
        if step["op"] == "table":
            return table(machine, case_id, step)
        shown = STEPS[step["op"]](machine, step)
        if "opts_out" in shown:
            shown["opts_out"] = _masked_options(step.get("opts_out"), shown["opts_out"])
    except Exception as e:
        return Difference(number, _what(step), "the step cannot be played", None, repr(e))
    return shown


def _play_step(
    machine: Machine, case_id: str, number: int, step: dict[str, Any]
) -> Difference | None:
    done = _done(machine, case_id, number, step)
    if isinstance(done, Difference):
        return done
    for key, shown in done.items():
        recorded = step.get(key)
        if shown != recorded:
            return Difference(number, _what(step), *_narrowed(key, recorded, shown))
    return None


def _narrowed(key: str, recorded: Any, actual: Any) -> tuple[str, Any, Any]:
    """Of a list that differs in one row, that row."""
    if isinstance(recorded, list) and isinstance(actual, list) and len(recorded) == len(actual):
        for i, (one, other) in enumerate(zip(recorded, actual, strict=True)):
            if one != other:
                return f"{key}[{i}]", one, other
    return key, recorded, actual


def _masked_options(recorded: Any, actual: list[list[Any]]) -> list[list[Any]]:
    if not isinstance(recorded, list) or len(recorded) != len(actual):
        return actual
    pairs = zip(recorded, actual, strict=True)
    return [
        [*option[:3], masked(r[3], option[3]) if isinstance(r[3], str) else option[3]]
        for r, option in pairs
    ]


_NAMES = ("fd", "reqtype", "name", "ring", "events", "length", "dev", "cmd")


def _what(step: dict[str, Any]) -> str:
    return " ".join([step["op"], *(f"{name}={step[name]}" for name in _NAMES if name in step)])


def _short(value: Any, other: Any, width: int = 160) -> str:
    """A value in one line; of a long one the part from where it differs on."""
    text, against = str(value), str(other)
    if len(text) <= width:
        return text
    same = next((i for i, (a, b) in enumerate(zip(text, against, strict=False)) if a != b), 0)
    begin = max(0, same - 20)
    return f"{'... ' if begin else ''}{text[begin : begin + width]} ..."
