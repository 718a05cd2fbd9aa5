"""How long the fuzzer takes to find each of xnb's defects that a ring can trigger.

    python tools/fuzz_rows.py                 # 20 seeds, up to 60 s of CPU time for a target
    python tools/fuzz_rows.py --alone         # each row by itself, all others known

Each campaign begins with an empty corpus and runs on one core. A row that was found is known from
then on, so that the campaign goes on behind it; with ``--alone`` all others are known from the
start, and the campaign ends with the one that is sought. What counts is CPU time of this process
from the start of the campaign, oracle included. The exit code is 1 if a row was missed.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from statistics import median

from xennet.fuzz.targets.xnb_rings import ROWS, XnbIntr, XnbRx, XnbTarget, XnbTx

#: The target whose inputs have what a row needs: A15 and A16 a frontend that acts meanwhile.
TARGETS: dict[str, type[XnbTarget]] = {
    row: XnbIntr if row in ("A15", "A16") else XnbTx if row[0] == "A" else XnbRx for row in ROWS
}
#: Executions between two looks at the clock.
_BURST = 200


def campaign(target: XnbTarget, seed: int, sought: set[str], budget: float) -> dict[str, float]:
    """Seconds of CPU time after which each of the rows ``sought`` was found."""
    found: dict[str, float] = {}
    target.seed(seed)
    began = time.process_time()
    while sought - found.keys() and time.process_time() - began < budget:
        finding = target.burst(_BURST).finding
        if finding is not None:
            target.known |= {finding.rule}
            if finding.rule in sought:
                found[finding.rule] = time.process_time() - began
    return found


def campaigns(alone: bool) -> list[tuple[type[XnbTarget], set[str], frozenset[str]]]:
    """What each campaign runs, which rows it seeks, and which are known from the start."""
    if alone:
        return [(TARGETS[row], {row}, frozenset(ROWS) - {row}) for row in ROWS]
    return [
        (made, {row for row in ROWS if TARGETS[row] is made}, frozenset())
        for made in (XnbTx, XnbRx, XnbIntr)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=60, help="seconds of CPU time")
    parser.add_argument("--alone", action="store_true", help="each row with all others known")
    options = parser.parse_args()
    times: dict[str, list[float]] = defaultdict(list)
    for made, sought, known in campaigns(options.alone):
        target = made()
        target.seed(0)
        target.burst(1)  # what is compiled on the way is compiled then
        for seed in range(1, options.seeds + 1):
            target.known = known
            for row, seconds in campaign(target, seed, sought, options.budget).items():
                times[row].append(seconds)
        target.close()
    print("| row | target | found | median, s | worst, s |")
    print("|---|---|---|---|---|")
    for row in ROWS:
        of = f"{len(times[row])} of {options.seeds}"
        shown = f"{median(times[row]):.2f} | {max(times[row]):.2f}" if times[row] else "- | -"
        print(f"| {row} | `{TARGETS[row].name}` | {of} | {shown} |")
    return int(any(len(times[row]) < options.seeds for row in ROWS))


if __name__ == "__main__":
    raise SystemExit(main())
