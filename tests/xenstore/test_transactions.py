"""Isolation, conflicts, all or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xenstore_refusal import refused

from xennet.xenstore import Connection, Store

Events = Callable[[Connection], list[tuple[str, str]]]
Step = Callable[[Connection, int], object]


@pytest.fixture
def other(store: Store) -> Connection:
    return store.connect(0)


def test_ids_count_from_1_and_belong_to_their_connection(
    dom0: Connection, other: Connection
) -> None:
    assert [dom0.transaction_start() for _ in range(3)] == [1, 2, 3]
    assert other.transaction_start() == 1
    with refused("ENOENT", "2"):
        other.read("/", 2)


def test_transactions_do_not_nest(dom0: Connection) -> None:
    tx = dom0.transaction_start()
    with refused("EBUSY"):
        dom0.transaction_start(tx)
    with refused("ENOENT"):
        dom0.transaction_start(99)


def test_id_is_gone_after_the_end_whatever_it_was(dom0: Connection, other: Connection) -> None:
    for commit in (True, False):
        tx = dom0.transaction_start()
        dom0.transaction_end(tx, commit)
        with refused("ENOENT", str(tx)):
            dom0.transaction_end(tx, commit)
    tx = dom0.transaction_start()
    dom0.read("/tool", tx)
    other.write("/tool", b"")
    with refused("EAGAIN", "/tool"):
        dom0.transaction_end(tx, True)
    with refused("ENOENT", str(tx)):
        dom0.read("/tool", tx)
    with refused("ENOENT", "0"):
        dom0.transaction_end(0, True)


def test_privilege_then_transaction_id_then_arguments(dom0: Connection, dom5: Connection) -> None:
    with refused("EACCES"):
        dom5.introduce(-1, 0, 0, tx=99)
    with refused("ENOENT", "99"):
        dom0.introduce(-1, 0, 0, tx=99)
    with refused("ENOENT", "99"):
        dom0.write("bad//path", b"", 99)
    with refused("ENOENT", "99"):
        dom0.reset_watches(99)


def test_changes_are_invisible_outside_until_the_commit(
    dom0: Connection, other: Connection, events: Events
) -> None:
    other.watch("/t", "t")
    events(other)
    tx = dom0.transaction_start()
    dom0.write("/t/one", b"1", tx)
    assert dom0.read("/t/one", tx) == b"1"
    for conn in (dom0, other):
        with refused("ENOENT"):
            conn.read("/t/one")
    assert events(other) == []
    dom0.transaction_end(tx, True)
    assert other.read("/t/one") == b"1"
    assert events(other) == [("/t/one", "t")]


def test_reads_repeat_although_the_outside_changes(dom0: Connection, other: Connection) -> None:
    dom0.write("/t/a", b"old")
    dom0.write("/t/b", b"")
    tx = dom0.transaction_start()
    assert dom0.read("/t/a", tx) == b"old"
    assert dom0.directory("/t", tx) == ["a", "b"]
    other.write("/t/a", b"new")
    other.rm("/t/a")
    other.write("/t/a", b"newer")
    other.write("/t/c", b"")
    assert dom0.read("/t/a", tx) == b"old"
    assert dom0.directory("/t", tx) == ["a", "b"]
    assert dom0.directory("/t") == ["b", "a", "c"]


def test_abort_changes_and_tells_nothing(dom0: Connection, events: Events) -> None:
    dom0.watch("/t", "t")
    events(dom0)
    tx = dom0.transaction_start()
    dom0.write("/t/x", b"", tx)
    dom0.transaction_end(tx, False)
    assert events(dom0) == []
    with refused("ENOENT"):
        dom0.read("/t")


@pytest.mark.parametrize(
    ("inside", "outside", "answer"),
    [
        (lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.write("/t/a", b"2"), "EAGAIN"),
        (lambda c, tx: c.write("/t/a", b"1", tx), lambda c, tx: c.write("/t/a", b"2"), "EAGAIN"),
        (lambda c, tx: c.write("/t/n", b"", tx), lambda c, tx: c.write("/t/m", b""), "EAGAIN"),
        (lambda c, tx: c.rm("/t/none", tx), lambda c, tx: c.write("/t/none", b""), "EAGAIN"),
        (lambda c, tx: c.directory("/t", tx), lambda c, tx: c.write("/t/a", b"2"), None),
        (lambda c, tx: c.directory("/t", tx), lambda c, tx: c.write("/t/n", b""), "EAGAIN"),
        (lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.write("/t/a", b"same"), "EAGAIN"),
        (lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.set_perms("/t/a", ["r0"]), "EAGAIN"),
        (lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.rm("/t/a"), "EAGAIN"),
        (lambda c, tx: c.rm("/t", tx), lambda c, tx: c.write("/t/a", b"2"), "EAGAIN"),
        (lambda c, tx: c.write("/u/x", b"", tx), lambda c, tx: c.write("/t/a", b"2"), None),
        (lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.mkdir("/t/a"), None),
    ],
    ids=[
        "read-only",
        "blind write",
        "sibling created",
        "missing node created",
        "listed, child's value changed",
        "listed, child created",
        "same value rewritten",
        "permissions",
        "removed",
        "removed subtree changed below",
        "unrelated",
        "mkdir of existing changes nothing",
    ],
)
def test_commit_conflicts_with(
    dom0: Connection, other: Connection, inside: Step, outside: Step, answer: str | None
) -> None:
    dom0.write("/t/a", b"same")
    dom0.write("/u", b"")
    tx = dom0.transaction_start()
    inside(dom0, tx)
    outside(other, 0)
    if answer is None:
        dom0.transaction_end(tx, True)
    else:
        with refused(answer):
            dom0.transaction_end(tx, True)


def test_read_of_a_missing_node_conflicts_with_its_creation(
    dom0: Connection, other: Connection
) -> None:
    tx = dom0.transaction_start()
    with refused("ENOENT"):
        dom0.read("/new", tx)
    other.write("/new", b"")
    with refused("EAGAIN", "/new"):
        dom0.transaction_end(tx, True)


def test_denied_node_counts_as_read_and_so_does_its_parent(
    dom0: Connection, dom5: Connection
) -> None:
    dom0.write("/s/x", b"")
    tx = dom5.transaction_start()
    with refused("EACCES"):
        dom5.read("/s/x", tx)
    dom0.write("/s/y", b"")
    with refused("EAGAIN", "/s"):
        dom5.transaction_end(tx, True)


def test_created_and_removed_inside_leaves_nothing(dom0: Connection, events: Events) -> None:
    """XSA-421: such a commit once stopped half way."""
    dom0.watch("/t", "t")
    events(dom0)
    tx = dom0.transaction_start()
    dom0.write("/t/x/y", b"", tx)
    dom0.write("/keep", b"1", tx)
    dom0.rm("/t/x", tx)
    dom0.rm("/t", tx)
    dom0.transaction_end(tx, True)
    assert dom0.read("/keep") == b"1"
    assert dom0.directory("/") == ["tool", "local", "keep"]
    assert events(dom0) == []


def test_subtree_can_be_removed_and_made_anew(dom0: Connection, events: Events) -> None:
    dom0.write("/t/a/old", b"")
    dom0.write("/t/b", b"")
    dom0.watch("/t", "t")
    events(dom0)
    tx = dom0.transaction_start()
    dom0.rm("/t/a", tx)
    dom0.write("/t/a/new", b"1", tx)
    assert dom0.directory("/t/a", tx) == ["new"]
    dom0.transaction_end(tx, True)
    assert dom0.directory("/t") == ["b", "a"]
    assert dom0.directory("/t/a") == ["new"]
    assert events(dom0) == [("/t/a", "t"), ("/t/a/new", "t")]


def test_commit_tells_once_per_node_in_order_of_first_touch(
    dom0: Connection, other: Connection, events: Events
) -> None:
    other.watch("/te", "te")
    events(other)
    tx = dom0.transaction_start()
    dom0.write("/te/1", b"1", tx)
    dom0.write("/te/2", b"1", tx)
    dom0.write("/te/1", b"2", tx)
    dom0.set_perms("/te/1", ["r0"], tx)
    dom0.transaction_end(tx, True)
    assert events(other) == [("/te/1", "te"), ("/te/2", "te")]


def test_removal_in_a_transaction_is_told_to_those_who_could_read_the_node(
    dom0: Connection, dom5: Connection, events: Events
) -> None:
    dom0.write("/s/x", b"")
    dom0.set_perms("/s/x", ["n0", "r5"])
    dom0.write("/s/y", b"")
    for path in ("/s/x", "/s/y"):
        dom5.watch(path, "t")
    events(dom5)
    tx = dom0.transaction_start()
    dom0.rm("/s/x", tx)
    dom0.rm("/s/y", tx)
    dom0.transaction_end(tx, True)
    assert events(dom5) == [("/s/x", "t")]


def test_watch_requests_are_outside_of_transactions(dom0: Connection, events: Events) -> None:
    tx = dom0.transaction_start()
    dom0.watch("/t", "t")
    dom0.write("/t", b"", tx)
    dom0.transaction_end(tx, False)
    assert events(dom0) == [("/t", "t")]


def test_owner_counts_follow_the_commit(store: Store, dom0: Connection, dom5: Connection) -> None:
    before = store.nodes_owned(5)
    tx = dom5.transaction_start()
    dom5.write("a/b", b"", tx)
    assert store.nodes_owned(5) == before
    dom5.transaction_end(tx, True)
    assert store.nodes_owned(5) == before + 2
    tx = dom0.transaction_start()
    dom0.set_perms("/local/domain/5/a/b", ["n6"], tx)
    dom0.transaction_end(tx, True)
    assert (store.nodes_owned(5), store.nodes_owned(6)) == (before + 1, 2)
    tx = dom0.transaction_start()
    dom0.rm("/local/domain/5/a", tx)
    dom0.write("/local/domain/5/a", b"", tx)
    dom0.transaction_end(tx, True)
    assert (store.nodes_owned(5), store.nodes_owned(6)) == (before + 1, 1)


def test_parent_removed_outside_dooms_the_transaction_without_harm(
    dom0: Connection, other: Connection
) -> None:
    dom0.write("/t/a/b", b"")
    tx = dom0.transaction_start()
    dom0.read("/t/a/b", tx)
    other.rm("/t")
    with refused("EINVAL", "/t/a/b"):
        dom0.rm("/t/a/b", tx)
    dom0.write("/t/a/c", b"", tx)
    with refused("EAGAIN"):
        dom0.transaction_end(tx, True)
    assert "t" not in dom0.directory("/")


def test_name_created_outside_meanwhile_is_listed_once(dom0: Connection, other: Connection) -> None:
    dom0.mkdir("/t")
    tx = dom0.transaction_start()
    with refused("ENOENT"):
        dom0.read("/t/a/b/c", tx)
    dom0.write("/t/x", b"", tx)
    other.write("/u/y", b"")
    with refused("ENOENT"):
        dom0.read("/v/y", tx)
    other.write("/v/y", b"")
    dom0.write("/v/y", b"", tx)
    assert dom0.directory("/", tx).count("v") == 1
    with refused("EAGAIN"):
        dom0.transaction_end(tx, True)


@pytest.mark.parametrize("commit", [True, False])
def test_ended_transaction_holds_nothing_of_the_tree(
    store: Store, dom0: Connection, commit: bool
) -> None:
    tx = dom0.transaction_start()
    dom0.directory("/tool", tx)
    dom0.rm("/tool/xenstored", tx)
    tool = store.tree.lookup("/tool")
    assert tool is not None
    assert tool.children.held == 1
    dom0.transaction_end(tx, commit)
    assert tool.children.held == 0


def test_commit_shows_a_child_by_the_permissions_its_parent_had(
    dom0: Connection, dom5: Connection, events: Events
) -> None:
    """The daemon writes and tells node by node, in the order of the first touch."""
    dom0.write("/s/x", b"")
    dom5.watch("/s", "t")
    events(dom5)
    for first in ("/s/x", "/s"):
        tx = dom0.transaction_start()
        dom0.read(first, tx)
        dom0.write("/s/x", b"", tx)
        dom0.set_perms("/s", ["n0", "r5"], tx)
        dom0.transaction_end(tx, True)
        told = [("/s", "t")] if first == "/s/x" else [("/s", "t"), ("/s/x", "t")]
        assert events(dom5) == told
        dom0.set_perms("/s", ["n0"])
        events(dom5)


def test_removal_of_a_node_that_the_transaction_saw_a_parent_without_is_an_eio(
    dom0: Connection,
) -> None:
    dom0.write("/top", b"")
    tx = dom0.transaction_start()
    assert dom0.directory("/top", tx) == []
    dom0.write("/top/new", b"")
    with refused("EIO", "/top/new"):
        dom0.rm("/top/new", tx)
    with refused("ENOENT"):
        dom0.read("/top/new", tx)
    with refused("EAGAIN"):
        dom0.transaction_end(tx, True)


def test_removal_of_a_node_that_lost_a_child_outside_is_an_eio(dom0: Connection) -> None:
    dom0.write("/top/child/leaf", b"")
    tx = dom0.transaction_start()
    assert dom0.directory("/top/child", tx) == ["leaf"]
    dom0.rm("/top/child/leaf")
    with refused("EIO", "/top/child"):
        dom0.rm("/top/child", tx)
    assert dom0.directory("/top/child", tx) == ["leaf"]
    with refused("EAGAIN"):
        dom0.transaction_end(tx, True)
