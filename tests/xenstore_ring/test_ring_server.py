"""The server's end of a ring: what C xenstored 4.17 does, and reconnection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ring_domains import (
    CONNECTION,
    ERROR,
    REQ_CONS,
    REQ_PROD,
    RSP_CONS,
    RSP_PROD,
    SERVER_FEATURES,
    RawDomain,
    raw_pair,
    write,
)

from xennet.abi.xs_wire import (
    XENSTORE_ERROR_COMM,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XS_DIRECTORY,
    XS_ERROR,
    XS_GET_DOMAIN_PATH,
    XS_NAMES,
    XS_READ,
    XS_TRANSACTION_START,
    XS_WATCH,
    XS_WATCH_EVENT,
    XS_WRITE,
)
from xennet.xenstore import Client, Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.wire import HEADER, Message, encode


def reconnect(domain: RawDomain) -> None:
    domain.u32[CONNECTION] = 1
    domain.serve()


# Messages


def test_a_new_connection_shows_its_features_and_no_error() -> None:
    _, one, _ = raw_pair()
    assert [one.u32[i] for i in (SERVER_FEATURES, CONNECTION, ERROR)] == [3, 0, 0]
    assert one.notified == 1


def test_a_request_is_answered_on_the_ring() -> None:
    _, one, _ = raw_pair()
    assert one.ask(XS_WRITE, b"/d1/a\0value") == (XS_WRITE, 7, 0, b"OK\0")
    assert one.ask(XS_READ, b"/d1/a\0") == (XS_READ, 7, 0, b"value")


def test_the_domain_acts_with_its_own_rights_and_relative_paths() -> None:
    server, one, _ = raw_pair()
    assert one.ask(XS_WRITE, b"/d2/a\0x").payload == b"EACCES\0"
    root = Client(server.store.connect(0))
    root.write("/local/domain/1/name", "me")
    root.set_perms("/local/domain/1/name", ["n0", "r1"])
    assert one.ask(XS_READ, b"name\0").payload == b"me"


def test_header_and_body_are_taken_and_notified_one_after_the_other() -> None:
    _, one, _ = raw_pair()
    before = one.notified
    one.ask(XS_READ, b"/tool\0")
    assert one.notified - before == 3  # header, body, reply


@given(cuts=st.lists(st.integers(1, 40), max_size=12), start=st.integers(0, (1 << 32) - 1))
@settings(max_examples=60, deadline=None)
def test_a_message_may_come_in_any_pieces_at_any_index(cuts: list[int], start: int) -> None:
    _, one, _ = raw_pair()
    for word in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
        one.u32[word] = start
    data = write("/d1/a", b"0123456789") + encode(XS_READ, 3, 0, b"/d1/a\0")
    for cut in cuts:
        one.send(data[:cut])
        data = data[cut:]
    one.send(data)
    assert [m.payload for m in one.receive()] == [b"OK\0", b"0123456789"]


def test_messages_longer_than_the_ring_stream_through_both_ways() -> None:
    server, one, _ = raw_pair()
    value = bytes(range(256)) * 7
    assert one.ask(XS_WRITE, b"/d1/long\0" + value).payload == b"OK\0"
    assert one.ask(XS_READ, b"/d1/long\0").payload == value
    root = Client(server.store.connect(0))
    root.write("/d1/longest", value := bytes(4096 - 16))
    root.set_perms("/d1/longest", ["n1"])
    assert one.ask(XS_READ, b"/d1/longest\0").payload == value


def test_watch_events_come_by_themselves_and_are_notified() -> None:
    server, one, _ = raw_pair()
    one.send(encode(XS_WATCH, 5, 0, b"/d1\0token\0"))
    assert [m.type for m in one.receive()] == [XS_WATCH, XS_WATCH_EVENT]
    before = one.notified
    Client(server.store.connect(0)).write("/d1/x", "1")
    assert one.notified == before + 1
    assert one.receive() == [Message(XS_WATCH_EVENT, 0, 0, b"/d1/x\0token\0")]


def test_an_event_caused_by_a_request_comes_before_its_reply() -> None:
    _, one, _ = raw_pair()
    one.send(encode(XS_WATCH, 5, 0, b"/d1\0token\0"))
    one.receive()
    one.send(write("/d1/y"))
    assert [m.type for m in one.receive()] == [XS_WATCH_EVENT, XS_WRITE]


def test_a_reply_is_on_the_ring_before_another_domain_is_told() -> None:
    server, one, two = raw_pair()
    Client(server.store.connect(0)).set_perms("/d1", ["n1", "r2"])
    two.ask_for_events("/d1")
    seen = []
    two.on_notify = lambda: seen.append(one.u32[RSP_PROD] - one.u32[RSP_CONS])
    one.send(write("/d1/a"))
    assert seen == [len(encode(XS_WRITE, 9, 0, b"OK\0"))]
    assert [message.type for message in two.receive()] == [XS_WATCH_EVENT]


def test_indices_that_break_while_others_are_to_be_told_are_error_2() -> None:
    server, one, two = raw_pair()
    Client(server.store.connect(0)).set_perms("/d1", ["n1", "r2"])
    two.ask_for_events("/d1")
    one.put(write("/d1/a"))
    one.u32[RSP_CONS] = 4096
    one.serve()
    assert one.u32[ERROR] == XENSTORE_ERROR_RINGIDX
    assert [message.payload for message in two.receive()] == [b"/d1/a\0token\0"]


def test_a_domain_that_reads_nothing_is_not_read_from_either() -> None:
    _, one, two = raw_pair()
    one.ask(XS_WRITE, b"/d1/big\0" + b"v" * 1000)
    request = encode(XS_READ, 1, 0, b"/d1/big\0")
    for _ in range(1024 // len(request)):
        one.put(request)
    one.serve()
    consumed = (one.u32[REQ_CONS] - 0) % (1 << 32)
    assert not one.page.requests.empty
    assert two.works()
    one.serve()
    assert one.u32[REQ_CONS] == consumed
    assert [m.payload for m in one.receive()] == [b"v" * 1000] * (1024 // len(request))
    assert one.page.requests.empty


# Breaking the ring


@pytest.mark.parametrize("ring", [REQ_CONS, RSP_CONS])
def test_bad_indices_are_error_2_and_stay_as_they_are(ring: int) -> None:
    _, one, two = raw_pair()
    if ring == RSP_CONS:
        one.put(encode(XS_READ, 1, 0, b"/tool\0"))
    one.u32[ring + 1] = (one.u32[ring] + 1025) % (1 << 32)
    before = list(one.u32[ring : ring + 2])
    one.serve()
    assert one.u32[ERROR] == XENSTORE_ERROR_RINGIDX
    assert list(one.u32[ring : ring + 2]) == before
    assert one.server.dead
    assert one.store.is_introduced(1)
    assert two.works()


def test_a_length_above_4096_is_error_3_after_the_header_alone() -> None:
    _, one, two = raw_pair()
    one.put(HEADER.pack(XS_READ, 1, 0, 4097) + b"/tool\0")
    one.serve()
    assert one.u32[ERROR] == XENSTORE_ERROR_PROTO
    assert one.u32[REQ_CONS] == 16
    assert one.u32[RSP_PROD] == 0
    one.put(encode(XS_READ, 1, 0, b"/tool\0"))
    one.serve()
    assert one.u32[REQ_CONS] == 16
    assert two.works()


def test_what_came_before_a_bad_length_is_still_answered() -> None:
    _, one, _ = raw_pair()
    one.put(encode(XS_READ, 1, 0, b"/tool\0") + HEADER.pack(XS_READ, 2, 0, 5000))
    one.serve()
    assert [m.req_id for m in one.receive()] == [1]
    assert one.u32[ERROR] == XENSTORE_ERROR_PROTO


def test_a_domain_that_cannot_be_notified_is_error_1() -> None:
    _, one, two = raw_pair()
    one.reachable = False
    one.put(encode(XS_READ, 1, 0, b"/tool\0"))
    one.serve()
    assert one.u32[ERROR] == XENSTORE_ERROR_COMM
    assert two.works()


def test_a_broken_connection_leaves_no_watch_and_no_transaction() -> None:
    _, one, _ = raw_pair()
    one.send(encode(XS_WATCH, 5, 0, b"/d1\0token\0"))
    one.receive()
    one.ask(XS_TRANSACTION_START, b"\0")
    assert (one.store.watches_of(1), one.store.transactions_of(1)) == (1, 1)
    one.u32[REQ_PROD] += 5000
    one.serve()
    assert (one.store.watches_of(1), one.store.transactions_of(1)) == (0, 0)
    assert one.store.connections_of(1) == 0


# Starting anew


@pytest.mark.parametrize("size", [7, 16, 18, 25])
def test_what_a_domain_sent_before_it_is_introduced_is_dropped(size: int) -> None:
    """Half a header, a header, a message, and one more in part; as the real daemon does."""

    def write(u8: memoryview, u32: memoryview) -> None:
        u8[:size] = (encode(XS_GET_DOMAIN_PATH, 1, 0, b"1\0") * 2)[:size]
        u32[REQ_PROD] = size

    one = RawDomain(Server(Store()), before=write)
    one.serve()
    assert list(one.u32[REQ_CONS : RSP_PROD + 1]) == [0] * 4
    assert one.works()


def test_introducing_again_empties_the_rings_and_drops_what_the_connection_had() -> None:
    _, one, _ = raw_pair()
    one.send(encode(XS_WATCH, 5, 0, b"/d1\0token\0"))
    one.put(b"half a header")
    one.serve()
    one.server.introduced_again()
    assert list(one.u32[REQ_CONS : RSP_PROD + 1]) == [0] * 4
    assert one.store.watches_of(1) == 0
    assert one.works()


def test_introducing_again_does_not_revive_a_broken_connection() -> None:
    _, one, _ = raw_pair()
    one.u32[REQ_PROD] = 2000
    one.serve()
    one.server.introduced_again()
    assert list(one.u32[REQ_CONS : RSP_PROD + 1]) == [0] * 4
    assert one.u32[ERROR] == XENSTORE_ERROR_RINGIDX
    one.put(encode(XS_READ, 1, 0, b"/tool\0"))
    one.serve()
    assert one.u32[REQ_CONS] == 0


def test_a_page_that_waits_for_a_connection_gets_it_by_being_introduced() -> None:
    one = RawDomain(Server(Store()), connection=1)
    assert one.u32[CONNECTION] == 0
    assert one.notified == 1
    assert one.works()


def test_reconnecting_drops_messages_watches_and_transactions() -> None:
    server, one, _ = raw_pair()
    one.send(encode(XS_WATCH, 5, 0, b"/d1\0token\0"))
    one.send(encode(XS_TRANSACTION_START, 6, 0, b"\0"))
    one.send(b"half a header"[:9])
    Client(server.store.connect(0)).write("/d1/z", "1")
    before = one.notified
    reconnect(one)
    assert list(one.u32[REQ_CONS : RSP_PROD + 1]) == [0] * 4
    assert one.u32[CONNECTION] == 0
    assert one.notified == before + 1
    assert (one.store.watches_of(1), one.store.transactions_of(1)) == (0, 0)
    assert one.store.connections_of(1) == 1
    assert one.works()


def test_reconnecting_drops_half_a_message_that_the_server_holds() -> None:
    _, one, _ = raw_pair()
    one.send(write("/d1/half", b"v" * 100)[:60])
    assert one.page.requests.empty
    reconnect(one)
    assert one.works()


@pytest.mark.parametrize("error", [XENSTORE_ERROR_RINGIDX, XENSTORE_ERROR_PROTO])
def test_reconnecting_revives_a_broken_connection(error: int) -> None:
    _, one, _ = raw_pair()
    if error == XENSTORE_ERROR_RINGIDX:
        one.u32[REQ_PROD] = 99999
    else:
        one.put(HEADER.pack(XS_READ, 1, 0, 1 << 31))
    one.serve()
    assert one.u32[ERROR] == error
    reconnect(one)
    assert one.u32[ERROR] == XENSTORE_ERROR_NONE
    assert one.works()


def test_without_the_feature_nobody_reconnects() -> None:
    one = RawDomain(Server(Store()), 1, features=0)
    assert one.u32[SERVER_FEATURES] == 0
    reconnect(one)
    assert one.u32[CONNECTION] == 1
    assert one.works()


def test_a_domain_that_the_store_forgets_is_not_served_and_its_page_not_touched() -> None:
    _, one, two = raw_pair()
    one.put(encode(XS_READ, 1, 0, b"/to"[:3]) + b"ol")
    one.serve()
    one.store.release(1)
    one.server.close()
    page = bytes(one.u8)
    reconnect(one)
    one.u32[CONNECTION] = 0
    assert bytes(one.u8) == page
    assert two.works()


# Anything anywhere


class HostileDomain(RuleBasedStateMachine):
    """A domain that writes whatever it likes, wherever it likes, whenever it likes."""

    @initialize(start=st.integers(0, (1 << 32) - 1))
    def boot(self, start: int) -> None:
        self.server, self.bad, self.good = raw_pair()
        for word in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
            self.bad.u32[word] = start
        self.count = 0

    @rule(data=st.binary(max_size=1024))
    def bytes_into_the_ring(self, data: bytes) -> None:
        if self.bad.page.requests.full or self.bad.u32[ERROR]:
            return
        prod = self.bad.u32[REQ_PROD]
        for i, byte in enumerate(data):
            self.bad.u8[(prod + i) % 1024] = byte
        self.bad.u32[REQ_PROD] = (prod + len(data)) % (1 << 32)

    @rule(
        kind=st.sampled_from([*XS_NAMES, 77, 0xFFFF]),
        length=st.one_of(st.integers(0, 40), st.integers(4090, 4100), st.just(0xFFFFFFFF)),
        body=st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"/d1/a\0x", b"/d1\0t\0", b"T\0", b"\0", b"/\0", b"1\x001\x005\0"]),
        ),
        tx=st.integers(0, 3),
        honest=st.booleans(),
    )
    def a_message(self, kind: int, length: int, body: bytes, tx: int, honest: bool) -> None:
        self.bytes_into_the_ring(HEADER.pack(kind, 1, tx, len(body) if honest else length) + body)

    @rule(word=st.integers(REQ_CONS, ERROR), value=st.integers(0, (1 << 32) - 1))
    def any_field(self, word: int, value: int) -> None:
        self.bad.u32[word] = value

    @rule(at=st.integers(0, 4095), data=st.binary(max_size=4096))
    def anywhere_in_the_page(self, at: int, data: bytes) -> None:
        data = data[: 4096 - at]
        self.bad.u8[at : at + len(data)] = data

    @rule(data=st.randoms(use_true_random=False))
    def the_whole_page(self, data) -> None:
        self.bad.u8[:] = data.randbytes(4096)

    @rule()
    def read_everything(self) -> None:
        self.bad.u32[RSP_CONS] = self.bad.u32[RSP_PROD]

    @rule()
    def start_anew(self) -> None:
        reconnect(self.bad)
        assert [self.bad.u32[i] for i in (CONNECTION, ERROR)] == [0, 0]
        assert self.bad.works()

    @rule()
    def introduce_again(self) -> None:
        self.bad.server.introduced_again()

    @rule()
    def notify(self) -> None:
        self.bad.serve()

    @invariant()
    def others_are_served(self) -> None:
        if hasattr(self, "good"):
            self.bad.serve()
            self.count += 1
            value = b"%d" % self.count
            assert self.good.ask(XS_WRITE, b"/d2/n\0" + value).payload == b"OK\0"
            assert self.good.ask(XS_READ, b"/d2/n\0").payload == value
            assert self.good.ask(XS_DIRECTORY, b"/d1\0").type == XS_ERROR
            assert self.bad.store.connections_of(1) == (0 if self.bad.server.dead else 1)


TestHostileDomain = HostileDomain.TestCase
TestHostileDomain.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
