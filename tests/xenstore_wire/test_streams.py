"""Byte streams of every kind against a session."""

from __future__ import annotations

from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_codec import in_pieces
from wire_talk import Talk, message

from xennet.xenstore import Store
from xennet.xenstore.handlers import Server

PATHS = st.sampled_from([b"/a", b"/a/b", b"a", b"/", b"@releaseDomain", b"/a/", b"/local/domain/5"])
FIELDS = st.one_of(
    PATHS,
    st.sampled_from([b"", b"t", b"n0", b"r5", b"T", b"F", b"0", b"5", b"7", b"-1", b"1", b"nodes"]),
    st.sampled_from([b"quota", b"set", b"help", b"check", b"print", b"log", b"on"]),
    st.binary(max_size=6),
)
PAYLOADS = st.builds(
    lambda fields, end: b"\0".join(fields) + end,
    st.lists(FIELDS, max_size=4),
    st.sampled_from([b"\0", b""]),
)
REQUESTS = st.builds(
    message,
    st.one_of(st.integers(0, 28), st.sampled_from([0xFFFF, 0xFFFFFFFF])),
    PAYLOADS,
    st.sampled_from([0, 0, 0, 1, 2, 77]),
    st.integers(0, 9),
)
STREAMS = st.lists(st.one_of(REQUESTS, REQUESTS, REQUESTS, st.binary(max_size=30)), max_size=15)


def world() -> Server:
    store = Store()
    store.introduce(5)
    store.domain_created(7)
    return Server(store, newer=True, features=3)


def answers_to(server: Server, domid: int, pieces: list[bytes]) -> bytes:
    talk = Talk(server, domid)
    for piece in pieces:
        talk.session.receive(piece)
    answers = b""
    while talk.session.pending:
        answers += talk.session.take()
        talk.session.resume()
    talk.session.close()
    return answers


@settings(max_examples=250, deadline=None)
@given(
    st.lists(REQUESTS, max_size=12),
    st.lists(st.integers(0, 2000), max_size=15),
    st.sampled_from([0, 5]),
)
def test_any_split_of_the_requests_gives_the_same_answers(
    requests: list[bytes], cuts: list[int], domid: int
) -> None:
    stream = b"".join(requests)
    assert answers_to(world(), domid, in_pieces(stream, cuts)) == answers_to(
        world(), domid, [stream]
    )


@settings(max_examples=examples(800), deadline=None)
@given(STREAMS, st.integers(0, 40), st.sampled_from([0, 5]))
def test_random_and_truncated_streams_never_raise_and_never_stop_others(
    parts: list[bytes], cut: int, domid: int
) -> None:
    server = world()
    observer = Talk(server)
    observer.ask("WRITE", b"/observer\0here")
    stream = b"".join(parts)
    answers_to(server, domid, [stream[: len(stream) - cut] if cut <= len(stream) else stream])
    answer = observer.names(message("READ", b"/observer\0"))[-1]
    assert answer == ("READ", b"here")
    assert server.store.connections_of(0) == 1
    assert server.store.connections_of(5) == 0
    assert (server.store.watches_of(0), server.store.transactions_of(0)) == (0, 0)


@settings(max_examples=examples(500), deadline=None)
@given(st.binary(max_size=200))
def test_noise_never_raises(noise: bytes) -> None:
    server = world()
    answers_to(server, 0, [noise])
    assert server.store.connections_of(0) == 0


def test_ten_thousand_mutated_streams_leave_the_server_serving() -> None:
    """The same without Hypothesis's bookkeeping, many times: one byte changed or the end cut."""
    import random

    random.seed(4)
    server = world()
    observer = Talk(server)
    base = b"".join(
        [
            message("WATCH", b"/a\0t\0"),
            message("TRANSACTION_START", b"\0"),
            message("WRITE", b"/a/b\0v", 1),
            message("DIRECTORY_PART", b"/a\x000\0", 1),
            message("TRANSACTION_END", b"T\0", 1),
            message("SET_PERMS", b"/a\0n0\0r5\0"),
            message("SET_TARGET", b"5\0005\0"),
        ]
    )
    for round_ in range(10_000):
        stream = bytearray(base)
        for _ in range(random.randrange(1, 4)):
            stream[random.randrange(len(stream))] = random.randrange(256)
        answers_to(server, 0, [bytes(stream[: random.randrange(len(stream) + 1)])])
        if round_ % 100 == 0:
            assert observer.names(message("GET_DOMAIN_PATH", b"5\0"))[-1][1] == b"/local/domain/5\0"
    assert server.store.connections_of(0) == 1
    assert (server.store.watches_of(0), server.store.transactions_of(0)) == (0, 0)
