"""Who may do what, and what a domain that comes later inherits: nothing."""

from __future__ import annotations

import pytest
from xenstore_refusal import refused

from xennet.xenstore import Connection, Perm, Store


def shown(conn: Connection, path: str) -> list[str]:
    return [str(perm) for perm in conn.get_perms(path)]


@pytest.mark.parametrize(
    ("perms", "may_read", "may_write"),
    [
        (["n0"], False, False),
        (["r0"], True, False),
        (["w0"], False, True),
        (["b0"], True, True),
        (["n0", "r5"], True, False),
        (["b0", "n5"], False, False),
        (["n0", "r5", "w5"], True, False),
        (["n0", "w5", "r5"], False, True),
        (["n0", "b6"], False, False),
        (["n5"], True, True),
    ],
)
def test_owner_then_first_match_then_default_decides(
    dom0: Connection, dom5: Connection, perms: list[str], may_read: bool, may_write: bool
) -> None:
    dom0.write("/n", b"v")
    dom0.set_perms("/n", perms)
    if may_read:
        assert dom5.read("/n") == b"v"
    else:
        with refused("EACCES", "/n"):
            dom5.read("/n")
    if may_write:
        dom5.write("/n", b"w")
    else:
        with refused("EACCES", "/n"):
            dom5.write("/n", b"w")


def test_dom0_passes_everything(dom0: Connection, dom5: Connection) -> None:
    dom5.write("mine", b"1")
    dom5.set_perms("mine", ["n5", "n0"])
    assert dom0.read("/local/domain/5/mine") == b"1"


def test_configured_domain_passes_everything_too(store: Store) -> None:
    other = Store(privileged=frozenset({0, 9}))
    other.introduce(9)
    other.connect(9).write("/anything", b"1")
    store.introduce(9)
    with refused("EACCES"):
        store.connect(9).write("/anything", b"1")


def test_creating_needs_w_on_the_nearest_existing_ancestor(
    dom0: Connection, dom5: Connection
) -> None:
    dom0.write("/s", b"")
    dom0.set_perms("/s", ["n0", "w5"])
    dom5.write("/s/a/b", b"1")
    with refused("EACCES", "/t/a/b"):
        dom5.write("/t/a/b", b"1")


def test_creator_becomes_owner_and_inherits_the_other_entries(
    dom0: Connection, dom5: Connection
) -> None:
    dom0.write("/s", b"")
    dom0.set_perms("/s", ["r0", "b5", "w6"])
    dom5.write("/s/a", b"1")
    assert shown(dom0, "/s/a") == ["r5", "b5", "w6"]
    dom0.write("/s/a/by-dom0", b"1")
    assert shown(dom0, "/s/a/by-dom0") == ["r5", "b5", "w6"]


def test_removing_needs_w_on_the_node_only(dom0: Connection, dom5: Connection) -> None:
    dom0.write("/s/x", b"")
    dom0.set_perms("/s/x", ["n0", "w5"])
    with refused("EACCES"):
        dom5.write("/s/y", b"")
    dom5.rm("/s/x")
    assert dom0.directory("/s") == []


def test_missing_and_denied_look_alike_below_an_unreadable_ancestor(
    dom0: Connection, dom5: Connection
) -> None:
    dom0.write("/s/x", b"")
    for path in ("/s/x", "/s/none"):
        with refused("EACCES", path):
            dom5.read(path)
    dom0.set_perms("/s", ["r0"])
    with refused("EACCES", "/s/x"):
        dom5.read("/s/x")
    with refused("ENOENT", "/s/none"):
        dom5.read("/s/none")


def test_write_only_node_can_be_written_but_not_read(dom0: Connection, dom5: Connection) -> None:
    dom0.write("/s", b"")
    dom0.set_perms("/s", ["n0", "w5"])
    dom5.write("/s", b"1")
    dom5.mkdir("/s")
    with refused("EACCES"):
        dom5.read("/s")


def test_set_perms_needs_ownership(dom0: Connection, dom5: Connection) -> None:
    dom0.write("/s", b"")
    dom0.set_perms("/s", ["b0"])
    with refused("EACCES", "/s"):
        dom5.set_perms("/s", ["b0"])


def test_domain_cannot_give_its_node_away(dom5: Connection) -> None:
    dom5.write("x", b"")
    with refused("EPERM", "x"):
        dom5.set_perms("x", ["n0"])
    with refused("EPERM", "x"):
        dom5.set_perms("x", ["n6", "b5"])


@pytest.mark.parametrize("bad", ["x0", "r", "", "r5x", "r08", "r0x", "5", "r-", "r5 "])
def test_malformed_permission_is_refused(dom0: Connection, bad: str) -> None:
    with refused("EINVAL"):
        dom0.set_perms("/tool", ["n0", bad])
    assert shown(dom0, "/tool") == ["n0"]


def test_no_permission_at_all_is_refused(dom0: Connection) -> None:
    with refused("EINVAL", "/tool"):
        dom0.set_perms("/tool", [])


@pytest.mark.parametrize(
    ("text", "domid"),
    [("r0x10", 16), ("r010", 8), ("r0", 0), ("r 5", 5), ("r+5", 5), ("r99999999999", 1215752191)],
)
def test_number_is_read_like_strtol_with_base_0(dom0: Connection, text: str, domid: int) -> None:
    dom0.set_perms("/tool", ["n0", text])
    assert dom0.get_perms("/tool")[1].domid == domid


