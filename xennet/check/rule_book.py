"""The rules of the protocol, as data: the files of ``xennet/check/rules``.

A file has one table for each rule::

    [[rule]]
    id = "netif.tx.slot-in-page"
    text = "The bytes of a slot lie in one page: offset + size is at most 4096."
    source = "xen/io/netif.h"
    release = "4.17"
    anchor = "struct netif_tx_request: offset, size"
    severity = "MUST"    # MUST, SHOULD, NOTE
    tier = "memory"      # memory, crash, wedge, none
    unseen = ""          # why no peer can see whether it is kept; "" if a peer can
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from attrs import fields_dict, frozen

from xennet.check.outcome import Severity, Tier

#: The version of the rules; it is raised when one is added, removed or changes what it asks for.
RULES_VERSION = "1.0"

_ID = re.compile(r"[a-z0-9_]+(-[a-z0-9_]+)*(\.[a-z0-9_]+(-[a-z0-9_]+)*)+")


class RuleBookError(Exception):
    """A file of rules is not as it has to be; the message names file and rule."""


@frozen
class Rule:
    """One rule: ``text`` says it in own words; it is from the header ``source`` of Xen's
    ``release``, at ``anchor``. ``unseen``: why no peer can see whether it is kept."""

    id: str
    text: str
    source: str
    release: str
    anchor: str
    severity: Severity
    tier: Tier
    unseen: str = ""


@cache
def rule_book() -> Mapping[str, Rule]:
    """All rules by id, in the order of their ids. Raises RuleBookError."""
    folder = files("xennet.check") / "rules"
    texts = {file.name: file.read_bytes() for file in folder.iterdir()}
    return read_rules({name: raw for name, raw in texts.items() if name.endswith(".toml")})


def read_rules(texts: Mapping[str, bytes]) -> Mapping[str, Rule]:
    """The rules in files given by name and content, in the order of their ids. Raises
    RuleBookError."""
    rules: dict[str, Rule] = {}
    for name in sorted(texts):
        try:
            tables = tomllib.loads(texts[name].decode()).get("rule", [])
        except ValueError as error:
            raise RuleBookError(f"{name}: {error}") from None
        for table in tables:
            rule = _rule(name, table)
            if rule.id in rules:
                raise RuleBookError(f"{name}: there are two rules {rule.id!r}")
            rules[rule.id] = rule
    return dict(sorted(rules.items()))


def rules_digest() -> str:
    """A digest of all rules, for reports: 12 hexadecimal digits."""
    told = "\n".join(map(repr, rule_book().values()))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _rule(name: str, table: Mapping[str, object]) -> Rule:
    where = f"{name}: rule {table.get('id', '?')!r}"
    known, given = set(fields_dict(Rule)), set(table)
    if wrong := sorted((known - {"unseen"} - given) | (given - known)):
        raise RuleBookError(f"{where}: missing or unknown: {', '.join(wrong)}")
    values = {}
    for key, value in table.items():
        if not isinstance(value, str) or (not value.strip() and key != "unseen"):
            raise RuleBookError(f"{where}: {key} is no text")
        values[key] = value
    if not _ID.fullmatch(values["id"]):
        raise RuleBookError(f"{where}: ids are words and dots in lower case")
    try:
        severity, tier = Severity(values.pop("severity")), Tier(values.pop("tier"))
    except ValueError as error:
        raise RuleBookError(f"{where}: {error}") from None
    return Rule(severity=severity, tier=tier, **values)
