"""@introduceDomain and @releaseDomain: nodes, as far as permissions go, since xenstored 4.20."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xenstore_refusal import errno_of, refused

from xennet.xenstore import Connection, Store
from xennet.xenstore.path import SPECIALS
from xennet.xenstore.perms import format_perms

Events = Callable[[Connection], list[tuple[str, str]]]


def perms_of(connection: Connection, name: str, tx: int = 0) -> list[str]:
    return format_perms(connection.get_perms(name, tx))


@pytest.mark.parametrize("name", SPECIALS)
def test_permissions_are_read_like_those_of_a_node(
    dom0: Connection, dom5: Connection, name: str
) -> None:
    assert perms_of(dom0, name) == ["n0"]
    with refused("EACCES", name):
        dom5.get_perms(name)
    dom0.set_perms(name, ["n0", "r5"])
    assert perms_of(dom5, name) == ["n0", "r5"]


@pytest.mark.parametrize("like", ["4.17"])
def test_permissions_could_not_be_read_in_4_17(dom0: Connection) -> None:
    with refused("EINVAL", "@releaseDomain"):
        dom0.get_perms("@releaseDomain")


@pytest.mark.parametrize("name", ["@foo", "@", "@introduceDomain/x"])
def test_another_name_is_a_missing_node(dom0: Connection, dom5: Connection, name: str) -> None:
    for request in (lambda c: c.get_perms(name), lambda c: c.set_perms(name, ["n5"])):
        assert errno_of(lambda request=request: request(dom0)) == "ENOENT"
        assert errno_of(lambda request=request: request(dom5)) == "EACCES"
    dom5.watch(name, "t")
    dom5.unwatch(name, "t")


def test_a_name_with_a_slash_is_no_way_to_the_nodes_below_the_root(dom0: Connection) -> None:
    dom0.write("/x", b"")
    dom0.set_perms("/", ["n0", "r7"])
    for name in ("@introduceDomain/x", "@foo/x"):
        with refused("ENOENT", name):
            dom0.get_perms(name)
    assert perms_of(dom0, "@introduceDomain") == ["n0"]
    for name in ("@introduceDomain", "@foo"):
        with refused("EINVAL", name):
            dom0.directory(name)


def test_another_name_is_told_to_be_missing_to_who_may_read_the_root(
    dom0: Connection, dom5: Connection
) -> None:
    dom0.set_perms("/", ["r0"])
    with refused("ENOENT", "@foo"):
        dom5.get_perms("@foo")


@pytest.mark.parametrize("name", ["@a:b", "@a//b", "@a/", "@introduceDomain/", "@a b"])
def test_illegal_name_is_refused_everywhere(dom0: Connection, name: str) -> None:
    for request in (
        lambda: dom0.get_perms(name),
        lambda: dom0.set_perms(name, ["n0"]),
        lambda: dom0.watch(name, "t"),
        lambda: dom0.unwatch(name, "t"),
    ):
        with refused("EINVAL", name):
            request()


@pytest.mark.parametrize("like", ["4.17"])
def test_any_text_behind_the_at_sign_could_be_watched_in_4_17(dom0: Connection) -> None:
    for name in ("@a:b", "@a//b", "@a/", "@" + "p" * 2047):
        dom0.watch(name, "t")
        dom0.unwatch(name, "t")
    with refused("EINVAL"):
        dom0.watch("@" + "p" * 2048, "t")


@pytest.mark.parametrize("like", ["4.17", "4.20"])
def test_they_are_no_nodes_for_anything_else(dom0: Connection, like: str) -> None:
    for request in (dom0.read, dom0.directory, dom0.mkdir, dom0.rm):
        with refused("EINVAL", "@releaseDomain"):
            request("@releaseDomain")
    assert dom0.directory("/") == ["tool", "local"]


def test_set_perms_fires_watches_on_the_name_and_on_the_root(
    dom0: Connection, dom5: Connection, events: Events
) -> None:
    dom5.watch("@releaseDomain", "r")
    for path, token in (("/", "root"), ("@releaseDomain", "r"), ("@introduceDomain", "i")):
        dom0.watch(path, token)
    events(dom0), events(dom5)
    dom0.set_perms("@releaseDomain", ["n0", "r5"])
    assert events(dom0) == [("@releaseDomain", "root"), ("@releaseDomain", "r")]
    assert events(dom5) == [("@releaseDomain", "r")]


def test_introduction_is_heard_on_the_name_only(
    store: Store, dom0: Connection, events: Events
) -> None:
    dom0.watch("/", "root")
    dom0.watch("@introduceDomain", "i")
    events(dom0)
    store.introduce(8)
    assert events(dom0) == [("@introduceDomain", "i")]


def test_who_may_read_the_root_hears_of_introductions(
    store: Store, dom0: Connection, dom5: Connection, events: Events
) -> None:
    dom5.watch("@introduceDomain", "i")
    events(dom5)
    store.introduce(8)
    assert events(dom5) == []
    dom0.set_perms("/", ["r0"])
    store.introduce(9)
    assert events(dom5) == [("@introduceDomain", "i")]


def test_transaction_sees_and_sets_them_in_private(dom0: Connection, events: Events) -> None:
    dom0.watch("@releaseDomain", "r")
    events(dom0)
    tx = dom0.transaction_start()
    dom0.set_perms("@releaseDomain", ["n0", "r6"], tx)
    assert perms_of(dom0, "@releaseDomain") == ["n0"]
    assert perms_of(dom0, "@releaseDomain", tx) == ["n0", "r6"]
    assert events(dom0) == []
    dom0.transaction_end(tx, True)
    assert perms_of(dom0, "@releaseDomain") == ["n0", "r6"]
    assert events(dom0) == [("@releaseDomain", "r")]


def test_transaction_that_read_them_before_they_changed_is_refused(dom0: Connection) -> None:
    tx = dom0.transaction_start()
    dom0.get_perms("@releaseDomain", tx)
    dom0.set_perms("@releaseDomain", ["n0"])
    with refused("EAGAIN"):
        dom0.transaction_end(tx, True)


def test_they_count_for_their_owner_who_cannot_give_them_away(
    store: Store, dom0: Connection, dom5: Connection
) -> None:
    before = store.nodes_owned(0), store.nodes_owned(5)
    dom0.set_perms("@introduceDomain", ["n5"])
    assert (store.nodes_owned(0), store.nodes_owned(5)) == (before[0] - 1, before[1] + 1)
    dom5.set_perms("@introduceDomain", ["r5", "b6"])
    with refused("EPERM", "@introduceDomain"):
        dom5.set_perms("@introduceDomain", ["n0"])


def test_death_of_a_domain_leaves_its_entries_stale_and_a_name_it_owned_in_place(
    store: Store, dom0: Connection
) -> None:
    dom0.set_perms("@releaseDomain", ["n0", "r6"])
    dom0.set_perms("@introduceDomain", ["n5"])
    for domid in (5, 6):
        store.domain_died(domid)
        store.introduce(domid)
    assert perms_of(dom0, "@releaseDomain") == ["n0", "r6"]
    with refused("EACCES"):
        store.connect(6).get_perms("@releaseDomain")
    assert perms_of(dom0, "@introduceDomain") == ["n5"]
