"""``xennet course``: lessons, their questions and exercises."""

from __future__ import annotations

import shlex
from pathlib import Path
from random import SystemRandom
from time import sleep
from typing import TYPE_CHECKING

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup
from xennet.cli.output import say
from xennet.cli.whole_number import WholeNumber
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.course.lesson import Lesson

#: Seconds between two looks at a file that is watched.
_LOOK_AGAIN = 0.3
#: Lines of what an exercise printed that are shown.
_SHOWN = 5
#: Ideas of a verdict behind which no scene was played to its end.
_NOTHING_TO_SEE = frozenset(("untouched", "syntax"))

_number = click.argument("number", type=WholeNumber(1))
_file = click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE]"
)


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    epilog="Exit code of check: 0 the exercise is right, 1 it is not.",
)
@click.pass_context
def course(ctx: click.Context) -> None:
    """Lessons about PV networking; without a command they are listed, with the exercises that are
    right already, of those in this directory. docs/course has the texts."""
    if ctx.invoked_subcommand is None:
        _list()


def _list() -> None:
    """Print the lessons, how far each exercise in this directory is, and what to do next."""
    from xennet.course.contents import TITLES
    from xennet.course.exercise import check as tried

    right, following = 0, ""
    for number, title in TITLES.items():
        path = _default(number)
        state, command = "", f"xennet course reset {number}"
        if path.is_file():
            verdict = tried(number, path).verdict
            right += verdict.ok
            state = "right" if verdict.ok else f"not yet ({verdict.idea})"
            command = "" if verdict.ok else f"xennet course check {number}"
        following = following or command
        say(f"{number}  {title}  (docs/course/lesson{number}.md)  {state}".rstrip())
    say(
        f"{right} of {len(TITLES)} exercises are right" + (f"; next: {following}" * bool(following))
    )


@course.command()
@_number
@click.option("--seed", type=WholeNumber(0), help="Other questions for each seed.")
@click.option("--count", type=WholeNumber(1), default=5, show_default=True, help="How many.")
@click.option("--answers", is_flag=True, help="With their answers.")
def quiz(number: int, seed: int | None, count: int, answers: bool) -> None:
    """Ask questions about a lesson; the machine computes the answers."""
    from xennet.course.lesson import quiz as questions

    lesson = _lesson(number)
    chosen = SystemRandom().randrange(10_000) if seed is None else seed
    say(f"Lesson {number}, {lesson.title}: seed {chosen}")
    for place, question in enumerate(questions(lesson, chosen, count), 1):
        say(f"\n{place}. {question.text}")
        if answers:
            say(f"   Answer: {question.answer}")
    if not answers:
        say(f"\nanswers: xennet course quiz {number} --seed {chosen} --answers")


@course.command()
@_number
@_file
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what happened, access by access, where it went wrong: FILE.html is a page that "
    "opens there.",
)
@click.pass_context
def check(ctx: click.Context, number: int, file: Path | None, trace: Path | None) -> None:
    """Try an exercise: FILE, or lessonN.py in this directory."""
    from xennet.trace.writers import writer_for

    lesson = _lesson(number)
    try:
        if trace is not None:
            writer_for(trace)
    except ValueError as error:
        raise BadInputError(printable(str(error))) from None
    ctx.exit(0 if _checked(lesson, _exercise(lesson, file), trace) else 1)


@course.command()
@_number
@_file
def watch(number: int, file: Path | None) -> None:
    """Try an exercise each time that FILE is saved, until it is right. Ctrl-C ends it."""
    lesson = _lesson(number)
    path = _exercise(lesson, file)
    say(f"{printable(str(path))} is tried each time that it is saved; Ctrl-C ends it")
    tried: bytes | None = None
    while True:
        try:
            content = path.read_bytes()
        except OSError:  # an editor is replacing it
            content = tried or b""
        if content != tried:
            tried = content
            if _checked(lesson, path):
                return
        sleep(_LOOK_AGAIN)


@course.command()
@_number
@click.argument("which", type=WholeNumber(1), default=1)
def hint(number: int, which: int) -> None:
    """Give a hint: the first one, or the one of that number."""
    hints = _lesson(number).hints
    if which > len(hints):
        raise BadInputError(f"lesson {number} has {len(hints)} hints")
    say(f"{which} of {len(hints)}: {hints[which - 1]}")
    if which < len(hints):
        say(f"the next one: xennet course hint {number} {which + 1}")


@course.command()
@_number
@_file
@click.option("--force", is_flag=True, help="Also if it was changed; the changed one is kept.")
def reset(number: int, file: Path | None, force: bool) -> None:
    """Write the exercise as it is at the beginning: FILE, or lessonN.py in this directory."""
    lesson = _lesson(number)
    path = file or _default(number)
    name = printable(str(path))
    if path.exists() and not path.is_file():
        raise BadInputError(f"{name}: no regular file")
    try:
        if path.exists() and path.read_bytes() != lesson.skeleton.encode():
            if not force:
                raise BadInputError(f"{name} was changed; --force begins anew and keeps a copy")
            copy = next(
                spare
                for count in range(1, 10_000)
                if not (spare := path.with_name(f"{path.name}.{count}")).exists()
            )
            path.rename(copy)
            say(f"kept: {printable(str(copy))}")
        path.write_text(lesson.skeleton)
    except OSError as error:
        raise BadInputError(f"{name}: {error.strerror}") from error
    say(f"{name}: complete it, then: xennet course check {number}")


def _lesson(number: int) -> Lesson:
    from xennet.course.contents import TITLES, load

    if number not in TITLES:
        raise BadInputError(f"there is no lesson {number}; 'xennet course' lists them")
    return load(number)


def _exercise(lesson: Lesson, file: Path | None) -> Path:
    path = file or _default(lesson.number)
    if not path.is_file():
        name = printable(str(path))
        raise BadInputError(
            f"{name}: no such file; begin with: xennet course reset {lesson.number}"
        )
    return path


def _checked(lesson: Lesson, path: Path, trace: Path | None = None) -> bool:
    """Try an exercise and print the verdict. Returns whether it is right."""
    from xennet.course.exercise import check as tried

    checked = tried(lesson.number, path, trace)
    verdict = checked.verdict
    printed = checked.printed.splitlines()
    for line in printed[:_SHOWN]:
        say(f"printed: {printable(line)}")
    if len(printed) > _SHOWN:
        say("printed: ... and more")
    word = "OK" if verdict.ok else f"NOT YET ({verdict.idea})"
    say(f"{word}: {printable(verdict.text)}")
    if verdict.ok and (following := _title(lesson.number + 1)):
        say(f"next: docs/course/lesson{lesson.number + 1}.md, {following}")
    if trace is not None:
        nothing = "nothing is written: no shared memory was touched"
        say(f"trace: {printable(verdict.trace) or nothing}")
    elif not verdict.ok and verdict.idea not in _NOTHING_TO_SEE:
        command = f"xennet course check {lesson.number}{_named(path, lesson)}"
        say(f"see it: {command} --trace lesson{lesson.number}.html")
    return verdict.ok


def _title(number: int) -> str | None:
    from xennet.course.contents import TITLES

    return TITLES.get(number)


def _named(path: Path, lesson: Lesson) -> str:
    """The exercise's file as a word of a command, "" where it need not be said."""
    return "" if path == _default(lesson.number) else f" {shlex.quote(printable(str(path)))}"


def _default(number: int) -> Path:
    """Where a learner's exercise is unless a FILE is named."""
    return Path(f"lesson{number}.py")
