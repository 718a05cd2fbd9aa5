"""`make explore`: the Hypothesis tests with fresh seeds, again and again, until the time is over.

Each run of pytest is a process of its own with a seed that the first one gives: memory stays flat,
and any run can be had again. A round runs every file of tests once and every state machine some
times more. What fails is kept in explore-out/: a report with the command that shows it again, and
the next `make explore` tries it first.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "explore-out"
#: State machines run this often in each round beside the run of their file.
WALKS = 4
#: Files or state machines of one run: pytest takes a second to begin.
TOGETHER = 3
#: Exit codes of pytest: all passed, no test was asked for that there is, no test is left.
PASSED, NO_SUCH_TEST, NO_TEST = 0, 4, 5
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
ONLY = ["-m", "hypothesis"]
RESULTS = "XENNET_EXPLORE_RESULTS"
BEGUN = "begun"


@define
class Run:
    """One process of pytest over files or tests, with a seed."""

    targets: list[str]
    seed: int
    #: The report of an earlier failure that this run repeats.
    report: Path | None = None
    place: tempfile.TemporaryDirectory[str] = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)
    began: float = field(init=False)
    killed: bool = False

    def start(self, without: set[str], limit: float) -> None:
        """Begin, ``without`` tests that are known to fail; tell where it hangs before ``limit``."""
        self.place = tempfile.TemporaryDirectory(prefix="xennet-explore-")
        self.began = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*PYTEST, *ONLY, "-q", *self.targets, *self._options]
                + [f"--deselect={test}" for test in sorted(without)]
                + [f"--basetemp={self.place.name}/tmp", "-p", "explore"]
                + ["-o", f"faulthandler_timeout={limit / 4}"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONHASHSEED": str(self._hash_seed),
                    "PYTHONPATH": str(ROOT / "tools"),
                    RESULTS: str(self._results),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it and what it has started. An interrupt would look like a fault to a test."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> Path:
        return Path(self.place.name, "output.txt")

    @property
    def _results(self) -> Path:
        return Path(self.place.name, "results")

    @property
    def _options(self) -> list[str]:
        return ["--hypothesis-profile=explore", f"--hypothesis-seed={self.seed}"]

    @property
    def _hash_seed(self) -> int:
        return self.seed % 2**32

    def again(self, test: str) -> str:
        """The command that does the same with one test."""
        words = [sys.executable, "-m", "pytest", test, *self._options]
        return f"PYTHONHASHSEED={self._hash_seed} {shlex.join(words)}"

    def results(self) -> list[tuple[str, str, str]]:
        """Node id, outcome and reason of what has begun ("begun") and ended."""
        if not self._results.exists():
            return []
        return [tuple(json.loads(line)) for line in self._results.read_text().splitlines()]

    def under_way(self) -> str:
        """The test that has begun and not ended; before the first one, where it is to be found."""
        last = self.results()[-1:]
        return last[0][0] if last and last[0][1] == BEGUN else self.targets[0]


# In a run pytest has this file for a plugin: it writes down what becomes of the tests.


def pytest_runtest_logstart(nodeid: str) -> None:
    _note(nodeid, BEGUN)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or not report.passed:
        reason = report.longrepr[2] if report.skipped and report.longrepr else ""
        _note(report.nodeid, report.outcome, reason)


def _note(node: str, outcome: str, reason: str = "") -> None:
    with open(os.environ[RESULTS], "a") as file:
        file.write(json.dumps((node, outcome, reason)) + "\n")


def batched(targets: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(targets), TOGETHER):
        yield targets[start : start + TOGETHER]


@define
class Explorer:
    seed: int
    seconds: float
    jobs: int
    #: Seconds that runs have to come to their end when the time is over.
    grace: float
    #: Seconds after which a run hangs; the longest takes some twenty.
    limit: float
    #: Where reports are kept.
    out: Path
    rounds: float
    paths: list[str]
    began: float = field(factory=time.monotonic)
    running: list[Run] = field(factory=list)
    passed: int = 0
    #: Why tests could not run here.
    skipped: set[str] = field(factory=set)
    #: Tests that have failed, which are not run again, and other faults; each has a report.
    found: set[str] = field(factory=set)

    def main(self) -> int:
        self._say(f"SEED={self.seed} SECONDS={self.seconds:g}, {self.jobs} at a time")
        tests = self._collect()
        self._say(f"{len(tests)} tests")
        status = 0
        try:
            self._walk(self._plan(tests))
        except KeyboardInterrupt:
            status = 130
        for run in self.running:
            run.kill()
            self._judge(run)
        for reason in sorted(self.skipped):
            self._say(f"not run: {reason}")
        self._say(self._so_far())
        return status or (1 if self.found else 0)

    def _collect(self) -> list[str]:
        """The Hypothesis tests by their node ids."""
        result = subprocess.run(
            [*PYTEST, *ONLY, "--collect-only", "-q", *self.paths],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        tests = [line for line in result.stdout.splitlines() if "::" in line]
        if result.returncode or not tests:
            sys.exit(f"explore: no tests could be collected\n{result.stdout}{result.stderr}")
        return tests

    def _plan(self, tests: list[str]) -> Iterator[Run]:
        """What was kept comes first; then rounds, the same ones for the same seed."""
        for report in sorted(self.out.glob("*.txt")):
            test = report.read_text().splitlines()[0]
            yield Run([test], int(report.name.split("-")[0]), report)
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        machines = [test for test in tests if test.endswith("::runTest")]
        chooser = random.Random(self.seed)
        while self.rounds and not self.found.issuperset(tests):
            self.rounds -= 1
            targets = files + machines * WALKS
            chooser.shuffle(targets)
            for some in batched(targets):
                yield Run(some, chooser.randrange(2**32))
            self._say(self._so_far())

    def _walk(self, plan: Iterator[Run]) -> None:
        while not self._over():
            while len(self.running) < self.jobs and (run := next(plan, None)):
                run.start(self.found, self.limit)
                self.running.append(run)
            if not self.running:
                return
            self._reap()
        while self.running and not self._over(self.grace):
            self._reap()

    def _over(self, grace: float = 0) -> bool:
        return time.monotonic() > self.began + self.seconds + grace

    def _reap(self) -> None:
        time.sleep(0.1)
        for run in list(self.running):
            if time.monotonic() - run.began > self.limit:
                run.kill()
                self._keep(run, run.under_way(), f"no end in {self.limit:g} s")
            if run.process.poll() is not None:
                self.running.remove(run)
                self._judge(run)

    def _judge(self, run: Run) -> None:
        failed, code = False, run.process.returncode
        for node, outcome, reason in run.results():
            if outcome == "passed":
                self.passed += 1
            elif outcome == "skipped":
                self.skipped.add(reason)
            elif outcome != BEGUN:
                failed = True
                self._keep(run, node, "failed")
        if run.report and not failed and code in (PASSED, NO_SUCH_TEST):
            self._say(f"{run.targets[0]} does not fail any more; remove {run.report}")
        elif not failed and not run.killed and code not in (PASSED, NO_TEST):
            self._keep(run, run.under_way(), f"exit code {code}")
        run.place.cleanup()

    def _keep(self, run: Run, node: str, what: str) -> None:
        if node in self.found:
            return
        self.found.add(node)
        self.out.mkdir(exist_ok=True)
        report = self.out / f"{run.seed}-{re.sub(r'[^0-9A-Za-z_]+', '-', node)}.txt"
        head = f"{node}\n{what}; the same again:\n  {run.again(node)}\n\n"
        report.write_bytes(head.encode() + run.output.read_bytes())
        self._say(f"FOUND {node}: {what}; see {report}")

    def _so_far(self) -> str:
        seconds = time.monotonic() - self.began
        return f"{seconds:.0f} s, {self.passed} runs of tests passed, {len(self.found)} failed"

    def _say(self, text: str) -> None:
        print(f"explore: {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--grace", type=float, default=20)
    parser.add_argument("--limit", type=float, default=1200)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=math.inf)
    parser.add_argument("paths", nargs="*", help="only these tests")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return Explorer(**vars(words)).main()


if __name__ == "__main__":
    sys.exit(main())
