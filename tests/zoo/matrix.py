"""Every mutant under every check (``make zoo``): ``matrix.py [--write] [ID ...]``.

Compares with ``failing.json``, or writes it. Ends with exit code 1 if something differs. With ids
(or patterns of ids) of mutants, those.

"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from zoo import (
    BEGIN,
    DOCUMENT,
    END,
    FAILING,
    SOUND,
    TARGETS,
    Exhibit,
    control_failed,
    exhibits,
    expected,
    failing,
    table,
)

from xennet.check.check import Check, Side, all_checks
from xennet.engine.choice import using
from xennet.netback.xnb.known import Rows

#: Rows of xnb that are looked at in any life; others only where they make a difference.
_EVERYWHERE = frozenset({"A16", "A17", "B10", "C1", "C5", "C7", "C8", "C10"})


def row_of(exhibit: Exhibit, checks: list[Check], base: list[str]) -> dict[str, list[str]]:
    """What fails on a mutant of ``checks``, and on its control twins; ``base`` fails anyway where
    it is not among them."""
    with exhibit.applied() as target:
        found = failing(target, checks)
    left = set(base) - {one.id for one in checks}
    return {
        "fails": sorted({*found, *left}),
        "controls": sorted(one for one, result in found.items() if control_failed(result)),
    }


def asked() -> dict[str, set[str]]:
    """Check -> the rows of xnb that its plays come to. Where a row is not among them, a driver that
    has it does the same as one that has not."""
    seen: set[str] = set()
    fixed = Rows.fixed

    def watched(rows: Rows, row: str) -> bool:
        seen.add(row)
        return fixed(rows, row)

    found = {}
    Rows.fixed = watched  # type: ignore[method-assign]
    try:
        with using("plain"):
            for one in all_checks(Side.NETBACK):
                seen.clear()
                failing(TARGETS[SOUND], [one])
                found[one.id] = set(seen)
    finally:
        Rows.fixed = fixed  # type: ignore[method-assign]
    return found


def base_rows(names: Iterable[str]) -> dict[str, list[str]]:
    """What fails on each target that has no mutant."""
    rows = {}
    for name in sorted(set(names)):
        with using("plain"):
            rows[name] = sorted(failing(TARGETS[name], all_checks(TARGETS[name].side)))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write failing.json")
    parser.add_argument("ids", nargs="*")
    arguments = parser.parse_args()
    old: dict[str, Any] = json.loads(FAILING.read_text()) if FAILING.exists() else {}
    new = {name: dict(old.get(name, {})) for name in ("targets", "mutants")}
    wanted = [
        one
        for one in exhibits().values()
        if one.target
        and (not arguments.ids or any(fnmatchcase(one.id, id) for id in arguments.ids))
    ]
    new["targets"] |= base_rows(one.target for one in wanted)
    rows_asked = asked() if any(one.mutant is None for one in wanted) else {}
    for exhibit in wanted:
        base = new["targets"][exhibit.target]
        defect = exhibit.row.removeprefix("xnb ")
        checks = [
            one
            for one in all_checks(TARGETS[exhibit.target].side)
            if exhibit.mutant or defect in _EVERYWHERE or defect in rows_asked[one.id]
        ]
        row = new["mutants"][exhibit.id] = row_of(exhibit, checks, base)
        news = sorted(set(row["fails"]) - set(base))
        print(f"{exhibit.id}: {len(news)} fail, {len(row['controls'])} controls", flush=True)
    new["mutants"] = {one: new["mutants"][one] for one in exhibits() if one in new["mutants"]}
    seen = {one for row in new["mutants"].values() for one in row["fails"]}
    every = {one.id for one in all_checks()}
    left = every - seen
    for check in sorted(left):
        print(f"nothing fails {check}")
    if arguments.write:
        FAILING.write_text(written(new))
        expected.cache_clear()
        before, _, behind = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + "\n" + table() + "\n" + END + behind.partition(END)[2])
    same = new == old
    print("as failing.json says" if same else "other than failing.json says")
    return 0 if same or arguments.write else 1


def written(rows: dict[str, Any]) -> str:
    """The rows as JSON, one mutant in a line."""
    parts = []
    for name, entries in rows.items():
        lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
        parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
