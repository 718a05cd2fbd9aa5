"""Buffers for the worst case take memory for the usual one."""

from __future__ import annotations

from pathlib import Path

from xennet.frames import lazy_bytes


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_bytes_are_zero_and_can_be_written() -> None:
    view = lazy_bytes(5000)
    assert (len(view), bytes(view)) == (5000, bytes(5000))
    view[4990:] = b"0123456789"
    assert bytes(view[4985:]) == bytes(5) + b"0123456789"


def test_memory_is_taken_where_it_is_touched_and_given_back() -> None:
    before = resident()
    views = [lazy_bytes(1 << 20) for _ in range(64)]
    for view in views:
        view[0] = 1
    assert resident() - before < 8 << 20
    for view in views:
        view[::4096] = b"\1" * 256
    assert resident() - before > 48 << 20
    del view, views
    assert resident() - before < 8 << 20
