"""`make mutants`: break one rule of the source at a time; the test that guards it must fail.

tests/mutants.toml has the mutants: a file, the source there before and after, the rule that is
broken, and the test that kills it. Each is applied to a private copy of the package, in which only
its killer runs. A mutant that survives is an open bug of the suite.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "mutants.toml"
#: What a private copy is made of.
COPIED = ("xennet", "tests", "examples", "pyproject.toml")
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
#: Every run is alike, and its reasons are not cut off.
FIXED = {"PYTHONHASHSEED": "0", "COLUMNS": "200"}
#: Exit codes of pytest.
PASSED, FAILED = 0, 1
#: A line of pytest's short summary, and why the test failed.
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - (.*))?$", re.MULTILINE)


@frozen
class Mutant:
    """``before`` occurs once in ``file`` (a path in the repository) and becomes ``after``.

    ``rule`` is what that breaks, ``killer`` the node id of the test that has to fail, with or
    without its parameters.
    """

    id: str
    rule: str
    file: str
    before: str
    after: str
    killer: str

    def problem(self, root: Path = ROOT) -> str:
        """Why it cannot be tried: its source or its killer is not there. "" if it can."""
        path = root / self.file
        if not path.is_file():
            return f"there is no {self.file}"
        count = path.read_text().count(self.before)
        if count != 1:
            return f"{self.file} has its source {count} times: {self.before.strip()!r}"
        if self.before == self.after:
            return "it changes nothing"
        file, _, name = self.killer.partition("::")
        if name.partition("[")[0] not in tests_of(root / file):
            return f"there is no test {self.killer}"
        return ""


@frozen
class Outcome:
    """What became of a mutant: ``fate`` in words, ``killed`` only if its killer failed."""

    mutant: Mutant
    killed: bool
    fate: str
    reason: str = ""


@cache
def tests_of(path: Path) -> frozenset[str]:
    """Names of the tests in a file, as in node ids; none if there is no such file."""
    if not path.is_file():
        return frozenset()
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".TestCase"):
            # A state machine of Hypothesis, which unittest runs.
            names |= {f"{ast.unparse(target)}::runTest" for target in node.targets}
    return frozenset(names)


def load(table: Path) -> list[Mutant]:
    """The mutants of a table. ValueError for one without any, one that is not complete, one of the
    zoo, and an id used twice."""
    try:
        rows = tomllib.loads(table.read_text())["mutant"]
    except KeyError:
        raise ValueError(f"{table}: it has no [[mutant]]") from None
    except ValueError as error:
        raise ValueError(f"{table}: {error}") from None
    mutants: dict[str, Mutant] = {}
    for row in rows:
        if "target" in row:
            raise ValueError(
                f"{table}: mutant {row.get('id')} is of the zoo, where conformance checks find it "
                f"and no test has to; `make zoo ONLY={row.get('id')}` runs it"
            )
        try:
            mutant = Mutant(**row)
        except TypeError as error:
            raise ValueError(f"{table}: mutant {row.get('id')}: {error}") from None
        if mutant.id in mutants:
            raise ValueError(f"{table}: two mutants are called {mutant.id}")
        mutants[mutant.id] = mutant
    return list(mutants.values())


def chosen(mutants: Sequence[Mutant], patterns: Sequence[str]) -> list[Mutant]:
    """Those whose id matches one of the shell ``patterns``, all if there are none."""
    for pattern in patterns:
        if not any(fnmatchcase(mutant.id, pattern) for mutant in mutants):
            raise ValueError(f"no mutant is called {pattern}")
    return [
        mutant
        for mutant in mutants
        if not patterns or any(fnmatchcase(mutant.id, pattern) for pattern in patterns)
    ]


class Copy:
    """A private copy of the package and its tests, in which one file is broken at a time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, place / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, place / name)

    def run(self, tests: Sequence[str], limit: float, *options: str) -> tuple[int | None, str]:
        """Exit code (None: not done in ``limit`` seconds) and output of pytest in the copy."""
        process = subprocess.Popen(
            [*PYTEST, *options, *tests],
            cwd=self.place,
            env={**os.environ, **FIXED, "PYTHONPATH": str(self.place)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return None, output
        return process.returncode, output

    def attempt(
        self, mutant: Mutant, tests: Sequence[str], limit: float, *options: str
    ) -> tuple[int | None, str]:
        """:meth:`run` while ``mutant`` is in place."""
        path = self.place / mutant.file
        # Compiled code is known by second and size of its source, which may both stay the same.
        compiled = Path(cache_from_source(path))
        source = path.read_text()
        try:
            path.write_text(source.replace(mutant.before, mutant.after))
            compiled.unlink(missing_ok=True)
            return self.run(tests, limit, *options)
        finally:
            path.write_text(source)
            compiled.unlink(missing_ok=True)


def judged(mutant: Mutant, code: int | None, output: str) -> Outcome:
    """What the run of a killer says."""
    if code is None:
        return Outcome(mutant, False, "NOT DONE IN TIME, which proves nothing")
    if code == FAILED:
        found = _SUMMARY.search(output)
        name, reason = (found[1], found[2] or "") if found else (mutant.killer, "")
        return Outcome(mutant, True, f"killed by {name.partition('::')[2]}", reason)
    if code != PASSED:
        return Outcome(mutant, False, f"NOT RUN, pytest exits with {code}:\n{output}")
    if " skipped" in output:
        return Outcome(mutant, False, f"NOT TRIED, its killer is skipped: {mutant.killer}")
    return Outcome(mutant, False, f"SURVIVED {mutant.killer}")


def failing_unbroken(copies: Sequence[Copy], killers: Sequence[str], limit: float) -> str:
    """What fails of ``killers`` although nothing is broken yet; "" if all is well."""

    def run(number: int) -> str:
        mine = killers[number :: len(copies)]
        if not mine:
            return ""
        code, output = copies[number].run(mine, limit * len(mine))
        return "" if code == PASSED else output or f"not done in {limit * len(mine):g} s"

    with ThreadPoolExecutor(len(copies)) as pool:
        return "\n".join(filter(None, pool.map(run, range(len(copies)))))


def hunted(mutants: Sequence[Mutant], copies: Sequence[Copy], limit: float) -> Iterator[Outcome]:
    """The outcome of each mutant, in order, as many at a time as there are copies."""
    idle: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        idle.put(copy)

    def hunt(mutant: Mutant) -> Outcome:
        copy = idle.get()
        try:
            return judged(mutant, *copy.attempt(mutant, [mutant.killer], limit, "-x"))
        finally:
            idle.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(hunt, mutants)


def seek(mutants: Sequence[Mutant], copy: Copy, tests: Sequence[str], limit: float) -> None:
    """Print which of ``tests`` fail for each mutant: candidates for its killer."""
    for mutant in mutants:
        code, output = copy.attempt(mutant, tests, limit)
        print(f"{mutant.id}: exit {code}")
        for name, reason in _SUMMARY.findall(output):
            print(f"    {name}  ({reason[:100]})", flush=True)


def options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("ids", nargs="*", help="only these (shell patterns); default: all")
    parser.add_argument("--table", type=Path, default=TABLE, help="default: tests/mutants.toml")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (default: 1)")
    parser.add_argument(
        "--limit", type=float, default=120, metavar="SECONDS", help="time for one (default: 120)"
    )
    parser.add_argument("--list", action="store_true", help="list them, run nothing")
    parser.add_argument("--reasons", action="store_true", help="say how each killer failed")
    parser.add_argument(
        "--seek",
        action="append",
        metavar="TESTS",
        help="run these instead of the killers, and say which of them fail",
    )
    given = parser.parse_args(words)
    if given.jobs < 1:
        parser.error("--jobs: at least one")
    return given


def main(words: Sequence[str] | None = None) -> int:
    """0 if every mutant was killed, else 1; 2 for a table or an option that is wrong."""
    given = options(words)
    try:
        mutants = chosen(load(given.table), given.ids)
    except (OSError, ValueError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if given.list:
        for mutant in mutants:
            print(f"{mutant.id}: {mutant.rule}\n    {mutant.file}\n    {mutant.killer}")
        return 0

    moved = [(mutant, problem) for mutant in mutants if (problem := mutant.problem())]
    for mutant, problem in moved:
        print(f"{mutant.id}: NOT TRIED, {problem}", flush=True)
    tried = [mutant for mutant in mutants if not mutant.problem()]
    with tempfile.TemporaryDirectory(prefix="xennet-mutants-") as place:
        nr_copies = max(1, min(given.jobs, len(tried)))
        copies = [Copy(Path(place, str(number))) for number in range(nr_copies)]
        if given.seek:
            seek(tried, copies[0], given.seek, given.limit)
            return 0
        killers = sorted({mutant.killer for mutant in tried})
        print(f"first, nothing is broken: {len(killers)} killers", flush=True)
        if failing := failing_unbroken(copies, killers, given.limit):
            print(f"{failing}\nA killer fails although nothing is broken: nothing is tried.")
            return 1
        survived = 0
        for outcome in hunted(tried, copies, given.limit):
            why = f" ({outcome.reason})" if given.reasons and outcome.reason else ""
            print(f"{outcome.mutant.id}: {outcome.fate}{why}", flush=True)
            survived += not outcome.killed
    print(f"{len(mutants)} mutants: {len(tried) - survived} killed, {survived + len(moved)} not")
    return 1 if survived or moved else 0


if __name__ == "__main__":
    sys.exit(main())
