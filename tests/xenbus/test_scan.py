"""Numbers and states in the store are read as scanf reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.xenbus.scan import scan_signed, scan_unsigned
from xennet.xenbus.state import parse_state, state_name


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"4", 4),
        (b" 4", 4),
        (b"\n\t4", 4),
        (b"4abc", 4),
        (b"4\0" + b"5", 4),
        (b"04", 4),
        (b"0x4", 0),
        (b"4294967295", 0xFFFFFFFF),
        (b"4294967296", None),
        (b"9" * 5000, None),
        (b"", None),
        (b"\0004", None),
        (b"abc", None),
        (b"ring 4", None),
        (b"-1", None),
        (b"+4", None),
        (b"\xff4", None),
    ],
)
def test_percent_u(value: bytes, number: int | None) -> None:
    assert scan_unsigned(value) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"-1", -1),
        (b"- 1", None),
        (b"--1", None),
        (b"2147483648", None),
        (b"-2147483648", -(2**31)),
        (b"4abc", 4),
        (b" -7 8", -7),
    ],
)
def test_percent_d(value: bytes, number: int | None) -> None:
    assert scan_signed(value) == number


@given(st.integers(0, 2**32 - 1), st.sampled_from([b"", b" ", b"x", b".5", b"\0"]))
def test_what_a_driver_writes_is_read_back_whatever_follows(number: int, tail: bytes) -> None:
    assert scan_unsigned(b"%d" % number + tail) == number


@given(st.binary(max_size=40))
def test_any_bytes_are_a_number_or_none(value: bytes) -> None:
    number = scan_unsigned(value)
    assert number is None or 0 <= number < 2**32


def test_a_state_that_is_no_number_is_unknown() -> None:
    assert parse_state(b"Connected") == 0
    assert parse_state(b"") == 0


def test_a_number_that_is_no_state_is_kept() -> None:
    assert parse_state(b"9") == 9
    assert parse_state(b"-3") == -3


def test_states_have_names() -> None:
    assert state_name(4) == "Connected (4)"
    assert state_name(9) == "9 (not a XenbusState)"
