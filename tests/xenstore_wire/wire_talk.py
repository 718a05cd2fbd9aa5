"""A client that talks to a Session in raw messages."""

from __future__ import annotations

from xennet.abi.xs_wire import XS_ERROR, XS_NAMES
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Limits, Session
from xennet.xenstore.wire import Decoder, Message, encode

TYPES = {name.removeprefix("XS_"): number for number, name in XS_NAMES.items()}


def number(kind: str | int) -> int:
    return kind if isinstance(kind, int) else TYPES[kind]


def message(kind: str | int, payload: bytes = b"", tx: int = 0, req: int = 0) -> bytes:
    return encode(number(kind), req, tx, payload)


class Talk:
    def __init__(self, server: Server, domid: int = 0, limits: Limits | None = None) -> None:
        self.session = Session(server, domid, limits=limits)
        self._decoder = Decoder()

    def send(self, data: bytes) -> list[Message]:
        """All messages that come back for ``data``, watch events too."""
        self.session.receive(data)
        return self.arrived()

    def arrived(self) -> list[Message]:
        messages: list[Message] = []
        while self.session.pending:
            messages += self._decoder.feed(self.session.take())
            self.session.resume()
        return messages

    def ask(self, kind: str | int, payload: bytes = b"", tx: int = 0, req: int = 0) -> bytes:
        """Payload of the reply, which must be the only message; ``b"!ENOENT"`` for an error."""
        (reply,) = self.send(message(kind, payload, tx, req))
        assert (reply.req_id, reply.tx_id) == (req, tx)
        if reply.type == XS_ERROR:
            assert reply.payload.endswith(b"\0")
            return b"!" + reply.payload[:-1]
        assert reply.type == number(kind)
        return reply.payload

    def names(self, data: bytes = b"") -> list[tuple[str, bytes]]:
        """What comes back for ``data``, as (type name, payload)."""
        return [(XS_NAMES[m.type][3:], m.payload) for m in self.send(data)]
