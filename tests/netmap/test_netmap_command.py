"""``xennet netmap replay``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xennet.cli import main

DATA = Path(__file__).parents[1] / "data" / "netmap"


def test_records_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netmap", "replay", str(DATA / "null.json"), str(DATA / "pipe.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "null.json: 1 of 1 cases agree",
        "pipe.json: 15 of 15 cases agree",
        "16 of 16 cases agree, 0 differ, 0 defects are not imitated, 0 not played",
    ]


def test_a_difference_is_shown_and_is_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((DATA / "null.json").read_text())
    step = next(s for s in record["cases"][0]["steps"] if s["op"] == "netmap_if")
    step["name"] = "null:other"
    path = tmp_path / "null.json"
    path.write_text(json.dumps(record))
    assert main(["netmap", "replay", "-v", str(path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "null/zero-rings-with-extra: DIFFERENT",
        "  step 3: netmap_if fd=a name=null:other",
        "    name",
        "      recorded  null:other",
        "      here      null:nul",
        "null.json: 0 of 1 cases agree",
        "0 of 1 cases agree, 1 differ, 0 defects are not imitated, 0 not played",
    ]


def test_defects_are_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netmap", "replay", str(DATA / "vale_nic.json")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "7 of 9 cases agree, 0 differ, 2 defects are not imitated, 0 not played"


def test_what_is_no_record_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert main(["netmap", "replay", str(path)]) == 2
    assert "no record of netmap" in capsys.readouterr().err


def test_every_case_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netmap", "replay", "--verbose", str(DATA / "null.json")]) == 0
    assert capsys.readouterr().out.startswith("null/zero-rings-with-extra: as recorded")


def test_records_of_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netmap", "replay", str(DATA / "names_libnetmap.json")]) == 0
    assert capsys.readouterr().out.startswith("names_libnetmap.json: 79 of 79 cases agree\n")
    path = tmp_path / "names.json"
    path.write_text('[{"name": "netmap:dm0{", "errno": 0}]')
    assert main(["netmap", "replay", str(path)]) == 1
    assert capsys.readouterr().out.splitlines()[:5] == [
        "netmap:dm0{: DIFFERENT",
        "  step 0: name",
        "    errno",
        "      recorded  0",
        "      here      EINVAL",
    ]


def test_records_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netmap", "replay", str(DATA / "raw_regions.json")]) == 0
    assert capsys.readouterr().out.startswith("raw_regions.json: 3 of 3 cases agree\n")
    record = json.loads((DATA / "raw_regions.json").read_text())
    record["vale"]["rings"]["tx0"][0] += 64
    record["dummy"]["rings"]["hrx0"][1] = "ff" + record["dummy"]["rings"]["hrx0"][1][2:]
    record["vale-16x8"]["rings"]["tx7"] = record["vale-16x8"]["rings"].pop("tx0")
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(record))
    assert main(["netmap", "replay", str(path)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith("0 of 3 cases agree, 3 differ")
    assert "    tx0: offset" in shown
    assert "    hrx0" in shown


def test_every_record_here_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netmap", "replay", *map(str, sorted(DATA.glob("n*.json")))]) == 0
    assert "differ" in capsys.readouterr().out
