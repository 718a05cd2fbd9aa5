"""What an observer of the store sees."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from xennet.xenstore import Client, Store, StoreOp, XsError


@pytest.fixture
def seen(store: Store) -> list[StoreOp]:
    ops: list[StoreOp] = []
    store.observer = ops.append
    return ops


def test_every_request_is_seen_with_who_what_and_result(store: Store, seen: list[StoreOp]) -> None:
    guest = Client(store.connect(5), name="kernel")
    with pytest.raises(XsError):
        guest.write("/a", "1")
    guest.write("data/x", b"v")
    guest.read("data/x")
    guest.directory("data")
    guest.set_perms("data", ["n5", "r0"])
    guest.get_perms("data")
    guest.mkdir("data/d")
    guest.rm("data/d")
    guest.watch("data", "tok", lambda path, token: None)
    guest.unwatch("data", "tok")
    assert {(op.who, op.domid) for op in seen} == {("kernel", 5)}
    assert [(op.op, op.path, op.value, op.errno) for op in seen] == [
        ("WRITE", "/a", b"1", "EACCES"),
        ("WRITE", "data/x", b"v", None),
        ("READ", "data/x", b"v", None),
        ("DIRECTORY", "data", b"x", None),
        ("SET_PERMS", "data", b"n5\0r0", None),
        ("GET_PERMS", "data", b"n5\0r0", None),
        ("MKDIR", "data/d", b"", None),
        ("RM", "data/d", b"", None),
        ("WATCH", "data", b"tok", None),
        ("UNWATCH", "data", b"tok", None),
    ]


def test_transactions_are_seen_with_their_id(store: Store, seen: list[StoreOp]) -> None:
    client = Client(store.connect(0), name="xl")
    with client.transaction() as tx:
        tx.write("/v", 1)
    with pytest.raises(ZeroDivisionError), client.transaction() as tx:
        raise ZeroDivisionError
    assert [(op.op, op.tx, op.value) for op in seen] == [
        ("TRANSACTION_START", 1, b"1"),
        ("WRITE", 1, b"1"),
        ("TRANSACTION_END", 1, b"T"),
        ("TRANSACTION_START", 2, b"2"),
        ("TRANSACTION_END", 2, b"F"),
    ]


def test_request_is_seen_before_what_its_events_cause(store: Store, seen: list[StoreOp]) -> None:
    reader = Client(store.connect(0), name="reader")
    reader.on_pending = reader.poll
    reader.watch("/w", "t", lambda path, token: reader.exists("/w"))
    seen.clear()
    store.connect(0, name="writer").write("/w", b"")
    assert [(op.who, op.op) for op in seen] == [("writer", "WRITE"), ("reader", "READ")]


def test_domain_requests_name_the_domain(store: Store, seen: list[StoreOp]) -> None:
    store.domain_created(8)
    conn = store.connect(0)
    conn.introduce(8, 1, 7)
    conn.release(8)
    assert [(op.op, op.path) for op in seen] == [("INTRODUCE", "8"), ("RELEASE", "8")]


def test_who_is_woken_by_a_request_finds_the_module_of_every_frame(store: Store) -> None:
    modules: list[str] = []

    def woken() -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            modules.append(frame.f_globals["__name__"])
            frame = frame.f_back

    store.connect(0, woken).watch("/a", "t")
    assert "xennet.xenstore.operation" in modules


def test_an_observer_that_raises_keeps_no_watcher_from_its_event(store: Store) -> None:
    woken: list[int] = []
    watcher = store.connect(0, lambda: woken.append(len(watcher.events)))
    watcher.watch("/a", "token")
    woken.clear()

    def failing(_: StoreOp) -> None:
        raise LookupError

    store.observer = failing
    with pytest.raises(LookupError):
        store.connect(0).write("/a/b", b"")
    assert woken == [2]
