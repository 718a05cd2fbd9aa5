"""The bug zoo: mutants of drivers, and what fails on each of them.

Files of mutants: ``field_bugs.toml``, ``more_bugs.toml`` (of those that no implementation shipped)
and ``orders.toml``; and each defect of xnb, which is a mutant by being the only one that is not
known. ``failing.json`` has what fails on each of them, as ``make zoo`` finds it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from xennet.check.builtin_target import BUILTIN, BuiltinNetback, BuiltinNetfront
from xennet.check.check import Check, Side
from xennet.check.runner import Result, run_checks
from xennet.check.target import Target
from xennet.engine.choice import using
from xennet.netback.xnb.known import FIXED
from xennet.netback.xnb.policy import xnb_policy
from xennet.netfront.options import NetfrontOptions
from xennet.testing.mutated import Mutant, load_mutants

HERE = Path(__file__).parent
FILES = ("field_bugs.toml", "more_bugs.toml", "orders.toml")
FAILING = HERE / "failing.json"
#: The document with the table of the zoo, and what is around that.
DOCUMENT = HERE.parent.parent / "docs" / "zoo.md"
BEGIN, END = "<!-- the zoo -->\n", "<!-- end of the zoo -->\n"

_LINUX_BACK = BUILTIN[Side.NETBACK, "linux"]
_LINUX_FRONT = BUILTIN[Side.NETFRONT, "linux"]
assert isinstance(_LINUX_FRONT, BuiltinNetfront)
assert isinstance(_LINUX_BACK, BuiltinNetback)
SOUND = "netback xnb, sound"


def xnb_but(row: str = "") -> BuiltinNetback:
    """FreeBSD's netback with all its defects known, but for ``row``."""
    return evolve(_LINUX_BACK, name="xnb, sound", policy=xnb_policy(FIXED.keys() - {row}))


#: The targets that mutants name, beside the built-in ones.
TARGETS: dict[str, Target] = {
    **{f"{side} {name}": target for (side, name), target in BUILTIN.items()},
    "netfront linux without checksums": evolve(
        _LINUX_FRONT, name="linux without checksums", options=NetfrontOptions(csum=False)
    ),
    SOUND: xnb_but(),
}


@frozen
class Exhibit:
    """A mutant in the zoo: ``row`` of its list ("field 3", "xnb A5"), ``bug`` in words, and either
    the ``target`` that it is played as, or the ``killer``, a test that fails on it, and why no peer
    sees it (``unseen``). ``blunt``: why control twins fail too."""

    id: str
    row: str
    bug: str
    target: str = ""
    killer: str = ""
    unseen: str = ""
    blunt: str = ""
    mutant: Mutant | None = field(default=None, repr=False)

    @contextmanager
    def applied(self) -> Iterator[Target]:
        """The target with the bug, within the block."""
        if self.mutant is not None:
            with applied_to(self.mutant, self.target) as target:
                yield target
        else:
            with using("plain"):
                yield xnb_but(self.row.removeprefix("xnb "))


@contextmanager
def applied_to(mutant: Mutant, target: str) -> Iterator[Target]:
    """The target called so with the mutant applied, within the block."""
    with using("plain"), mutant.applied() if mutant.mutations else nullcontext():
        yield TARGETS[target]


@cache
def exhibits() -> dict[str, Exhibit]:
    """All mutants, by id."""
    found = {}
    for name in FILES:
        mutants = load_mutants(HERE / name)
        for row in tomllib.loads((HERE / name).read_text())["mutant"]:
            keys = ("row", "bug", "target", "killer", "unseen", "blunt")
            said = {key: row.get(key, "") for key in keys}
            found[row["id"]] = Exhibit(row["id"], **said, mutant=mutants[row["id"]])
    xnb: dict[str, Any] = tomllib.loads((HERE / "xnb.toml").read_text())
    for row, instead in FIXED.items():
        more = xnb.get(row, {})
        target = "" if "unseen" in more else SOUND
        found[f"xnb-{row}"] = Exhibit(f"xnb-{row}", f"xnb {row}", f"not: {instead}", target, **more)
    return found


def failing(target: Target, checks: Iterable[Check]) -> dict[str, Result]:
    """The checks that fail on ``target``, by id."""
    return {result.check.id: result for result in run_checks(target, checks) if not result.good}


def control_failed(result: Result) -> bool:
    """Whether the control twin of a check is not as it has to be."""
    return any(problem.startswith("the control twin:") for problem in result.problems)


@cache
def expected() -> dict[str, Any]:
    """What failing.json says: of "targets" and of "mutants" the checks that fail."""
    found: dict[str, Any] = json.loads(FAILING.read_text())
    return found


def table() -> str:
    """The zoo as a table in Markdown: what each mutant is, and what fails on it."""
    lines = ["| mutant | of | bug | fails |", "|---|---|---|---|"]
    rows = expected()
    for one in exhibits().values():
        if not one.target:
            said = one.unseen + (f": `{one.killer}`" if one.killer else "")
        else:
            new = sorted(set(rows["mutants"][one.id]["fails"]) - set(rows["targets"][one.target]))
            some = ", ".join(f"`{name}`" for name in (new or rows["mutants"][one.id]["fails"])[:2])
            said = f"{some} and {len(new) - 2} more" if len(new) > 2 else some
        lines.append(f"| {one.id} | {one.row} | {one.bug} | {said} |")
    return "\n".join(lines) + "\n"
