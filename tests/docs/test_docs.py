"""The documents say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "findings/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_the_life_cycle_page_is_what_the_tables_say() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "lifecycle_doc.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_conformance_page_has_every_check_as_it_is() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "conformance_doc.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_lead_to_one(document: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", document.read_text()):
        path = document.parent / target if target else document
        if path.suffix == ".md":
            assert heading in headings(path), (target, heading)


def headings(path: Path) -> set[str]:
    """The headings of a document as a link names them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", line.lower()) for line in re.findall(r"^#+ (.*)$", text, re.M))
    return {line.replace(" ", "-") for line in plain}


def test_every_hardening_rule_has_a_test_named_after_it() -> None:
    text = (ROOT / "docs" / "hardening.md").read_text()
    rules = set(re.findall(r"^\| ((?:[FB]\d+(?:, )?)+) \|", text, flags=re.MULTILINE))
    names = {name for row in rules for name in row.split(", ")}
    assert {"F1", "F14", "B1", "B14"} <= names
    tests = "\n".join(
        path.read_text()
        for room in ("netback", "netfront", "control_ring", "link")
        for path in (ROOT / "tests" / room).glob("*.py")
        if path.name != "test_defects_absent.py"  # its B rows are the seed's, not these rules
    )
    for name in names:
        assert re.search(rf"(?i:def test_(\w+_)?{name}_)|rules? [^\n]*\b{name}\b", tests), name


def test_rooms_of_the_architecture_page_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in re.findall(r"`(xennet/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    rooms = {path.relative_to(ROOT).as_posix() for path in (ROOT / "xennet").iterdir()}
    rooms -= {"xennet/__pycache__", "xennet/py.typed"}
    assert [room for room in sorted(rooms) if f"`{room}" not in text] == []


def test_the_tests_that_other_pythons_run_are_there() -> None:
    script = (ROOT / ".ci" / "other-pythons").read_text()
    (folders,) = re.findall(r'^FOLDERS="(.*)"$', script, re.MULTILINE)
    assert [path for path in folders.split() if not (ROOT / path).exists()] == []


def test_every_finding_is_in_their_table_and_says_what_it_is_about() -> None:
    """The scripts themselves need a package mirror; no test runs them."""
    folder = ROOT / "findings"
    scripts = {path.name: path.read_text() for path in folder.glob("*.sh")}
    named = set(re.findall(r"^\| `(\w+\.sh)` \|", (folder / "README.md").read_text(), re.MULTILINE))
    assert scripts
    assert named == scripts.keys()
    for name, text in scripts.items():
        for part in ("# Input: ", "# Seen: ", "# Why it surprises: ", "# xennet: "):
            assert part in text, (name, part)
