"""The pictures in docs/course are those that the rings of today draw."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from xennet.course.pictures import PICTURES

COURSE = Path(__file__).parents[2] / "docs" / "course"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_its_ring_draws(name: str) -> None:
    drawn = PICTURES[name]()
    assert drawn == (COURSE / name).read_text(encoding="utf-8"), (
        "run python -m xennet.course.pictures docs/course"
    )
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert f"({name})" in (COURSE / name).with_suffix(".md").read_text(encoding="utf-8")
