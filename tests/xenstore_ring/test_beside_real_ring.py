"""The same guest twice, on our ring and on that of the real C xenstored: every index, the error
field and every answer must be the same, whatever the guest writes.

Declared differences: the real daemon offers no server_features, so it does not reconnect. Of a
domain that is introduced again in the middle of a message it takes what comes then for the rest of
that message, where ours starts anew with a header. It writes answers one by one, so when it gives a
ring up, fewer of those that waited for room may have been written.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from ring_domains import ERROR, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, RawDomain

from xennet.abi.xs_wire import (
    XENSTORE_ERROR_NONE,
    XS_DIRECTORY,
    XS_GET_DOMAIN_PATH,
    XS_INTRODUCE,
    XS_READ,
    XS_TRANSACTION_START,
    XS_UNWATCH,
    XS_WATCH,
    XS_WRITE,
)
from xennet.bench.real_xenstored import RELEASES, CannotStartError, RealXenstored
from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.wire import HEADER, Decoder, Message, encode

COMPARED = (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, ERROR)
#: Turns of the daemon's main loop without a change, after which it has nothing left to do.
_QUIET_TURNS = 4


@frozen
class Early:
    """What a domain leaves in its page before it is introduced: ``data`` as requests, with all
    indices at ``start``, the consumer of requests ``ahead`` of that."""

    start: int
    data: bytes
    ahead: int

    def write(self, u8: memoryview, u32: memoryview) -> None:
        for word in COMPARED[:4]:
            u32[word] = self.start
        for i, byte in enumerate(self.data):
            u8[(self.start + i) % 1024] = byte
        u32[REQ_PROD] = (self.start + len(self.data)) % (1 << 32)
        u32[REQ_CONS] = (self.start + self.ahead) % (1 << 32)


_WHOLE = encode(XS_GET_DOMAIN_PATH, 1, 0, b"1\0")
EARLY = st.builds(
    Early,
    st.sampled_from([0, 100, 1020, (1 << 32) - 1]),
    st.sampled_from([b"", _WHOLE, _WHOLE[:7], _WHOLE[:16], _WHOLE[:17], _WHOLE + _WHOLE[:5]]),
    st.sampled_from([0, 0, 3000]),
)


class RealGuest:
    """A domain of the real daemon."""

    def __init__(
        self, daemon: RealXenstored, control: socket.socket, domid: int, early: Early
    ) -> None:
        self._daemon, self._control, self.domid = daemon, control, domid
        daemon.create_domain(domid)
        self._port = domid + 1
        self.u8 = daemon.ring_page(domid)
        self.u32 = self.u8.cast("I")
        early.write(self.u8, self.u32)
        self.introduce()

    def introduce(self) -> None:
        payload = b"%d\0%d\0%d\0" % (self.domid, 1, self._port)
        assert self._ask(XS_INTRODUCE, payload).payload == b"OK\0"

    def serve(self) -> None:
        self._daemon.fire(self._daemon.port_of(self.domid), wait=True)
        quiet, before = 0, None
        while quiet < _QUIET_TURNS:
            self._ask(XS_GET_DOMAIN_PATH, b"0\0")
            now = [self.u32[i] for i in COMPARED]
            quiet = quiet + 1 if now == before else 0
            before = now

    def die(self) -> None:
        self.u32.release()
        self.u8.release()
        self._daemon.set_domain(self.domid, 0)

    def _ask(self, kind: int, payload: bytes) -> Message:
        self._control.sendall(encode(kind, 1, 0, payload))
        decoder = Decoder()
        while not (messages := decoder.feed(self._control.recv(65536))):
            pass  # the daemon writes header and body one after the other
        return messages[0]


class OurGuest:
    """A domain of ours."""

    def __init__(self, like: str, domid: int, early: Early) -> None:
        self._raw = RawDomain(Server(Store(like=like)), domid, before=early.write)
        self.u8, self.u32 = self._raw.u8, self._raw.u32

    @property
    def between_messages(self) -> bool:
        """Whether nothing of a next message has come, and the connection is in use at all."""
        return self._raw.server.session.wanted == HEADER.size

    def introduce(self) -> None:
        self._raw.server.introduced_again()

    def serve(self) -> None:
        self._raw.serve()


@pytest.fixture(params=RELEASES)
def daemon(request: pytest.FixtureRequest) -> Iterator[RealXenstored]:
    try:
        daemon = RealXenstored(version=request.param)
    except CannotStartError as reason:
        pytest.skip(f"the real xenstored {request.param} cannot run here: {reason}")
    with daemon:
        yield daemon


MESSAGES = st.one_of(
    st.sampled_from(
        [
            (XS_GET_DOMAIN_PATH, b"3\0"),
            (XS_READ, b"/tool\0"),
            (XS_DIRECTORY, b"/\0"),
            (XS_WRITE, b"/tool/x\0value"),
            (XS_WATCH, b"/local\0token\0"),
            (XS_WATCH, b"@releaseDomain\0" + b"t" * 300 + b"\0"),
            (XS_UNWATCH, b"/local\0token\0"),
            (XS_TRANSACTION_START, b"\0"),
            (99, b""),
        ]
    ),
    st.tuples(st.just(XS_WRITE), st.binary(max_size=1500).map(lambda v: b"/tool/y\0" + v)),
)


class TwoGuests(RuleBasedStateMachine):
    real_daemon: RealXenstored
    control: socket.socket
    domid = 0

    @initialize(early=EARLY)
    def boot(self, early: Early) -> None:
        type(self).domid += 1
        self.real = RealGuest(self.real_daemon, self.control, self.domid, early)
        self.ours = OurGuest(self.real_daemon.version, self.domid, early)
        self.rest = b""

    @rule(message=MESSAGES, req_id=st.integers(0, 9))
    def a_message(self, message: tuple[int, bytes], req_id: int) -> None:
        self.rest += encode(message[0], req_id, 0, message[1])
        self.put()

    @rule(length=st.sampled_from([4096, 4097, 0xFFFFFFFF]))
    def a_header_alone(self, length: int) -> None:
        self.rest += HEADER.pack(XS_READ, 1, 0, length)
        self.put()

    @rule(count=st.integers(1, 50))
    def many_messages(self, count: int) -> None:
        self.rest += encode(XS_GET_DOMAIN_PATH, 1, 0, b"1\0") * count
        self.put()

    @rule(size=st.integers(1, 1024))
    def put(self, size: int = 1024) -> None:
        """As much of what is to be sent as there is room for."""
        room = 1024 - (self.ours.u32[REQ_PROD] - self.ours.u32[REQ_CONS]) % (1 << 32)
        data, self.rest = self.rest[: max(0, min(room, size))], self.rest[max(0, min(room, size)) :]
        for guest in (self.real, self.ours):
            prod = guest.u32[REQ_PROD]
            for i, byte in enumerate(data):
                guest.u8[(prod + i) % 1024] = byte
            guest.u32[REQ_PROD] = (prod + len(data)) % (1 << 32)

    @rule(size=st.integers(1, 1024))
    def read(self, size: int) -> None:
        waiting = (self.ours.u32[RSP_PROD] - self.ours.u32[RSP_CONS]) % (1 << 32)
        self.move(RSP_CONS, min(size, waiting) if waiting <= 1024 else 0)

    @rule(
        word=st.sampled_from(COMPARED[:4]),
        by=st.one_of(st.integers(-3, 3), st.integers(0, (1 << 32) - 1), st.sampled_from([1024])),
    )
    def move(self, word: int, by: int) -> None:
        for guest in (self.real, self.ours):
            guest.u32[word] = (guest.u32[word] + by) % (1 << 32)

    @rule(start=st.integers(0, (1 << 32) - 1))
    def move_all(self, start: int) -> None:
        for word in COMPARED[:4]:
            self.move(word, start)

    @rule()
    def introduce_again(self) -> None:
        if self.ours.between_messages:
            for guest in (self.real, self.ours):
                guest.introduce()
            self.rest = b""

    @invariant()
    def both_look_the_same(self) -> None:
        if not hasattr(self, "real"):
            return
        pages = []
        for guest in (self.real, self.ours):
            guest.serve()
            words = [guest.u32[i] for i in COMPARED]
            waiting = (guest.u32[RSP_PROD] - guest.u32[RSP_CONS]) % (1 << 32)
            cons = guest.u32[RSP_CONS]
            answers = bytes(guest.u8[1024 + (cons + i) % 1024] for i in range(min(waiting, 1024)))
            given_up = words[-1] != XENSTORE_ERROR_NONE
            pages.append((words[:3] + words[4:], b"") if given_up else (words, answers))
        assert pages[1] == pages[0]

    def teardown(self) -> None:
        if hasattr(self, "real"):
            self.real.die()


def test_our_ring_does_what_the_ring_of_the_real_xenstored_does(daemon: RealXenstored) -> None:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(daemon.socket_path)
        control.settimeout(60)
        world = type("World", (TwoGuests,), {"real_daemon": daemon, "control": control})
        run_state_machine_as_test(
            world, settings=settings(max_examples=60, stateful_step_count=20, deadline=None)
        )
