"""A run and its steps with a driver of your own at an end."""

from __future__ import annotations

import pytest

from xennet.cli import main

OWN = "tests.step.own_netbacks:Netback"


def test_a_netback_of_your_own_answers_each_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--guest", "gen:60x3", "--host", "null:", "--backend", OWN]) == 0
    said = capsys.readouterr().out
    assert "response at tx index 2: id 253, status 0" in said


def test_a_run_ends_with_a_netback_of_your_own_that_keeps_the_frames(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["run", "--guest", "gen:60x3", "--host", "null:", "--backend", OWN, "--quiet"]
    assert main(command) == 1
    assert capsys.readouterr().out == "BAD: guest to host: 3 frames did not arrive\n"


@pytest.mark.parametrize(
    ("option", "driver", "why"),
    [
        ("--backend", "tests.step.own_netbacks:Nobody", "AttributeError"),
        ("--frontend", "no_such_module:Driver", "ModuleNotFoundError"),
        ("--frontend", ":Driver", "is not module:factory"),
        ("--backend", "windows", "is not one of 'linux', 'xnb'"),
    ],
)
def test_a_driver_that_cannot_be_found_is_bad_input(
    option: str, driver: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", "--guest", "gen:60x3", "--host", "null:", option, driver]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("shown", [(), ("--show",)])
def test_a_driver_does_not_control_the_terminal(
    shown: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    own = "tests.step.own_netbacks:ControlsTerminals"
    words = ["--guest", "gen:60x3", "--host", "null:", "--backend", own, "--from", "handshake"]
    assert main(["step", *words, "--choices", "1", *shown]) == 0
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.split("\n"))
    wanted = 'writes backend/vif/1/0/feature-controls = "\\x1b[2J\\x1b]0;owned\\x07\\x9b31m'
    assert wanted in " ".join(said.split())
