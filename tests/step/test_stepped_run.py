"""Steps of a run: forward, back, and from a text of choices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.choices import Choices, NoSuchChoiceError
from xennet.cli import main
from xennet.step.run_start import RunStart
from xennet.step.stepped_run import SteppedRun

START = RunStart("gen:100x3", "echo:")


@contextmanager
def session(choices: str = "") -> Iterator[SteppedRun]:
    made = SteppedRun(START, Choices.parse(choices))
    try:
        yield made
    finally:
        made.close()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12))
def test_what_was_chosen_comes_to_the_same_place_again(wishes: list[int]) -> None:
    with session() as first:
        for wish in wishes:
            if first.ready:
                first.step(wish % len(first.ready))
        with session(str(first.choices)) as second:
            assert second.steps == first.steps
            assert second.ready == first.ready


def test_back_undoes_the_last_step() -> None:
    with session() as one:
        one.step()
        there = list(one.steps), one.ready, one.choices
        one.step(len(one.ready) - 1)
        assert one.back()
        assert (list(one.steps), one.ready, one.choices) == there


def test_nothing_is_behind_the_moment_at_which_the_vif_is_up() -> None:
    with session() as one:
        assert not one.back()


def test_a_step_tells_why_an_event_is_sent() -> None:
    with session() as one:
        made = one.step()
        assert any("req_prod goes from 0 to 3" in sentence for sentence in made.sentences)
        assert [number for number, _ in one.found("REQ_PROD goes")] == [made.number]


def test_a_delivery_that_is_not_ready_changes_nothing() -> None:
    with session() as one:
        before = one.ready
        with pytest.raises(NoSuchChoiceError, match="choice 9; ready was: 0 work"):
            one.step(9)
        assert one.ready == before
        assert one.steps == []


def test_frames_arrive_in_every_order_that_is_tried() -> None:
    for turn in range(3):
        with session() as one:
            while ready := one.ready:
                one.step((one.choices.steps * turn) % len(ready))
            assert one.found("packet received")[-1][1].endswith("slots 1, bytes 100")


def test_without_a_terminal_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--guest", "gen:100x3", "--host", "null:"]) == 0
    *steps, end = capsys.readouterr().out.splitlines()
    numbers = [int(line.split()[0]) for line in steps]
    assert numbers == list(range(numbers[0], numbers[0] + len(steps)))
    assert end == f"end of the run: choices {numbers[-1]}"


def test_choices_that_the_run_does_not_have_are_bad_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["step", "--guest", "gen:100x3", "--host", "null:", "--choices", "9999a"]) == 2
    assert "step 10000 is choice 1; ready was: nothing" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["pcap:-", "record:out.pcap", "exec:/bin/true", "tap:a"])
def test_a_port_that_cannot_be_in_a_second_run_is_bad_input(
    port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", "--guest", "gen:100x3", "--host", port]) == 2
    assert f"{port}: steps are undone by a run that is made anew" in capsys.readouterr().err
