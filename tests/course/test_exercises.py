"""Exercises: what a learner may write, and the sentence that it gets."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from xennet.course.contents import TITLES, load
from xennet.course.exercise import check
from xennet.course.lesson import Lesson, Verdict
from xennet.course.trial import attempt, traced
from xennet.trace.stream import read

HERE = Path(__file__).parent
LESSONS = [load(number) for number in TITLES]
WRONG = sorted(HERE.glob("lesson*/misunderstanding_*.py"))
#: Seconds of processor time that no exercise comes near.
MUCH = 60.0


def lesson_of(path: Path) -> Lesson:
    return load(int(path.parent.name.removeprefix("lesson")))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: str(lesson.number))
def test_an_untouched_skeleton_says_where_to_begin(lesson: Lesson, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(lesson.skeleton)
    assert 10 <= len(lesson.skeleton.splitlines()) <= 30
    line = lesson.skeleton.splitlines().index("    raise NotImplementedError") + 1
    verdict = attempt(lesson, path, MUCH)
    assert (verdict.ok, verdict.idea) == (False, "untouched")
    assert verdict.text == f"{path}:{line}: begin here, in place of this line."


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: str(lesson.number))
def test_a_right_exercise_is_told_why_it_is_right(lesson: Lesson) -> None:
    verdict = attempt(lesson, HERE / f"lesson{lesson.number}" / "reference.py", MUCH)
    assert verdict.ok, verdict
    assert verdict.idea == "reference"
    assert len(verdict.text) > 40


@pytest.mark.parametrize("path", WRONG, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_misunderstanding_is_named(path: Path) -> None:
    verdict = attempt(lesson_of(path), path, MUCH)
    assert (verdict.ok, f"misunderstanding_{verdict.idea}") == (False, path.stem), verdict


@pytest.mark.parametrize("number", TITLES)
def test_a_trace_ends_where_the_idea_is_named_and_opens_at_its_cause(
    number: int, tmp_path: Path
) -> None:
    trace = tmp_path / "scene.jsonl"
    for path in WRONG:
        if lesson_of(path).number != number:
            continue
        verdict = traced(load(number), path, MUCH, trace)
        events = {event["n"]: event for event in read(trace)[1]}
        *_, last = events.values()
        assert verdict == evolve(attempt(load(number), path, MUCH), trace=verdict.trace)
        assert (last["kind"], last["rule"], last["verdict"]) == ("check", verdict.idea, "NOT YET")
        assert verdict.text in last["text"]
        cause = events[last["cause"]]
        assert verdict.trace == f"{trace}: look at step {cause['n']}, {cause['text']}"
        if verdict.look is not None:
            assert (cause["kind"], cause["field"]) == verdict.look
        elif number == 4:
            assert cause["path"].endswith("/state")
        begun = {event["d"]: event["name"] for event in events.values() if event["kind"] == "begin"}
        if verdict.look is not None and number != 5:
            assert "()" in begun[cause["d"]]
        acts = [*load(number).functions, "the backend takes the slots"]
        assert any(act in name for act in acts for name in begun.values())


def test_of_what_never_ran_there_is_no_trace(tmp_path: Path) -> None:
    path, trace = tmp_path / "mine.py", tmp_path / "scene.html"
    path.write_text("def send_request(front:")
    assert traced(load(1), path, MUCH, trace).trace == ""
    assert not trace.exists()


@pytest.mark.parametrize("number", TITLES)
def test_at_least_three_misunderstandings_have_messages_of_their_own(number: int) -> None:
    paths = [path for path in WRONG if path.parent.name == f"lesson{number}"]
    texts = {attempt(load(number), path, MUCH).text for path in paths}
    assert len(texts) == len(paths) >= 3


ODD = {
    "def send_request(front, request:\n    pass\n": ("syntax", ":1: '(' was never closed."),
    "\ndef send_request(front, request):\n    return 1 / 0\n": (
        "error",
        ":3: ZeroDivisionError: division by zero",
    ),
    "import sys\nsys.exit('enough')\n": ("error", ":2: SystemExit: enough"),
    "def other(): pass\n": ("error", ": there is no function send_request() any more."),
    "def send_request(front, request): return 'yes'\n": (
        "type",
        "send_request() has to return True or False, and it returned 'yes'.",
    ),
    "def send_request(front, request):\n    front.sring.write_slot(0, bytes(20))\n": (
        "error",
        ":2: ValueError: tx: 20 bytes do not fit a 12-byte slot",
    ),
    "def send_request(front):\n    return True\n": (
        "error",
        ": send_request takes (front, request), as in",
    ),
}


@pytest.mark.parametrize("source", ODD)
def test_whatever_goes_wrong_is_one_sentence(source: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    idea, text = ODD[source]
    verdict = attempt(load(1), path, MUCH)
    assert (verdict.ok, verdict.idea) == (False, idea)
    assert text in verdict.text
    assert "\n" not in verdict.text


def test_a_file_of_other_bytes_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"\x00\xff")
    assert not attempt(load(1), path, MUCH).ok
    assert not attempt(load(1), tmp_path / "none.py", MUCH).ok


def test_a_loop_without_end_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def send_request(front, request):\n    while True:\n        pass\n")
    verdict = check(1, path, cpu_seconds=0.2).verdict
    assert (verdict.ok, verdict.idea) == (False, "time")
    assert "still running after 0.2 s" in verdict.text
    assert f"{path}:2" in verdict.text or f"{path}:3" in verdict.text


def test_a_loop_that_does_not_heed_the_end_of_its_time_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import resource, signal\n"
        "signal.signal(signal.SIGVTALRM, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (1, -1))\n"
        "def send_request(front, request):\n    while True:\n        pass\n"
    )
    verdict = check(1, path, cpu_seconds=0.1).verdict
    assert (verdict.ok, verdict.idea) == (False, "time")
    assert "a loop without end" in verdict.text


def test_what_an_exercise_prints_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    body = (HERE / "lesson1" / "reference.py").read_text()
    path.write_text(f"import os\nprint('hello')\nos.write(1, b'{{}}')\n{body}")
    checked = check(1, path, cpu_seconds=MUCH)
    assert checked.verdict.ok
    assert checked.printed == "hello\n"


def test_a_process_that_ends_by_itself_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import os\nos._exit(7)\n")
    text = f"{path}: the process ended (exit code 7) before it was checked."
    assert check(1, path).verdict == Verdict(False, "error", text)


def test_a_process_that_waits_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import signal\nsignal.pause()\n")
    assert check(1, path, wall_seconds=0.5).verdict.idea == "time"


def test_a_limit_of_memory_that_was_chosen_stays() -> None:
    path = HERE / "lesson1" / "reference.py"
    old = resource.getrlimit(resource.RLIMIT_AS)
    if old[1] != resource.RLIM_INFINITY:
        pytest.skip("there is a limit already, and it cannot be taken back")
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "from pathlib import Path; from xennet.course.exercise import check\n"
        f"print(check(1, Path({str(path)!r}), cpu_seconds=60.0).verdict.idea)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "reference\n"
