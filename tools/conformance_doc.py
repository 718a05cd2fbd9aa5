"""Writes the checks and rules into docs/conformance.md, behind its guide; with --check it only
compares, and exits with 1 if the page says anything else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from xennet.check.check import Check, Side, all_checks
from xennet.check.profile import FEATURES
from xennet.check.rule_book import RULES_VERSION, Rule, rule_book
from xennet.check.runner import SUITE_VERSION

DOC = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
#: What is above this line is written by hand.
MARK = "<!-- From here on by tools/conformance_doc.py -->\n"


def generated() -> str:
    """All features, checks and rules that no peer sees."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    checks = all_checks()
    yield "## Features"
    yield ""
    yield "| feature | a driver without it has no |"
    yield "|---|---|"
    yield from (f"| `{name}` | {_cell(what)} |" for name, what in FEATURES.items())
    for side in Side:
        of_side = [one for one in checks if one.side is side]
        yield ""
        yield f"## Checks of a {side}"
        yield ""
        yield (
            f"{len(of_side)} checks (suite {SUITE_VERSION}, rules {RULES_VERSION}), by rule. "
            "Accepted outcomes are in brackets where they are not `answered`; then, of a hostile "
            "move, its field; and what it needs."
        )
        for rule in rule_book().values():
            if mine := [one for one in of_side if one.rule == rule.id]:
                yield from _rule(rule, mine)
    unseen = [rule for rule in rule_book().values() if rule.unseen]
    if unseen:
        yield ""
        yield "## Rules that no peer can see"
        yield ""
        yield "| rule | what it asks for | why there is no check |"
        yield "|---|---|---|"
        yield from (
            f"| `{rule.id}` | {_cell(rule.text)} | {_cell(rule.unseen)} |" for rule in unseen
        )


def _rule(rule: Rule, checks: list[Check]) -> Iterator[str]:
    yield ""
    yield f"**`{rule.id}`** ({rule.severity}, tier {rule.tier}): {_cell(rule.text)}"
    yield f"{rule.source} of Xen {rule.release}: `{rule.anchor}`"
    yield ""
    for one in checks:
        accepted = ", ".join(sorted(one.accepts))
        more = f" [{accepted}]" if accepted != "answered" else ""
        if one.field is not None:
            more += f"; field: {one.field.name}"
        if one.needs:
            more += f"; needs {', '.join(sorted(one.needs))}"
        yield f"* `{one.id}`: {_cell(one.summary)}{more}"


def _cell(text: str) -> str:
    """Text that is neither a column nor a tag to Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: list[str]) -> int:
    guide, mark, _ = DOC.read_text().partition(MARK)
    if not mark:
        print(f"{DOC} has no line {MARK!r}", file=sys.stderr)
        return 2
    page = f"{guide}{MARK}\n{generated()}"
    if "--check" in arguments:
        if DOC.read_text() != page:
            print(f"{DOC.name} is out of date: run {Path(__file__).name}", file=sys.stderr)
            return 1
        return 0
    DOC.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
