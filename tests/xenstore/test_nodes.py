"""READ, WRITE, MKDIR, RM and DIRECTORY."""

from __future__ import annotations

import pytest
from xenstore_refusal import refused

from xennet.xenstore import Connection, Store
from xennet.xenstore.likeness import XEN_4_20
from xennet.xenstore.peaks import Peaks
from xennet.xenstore.tree import Tree


def test_fresh_store_holds_tool_and_xenstored() -> None:
    conn = Store().connect(0)
    assert conn.directory("/") == ["tool"]
    assert conn.directory("/tool") == ["xenstored"]
    assert conn.read("/tool/xenstored") == b""
    assert [str(perm) for perm in conn.get_perms("/tool/xenstored")] == ["n0"]


def test_write_creates_parents_with_empty_values(dom0: Connection) -> None:
    dom0.write("/a/b/c", b"hello")
    assert dom0.read("/a/b/c") == b"hello"
    assert dom0.read("/a/b") == b""


def test_value_is_binary(dom0: Connection) -> None:
    dom0.write("/a", b"x\0y\xff")
    assert dom0.read("/a") == b"x\0y\xff"


def test_children_are_listed_in_the_order_they_were_made(dom0: Connection) -> None:
    for name in "cab":
        dom0.write(f"/d/{name}", b"")
    dom0.rm("/d/c")
    dom0.write("/d/c", b"")
    assert dom0.directory("/d") == ["a", "b", "c"]


def test_directory_of_a_leaf_is_empty(dom0: Connection) -> None:
    dom0.write("/leaf", b"1")
    assert dom0.directory("/leaf") == []


def test_mkdir_leaves_an_existing_node_alone(dom0: Connection) -> None:
    dom0.write("/a", b"value")
    dom0.mkdir("/a")
    assert dom0.read("/a") == b"value"


def test_rm_takes_the_subtree(dom0: Connection) -> None:
    dom0.write("/a/b/c", b"1")
    dom0.rm("/a/b")
    assert dom0.directory("/a") == []
    with refused("ENOENT", "/a/b/c"):
        dom0.read("/a/b/c")


def test_rm_of_a_missing_node_is_fine_if_its_parent_exists(dom0: Connection) -> None:
    dom0.mkdir("/a")
    dom0.rm("/a/none")
    with refused("ENOENT", "/none/none"):
        dom0.rm("/none/none")


def test_rm_of_the_root_is_refused(dom0: Connection) -> None:
    with refused("EINVAL", "/"):
        dom0.rm("/")


def test_root_has_a_value_like_any_node(dom0: Connection) -> None:
    dom0.write("/", b"1")
    dom0.mkdir("/")
    assert dom0.read("/") == b"1"


def test_generation_changes_with_every_write_to_the_node_or_its_child_list(
    dom0: Connection,
) -> None:
    def generation() -> int:
        return dom0.directory_part("/a")[0]

    dom0.write("/a/b", b"1")
    seen = [generation()]
    for change in (
        lambda: dom0.write("/a", b"same"),
        lambda: dom0.write("/a", b"same"),
        lambda: dom0.set_perms("/a", ["n0"]),
        lambda: dom0.write("/a/c", b""),
        lambda: dom0.rm("/a/c"),
    ):
        change()
        seen.append(generation())
    assert seen == sorted(set(seen))
    dom0.write("/a/b", b"2")
    dom0.mkdir("/a")
    assert generation() == seen[-1]


def test_closed_connection_answers_nothing(dom0: Connection) -> None:
    dom0.close()
    dom0.close()
    with refused("EBADF"):
        dom0.read("/")


def test_tree_20000_deep_is_removed_without_recursion() -> None:
    tree = Tree(lambda domid, generation: True, XEN_4_20, Peaks({0}))
    top = tree.create(tree.root, ["a"], b"", tree.root.perms)
    tree.create(top, ["a"] * 19_999, b"deep", tree.root.perms)
    assert tree.nodes_owned(0) == 20_001
    tree.remove(top)
    assert tree.nodes_owned(0) == 1
    assert list(tree.root.children) == []


@pytest.mark.parametrize("in_transaction", [False, True])
def test_deepest_legal_path_can_be_made_and_removed(dom0: Connection, in_transaction: bool) -> None:
    tx = dom0.transaction_start() if in_transaction else 0
    dom0.write("/a" * 1024, b"", tx)
    dom0.rm("/a", tx)
    dom0.write("/b", b"", tx)
    if tx:
        dom0.transaction_end(tx, True)
    assert "a" not in dom0.directory("/")
    assert "b" in dom0.directory("/")


@pytest.mark.parametrize("like", ["4.20", "oxenstored"])
def test_names_as_one_text_are_those_of_the_list_whatever_changes(like: str) -> None:
    conn = Store(like=like).connect(0)

    def names(tx: int = 0) -> list[str]:
        listed = conn.directory("/d", tx)
        assert conn.listing("/d", tx) == "\0".join(listed).encode()
        return listed

    conn.write("/d/b", b"")
    assert names() == ["b"]
    tx = conn.transaction_start()
    assert names(tx) == ["b"]
    conn.write("/d/a", b"")
    assert sorted(names()) == ["a", "b"]
    assert names(tx) == ["b"]
    conn.rm("/d/b")
    assert names() == ["a"]
    conn.transaction_end(tx, False)
    tx = conn.transaction_start()
    conn.write("/d/c", b"", tx)
    conn.rm("/d/a", tx)
    assert (names(), names(tx)) == (["a"], ["c"])
    conn.transaction_end(tx, True)
    assert names() == ["c"]
    conn.rm("/d/c")
    assert names() == []
