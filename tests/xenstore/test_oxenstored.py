"""The store like oxenstored: what the recorded session (tests/xenstore_real) does not reach."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xenstore_refusal import errno_of, refused

from xennet.xenstore import Connection, Store
from xennet.xenstore.perms import format_perms

pytestmark = pytest.mark.parametrize("like", ["oxenstored"])

Events = Callable[[Connection], list[tuple[str, str]]]
Step = Callable[[Connection, int], object]


@pytest.fixture
def other(store: Store) -> Connection:
    return store.connect(0)


@pytest.mark.parametrize(
    ("inside", "outside", "errno"),
    [
        ([lambda c, tx: c.read("/t/a", tx)], lambda c: c.write("/t/a", b"2"), None),
        ([lambda c, tx: c.write("/t/a", b"3", tx)], lambda c: c.write("/t/a", b"2"), None),
        (
            [lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.write("/t/b", b"", tx)],
            lambda c: c.write("/t/a", b"2"),
            "EAGAIN",
        ),
        (
            [lambda c, tx: c.read("/t/a", tx), lambda c, tx: c.write("/t/b", b"", tx)],
            lambda c: c.write("/t/a", b"1"),
            None,
        ),
        ([lambda c, tx: c.write("/t/b", b"", tx)], lambda c: c.write("/t/c", b""), None),
        (
            [
                lambda c, tx: errno_of(lambda: c.read("/t/new", tx)),
                lambda c, tx: c.write("/t/b", b"", tx),
            ],
            lambda c: c.write("/t/new", b""),
            "EAGAIN",
        ),
        (
            [lambda c, tx: c.directory("/t", tx), lambda c, tx: c.write("/t/a", b"3", tx)],
            lambda c: c.write("/t/a", b"2"),
            None,
        ),
        (
            [lambda c, tx: c.directory("/t", tx), lambda c, tx: c.write("/t/a", b"3", tx)],
            lambda c: c.write("/t/b", b""),
            "EAGAIN",
        ),
    ],
    ids=[
        "only read",
        "blind write",
        "read another value",
        "read the same value",
        "sibling made",
        "missing node made",
        "child written in a listed directory",
        "child made in a listed directory",
    ],
)
def test_commit_is_refused_only_if_an_answer_would_be_another_now(
    dom0: Connection,
    other: Connection,
    inside: list[Step],
    outside: Callable[[Connection], object],
    errno: str | None,
) -> None:
    dom0.write("/t/a", b"1")
    tx = dom0.transaction_start()
    for step in inside:
        step(dom0, tx)
    outside(other)
    assert errno_of(lambda: dom0.transaction_end(tx, True)) == errno


def test_blind_writes_of_two_transactions_both_come_to_pass(
    dom0: Connection, other: Connection
) -> None:
    first, second = dom0.transaction_start(), other.transaction_start()
    dom0.write("/t/a", b"1", first)
    other.write("/t/a", b"2", second)
    other.write("/t/b", b"2", second)
    dom0.transaction_end(first, True)
    other.transaction_end(second, True)
    assert (dom0.read("/t/a"), dom0.read("/t/b")) == (b"2", b"2")


def test_refused_commit_changes_nothing_and_its_id_is_gone(
    dom0: Connection, other: Connection, events: Events
) -> None:
    dom0.write("/t/a", b"1")
    other.watch("/t", "w")
    tx = dom0.transaction_start()
    dom0.write("/t/b", b"", tx)
    dom0.read("/t/a", tx)
    other.write("/t/a", b"2")
    events(other)
    with refused("EAGAIN"):
        dom0.transaction_end(tx, True)
    assert events(other) == []
    assert dom0.directory("/t") == ["a"]
    with refused("EIO"):
        dom0.read("/t/a", tx)


def test_guest_makes_at_most_1024_requests_in_a_transaction(store: Store, dom5: Connection) -> None:
    tx = dom5.transaction_start()
    for _ in range(1024):
        dom5.read("/local/domain/5", tx)
    for request in (
        lambda: dom5.read("/local/domain/5", tx),
        lambda: dom5.write("x", b"", tx),
        lambda: dom5.transaction_end(tx, True),
        lambda: dom5.transaction_end(tx, False),
    ):
        with refused("EQUOTA"):
            request()
    dom5.reset_watches()
    assert store.transactions_of(5) == 0


def test_101_watches_pass_with_a_quota_of_100(dom5: Connection) -> None:
    for i in range(101):
        dom5.watch("x", str(i))
    with refused("EQUOTA", "x"):
        dom5.watch("x", "101")


def test_guest_owns_at_most_1000_nodes(store: Store, dom5: Connection) -> None:
    for i in range(999):
        dom5.mkdir(f"n{i}")
    with refused("EQUOTA", "more"):
        dom5.mkdir("more")
    assert store.nodes_owned(5) == 1000


def test_equal_events_all_wait(dom0: Connection, events: Events) -> None:
    dom0.watch("/w", "t")
    for _ in range(3):
        dom0.write("/w", b"")
    assert events(dom0) == [("/w", "t")] * 4


def test_entries_of_a_dead_domain_vanish_and_its_nodes_end_in_silence(
    store: Store, dom0: Connection, events: Events
) -> None:
    dom0.write("/shared", b"")
    dom0.set_perms("/shared", ["n0", "r5", "w6"])
    dom0.watch("/", "w")
    events(dom0)
    store.domain_died(5)
    assert events(dom0) == []
    assert format_perms(dom0.get_perms("/shared")) == ["n0", "w6"]
    assert dom0.directory("/local/domain") == ["6"]


def test_entry_for_a_domain_to_come_grants_rights(store: Store, dom0: Connection) -> None:
    dom0.write("/shared", b"v")
    dom0.set_perms("/shared", ["n0", "r9"])
    store.introduce(9)
    assert store.connect(9).read("/shared") == b"v"
