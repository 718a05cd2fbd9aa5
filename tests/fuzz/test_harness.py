"""The harnesses for atheris and libFuzzer are instrumented, and OSS-Fuzz can build them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from xennet.abi.netif import TX_REQUEST
from xennet.fuzz.fuzz_input import from_raw, to_raw
from xennet.fuzz.target_table import TARGETS, open_target
from xennet.ring import tx_ring_page

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / "fuzz" / "harness.py"
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

NEEDS_ATHERIS = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not installed: it has no wheel for this Python"
)


def covered(harness: Path, corpus: Path) -> list[int]:
    """How many places were covered after each line of libFuzzer's, in 200 runs."""
    done = subprocess.run(
        [sys.executable, harness, corpus, "-max_len=4224", "-runs=200", "-seed=1"],
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in re.findall(r"^#\d+\t.* cov: (\d+)", done.stderr, re.M)]


@NEEDS_ATHERIS
def test_coverage_grows_under_the_harness(tmp_path: Path) -> None:
    counts = covered(HARNESS, tmp_path)
    assert counts == sorted(counts)
    assert counts[-1] > 2 * counts[0] > 0
    # What it keeps are raw inputs of the target.
    target = open_target("tx")
    kept = [path.read_bytes() for path in tmp_path.iterdir()]
    target.close()
    assert kept
    for raw in kept:
        assert to_raw(target.sections, from_raw("tx", target.sections, raw)) == raw


@NEEDS_ATHERIS
def test_without_instrumentation_nothing_grows(tmp_path: Path) -> None:
    """The test above would notice."""
    blind = tmp_path / "blind.py"
    text = HARNESS.read_text()
    assert "{instrument()}" in text
    blind.write_text(text.replace("{instrument()}", "0"))
    (tmp_path / "corpus").mkdir()
    assert len(set(covered(blind, tmp_path / "corpus"))) <= 1


def test_oss_fuzz_gets_a_harness_with_seeds_for_each_target(tmp_path: Path) -> None:
    """build.sh with a builder that installs nothing and notes what it is to compile."""
    stubs, out = tmp_path / "bin", tmp_path / "out"
    stubs.mkdir()
    out.mkdir()
    for name, script in {
        "compile_python_fuzzer": 'cp "$1" "$OUT/"; echo "$@" >>"$OUT/compiled"',
        "python3": f'[ "$1" = -m ] || exec {sys.executable} "$@"',
    }.items():
        (stubs / name).write_text(f"#!/bin/bash -eu\n{script}\n")
        (stubs / name).chmod(0o755)
    env = ENV | {"OUT": str(out), "PATH": f"{stubs}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [ROOT / "fuzz" / "build.sh"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len((out / "compiled").read_text().splitlines()) == len(TARGETS)
    for name in TARGETS:
        stem = f"fuzz_{name.replace('-', '_')}"
        text = (out / f"{stem}.py").read_text()
        assert f'\nTARGET = "{name}"\n' in text
        compile(text, f"{stem}.py", "exec")
        compared = name.startswith("xnb") or name == "tx-differs"
        assert ("KNOWN = frozenset()\n" in text) is not compared
        assert ("'F3'" in text) is (name == "tx-differs")
        options = (out / f"{stem}.options").read_text()
        most = int(options.removeprefix("[libfuzzer]\nmax_len = "))
        with zipfile.ZipFile(out / f"{stem}_seed_corpus.zip") as seeds:
            sizes = [seed.file_size for seed in seeds.infolist()]
        assert len(sizes) == 32
        assert 0 < max(sizes) <= most


#: An atheris that executes each file of a corpus once, mutates it once, and adds nothing.
STUB = """
from pathlib import Path

def instrument_func(function):
    return function

def Setup(argv, execute, custom_mutator):
    Setup.work = argv[1], execute, custom_mutator

def Fuzz():
    corpus, execute, mutate = Setup.work
    for path in sorted(Path(corpus).iterdir()):
        execute(path.read_bytes())
        print(len(mutate(path.read_bytes(), 1 << 20, 1)))
"""


def test_a_harness_asks_whether_a_finding_is_known(tmp_path: Path) -> None:
    """A page that the other backend takes otherwise: all rows of that are known to a harness as it
    is written, and each is wanted."""
    (tmp_path / "atheris.py").write_text(STUB)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    slots = [TX_REQUEST.pack(8, 0, 4, 1, 100), TX_REQUEST.pack(8, 0, 0, 2, 200)]
    (corpus / "page").write_bytes(tx_ring_page(slots))
    text = HARNESS.read_text()
    env = ENV | {"PYTHONPATH": f"{tmp_path}:{ENV['PYTHONPATH']}"}

    def run(known: set[str]) -> subprocess.CompletedProcess[str]:
        harness = tmp_path / "harness.py"
        given = text.replace('TARGET = "tx"', 'TARGET = "tx-differs"')
        harness.write_text(given.replace("frozenset()", f"frozenset({sorted(known)})"))
        return subprocess.run(
            [sys.executable, harness, corpus], env=env, capture_output=True, text=True, check=False
        )

    found = run(set())
    assert found.returncode == 1
    rows = re.findall(r"FindingError: differs:(\S+):", found.stderr)[-1].split("/")
    known = run(set(rows))
    assert known.returncode == 0, known.stderr
    assert int(known.stdout) > 4096
