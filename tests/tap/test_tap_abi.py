"""The layouts and numbers of /dev/net/tun against the headers that are installed here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from construct import Construct

from xennet.abi import if_tun, virtio_net
from xennet.abi.codec import layout
from xennet.bench.compiler import why_not

_HEADERS = ("linux/virtio_net.h", "linux/if_tun.h", "net/if.h")


def structures() -> dict[str, Construct]:
    return {
        name: value
        for module in (if_tun, virtio_net)
        for name, value in vars(module).items()
        if isinstance(value, Construct) and value.name == name
    }


def expected() -> dict[str, int]:
    """C expression -> value."""
    table = {
        name: value
        for module in (if_tun, virtio_net)
        for name, value in vars(module).items()
        if isinstance(value, int) and not name.startswith("VNET_")
    }
    for name, structure in structures().items():
        table[f"sizeof(struct {name})"] = structure.sizeof()
        inner = "" if name == "ifreq" else "hdr."
        for field, (offset, _) in layout(structure).items():
            member = field if field == "num_buffers" else f"{inner}{field}"
            table[f"offsetof(struct {name}, {member})"] = offset
    return table


def test_every_size_offset_and_number_is_the_compilers(tmp_path: Path) -> None:
    if reason := why_not(*_HEADERS):
        pytest.skip(reason)
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <sys/ioctl.h>"]
    lines += [f"#include <{header}>" for header in _HEADERS]
    lines += ["int main(void) {"]
    lines += [f'printf("%lld\\n", (long long)({expression}));' for expression in expected()]
    source, program = tmp_path / "tap.c", tmp_path / "tap"
    source.write_text("\n".join([*lines, "return 0; }", ""]))
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert dict(zip(expected(), map(int, printed.split()), strict=True)) == expected()


def test_words_of_the_header_are_its_fields() -> None:
    offsets = virtio_net.VNET_HDR.offsets
    for field in ("hdr_len", "gso_size", "csum_start", "csum_offset"):
        assert getattr(virtio_net, f"VNET_H_{field}") * 2 == offsets[field]
    assert virtio_net.VNET_WORDS * 2 == virtio_net.virtio_net_hdr_mrg_rxbuf.sizeof() == 12
