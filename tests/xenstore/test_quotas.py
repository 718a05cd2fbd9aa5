"""Limits of unprivileged domains: default values and what is refused at each."""

from __future__ import annotations

from contextlib import suppress

import pytest
from xenstore_refusal import errno_of, refused

from xennet.xenstore import Connection, Quota, Store, XsError
from xennet.xenstore.likeness import DEFAULT_LIKENESS
from xennet.xenstore.perms import format_perms
from xennet.xenstore.quota import Refusal


def store_with(like: str = DEFAULT_LIKENESS, **limits: int) -> tuple[Store, Connection, Connection]:
    store = Store(Quota(**limits), like=like)
    dom0 = store.connect(0)
    store.introduce(5)
    dom0.write("/local/domain/5", b"")
    dom0.set_perms("/local/domain/5", ["n5"])
    return store, dom0, store.connect(5)


def test_default_limits_are_those_of_the_c_daemon() -> None:
    assert Quota() == Quota(
        nodes=1000,
        node_size=2048,
        watches=128,
        transactions=10,
        transaction_nodes=1024,
        perms=5,
        path_max=2048,
    )


def test_the_store_remembers_which_limits_stood_against_a_domain_in_this_life() -> None:
    store, dom0, dom5 = store_with(nodes=3, watches=1, transaction_nodes=2, node_size=100)
    assert store.refusals(5) == ()
    for name in ("a", "b", "c", "d"):
        with suppress(XsError):
            dom5.write(name, b"")
    for token in ("1", "2", "3"):
        with suppress(XsError):
            dom5.watch("a", token)
    with suppress(XsError):
        dom5.write("a", bytes(200))
    with suppress(XsError):
        dom5.read("a/b/c/d", dom5.transaction_start())
    dom0.write("/by/the/toolstack", bytes(3000))
    assert store.refusals(5) == (
        Refusal(5, "nodes", 3, 4),
        Refusal(5, "watches", 1, 2),
        Refusal(5, "node_size", 100, 224),
        Refusal(5, "transaction_nodes", 2, 3),
    )
    assert (store.refusals(0), store.refusals(9)) == ((), ())
    store.release(5)
    assert store.refusals(5) == ()


@pytest.mark.parametrize("observed", [False, True])
def test_a_commit_that_is_refused_is_remembered_too(observed: bool) -> None:
    store, _, dom5 = store_with("4.17", nodes=3)
    store.observer = (lambda op: None) if observed else None
    tx = dom5.transaction_start()
    for name in ("a", "b", "c"):
        dom5.write(name, b"", tx)
    with refused("ENOSPC"):
        dom5.transaction_end(tx, True)
    assert store.refusals(5) == (Refusal(5, "nodes", 3, 4),)


def test_domain_owns_at_most_1000_nodes() -> None:
    store, dom0, dom5 = store_with()
    for i in range(999):
        dom5.write(f"d{i % 9}/{i}" if i > 8 else f"d{i}", b"")
    assert store.nodes_owned(5) == 1000
    with refused("ENOSPC", "more"):
        dom5.write("more", b"")
    dom0.write("/local/domain/5/from-dom0", b"")
    assert store.nodes_owned(5) == 1001
    dom5.rm("d0")
    dom5.write("more", b"")


def test_refused_creation_leaves_no_parents_behind() -> None:
    """XSA-415: nodes made for a path that then fails are undone."""
    store, _, dom5 = store_with(nodes=3)
    with refused("ENOSPC"):
        dom5.write("a/b/c", b"")
    assert dom5.directory("/local/domain/5") == []
    assert store.nodes_owned(5) == 1
    dom5.write("a/b", b"")


@pytest.mark.parametrize(
    ("have", "make", "answer"),
    [(8, 1, None), (9, 1, "ENOSPC"), (8, 4, "ENOSPC")],
    ids=["stays below", "fills it", "exceeds it"],
)
def test_commit_must_stay_below_the_node_quota(have: int, make: int, answer: str | None) -> None:
    store, _, dom5 = store_with("4.17", nodes=10)
    for i in range(have - 1):
        dom5.write(f"n{i}", b"")
    tx = dom5.transaction_start()
    for i in range(make):
        dom5.write(f"x{i}", b"", tx)
    if answer is None:
        dom5.transaction_end(tx, True)
        assert store.nodes_owned(5) == have + make
    else:
        with refused(answer):
            dom5.transaction_end(tx, True)
        assert store.nodes_owned(5) == have


