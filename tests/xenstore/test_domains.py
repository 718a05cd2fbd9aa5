"""Introduction, release, shutdown, death and what stays behind: nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xenstore_refusal import refused

from xennet.xenstore import Connection, Store
from xennet.xenstore.likeness import LIKENESSES

Told = list[tuple[str, str]]
Events = Callable[[Connection], Told]

INTRODUCED = [("@introduceDomain", "i")]
RELEASED = [("@releaseDomain", "r")]


@pytest.fixture
def toolstack(store: Store, events: Events) -> Connection:
    """Watches both special names."""
    conn = store.connect(0)
    conn.watch("@introduceDomain", "i")
    conn.watch("@releaseDomain", "r")
    events(conn)
    return conn


def test_first_introduce_fires_and_the_second_resets(
    store: Store, toolstack: Connection, events: Events
) -> None:
    store.domain_created(8)
    toolstack.introduce(8, 1, 7)
    assert events(toolstack) == INTRODUCED
    guest = store.connect(8)
    guest.watch("x", "t")
    tx = guest.transaction_start()
    toolstack.introduce(8, 1, 7)
    assert events(toolstack) == []
    assert (store.watches_of(8), store.transactions_of(8), len(guest.events)) == (0, 0, 0)
    with refused("ENOENT"):
        guest.read("x", tx)


def test_introduce_needs_an_existing_domain_and_a_port(toolstack: Connection) -> None:
    for domid, port in ((8, 7), (5, 0), (5, -1)):
        with refused("EINVAL"):
            toolstack.introduce(domid, 1, port)


def test_domain_requests_are_privileged(dom5: Connection) -> None:
    for request in (
        lambda: dom5.introduce(6, 1, 7),
        lambda: dom5.release(6),
        lambda: dom5.resume(6),
        lambda: dom5.set_target(5, 6),
        lambda: dom5.is_domain_introduced(5),
    ):
        with refused("EACCES"):
            request()


def test_domain_path_is_told_to_anybody_for_any_number(dom5: Connection) -> None:
    assert dom5.get_domain_path(7) == "/local/domain/7"


def test_is_introduced(store: Store, toolstack: Connection) -> None:
    assert toolstack.is_domain_introduced(0)
    assert toolstack.is_domain_introduced(0x7FF0)
    assert not toolstack.is_domain_introduced(9)
    store.domain_shut_down(5)
    assert toolstack.is_domain_introduced(5)
    store.domain_died(5)
    assert not toolstack.is_domain_introduced(5)


def test_release_fires_once_and_resume_arms_the_shutdown_again(
    store: Store, toolstack: Connection, events: Events
) -> None:
    store.domain_shut_down(5)
    store.domain_shut_down(5)
    assert events(toolstack) == RELEASED
    toolstack.resume(5)
    store.domain_shut_down(5)
    assert events(toolstack) == RELEASED
    toolstack.release(5)
    assert events(toolstack) == RELEASED
    with refused("ENOENT", "5"):
        toolstack.release(5)


def test_domain_0_is_neither_released_nor_resumed(store: Store, toolstack: Connection) -> None:
    for request in (toolstack.release, toolstack.resume, store.domain_died):
        with refused("EINVAL", "0"):
            request(0)
    with refused("ENOENT", "9"):
        toolstack.resume(9)
    with refused("ENOENT", "9"):
        toolstack.set_target(5, 9)


@pytest.mark.parametrize("how", ["release", "domain_died"])
def test_end_of_a_domain_takes_its_nodes_watches_and_transactions(
    store: Store, toolstack: Connection, dom6: Connection, how: str
) -> None:
    guest = store.connect(5)
    guest.write("data/x", b"")
    toolstack.write("/shared/a", b"")
    toolstack.set_perms("/shared/a", ["n5"])
    toolstack.write("/shared/a/of-dom5-by-inheritance", b"")
    toolstack.write("/shared/a/b", b"")
    toolstack.set_perms("/shared/a/b", ["n0"])
    guest.watch("x", "t")
    guest.transaction_start()
    getattr(store, how)(5)
    assert toolstack.directory("/local/domain") == ["6"]
    assert toolstack.directory("/shared") == []
    counts = (store.nodes_owned, store.watches_of, store.transactions_of, store.connections_of)
    assert [count(5) for count in counts] == [0, 0, 0, 0]
    assert guest.closed
    with refused("EBADF"):
        guest.read("x")
    assert dom6.read("/local/domain/6") == b""


def test_nodes_of_a_dead_domain_go_in_the_order_of_a_walk_before_the_release_event(
    store: Store, toolstack: Connection, events: Events
) -> None:
    for path in ("/b/late", "/a/x", "/b/early"):
        toolstack.write(path, b"")
    for path in ("/b/early", "/a/x", "/b/late"):
        toolstack.set_perms(path, ["n5"])
    toolstack.watch("/", "all")
    events(toolstack)
    store.domain_died(5)
    assert events(toolstack) == [
        ("/local/domain/5", "all"),
        ("/b/late", "all"),
        ("/b/early", "all"),
        ("/a/x", "all"),
        *RELEASED,
    ]


@pytest.mark.parametrize("like", LIKENESSES)
def test_root_of_a_dead_domain_goes_to_domain_0(like: str) -> None:
    store = Store(like=like)
    dom0 = store.connect(0)
    store.introduce(5)
    for path in ("/mine/a", "/other"):
        dom0.write(path, b"")
    for path in ("/", "/mine"):
        dom0.set_perms(path, ["n5"])
    store.domain_died(5)
    assert dom0.get_perms("/")[0].domid == 0
    assert "other" in dom0.directory("/")
    assert "mine" not in dom0.directory("/")
    assert store.nodes_owned(5) == 0


@pytest.mark.parametrize(
    ("like", "told"), [("4.17", []), ("4.20", INTRODUCED)], ids=["4.17", "4.20"]
)
def test_special_events_need_permission(
    store: Store, toolstack: Connection, dom5: Connection, events: Events, told: Told
) -> None:
    dom5.watch("@introduceDomain", "i")
    assert events(dom5) == INTRODUCED
    store.introduce(8)
    assert events(dom5) == []
    with refused("EACCES", "@introduceDomain"):
        dom5.set_perms("@introduceDomain", ["n5"])
    toolstack.set_perms("@introduceDomain", ["n0", "r5"])
    assert events(dom5) == told
    store.introduce(9)
    assert events(dom5) == INTRODUCED


def test_permission_for_special_events_ends_with_the_domain(
    store: Store, toolstack: Connection, events: Events
) -> None:
    toolstack.set_perms("@introduceDomain", ["n0", "r5"])
    store.domain_died(5)
    store.introduce(5)
    guest = store.connect(5)
    guest.watch("@introduceDomain", "i")
    events(guest)
    store.introduce(9)
    assert events(guest) == []


@pytest.mark.parametrize(("like", "errno"), [("4.17", "EINVAL"), ("4.20", "ENOENT")])
def test_permissions_of_an_invented_special_name_cannot_be_set(
    toolstack: Connection, errno: str
) -> None:
    with refused(errno, "@foo"):
        toolstack.set_perms("@foo", ["n0"])


def test_domain_must_be_introduced_to_connect(store: Store) -> None:
    with refused("ENOENT", "9"):
        store.connect(9)


def test_counts_do_not_survive_the_domid(store: Store, toolstack: Connection) -> None:
    """XSA-483: the next domain with the number starts at zero."""
    guest = store.connect(5)
    for i in range(50):
        guest.write(f"n{i}", b"")
    store.domain_died(5)
    store.introduce(5)
    assert store.nodes_owned(5) == 0


@pytest.mark.parametrize("like", ["4.17", "4.20"])
def test_death_of_a_domain_conflicts_with_transactions_on_its_nodes(
    store: Store, toolstack: Connection
) -> None:
    store.connect(5).write("a", b"")
    tx = toolstack.transaction_start()
    toolstack.write("/local/domain/5/a", b"x", tx)
    store.domain_died(5)
    with refused("EAGAIN"):
        toolstack.transaction_end(tx, True)
    assert store.nodes_owned(5) == 0


@pytest.mark.parametrize("like", ["4.17", "4.20"])
@pytest.mark.parametrize("act", ["makes one", "removes one", "makes one and removes it"])
def test_death_of_a_domain_fails_transactions_that_changed_what_it_owns(
    store: Store, toolstack: Connection, act: str
) -> None:
    """``domain_entry_fix``: nothing is counted for a domain that does not exist."""
    store.connect(5).write("a", b"")
    tx = toolstack.transaction_start()
    if "makes" in act:
        toolstack.write("/local/domain/5/x", b"", tx)
    if "removes" in act:
        toolstack.rm("/local/domain/5/x" if "makes" in act else "/local/domain/5/a", tx)
    store.domain_died(5)
    with refused("ENOMEM"):
        toolstack.transaction_end(tx, True)
    assert store.nodes_owned(5) == 0
