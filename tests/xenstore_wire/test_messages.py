"""Every message type: its payloads, its replies and its errors."""

from __future__ import annotations

import pytest
from wire_talk import Talk, message

from xennet.xenstore import Store

# (type, payload, reply); "!" marks an error. /t is "v" with a child, n0; 5 and 6 are introduced,
# 7 exists.
ANSWERS: list[tuple[str | int, bytes, bytes]] = [
    ("READ", b"/t\0", b"v"),
    ("READ", b"/none\0", b"!ENOENT"),
    ("READ", b"/t", b"!EINVAL"),
    ("READ", b"/t\0/t\0", b"!EINVAL"),
    ("READ", b"/t\0x", b"!EINVAL"),
    ("READ", b"", b"!EINVAL"),
    ("READ", b"\0", b"!EINVAL"),
    ("READ", b"/t/\0", b"!EINVAL"),
    ("READ", b"//t\0", b"!EINVAL"),
    ("READ", b"/a+b\0", b"!EINVAL"),
    ("READ", b"/\xff\0", b"!EINVAL"),
    ("READ", b"@introduceDomain\0", b"!EINVAL"),
    ("DIRECTORY", b"/t\0", b"child\0"),
    ("DIRECTORY", b"/t/child\0", b""),
    ("DIRECTORY", b"/none\0", b"!ENOENT"),
    ("DIRECTORY", b"/t", b"!EINVAL"),
    ("DIRECTORY", b"", b"!EINVAL"),
    ("GET_PERMS", b"/t\0", b"n0\0"),
    ("GET_PERMS", b"/none\0", b"!ENOENT"),
    ("GET_PERMS", b"", b"!EINVAL"),
    ("WRITE", b"/t\0new", b"OK\0"),
    ("WRITE", b"/t\0", b"OK\0"),
    ("WRITE", b"/x/y/z\0a\0b\0", b"OK\0"),
    ("WRITE", b"/t", b"!EINVAL"),
    ("WRITE", b"", b"!EINVAL"),
    ("WRITE", b"\0value", b"!EINVAL"),
    ("MKDIR", b"/t\0", b"OK\0"),
    ("MKDIR", b"/new\0", b"OK\0"),
    ("MKDIR", b"/new", b"!EINVAL"),
    ("MKDIR", b"", b"!EINVAL"),
    ("RM", b"/t\0", b"OK\0"),
    ("RM", b"/none\0", b"OK\0"),
    ("RM", b"/none/none\0", b"!ENOENT"),
    ("RM", b"/\0", b"!EINVAL"),
    ("RM", b"/t", b"!EINVAL"),
    ("SET_PERMS", b"/t\0r0\0w5\0", b"OK\0"),
    ("SET_PERMS", b"/t\0r0x0\0b010\0", b"OK\0"),
    ("SET_PERMS", b"/t\0", b"!EINVAL"),
    ("SET_PERMS", b"/t\0x0\0", b"!EINVAL"),
    ("SET_PERMS", b"/t\0n0x\0", b"!EINVAL"),
    ("SET_PERMS", b"/t\0n0", b"!EINVAL"),
    ("SET_PERMS", b"/t\0n99\0", b"!ENOENT"),
    ("SET_PERMS", b"/t\0n0\0r99\0", b"OK\0"),
    ("SET_PERMS", b"/none\0n0\0", b"!ENOENT"),
    ("SET_PERMS", b"@releaseDomain\0n0\0r5\0", b"OK\0"),
    ("SET_PERMS", b"@other\0n0\0", b"!ENOENT"),
    ("WATCH", b"/t\0", b"!EINVAL"),
    ("WATCH", b"/t\0a\x002\0", b"!EINVAL"),
    ("WATCH", b"/t/\0a\0", b"!EINVAL"),
    ("WATCH", b"", b"!EINVAL"),
    ("UNWATCH", b"/t\0never set\0", b"!ENOENT"),
    ("UNWATCH", b"/t/\0a\0", b"!EINVAL"),
    ("UNWATCH", b"/t\0", b"!EINVAL"),
    ("RESET_WATCHES", b"", b"OK\0"),
    ("RESET_WATCHES", b"anything", b"OK\0"),
    ("TRANSACTION_START", b"", b"1\0"),
    ("TRANSACTION_START", b"\0", b"1\0"),
    ("TRANSACTION_END", b"T\0", b"!ENOENT"),
    ("TRANSACTION_END", b"X\0", b"!EINVAL"),
    ("TRANSACTION_END", b"T", b"!EINVAL"),
    ("INTRODUCE", b"7\0001\0009\0", b"OK\0"),
    ("INTRODUCE", b"5\0001\0009\0", b"OK\0"),
    ("INTRODUCE", b"7\0001\0000\0", b"!EINVAL"),
    ("INTRODUCE", b"99\0001\0009\0", b"!EINVAL"),
    ("INTRODUCE", b"7\0001\0", b"!EINVAL"),
    ("RELEASE", b"5\0", b"OK\0"),
    ("RELEASE", b"0\0", b"!EINVAL"),
    ("RELEASE", b"7\0", b"!ENOENT"),
    ("RELEASE", b"5", b"!EINVAL"),
    ("RESUME", b"5\0", b"OK\0"),
    ("RESUME", b"0\0", b"!EINVAL"),
    ("RESUME", b"99\0", b"!ENOENT"),
    ("SET_TARGET", b"5\0006\0", b"OK\0"),
    ("SET_TARGET", b"5\0007\0", b"!ENOENT"),
    ("SET_TARGET", b"5\0", b"!EINVAL"),
    ("IS_DOMAIN_INTRODUCED", b"5\0", b"T\0"),
    ("IS_DOMAIN_INTRODUCED", b"7\0", b"F\0"),
    ("IS_DOMAIN_INTRODUCED", b"32752\0", b"T\0"),
    ("IS_DOMAIN_INTRODUCED", b"5", b"!EINVAL"),
    ("GET_DOMAIN_PATH", b"5\0", b"/local/domain/5\0"),
    ("GET_DOMAIN_PATH", b"abc\0", b"/local/domain/0\0"),
    ("GET_DOMAIN_PATH", b"007x\0", b"/local/domain/7\0"),
    ("GET_DOMAIN_PATH", b"-1\0", b"/local/domain/4294967295\0"),
    ("GET_DOMAIN_PATH", b"99999999999999999999\0", b"/local/domain/4294967295\0"),
    ("GET_DOMAIN_PATH", b"", b"!EINVAL"),
    ("WATCH_EVENT", b"/t\0t\0", b"!ENOSYS"),
    ("ERROR", b"", b"!ENOSYS"),
    ("RESTRICT", b"5\0", b"!ENOSYS"),
    ("GET_FEATURE", b"", b"!ENOSYS"),
    ("SET_FEATURE", b"7\0000\0", b"!ENOSYS"),
    ("GET_QUOTA", b"", b"!ENOSYS"),
    ("SET_QUOTA", b"nodes\0001\0", b"!ENOSYS"),
    (27, b"", b"!ENOSYS"),
    (0xFFFF, b"", b"!ENOSYS"),
    (0xFFFFFFFF, b"", b"!ENOSYS"),
]