def test_full_domain_cannot_create_in_a_transaction_but_commit_the_rest() -> None:
    store, _, dom5 = store_with("4.17", nodes=4)
    for name in "abc":
        dom5.write(name, b"")
    tx = dom5.transaction_start()
    dom5.rm("a", tx)
    with refused("ENOSPC", "d"):
        dom5.write("d", b"", tx)
    dom5.transaction_end(tx, True)
    assert store.nodes_owned(5) == 3


def test_commit_of_dom0_may_fill_the_quota_of_a_guest() -> None:
    store, dom0, _ = store_with(nodes=2)
    tx = dom0.transaction_start()
    dom0.write("/local/domain/5/a/b/c", b"", tx)
    dom0.transaction_end(tx, True)
    assert store.nodes_owned(5) == 4


@pytest.mark.parametrize(("like", "largest"), [("4.17", 2015), ("4.20", 2024)])
def test_largest_value_of_a_node_depends_on_its_permissions(
    dom0: Connection, dom5: Connection, largest: int
) -> None:
    dom5.write("x", b"z" * largest)
    with refused("ENOSPC", "x"):
        dom5.write("x", b"z" * (largest + 1))
    with refused("ENOSPC", "x"):
        dom5.set_perms("x", ["n5", "r0"])
    assert format_perms(dom5.get_perms("x")) == ["n5"]
    dom5.write("x", b"z" * (largest - 8))
    dom5.set_perms("x", ["n5", "r0"])
    with refused("ENOSPC", "x"):
        dom5.write("x", b"z" * (largest - 7))
    dom5.set_perms("x", ["n5"])
    with refused("ENOSPC", "x/abc"):
        dom5.write("x", b"z" * largest)
        dom5.write("x/abc", b"")
    dom5.write("x", b"z" * (largest - 4))
    dom5.write("x/abc", b"")
    dom0.write("/local/domain/5/x", b"z" * 4088)
    assert len(dom5.read("x")) == 4088


@pytest.mark.parametrize(
    ("like", "fit"),
    # 24 + 8 + 403 * 5 = 2047 < 2048; 16 + 8 + 404 * 5 = 2044 <= 2048
    [("4.17", 403), ("4.20", 404)],
)
def test_child_names_count_for_the_size_of_the_parent(dom5: Connection, fit: int) -> None:
    dom5.mkdir("many")
    made = 0
    with refused("ENOSPC"):
        for made in range(1000):
            dom5.write(f"many/{made:04d}", b"")
    assert made == fit


@pytest.mark.parametrize(("like", "longest"), [("4.17", 2014), ("4.20", 2023)])
def test_new_parents_must_be_small_enough_too(dom5: Connection, longest: int) -> None:
    with refused("ENOSPC"):
        dom5.write("a/" + "b" * (longest + 1), b"")
    assert dom5.directory("/local/domain/5") == []
    dom5.write("a/" + "b" * longest, b"")


def test_permissions_per_node(dom0: Connection, dom5: Connection) -> None:
    dom5.write("x", b"")
    dom5.set_perms("x", ["n5"] + ["r0"] * 4)
    with refused("ENOSPC", "x"):
        dom5.set_perms("x", ["n5"] + ["r0"] * 5)
    dom0.set_perms("/local/domain/5/x", ["n5"] + ["r0"] * 9)


def test_129_watches_pass_with_a_quota_of_128(store: Store, dom5: Connection) -> None:
    for i in range(129):
        dom5.watch("x", str(i))
    with refused("E2BIG", "x"):
        dom5.watch("x", "129")
    assert store.watches_of(5) == 129


def test_11_transactions_pass_with_a_quota_of_10(store: Store, dom5: Connection) -> None:
    for _ in range(11):
        dom5.transaction_start()
    with refused("ENOSPC"):
        dom5.transaction_start()
    assert store.transactions_of(5) == 11
    dom5.transaction_end(3, False)
    assert dom5.transaction_start() == 12


