"""Legal names, lengths and relative paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xenstore_refusal import errno_of, refused

from xennet.xenstore import Connection
from xennet.xenstore.path import canonical, is_same_or_below, join, parent, split

LEGAL = "ABCXYZabcxyz0189-_@"


@pytest.mark.parametrize("path", ["", "/a/", "//", "/a//b", "a/", "/a:b", "/p+q", "/a b", "/a.b"])
def test_malformed_path_is_refused(dom0: Connection, path: str) -> None:
    with refused("EINVAL", path):
        dom0.read(path)


def test_at_sign_inside_a_path_is_legal(dom0: Connection) -> None:
    dom0.write("/a/@x", b"1")
    assert dom0.directory("/a") == ["@x"]


@pytest.mark.parametrize("like", ["4.17"])
def test_path_of_2048_characters_passes_and_2049_does_not(dom0: Connection) -> None:
    dom0.write("/" + "p" * 2047, b"1")
    with refused("EINVAL"):
        dom0.write("/" + "p" * 2048, b"1")


@pytest.mark.parametrize("like", ["4.17", "4.20"])
def test_relative_path_of_a_guest_has_at_most_2048_characters(dom5: Connection) -> None:
    for path in ("p" * 2048, "/local/domain/5/" + "p" * 2048, "/local/domain/66/" + "p" * 2048):
        assert errno_of(lambda path=path: dom5.read(path)) in ("ENOENT", "EACCES")
        with refused("EINVAL"):
            dom5.read(path + "p")


@pytest.mark.parametrize("size", [2049, 3072, 3073, 4094])
def test_path_of_domain_0_may_be_of_any_length_since_4_20(dom0: Connection, size: int) -> None:
    for path in ("/" + "p" * (size - 1), "r" * size):
        dom0.write(path, b"1")
        assert dom0.read(path) == b"1"
        dom0.watch(path, "t")
        dom0.unwatch(path, "t")


@pytest.mark.parametrize("like", ["4.17"])
def test_domain_prefix_does_not_count_for_the_length(dom0: Connection) -> None:
    dom0.write("/local/domain/0/" + "q" * 2040, b"1")
    dom0.write("/local/domain/12345/" + "q" * 2048, b"1")
    with refused("EINVAL"):
        dom0.write("/local/domain/0/" + "q" * 2049, b"1")
    with refused("EINVAL"):
        dom0.write("/local/domain/123456/" + "q" * 2040, b"1")


def test_relative_path_is_below_the_home_of_the_connection(
    dom0: Connection, dom5: Connection
) -> None:
    dom5.write("data/x", b"v")
    assert dom0.read("/local/domain/5/data/x") == b"v"
    dom0.write("rel", b"1")
    assert dom0.read("/local/domain/0/rel") == b"1"


def test_special_names_are_no_nodes(dom0: Connection) -> None:
    with refused("EINVAL", "@releaseDomain"):
        dom0.read("@releaseDomain")


@given(st.lists(st.text(LEGAL, min_size=1, max_size=8), min_size=1, max_size=6))
def test_names_joined_and_split_are_the_same_names(names: list[str]) -> None:
    path = "/"
    for name in names:
        above, path = path, join(path, name)
        assert parent(path) == above
        assert is_same_or_below(path, above)
        assert not is_same_or_below(path + "x", path)
    assert split(path) == names
    assert canonical(path, 0) == path


@given(st.text(max_size=20))
def test_any_text_is_canonical_or_refused_with_einval(text: str) -> None:
    try:
        full = canonical(text, 7)
    except Exception as error:
        assert getattr(error, "errno", None) == "EINVAL"  # noqa: PT017
    else:
        assert full.startswith("/")
        assert full == "/" or all(split(full))
        assert canonical(full, 7) == full