@pytest.fixture
def tree(dom0: Talk) -> Talk:
    dom0.ask("WRITE", b"/t\0v")
    dom0.ask("MKDIR", b"/t/child\0")
    return dom0


@pytest.mark.parametrize(("kind", "payload", "reply"), ANSWERS)
def test_domain_0_is_answered(tree: Talk, kind: str | int, payload: bytes, reply: bytes) -> None:
    assert tree.ask(kind, payload, req=0xDEADBEEF) == reply
    assert not tree.session.closed


# A domain owns its home, may not read /t.
GUEST_ANSWERS: list[tuple[str, bytes, bytes]] = [
    ("READ", b"/t\0", b"!EACCES"),
    ("READ", b"/t/none/none\0", b"!EACCES"),
    ("WRITE", b"/t\0x", b"!EACCES"),
    ("MKDIR", b"/new\0", b"!EACCES"),
    ("RM", b"/t\0", b"!EACCES"),
    ("WRITE", b"rel\0x", b"OK\0"),
    ("READ", b"/local/domain/5\0", b""),
    ("SET_PERMS", b"/local/domain/5\0n6\0", b"!EPERM"),
    ("SET_PERMS", b"/t\0n5\0", b"!EACCES"),
    ("SET_PERMS", b"/local/domain/5\0" + b"n5\0" * 7, b"!ENOSPC"),
    ("GET_DOMAIN_PATH", b"6\0", b"/local/domain/6\0"),
    ("TRANSACTION_START", b"\0", b"1\0"),
    ("INTRODUCE", b"7\0001\0009\0", b"!EACCES"),
    ("RELEASE", b"5\0", b"!EACCES"),
    ("RESUME", b"5\0", b"!EACCES"),
    ("SET_TARGET", b"5\0000\0", b"!EACCES"),
    ("IS_DOMAIN_INTRODUCED", b"5\0", b"!EACCES"),
    ("CONTROL", b"help\0", b"!EACCES"),
    ("CONTROL", b"", b"!EACCES"),
]


