"""The failures that are known of a driver: a file that says for each which check, how, and why.

    [[known]]
    check = "netback.tx.zero-size-slot"
    outcome = "crashed"           # how it ends
    text = "KeyError"             # what one of its problems has to contain
    reason = "the fix is in review"

A listed check that fails so is an xfail, and the run is good; one that passes is an XPASS, and one
that fails in another way a failure: neither is good.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.resources import files

from attrs import fields_dict, frozen

from xennet.check.outcome import SEEN, Outcome


class KnownFailuresError(Exception):
    """A file of known failures is not as it has to be; the message says where."""


@frozen
class KnownFailure:
    """``check`` ends with ``outcome``, and one of its problems contains ``text``; ``reason``: why
    that is put up with."""

    check: str
    outcome: Outcome
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.outcome}, {self.text!r} ({self.reason})"

    def matches(self, outcome: Outcome, problems: Iterable[str]) -> bool:
        """Whether this is the known failure."""
        return outcome is self.outcome and any(self.text in problem for problem in problems)


def built_in_known_failures(driver: str, checks: Iterable[str]) -> list[KnownFailure]:
    """The known failures of a driver of xennet, "netback-xnb" for instance; none for one that has
    no file of them."""
    path = files("xennet.check") / "known" / f"{driver}.toml"
    if not path.is_file():
        return []
    return read_known_failures(path.read_text(), checks, path.name)


def read_known_failures(text: str, checks: Iterable[str], where: str) -> list[KnownFailure]:
    """The known failures of a file with the content ``text``; ``checks`` are the ids there are,
    ``where`` names the file. Raises KnownFailuresError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KnownFailuresError(f"{where}: {error}") from None
    if unknown := sorted(set(document) - {"known"}):
        raise KnownFailuresError(f"{where}: there are only tables [[known]], no {unknown[0]!r}")
    tables = document.get("known", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise KnownFailuresError(f"{where}: known is a list of tables, each begins with [[known]]")
    known: list[KnownFailure] = []
    ids = set(checks)
    for number, table in enumerate(tables, 1):
        place = f"{where}: entry {number}"
        if set(table) != set(fields_dict(KnownFailure)):
            raise KnownFailuresError(f"{place}: it has check, outcome, text and reason")
        if not all(isinstance(value, str) and value.strip() for value in table.values()):
            raise KnownFailuresError(f"{place}: all four are texts, and none is empty")
        if table["check"] not in ids:
            raise KnownFailuresError(f"{place}: there is no check {table['check']!r}")
        if table["check"] in {one.check for one in known}:
            raise KnownFailuresError(f"{place}: {table['check']!r} is listed already")
        if table["outcome"] not in SEEN:
            seen = ", ".join(sorted(SEEN))
            raise KnownFailuresError(f"{place}: outcome is one of {seen}")
        outcome = Outcome(table["outcome"])
        known.append(KnownFailure(table["check"], outcome, table["text"], table["reason"]))
    return known
