"""One API over whatever carries it: the process, messages, a ring, the sockets of both daemons."""

from __future__ import annotations

import pytest
from xenstore_servers import PATIENCE

from xennet.xenstore import Client, ClientTransaction, WatchEvent, XsError, XsTimeoutError


@pytest.mark.parametrize(
    ("value", "stored"),
    [(b"x\0", b"x\0"), ("grün", "grün".encode()), (4, b"4"), ("", b""), (b"\xff" * 4000, None)],
)
def test_value_may_be_bytes_text_or_number(
    client: Client, value: bytes | str | int, stored: bytes | None
) -> None:
    client.write("/t/v", value)
    assert client.read("/t/v") == (value if stored is None else stored)


def test_read_str_keeps_bytes_that_are_no_text(client: Client) -> None:
    client.write("/t/v", b"\xff1")
    assert client.read_str("/t/v").encode(errors="surrogateescape") == b"\xff1"
    client.write("/t/w", client.read_str("/t/v"))
    assert client.read("/t/w") == b"\xff1"


def test_directory_is_in_the_order_of_creation(client: Client) -> None:
    for name in "bac":
        client.mkdir(f"/t/{name}")
    assert client.directory("/t") == ["b", "a", "c"]
    assert client.directory("/t/a") == []


def test_directory_larger_than_a_message_is_complete(client: Client) -> None:
    names = [f"a-name-of-some-length-{n:04}" for n in range(400)]
    with client.transaction() as tx:
        for name in names:
            tx.mkdir(f"/t/{name}")
        assert tx.directory("/t") == names
    assert client.directory("/t") == names


