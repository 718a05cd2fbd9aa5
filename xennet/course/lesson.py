"""What a lesson is: questions whose answers the machine computes, and one exercise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from random import Random
from typing import Any

from attrs import frozen

from xennet.engine.choice import using

#: The functions that a learner wrote, by name.
Functions = Mapping[str, Callable[..., Any]]


@frozen
class Question:
    """A question and its answer, each a few lines of text."""

    text: str
    answer: str


@frozen
class Verdict:
    """What a checker says of an exercise.

    ``idea`` is a short name of what was understood or not ("publish-last"; "reference" if it is
    right, "untouched", "syntax", "error", "time", "type" for what is no misunderstanding), ``text``
    the sentences for the learner. ``look``: what shows it in a recording, kind and field of an
    access (None: the last one). ``trace``: where a recording lies, and what to look at; "" without
    one.
    """

    ok: bool
    idea: str
    text: str
    look: tuple[str, str] | None = None
    trace: str = ""


class MisunderstandingError(Exception):
    """A checker has found what the learner's function gets wrong: ``idea``, ``text`` and ``look``
    as in :class:`Verdict`."""

    def __init__(self, idea: str, text: str, look: tuple[str, str] | None = None) -> None:
        super().__init__(text)
        self.idea = idea
        self.text = text
        self.look = look


@frozen
class Lesson:
    """A lesson of 15 minutes; ``number`` counts from 1.

    ``makers`` make a question each from random numbers. ``skeleton`` is the source that a learner
    completes, ``functions`` the functions that it defines. ``examine`` runs them against xennet's
    own code: it raises :class:`MisunderstandingError`, or returns a note on why it is right.
    """

    number: int
    title: str
    makers: tuple[Callable[[Random], Question], ...]
    skeleton: str
    functions: tuple[str, ...]
    hints: tuple[str, ...]
    examine: Callable[[Functions], str]

    def quiz(self, random: Random, count: int = 5) -> list[Question]:
        """``count`` questions; none is asked twice in a row."""
        return list(islice(self._questions(random), count))

    def _questions(self, random: Random) -> Iterator[Question]:
        last = None
        while True:
            for maker in random.sample(self.makers, len(self.makers)):
                question = maker(random)
                while question.text == last:
                    question = maker(random)
                last = question.text
                yield question


def quiz(lesson: Lesson, seed: int, count: int = 5) -> list[Question]:
    """The questions that ``seed`` makes for a lesson: always the same ones."""
    with using("plain"):
        return lesson.quiz(Random(f"lesson {lesson.number}, seed {seed}"), count)


def boolean(function: str, value: object) -> bool:
    """``value``, which ``function`` of a learner returned, if it is True or False; raises
    MisunderstandingError if it is anything else."""
    if not isinstance(value, bool):
        raise MisunderstandingError(
            "type", f"{function}() has to return True or False, and it returned {value!r:.60}."
        )
    return value
