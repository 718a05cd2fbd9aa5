"""Scripts written before modules moved go on, and are told the new names."""

from __future__ import annotations

import warnings
from importlib import import_module

import pytest

import xennet
from xennet import moved


@pytest.mark.parametrize("old", sorted(moved.MODULES))
def test_an_old_module_hands_out_what_the_new_one_has(old: str) -> None:
    home, renamed = moved.MODULES[old]
    new = import_module(home)
    names = renamed or {name: name for name in vars(new) if not name.startswith("_")}
    for before, now in names.items():
        with pytest.warns(DeprecationWarning, match=rf"{old}\.{before} is now {home}\.{now}$"):
            assert getattr(import_module(old), before) is getattr(new, now)


@pytest.mark.parametrize(
    ("package", "name"), [(p, name) for p, names in moved.NAMES.items() for name in names]
)
def test_an_old_name_of_a_package_is_the_new_one(package: str, name: str) -> None:
    home, _, now = moved.NAMES[package][name].rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{package}.{name} is now {home}.{now}$"):
        assert getattr(import_module(package), name) is getattr(import_module(home), now)


def test_the_warning_is_about_the_line_that_uses_the_old_name() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from xennet.link.house import House  # noqa: F401
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("name", ["xennet.nothing", "xennet.link.nothing", "xennet.hous"])
def test_what_never_was_is_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        import_module(name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = xennet.nothing


def test_the_first_name_of_an_endpoint_can_be_imported_and_inherited_from() -> None:
    from xennet.frames import Endpoint, FrameEndpoint

    assert FrameEndpoint is Endpoint


def test_no_old_name_hides_a_module() -> None:
    from importlib.machinery import PathFinder

    for old in moved.MODULES:
        package, _, _ = old.rpartition(".")
        if package in moved.MODULES:
            continue
        assert PathFinder.find_spec(old, list(import_module(package).__path__)) is None
