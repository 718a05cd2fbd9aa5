"""What one client can make the server keep."""

from __future__ import annotations

from wire_talk import Talk, message

from xennet.xenstore import Quota, Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Limits, Session
from xennet.xenstore.wire import Decoder

READ_ROOT = message("READ", b"/\0")


def test_domain_with_20_unread_replies_is_not_read_any_further(server: Server) -> None:
    session = Session(server, 5)
    stream, handled = READ_ROOT.replace(b"/", b"x") * 30, 0
    while size := session.wanted:
        session.receive(stream[:size])
        stream = stream[size:]
        handled += size
    assert handled == 20 * len(READ_ROOT)
    session.take(1)
    assert session.wanted == 0
    session.take(len(message("ERROR", b"ENOENT\0")) - 1)
    assert session.wanted == 16


def test_what_was_fed_too_early_is_handled_when_replies_are_taken(server: Server) -> None:
    session = Session(server, 5)
    session.receive(READ_ROOT * 50)
    decoder, replies = Decoder(), []
    while session.pending:
        replies.append(len(decoder.feed(session.take())))
        session.resume()
    assert replies == [20, 20, 10]


def test_sockets_may_have_more_requests_open_but_not_without_end(dom0: Talk) -> None:
    dom0.ask("WRITE", b"/big\0" + b"x" * 4000)
    session = dom0.session
    for _ in range(100):
        session.receive(message("READ", b"/big\0"))
    assert session.wanted == 0
    taken = len(session.take())
    assert 64 << 10 < taken < (64 << 10) + 8192
    rest = 0
    session.resume()
    while session.pending:
        rest += len(session.take())
        session.resume()
    assert taken + rest == 100 * 4016
    assert session.wanted == 16


def test_socket_that_never_reads_its_events_is_cut_off(server: Server, dom0: Talk) -> None:
    lazy = Talk(server, limits=Limits(events=100_000))
    lazy.send(message("WATCH", b"/w\0t\0"))
    told = []
    lazy.session.on_output = lambda: told.append(lazy.session.closed)
    for i in range(2000):
        dom0.ask("WRITE", b"/w/%d\0" % i)
        if lazy.session.closed:
            break
    assert 450 < i < 500
    assert told[-1] is True
    assert lazy.session.error == "too many watch events were left unread"
    assert server.store.watches_of(0) == 0


def test_socket_is_cut_off_for_unread_events_before_it_can_read_on(server: Server) -> None:
    # Events of one turn are told at its end, and the client may read in between.
    lazy, writer = Talk(server, limits=Limits(events=1_000)), Talk(server)
    lazy.send(message("WATCH", b"/w\0t\0"))
    server.store.held = True
    for i in range(10):
        writer.ask("WRITE", b"/w/%d\0" % i)
    assert lazy.arrived() == []
    assert lazy.session.closed
    assert lazy.session.error == "too many watch events were left unread"
    assert server.store.watches_of(0) == 0


def test_domain_that_never_reads_its_events_loses_some_and_stalls() -> None:
    store = Store(Quota(memory=10_000))
    store.introduce(5)
    server = Server(store)
    dom0, dom5 = Talk(server), Talk(server, 5)
    dom0.ask("WRITE", b"/local/domain/5\0")
    dom0.ask("SET_PERMS", b"/local/domain/5\0n5\0")
    dom5.send(message("WATCH", b"/local/domain/5\0t\0"))
    for i in range(500):
        dom0.ask("WRITE", b"/local/domain/5/%d\0" % i)
    assert store.events_of(5) <= 10_000
    assert dom5.session.wanted == 0
    assert not dom5.session.closed
    events = dom5.arrived()
    assert 40 < len(events) < 60
    assert dom5.ask("READ", b"499\0") == b""


def test_unread_events_are_bound_by_the_quota_as_it_is_now(server: Server, dom0: Talk) -> None:
    store = server.store
    domain, socket = Talk(server, 5), Talk(server)
    for client in (domain, socket):
        client.send(message("WATCH", b"/w\0t\0"))
    dom0.ask("WRITE", b"/w\0")
    dom0.ask("SET_PERMS", b"/w\0r0\0")
    domain.arrived()
    store.set_quota(Quota(memory=1_000))
    for i in range(100):
        dom0.ask("WRITE", b"/w/%d\0" % i)
        dom0.ask("SET_PERMS", b"/w/%d\0r0\0" % i)
    assert 800 < store.events_of(5) <= 1_000
    assert domain.session.blocked
    store.set_quota(Quota(memory=100_000))
    assert len(domain.arrived()) == 4
    assert not domain.session.blocked
    assert len(socket.arrived()) > 100


def test_own_requests_may_cut_a_socket_off_too(server: Server) -> None:
    lazy = Talk(server, limits=Limits(events=10_000, replies=1 << 30))
    lazy.session.receive(message("WATCH", b"/w\0t\0"))
    for i in range(200):
        lazy.session.receive(message("MKDIR", b"/w/%d\0" % i))
    assert lazy.session.closed


def test_oversized_message_ends_the_session_at_its_header(server: Server, dom0: Talk) -> None:
    dom0.send(message("WATCH", b"/w\0t\0"))
    header = bytes.fromhex("02000000 00000000 00000000 01100000")
    dom0.session.receive(READ_ROOT + header)
    assert dom0.session.closed
    assert "4097" in dom0.session.error
    assert server.store.watches_of(0) == 0
    assert dom0.names(READ_ROOT) == [("READ", b"")]


def test_request_of_no_payload_is_answered_at_once(dom0: Talk) -> None:
    assert dom0.ask("TRANSACTION_START") == b"1\0"


def test_closed_session_leaves_nothing_and_takes_no_more(server: Server, dom0: Talk) -> None:
    for i in range(128):
        dom0.send(message("WATCH", b"/w/%d\0t\0" % i))
    dom0.ask("TRANSACTION_START", b"\0")
    dom0.ask("WRITE", b"/half\0done", tx=1)
    dom0.session.receive(READ_ROOT[:10])
    dom0.session.close()
    dom0.session.close()
    store = server.store
    assert (store.watches_of(0), store.transactions_of(0), store.connections_of(0)) == (0, 0, 0)
    assert dom0.send(READ_ROOT) == []
    assert Talk(server).ask("READ", b"/half\0") == b"!ENOENT"
