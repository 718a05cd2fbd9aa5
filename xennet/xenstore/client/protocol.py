"""The client's half of the protocol, without I/O.

Requests become bytes to send; received bytes become replies and events. Replies are matched by
req_id, in any order. Events may come before or after the reply to the request that caused them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, cast

from xennet.abi.xs_numbers import (
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
from xennet.xenstore.wire import HEADER, HEADER_SIZE, Decoder, ProtocolError, decode_text
from xennet.xenstore.wire import strings as split_strings

_pack_header, _unpack_header = HEADER.pack, HEADER.unpack_from


class Request(NamedTuple):
    """One request: its message ``type``, ``payload`` and transaction.

    ``path`` is the path that it is about, or another argument, as the caller gave it; it may be
    empty.
    """

    type: int
    payload: bytes
    tx_id: int = 0
    path: str = ""

    @property
    def op(self) -> str:
        """The type's name without XS_."""
        return XS_NAMES[self.type].removeprefix("XS_")


#: A :class:`Request` of a tuple, quicker than by its name.
new_request = cast(
    "Callable[[tuple[int, bytes, int, str]], Request]", partial(tuple.__new__, Request)
)


class EventBacklog(deque[WatchEvent]):
    """The events that the application has not taken, as the server sent them."""

    def discard(self, unwanted: Callable[[WatchEvent], bool]) -> None:
        """Drop the events for which ``unwanted`` returns True."""
        kept = [event for event in self if not unwanted(event)]
        self.clear()
        self.extend(kept)


class ClientProtocol:
    """The requests without a reply, the replies not fetched and the events not taken."""

    def __init__(self) -> None:
        self.events = EventBacklog()
        #: The bytes to send.
        self.outgoing = b""
        self._decoder = Decoder()
        self._asked: dict[int, Request] = {}
        self._abandoned: dict[int, Request] = {}
        #: Type and payload of the replies not fetched.
        self._replies: dict[int, tuple[int, bytes]] = {}
        self._last_id = 0

    # -- bytes ---------------------------------------------------------------------------------

    def sent(self, count: int) -> None:
        """Forget the first ``count`` bytes of :attr:`outgoing`, which have been sent."""
        self.outgoing = self.outgoing[count:]

    def receive(self, data: bytes) -> None:
        """Take bytes from the server, cut anywhere.

        Raises XsReplyError for bytes that are no message, and for a reply that belongs to no
        request. Earlier messages count then, but no more can be read from this server.
        """
        decoder = self._decoder
        decoder.put(data)
        try:
            while decoder.waiting and (message := decoder.split()) is not None:
                kind, req_id, tx_id, payload = message
                if kind == XS_WATCH_EVENT:
                    self.events.append(_event(payload))
                else:
                    self._reply(kind, req_id, tx_id, payload)
        except ProtocolError as error:
            raise XsReplyError("", str(error)) from error

    # -- requests ------------------------------------------------------------------------------

    def ask(self, request: Request) -> int:
        """Queue a request. Returns its req_id, never 0 and unique among those without a reply.

        Raises XsError E2BIG if the payload exceeds 4096 bytes: the server would end the connection.
        """
        kind, payload, tx_id, path = request
        size = len(payload)
        if size > XENSTORE_PAYLOAD_MAX:
            raise XsError("E2BIG", path, f"{request.op} of {size} bytes, 4096 may be sent")
        asked, abandoned = self._asked, self._abandoned
        req_id = self._last_id % 0xFFFFFFFF + 1
        while req_id in asked or req_id in abandoned:
            req_id = req_id % 0xFFFFFFFF + 1
        self._last_id = req_id
        asked[req_id] = request
        self.outgoing += _pack_header(kind, req_id, tx_id, size) + payload
        return req_id

    def answered_at_once(self, req_id: int, output: bytes) -> bytes | None:
        """Take ``output``, which the server of this process said when it handled what was to be
        sent at once, if it is the reply to request ``req_id``.

        Returns the payload; None, with nothing done, if ``output`` is anything else, or belongs to
        what came before. Raises XsError if the server refused.
        """
        if self._decoder.waiting or not output:
            return None
        kind, answered, _, size = _unpack_header(output)
        if answered != req_id or len(output) != HEADER_SIZE + size:
            return None
        request, payload = self._asked.pop(req_id), output[HEADER_SIZE:]
        if kind != XS_ERROR:
            return payload
        raise _refusal(request, payload)

    def answered(self, req_id: int) -> bool:
        """Whether the reply to a request has come."""
        return req_id in self._replies

    def answer(self, req_id: int) -> bytes:
        """Take the payload of a reply that has come. Raises XsError if the server refused."""
        request, (kind, payload) = self._asked.pop(req_id), self._replies.pop(req_id)
        if kind != XS_ERROR:
            return payload
        raise _refusal(request, payload)

    def abandon(self, req_id: int) -> None:
        """Give a request up: its reply is dropped when it comes, and a transaction that it started
        is ended."""
        request = self._asked.pop(req_id)
        reply = self._replies.pop(req_id, None)
        if reply is None:
            self._abandoned[req_id] = request
        else:
            self._unwanted(request, *reply)

    # -- inside --------------------------------------------------------------------------------

    def _reply(self, kind: int, req_id: int, tx_id: int, payload: bytes) -> None:
        request = self._asked.get(req_id) or self._abandoned.get(req_id)
        if request is None or req_id in self._replies:
            name = XS_NAMES.get(kind, f"type {kind}")
            raise XsReplyError("", f"{name} with req_id {req_id}, which no request waits for")
        asked, _, asked_tx, path = request
        if kind != asked and kind != XS_ERROR:
            name = XS_NAMES.get(kind, f"type {kind}")
            raise XsReplyError(path, f"{request.op} answered by {name}")
        if tx_id != asked_tx:
            raise XsReplyError(path, f"{request.op} in transaction {asked_tx} answered in {tx_id}")
        if req_id in self._asked:
            self._replies[req_id] = kind, payload
        else:
            self._unwanted(self._abandoned.pop(req_id), kind, payload)

    def _unwanted(self, request: Request, kind: int, payload: bytes) -> None:
        if request.type == XS_TRANSACTION_START and kind != XS_ERROR:
            tx_id = transaction_id(request, payload)
            end = Request(XS_TRANSACTION_END, b"F\0", tx_id)
            self.abandon(self.ask(end))


