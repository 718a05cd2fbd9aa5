"""Tests and benchmarks that want C say why they cannot have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet.bench.compiler import why_not

XEN, LIBC = "<stdin>:4:10: fatal error: xen/io/ring.h", "<stdin>:1:10: fatal error: stdint.h"


@pytest.fixture
def gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where gcc may be put; there is no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "gcc"


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("exit 0", ""),
        (f"echo '{XEN}: No such file' >&2; exit 1", "no xen/io/ring.h (Debian: libxen-dev)"),
        (f"echo '{LIBC}: No such file' >&2; exit 1", "no stdint.h (Debian: libc6-dev)"),
        ("echo 'cannot find crt1.o' >&2; exit 1", "makes no program: cannot find crt1.o"),
        ("exit 1", "makes no program: ?"),
    ],
)
def test_what_gcc_cannot_do_is_the_reason(gcc: Path, does: str, said: str) -> None:
    gcc.write_text(f"#!/bin/sh\n{does}\n")
    gcc.chmod(0o755)
    reason = why_not.__wrapped__("xen/io/ring.h")
    assert said in reason
    assert bool(reason) is bool(said)


def test_a_machine_without_gcc_is_a_reason(gcc: Path) -> None:
    assert why_not.__wrapped__() == "no gcc (No such file or directory)"
