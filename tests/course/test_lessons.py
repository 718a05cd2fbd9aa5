"""What the lessons say of a run besides what it prints, and the commands that they name."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from xennet.cli import group, main
from xennet.trace.stream import read

DOCS = Path(__file__).parents[2] / "docs"
LESSONS = DOCS / "course"
PAGES = [DOCS / "teaching.md", DOCS / "ring.md", *sorted(LESSONS.glob("*.md"))]


def commands(text: str) -> list[str]:
    """The commands that a page names: in a sentence, on lines of their own, of samples."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    told = [line for line in lines if re.match(r" {4}xennet |<!-- \$ xennet ", line)]
    quoted = re.findall(r"`(xennet [^`]+)`", " ".join(lines))
    whole = [re.split(r"-->|\| lines|  +#|&&", line)[0].partition("xennet ")[2] for line in told]
    return [*whole, *(one.removeprefix("xennet ") for one in quoted)]


def option_names(command: click.Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def subcommand(command: click.Command, name: str) -> click.Command | None:
    if not isinstance(command, click.Group):
        return None
    return command.get_command(click.Context(command), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_commands_of_a_page_are_there_with_their_options(page: Path) -> None:
    run = subcommand(group, "run")
    assert run is not None
    for told in commands(page.read_text("utf-8")):
        words, options = told.split(), {"--help", "--version"}
        command: click.Command = group
        for word in words:
            if (found := subcommand(command, word)) is not None:
                command = found
                options |= option_names(command)
        assert command is not group, told
        if command.context_settings.get("ignore_unknown_options"):
            options |= option_names(run)
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= options, told


@pytest.mark.parametrize("guest", ["gen:100x3", "tcp:3000x4"])
def test_why_a_notification_was_avoided_is_three_numbers_and_a_step(
    guest: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"
    arguments = ["trace", "run", "--quiet", "--guest", guest, "--host", "echo:", "-o", str(file)]
    assert main(arguments) == 0
    events = {event["n"]: event for event in read(file)[1]}
    told = [event for event in events.values() if event["kind"] == "notify"]
    avoided = [event for event in told if not event["sent"]]
    assert avoided
    for event in avoided:
        setter = events[event["event_set_by"]]
        assert setter["field"] == "req_event"
        assert setter["meaning"]["req_event"] == event["event"]
        assert not event["old"] < event["event"] <= event["new"]
        earlier = [one for one in told if one["ring"] == event["ring"] and one["n"] < event["n"]]
        assert any(one["sent"] and one["old"] < event["event"] <= one["new"] for one in earlier)
    if guest == "gen:100x3":  # the run of lesson 2
        first, text = avoided[0], (LESSONS / "lesson2.md").read_text("utf-8").replace("\n", " ")
        numbers = f"from {first['old']} to {first['new']}, `req_event` was {first['event']}"
        assert f"`req_prod` went {numbers}" in text
        assert f"not among {first['old'] + 1} to {first['new']}" in text
