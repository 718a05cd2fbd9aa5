"""What a request costs does not depend on how many nodes the store holds.

Counted, not timed: lines of code run, and memory allocated (which would show a copy made by one
call into C).
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from xennet.xenstore import Connection, Store

Request = Callable[[Connection], object]


def lines_run(request: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        # A garbage collection may run somebody else's finalizers just now.
        count += event == "line" and "xenstore" in frame.f_code.co_filename
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        request()
    finally:
        sys.settrace(before)
    return count


def peak_bytes(request: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        request()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def in_transaction(commit: bool) -> Request:
    def run(conn: Connection) -> None:
        tx = conn.transaction_start()
        conn.read("/wide/n3", tx)
        conn.write("/wide/n3", b"y", tx)
        conn.write("/wide/new", b"", tx)
        conn.rm("/wide/n4", tx)
        conn.transaction_end(tx, commit)
        conn.write("/wide/n4", b"")
        conn.rm("/wide/new")

    return run


def read_held_by_transaction(conn: Connection) -> None:
    tx = conn.transaction_start()
    conn.get_perms("/wide", tx)
    conn.write("/wide/outside", b"")
    conn.rm("/wide/outside")
    conn.transaction_end(tx, False)


def filled(nodes: int) -> Connection:
    conn = Store().connect(0)
    for i in range(nodes):
        conn.write(f"/wide/n{i}", b"x")
        conn.write(f"/deep/{i % 10}/{i}", b"x")
    return conn


@pytest.mark.parametrize(
    "request_",
    [
        lambda c: c.read("/wide/n3"),
        lambda c: c.write("/wide/n3", b"y"),
        lambda c: (c.write("/wide/new", b"y"), c.rm("/wide/new")),
        lambda c: c.set_perms("/wide", ["r0"]),
        lambda c: c.transaction_end(c.transaction_start(), True),
        in_transaction(commit=True),
        in_transaction(commit=False),
        read_held_by_transaction,
        lambda c: (c.watch("/wide", "t"), c.write("/wide/n1", b""), c.unwatch("/wide", "t")),
    ],
    ids=[
        "read",
        "write",
        "create and remove",
        "set permissions",
        "empty transaction",
        "transaction committed",
        "transaction aborted",
        "directory held by a transaction",
        "watch and fire",
    ],
)
def test_cost_is_the_same_with_10_and_with_10000_nodes(request_: Request) -> None:
    lines, peaks = [], []
    for nodes in (10, 5_000):
        conn = filled(nodes)
        request_(conn)  # caches and first-time allocations
        lines.append(lines_run(lambda conn=conn: request_(conn)))
        peaks.append(peak_bytes(lambda conn=conn: request_(conn)))
    assert lines[0] == lines[1]
    # A table that grows just now is no copy per request; a copied list of children is 40 kB.
    assert peaks[1] < peaks[0] + 4096


def test_death_of_a_domain_visits_its_own_nodes_only() -> None:
    costs = []
    for nodes in (10, 5_000):
        conn = filled(nodes)
        store = conn.store
        store.introduce(5)
        conn.write("/wide/of5/x", b"")
        conn.set_perms("/wide/of5", ["n5"])
        costs.append(lines_run(lambda store=store: store.domain_died(5)))
    assert costs[0] == costs[1]