@pytest.mark.parametrize(("kind", "payload", "reply"), GUEST_ANSWERS)
def test_guest_is_answered(tree: Talk, dom5: Talk, kind: str, payload: bytes, reply: bytes) -> None:
    assert dom5.ask(kind, payload, req=3) == reply


def test_value_is_all_after_the_first_nul(dom0: Talk) -> None:
    dom0.ask("WRITE", b"/x/y\0a\0b\0")
    assert dom0.ask("READ", b"/x/y\0") == b"a\0b\0"
    assert dom0.ask("READ", b"/x\0") == b""


def test_permissions_are_shown_as_they_are_understood(dom0: Talk) -> None:
    dom0.ask("WRITE", b"/t\0")
    dom0.ask("SET_PERMS", b"/t\0r0x0\0b010\0w99\0")
    assert dom0.ask("GET_PERMS", b"/t\0") == b"r0\0b8\0w99\0"


# -- order of checks ---------------------------------------------------------------------------


def test_unknown_type_is_refused_before_the_transaction_is_looked_up(dom0: Talk) -> None:
    assert dom0.ask(99, b"", tx=77) == b"!ENOSYS"


def test_privilege_is_checked_before_the_transaction(dom5: Talk) -> None:
    assert dom5.ask("INTRODUCE", b"bad", tx=77) == b"!EACCES"


@pytest.mark.parametrize("kind", ["READ", "WRITE", "RESET_WATCHES", "GET_DOMAIN_PATH", "CONTROL"])
def test_transaction_is_looked_up_before_the_arguments(dom0: Talk, kind: str) -> None:
    assert dom0.ask(kind, b"", tx=77) == b"!ENOENT"


def test_watch_and_unwatch_echo_a_transaction_id_without_looking_it_up(dom0: Talk) -> None:
    ack, event = dom0.send(message("WATCH", b"/w\0t\0", tx=77, req=1))
    assert ack == (4, 1, 77, b"OK\0")
    assert event == (15, 0, 0, b"/w\0t\0")
    assert dom0.ask("UNWATCH", b"/w\0t\0", tx=77) == b"OK\0"


def test_transaction_of_another_connection_is_unknown(dom0: Talk, dom5: Talk) -> None:
    assert dom0.ask("TRANSACTION_START", b"\0") == b"1\0"
    assert dom5.ask("READ", b"x\0", tx=1) == b"!ENOENT"


# -- transactions --------------------------------------------------------------------------------


def test_transaction_ids_count_from_1_and_are_echoed(dom0: Talk) -> None:
    assert dom0.ask("TRANSACTION_START", b"\0") == b"1\0"
    assert dom0.ask("TRANSACTION_START", b"\0") == b"2\0"
    assert dom0.ask("TRANSACTION_START", b"\0", tx=1) == b"!EBUSY"
    assert dom0.ask("WRITE", b"/x\0in", tx=1) == b"OK\0"
    assert dom0.ask("READ", b"/x\0", tx=2) == b"!ENOENT"
    assert dom0.ask("TRANSACTION_END", b"T", tx=1) == b"!EINVAL"
    assert dom0.ask("TRANSACTION_END", b"T\0", tx=1) == b"OK\0"
    assert dom0.ask("TRANSACTION_END", b"T\0", tx=1) == b"!ENOENT"
    assert dom0.ask("TRANSACTION_END", b"T\0", tx=2) == b"!EAGAIN"
    assert dom0.ask("TRANSACTION_END", b"F\0", tx=2) == b"!ENOENT"
    assert dom0.ask("READ", b"/x\0") == b"in"


