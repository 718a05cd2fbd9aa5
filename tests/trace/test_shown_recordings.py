"""``xennet trace show``: what lines tell, what led to an event, recordings that are damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xennet.cli import group
from xennet.trace.lines import line, reasons
from xennet.trace.stream import TraceError, header_of, line_of, read
from xennet.trace.writers import WRITERS, write


def xennet(*args: str) -> Result:
    return CliRunner().invoke(group, args)


def event(n: int, kind: str, **members: Any) -> dict[str, Any]:
    return {"n": n, "t": 5, "d": 0, "dom": 1, "kind": kind, "cause": None, "text": kind, **members}


SOME = [
    event(1, "begin"),
    event(2, "store", cause=1, field="req_event", meaning={"req_event": 9, "flags_set": []}),
    event(3, "store", cause=1, by="unseen"),
    event(4, "publish", cause=3, old=4, new=6, event=9, event_set_by=2),
    event(5, "notify", cause=4, sent=False, old=4, new=6, event=9, event_set_by=2, rule="ring.h"),
    event(6, "xenstore", value="5", tx=3),
]


def test_a_line_says_who_set_the_event_index_and_what_was_stored() -> None:
    lines = [line(one) for one in SOME]
    assert lines[4].endswith("<-4      notify [4 to 6; event index 9, set by 2] [ring.h]")
    assert lines[1].endswith("<-1      store [req_event 9, flags_set none]")
    assert lines[5].endswith('xenstore ["5", transaction 3]')
    unset = {**SOME[4], "event_set_by": None}
    assert "event index 9, as it was when the ring was made" in line(unset)


def test_why_a_notification_was_avoided_is_told_from_the_oldest_reason_on(tmp_path: Path) -> None:
    assert [one["n"] for one in reasons(SOME, 5)] == [1, 2, 3, 4, 5]
    assert [one["n"] for one in reasons(SOME, 2)] == [1, 2]
    file = tmp_path / "a.jsonl"
    file.write_text(line_of(header_of()) + "".join(map(line_of, SOME)))
    shown = xennet("trace", "show", str(file), "--why", "5", "--kind", "store", "--kind", "notify")
    assert [row.split()[0] for row in shown.output.splitlines()] == ["2", "3", "5"]
    missing = xennet("trace", "show", str(file), "--why", "7")
    assert (missing.exit_code, "there is no event 7" in missing.output) == (2, True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recording") / "a.jsonl"
    assert (
        xennet("trace", "run", "--guest", "gen:60x1", "--host", "echo:", "-o", str(file)).exit_code
        == 0
    )
    return file


def test_a_recording_that_is_cut_ends_in_one_error(recording: Path, tmp_path: Path) -> None:
    raw = recording.read_bytes()
    file = tmp_path / "cut.jsonl"
    file.write_bytes(raw[: len(raw) // 2])
    where = f"cut.jsonl, line {raw[: len(raw) // 2].count(bytes((10,))) + 1}: no JSON"
    for more in ([], ["-o", str(tmp_path / "out.json")], ["--why", "999999"]):
        result = xennet("trace", "show", str(file), *more)
        assert result.exit_code == 2
        assert result.output.count("cut.jsonl") == 1
        assert where in result.output
    assert [one.name for one in tmp_path.iterdir()] == ["cut.jsonl"]


def test_an_event_that_a_form_cannot_have_is_told_with_the_file(tmp_path: Path) -> None:
    memory = event(1, "memory", memory=1, what="tx ring", owner=1, frames=[1], bytes=4096)
    beyond = event(2, "store", memory=1, at=4096, size=1, bytes="01", old="00")
    file = tmp_path / "a.jsonl"
    file.write_text(line_of(header_of()) + "".join(map(line_of, [memory, beyond])))
    result = xennet("trace", "show", str(file), "-o", str(tmp_path / "a.pcapng"))
    assert result.exit_code == 2
    assert f"{file}: event 2 is beyond its memory" in result.output


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused_with_its_line(
    number: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    text = line_of(event(1, "state")).replace('"t":5', f'"t":{number}')
    file.write_text(line_of(header_of()) + text)
    with pytest.raises(TraceError, match=r"a\.jsonl, line 2: no JSON"):
        list(read(file)[1])


ODD = st.sampled_from(
    [None, True, -1, 1 << 70, 1.5, "", "x", "\N{SNOWMAN}\0<", [], [[]], {}, {"a": 1}]
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_members_of_any_value_are_shown_or_refused_with_their_event(
    recording: Path, tmp_path: Path, data: st.DataObject
) -> None:
    # The memories, and a few events of each kind.
    seen: Counter[str] = Counter()
    events = []
    for one in read(recording)[1]:
        seen[one["kind"]] += 1
        if one["kind"] == "memory" or seen[one["kind"]] <= 3:
            events.append(one)
    damaged = data.draw(st.sampled_from(events))
    for name in data.draw(st.lists(st.sampled_from(sorted(damaged)), min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            damaged[name] = data.draw(ODD)
        else:
            damaged.pop(name, None)
    file = tmp_path / "a.jsonl"
    file.write_text(line_of(header_of()) + "".join(map(line_of, events)))
    refused = problem_of(lambda: [line(one) for one in read(file)[1]])
    assert "a.jsonl, line " in refused or not refused
    for suffix in WRITERS:
        out = tmp_path / f"out{suffix}"
        out.unlink(missing_ok=True)
        problem = problem_of(lambda out=out: write(*read(file), out))  # type: ignore[misc]
        assert "event " in problem or not problem
        assert out.exists() == (not problem)


def problem_of(does: Callable[[], object]) -> str:
    try:
        does()
    except (TraceError, ValueError) as error:
        return f"event in {error}" if isinstance(error, TraceError) else str(error)
    return ""