def strings(request: Request, payload: bytes) -> list[str]:
    """The strings of a reply, each of which ends with a nul. Raises XsReplyError if the last one
    does not."""
    if payload and not payload.endswith(b"\0"):
        raise XsReplyError(request.path, f"{request.op}: last string without its nul")
    return split_strings(payload)


def transaction_id(request: Request, payload: bytes) -> int:
    """The id in the reply to TRANSACTION_START: decimal, 1 to 0xFFFFFFFF. Raises XsReplyError for
    any other text."""
    number = decimal(request, payload.removesuffix(b"\0"))
    if not 0 < number <= 0xFFFFFFFF:
        raise XsReplyError(request.path, f"{request.op}: transaction id {number}")
    return number


def decimal(request: Request, text: bytes) -> int:
    """A decimal number of at most 20 digits. Raises XsReplyError for any other text."""
    if not (text.isdigit() and len(text) <= 20):
        raise XsReplyError(request.path, f"{request.op}: {text[:40]!r} is no decimal number")
    return int(text)


@lru_cache(1024)  # drivers are told of the same nodes again and again
def _event(payload: bytes) -> WatchEvent:
    parts = decode_text(payload).split("\0")
    if len(parts) != 3 or parts[2]:
        raise XsReplyError("", f"watch event {payload[:80]!r} is not path|token|")
    return WatchEvent(parts[0], parts[1])


def _refusal(request: Request, payload: bytes) -> XsError:
    name = payload.removesuffix(b"\0")
    if not (name.startswith(b"E") and name.isalnum() and name.isascii()):
        return XsReplyError(request.path, f"{request.op}: error {payload[:40]!r}")
    return XsError(name.decode(), request.path, f"{request.op} refused")
