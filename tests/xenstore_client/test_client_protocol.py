"""The client's half of the protocol, without I/O: bytes out, bytes in."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from xenstore_servers import frame

from xennet.xenstore import WatchEvent, XsError, XsReplyError
from xennet.xenstore.client.protocol import ClientProtocol, Request

DIRECTORY, READ, START, END, WRITE, EVENT, ERROR = 1, 2, 6, 7, 11, 15, 16


def read(path: str, tx_id: int = 0) -> Request:
    return Request(READ, path.encode() + b"\0", tx_id, path)


def test_request_is_a_frame_with_the_next_req_id() -> None:
    protocol = ClientProtocol()
    assert [protocol.ask(read("/a")), protocol.ask(read("/b", tx_id=7))] == [1, 2]
    assert protocol.outgoing == frame(READ, 1, 0, b"/a\0") + frame(READ, 2, 7, b"/b\0")


def test_bytes_sent_are_not_sent_again() -> None:
    protocol = ClientProtocol()
    protocol.ask(read("/a"))
    protocol.sent(5)
    assert protocol.outgoing == frame(READ, 1, 0, b"/a\0")[5:]


def test_req_ids_skip_those_in_flight_when_they_wrap() -> None:
    protocol = ClientProtocol()
    assert protocol.ask(read("/old")) == 1
    protocol._last_id = 0xFFFFFFFE
    assert [protocol.ask(read("/a")), protocol.ask(read("/b"))] == [0xFFFFFFFF, 2]


def test_refusal_is_an_error_with_the_path_as_given() -> None:
    protocol = ClientProtocol()
    req_id = protocol.ask(read("rel/x"))
    protocol.receive(frame(ERROR, req_id, 0, b"ENOENT\0"))
    with pytest.raises(XsError) as caught:
        protocol.answer(req_id)
    assert (caught.value.errno, caught.value.path) == ("ENOENT", "rel/x")
    assert str(caught.value) == "ENOENT 'rel/x': READ refused"


def test_too_long_a_request_is_refused_here() -> None:
    protocol = ClientProtocol()
    protocol.ask(Request(WRITE, b"x" * 4096, 0, "/a"))
    with pytest.raises(XsError, match="E2BIG '/a': WRITE of 4097 bytes, 4096 may be sent"):
        protocol.ask(Request(WRITE, b"x" * 4097, 0, "/a"))


@pytest.mark.parametrize(
    ("data", "evidence"),
    [
        (frame(READ, 2, 0, b"v"), "READ with req_id 2, which no request waits for"),
        (frame(77, 2, 0, b"v"), "type 77 with req_id 2, which no request waits for"),
        (frame(READ, 1, 0, b"v") * 2, "READ with req_id 1, which no request waits for"),
        (frame(DIRECTORY, 1, 0, b"v"), "'/a': READ answered by XS_DIRECTORY"),
        (frame(READ, 1, 3, b"v"), "'/a': READ in transaction 0 answered in 3"),
        (frame(EVENT, 0, 0, b"/a\0"), "is not path|token|"),
        (frame(EVENT, 0, 0, b"/a\0t\0more"), "is not path|token|"),
        (frame(READ, 1, 0, b"")[:12] + b"\x01\x10\0\0", "len 4097"),
    ],
)
def test_what_answers_nothing_is_an_error(data: bytes, evidence: str) -> None:
    protocol = ClientProtocol()
    protocol.ask(read("/a"))
    with pytest.raises(XsReplyError) as caught:
        protocol.receive(data)
    assert caught.value.errno == "EPROTO"
    assert evidence in str(caught.value).replace("XS_READ", "READ")


def test_what_came_before_a_bad_frame_counts() -> None:
    protocol = ClientProtocol()
    req_id = protocol.ask(read("/a"))
    with pytest.raises(XsReplyError):
        protocol.receive(frame(READ, 1, 0, b"v") + b"\xff" * 16)
    assert protocol.answer(req_id) == b"v"


@pytest.mark.parametrize("payload", [b"", b"\0", b"nonsense\0", b"E\x1b[2J\0", b"E\xff\0"])
def test_error_without_a_name_is_an_error_of_the_server(payload: bytes) -> None:
    protocol = ClientProtocol()
    req_id = protocol.ask(read("/a"))
    protocol.receive(frame(ERROR, req_id, 0, payload))
    with pytest.raises(XsReplyError, match="EPROTO '/a': READ: error"):
        protocol.answer(req_id)


def test_error_names_that_this_host_does_not_know_are_kept() -> None:
    protocol = ClientProtocol()
    req_id = protocol.ask(read("/a"))
    protocol.receive(frame(ERROR, req_id, 0, b"EQUOTA\0"))
    with pytest.raises(XsError) as caught:
        protocol.answer(req_id)
    assert (caught.value.errno, caught.value.number) == ("EQUOTA", 0)


def test_late_reply_to_an_abandoned_request_is_dropped() -> None:
    protocol = ClientProtocol()
    late, next_one = protocol.ask(read("/a")), protocol.ask(read("/b"))
    protocol.abandon(late)
    protocol.receive(frame(READ, late, 0, b"late") + frame(READ, next_one, 0, b"v"))
    assert not protocol.answered(late)
    assert protocol.answer(next_one) == b"v"


@pytest.mark.parametrize("reply_first", [True, False])
def test_transaction_that_nobody_waits_for_any_more_is_ended(reply_first: bool) -> None:
    protocol = ClientProtocol()
    start = protocol.ask(Request(START, b"\0"))
    protocol.sent(len(protocol.outgoing))
    steps = [lambda: protocol.receive(frame(START, start, 0, b"5\0")), lambda: protocol.abandon(1)]
    for step in steps if reply_first else reversed(steps):
        step()
    assert protocol.outgoing == frame(END, 2, 5, b"F\0")
    protocol.receive(frame(END, 2, 5, b"OK\0"))
    assert not protocol.answered(2)  # it is not kept


@given(
    order=st.permutations(range(5)),
    events=st.lists(st.integers(0, 5), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_replies_in_any_order_with_events_between_in_any_pieces(
    order: list[int], events: list[int], cuts: list[int]
) -> None:
    protocol = ClientProtocol()
    ids = [protocol.ask(read(f"/{n}")) for n in range(5)]
    frames = [frame(READ, ids[n], 0, b"value %d" % n) for n in order]
    for n, where in enumerate(events):
        frames.insert(where, frame(EVENT, 0, 0, b"/e%d\0t\0" % n))
    sent_events = [f[16:].split(b"\0")[0].decode() for f in frames if f[0] == EVENT]
    stream = b"".join(frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(edges):
        protocol.receive(stream[start:end])
    assert [protocol.answer(req_id) for req_id in ids] == [b"value %d" % n for n in range(5)]
    assert list(protocol.events) == [WatchEvent(path, "t") for path in sent_events]


@given(st.binary(max_size=300))
@settings(max_examples=examples(300), deadline=None)
def test_nonsense_raises_nothing_but_the_reply_error(data: bytes) -> None:
    protocol = ClientProtocol()
    protocol.ask(read("/a"))
    with suppress(XsReplyError):
        protocol.receive(data)
    assert len(protocol.events) * 20 <= len(data)
