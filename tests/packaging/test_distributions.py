"""What a packager gets: an sdist from which everything can be run, and a wheel of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What make and the tools leave in a clone.
MADE = (
    *(".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"),
    *("build", "dist", "*.egg-info", "*-out"),
)
#: Files that only a clone needs.
OF_A_CLONE = {".gitignore"}
#: A typed program of somebody else, with two errors.
USER = """\
from xennet import Machine
from xennet.observe import Notification
from xennet.port import open_port
from xennet.vif.ring_events import RingEvent


def ring(event: RingEvent) -> None: ...


def both(event: RingEvent | Notification) -> None: ...


def every(event: object) -> None: ...


open_port(1)
observers = Machine().observers
observers.subscribe(ring, RingEvent)
observers.subscribe(both, RingEvent, Notification)
observers.subscribe(every)
observers.subscribe(ring, Notification)
"""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def build(what: str, source: Path, to: Path) -> Path:
    """What the build backend makes of ``source``; its warnings are errors."""
    script = f"import sys; from setuptools import build_meta; build_meta.build_{what}(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(to)],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    )
    (made,) = to.iterdir()
    return made


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a fresh clone."""
    copy = tmp_path_factory.mktemp("clone") / "xennet"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*MADE))
    return copy


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", clone, folder / "made")) as archive:
        # As extractall(filter="data") does, which Python 3.11.2 (Debian 12) does not know.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    (unpacked,) = (path for path in folder.iterdir() if path.name != "made")
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel that the sdist gives."""
    with zipfile.ZipFile(build("wheel", sdist, tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_sdist_holds_whatever_a_clone_holds(clone: Path, sdist: Path) -> None:
    in_clone = files(clone)
    assert {"Makefile", "tests/conftest.py", "docs/hardening.md", ".ci/run"} <= in_clone
    assert in_clone - files(sdist) <= OF_A_CLONE


def test_the_wheel_holds_the_package_and_nothing_else(clone: Path, wheel: zipfile.ZipFile) -> None:
    of_package = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert of_package == {f"xennet/{name}" for name in files(clone / "xennet")}


def test_the_contracts_come_with_it_and_their_extra(
    wheel: zipfile.ZipFile, metadata: Message
) -> None:
    assert {"xennet/testing/port_contract.py", "xennet/testing/link_contract.py"} <= set(
        wheel.namelist()
    )
    requires = metadata.get_all("Requires-Dist", [])
    of_pytest = [line for line in requires if line.startswith("pytest>")]
    assert {line.rpartition("extra == ")[2].strip("\"'") for line in of_pytest} == {
        "dev",
        "testing",
    }


def test_what_is_built_in_needs_no_entry_points(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    points = wheel.read(name).decode().replace(" ", "").split()
    assert points == [
        "[console_scripts]",
        "xennet=xennet.__main__:main",
        "[pytest11]",
        "xennet=xennet.testing.pytest_plugin",
    ]


def test_without_pytest_everything_but_the_contracts_can_be_imported() -> None:
    script = """\
import pkgutil, sys, warnings
warnings.simplefilter("ignore")  # of moved names
sys.modules["pytest"] = None
import xennet
from importlib import import_module
for found in pkgutil.iter_modules(xennet.__path__, "xennet."):
    if found.name != "xennet.__main__":
        import_module(found.name)
import xennet.cli.run, xennet.run.links, xennet.port.spec, xennet.link.base_link
from xennet.testing import MinimalMachine, RawBackend, RawFrontend
try:
    xennet.testing.PortContract
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pytest" in done.stdout


def test_the_license_is_an_spdx_expression_with_its_file(
    wheel: zipfile.ZipFile, metadata: Message
) -> None:
    assert metadata["License-Expression"] == "BSD-2-Clause"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    assert not [c for c in metadata.get_all("Classifier", []) if c.startswith("License")]


def test_every_python_that_ci_tries_is_named(metadata: Message) -> None:
    named = {c.rpartition(" ")[2] for c in metadata.get_all("Classifier", []) if "Python ::" in c}
    assert {"3.11", "3.12", "3.13", "3.14", "3.15"} <= named
    assert metadata["Requires-Python"] == ">=3.11"


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda p: p.name)
def test_locks_name_hashes_and_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    for requirement in re.split(r"\n(?=[a-z])", text.strip()):
        assert re.match(r"[a-z0-9.-]+==\S+ ", requirement)
        assert "--hash=sha256:" in requirement


def test_the_locks_agree_with_each_other() -> None:
    first: dict[str, set[str]] = {}
    for lock in sorted(ROOT.glob("requirements*.lock")):
        pins: dict[str, set[str]] = {}  # some have a version for each of several Pythons
        for name, version in re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE):
            pins.setdefault(name, set()).add(version)
        assert pins
        for name, versions in pins.items():
            assert first.setdefault(name, versions) == versions, f"{lock.name}: {name}"


def test_a_type_checker_sees_the_types_of_the_installed_package(tmp_path: Path) -> None:
    user = tmp_path / "mine.py"
    user.write_text(USER)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), user],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"open_port" has incompatible type "int"' in result.stdout
    assert 'expected "Callable[[Notification], None]"' in result.stdout
    assert "Found 2 errors" in result.stdout


def test_a_folder_named_like_the_package_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "xennet").mkdir()
    subprocess.run(
        [sys.executable, "-c", "import xennet; assert xennet.__file__, xennet.__path__"],
        cwd=tmp_path,
        check=True,
    )
