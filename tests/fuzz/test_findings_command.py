"""``xennet fuzz replay``, ``minimise``, ``ci`` and ``corpus``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from attrs import evolve
from toy_target import COPY, MORE, NAME, ODD, HidingTarget, ToyTarget, page

from xennet.cli import main
from xennet.fuzz.container import write_file
from xennet.fuzz.corpus import Corpus
from xennet.fuzz.finding_file import Recorded, read_recorded, write_finding
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.target import Finding

Run = Callable[..., tuple[int, str, str]]
CROSSING = Recorded(page((COPY, 0, 4000, 200, 9)), Finding("T1", "as it was"), frozenset({"T2"}))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: object) -> tuple[int, str, str]:
        code = main(["fuzz", *map(str, args)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def written(folder: Path, recorded: Recorded) -> Path:
    path = folder / "a.xenfuzz"
    write_finding(path, recorded)
    return path


def test_a_finding_in_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_recorded(written(tmp_path, CROSSING)) == CROSSING
    plain = tmp_path / "plain.xenfuzz"
    write_file(plain, page())
    assert read_recorded(plain) == Recorded(page())


@pytest.mark.parametrize(
    ("finding", "fuzz_input", "code", "says"),
    [
        ("T1", CROSSING.fuzz_input, 0, "same: T1, slot 0: a copy of 200 bytes at 4000\n"),
        ("A9", CROSSING.fuzz_input, 1, "different: T1, slot 0: a copy of 200 bytes at 4000; it"),
        ("T1", page(), 2, "gone: it was T1, as it was\n"),
        ("T2", page((7, ODD, 0, 0, 0)), 2, "gone: it was T2, as it was\n"),
    ],
    ids=["same", "different", "gone", "known"],
)
def test_replay_tells_what_became_of_a_finding(
    finding: str, fuzz_input: FuzzInput, code: int, says: str, run: Run, tmp_path: Path
) -> None:
    path = written(tmp_path, Recorded(fuzz_input, Finding(finding, "as it was"), CROSSING.known))
    returned, out, err = run("replay", path)
    assert (returned, err) == (code, "")  # of an error there is a line
    assert out.startswith(says)
    returned, out, _ = run("replay", "--json", path)
    document = json.loads(out)
    assert returned == code
    assert document["verdict"] == says.partition(":")[0]
    assert document["then"] == {"rule": finding, "where": "as it was"}


def test_an_input_without_a_finding_is_replayed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.xenfuzz"
    write_file(path, page())
    assert run("replay", path)[:2] == (0, "same: nothing is wrong\n")
    write_file(path, CROSSING.fuzz_input)
    assert run("replay", path)[0] == 1


@pytest.mark.parametrize("command", ["replay", "minimise"])
@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ((("finding", b"{"),), "offset 0: its finding cannot be read: "),
        ((("finding", b"[" * 100_000),), "offset 0: its finding cannot be read: "),
        ((("finding", b'{"rule": 1, "where": "", "known": []}'),), "cannot be read: not text"),
        ((), "offset 0: there is no target 'nothing'"),
    ],
)
def test_a_file_of_no_use_is_told(
    command: str, sections: tuple[tuple[str, bytes], ...], problem: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "a.xenfuzz"
    write_file(path, FuzzInput("nothing", sections))
    code, out, err = run(command, path)
    assert (code, out) == (2, "")
    assert err.startswith(f"xennet: {path}: offset 0: ")
    assert problem in err


def test_minimise_prints_a_map_and_a_test_and_writes_both(run: Run, tmp_path: Path) -> None:
    path, less, test = (tmp_path / name for name in ("a.xenfuzz", "less.xenfuzz", "test_less.py"))
    slots = ((1, 0, 0, 0, 0), (COPY, 0, 4000, 200, 9))
    write_finding(path, Recorded(page(*slots), Finding("T1", ""), frozenset({"T2"})))
    code, out, _ = run("minimise", path, "-o", less, "--pytest", test)
    assert code == 0
    assert "  slot 0 id         0  free: 64 values tried\n" in out
    assert out.endswith(f"\n\n{test.read_text()}")
    assert "known=frozenset(['T2'])" in test.read_text()
    assert read_recorded(less).fuzz_input == page((COPY, 0, 4000, 200, 0))
    assert run("replay", less)[0] == 0
    assert json.loads(run("minimise", "--json", path)[1])["slots"] == {"before": 2, "after": 1}


def test_minimise_says_if_a_finding_is_gone(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, Recorded(page(), Finding("T1", "")))
    assert run("minimise", path)[:2] == (1, f"{path}: the input has no finding any more\n")


CI = ("--rounds", "2", "--seeds", "2", "--base")


def test_ci_tells_what_the_base_does_not_have(run: Run, tmp_path: Path) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    code, out, _ = run("ci", NAME, *CI, base, "--new", new)
    assert code == 1
    assert out.count("  NEW T") == 3
    assert not base.exists()  # it is only read
    found = Corpus(new, NAME)
    assert len(list(found.recorded_findings())) == 3
    code, out, _ = run("ci", NAME, *CI, new)
    assert (code, out.splitlines()[-1]) == (0, "nothing new was found")
    one = next(path for path, each in found.recorded_findings() if "more" in str(each.finding))
    one.unlink()
    code, out, _ = run("ci", NAME, *CI, new, "--json", "-")
    (target,) = json.loads(out)["targets"]
    assert code == 1
    assert [each["where"] for each in target["findings"]] == ['the last slot says "more"']
    assert len(target["old"]) == 2


def test_ci_tells_which_findings_of_the_base_are_gone(run: Run, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, NAME)
    corpus.findings.mkdir(parents=True)
    path = written(corpus.findings, Recorded(page(), Finding("T1", "")))
    code, out, _ = run("ci", NAME, *CI, tmp_path, "--known", "T1,T2")
    assert code == 0
    assert out.splitlines()[1:] == [f"  gone: {path}", "nothing new was found"]


def test_ci_executes_a_finding_of_the_base_behind_the_rules_that_it_was_found_behind(
    run: Run, tmp_path: Path
) -> None:
    corpus = Corpus(tmp_path, HidingTarget.name)
    corpus.findings.mkdir(parents=True)
    recorded = Recorded(CROSSING.fuzz_input, Finding("T2", "behind T1"), frozenset({"T1"}))
    path = written(corpus.findings, recorded)
    code, out, _ = run("ci", HidingTarget.name, *CI, tmp_path, "--json", "-")
    (target,) = json.loads(out)["targets"]
    assert code == 1
    assert [each["rule"] for each in target["findings"]] == ["T1"]
    assert (target["old"], target["gone"]) == ([str(path)], [])
    assert HidingTarget.opened == []


def test_ci_takes_a_finding_of_another_rule_for_gone(run: Run, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, NAME)
    corpus.findings.mkdir(parents=True)
    path = written(corpus.findings, evolve(CROSSING, finding=Finding("A9", "as it was")))
    _, out, _ = run("ci", NAME, *CI, tmp_path, "--json", "-")
    (target,) = json.loads(out)["targets"]
    assert [each["rule"] for each in target["findings"]] == ["T1", "T1", "T2"]
    assert (target["old"], target["gone"]) == ([], [str(path)])


def test_ci_shares_its_time_among_all_targets(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("ci", "tx", NAME, "--time", "0.01", "--base", tmp_path, "--json", "-")
    document = json.loads(out)
    assert [target["target"] for target in document["targets"]] == ["tx", NAME]
    assert all(target["statistics"]["executions"] for target in document["targets"])
    assert code == 1
    assert run("ci", "ty", "--base", tmp_path)[0] == 2


def test_raw_files_go_into_a_corpus_and_come_out_as_they_were(run: Run, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    random = Random(1)
    contents = {random.randbytes(size) for size in (0, 1, 64, 258, 259, 260)}
    for number, content in enumerate(contents):
        (raw / f"page{number}").write_bytes(content)
    (raw / ".state").write_bytes(bytes(9999))  # of another fuzzer
    (raw / "folder").mkdir()
    one = tmp_path / "one"
    one.write_bytes(b"one")
    corpus = tmp_path / "corpus"
    assert run("corpus", "import", NAME, corpus, raw, one)[1] == "7 inputs were imported\n"
    assert run("corpus", "export", NAME, corpus, out)[1] == "7 files were written\n"
    assert {path.read_bytes() for path in out.iterdir()} == contents | {b"one"}


def test_a_raw_file_that_is_too_long_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(bytes(261))
    code, _, err = run("corpus", "import", NAME, tmp_path, path)
    assert code == 2
    assert err == f"xennet: {path}: an input of {NAME} has up to 260 bytes, not 261\n"


def test_a_corpus_is_pruned_to_what_shows_something(run: Run, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, NAME)
    small, large = page((0, MORE, 0, 0, 0)), page((0, MORE, 0, 0, 5))
    for fuzz_input in (large, small, page((7, 0, 0, 0, 0))):
        corpus.add(fuzz_input)
    assert run("corpus", "prune", NAME, tmp_path)[1] == "2 inputs were kept, 1 removed\n"
    assert set(corpus.load()) == {small, page((7, 0, 0, 0, 0))}


def test_coverage_is_told_by_source_line(run: Run, tmp_path: Path) -> None:
    main(["fuzz", "tx", "--rounds", "1", "--seeds", "1", "--corpus", str(tmp_path)])
    run("--help")  # what the campaign has printed
    for path in sorted(Corpus(tmp_path, "tx").inputs.iterdir())[8:]:
        path.unlink()  # each input is executed three times, by plain kernels
    code, out, _ = run("corpus", "coverage", "tx", tmp_path)
    assert code == 0
    assert "stability 100.0 %" in out.splitlines()[0]
    assert any(line.startswith("  xennet/netback/guest_tx.py: ") for line in out.splitlines())
    document = json.loads(run("corpus", "coverage", "tx", tmp_path, "--json")[1])
    (file,) = [each for each in document["files"] if each["file"] == "xennet/netback/guest_tx.py"]
    assert 20 < file["executed"] < file["lines"]
    assert not any("fuzz" in each["file"] for each in document["files"])
    assert ToyTarget.name not in out
