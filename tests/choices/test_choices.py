"""Choices as text, and runs that are made by them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.choices import Choices, ChoicesError, ChosenOrder, NoSuchChoiceError, Player
from xennet.cli import main
from xennet.runloop import RunLoop

INDICES = st.lists(st.one_of(st.just(0), st.integers(0, 30), st.integers(0, 10**6)), max_size=60)


@given(INDICES)
def test_a_text_says_what_was_chosen_and_stands_in_a_url(indices: list[int]) -> None:
    choices = Choices.of(indices)
    text = str(choices)
    assert re.fullmatch("[a-z0-9_]*", text)
    assert Choices.parse(text) == choices
    assert [*choices.indices()] == indices


@given(st.text("0123_ab{-~Z", max_size=12))
def test_there_is_one_text_for_the_same_choices_or_an_error_with_its_place(text: str) -> None:
    error = None
    try:
        assert str(Choices.parse(text)) == text
    except ChoicesError as refused:
        error = refused
    if error is not None:
        assert 1 <= error.position <= len(text)
        assert f"character {error.position}: " in str(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "57A",
            "choices '57A': character 3: 'A' is neither a number, nor a letter from a to z, "
            "nor _N_",
        ),
        ("a0", "choices 'a0': character 2: a number does not begin with 0"),
        ("1_26_", "choices '1_26_': character 3: _N_ has N from 27 to 999999999"),
        ("_27", "choices '_27': character 1: '_' begins no _N_, a choice greater than 26"),
        ("9" * 5000, None),
    ],
)
def test_an_error_is_one_sentence_with_the_place(text: str, error: str | None) -> None:
    with pytest.raises(ChoicesError) as caught:
        Choices.parse(text)
    assert str(caught.value) == (
        error or f"choices {text!r}: character 1: these are more than 1000000000000 steps"
    )


def test_texts_are_short() -> None:
    assert str(Choices.of([0] * 57 + [1, 0, 0, 0, 2, 26, 27])) == "57a3bz_27_"
    assert str(Choices()) == ""


def test_first_and_then() -> None:
    choices = Choices.parse("3a2b")
    assert str(choices.first(5)) == "3a1"
    assert str(choices.first(9)) == "3a2b2"
    assert str(choices.then(0).then(3)) == "3a2b1c"


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), max_size=20))
def test_what_a_player_noted_plays_the_same_again(wishes: list[int]) -> None:
    def deliveries(player: Player) -> list[int]:
        loop, made = RunLoop(), list[int]()
        loop.take_turns(ChosenOrder(player))

        def work(number: int) -> None:
            made.append(number)
            if number < 8:
                loop.defer(0, lambda: work(2 * number))
                loop.defer(0, lambda: work(2 * number + 1))

        loop.defer(0, lambda: work(1))
        loop.run_until_idle()
        return made

    wanted = iter(wishes)
    player = Player(Choices(), lambda ready: next(wanted, 0) % len(ready))
    made = deliveries(player)
    again = Player(Choices.parse(str(player.noted.choices)))
    assert deliveries(again) == made
    assert again.noted == player.noted
    again.require_all_played()


def test_a_choice_that_is_not_there_is_named_with_what_was_ready() -> None:
    loop = RunLoop()
    loop.take_turns(ChosenOrder(Player(Choices.parse("1b"))))
    for domid in range(3):
        loop.defer(domid, lambda: None)
    loop.step()
    with pytest.raises(NoSuchChoiceError) as caught:
        loop.step()
    assert str(caught.value) == (
        "choices: step 2 is choice 2; ready was: 0 work 2 of domain 1, 1 work 3 of domain 2"
    )
    assert len(loop.ready()) == 2  # nothing was taken


def test_a_choice_behind_the_end_is_an_error() -> None:
    player = Player(Choices.parse("5a"))
    with pytest.raises(NoSuchChoiceError, match="step 6 is choice 1; ready was: nothing"):
        player.require_all_played()


RUN = ["run", "--guest", "gen:100x3", "--host", "null:"]


def test_a_run_takes_choices_and_reports_what_was_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*choices: str) -> tuple[int, dict[str, object]]:
        code = main([*RUN, "--json", *choices])
        return code, json.loads(capsys.readouterr().out)

    code, plain = run()
    assert code == 0
    assert plain["options"]["choices"] is None  # type: ignore[index]
    code, oldest = run("--choices", "")
    assert code == 0
    made = Choices.parse(oldest["options"]["choices"])  # type: ignore[index]
    assert made.steps > 50
    assert not made.others
    for document in plain, oldest:
        for key in "options", "seconds", "frames_per_second":
            del document[key]
    assert oldest == plain
    found = None
    for step in range(made.steps - 10, 0, -1):  # the first other order from behind
        code = main([*RUN, "--json", "--choices", f"{step}a"])
        captured = capsys.readouterr()
        if code == 0:
            found = json.loads(captured.out)["options"]["choices"]
            break
        assert code == 2
        assert f"choices: step {step + 1} is choice 1; ready was: " in captured.err
    assert found is not None
    assert run("--choices", found)[1]["options"]["choices"] == found  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--choices", "1A"], "character 2: 'A' is neither"),
        (["--choices", "z"], "step 1 is choice 26; ready was: 0 xenstore"),
        (["--choices", "100000a"], "step 100001 is choice 1; ready was: nothing"),
        (["--choices", "1", "--link", "epair"], "--choices is for vifs"),
    ],
)
def test_choices_that_are_none_are_bad_input(
    options: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, *options]) == 2
    assert error in capsys.readouterr().err
