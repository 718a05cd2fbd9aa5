"""The contents of the course: lessons, each in a module of its own, imported when asked for."""

from __future__ import annotations

from importlib import import_module

from xennet.course.lesson import Lesson

#: Number of a lesson -> its title.
TITLES = {
    1: "A page and a ring",
    2: "req_event and the lost wake-up",
    3: "Grants, and who may touch what",
    4: "XenStore and the handshake",
    5: "Extra info, GSO and checksums",
    6: "A hostile peer",
}


def load(number: int) -> Lesson:
    """Lesson ``number``. Raises KeyError if there is none."""
    title = TITLES[number]
    module = import_module(f"xennet.course.lessons.lesson{number}")
    lesson: Lesson = getattr(module, "LESSON")  # noqa: B009 (each module has one)
    assert lesson.title == title
    return lesson