def test_touching_too_many_nodes_fails_the_transaction(dom5: Connection) -> None:
    tx = dom5.transaction_start()
    touched = 0
    with refused("ENOSPC"):
        for touched in range(2000):
            dom5.rm(f"n{touched}", tx)
    assert touched == 1023  # and the home directory
    with refused("ENOMEM"):
        dom5.transaction_end(tx, True)


def test_size_quota_inside_fails_the_transaction(dom5: Connection) -> None:
    dom5.write("x", b"")
    for path in ("x", "new"):
        tx = dom5.transaction_start()
        with refused("ENOSPC", path):
            dom5.write(path, b"z" * 3000, tx)
        with refused("ENOMEM"):
            dom5.transaction_end(tx, True)
    assert dom5.read("x") == b""


def test_failed_transaction_can_be_aborted(dom5: Connection) -> None:
    tx = dom5.transaction_start()
    with refused("ENOSPC"):
        dom5.write("x", b"z" * 3000, tx)
    dom5.transaction_end(tx, False)


def test_dom0_is_exempt() -> None:
    store = Store(Quota(nodes=1, node_size=40, watches=0, transactions=0, transaction_nodes=1))
    dom0 = store.connect(0)
    for i in range(5):
        dom0.watch("/x", str(i))
        tx = dom0.transaction_start()
        dom0.write(f"/x/{i}", b"z" * 100, tx)
        dom0.transaction_end(tx, True)
    assert len(dom0.directory("/x")) == 5


@pytest.mark.parametrize(("like", "errno"), [("4.17", "EINVAL"), ("4.20", None)])
def test_path_limit_is_for_domain_0_as_well_until_4_17(like: str, errno: str | None) -> None:
    dom0 = Store(Quota(path_max=10), like=like).connect(0)
    assert errno_of(lambda: dom0.write("/" + "x" * 10, b"")) == errno


def test_path_limit_of_the_moment_binds_paths_that_were_given_before(
    store: Store, dom5: Connection
) -> None:
    dom5.write("long", b"")
    store.set_quota(Quota(path_max=3))
    with refused("EINVAL", "long"):
        dom5.read("long")
    store.set_quota(Quota())
    assert dom5.read("long") == b""


def test_path_that_was_given_before_is_a_peak_again_after_a_reset(
    store: Store, dom5: Connection
) -> None:
    dom5.write("abc", b"")
    store.peaks.reset({})
    assert store.peaks.of(5).get("path_max", 0) == 0
    dom5.read("abc")
    assert store.peaks.of(5)["path_max"] == 3


def test_connection_remembers_few_and_short_ones_of_the_paths_that_a_domain_makes_up(
    dom5: Connection,
) -> None:
    for i in range(2000):
        with refused("ENOENT"):
            dom5.read(f"{i}")
        with refused("ENOENT"):
            dom5.read(f"{'long' * 80}/{i}")
    assert len(dom5._names) <= 256
    assert max(map(len, dom5._names)) <= 256


@pytest.mark.parametrize(
    ("have", "make", "answers", "end"),
    [
        (8, 1, [None], None),
        (9, 1, [None], "ENOSPC"),
        (8, 4, [None, None, "ENOSPC", "ENOSPC"], "ENOSPC"),
        (10, 1, ["ENOSPC"], None),
    ],
    ids=["stays below", "fills it", "exceeds it", "is full before"],
)
def test_nodes_of_a_transaction_count_at_once_since_4_20(
    have: int, make: int, answers: list[str | None], end: str | None
) -> None:
    store, _, dom5 = store_with("4.20", nodes=10)
    for i in range(have - 1):
        dom5.write(f"n{i}", b"")
    tx = dom5.transaction_start()
    assert [errno_of(lambda i=i: dom5.write(f"x{i}", b"", tx)) for i in range(make)] == answers
    assert errno_of(lambda: dom5.transaction_end(tx, True)) == end
    assert store.nodes_owned(5) == (have if end or answers[-1] else have + make)


def test_half_of_a_path_that_the_quota_allows_fails_the_transaction_since_4_20() -> None:
    store, _, dom5 = store_with("4.20", nodes=3)
    tx = dom5.transaction_start()
    with refused("ENOSPC", "a/b/c"):
        dom5.write("a/b/c", b"", tx)
    with refused("ENOENT", "a"):
        dom5.read("a", tx)
    with refused("ENOMEM"):
        dom5.transaction_end(tx, True)
    assert store.nodes_owned(5) == 1


