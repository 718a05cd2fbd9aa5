"""The pictures in docs/course are those that the lessons' runs of today draw."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from xennet.course.contents import TITLES
from xennet.course.pictures import PICTURES, drawn, play, program_of
from xennet.course.svg import CHAR, Drawing

COURSE = Path(__file__).parents[2] / "docs" / "course"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("number", TITLES)
def test_a_picture_is_what_its_lesson_s_run_draws(number: int) -> None:
    picture = drawn(COURSE, number)
    assert picture == (COURSE / f"lesson{number}.svg").read_text(encoding="utf-8"), (
        "run python -m xennet.course.pictures docs/course"
    )
    text = (COURSE / f"lesson{number}.md").read_text(encoding="utf-8")
    assert re.search(rf"^!\[[^]]{{40,}}\]\(lesson{number}\.svg\)$", text, re.MULTILINE)


@pytest.mark.parametrize("number", TITLES)
def test_a_picture_says_what_it_shows_and_has_no_script(number: int) -> None:
    root = ElementTree.fromstring((COURSE / f"lesson{number}.svg").read_text(encoding="utf-8"))
    assert root.tag == f"{SVG}svg"
    assert len(root.findtext(f"{SVG}title", "")) > 20
    assert len(root.findtext(f"{SVG}desc", "")) > 100
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "text", "path"}
    assert not [name for element in root.iter() for name in element.attrib if "href" in name]


@pytest.mark.parametrize(
    ("number", "old", "new", "shown"),
    [
        (1, "5, 60)", "5, 61)", ">size 61<"),
        (2, "back.req_cons + 1", "back.req_cons + 2", ">asks: req_event = 5<"),
        (3, "readonly=True", "readonly=False", ">the guest stores flags 1: valid from now on<"),
        (
            4,
            "front.publish()",
            "front.publish(); front.write('x-ring-ref', 77)",
            ">x-ring-ref = 77<",
        ),
        (5, "gso_size=1448", "gso_size=1400", "segments of 1400 bytes"),
        (6, '"grant-ended"', '"short-packet"', ">F6: packet answered ERROR<"),
    ],
)
def test_another_run_draws_another_picture(number: int, old: str, new: str, shown: str) -> None:
    program = program_of(COURSE / f"lesson{number}.md")
    assert old in program
    assert shown in PICTURES[number](play(program.replace(old, new)))


def test_text_that_would_end_beyond_the_picture_is_refused() -> None:
    drawing = Drawing(400, "a title", "what it shows")
    drawing.text(0, 40, "x" * int(396 / CHAR), "ink")
    for x, middle in ((12, False), (2, True), (390, True)):
        with pytest.raises(ValueError, match="does not fit"):
            drawing.text(x, 40, "x" * int(396 / CHAR), "ink", middle=middle)


def test_what_is_drawn_is_escaped() -> None:
    drawing = Drawing(400, "a<b", "c & d")
    root = ElementTree.fromstring(drawing.document())
    assert root.findtext(f"{SVG}title") == "a<b"
    assert root.findtext(f"{SVG}desc") == "c & d"
    assert root.findtext(f"{SVG}text") == "a<b"
