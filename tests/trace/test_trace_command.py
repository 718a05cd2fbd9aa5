"""The command ``xennet trace``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from full_disk import files_up_to

from xennet.cli import group, main
from xennet.trace.dissector import dissector_text
from xennet.trace.stream import header_of, line_of, read
from xennet.trace.writers import WRITERS


def xennet(*args: str) -> Result:
    return CliRunner().invoke(group, args)


def test_a_traced_run_prints_its_report_and_leaves_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    result = xennet("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o", str(path))
    assert result.exit_code == 0
    assert "GOOD" in result.output
    first, events = read(path)
    assert first["run"]["command"] == ["run", "--guest", "gen:60x2", "--host", "null:"]
    published = [event for event in events if event["kind"] == "publish" and event["ring"] == "tx"]
    assert [(event["index"], event["new"]) for event in published] == [
        ("req_prod", 2),
        ("rsp_prod", 2),
    ]


def test_show_prints_a_line_for_each_event(tmp_path: Path) -> None:
    path = tmp_path / "life.jsonl"
    assert xennet("trace", "lifecycle", "hostile-packet", "-o", str(path)).exit_code == 0
    lines = xennet("trace", "show", str(path), "--kind", "state").output.splitlines()
    assert "vif/1/0: state 4 becomes 5" in "".join(lines)
    assert all(" state " in line for line in lines)
    misspelt = xennet("trace", "show", str(path), "--kind", "states")
    assert (misspelt.exit_code, misspelt.stdout) == (0, "")
    assert "no event is of the kind 'states'; there are " in misspelt.stderr
    assert ", state, " in misspelt.stderr


def test_a_suffix_that_nobody_writes_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.doc"
    result = xennet("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o", str(path))
    assert result.exit_code == 2
    assert "run.doc: a trace is written as FILE.jsonl, " in result.output
    assert "GOOD" not in result.output


def test_bad_options_of_the_run_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    assert xennet("trace", "run", "--guest", "gen:60x2", "-o", str(path)).exit_code == 2
    assert not path.exists()


@pytest.mark.parametrize("suffix", ["jsonl", "html"])
@pytest.mark.parametrize(
    "command", [("lifecycle", "nope"), ("run", "--guest", "pcap:nope", "--host", "null:")]
)
def test_of_what_never_began_nothing_is_written(
    tmp_path: Path, suffix: str, command: tuple[str, ...]
) -> None:
    new, old = tmp_path / f"new.{suffix}", tmp_path / f"old.{suffix}"
    old.write_text("old")
    for path in new, old:
        assert main(["trace", *command, "-o", str(path)]) == 2
    assert [one.name for one in tmp_path.iterdir()] == [old.name]
    assert old.read_text() == "old"


def test_a_longer_recording_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old\n" * 1_000_000)
    assert xennet("trace", "lifecycle", "hostile-packet", "-o", str(path)).exit_code == 0
    assert len(list(read(path)[1])) > 1000


def test_a_folder_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "none" / "run.html"
    result = xennet("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o", str(path))
    assert result.exit_code == 2
    assert f"{path}: No such file or directory" in result.output
    assert "GOOD" not in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is needed")
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_full_disk_is_an_error_of_the_file(tmp_path: Path, suffix: str) -> None:
    stream, out = tmp_path / "a.jsonl", tmp_path / f"b{suffix}"
    assert xennet("trace", "lifecycle", "hostile-packet", "-o", str(stream)).exit_code == 0
    (tmp_path / f"b.part{suffix}").symlink_to("/dev/full")
    result = xennet("trace", "show", str(stream), "-o", str(out))
    assert (result.exit_code, "b" + suffix + ": No space left on device" in result.output) == (
        2,
        True,
    ), result.output
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is needed")
def test_a_full_disk_while_it_is_recorded_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.symlink_to("/dev/full")
    result = xennet("run", "--guest", "gen:60x2", "--host", "null:", "--trace", str(path))
    assert result.exit_code == 2
    assert "a.jsonl: No space left on device" in result.output


def test_a_disk_that_gets_full_leaves_whole_lines_and_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with files_up_to(100_000):
        result = xennet("run", "--guest", "gen:60x2", "--host", "null:", "--trace", str(path))
    assert result.exit_code == 2
    assert "a.jsonl: File too large" in result.output
    numbers = [json.loads(line).get("n") for line in path.read_text().splitlines()]
    assert len(numbers) > 20
    assert numbers[1:] == list(range(numbers[1], numbers[1] + len(numbers) - 1))


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix != ".jsonl"])
def test_json_lines_have_no_name_of_another_form(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    result = xennet("run", "--guest", "gen:60x2", "--host", "null:", "--trace", str(path))
    assert result.exit_code == 2
    assert "is written by: xennet trace run" in result.output
    assert not path.exists()


def test_an_error_of_usage_names_the_command_whose_help_is_meant(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["trace", "run", "--guest", "gen:60x2", "-o", "a.jsonl"]) == 2
    assert capfd.readouterr().err.endswith("Try 'xennet trace run --help'.\n")
    assert main(["trace", "lifecycle", "nope", "-o", "a.jsonl"]) == 2
    assert capfd.readouterr().err.endswith("Try 'xennet trace lifecycle --help'.\n")


def test_a_line_without_end_is_no_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xennet.trace.stream.MOST_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text(line_of(header_of()) + " " * 1000)
    result = xennet("trace", "show", str(path))
    assert result.exit_code == 2
    assert "a.jsonl, line 2: longer than 1000 bytes" in result.output


def test_a_stream_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = xennet("trace", "show", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 2
    assert "none.jsonl: No such file or directory" in result.output


def test_a_recording_is_written_for_perfetto_at_once_or_later(tmp_path: Path) -> None:
    stream, later, at_once = (tmp_path / name for name in ("a.jsonl", "b.json", "c.json"))
    run = ("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o")
    assert xennet(*run, str(stream)).exit_code == 0
    assert xennet("trace", "show", str(stream), "-o", str(later)).exit_code == 0
    assert xennet(*run, str(at_once)).exit_code == 0
    assert later.read_text() == at_once.read_text()
    assert any(one["ph"] == "C" for one in json.loads(later.read_text()))


def test_a_run_is_written_as_a_page(tmp_path: Path) -> None:
    page, stream = tmp_path / "x.html", tmp_path / "x.jsonl"
    run = ("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o")
    assert xennet(*run, str(page)).exit_code == 0
    assert [one.name for one in tmp_path.iterdir()] == ["x.html"]
    assert xennet(*run, str(stream)).exit_code == 0
    data = r'<script type="application/json" id="trace">([^<>&]*)</script>'
    shown = re.search(data, page.read_text("utf-8"))
    assert shown is not None
    assert json.loads(shown[1])["events"] == list(read(stream)[1])


def test_a_run_too_long_for_a_page_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xennet.trace.page.MOST_EVENTS", 10)
    page = tmp_path / "x.html"
    result = xennet("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o", str(page))
    assert result.exit_code == 2
    assert "more than 10 events, too many for a page: write FILE.json" in result.output
    assert not page.exists()
    stream = tmp_path / "x.jsonl"
    assert f"; all events are in {stream}" in result.output
    assert len(list(read(stream)[1])) > 10
    before = stream.read_bytes()
    result = xennet("trace", "run", "--guest", "gen:60x3", "--host", "null:", "-o", str(page))
    assert "all events are in" not in result.output
    assert stream.read_bytes() == before


def test_a_run_has_one_recording(tmp_path: Path) -> None:
    one, other = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    run = ("trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o", one)
    for option in (["--trace", other], [f"--trace={other}"]):
        result = xennet(*run, *option)
        assert result.exit_code == 2
        assert "-o names the recording: leave --trace out" in result.output
    assert not list(tmp_path.iterdir())


def test_a_damaged_recording_leaves_what_was_there(tmp_path: Path) -> None:
    stream, out = tmp_path / "a.jsonl", tmp_path / "b.json"
    stream.write_text(line_of(header_of()) + '{"n": 1, "kind": 5}\n')
    out.write_text("old")
    result = xennet("trace", "show", str(stream), "-o", str(out))
    assert result.exit_code == 2
    assert "a.jsonl, line 2: an event without a kind" in result.output
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.jsonl", "b.json"]
    assert out.read_text() == "old"


def test_the_dissector_is_written_and_its_path_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    result = xennet("trace", "--dissector")
    assert result.exit_code == 0
    path = Path(result.stdout.removesuffix("\n"))
    assert path.parent.parent == tmp_path
    assert path.read_text() == dissector_text()
    assert f"lua_script:{path}" in result.stderr


def test_a_cache_that_takes_no_dissector_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path / "file"))
    result = xennet("trace", "--dissector")
    assert result.exit_code == 2
    assert "file/wireshark: Not a directory" in result.output
