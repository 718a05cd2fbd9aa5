"""What the store keeps of paths, watches and permissions that were looked up: it never shows in an
answer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.xenstore import Store, XsError
from xennet.xenstore.connection import Connection
from xennet.xenstore.perms import without_stale_rights

NAMES = st.sampled_from(["/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x", "/e", "/e/f"])


def answer(connection: Connection, path: str) -> bytes | str:
    """The value of a node, or the name of the error."""
    try:
        return connection.read(path)
    except XsError as error:
        return error.errno


@pytest.mark.parametrize("path", ["/a", "/a/b", "/a/b/c"])
@pytest.mark.parametrize("committed", [False, True])
def test_a_path_is_forgotten_with_its_node(path: str, committed: bool) -> None:
    one = Store().connect(0)
    one.write("/a/b/c", b"1")
    paths = ["/a", "/a/b", "/a/b/c"]
    for each in paths:
        one.read(each)
    if committed:
        tx = one.transaction_start()
        one.rm(path, tx)
        one.transaction_end(tx, True)
    else:
        one.rm(path)
    assert [answer(one, each) for each in paths] == [
        "ENOENT" if each.startswith(path) else b"" for each in paths
    ]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES),
        st.tuples(st.just("rm"), NAMES),
        st.tuples(st.just("commit"), st.lists(st.tuples(st.booleans(), NAMES), max_size=4)),
        st.tuples(st.just("read"), NAMES),
    ),
    max_size=25,
)


@given(steps)
def test_answers_are_those_of_a_store_that_looks_everything_up(
    steps: list[tuple[str, Any]],
) -> None:
    """One store keeps what it has looked up, the other one forgets it before each request."""
    keeping, forgetful = Store(), Store()

    def both(request: str, path: str, tx: bool = False) -> None:
        answers = []
        for store, connection in zip((keeping, forgetful), connections, strict=True):
            if store is forgetful:
                store.tree.known = {"/": store.tree.root}
                store.tree._missing.clear()
                store.watches._above.clear()
            arguments = (path, path.encode()) if request == "write" else (path,)
            try:
                answers.append(getattr(connection, request)(*arguments, tx=1 if tx else 0))
            except XsError as error:
                answers.append(error.errno)
            answers.append(list(connection.events))
            connection.events.clear()
        assert answers[:2] == answers[2:]

    connections = [store.connect(0) for store in (keeping, forgetful)]
    for connection in connections:
        connection.watch("/a", "top")
        connection.watch("/a/b/c", "deep")
    for what, argument in steps:
        if what != "commit":
            both(what, argument)
            continue
        for connection in connections:
            connection._next_transaction = 1
            connection.transaction_start()
        for writes, path in argument:
            both("write" if writes else "rm", path, tx=True)
        for connection in connections:
            connection.transaction_end(1, True)
        both("read", "/a")
    for path in ["/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x", "/e", "/e/f"]:
        both("read", path)


def test_watches_come_and_go_between_changes() -> None:
    store = Store()
    writer, watcher = store.connect(0), store.connect(0)

    def told() -> list[tuple[str, str]]:
        writer.write("/a/b", b"")
        events = [tuple(event) for event in watcher.events]
        watcher.events.clear()
        return events  # type: ignore[return-value]

    assert told() == []
    watcher.watch("/a", "first")
    watcher.events.clear()
    assert told() == [("/a/b", "first")]
    watcher.watch("/a/b", "second")
    watcher.watch("/", "third")
    watcher.events.clear()
    assert told() == [("/a/b", "first"), ("/a/b", "second"), ("/a/b", "third")]
    watcher.unwatch("/a", "first")
    assert told() == [("/a/b", "second"), ("/a/b", "third")]
    watcher.unwatch("/", "third")
    watcher.unwatch("/a/b", "second")
    assert told() == []


class Counted(dict[str, Any]):
    """Paths whose nodes are known, and how often one was looked up."""

    looked = 0

    def get(self, path: str, default: Any = None) -> Any:
        self.looked += 1
        return super().get(path, default)


@pytest.mark.parametrize("asked", ["read", "write", "rm"])
def test_a_long_path_of_missing_nodes_is_not_looked_up_again_for_each_of_its_names(
    asked: str,
) -> None:
    store = Store()
    store.introduce(5)
    guest = store.connect(5)
    store.tree.known = known = Counted(store.tree.known)
    path = "/".join("n" * 1000)
    with suppress(XsError):
        getattr(guest, asked)(*([path, b""] if asked == "write" else [path]))
    assert 1000 < known.looked < 5000


lives = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["begin", "introduce", "die"]), st.sampled_from([5, 6])),
        st.tuples(
            st.sampled_from(["write", "share", "write in it", "share in it", "begin it", "end it"]),
            st.sampled_from(["/a", "/a/b"]),
        ),
    ),
    max_size=30,
)


@given(lives)
def test_permissions_are_those_of_a_store_that_asks_who_lives(steps: list[tuple[str, Any]]) -> None:
    store = Store()
    one, tx = store.connect(0), 0
    store.introduce(5)
    one.write("/a/b", b"")
    one.set_perms("/a/b", ["n0", "r5", "w6"])
    for what, argument in steps:
        path, inside = str(argument), tx if "in it" in what else 0
        with suppress(XsError):
            if what == "begin":
                store.domain_created(argument)
            elif what == "introduce":
                store.introduce(argument)
            elif what == "die":
                store.domain_died(argument)
            elif what == "begin it":
                tx = tx or one.transaction_start()
            elif what == "end it":
                ended, tx = tx, 0
                one.transaction_end(ended, True)
            elif what.startswith("write"):
                one.write(path, b"", inside)
            else:
                one.set_perms(path, ["n0", "r5", "w6"], inside)
        tree = store.tree
        for node in tree.walk(tree.root):
            checked = without_stale_rights(node.perms, node.generation, tree.is_current)
            assert tree.perms(node) == checked