def test_owner_must_exist_but_others_need_not(dom0: Connection) -> None:
    with refused("ENOENT", "/tool"):
        dom0.set_perms("/tool", ["n77"])
    dom0.set_perms("/tool", ["n0", "r77"])
    assert shown(dom0, "/tool") == ["n0", "r77"]


def test_domain_that_is_created_but_not_introduced_can_own_nodes(
    store: Store, dom0: Connection
) -> None:
    store.domain_created(8)
    dom0.write("/local/domain/8", b"")
    dom0.set_perms("/local/domain/8", ["n8"])
    dom0.set_perms("/tool", ["n0", "r8"])
    store.introduce(8)
    store.connect(8).write("x", b"1")
    assert store.connect(8).read("/tool") == b""


def test_entry_of_a_domain_that_comes_later_is_shown_but_grants_nothing(
    store: Store, dom0: Connection
) -> None:
    dom0.set_perms("/tool", ["n0", "r77"])
    store.introduce(77)
    guest = store.connect(77)
    with refused("EACCES"):
        guest.read("/tool")
    dom0.set_perms("/tool", ["n0", "r77"])
    assert guest.read("/tool") == b""


@pytest.mark.parametrize("rewrite", ["nothing", "value", "child", "transaction"])
def test_reused_domid_gets_no_rights_of_its_predecessor(
    store: Store, dom0: Connection, rewrite: str
) -> None:
    dom0.set_perms("/tool", ["n0", "b5"])
    store.domain_died(5)
    store.introduce(5)
    if rewrite == "value":
        dom0.write("/tool", b"new generation")
    if rewrite == "child":
        dom0.write("/tool/child", b"")
    if rewrite == "transaction":
        tx = dom0.transaction_start()
        dom0.write("/tool/child", b"", tx)
        dom0.transaction_end(tx, True)
    guest = store.connect(5)
    with refused("EACCES"):
        guest.read("/tool")
    assert shown(dom0, "/tool") == ["n0", "b5"]
    dom0.write("/tool/later", b"")
    with refused("EACCES"):
        guest.read("/tool/later")


def test_set_target_gives_the_rights_of_the_target(
    store: Store, dom0: Connection, dom5: Connection, dom6: Connection
) -> None:
    dom6.write("x", b"1")
    with refused("EACCES"):
        dom5.read("/local/domain/6/x")
    dom0.set_target(5, 6)
    assert dom5.read("/local/domain/6/x") == b"1"
    dom5.write("/local/domain/6/y", b"")
    assert shown(dom0, "/local/domain/6/y") == ["n5"]
    with refused("EACCES"):
        dom6.read("/local/domain/5")


def test_target_rights_end_with_the_target(store: Store, dom0: Connection) -> None:
    stub = store.connect(5)
    store.set_target(5, 6)
    store.domain_died(6)
    store.introduce(6)
    dom0.write("/local/domain/6", b"")
    dom0.set_perms("/local/domain/6", ["n6"])
    with refused("EACCES"):
        stub.read("/local/domain/6")


def test_ready_made_entries_are_as_good_as_text(dom0: Connection) -> None:
    dom0.set_perms("/tool", [Perm("b", 0), "r5"])
    assert shown(dom0, "/tool") == ["b0", "r5"]


@pytest.mark.parametrize("when", ["before the write", "before the commit"])
def test_reused_domid_gets_no_rights_through_an_open_transaction(
    store: Store, dom0: Connection, when: str
) -> None:
    dom0.set_perms("/tool", ["n0", "b5"])
    tx = dom0.transaction_start()
    dom0.read("/tool", tx)
    if when == "before the commit":
        dom0.write("/tool", b"secret", tx)
    store.domain_died(5)
    store.introduce(5)
    if when == "before the write":
        dom0.write("/tool", b"secret", tx)
    dom0.transaction_end(tx, True)
    with refused("EACCES"):
        store.connect(5).read("/tool")


def test_lives_that_end_at_one_generation_are_told_apart_in_a_transaction(
    store: Store, dom0: Connection
) -> None:
    for owns_nothing in (8, 9):
        store.introduce(owns_nothing)
    dom0.set_perms("/tool", ["n0", "b8"])
    store.domain_died(9)
    tx = dom0.transaction_start()
    dom0.read("/tool", tx)
    store.domain_died(8)  # no node has changed since the other one died
    store.introduce(8)
    dom0.write("/tool", b"secret", tx)
    dom0.transaction_end(tx, True)
    with refused("EACCES"):
        store.connect(8).read("/tool")


@pytest.mark.parametrize(("reborn", "errno"), [(False, "ENOMEM"), (True, "EAGAIN")])
def test_transaction_cannot_give_a_node_to_a_domain_that_died(
    store: Store, dom0: Connection, reborn: bool, errno: str
) -> None:
    tx = dom0.transaction_start()
    dom0.set_perms("/tool", ["n5"], tx)
    store.domain_died(5)
    if reborn:
        store.introduce(5)
    with refused(errno):
        dom0.transaction_end(tx, True)
    assert store.nodes_owned(5) == 0
