"""Watch events against replies, and what is suppressed."""

from __future__ import annotations

from functools import partial

import pytest
from wire_talk import Talk, message

from xennet.abi.xs_wire import XS_NAMES
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Session
from xennet.xenstore.wire import Decoder

WATCH_W = message("WATCH", b"/w\0t\0")


def test_watch_is_acknowledged_before_its_first_event(dom0: Talk) -> None:
    assert dom0.names(WATCH_W) == [("WATCH", b"OK\0"), ("WATCH_EVENT", b"/w\0t\0")]


def test_events_come_before_the_reply_of_the_request_that_caused_them(dom0: Talk) -> None:
    dom0.send(WATCH_W)
    event = ("WATCH_EVENT", b"/w\0t\0")
    below = ("WATCH_EVENT", b"/w/x\0t\0")
    assert dom0.names(message("WRITE", b"/w\0x")) == [event, ("WRITE", b"OK\0")]
    assert dom0.names(message("MKDIR", b"/w/x\0")) == [below, ("MKDIR", b"OK\0")]
    assert dom0.names(message("SET_PERMS", b"/w\0r0\0")) == [event, ("SET_PERMS", b"OK\0")]
    assert dom0.names(message("RM", b"/w/x\0")) == [below, ("RM", b"OK\0")]


def test_events_of_a_commit_come_before_its_reply(dom0: Talk) -> None:
    dom0.send(WATCH_W)
    dom0.ask("TRANSACTION_START", b"\0")
    assert dom0.ask("WRITE", b"/w\0x", tx=1) == b"OK\0"
    assert dom0.names(message("TRANSACTION_END", b"T\0", tx=1)) == [
        ("WATCH_EVENT", b"/w\0t\0"),
        ("TRANSACTION_END", b"OK\0"),
    ]


def test_introduce_and_release_tell_before_they_answer(dom0: Talk) -> None:
    dom0.send(message("WATCH", b"@introduceDomain\0i\0") + message("WATCH", b"@releaseDomain\0r\0"))
    assert dom0.names(message("INTRODUCE", b"7\0001\0009\0")) == [
        ("WATCH_EVENT", b"@introduceDomain\0i\0"),
        ("INTRODUCE", b"OK\0"),
    ]
    assert dom0.names(message("RELEASE", b"7\0")) == [
        ("WATCH_EVENT", b"@releaseDomain\0r\0"),
        ("RELEASE", b"OK\0"),
    ]


def test_event_of_another_client_comes_before_the_answer_to_a_later_request(
    dom0: Talk, dom5: Talk
) -> None:
    dom5.send(message("WATCH", b"x\0t\0"))
    assert dom5.session.is_idle()
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert not dom5.session.is_idle()
    assert dom5.names(message("READ", b"x\0")) == [
        ("WATCH_EVENT", b"x\0t\0"),
        ("READ", b""),
    ]


def test_events_that_others_caused_earlier_come_before_the_reply_to_a_watch(
    server: Server, dom0: Talk, dom5: Talk
) -> None:
    dom5.send(message("WATCH", b"x\0t\0"))
    server.store.held = True
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert dom5.names(message("WATCH", b"y\0t\0")) == [
        ("WATCH_EVENT", b"x\0t\0"),
        ("WATCH", b"OK\0"),
        ("WATCH_EVENT", b"y\0t\0"),
    ]


def test_equal_event_that_waits_is_not_sent_twice(dom0: Talk, dom5: Talk) -> None:
    dom5.send(message("WATCH", b"x\0t\0"))
    for _ in range(5):
        dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert dom5.names() == [("WATCH_EVENT", b"x\0t\0")]
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert dom5.names() == [("WATCH_EVENT", b"x\0t\0")]


def test_taking_a_few_bytes_at_a_time_gives_the_same_stream(dom0: Talk, dom5: Talk) -> None:
    stream = message("WATCH", b"x\0t\0") + message("WRITE", b"y\0v") + message("READ", b"y\0")
    dom5.session.receive(stream)
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    pieces = []
    while dom5.session.pending:
        pieces.append(dom5.session.take(3))
        assert 0 < len(pieces[-1]) <= 3
    event = message("WATCH_EVENT", b"x\0t\0")
    # The second event of x is suppressed: the first one still waits.
    assert b"".join(pieces) == (
        message("WATCH", b"OK\0") + event + message("WRITE", b"OK\0") + message("READ", b"v")
    )


def test_replies_to_requests_that_had_to_wait_keep_their_order_and_go_before_others_hear(
    server: Server, dom0: Talk
) -> None:
    dom0.ask("WRITE", b"/big\0" + b"x" * 4000)
    dom0.send(WATCH_W)
    heard_after: list[int] = []
    dom0.session.on_output = lambda: heard_after.append(len(arrived)) or dom0.arrived()
    session, arrived, decoder = Session(server), [], Decoder()

    def send() -> None:
        while session.pending:
            arrived.extend(decoder.feed(session.take()))
            session.resume()

    reads, write = 50, message("WRITE", b"/w\0x", req=50)
    session.receive(b"".join(message("READ", b"/big\0", req=i) for i in range(reads)) + write)
    session.on_output = send
    assert session.blocked
    send()
    assert [reply.req_id for reply in arrived] == list(range(reads + 1))
    assert heard_after == [reads + 1]


