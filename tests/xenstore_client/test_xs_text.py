"""Values and lines as the tools show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.cli.xs_text import ListStyle, list_line
from xennet.xenstore.value_text import parse_value, show_value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"hello", "hello"),
        (b"x\0y", r"x\000y"),
        (b"\t\n\r\\", r"\t\n\r\\"),
        (b"\7\x08\x1f\x7f\xff", r"\007\x08\x1f\x7f\xff"),
    ],
)
def test_value_is_shown_printable(value: bytes, shown: str) -> None:
    assert show_value(value) == shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb"x\000y\t\n\r\\\101\7", b"x\0y\t\n\r\\A\7"),
        (rb"\1234", b"S4"),
        (rb"\777", b"\xff"),
        (rb"\x123", b"\x123"),
        (rb"\x1", b"\1"),
        (rb"\xg", b"xg"),
        (b"\\x \t\n12", b"\x12"),
        (rb"\x  g", b"x  g"),
        (rb"\x0x1\x-1\x+12\x+g", b"\x001\xff\x012x+g"),
        (rb"\q\8", b"q8"),
        (b"\\\n", b"\n"),
        (b"a\\", b"a\0"),
    ],
)
def test_escapes_are_understood_as_libxenstore_does(text: bytes, value: bytes) -> None:
    assert parse_value(text) == value


@given(st.binary(max_size=50))
def test_what_is_shown_can_be_written_back(value: bytes) -> None:
    shown = show_value(value)
    assert shown.isascii()
    assert shown.isprintable()
    assert parse_value(shown.encode()) == value


def test_line_is_indented_by_depth_and_permissions_start_at_one_column() -> None:
    style = ListStyle(80, full_paths=False, perms=True)
    lines = [
        list_line(style, "/q/a", 0, b"hello", ["n0", "r3"]),
        list_line(style, "/q/a/b", 1, b"", ["n0"]),
    ]
    assert lines == [f'a = "hello" {" ." * 24}  (n0,r3)', f' b = "" {" ." * 26}  (n0)']


def test_full_paths_are_neither_indented_nor_dotted() -> None:
    style = ListStyle(None, full_paths=True, perms=True)
    assert list_line(style, "/q/a", 3, b"x" * 100, ["n0"]) == f'/q/a = "{"x" * 100}"   (n0)'


def test_long_values_and_names_are_cut_to_the_width() -> None:
    style = ListStyle(40, full_paths=False, perms=False)
    assert list_line(style, "/long", 0, b"y" * 50, None) == f'long = "{"y" * 28}\\..."'
    assert list_line(style, "/" + "l" * 50, 0, b"1", None) == f'{"l" * 32} = "\\..."'


def test_node_that_could_not_be_read_has_no_value() -> None:
    assert list_line(ListStyle(80, False, False), "/a/b", 1, None, None) == " b:"


def test_a_hostile_name_cannot_drive_the_terminal() -> None:
    line = list_line(ListStyle(80, False, True), "/\x1b[2J", 0, b"\x1b", ["n0\x1b"])
    assert line.isprintable()
