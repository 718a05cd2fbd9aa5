"""The checks of netbacks on xennet's own two, and what judges them."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from xennet.check.builtin_target import BUILTIN
from xennet.check.check import Check, Side, all_checks
from xennet.check.known_failures import built_in_known_failures
from xennet.check.rule_book import rule_book
from xennet.check.runner import run_checks
from xennet.engine.choice import using

ROOT = Path(__file__).parents[2]
RULES = ROOT / "xennet/check/rules"
HEADERS = Path("/usr/include")
#: The files of rules that the checks of netbacks are for.
FILES = ("netif", "ring", "grant_table", "event_channel")
DEFECT = re.compile(r"([ABC]\d+|field bug \d+): ")


def netback_checks() -> list[Check]:
    """The checks of the data path of a netback; its life has others."""
    rules = {rule["id"] for name in FILES for rule in rules_of(name)}
    return [one for one in all_checks(Side.NETBACK) if one.rule in rules]


def rules_of(name: str) -> list[dict[str, str]]:
    return list(tomllib.loads((RULES / f"{name}.toml").read_text())["rule"])


@pytest.mark.parametrize("name", ["linux", "xnb"])
def test_a_built_in_netback_does_as_expected(name: str) -> None:
    checks = netback_checks()
    ids = [one.id for one in all_checks(Side.NETBACK)]
    known = built_in_known_failures(f"netback-{name}", ids)
    with using("plain"):
        results = run_checks(BUILTIN[Side.NETBACK, name], checks, known)
    assert [(one.check.id, one.problems) for one in results if not one.good] == []


def test_each_known_failure_names_the_defect_that_it_comes_of() -> None:
    ids = [one.id for one in all_checks(Side.NETBACK)]
    of_the_data_path = {one.id for one in netback_checks()}
    for name in ("linux", "xnb"):
        for known in built_in_known_failures(f"netback-{name}", ids):
            assert known.check not in of_the_data_path or DEFECT.match(known.reason), known


@pytest.mark.parametrize("name", FILES)
def test_each_rule_has_a_check_or_a_reason_why_nobody_can_see_it(name: str) -> None:
    checked = {one.rule for one in all_checks()}
    for rule in rules_of(name):
        book = rule_book()[rule["id"]]
        assert bool(book.unseen) != (book.id in checked), book.id


@pytest.mark.parametrize("name", sorted(file.stem for file in RULES.glob("*.toml")))
def test_the_anchor_of_each_rule_stands_in_its_header(name: str) -> None:
    if not (HEADERS / "xen/io/netif.h").exists():
        pytest.skip("needs libxen-dev")
    for rule in rules_of(name):
        header = flat((HEADERS / rule["source"]).read_text())
        assert flat(rule["anchor"]).strip() in header, (rule["id"], rule["anchor"])


def flat(text: str) -> str:
    """A text without the signs of comments and continued lines, in one line."""
    lines = [re.sub(r"^\s*/?\*+ ?", "", line) for line in text.splitlines()]
    return re.sub(r"[\s\\]+", " ", " ".join(lines).replace("/*", " ").replace("*/", " "))


def test_a_check_has_a_hint_and_a_field_names_two_values() -> None:
    for one in netback_checks():
        assert one.hint, one.id
        assert one.field is None or one.field.hostile != one.field.control, one.id


def test_hardening_rules_of_a_backend_have_the_checks_that_their_page_names() -> None:
    page = (ROOT / "docs/hardening.md").read_text()
    rows = dict(re.findall(r"^\| (F\d+) \| (`netback\..*) \|$", page, re.MULTILINE))
    assert list(rows) == [f"F{number}" for number in range(1, 29)]
    ids = [one.id for one in all_checks(Side.NETBACK)]
    for rule, patterns in rows.items():
        for pattern in re.findall("`(.*?)`", patterns):
            assert fnmatch.filter(ids, pattern), (rule, pattern)
