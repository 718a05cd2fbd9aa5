"""docs/host.md names every key of what a host tells, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from live_hosts import Console

PAGE = (Path(__file__).parents[2] / "docs" / "host.md").read_text()


def keys(value: object, above: str = "") -> Iterator[str]:
    """Dotted paths of the values in a document."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from keys(item, f"{above}.{key}" if above else key)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item, f"{above}[]")
    else:
        yield above


def test_every_key_is_described_and_no_other() -> None:
    console = Console()
    console.do("attach", domain=1)
    told = console.do("list")
    section = PAGE.split("### `xennet-host/1`", 1)[1]
    rows = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    described = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}
    # The sockets are the process's.
    assert {*keys(told), "domains[].store", "domains[].exec"} == described
    assert told["format"] == "xennet-host/1"
    why = console.do("why", domain=1)
    assert why == told["domains"][1]["vifs"][0] | {"why": []}
    console.end()
