"""Rules are data: files are read whole or refused with the place of the fault."""

from __future__ import annotations

import pytest

from xennet.check.rule_book import RuleBookError, read_rules, rule_book, rules_digest

RULE = b"""
[[rule]]
id = "netif.tx.slot-in-page"
text = "offset + size is at most 4096."
source = "xen/io/netif.h"
release = "4.17"
anchor = "struct netif_tx_request"
severity = "MUST"
tier = "memory"
"""


def test_a_rule_has_all_that_its_table_says() -> None:
    (rule,) = read_rules({"a.toml": RULE}).values()
    assert (rule.id, rule.severity, rule.tier, rule.unseen) == (
        "netif.tx.slot-in-page",
        "MUST",
        "memory",
        "",
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"severity", b"urgency", "missing or unknown: severity, urgency"),
        (b'"MUST"', b'"WILL"', "'WILL'"),
        (b'"memory"', b"3", "tier is no text"),
        (b'"4.17"', b'" "', "release is no text"),
        (b"slot-in-page", b"Slot In Page", "lower case"),
        (b"[[rule]]", b"[[rule]", "a.toml"),
    ],
)
def test_a_fault_in_a_file_is_named(before: bytes, after: bytes, said: str) -> None:
    with pytest.raises(RuleBookError, match=r"a\.toml") as refused:
        read_rules({"a.toml": RULE.replace(before, after)})
    assert said in str(refused.value)


def test_an_id_is_there_once() -> None:
    with pytest.raises(RuleBookError, match=r"two rules 'netif\.tx\.slot-in-page'"):
        read_rules({"a.toml": RULE, "b.toml": RULE})


def test_the_rules_of_the_package_can_be_read() -> None:
    assert list(rule_book()) == sorted(rule_book())
    assert len(rules_digest()) == 12