def test_tokens_are_bytes_that_come_back_unchanged(dom0: Talk) -> None:
    assert dom0.names(message("WATCH", b"/w\0\xff\xfe\0")) == [
        ("WATCH", b"OK\0"),
        ("WATCH_EVENT", b"/w\0\xff\xfe\0"),
    ]
    assert dom0.ask("UNWATCH", b"/w\0\xff\xfe\0") == b"OK\0"


def test_event_longer_than_a_message_is_dropped(dom0: Talk) -> None:
    token = b"t" * 4000
    assert dom0.names(message("WATCH", b"/w\0" + token + b"\0"))[1:] != []
    assert dom0.ask("WRITE", b"/w/" + b"x" * 200 + b"\0") == b"OK\0"


# -- several clients -------------------------------------------------------------------------------


class Transport:
    """Notes which client is sent what, in order, as a transport does that sends at once."""

    def __init__(self, **clients: Talk) -> None:
        self.sent: list[tuple[str, str, bytes]] = []
        self._clients = clients
        for name, client in clients.items():
            client.session.on_output = partial(self.flush, name)

    def flush(self, name: str) -> None:
        for sent in self._clients[name].arrived():
            self.sent.append((name, XS_NAMES[sent.type][3:], sent.payload))

    def ask(self, name: str, stream: bytes) -> None:
        self._clients[name].session.receive(stream)
        self.flush(name)


def test_reply_goes_out_before_events_of_other_clients(server: Server, dom5: Talk) -> None:
    first, asker, last = Talk(server), Talk(server), Talk(server)
    for watcher in (first, last):
        watcher.send(WATCH_W)
    dom5.send(message("WATCH", b"/w\0t\0"))
    asker.ask("WRITE", b"/w\0")
    for client in (first, last, dom5):
        client.arrived()
    transport = Transport(first=first, asker=asker, last=last, dom5=dom5)
    transport.ask("asker", message("WRITE", b"/w\0x"))
    assert transport.sent == [
        ("asker", "WRITE", b"OK\0"),
        ("first", "WATCH_EVENT", b"/w\0t\0"),
        ("last", "WATCH_EVENT", b"/w\0t\0"),
    ]


def test_each_of_several_requests_is_answered_before_others_hear_of_it(
    server: Server, dom0: Talk
) -> None:
    watcher = Talk(server)
    watcher.send(WATCH_W)
    transport = Transport(asker=dom0, watcher=watcher)
    transport.ask("asker", message("WRITE", b"/w\0x") * 2 + message("READ", b"/w\0"))
    event = ("watcher", "WATCH_EVENT", b"/w\0t\0")
    write = ("asker", "WRITE", b"OK\0")
    assert transport.sent == [write, event, write, event, ("asker", "READ", b"x")]


@pytest.mark.parametrize("request_", ["commit", "introduce", "release"])
def test_reply_goes_first_whatever_the_request(server: Server, dom0: Talk, request_: str) -> None:
    watcher = Talk(server)
    for name in (b"/w", b"@introduceDomain", b"@releaseDomain"):
        watcher.send(message("WATCH", name + b"\0t\0"))
    dom0.ask("TRANSACTION_START", b"\0")
    dom0.ask("WRITE", b"/w\0x", tx=1)
    asked = {
        "commit": message("TRANSACTION_END", b"T\0", tx=1),
        "introduce": message("INTRODUCE", b"7\0001\0009\0"),
        "release": message("RELEASE", b"6\0"),
    }
    transport = Transport(asker=dom0, watcher=watcher)
    transport.ask("asker", asked[request_])
    assert [name for name, _, _ in transport.sent] == ["asker", "watcher"]


def test_own_events_still_come_before_the_reply(server: Server, dom0: Talk) -> None:
    watcher = Talk(server)
    for client in (dom0, watcher):
        client.send(WATCH_W)
    transport = Transport(asker=dom0, watcher=watcher)
    transport.ask("asker", message("WRITE", b"/w\0x"))
    assert [(name, kind) for name, kind, _ in transport.sent] == [
        ("asker", "WATCH_EVENT"),
        ("asker", "WRITE"),
        ("watcher", "WATCH_EVENT"),
    ]


def test_event_that_a_watcher_causes_at_once_arrives_as_well(server: Server, dom0: Talk) -> None:
    """A client in the process answers an event with a write that the asker watches."""
    store = server.store
    local = store.connect(0)
    local.sink = lambda: local.events.clear() or local.write("/answer", b"")
    local.watch("/w", "t")
    dom0.send(message("WATCH", b"/answer\0t\0"))
    dom0.send(message("RM", b"/w\0"))
    assert dom0.names(message("WRITE", b"/w\0x")) == [
        ("WRITE", b"OK\0"),
        ("WATCH_EVENT", b"/answer\0t\0"),
    ]


def test_a_thousand_requests_at_once_with_a_watcher_are_all_answered(
    server: Server, dom0: Talk
) -> None:
    watcher = Talk(server)
    watcher.send(WATCH_W)
    transport = Transport(asker=dom0, watcher=watcher)
    transport.ask("asker", message("WRITE", b"/w\0") * 1000)
    assert sum(name == "asker" for name, _, _ in transport.sent) == 1000
