"""The packages that docs/ports.md shows are installed as they stand there, run, and pass."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "ports.md"
_FILE = re.compile(r"^<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)^```\n", re.M | re.S)
#: Most lines of the module of an example, blank ones not counted.
_LINES = 30


def run(*words: str, on: Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of Python with what is installed in ``on``."""
    env = {**os.environ, "PYTHONPATH": str(on), "XENNET_ENGINE": "plain", **options}
    words = (sys.executable, "-m", *words)
    return subprocess.run(words, env=env, capture_output=True, text=True, cwd=on.parent)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files of the page."""
    folder = tmp_path_factory.mktemp("package")
    for match in _FILE.finditer(PAGE.read_text()):
        (folder / match["name"]).write_text(match["text"])
    return folder


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed, beside none of its sources."""
    target = tmp_path_factory.mktemp("installed") / "site"
    words = "install --quiet --no-deps --no-build-isolation --no-index --target"
    done = run("pip", *words.split(), str(target), str(package), on=package)
    assert done.returncode == 0, done.stderr
    return target


def test_the_module_fits_a_screen(package: Path) -> None:
    for module in package.glob("xennet_*.py"):
        assert len([line for line in module.read_text().splitlines() if line]) <= _LINES


def test_its_port_carries_a_run(site: Path) -> None:
    frames = site.parent / "in.hex"
    frames.write_text("02584e00000202584e00000188b5\n" * 3)
    out = site.parent / "out.pcap"
    ports = ["--guest", f"hex:{frames}", "--host", f"record:{out}"]
    done = run("xennet", "run", "--quiet", *ports, on=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.stat().st_size == 24 + 3 * (16 + 14)


def test_its_link_carries_a_run(site: Path) -> None:
    ports = ["--guest", "tcp:9000x10", "--host", "tcp6:1514x10"]
    done = run("xennet", "run", "--link", "wire:4000", "--json", *ports, on=site)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert [way["frames_received"] for way in report["directions"]] == [70, 10]


def test_help_and_errors_know_it(site: Path) -> None:
    text = " ".join(run("xennet", "run", "--help", on=site).stdout.split())
    assert "hex:FILE; PLAYER" in text
    assert "Links: vif, epair" in text
    assert ", wire[:MTU]. Exit" in text
    done = run("xennet", "run", "--guest", "hex:none", "--host", "null:", on=site)
    assert done.returncode == 2
    assert done.stderr == "xennet: none: [Errno 2] No such file or directory: 'none'\n"
    done = run("xennet", "run", "--link", "wire:1", "--guest", "null:", "--host", "null:", on=site)
    assert "'wire:1': an MTU is 68 to 65521 bytes, not '1'\n" in done.stderr
    done = run("xennet", "run", "--guest", "hex:x", "--host", "record:x", on=site)
    assert done.stderr == "xennet: x: cannot be recorded to, the run reads it as x\n"


def test_its_tests_pass(site: Path, package: Path) -> None:
    tests = [str(path) for path in package.glob("test_*.py")]
    words = ["-q", "-p", "no:cacheprovider", "-W", "error", *tests]
    done = run("pytest", *words, on=site, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed in", done.stdout, re.M), done.stdout
