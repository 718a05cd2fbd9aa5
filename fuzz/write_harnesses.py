"""Write a harness for each target, and seeds for it: fuzz_NAME.py, fuzz_NAME_seed_corpus.zip and
fuzz_NAME.options in a folder.

    python fuzz/write_harnesses.py FOLDER
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from random import Random

from xennet.fuzz.fuzz_input import to_raw
from xennet.fuzz.target_table import TARGETS, open_target
from xennet.netback.xnb.known import FIXED

HARNESS = Path(__file__).with_name("harness.py")
SEEDS = 32


def known_rules(name: str) -> set[str]:
    """xnb comes to its defects at once: what is looked for is any other. Beside the hardened
    backend it also lacks a limit, F3."""
    if name == "tx-differs":
        return {*FIXED, "F3"}
    return set(FIXED) if name.startswith("xnb") else set()


def write(name: str, folder: Path) -> None:
    """Write the files of the target ``name``."""
    known = sorted(known_rules(name)) or ""
    text = HARNESS.read_text()
    stem = f"fuzz_{name.replace('-', '_')}"
    for before, after in {
        'TARGET = "tx"\n': f'TARGET = "{name}"\n',
        "KNOWN = frozenset()\n": f"KNOWN = frozenset({known})\n",
    }.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    (folder / f"{stem}.py").write_text(text)
    target = open_target(name)
    try:
        with zipfile.ZipFile(folder / f"{stem}_seed_corpus.zip", "w") as seeds:
            for seed in range(SEEDS):
                raw = to_raw(target.sections, target.start(Random(seed)))
                seeds.writestr(zipfile.ZipInfo(f"seed{seed}"), raw)
        whole = sum(section.size for section in target.sections)
    finally:
        target.close()
    (folder / f"{stem}.options").write_text(f"[libfuzzer]\nmax_len = {whole}\n")


if __name__ == "__main__":
    for target_name in TARGETS:
        write(target_name, Path(sys.argv[1]))
