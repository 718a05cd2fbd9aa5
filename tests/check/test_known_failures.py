"""A failure that is listed stays green, as long as it is that failure; the list has no lies."""

from __future__ import annotations

import mock_drivers as mocks
import pytest
from attrs import evolve
from example_check import ID, one_check, run, target

from xennet.check.check import Side
from xennet.check.known_failures import KnownFailure, KnownFailuresError, read_known_failures
from xennet.check.outcome import Outcome
from xennet.check.profile import Profile, ProfileError, read_profile
from xennet.check.python_target import PythonTarget
from xennet.check.runner import run_checks

KNOWN = KnownFailure(ID, Outcome.CRASHED, "ValueError: slot 0", "to be mended")
TEXT = f"""
[[known]]
check = "{ID}"
outcome = "crashed"
text = "ValueError: slot 0"
reason = "to be mended"
"""


def test_the_known_failure_is_an_xfail() -> None:
    result = run(mocks.Crashes, Outcome.REFUSED, known=KNOWN)
    assert (result.outcome, result.word, result.good) == (Outcome.XFAIL, "xfail", True)
    assert result.seen is Outcome.CRASHED


def test_one_that_passes_is_an_xpass_and_red() -> None:
    result = run(mocks.Refuses, Outcome.REFUSED, known=KNOWN)
    assert (result.outcome, result.word, result.good) == (Outcome.XPASS, "XPASS", False)


@pytest.mark.parametrize(
    "other", [evolve(KNOWN, outcome=Outcome.HUNG), evolve(KNOWN, text="slot 7")]
)
def test_another_failure_is_a_failure(other: KnownFailure) -> None:
    result = run(mocks.Crashes, Outcome.REFUSED, known=other)
    assert (result.outcome, result.word, result.good) == (Outcome.CRASHED, "FAIL", False)
    assert "known to fail otherwise" in result.problems[-1]


def test_a_file_of_them_is_read() -> None:
    assert read_known_failures(TEXT, [ID], "known.toml") == [KNOWN]
    assert read_known_failures("", [ID], "known.toml") == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (f'"{ID}"', '"netback.gone"', "there is no check 'netback.gone'"),
        ('"crashed"', '"xfail"', "outcome is one of answered, crashed"),
        ("reason", "because", "it has check, outcome, text and reason"),
        ('"to be mended"', '""', "none is empty"),
        ("[[known]]", "[[known", "known.toml: "),
        ("[[known]]", "[[knwon]]", "only tables [[known]], no 'knwon'"),
        ("[[known]]", "[known]", "known is a list of tables"),
    ],
)
def test_a_fault_in_the_file_is_named(before: str, after: str, said: str) -> None:
    with pytest.raises(KnownFailuresError) as refused:
        read_known_failures(TEXT.replace(before, after), [ID], "known.toml")
    assert said in str(refused.value)
    assert "known.toml" in str(refused.value)


def test_a_check_is_listed_once() -> None:
    with pytest.raises(KnownFailuresError, match="is listed already"):
        read_known_failures(TEXT + TEXT, [ID], "known.toml")


def test_unsupported_is_declared_and_never_inferred() -> None:
    one = one_check(Outcome.REFUSED, needs=frozenset({"sg"}))
    declared = evolve(target(mocks.Crashes), profile=Profile({"sg": "one slot has to do"}))
    (result,) = run_checks(declared, [one])
    assert (result.outcome, result.good, result.seen) == (Outcome.UNSUPPORTED, True, None)
    assert result.problems == ("sg: one slot has to do",)
    (result,) = run_checks(target(mocks.Crashes), [one])
    assert (result.outcome, result.good) == (Outcome.CRASHED, False)


def test_a_driver_that_declares_nothing_and_fails_all_fails() -> None:
    lazy = PythonTarget("lazy", Side.NETBACK, mocks.NeverConnects)
    (result,) = run_checks(lazy, [one_check(Outcome.REFUSED, needs=frozenset({"sg"}))])
    assert (result.outcome, result.good) == (Outcome.WEDGED, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[unsupported]\nwings = "none"', "there is no feature 'wings'"),
        ("[unsupported]\nsg = 1", "sg has no reason"),
        ("[features]\n", "no 'features'"),
        ("unsupported = 3", "is a table"),
        ("[", "p.toml: "),
    ],
)
def test_a_fault_in_a_profile_is_named(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as refused:
        read_profile(text, "p.toml")
    assert said in str(refused.value)


def test_a_profile_is_read() -> None:
    assert read_profile('[unsupported]\nsg = "no"', "p.toml") == {"sg": "no"}
