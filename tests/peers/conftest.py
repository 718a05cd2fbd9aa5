"""A machine for programs that were not written for it, and own small programs in C."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from peer_world import PeerWorld

from xennet.bench import real_qemu
from xennet.bench.real_xenstored import CannotStartError, Prepared, prepare


@pytest.fixture(scope="session", autouse=True)
def compiler() -> str:
    """The C compiler, which the shim needs too."""
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture
def world() -> Iterator[PeerWorld]:
    """A host with domain 0."""
    with PeerWorld() as made:
        yield made


@pytest.fixture(scope="session")
def vchan(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a program that is either end of a libxenvchan."""
    path = tmp_path_factory.mktemp("vchan") / "vchan"
    source = Path(__file__).with_name("vchan.c")
    made = subprocess.run(
        [compiler, "-O1", "-w", "-o", str(path), str(source), "-lxenvchan"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("libxenvchan is missing (Debian package libxen-dev)")
    return str(path)


@pytest.fixture(scope="session")
def xen_utils() -> Prepared:
    """Debian's xen-utils-4.17: its xenstored, beside which the other programs are, and their
    libraries."""
    try:
        return prepare("4.17")
    except CannotStartError as reason:
        pytest.skip(f"xen-utils-4.17 cannot be had: {reason}")


@pytest.fixture(scope="session")
def qemu() -> real_qemu.Qemu:
    """QEMU for Xen, 10.0 or later."""
    try:
        return real_qemu.prepare()
    except real_qemu.NoQemuError as reason:
        pytest.skip(f"QEMU for Xen cannot be had: {reason}")
