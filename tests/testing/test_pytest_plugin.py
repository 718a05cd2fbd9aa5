"""The fixtures as another package finds them: by the entry point, with warnings as errors."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]

#: A module of tests of somebody else.
USER = """
import pytest

FRAME = bytes(range(14)) + bytes(46)


def test_a_frontend_by_hand(xennet_frontend, xennet_host):
    assert xennet_frontend.connect()
    assert xennet_frontend.echo(FRAME).frame == FRAME
    assert xennet_host.vifs[0].netback is not None


def test_a_backend_by_hand(xennet_backend, xennet_vif):
    assert xennet_backend.connect()
    assert xennet_backend.echo(FRAME).frame == FRAME
    assert xennet_vif.netfront is not None
    assert xennet_backend.close() is None


def test_both_by_hand(xennet_frontend, xennet_backend):
    xennet_backend.announce()
    xennet_frontend.connect()
    assert xennet_backend.connect()
    xennet_frontend.send(FRAME)
    assert xennet_frontend.push_tx()
    assert [packet.frame for packet in xennet_backend.packets()] == [FRAME]
    xennet_backend.detach()


def test_a_vif(xennet_vif, xennet_host):
    assert xennet_vif.connected
    xennet_vif.guest_end.to_send.append(FRAME)
    xennet_vif.kick()
    xennet_host.settle()
    assert xennet_vif.host_end.received == [FRAME]


def test_a_machine(xennet_machine):
    guest = xennet_machine.domain(1)
    guest.free_pages(guest.alloc_pages(1))


def test_leaves_a_page(xennet_machine):
    xennet_machine.domain(1).alloc_pages(1)


def test_leaves_a_grant(xennet_host):
    hv = xennet_host.dom0.kernel
    hv.grants.grant_access(1, hv.alloc_pages(1).first)


@pytest.mark.xennet_may_leak("it is what the test is about")
def test_may_leave_a_port(xennet_host):
    xennet_host.dom0.kernel.alloc_unbound(1)


def test_fails_and_leaves_a_port(xennet_host):
    xennet_host.dom0.kernel.alloc_unbound(1)
    assert xennet_host.vifs == []


@pytest.mark.parametrize("name", ["xennet_frontend", "xennet_vif"])
def test_asks_late(request, name):
    request.getfixturevalue(name)
"""
#: A module that tests a driver of its own, which does nothing.
OWN = """
import pytest
from xennet import BaseEnd


class MyNetback(BaseEnd):
    def __init__(self, vif, hv):
        hv.store.write(f"{vif.paths.backend_node}/state", 2)


@pytest.fixture
def xennet_backend_drivers():
    return MyNetback


def test_mine(xennet_frontend, xennet_vif):
    assert isinstance(xennet_vif.host_driver, MyNetback)
    assert xennet_frontend.otherend_state == 2
    assert not xennet_frontend.connect()
"""


def run(*words: str, on: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{on}"}
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the metadata of an installed xennet: its entry points of pytest11, as they
    stand in pyproject.toml."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path_factory.mktemp("site")
    info = folder / "of_this_clone-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: xennet-of-this-clone\nVersion: 0\n"
    )
    lines = [f"{name} = {value}" for name, value in points["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    return folder


@pytest.fixture(scope="module")
def outcomes(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Test -> what was wrong with it, in the texts of the report."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_user.py").write_text(USER)
    (folder / "test_own.py").write_text(OWN)
    words = "-m pytest -q -W error --strict-markers -p no:cacheprovider --junit-xml=report.xml"
    done = run(*words.split(), on=site, cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    report = ElementTree.parse(folder / "report.xml")
    return {
        case.attrib["name"]: [f"{child.tag}: {child.text}" for child in case]
        for case in report.iter("testcase")
    }


@pytest.mark.parametrize(
    "name",
    [
        "test_a_frontend_by_hand",
        "test_a_backend_by_hand",
        "test_both_by_hand",
        "test_a_vif",
        "test_a_machine",
        "test_may_leave_a_port",
        "test_asks_late[xennet_vif]",
        "test_mine",
    ],
)
def test_a_test_passes(outcomes: dict[str, list[str]], name: str) -> None:
    assert outcomes[name] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_leaves_a_page", "domain 1 has frame 0x1000"),
        ("test_leaves_a_grant", "holds 1 pages"),
    ],
)
def test_what_is_left_is_an_error_that_names_it(
    outcomes: dict[str, list[str]], name: str, said: str
) -> None:
    (problem,) = outcomes[name]
    assert problem.startswith("error: ")
    assert "the test has left something behind" in problem
    assert said in problem


def test_a_test_that_fails_is_not_blamed_for_what_it_left(outcomes: dict[str, list[str]]) -> None:
    (problem,) = outcomes["test_fails_and_leaves_a_port"]
    assert problem.startswith("failure: ")


def test_a_peer_has_to_be_asked_for_in_time(outcomes: dict[str, list[str]]) -> None:
    (problem,) = outcomes["test_asks_late[xennet_frontend]"]
    assert "xennet_frontend has to be among the arguments" in problem


def test_the_tests_of_the_drivers_on_the_page_pass(site: Path, tmp_path: Path) -> None:
    """Drivers and tests as they stand in docs/own-driver.md, and the command below them."""
    page = (ROOT / "docs" / "own-driver.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```\n", page, re.M | re.S)
    for name, program in zip(("my_netfront", "my_netback"), programs, strict=False):
        of_driver, _, _ = program.partition("\n\nhost = Host(")
        (tmp_path / f"{name}.py").write_text(of_driver)
    for name, text in re.findall(r"^<!-- file: (\S+) -->\n```py\n(.*?)^```\n", page, re.M | re.S):
        (tmp_path / name).write_text(text)
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", on=site, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr  # errors at the end of a test too
    assert "7 passed" in done.stdout
    (words,) = re.findall(r"^    xennet (check netback --python .*)$", page, re.M)
    done = run("-m", "xennet", *shlex.split(words), on=site, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "echo_netback:EchoNetback: 4 pass" in done.stdout


def test_without_a_fixture_nothing_is_loaded(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_modules():\n"
        "    print(*sorted(name for name in sys.modules if name.startswith('xennet')))\n"
    )
    done = run("-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", on=site, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    loaded = done.stdout.splitlines()[0].rstrip(".").split()
    assert loaded == [
        "xennet",
        "xennet.lazy",
        "xennet.moved",
        "xennet.testing",
        "xennet.testing.pytest_plugin",
    ]
