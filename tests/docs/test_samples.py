"""What the documents show runs as it stands, and prints what they say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("doc_samples", ROOT / "tools" / "doc_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLES = tool()
WITH_SAMPLES = [
    path
    for path in SAMPLES.DOCUMENTS
    if SAMPLES.programs(path.read_text()) or re.search("<!-- ([$]|tables)", path.read_text())
]


def test_the_pages_of_the_front_door_have_samples() -> None:
    names = {path.name for path in WITH_SAMPLES}
    assert {
        "README.md",
        "own-driver.md",
        "ports.md",
        "fuzzing.md",
        "ring.md",
        "teaching.md",
    } <= names


@pytest.mark.parametrize("document", WITH_SAMPLES, ids=lambda path: path.name)
def test_samples_run_and_print_what_the_document_says(document: Path) -> None:
    text = document.read_text()
    assert SAMPLES.updated(text) == text, "run tools/doc_samples.py"


def test_a_driver_of_one_s_own_takes_less_than_60_lines() -> None:
    front, back, *_ = SAMPLES.programs((ROOT / "docs" / "own-driver.md").read_text())
    for program in (front, back):
        assert len([line for line in program.splitlines() if line]) < 60


def test_a_sample_that_fails_is_shown_with_its_error() -> None:
    with pytest.raises(SAMPLES.SampleError, match=r"(?s)exit 1 of.*1 / 0.*ZeroDivisionError"):
        SAMPLES.updated("```python\n1 / 0\n```\n")


def test_an_output_that_is_no_longer_right_is_replaced() -> None:
    text = "```python\nprint(6 * 7)\n```\n\n```text\n41\n```\nand more\n"
    assert SAMPLES.updated(text) == text.replace("41", "42")


def test_of_a_command_the_wanted_lines_are_shown() -> None:
    text = "<!-- $ xennet info | lines: ^python|^arena|^engine -->\n```text\n```\n"
    shown = SAMPLES.updated(text)
    assert re.search(r"```text\npython .*\n  \.\.\.\narena .*\nengine +plain\n```\n", shown)


def test_the_first_screen_leads_to_every_door() -> None:
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:65])
    for page in ("own-driver", "fuzzing", "teaching"):
        assert f"(docs/{page}.md)" in first


def test_the_readme_links_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, page.name
