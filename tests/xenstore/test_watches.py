"""What fires, who hears of it, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xenstore_refusal import refused

from xennet.xenstore import Connection, Store

Events = Callable[[Connection], list[tuple[str, str]]]


def test_first_event_comes_at_once_with_the_path_as_given(dom5: Connection, events: Events) -> None:
    dom5.watch("device", "d")
    dom5.watch("/unreadable/or/absent", "u")
    dom5.watch("@whatever", "w")
    dom5.watch("/t", "")
    assert events(dom5) == [
        ("device", "d"),
        ("/unreadable/or/absent", "u"),
        ("@whatever", "w"),
        ("/t", ""),
    ]


def test_change_below_a_relative_watch_is_told_relative(
    dom0: Connection, dom5: Connection, events: Events
) -> None:
    dom5.watch("device", "d")
    events(dom5)
    dom0.write("/local/domain/5/device/vif/0/state", b"1")
    assert events(dom5) == [("device/vif/0/state", "d")]


def test_watch_hears_of_its_node_and_below_but_not_of_siblings(
    dom0: Connection, events: Events
) -> None:
    dom0.watch("/w", "t")
    dom0.watch("/", "root")
    events(dom0)
    for path in ("/w", "/w/x", "/wx"):
        dom0.write(path, b"")
    assert events(dom0) == [
        ("/w", "t"),
        ("/w", "root"),
        ("/w/x", "t"),
        ("/w/x", "root"),
        ("/wx", "root"),
    ]


def test_same_value_fires_existing_mkdir_and_missing_rm_do_not(
    dom0: Connection, events: Events
) -> None:
    dom0.write("/w", b"1")
    dom0.watch("/w", "t")
    events(dom0)
    dom0.write("/w", b"1")
    assert events(dom0) == [("/w", "t")]
    dom0.set_perms("/w", ["n0"])
    assert events(dom0) == [("/w", "t")]
    dom0.mkdir("/w")
    dom0.rm("/w/none")
    assert events(dom0) == []
    dom0.mkdir("/w/x")
    assert events(dom0) == [("/w/x", "t")]


def test_making_a_leaf_tells_of_the_leaf_only(dom0: Connection, events: Events) -> None:
    dom0.watch("/p", "t")
    events(dom0)
    dom0.write("/p/q/r", b"")
    assert events(dom0) == [("/p/q/r", "t")]


def test_rm_tells_deepest_first_and_below_only_exact_watches(
    dom0: Connection, events: Events
) -> None:
    dom0.write("/s/a/b", b"")
    dom0.write("/s/a/c/d", b"")
    for path in ("/", "/s", "/s/a", "/s/a/c", "/s/a/c/d", "/s/a/b", "/s/a/b/none"):
        dom0.watch(path, path)
    events(dom0)
    dom0.rm("/s/a")
    assert events(dom0) == [
        ("/s/a/b", "/s/a/b"),
        ("/s/a/c/d", "/s/a/c/d"),
        ("/s/a/c", "/s/a/c"),
        ("/s/a", "/"),
        ("/s/a", "/s"),
        ("/s/a", "/s/a"),
    ]


def test_same_path_and_token_twice_is_refused(dom5: Connection) -> None:
    dom5.watch("x", "t")
    dom5.watch("x", "u")
    with refused("EEXIST", "x"):
        dom5.watch("x", "t")
    with refused("EEXIST", "/local/domain/5/x"):
        dom5.watch("/local/domain/5/x", "t")


@pytest.mark.parametrize(("like", "illegal"), [("4.17", "ENOENT"), ("4.20", "EINVAL")])
def test_unwatch_takes_any_spelling_and_refuses_what_is_not_watched(
    dom5: Connection, illegal: str
) -> None:
    dom5.watch("x", "t")
    dom5.unwatch("/local/domain/5/x", "t")
    with refused("ENOENT", "x"):
        dom5.unwatch("x", "t")
    for path in ("bad//path", "x/", "a:b", "", "p" * 2049):
        with refused(illegal, path):
            dom5.unwatch(path, "t")


def test_illegal_path_cannot_be_watched(dom5: Connection) -> None:
    with refused("EINVAL", "a:b"):
        dom5.watch("a:b", "t")
    with refused("EINVAL"):
        dom5.watch("@" + "x" * 2048, "t")


def test_identical_event_that_still_waits_is_not_queued_twice(
    dom0: Connection, events: Events
) -> None:
    dom0.watch("/w", "t")
    events(dom0)
    for value in b"12345":
        dom0.write("/w", bytes([value]))
    dom0.write("/w/x", b"")
    dom0.write("/w", b"")
    assert events(dom0) == [("/w", "t"), ("/w/x", "t")]
    dom0.write("/w", b"")
    assert dom0.events.popleft().path == "/w"
    dom0.write("/w", b"")
    assert events(dom0) == [("/w", "t")]


def test_special_events_are_never_suppressed(
    store: Store, dom0: Connection, events: Events
) -> None:
    dom0.watch("@introduceDomain", "i")
    store.introduce(7)
    store.introduce(8)
    assert events(dom0) == [("@introduceDomain", "i")] * 3


@pytest.mark.parametrize(("extra", "sent"), [(0, True), (1, False)])
def test_event_longer_than_4096_bytes_is_dropped(
    dom0: Connection, events: Events, extra: int, sent: bool
) -> None:
    token = "t" * (4096 - len("/lng/abc") - 2 + extra)
    dom0.watch("/lng", token)
    events(dom0)
    dom0.write("/lng/abc", b"")
    assert (events(dom0) != []) is sent


def test_event_is_hidden_from_those_who_can_read_neither_node_nor_parent(
    dom0: Connection, dom5: Connection, events: Events
) -> None:
    dom0.write("/a/b/c", b"")
    dom5.watch("/a", "t")
    events(dom5)
    dom0.write("/a/b/c", b"")
    assert events(dom5) == []
    dom0.set_perms("/a/b", ["n0", "r5"])
    assert events(dom5) == [("/a/b", "t")]
    dom0.write("/a/b/c", b"parent is readable")
    assert events(dom5) == [("/a/b/c", "t")]
    dom0.rm("/a/b/c")
    assert events(dom5) == [("/a/b/c", "t")]


def test_losing_access_is_still_told_once(
    dom0: Connection, dom5: Connection, events: Events
) -> None:
    dom0.write("/a/b", b"")
    dom0.set_perms("/a/b", ["r0"])
    dom5.watch("/a", "t")
    events(dom5)
    dom0.set_perms("/a/b", ["n0"])
    assert events(dom5) == [("/a/b", "t")]
    dom0.set_perms("/a/b", ["n0"])
    assert events(dom5) == []


def test_connections_hear_in_the_order_they_connected(store: Store) -> None:
    heard = []
    first, second = (store.connect(0, name=name) for name in ("first", "second"))
    first.sink = lambda: heard.append("first")
    second.sink = lambda: heard.append("second")
    second.watch("/w", "t")
    first.watch("/w", "t")
    first.events.clear()
    second.events.clear()
    heard.clear()
    store.connect(0).write("/w", b"")
    assert heard == ["first", "second"]


def test_sink_is_called_after_the_request_and_may_use_the_store(
    store: Store, dom0: Connection
) -> None:
    seen: list[bytes] = []
    watcher = store.connect(0)
    watcher.sink = lambda: seen.append(watcher.read("/w/x"))
    dom0.write("/w/x", b"done")
    watcher.watch("/w", "t")
    assert seen == [b"done"]
    tx = dom0.transaction_start()
    dom0.write("/w/x", b"committed", tx)
    assert seen == [b"done"]
    dom0.transaction_end(tx, True)
    assert seen == [b"done", b"committed"]


def test_reset_watches_drops_watches_and_transactions(
    store: Store, dom5: Connection, dom0: Connection, events: Events
) -> None:
    dom5.watch("x", "t")
    events(dom5)
    tx = dom5.transaction_start()
    dom5.reset_watches(tx)
    assert store.watches_of(5) == store.transactions_of(5) == 0
    dom0.write("/local/domain/5/x", b"")
    assert events(dom5) == []
    with refused("ENOENT"):
        dom5.read("x", tx)
    assert dom5.transaction_start() == tx + 1


def test_transactions_that_were_reset_do_not_count_for_the_quota(dom5: Connection) -> None:
    for _ in range(3):
        for _ in range(dom5.quota.transactions):
            dom5.transaction_start()
        dom5.reset_watches()
