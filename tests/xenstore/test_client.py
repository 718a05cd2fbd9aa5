"""The client: values, transactions that are repeated, callbacks."""

from __future__ import annotations

import pytest
from xenstore_refusal import refused

from xennet.xenstore import Client, ClientTransaction, Store, XsError


@pytest.fixture
def client(store: Store) -> Client:
    return Client(store.connect(0), name="toolstack")


@pytest.fixture
def guest(store: Store) -> Client:
    return Client(store.connect(5), name="domU5-kernel")


@pytest.mark.parametrize(
    ("value", "stored"), [(b"x\0", b"x\0"), ("grün", "grün".encode()), (4, b"4"), ("", b"")]
)
def test_value_may_be_bytes_text_or_number(
    client: Client, value: bytes | str | int, stored: bytes
) -> None:
    client.write("/v", value)
    assert client.read("/v") == stored


def test_read_str_keeps_bytes_that_are_no_text(client: Client) -> None:
    client.write("/v", b"\xff1")
    assert client.read_str("/v").encode(errors="surrogateescape") == b"\xff1"


def test_exists_is_false_only_for_a_missing_node(client: Client, guest: Client) -> None:
    client.write("/v", "")
    assert client.exists("/v")
    assert not client.exists("/w")
    with refused("EACCES", "/v"):
        guest.exists("/v")


def test_permissions_are_text(client: Client) -> None:
    client.write("/v", "")
    client.set_perms("/v", ["n5", "r0"])
    assert client.get_perms("/v") == ["n5", "r0"]


def test_transaction_commits_at_the_end_of_the_block(client: Client) -> None:
    with client.transaction() as tx:
        tx.write("/v", 1)
        tx.mkdir("/w")
        assert tx.directory("/") == ["tool", "local", "v", "w"]
        assert not client.exists("/v")
        assert client.exists("/v", tx)
        client.write("/x", 2, tx)
    assert client.read_str("/v") == "1"
    assert client.read_str("/x") == "2"


