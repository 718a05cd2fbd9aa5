"""A runner that knows of xennet what ``xennet check list --json`` prints, and its commands.

    python foreign_runner.py KNOWN LACKS ID_PATTERN SIDE TARGET...

makes one case of each check, plays each in a process of its own, and prints "ID verdict" for each.
KNOWN: ids of known failures, LACKS: features that the driver lacks, both with commas between.
It judges by itself: by what a check needs and accepts, and by what was seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatchcase

XENNET = [sys.executable, "-m", "xennet", "check"]


def printed(*args: str) -> dict:
    """What ``xennet check ARGS --json`` prints; exit code 2 is an error of the tool."""
    done = subprocess.run(
        [*XENNET, *args, "--json"], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{args}: {done.stderr}")
    return json.loads(done.stdout)


def verdict(case: dict, known: set[str], lacks: set[str], side: str, target: list[str]) -> str:
    """pass, FAIL, unsupported, xfail or XPASS."""
    if lacks & set(case["needs"]):
        return "unsupported"
    (result,) = printed(side, *target, "--only", case["check"])["results"]
    good = result["seen"] in case["accepts"] and not result["problems"]
    if case["field"] is not None:
        good = good and result["control"] in case["control_accepts"]
    if case["check"] in known:
        return "XPASS" if good else "xfail"
    return "pass" if good else "FAIL"


def main(known: str, lacks: str, pattern: str, side: str, *target: str) -> None:
    for case in printed("list")["checks"]:
        if case["side"] == side and fnmatchcase(case["check"], pattern):
            found = verdict(case, {*known.split(",")}, {*lacks.split(",")}, side, [*target])
            print(case["check"], found, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
