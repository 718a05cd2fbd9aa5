"""Choices as text: which ready delivery came next, from the first delivery of a machine on.

A run in virtual time is a machine, its ports, and what was chosen at each step of its run loop
(:mod:`xennet.runloop`): the index of a delivery among those that were ready, 0 for the oldest. The
text of such choices is short and stands in a URL or a shell's command as it is:

    ====== ==============================================================
    text   means
    ====== ==============================================================
    ``57`` the oldest, 57 times in turn (decimal, no zero in front)
    ``a``  choice 1, the second oldest; ``b`` choice 2 ... ``z`` choice 26
    ``_N_``  choice N, a decimal number greater than 26
    ====== ==============================================================

``57a3b`` is 62 steps: 57 times the oldest, choice 1, three times the oldest, choice 2. The empty
text is no step. What comes behind the last step is up to who plays it: usually the oldest.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from attrs import define, field, frozen

from xennet.runloop import Chooser, Delivery

#: Most steps that a text may stand for: more than any run in virtual time makes in a day.
MOST_STEPS = 10**12

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(r"(?P<oldest>[1-9][0-9]*)|(?P<letter>[a-z])|_(?P<number>[1-9][0-9]*)_")


class ChoicesError(ValueError):
    """A text is no text of choices; ``position`` counts its characters from 1."""

    def __init__(self, text: str, at: int, what: str) -> None:
        self.position = at + 1
        super().__init__(f"choices {text!r}: character {self.position}: {what}")


class NoSuchChoiceError(ValueError):
    """Choices do not fit a run: at ``step``, from 1, there was no ``choice``; ``ready`` are the
    names of the deliveries that were ready."""

    def __init__(self, step: int, choice: int, ready: Sequence[str]) -> None:
        self.step, self.choice, self.ready = step, choice, tuple(ready)
        there = ", ".join(f"{i} {name}" for i, name in enumerate(self.ready)) or "nothing"
        super().__init__(f"choices: step {step} is choice {choice}; ready was: {there}")


@frozen
class Choices:
    """What was chosen in ``steps`` steps: ``others`` has (step, choice) of each step, from 1, at
    which it was not the oldest, in order. Everything else is the oldest."""

    steps: int = 0
    others: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(indices: Iterable[int]) -> Choices:
        """The choices with these indices, one for each step. Raises ValueError for a negative
        one."""
        noted = Noted()
        for index in indices:
            if index < 0:
                raise ValueError(f"step {noted.steps + 1}: choice {index} is negative")
            noted.add(index)
        return noted.choices

    @staticmethod
    def parse(text: str) -> Choices:
        """The choices that ``text`` stands for. Raises ChoicesError."""
        steps, at = 0, 0
        others = []
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ChoicesError(text, at, _why_not(text, at))
            number = token["number"]
            if token["oldest"] is not None:
                # Longer numbers are refused before Python makes one of them.
                long = len(token["oldest"]) > 12
                steps += MOST_STEPS + 1 if long else int(token["oldest"])
            else:
                if number is not None and (len(number) > 9 or int(number) <= len(_LETTERS)):
                    least = len(_LETTERS) + 1
                    raise ChoicesError(text, at + 1, f"_N_ has N from {least} to 999999999")
                steps += 1
                choice = _LETTERS.index(token[0]) + 1 if number is None else int(number)
                others.append((steps, choice))
            if steps > MOST_STEPS:
                raise ChoicesError(text, at, f"these are more than {MOST_STEPS} steps")
            at = token.end()
        return Choices(steps, tuple(others))

    def indices(self) -> Iterator[int]:
        """The index chosen at each step."""
        before = 0
        for step, choice in self.others:
            yield from (0 for _ in range(step - before - 1))
            yield choice
            before = step
        yield from (0 for _ in range(self.steps - before))

    def first(self, steps: int) -> Choices:
        """The choices of the first ``steps`` steps; the oldest where there are no more."""
        return Choices(steps, tuple(other for other in self.others if other[0] <= steps))

    def then(self, choice: int) -> Choices:
        """These choices and one more step."""
        steps = self.steps + 1
        return Choices(steps, (*self.others, (steps, choice)) if choice else self.others)

    def __str__(self) -> str:
        before = 0
        parts = []
        for step, choice in self.others:
            parts.append(_oldest(step - before - 1))
            parts.append(_LETTERS[choice - 1] if choice <= len(_LETTERS) else f"_{choice}_")
            before = step
        parts.append(_oldest(self.steps - before))
        return "".join(parts)


#: No choice: the oldest each time.
OLDEST = Choices()


def _oldest(times: int) -> str:
    return str(times) if times else ""


def _why_not(text: str, at: int) -> str:
    if text[at] == "0":
        return "a number does not begin with 0"
    if text[at] == "_":
        return "'_' begins no _N_, a choice greater than 26"
    return f"{text[at]!r} is neither a number, nor a letter from a to z, nor _N_"


@define
class Noted:
    """Notes of choices while they are made."""

    steps: int = 0
    _others: list[tuple[int, int]] = field(factory=list)

    def add(self, choice: int) -> None:
        """Note the choice of the next step."""
        self.steps += 1
        if choice:
            self._others.append((self.steps, choice))

    @property
    def choices(self) -> Choices:
        """What was noted so far."""
        return Choices(self.steps, tuple(self._others))


class Player:
    """A chooser (xennet.runloop.Chooser) that plays ``choices``, then asks ``then`` (None: the
    oldest). What was chosen is noted in ``noted``."""

    def __init__(self, choices: Choices, then: Chooser | None = None) -> None:
        self.noted = Noted()
        self._left = iter(choices.others)
        self._next = next(self._left, None)
        self._choices = choices
        self._then = then

    def __call__(self, ready: Sequence[Delivery]) -> int:
        """The index of the next delivery. Raises NoSuchChoiceError."""
        step = self.noted.steps + 1
        choice = 0
        if self._next is not None and self._next[0] == step:
            choice = self._next[1]
            self._next = next(self._left, None)
        elif step > self._choices.steps and self._then is not None:
            choice = self._then(ready)
        if not 0 <= choice < len(ready):
            raise NoSuchChoiceError(step, choice, [*map(str, ready)])
        self.noted.add(choice)
        return choice

    def require_all_played(self) -> None:
        """Raises NoSuchChoiceError if a choice was never asked for: the run was over before."""
        if self._next is not None:
            raise NoSuchChoiceError(*self._next, ())


class ChosenOrder:
    """The order of a run loop (xennet.runloop.Order) in which ``choose`` picks each delivery."""

    def __init__(self, choose: Chooser) -> None:
        self._choose = choose
        self._ready: OrderedDict[Delivery, None] = OrderedDict()

    def add(self, delivery: Delivery) -> None:
        """Add a delivery that has become ready."""
        self._ready[delivery] = None

    def remove(self, delivery: Delivery) -> None:
        """Remove a delivery that was chosen otherwise, or cancelled."""
        del self._ready[delivery]

    def next(self) -> Delivery:
        """Remove and return the delivery that is chosen; there is one."""
        choice = self._choose(tuple(self._ready))
        delivery = next(islice(self._ready, choice, None))
        del self._ready[delivery]
        return delivery