def test_exception_in_the_block_aborts(store: Store, client: Client) -> None:
    def failing(tx: ClientTransaction) -> None:
        tx.write("/v", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.transact(failing)
    assert not client.exists("/v")
    assert store.transactions_of(0) == 0


def test_exception_survives_a_connection_that_was_reset_meanwhile(
    store: Store, guest: Client
) -> None:
    def resetting(tx: ClientTransaction) -> None:
        store.introduce(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guest.transact(resetting)


def test_transact_repeats_until_it_meets_no_conflict(store: Store, client: Client) -> None:
    rival = store.connect(0)
    rival.write("/counter", b"0")
    attempts = 0

    def body(tx: ClientTransaction) -> str:
        nonlocal attempts
        attempts += 1
        value = int(tx.read("/counter"))
        if attempts < 4:
            rival.write("/counter", str(value + 10).encode())
        tx.write("/counter", value + 1)
        return f"attempt {attempts}"

    assert client.transact(body) == "attempt 4"
    assert client.read("/counter") == b"31"


def test_transact_gives_up_with_a_clear_error(store: Store, client: Client) -> None:
    rival = store.connect(0)
    attempts = 0

    def body(tx: ClientTransaction) -> None:
        nonlocal attempts
        attempts += 1
        tx.write("/v", 1)
        rival.write("/v", b"2")

    with pytest.raises(XsError, match=r"EAGAIN '/v': transaction given up after 5 retries"):
        client.transact(body, retries=5)
    assert attempts == 6
    assert store.transactions_of(0) == 0


def test_transact_passes_other_errors_on_at_once(client: Client) -> None:
    with refused("ENOENT", "/none"):
        client.transact(lambda tx: tx.read("/none"))


def test_callback_gets_first_event_and_changes(client: Client, guest: Client) -> None:
    heard: list[tuple[str, str]] = []
    guest.watch("device", "t", lambda path, token: heard.append((path, token)))
    assert guest.pending
    assert guest.poll_one()
    client.write("/local/domain/5/device/vif", 0)
    assert heard == [("device", "t")]
    assert guest.poll() == 1
    assert heard[1:] == [("device/vif", "t")]
    assert not guest.pending
    assert not guest.poll_one()


def test_events_are_delivered_one_at_a_time_in_order(client: Client) -> None:
    heard: list[str] = []
    client.watch("/w", "t", lambda path, token: heard.append(path))
    for name in "ab":
        client.write(f"/w/{name}", "")
    assert client.poll_one()
    assert heard == ["/w"]
    assert client.poll() == 2
    assert heard == ["/w", "/w/a", "/w/b"]


def test_on_pending_is_told_also_of_the_first_event_and_may_poll(client: Client) -> None:
    heard: list[str] = []
    client.on_pending = client.poll
    client.watch("/w", "t", lambda path, token: heard.append(path))
    client.write("/w/x", "")
    assert heard == ["/w", "/w/x"]


def test_refused_watch_leaves_no_callback(client: Client) -> None:
    heard: list[str] = []
    with refused("EINVAL", "bad:path"):
        client.watch("bad:path", "t", lambda path, token: heard.append(path))
    client.watch("/w", "t", lambda path, token: None)
    with refused("EEXIST", "/w"):
        client.watch("/w", "t", lambda path, token: heard.append(path))
    client.poll()
    assert heard == []


def test_removed_watch_gets_none_of_its_waiting_events(client: Client) -> None:
    heard: list[str] = []
    client.watch("/w", "t", lambda path, token: heard.append("old " + path))
    client.watch("/v", "t", lambda path, token: heard.append(path))
    client.write("/w/x", "")
    client.unwatch("/w", "t")
    client.watch("/w", "t", lambda path, token: heard.append(path))
    client.poll()
    assert heard == ["/v", "/w"]
    client.unwatch("/w", "t")
    with refused("ENOENT", "/w"):
        client.unwatch("/w", "t")


def test_callback_may_remove_its_own_and_other_watches(client: Client) -> None:
    heard: list[str] = []

    def remove_both(path: str, token: str) -> None:
        heard.append(path)
        client.unwatch("/w", "t")
        client.unwatch("/w/x", "t")

    client.watch("/w", "t", remove_both)
    client.watch("/w/x", "t", lambda path, token: heard.append("never"))
    client.write("/w/x", "")
    client.poll()
    assert heard == ["/w"]
    assert not client.pending


def test_callback_removed_by_another_one_for_the_same_event_is_not_called(client: Client) -> None:
    heard: list[str] = []

    def remove_other(path: str, token: str) -> None:
        heard.append(path)
        if path == "/w/x":
            client.unwatch("/w/x", "t")

    client.watch("/w", "t", remove_other)
    client.watch("/w/x", "t", lambda path, token: heard.append("other"))
    client.poll()
    assert heard == ["/w", "/w/x"]


def test_callback_may_cause_events_and_new_watches(client: Client) -> None:
    heard: list[str] = []

    def once(path: str, token: str) -> None:
        heard.append(path)
        if path == "/w":
            client.watch("/v", "v", lambda path, token: heard.append(path))
            client.write("/v/x", "")

    client.watch("/w", "t", once)
    client.poll()
    assert heard == ["/w", "/v", "/v/x"]


def test_what_a_callback_raises_is_passed_on_and_later_events_stay(client: Client) -> None:
    heard: list[str] = []

    def failing(path: str, token: str) -> None:
        client.read("/none")

    client.watch("/w", "t", failing)
    client.watch("/v", "u", lambda path, token: heard.append(path))
    with refused("ENOENT", "/none"):
        client.poll()
    assert client.poll() == 1
    assert heard == ["/v"]


def test_special_name_reaches_its_callback(store: Store, client: Client) -> None:
    heard: list[str] = []
    client.watch("@introduceDomain", "t", lambda path, token: heard.append(path))
    client.watch("/", "t", lambda path, token: heard.append("root " + path))
    client.poll()
    heard.clear()
    store.introduce(9)
    client.poll()
    assert heard == ["@introduceDomain"]


def test_close_drops_everything(store: Store, guest: Client) -> None:
    guest.watch("x", "t", lambda path, token: None)
    with pytest.raises(XsError, match="EBADF"), guest.transaction():
        guest.close()
    assert not guest.pending
    assert (store.connections_of(5), store.watches_of(5), store.transactions_of(5)) == (0, 0, 0)
