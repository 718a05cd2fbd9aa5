"""What the packages say is public is there, costs nothing until it is used, and is typed."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import xennet
from xennet.cli import main

ROOT = Path(xennet.__file__).parents[1]
#: Packages whose names are imported when they are used.
LAZY = [
    "xennet",
    "xennet.check",
    "xennet.gnttab",
    "xennet.host",
    "xennet.link",
    "xennet.netback",
    "xennet.netfront",
    "xennet.netmap",
    "xennet.run",
    "xennet.wrap",
    "xennet.xen",
]


def test_importing_xennet_imports_no_room_of_it() -> None:
    code = "import sys, xennet; print([m for m in sys.modules if m.startswith('xennet.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['xennet.moved', 'xennet.lazy']"


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "xennet.__version__"}
    assert xennet.__version__.count(".") == 2


@pytest.mark.parametrize(("words", "line"), [("--version", "xennet {}"), ("info", "xennet     {}")])
def test_the_command_says_the_version(
    capsys: pytest.CaptureFixture[str], words: str, line: str
) -> None:
    assert main([words]) == 0
    assert line.format(xennet.__version__) in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("package", LAZY)
def test_every_public_name_is_the_object_of_its_home(package: str) -> None:
    module = import_module(package)
    assert set(module.__all__) == set(module._HOMES)
    for name in module.__all__:
        assert getattr(module, name) is getattr(import_module(module._HOMES[name]), name)
        assert name in dir(module)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_the_same_names(package: str) -> None:
    module = import_module(package)
    tree = ast.parse(Path(module.__file__ or "").read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == module._HOMES


@pytest.mark.parametrize("package", LAZY)
def test_no_public_name_is_hidden_by_a_module_of_the_package(package: str) -> None:
    module = import_module(package)
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert not modules & set(module.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'xennet\.link' has no attribute 'Hause'"):
        import_module("xennet.link").Hause  # noqa: B018