@pytest.mark.parametrize("size", [*range(4090, 4102), 8192])
def test_directory_at_the_edges_of_a_message(client: Client, size: int) -> None:
    names = [f"{n:03}{'x' * 60}" for n in range(size // 64)]
    if size % 64 > 1:
        names.append("y" * (size % 64 - 1))
    for name in names:
        client.mkdir(f"/t/{name}")
    assert client.directory("/t") == names


def test_exists_and_rm(client: Client) -> None:
    client.write("/t/a/b", 1)
    assert client.exists("/t/a")
    client.rm("/t/a")
    assert not client.exists("/t/a")
    client.rm("/t/a")


def test_permissions_are_text(client: Client) -> None:
    client.set_perms("/t", ["n0", "r5", "b7"])
    assert client.get_perms("/t") == ["n0", "r5", "b7"]


@pytest.mark.parametrize(
    ("request_", "errno", "path"),
    [
        (lambda c: c.read("/t/none"), "ENOENT", "/t/none"),
        (lambda c: c.directory("/t/none"), "ENOENT", "/t/none"),
        (lambda c: c.write("/t//x", 1), "EINVAL", "/t//x"),
        (lambda c: c.mkdir("no blanks"), "EINVAL", "no blanks"),
        (lambda c: c.rm("/"), "EINVAL", "/"),
        (lambda c: c.rm("/none/x"), "ENOENT", "/none/x"),
        (lambda c: c.set_perms("/t", ["x1"]), "EINVAL", None),
        (lambda c: c.set_perms("/t", []), "EINVAL", "/t"),
        (lambda c: c.exists("/t/"), "EINVAL", "/t/"),
        (lambda c: c.unwatch("/t", "never"), "ENOENT", "/t"),
    ],
)
def test_refusal_carries_errno_and_path(client: Client, request_, errno, path) -> None:
    with pytest.raises(XsError) as caught:
        request_(client)
    assert caught.value.errno == errno
    assert path is None or caught.value.path == path


def test_nul_in_a_path_never_becomes_an_argument(client: Client) -> None:
    with pytest.raises(XsError, match="EINVAL"):
        client.write("/t/a\0b", "c")
    with pytest.raises(XsError, match="EINVAL"):
        client.set_perms("/t", ["n0\0r5"])
    assert client.directory("/t") == []


def test_transaction_is_seen_by_others_only_when_committed(client: Client, rival: Client) -> None:
    with client.transaction() as tx:
        tx.write("/t/v", 1)
        assert tx.exists("/t/v")
        assert client.exists("/t/v", tx)
        assert not rival.exists("/t/v")
    assert rival.read("/t/v") == b"1"


def test_exception_in_the_block_aborts(client: Client) -> None:
    def failing(tx: ClientTransaction) -> None:
        tx.write("/t/v", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.transact(failing)
    assert not client.exists("/t/v")


def test_conflict_is_eagain(client: Client, rival: Client) -> None:
    block = client.transaction()
    block.__enter__().write("/t/v", 1)
    rival.write("/t/v", 2)
    with pytest.raises(XsError, match="EAGAIN"):
        block.__exit__(None, None, None)
    assert client.read("/t/v") == b"2"


def test_transact_repeats_until_it_meets_no_conflict(client: Client, rival: Client) -> None:
    rival.write("/t/n", 0)
    attempts = 0

    def body(tx: ClientTransaction) -> str:
        nonlocal attempts
        attempts += 1
        value = int(tx.read("/t/n"))
        if attempts < 4:
            rival.write("/t/n", value + 10)
        tx.write("/t/n", value + 1)
        return f"attempt {attempts}"

    assert client.transact(body) == "attempt 4"
    assert client.read("/t/n") == b"31"


def test_attempts_are_transactions_until_one_commits(client: Client, rival: Client) -> None:
    rival.write("/t/n", 0)
    count = 0
    for attempt in client.attempts():
        with attempt as tx:
            count += 1
            value = int(tx.read("/t/n"))
            if count < 3:
                rival.write("/t/n", value + 10)
            tx.write("/t/n", value + 1)
    assert (count, client.read("/t/n")) == (3, b"21")


def test_attempts_are_given_up_with_a_clear_error(client: Client, rival: Client) -> None:
    attempts = client.attempts(retries=2)
    for _ in range(3):
        with next(attempts) as tx:
            tx.write("/t/n", 1)
            rival.write("/t/n", 2)
    with pytest.raises(XsError, match=r"EAGAIN.*: transaction given up after 2 retries"):
        next(attempts)


def test_watch_iterates_over_events_the_first_being_the_path(client: Client) -> None:
    with client.watch("/t", timeout=PATIENCE) as events:
        assert next(events) == WatchEvent("/t", events.token)
        for change in (lambda: client.write("/t/a", 1), lambda: client.rm("/t/a")):
            change()
            assert next(events) == WatchEvent("/t/a", events.token)
    assert list(events) == []


def test_watch_hears_of_another_client(client: Client, rival: Client) -> None:
    with client.watch("/t", "token", timeout=PATIENCE) as events:
        assert next(events) == WatchEvent("/t", "token")
        rival.write("/t/x/y", 1)
        assert next(events) == WatchEvent("/t/x/y", "token")


def test_watch_that_stays_silent_times_out_naming_its_path(client: Client) -> None:
    with client.watch("/t", timeout=0.05) as events:
        events.next(PATIENCE)
        with pytest.raises(TimeoutError, match=r"'/t': no watch event within 0.05 s") as caught:
            next(events)
        assert isinstance(caught.value, XsTimeoutError)
        assert caught.value.path == "/t"
        client.write("/t/a", 1)
        assert events.next(PATIENCE).path == "/t/a"


def test_closed_watch_is_gone_from_the_server(client: Client, rival: Client) -> None:
    events = client.watch("/t", "token")
    events.close()
    events.close()
    rival.write("/t/a", 1)
    assert client.poll() == 0
    client.watch("/t", "token").close()


def test_two_watches_of_one_client_do_not_mix(client: Client) -> None:
    with (
        client.watch("/t/a", timeout=PATIENCE) as first,
        client.watch("/t/b", timeout=PATIENCE) as second,
    ):
        assert [next(second).path, next(first).path] == ["/t/b", "/t/a"]
        client.write("/t/b/x", 1)
        client.write("/t/a/x", 1)
        assert [next(second).path, next(first).path] == ["/t/b/x", "/t/a/x"]


def test_callbacks_get_events_when_polled(client: Client, rival: Client) -> None:
    heard: list[tuple[str, str]] = []
    client.watch("/t", "token", lambda path, token: heard.append((path, token)))
    rival.write("/t/a", 1)
    client.wait(lambda: len(heard) == 2, PATIENCE)
    assert heard == [("/t", "token"), ("/t/a", "token")]
    client.unwatch("/t", "token")
    rival.write("/t/a", 1)
    client.read("/t/a")
    assert client.poll() == 0


def test_callback_may_use_the_client_and_end_its_watch(client: Client) -> None:
    seen: list[list[str]] = []

    def callback(path: str, token: str) -> None:
        seen.append(client.directory("/t"))
        if seen[-1]:
            client.unwatch("/t", token)

    client.watch("/t", "token", callback)
    client.write("/t/a", 1)
    client.write("/t/b", 1)
    client.wait(lambda: bool(seen and seen[-1]), PATIENCE)
    assert seen[-1][:1] == ["a"]
    client.watch("/t", "token", callback)


def test_on_pending_is_told_of_events_that_come_with_a_reply(client: Client) -> None:
    told: list[bool] = []
    client.on_pending = lambda: told.append(client.pending)
    client.watch("/t", "token", lambda path, token: None)
    client.write("/t/a", 1)
    client.read("/t/a")
    assert told
    assert all(told)


def test_duplicate_watch_is_refused(client: Client) -> None:
    with client.watch("/t", "token"), pytest.raises(XsError, match="EEXIST '/t'"):
        client.watch("/t", "token")


def test_relative_paths_are_those_of_domain_0(client: Client) -> None:
    client.write("t", 1)
    assert client.read("/local/domain/0/t") == b"1"
    with client.watch("t", timeout=PATIENCE) as events:
        assert next(events).path == "t"
        client.write("/local/domain/0/t/x", 1)
        assert next(events).path == "t/x"
    client.rm("/local")


def test_domain_questions(client: Client) -> None:
    assert client.get_domain_path(7) == "/local/domain/7"
    assert not client.is_domain_introduced(7)
    for refused in (client.release, client.resume):
        with pytest.raises(XsError, match="ENOENT '7'"):
            refused(7)
    with pytest.raises(XsError, match="ENOENT"):
        client.set_target(7, 8)
    with pytest.raises(XsError, match="EINVAL '7'"):
        client.introduce(7, 1, 0)


def test_closed_client_says_so(client: Client) -> None:
    client.close()
    client.close()
    with pytest.raises(XsError, match="EBADF"):
        client.read("/t")