def test_reset_watches_ends_transactions_too(dom0: Talk) -> None:
    dom0.send(message("WATCH", b"/w\0t\0"))
    dom0.ask("TRANSACTION_START", b"\0")
    assert dom0.ask("RESET_WATCHES", b"\0") == b"OK\0"
    assert dom0.ask("READ", b"/\0", tx=1) == b"!ENOENT"
    assert dom0.ask("WRITE", b"/w\0x") == b"OK\0"


# -- directories in parts ----------------------------------------------------------------------


def names(count: int) -> list[bytes]:
    return [b"a-rather-long-name-%d" % i for i in range(count)]


def test_directory_of_more_than_4096_bytes_is_e2big(dom0: Talk) -> None:
    for name in names(300):
        dom0.ask("MKDIR", b"/big/%s\0" % name)
    assert dom0.ask("DIRECTORY", b"/big\0") == b"!E2BIG"


def test_parts_hold_whole_names_and_the_last_one_ends_with_a_nul_more(dom0: Talk) -> None:
    for name in names(300):
        dom0.ask("MKDIR", b"/big/%s\0" % name)
    listed, parts, generations = b"", 0, set()
    while True:
        answer = dom0.ask("DIRECTORY_PART", b"/big\0%d\0" % len(listed))
        assert len(answer) <= 4096
        generation, _, part = answer.partition(b"\0")
        generations.add(int(generation))
        parts += 1
        if part.endswith(b"\0\0"):
            listed += part[:-1]
            break
        assert part.endswith(b"\0")
        # One more name would not have fitted.
        assert len(answer) + len(names(300)[-1]) + 1 > 4095
        listed += part
    assert listed.split(b"\0")[:-1] == names(300)
    assert parts == 2
    assert len(generations) == 1


def test_generation_changes_with_the_list(dom0: Talk) -> None:
    dom0.ask("MKDIR", b"/d/a\0")
    before = dom0.ask("DIRECTORY_PART", b"/d\x000\0")
    dom0.ask("MKDIR", b"/d/b\0")
    after = dom0.ask("DIRECTORY_PART", b"/d\x000\0")
    assert before.split(b"\0")[1:] == [b"a", b"", b""]
    assert after.split(b"\0")[1:] == [b"a", b"b", b"", b""]
    assert before.split(b"\0")[0] != after.split(b"\0")[0]


@pytest.mark.parametrize("offset", [b"2", b"3", b"-1", b"4294967295"])
def test_offset_behind_the_list_gives_an_empty_one(dom0: Talk, offset: bytes) -> None:
    dom0.ask("MKDIR", b"/d/a\0")
    generation, *rest = dom0.ask("DIRECTORY_PART", b"/d\0" + offset + b"\0").split(b"\0")
    assert generation.isdigit()
    assert rest == [b"", b""]


def test_offset_within_a_name_gives_its_end(dom0: Talk) -> None:
    dom0.ask("MKDIR", b"/d/abc\0")
    assert dom0.ask("DIRECTORY_PART", b"/d\x001\0").split(b"\0", 1)[1] == b"bc\0\0"


@pytest.mark.parametrize("payload", [b"/\0", b"/\x000", b"/\x000\x000\0", b""])
def test_part_needs_two_strings(dom0: Talk, payload: bytes) -> None:
    assert dom0.ask("DIRECTORY_PART", payload) == b"!EINVAL"


def test_part_of_a_missing_node_is_enoent(dom0: Talk) -> None:
    assert dom0.ask("DIRECTORY_PART", b"/none\x000\0") == b"!ENOENT"


# -- domains -----------------------------------------------------------------------------------


def test_released_domain_loses_its_connection(dom0: Talk, dom5: Talk, store: Store) -> None:
    woken = []
    dom5.session.on_output = lambda: woken.append(dom5.session.closed)
    dom0.ask("RELEASE", b"5\0")
    assert woken == [True]
    assert dom5.send(message("READ", b"/\0")) == []
    assert store.connections_of(5) == 0


def test_introduced_again_a_domain_starts_anew(dom0: Talk, dom5: Talk, store: Store) -> None:
    dom5.session.receive(message("WATCH", b"w\0t\0") + message("TRANSACTION_START", b"\0")[:9])
    assert dom5.session.pending
    dom0.ask("INTRODUCE", b"5\0001\0009\0")
    assert not dom5.session.pending
    assert (store.watches_of(5), store.transactions_of(5)) == (0, 0)
    assert dom5.ask("READ", b"/local/domain/5\0") == b""
