"""The table gives what the definition in xen/io/netif.h gives, and what the public suite says."""

from __future__ import annotations

import ctypes
import subprocess
from array import array
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rss_vectors import KEY, V4, V6

from xennet.bench.compiler import why_not
from xennet.engine.choice import current
from xennet.flow.toeplitz import DATA_SIZE, KEY_SIZE, TABLE_SIZE, fill_table, hash_words

SOURCE = r"""
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#define XEN_NETIF_DEFINE_TOEPLITZ
#include <stdint.h>
#include <string.h>
#include <stddef.h>
#define xen_mb()  __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/xen.h>
#include <xen/io/netif.h>
uint32_t toeplitz(const uint8_t *key, unsigned n, const uint8_t *buf, unsigned count)
{ return xen_netif_toeplitz_hash(key, n, buf, count); }
"""

keys = st.binary(max_size=KEY_SIZE)
contents = st.integers(0, DATA_SIZE // 4).flatmap(
    lambda n: st.binary(min_size=4 * n, max_size=4 * n)
)


def by_table(key: bytes, content: bytes) -> int:
    engine = current()
    table = engine.view(array("I", bytes(4 * TABLE_SIZE)))
    engine.kernel(fill_table)(engine.view(array("B", key.ljust(KEY_SIZE, b"\0"))), table)
    data = engine.view(array("B", content + b"\0"))
    return int(engine.kernel(hash_words)(table, data, 0, len(content)))


def by_definition(key: bytes, content: bytes) -> int:
    """Both as shift registers, bit by bit, as the comment in the header says it."""
    size = max(len(key), len(content) + 4)
    register = int.from_bytes(key.ljust(size, b"\0"), "big")
    value = 0
    for byte in content:
        for bit in range(7, -1, -1):
            if byte >> bit & 1:
                value ^= register >> (8 * size - 32)
            register = register << 1 & (1 << 8 * size) - 1
    return value


@pytest.fixture(scope="module")
def c_function(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if reason := why_not("xen/io/netif.h"):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("toeplitz")
    (folder / "toeplitz.c").write_text(SOURCE)
    library = folder / "toeplitz.so"
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-o", library, folder / "toeplitz.c"], check=True
    )
    return ctypes.CDLL(str(library))


def content_of(row: tuple[str, int, str, int, int, int], *, ports: bool) -> bytes:
    source, source_port, dest, dest_port, *_ = row
    addresses = ip_address(source).packed + ip_address(dest).packed
    tail = source_port.to_bytes(2, "big") + dest_port.to_bytes(2, "big")
    return addresses + (tail if ports else b"")


@pytest.mark.parametrize("row", V4 + V6, ids=lambda row: row[0])
def test_the_public_verification_suite_comes_out(row: tuple[str, int, str, int, int, int]) -> None:
    for ports, wanted in ((False, row[4]), (True, row[5])):
        content = content_of(row, ports=ports)
        assert by_table(KEY, content) == by_definition(KEY, content) == wanted


@settings(max_examples=40, deadline=None)
@given(keys, contents)
def test_the_table_is_the_bitwise_definition(key: bytes, content: bytes) -> None:
    assert by_table(key, content) == by_definition(key, content)


@settings(max_examples=40, deadline=None)
@given(key=keys, content=contents)
def test_the_table_is_the_function_of_the_header(
    c_function: ctypes.CDLL, key: bytes, content: bytes
) -> None:
    theirs = c_function.toeplitz(key, len(key), content, len(content)) & 0xFFFFFFFF
    assert by_table(key, content) == theirs


def test_a_short_key_is_followed_by_zeroes() -> None:
    content = content_of(V4[0], ports=True)
    assert by_table(KEY[:8], content) == by_definition(KEY[:8] + bytes(32), content)
    assert by_table(KEY[:8], content) != by_table(KEY, content)


def test_without_a_key_the_hash_is_zero() -> None:
    assert by_table(b"", b"\xff" * DATA_SIZE) == 0


def test_compiled_as_well_as_plain(engine: str) -> None:
    assert by_table(KEY, content_of(V6[0], ports=True)) == V6[0][5]
