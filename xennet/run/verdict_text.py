"""The verdict of a run in words: all that a quiet run prints, for which nothing that draws is
imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.run.report import RunReport


def word(report: RunReport) -> tuple[str, str]:
    """The verdict in a word, and its style."""
    if report.interrupted is not None and not report.options.live:
        return "INTERRUPTED", "bold yellow"
    return ("GOOD", "bold green") if report.verdict.good else ("BAD", "bold red")


def reasons(report: RunReport) -> str:
    """What stands behind that word: one reason on its line, several on a line each."""
    shown = [printable(reason) for reason in report.verdict.reasons]
    return f": {shown[0]}" if len(shown) == 1 else "".join(f"\n  {reason}" for reason in shown)


def verdict_text(report: RunReport) -> str:
    """The verdict and its reasons as plain text for files and pipes; each sentence is one line."""
    first, _ = word(report)
    return "".join(f"{line.rstrip()}\n" for line in f"{first}{reasons(report)}".splitlines())
