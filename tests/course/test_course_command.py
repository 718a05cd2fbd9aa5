"""``xennet course``: its commands, in a learner's directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xennet.cli import main
from xennet.course.contents import TITLES, load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(autouse=True)
def learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lessons_are_listed_with_their_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course"]) == 0
    shown = capsys.readouterr().out
    for number, title in TITLES.items():
        assert f"{number}  {title}  (docs/course/lesson{number}.md)" in shown
        assert (ROOT / "docs" / "course" / f"lesson{number}.md").exists()


def test_the_list_says_how_far_one_is_and_what_is_next(
    learner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["course"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "0 of 6 exercises are right; next: xennet course reset 1"
    (learner / "lesson1.py").write_text((HERE / "lesson1" / "reference.py").read_text())
    wrong = (HERE / "lesson2" / "misunderstanding_wrap.py").read_text()
    (learner / "lesson2.py").write_text(wrong)
    assert main(["course"]) == 0
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first.endswith("(docs/course/lesson1.md)  right")
    assert second.endswith("(docs/course/lesson2.md)  not yet (wrap)")
    assert last == "1 of 6 exercises are right; next: xennet course check 2"


def test_a_quiz_is_the_same_for_a_seed_and_says_how_to_get_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["course", "quiz", "2", "--seed", "7"]) == 0
    asked = capsys.readouterr().out
    assert "Answer" not in asked
    assert "answers: xennet course quiz 2 --seed 7 --answers" in asked
    assert main(["course", "quiz", "2", "--seed", "7", "--answers"]) == 0
    answered = capsys.readouterr().out
    questions = [line for line in asked.splitlines() if line[:1].isdigit()]
    assert [line for line in answered.splitlines() if line[:1].isdigit()] == questions
    assert answered.count("Answer: ") == len(questions) == 5


def test_an_exercise_from_reset_to_right(learner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "check", "1"]) == 2
    assert "begin with: xennet course reset 1" in capsys.readouterr().err
    assert main(["course", "reset", "1"]) == 0
    assert main(["course", "check", "1"]) == 1
    assert "NOT YET (untouched): lesson1.py:13: begin here" in capsys.readouterr().out
    (learner / "lesson1.py").write_text((HERE / "lesson1" / "reference.py").read_text())
    assert main(["course", "check", "1"]) == 0
    assert capsys.readouterr().out.startswith("OK: ")


def test_only_a_regular_file_is_read_and_begun_anew(
    learner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(learner / "lesson1.py")  # a device that never ends is the same
    assert main(["course", "reset", "1", "--force"]) == 2
    assert capsys.readouterr().err == "xennet: lesson1.py: no regular file\n"
    assert [path.name for path in learner.iterdir()] == ["lesson1.py"]


def test_a_failed_check_leads_to_a_page_of_what_happened(
    learner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = (HERE / "lesson2" / "misunderstanding_check-before-event.py").read_text()
    (learner / "lesson2.py").write_text(wrong)
    assert main(["course", "check", "2"]) == 1
    command = "xennet course check 2 --trace lesson2.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"see it: {command}"
    assert main(command.split()[1:]) == 1
    shown = capsys.readouterr().out
    assert "trace: lesson2.html: look at step " in shown
    assert "load of req_prod, tx ring" in shown
    assert "A lost wake-up" in (learner / "lesson2.html").read_text()
    assert main(["course", "check", "2", "--trace", "x.doc"]) == 2
    assert "FILE.html" in capsys.readouterr().err
    assert main(["course", "check", "2", "--trace", "none/x.html"]) == 1
    assert "trace: none/x.html: No such file or directory" in capsys.readouterr().out


def test_reset_keeps_what_a_learner_wrote(
    learner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = learner / "lesson1.py"
    for _ in range(2):  # what is as at the beginning may be written again
        assert main(["course", "reset", "1"]) == 0
    for text in ("first", "second"):
        mine.write_text(text)
        assert main(["course", "reset", "1"]) == 2
        assert mine.read_text() == text
        assert main(["course", "reset", "1", "--force"]) == 0
        assert mine.read_text() == load(1).skeleton
    assert (learner / "lesson1.py.1").read_text() == "first"
    assert (learner / "lesson1.py.2").read_text() == "second"
    assert "kept: lesson1.py.2" in capsys.readouterr().out


def test_hints_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "hint", "2"]) == 0
    assert "xennet course hint 2 2" in capsys.readouterr().out
    assert main(["course", "hint", "2", "9"]) == 2
    assert main(["course", "hint", "99"]) == 2
    assert "there is no lesson 99" in capsys.readouterr().err


def test_watch_tries_what_is_saved_until_it_is_right(learner: Path) -> None:
    mine = learner / "lesson1.py"
    mine.write_text(load(1).skeleton)
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "xennet", "course", "watch", "1"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as watching:
        try:
            assert watching.stdout is not None
            assert "is tried each time" in watching.stdout.readline()
            assert watching.stdout.readline().startswith("NOT YET (untouched)")
            new = learner / "new.py"
            new.write_text((HERE / "lesson1" / "reference.py").read_text())
            new.replace(mine)
            assert watching.stdout.readline().startswith("OK")
            assert watching.wait(60) == 0
        finally:
            watching.kill()