def test_what_a_transaction_removed_makes_room_at_once_since_4_20() -> None:
    store, _, dom5 = store_with("4.20", nodes=4)
    for name in "ab":
        dom5.write(name, b"")
    tx = dom5.transaction_start()
    dom5.rm("a", tx)
    dom5.write("c", b"", tx)
    dom5.transaction_end(tx, True)
    assert dom5.directory("/local/domain/5") == ["b", "c"]
    assert store.nodes_owned(5) == 3


@pytest.mark.parametrize(("like", "end"), [("4.17", "ENOSPC"), ("4.20", None)])
def test_set_perms_without_a_new_owner_recounts_the_nodes_of_a_transaction_until_4_17(
    like: str, end: str | None
) -> None:
    _, _, dom5 = store_with(like, nodes=2)
    dom5.write("a", b"")
    tx = dom5.transaction_start()
    dom5.set_perms("a", ["r5"], tx)
    with refused("ENOSPC", "b"):
        dom5.write("b", b"", tx)
    assert errno_of(lambda: dom5.transaction_end(tx, True)) == end


def test_transaction_node_quota_lowered_meanwhile_binds_an_open_transaction(
    store: Store, dom5: Connection
) -> None:
    tx = dom5.transaction_start()
    for missing in ("a", "b"):
        with refused("ENOENT", missing):
            dom5.read(missing, tx)  # touches the home directory, too
    store.set_quota(Quota(transaction_nodes=3))
    with refused("ENOENT", "a"):
        dom5.read("a", tx)
    with refused("ENOSPC"):
        dom5.read("c", tx)
    with refused("ENOMEM"):
        dom5.transaction_end(tx, True)


def test_transaction_node_quota_raised_meanwhile_lets_an_open_transaction_go_on(
    store: Store, dom5: Connection
) -> None:
    store.set_quota(Quota(transaction_nodes=2))
    tx = dom5.transaction_start()
    dom5.write("a", b"1", tx)
    store.set_quota(Quota())
    dom5.write("b", b"2", tx)
    dom5.transaction_end(tx, True)
    assert dom5.directory("/local/domain/5") == ["a", "b"]


def test_node_quota_of_the_moment_of_the_commit_counts(store: Store, dom5: Connection) -> None:
    tx = dom5.transaction_start()
    for name in "abc":
        dom5.write(name, b"", tx)
    store.set_quota(Quota(nodes=4))
    with refused("ENOSPC"):
        dom5.transaction_end(tx, True)
    assert dom5.directory("/local/domain/5") == []


def test_removal_that_touches_too_many_nodes_below_is_an_eio(
    store: Store, dom5: Connection
) -> None:
    dom5.write("c/a/b", b"")
    store.set_quota(Quota(transaction_nodes=3))
    tx = dom5.transaction_start()
    with refused("EIO", "/local/domain/5/c"):
        dom5.rm("c", tx)
    assert dom5.read("c/a", tx) == b""
    with refused("ENOMEM"):
        dom5.transaction_end(tx, True)


@pytest.mark.parametrize(("limit", "errno"), [(2, "ENOSPC"), (3, None)])
def test_node_quota_of_a_commit_counts_as_soon_as_it_made_a_node(
    store: Store, dom5: Connection, limit: int, errno: str | None
) -> None:
    dom5.write("old", b"")
    tx = dom5.transaction_start()
    dom5.rm("old", tx)
    dom5.write("new", b"", tx)
    store.set_quota(Quota(nodes=limit))
    assert errno_of(lambda: dom5.transaction_end(tx, True)) == errno


def test_commit_that_only_writes_and_removes_passes_with_a_full_node_quota(
    store: Store, dom5: Connection
) -> None:
    for name in "ab":
        dom5.write(name, b"")
    tx = dom5.transaction_start()
    dom5.rm("a", tx)
    dom5.write("b", b"x", tx)
    store.set_quota(Quota(nodes=1))
    dom5.transaction_end(tx, True)
    assert dom5.directory("/local/domain/5") == ["b"]
