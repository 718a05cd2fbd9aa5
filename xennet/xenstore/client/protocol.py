"""The client's half of the protocol without any input or output.

Requests become bytes to send, received bytes become replies and events. Replies are matched by
req_id, in any order; events may come before or after the reply to the request that caused them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from attrs import frozen

from xennet.abi.xs_wire import (
    XENSTORE_PAYLOAD_MAX,
    XS_ERROR,
    XS_NAMES,
    XS_TRANSACTION_END,
    XS_TRANSACTION_START,
    XS_WATCH_EVENT,
)
from xennet.xenstore.client.errors import XsReplyError
from xennet.xenstore.errors import XsError
from xennet.xenstore.watch import WatchEvent
from xennet.xenstore.wire import Decoder, Message, ProtocolError, decode_text, encode
from xennet.xenstore.wire import strings as split_strings


@frozen
class Request:
    """One request: message ``type``, ``payload``, transaction, and the ``path`` it is about as
    the caller gave it (other argument, or empty)."""

    type: int
    payload: bytes
    tx_id: int = 0
    path: str = ""

    @property
    def op(self) -> str:
        """The type's name without XS_."""
        return XS_NAMES[self.type].removeprefix("XS_")


class EventBacklog:
    """Events the application has not taken yet, just as the server sent them."""

    def __init__(self) -> None:
        self._events: deque[WatchEvent] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[WatchEvent]:
        return iter(self._events)

    def append(self, event: WatchEvent) -> None:
        """Queue ``event``."""
        self._events.append(event)

    def popleft(self) -> WatchEvent:
        """The oldest event; IndexError if there is none."""
        return self._events.popleft()

    def discard(self, unwanted: Callable[[WatchEvent], bool]) -> None:
        """Drop the waiting events that are ``unwanted``."""
        self._events = deque(event for event in self._events if not unwanted(event))


class ClientProtocol:
    """Requests in flight, replies not fetched yet, events not delivered yet."""

    def __init__(self) -> None:
        self.events = EventBacklog()
        self._decoder = Decoder()
        self._outgoing = bytearray()
        self._asked: dict[int, Request] = {}
        self._abandoned: dict[int, Request] = {}
        self._replies: dict[int, Message] = {}
        self._last_id = 0

    # -- bytes ---------------------------------------------------------------------------------

    @property
    def outgoing(self) -> bytes:
        """Bytes that wait to be sent."""
        return bytes(self._outgoing)

    def sent(self, count: int) -> None:
        """The first ``count`` bytes of :attr:`outgoing` are on their way."""
        del self._outgoing[:count]

    def receive(self, data: bytes) -> None:
        """Take bytes from the server, split anywhere.

        XsReplyError: a frame that cannot be, or one that answers nothing. No more can be read
        from this server then, what came before it counts.
        """
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self._take(error.messages)
            raise XsReplyError("", str(error)) from error
        self._take(messages)

    # -- requests ------------------------------------------------------------------------------

    def ask(self, request: Request) -> int:
        """Queue a request; returns its req_id, unique among those in flight and never 0.

        XsError E2BIG if the payload exceeds 4096 bytes: the server would hang up.
        """
        if len(request.payload) > XENSTORE_PAYLOAD_MAX:
            size = len(request.payload)
            raise XsError("E2BIG", request.path, f"{request.op} of {size} bytes, 4096 may be sent")
        req_id = self._free_id()
        self._asked[req_id] = request
        self._outgoing += encode(request.type, req_id, request.tx_id, request.payload)
        return req_id

    def answered(self, req_id: int) -> bool:
        """True once the reply has come."""
        return req_id in self._replies

    def answer(self, req_id: int) -> bytes:
        """Take the payload of the reply that has come. XsError if the server refused."""
        request, reply = self._asked.pop(req_id), self._replies.pop(req_id)
        if reply.type != XS_ERROR:
            return reply.payload
        raise _refusal(request, reply.payload)

    def abandon(self, req_id: int) -> None:
        """Nobody waits for this request any longer; its reply is dropped when it comes, and a
        transaction that it started is ended."""
        request = self._asked.pop(req_id)
        reply = self._replies.pop(req_id, None)
        if reply is None:
            self._abandoned[req_id] = request
        else:
            self._unwanted(request, reply)

    # -- inside --------------------------------------------------------------------------------

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            if message.type == XS_WATCH_EVENT:
                self.events.append(_event(message))
            else:
                self._reply(message)

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFFFFFF + 1
            if self._last_id not in self._asked and self._last_id not in self._abandoned:
                return self._last_id

    def _reply(self, message: Message) -> None:
        req_id = message.req_id
        request = self._asked.get(req_id) or self._abandoned.get(req_id)
        if request is None or req_id in self._replies:
            name = XS_NAMES.get(message.type, f"type {message.type}")
            raise XsReplyError("", f"{name} with req_id {req_id}, which no request waits for")
        if message.type not in (request.type, XS_ERROR):
            name = XS_NAMES.get(message.type, f"type {message.type}")
            raise XsReplyError(request.path, f"{request.op} answered by {name}")
        if message.tx_id != request.tx_id:
            raise XsReplyError(
                request.path,
                f"{request.op} in transaction {request.tx_id} answered in {message.tx_id}",
            )
        if req_id in self._asked:
            self._replies[req_id] = message
        else:
            self._unwanted(self._abandoned.pop(req_id), message)

    def _unwanted(self, request: Request, reply: Message) -> None:
        if request.type == XS_TRANSACTION_START and reply.type != XS_ERROR:
            tx_id = transaction_id(request, reply.payload)
            end = Request(XS_TRANSACTION_END, b"F\0", tx_id)
            self._abandoned[self.ask(end)] = end


def strings(request: Request, payload: bytes) -> list[str]:
    """Strings of a reply, each of which ends with a nul. XsReplyError if the last does not."""
    if payload and not payload.endswith(b"\0"):
        raise XsReplyError(request.path, f"{request.op}: last string without its nul")
    return split_strings(payload)


def transaction_id(request: Request, payload: bytes) -> int:
    """The id in the reply to TRANSACTION_START: decimal, 1 to 0xFFFFFFFF."""
    number = decimal(request, payload.removesuffix(b"\0"))
    if not 0 < number <= 0xFFFFFFFF:
        raise XsReplyError(request.path, f"{request.op}: transaction id {number}")
    return number


def decimal(request: Request, text: bytes) -> int:
    """A decimal number of at most 20 digits (64 bits)."""
    if not (text.isdigit() and len(text) <= 20):
        raise XsReplyError(request.path, f"{request.op}: {text[:40]!r} is no decimal number")
    return int(text)


def _event(message: Message) -> WatchEvent:
    parts = decode_text(message.payload).split("\0")
    if len(parts) != 3 or parts[2]:
        raise XsReplyError("", f"watch event {message.payload[:80]!r} is not path|token|")
    return WatchEvent(parts[0], parts[1])


def _refusal(request: Request, payload: bytes) -> XsError:
    name = payload.removesuffix(b"\0")
    if not (name.startswith(b"E") and name.isalnum() and name.isascii()):
        return XsReplyError(request.path, f"{request.op}: error {payload[:40]!r}")
    return XsError(name.decode(), request.path, f"{request.op} refused")
