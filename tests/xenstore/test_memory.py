"""What a node costs, and that nothing of it stays."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterator

import pytest

from xennet.xenstore import Client, Connection, Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.node import Children, ChildSnapshot, Node
from xennet.xenstore.session import Session
from xennet.xenstore.transaction import Accessed

KINDS = (Node, Children, ChildSnapshot, Accessed)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fill(conn: Connection, directories: int, tx: int = 0) -> None:
    for i in range(directories):
        for k in range(100):
            conn.write(f"/many/{i}/{k}", b"12345678", tx)


def objects() -> int:
    return sum(type(one) in KINDS for one in gc.get_objects())


def test_node_costs_less_than_350_bytes() -> None:
    conn = Store().connect(0)
    fill(conn, 1)
    tracemalloc.start()
    try:
        fill(conn, 31)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / 3000 < 350


def test_removed_nodes_are_gone_at_once_without_the_collector(no_collector: None) -> None:
    conn = Store().connect(0)
    conn.write("/many", b"")
    before = objects()
    for path in ("/many", "/many/0"):
        fill(conn, 3)
        assert objects() >= before + 300
        conn.rm("/many/1")
        conn.rm(path)
        conn.rm("/many")
        conn.write("/many", b"")
        assert objects() == before


def test_nodes_that_a_transaction_removes_are_gone_without_the_collector(
    no_collector: None,
) -> None:
    conn = Store().connect(0)
    conn.write("/many", b"")
    before = objects()
    fill(conn, 3)
    tx = conn.transaction_start()
    conn.rm("/many/1", tx)
    conn.rm("/many", tx)
    conn.write("/many", b"", tx)
    conn.transaction_end(tx, True)
    assert objects() == before


def test_directory_that_was_emptied_one_by_one_keeps_no_list(no_collector: None) -> None:
    conn = Store().connect(0)
    conn.write("/many/0", b"")
    before = objects()
    fill(conn, 1)
    for k in range(100):
        conn.rm(f"/many/0/{k}")
    assert objects() == before
    assert conn.directory("/many/0") == []


@pytest.mark.parametrize("commit", [True, False])
def test_transaction_leaves_nothing_but_its_nodes(no_collector: None, commit: bool) -> None:
    conn = Store().connect(0)
    conn.write("/many", b"")
    before = objects()
    tx = conn.transaction_start()
    fill(conn, 2, tx)
    conn.directory("/many", tx)
    conn.transaction_end(tx, commit)
    conn.rm("/many")
    conn.write("/many", b"")
    assert objects() == before


def test_snapshots_of_removed_lists_still_tell_what_was_there() -> None:
    conn = Store().connect(0)
    fill(conn, 1)
    tx = conn.transaction_start()
    names = conn.directory("/many/0", tx)
    conn.directory("/many", tx)
    conn.rm("/many")
    assert conn.directory("/many/0", tx) == names == [str(k) for k in range(100)]
    assert conn.directory("/many", tx) == ["0"]


@pytest.mark.parametrize("like", ["4.20", "oxenstored"])
@pytest.mark.parametrize("user", ["connection", "client", "session"])
@pytest.mark.usefixtures("no_collector")
def test_what_was_closed_does_not_wait_for_the_garbage_collector(like: str, user: str) -> None:
    store = Store(like=like)
    used: Connection | Client | Session
    if user == "session":
        used = Session(Server(store))
        connection = weakref.ref(used.connection)
    else:
        used = store.connect(0)
        connection = weakref.ref(used)
        used.write("/node", b"", used.transaction_start())
        used.watch("/node", "token")
        if user == "client":
            used = Client(used)
    used.close()
    del used
    assert connection() is None
