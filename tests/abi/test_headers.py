"""Our definitions against the public headers that are installed here, asked by a C compiler."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest
from abi_c_program import (
    ABSENT_FROM_4_17,
    EXPRESSIONS,
    GROWS_AFTER_4_17,
    HEADERS,
    c_program,
    constants,
    definitions,
    expected,
)

from xennet.abi import xen
from xennet.abi.codec import layout
from xennet.bench.compiler import why_not

_XEN_H = Path("/usr/include/xen/xen.h")


def test_every_size_offset_sign_and_constant_is_the_compilers(tmp_path: Path) -> None:
    if platform.machine() not in ("x86_64", "amd64"):
        pytest.skip("vcpu_info and shared_info are defined for 64-bit x86")
    if reason := why_not(*HEADERS):
        pytest.skip(reason)
    source, program = tmp_path / "abi.c", tmp_path / "abi"
    source.write_text(c_program())
    compiled = subprocess.run(
        ["gcc", "-D__XEN_TOOLS__", "-o", str(program), str(source)], capture_output=True, text=True
    )
    assert compiled.returncode == 0, compiled.stderr
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    found = dict(line.split(" ", 1) for line in printed.splitlines())
    wanted = expected()
    for name in GROWS_AFTER_4_17 & found.keys():
        if int(found[name]) > int(wanted[name]):
            wanted[name] = found[name]
    assert found == wanted


@pytest.mark.skipif(not _XEN_H.exists(), reason=f"no {_XEN_H} (Debian: libxen-dev)")
def test_virqs_are_per_vcpu_exactly_where_the_header_says_v() -> None:
    text = _XEN_H.read_text()
    marks = re.findall(r"#define (VIRQ_\w+)\s+(\d+)\s+/\* ([VG])\.", text)
    assert {int(number) for _, number, mark in marks if mark == "V"} == xen.VIRQS_PER_VCPU
    assert {int(number) for _, number, mark in marks if mark == "G"} <= xen.VIRQS_GLOBAL


def test_every_exception_to_the_headers_names_something_of_ours() -> None:
    fields = {
        f"{name}.{field}"
        for name, structure in definitions().items()
        for field in layout(structure)
    }
    assert ABSENT_FROM_4_17.keys() <= constants().keys() | definitions().keys() | fields
    assert EXPRESSIONS.keys() <= constants().keys()


def test_all_gso_types_are_those_of_the_header() -> None:
    from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
    from xennet.frames import ALL_GSO_TYPES

    assert ALL_GSO_TYPES == 1 << XEN_NETIF_GSO_TYPE_TCPV4 | 1 << XEN_NETIF_GSO_TYPE_TCPV6
