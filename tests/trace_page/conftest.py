"""Recordings and their pages, made once for all tests; a tab that may load and log nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser, Tab
from lost_wake_up import record_lost_wake_up
from recorded_run import record_run

from xennet.trace.page import write_html
from xennet.trace.stream import Event

Recording = tuple[Event, list[Event]]


@pytest.fixture(scope="session")
def run_recording() -> Recording:
    """A run with GSO, two queues and grant tables of version 2."""
    return record_run("tcp:20000x2@2", "echo:", queues=2, grant_version=2)


@pytest.fixture(scope="session")
def lost_wake_up() -> Recording:
    """A backend that looks before it asks for an event."""
    return record_lost_wake_up()


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Tab]:
    """A small tab: what is not painted costs nothing."""
    made = Tab(browser, "about:blank", 400, 300)
    yield made
    made.close()


@pytest.fixture
def shown(tab: Tab, tmp_path: Path) -> Iterator[Callable[[Recording], Tab]]:
    """A function that shows the page of a recording in the tab. Afterwards each page has asked for
    nothing but itself, and has logged nothing."""
    pages: list[str] = []

    def show(recorded: Recording, address: str = "") -> Tab:
        page = tmp_path / f"{len(pages)}.html"
        write_html(*recorded, page)
        tab.open(page.as_uri() + address)
        pages.append(page.as_uri())
        return tab

    tab.forget()
    yield show
    assert set(tab.requests()) == set(pages)
    assert not tab.complaints()
