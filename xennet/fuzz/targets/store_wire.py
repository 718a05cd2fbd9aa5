"""The target ``xs-wire``: two clients of a XenStore that send whatever bytes, and one that watches
over it.

A step is a message of client 0 (domain 0) or 1 (a guest): its header as it stands, and a payload
that is made of words. What is wrong: an exception; a request that gets another number of replies
than one, or one with another id; a client that keeps others from being served; anything that is
left when both have gone (xen/io/xs_wire.h; Xen docs/misc/xenstore.txt).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from xennet.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XS_READ, XS_WATCH_EVENT, XS_WRITE
from xennet.fuzz.steps_target import StepsTarget
from xennet.fuzz.target import Finding
from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Session
from xennet.xenstore.wire import HEADER, Decoder, Message, encode

_GUEST = 5
#: What payloads are made of; words of a step are numbers of these.
WORDS = (
    b"", b"/", b"/a", b"/a/b", b"a", b"a/b", b"/local/domain/5", b"/local/domain/5/a", b"/a/",
    b"//", b"@releaseDomain", b"@introduceDomain", b"@x", b"t", b"T", b"F", b"n0", b"r5", b"b5",
    b"n5", b"w7", b"x0", b"n", b"0", b"5", b"7", b"1", b"-1", b"4294967296",
    b"99999999999999999999",
    b"quota", b"set", b"help", b"check", b"print", b"log", b"on", b"nodes",
    b"/" + b"d/" * 200 + b"e",
    b"v" * 3000, b"/" + b"n" * 2047, b"/" + b"n" * 3100, bytes(range(1, 256)),
)  # fmt: skip
_HIGHEST_TYPE = 28
#: Bytes of a message that a finding shows.
_SHOWN = 40


class StoreWireTarget(StepsTarget):
    """Sessions of a store."""

    name = "xs-wire"
    step_fields = (
        ("client", 1), ("end", 1), ("type", 4), ("req_id", 4), ("tx_id", 4), ("len", 4),
        ("word 0", 1), ("word 1", 1), ("word 2", 1), ("words", 1),
    )  # fmt: skip
    modules = (
        "xennet.xenstore.handlers",
        "xennet.xenstore.session",
        "xennet.xenstore.wire",
        "xennet.xenstore.connection",
        "xennet.xenstore.store",
        "xennet.xenstore.transaction",
        "xennet.xenstore.watch",
        "xennet.xenstore.perms",
        "xennet.xenstore.path",
    )

    def any_step(self, random: Random) -> tuple[int, ...]:
        words = [1 + random.randrange(len(WORDS)) for _ in range(3)]
        kind = random.randrange(_HIGHEST_TYPE + 1)
        transaction = random.choice((0, 0, 0, 1, 2))
        end = 1 + random.choice((1, 1, 1, 0))
        return (random.randrange(2), end, kind, random.randrange(4), transaction, 0, *words,
                random.randrange(4))  # fmt: skip

    def play(self, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        store = Store()
        store.introduce(_GUEST)
        server = Server(store, newer=True, features=3)
        observer = _Client(server, 0)
        observer.send(encode(XS_WRITE, 1, 0, b"/observer\0here"))
        clients = [_Client(server, 0), _Client(server, _GUEST)]
        for number, values in enumerate(steps):
            wrong = clients[values[0] % 2].judged(values)
            if wrong:
                raw = _message(values)[0][:_SHOWN].hex()
                return Finding("xs_wire.reply", f"step {number}, {raw}: {wrong}")
            self.packets += 1
        for client in clients:
            client.session.close()
        served = observer.send(encode(XS_READ, 2, 0, b"/observer\0"))
        if [one.payload for one in served] not in ([b"here"], [b"ENOENT\0"]):
            return Finding("xs_wire.serve", f"another client is not served any more: {served}")
        left = {
            "connections": store.connections_of(0) - 1 + store.connections_of(_GUEST),
            "watches": store.watches_of(0) + store.watches_of(_GUEST),
            "transactions": store.transactions_of(0) + store.transactions_of(_GUEST),
        }
        if any(left.values()):
            return Finding("leak", f"left by clients that have gone: {left}")
        return None


def _message(values: tuple[int, ...]) -> tuple[bytes, bool]:
    """The bytes of a step's message, and whether its header tells the truth."""
    _, end, kind, req_id, tx_id, length, *numbers, count = values
    words = [WORDS[(number - 1) % len(WORDS)] for number in numbers[: count % 4]]
    payload = b"\0".join(words) + b"\0" * (end % 3)
    told = length or len(payload)
    framed = told == len(payload) <= XENSTORE_PAYLOAD_MAX
    return HEADER.pack(kind, req_id, tx_id, told) + payload, framed


class _Client:
    """One session, and whether its stream of requests still has a framing that is known."""

    def __init__(self, server: Server, domid: int) -> None:
        self.session = Session(server, domid)
        self._decoder = Decoder()
        self._framed = True

    def send(self, raw: bytes) -> list[Message]:
        """The replies to ``raw``; watch events are read and left out."""
        self.session.receive(raw)
        found: list[Message] = []
        while self.session.pending:
            found += self._decoder.feed(self.session.take())
            self.session.resume()
        return [message for message in found if message.type != XS_WATCH_EVENT]

    def judged(self, values: tuple[int, ...]) -> str:
        """Send the message of a step. Returns what is wrong with what comes back, "" if nothing
        is."""
        if self.session.closed:
            return ""
        raw, framed = _message(values)
        self._framed = self._framed and framed
        replies = self.send(raw)
        if self.session.closed or not self._framed:
            return ""
        wanted = values[3], values[4]
        if [(reply.req_id, reply.tx_id) for reply in replies] != [wanted]:
            return f"replies {[(one.type, one.req_id, one.tx_id) for one in replies]}, not one"
        return ""
