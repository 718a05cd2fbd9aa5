"""A directory with a corpus and findings.

    DIR/TARGET/corpus/DIGEST.xenfuzz          an input that shows some feature first
    DIR/TARGET/findings/RULE-TRACE.xenfuzz    the smallest input of a cluster, and what it does
    DIR/TARGET/findings/test_RULE_TRACE.py    the same as a test

Files appear whole or not at all, whenever a process ends; several may write to one directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from xennet.fuzz.clusters import Cluster
from xennet.fuzz.container import ContainerError, read_file, to_bytes
from xennet.fuzz.coverage import Coverage
from xennet.fuzz.finding_file import Recorded, read_recorded, write_finding
from xennet.fuzz.fuzz_input import FuzzInput, RawError, from_raw, to_raw
from xennet.fuzz.pytest_text import pytest_text
from xennet.fuzz.target import Target
from xennet.whole_file import write_whole

#: What the names of files with a container end in.
SUFFIX = ".xenfuzz"


class Corpus:
    """The part of the directory ``root`` that is about ``target``, the name of one."""

    def __init__(self, root: Path, target: str) -> None:
        self.target = target
        folder = root / target.replace("/", "_")
        self.inputs, self.findings = folder / "corpus", folder / "findings"

    def load(self) -> Iterator[FuzzInput]:
        """Its inputs, in the order of their digests. Raises ContainerError, OSError."""
        for path in files_of(self.inputs):
            fuzz_input = read_file(path)
            if fuzz_input.target != self.target:
                problem = f"an input of {fuzz_input.target}, not of {self.target}"
                raise ContainerError(str(path), 0, problem)
            yield fuzz_input

    def add(self, fuzz_input: FuzzInput) -> Path:
        """Write an input. Returns where it is. Raises OSError."""
        content = to_bytes(fuzz_input)
        self.inputs.mkdir(parents=True, exist_ok=True)
        path = self.inputs / f"{sha256(content).hexdigest()[:16]}{SUFFIX}"
        if not path.exists():
            write_whole(path, content)
        return path

    def keep_only(self, kept: Iterable[FuzzInput]) -> int:
        """Write the inputs ``kept`` and remove all others. Returns how many. Raises OSError."""
        paths = {self.add(fuzz_input) for fuzz_input in kept}
        others = [path for path in files_of(self.inputs) if path not in paths]
        for path in others:
            path.unlink(missing_ok=True)
        return len(others)

    def add_finding(self, cluster: Cluster, known: frozenset[str], target: Target) -> Path:
        """Write a cluster's finding and the test of it. Returns where the finding is. Raises
        OSError."""
        self.findings.mkdir(parents=True, exist_ok=True)
        recorded = Recorded(cluster.fuzz_input, cluster.finding, known)
        path = self.findings / f"{cluster.name}{SUFFIX}"
        write_finding(path, recorded)
        test = self.findings / f"test_{cluster.name.replace('-', '_')}.py"
        write_whole(test, pytest_text(recorded, target).encode())
        return path

    def recorded_findings(self) -> Iterator[tuple[Path, Recorded]]:
        """The findings that it has. Raises ContainerError, OSError."""
        yield from ((path, read_recorded(path)) for path in files_of(self.findings))


def files_of(folder: Path) -> list[Path]:
    """The containers in ``folder``, sorted; none if it is not there. Raises OSError."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def import_raw(corpus: Corpus, target: Target, files: Iterable[Path]) -> int:
    """Add raw inputs (xennet.fuzz.fuzz_input.from_raw) of ``target``: files, and all files in
    folders. Returns how many. Raises RawError, OSError."""
    number = 0
    for path in _files_in(files):
        try:
            fuzz_input = from_raw(target.name, target.sections, path.read_bytes())
        except RawError as error:
            raise RawError(f"{path}: {error}") from None
        corpus.add(fuzz_input)
        number += 1
    return number


def _files_in(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (each for each in sorted(path.glob("[!.]*")) if each.is_file())
        else:
            yield path


def export_raw(corpus: Corpus, target: Target, folder: Path) -> int:
    """Write the inputs of ``corpus`` to ``folder`` as raw files. Returns how many. Raises
    ContainerError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for fuzz_input in corpus.load():
        raw = to_raw(target.sections, fuzz_input)
        write_whole(folder / sha256(raw).hexdigest()[:16], raw)
        number += 1
    return number


def pruned(target: Target, inputs: Iterable[FuzzInput]) -> list[FuzzInput]:
    """Those of ``inputs``, small ones first, that show something which no other before does."""
    coverage, kept = Coverage(), []
    for fuzz_input in sorted(inputs, key=lambda each: (each.size, each.sections)):
        target.execute(fuzz_input)
        if coverage.add(bytes(target.counters)):
            kept.append(fuzz_input)
    return kept
