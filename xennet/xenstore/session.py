"""One client of a server, without I/O: bytes of requests in, bytes of replies and watch events out.

The same session serves a socket and a ring. Replies are in the order of the requests. The events of
a request come before its reply, except that of a WATCH; other clients get theirs after the reply is
sent. The output is bounded: while too much of it is not taken, no further request is handled (C
xenstored does not read the ring of such a domain), so a client that does not read costs no more
memory than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from xennet.abi.xs_numbers import XENSTORE_PAYLOAD_MAX, XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT
from xennet.xenstore.errors import XsError
from xennet.xenstore.handlers import Server
from xennet.xenstore.wire import (
    HEADER,
    HEADER_SIZE,
    Decoder,
    ProtocolError,
    encode_error,
    encode_event,
)

_EVENT = b""
"""Stands for a watch event in the output. The event itself stays in the connection's queue until
it is sent, because an equal one is suppressed that long."""

_TX_MEANS_NOTHING = (XS_WATCH, XS_UNWATCH)

_UNREAD = "too many watch events were left unread"

_pack_header, _unpack_header = HEADER.pack, HEADER.unpack_from


class Limits(NamedTuple):
    """Bytes of output that one client may leave unread.

    ``replies``: no request is handled while there are more bytes of replies. ``events``: a
    privileged client (every client of a socket) is cut off when there are more bytes of watch
    events. For a domain its quota ``memory`` counts instead: further events are dropped, and no
    request is handled until half of them are read.
    """

    replies: int = 64 << 10
    events: int = 16 << 20


class Session:
    """The session of a client of ``server``: domain ``domid``, which is 0 for sockets.

    ``on_output()`` is called when a request of another client caused output or ended the session.
    It is also called within :meth:`receive` and :meth:`resume`, when a reply has to be sent before
    other clients get the events of its request. Otherwise the caller of these two looks for output
    by itself. ``closed``: the transport should end when nothing is :attr:`pending`; ``error`` tells
    why, "" if it is nobody's fault. Raises XsError ENOENT if the domain is not introduced.
    """

    __slots__ = (
        "_busy",
        "_decoder",
        "_ending",
        "_events",
        "_head",
        "_most_replies",
        "_out",
        "_placed",
        "_privileged",
        "_reply_bytes",
        "_table",
        "closed",
        "connection",
        "error",
        "on_output",
    )

    def __init__(
        self,
        server: Server,
        domid: int = 0,
        *,
        name: str = "",
        limits: Limits | None = None,
        on_output: Callable[[], object] | None = None,
    ) -> None:
        self.connection = server.store.connect(domid, self._woken, name)
        self.connection.on_reset = self._reset
        self.on_output = on_output
        self.closed = False
        self.error = ""
        self._privileged = self.connection.identity.privileged
        limits = limits or Limits()
        self._most_replies = limits.replies
        self._events = self.connection.events
        self._events.limit = limits.events if self._privileged else self.connection.quota.memory
        self._table = server.table
        self._decoder = Decoder()
        self._out: deque[bytes] = deque()
        self._head = 0
        self._placed = 0
        self._reply_bytes = 0
        self._busy = self._ending = False

    # -- for the transport ---------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Handle bytes from the client, cut anywhere.

        Complete requests are handled as far as the limits allow, the rest is kept. Nothing that a
        client can send raises an exception.
        """
        if not self.closed:
            self._decoder.put(data)
            self._run()

    def take(self, limit: int | None = None) -> bytes:
        """Up to ``limit`` bytes of output (None: all), which count as sent from now on.

        A privileged client that has left too many watch events unread is cut off, and gets none.
        """
        out, events = self._out, self._events
        if events.overflowed and self._privileged:
            self._end(_UNREAD)  # the sink is perhaps not called yet (Store.held)
            return b""
        if self._head:
            return self._take(limit)
        if len(out) == 1 and not events and (limit is None or len(out[0]) <= limit):
            taken = out.popleft()
        elif not out and len(events) < 2:
            if not events:
                return b""
            event = encode_event(*events[0])
            if limit is not None and len(event) > limit:
                return self._take(limit)
            events.popleft()
            return event
        elif limit is not None:
            return self._take(limit)
        else:
            next_event = events.popleft
            self._place_events()
            taken = b"".join([item or encode_event(*next_event()) for item in out])
            out.clear()
        self._placed = self._reply_bytes = self.connection.outstanding = 0
        return taken

    def resume(self) -> bool:
        """Handle requests that were kept back, as far as the limits allow now; more can be
        :attr:`pending` afterwards.

        To be called when what was taken has been sent, not before: the output of these requests may
        have to go before other clients hear of them. Returns False if there were none.
        """
        if not self._decoder.waiting:
            return False
        self._run()
        return True

    def answer(self, request: bytes, limit: int) -> bytes:
        """Handle ``request``, as :meth:`receive`, of a client that takes up to ``limit`` bytes of
        output at once, while the session is idle.

        Returns the reply, taken, if that is all the output; else b"", and there may be output.
        """
        kind, req_id, tx_id, size = _unpack_header(request)
        if len(request) != HEADER_SIZE + size:
            self.receive(request)
            return b""
        store = self.connection.store
        self._busy = True
        held, store.held = store.held, True
        try:
            reply = self._reply(kind, req_id, tx_id, request[HEADER_SIZE:])
            if not (store.woken or self.closed or len(reply) > limit):  # own events wake, too
                if not self._privileged:
                    store.peaks.saw(self.connection.domid, "outstanding", 1)
                return reply
            self._queue(kind, reply)
            if store.woken:
                store.held = held
                self._tell_of_events()
            return b""
        finally:
            store.held = held
            self._busy = False

    @property
    def pending(self) -> bool:
        """Whether there is output."""
        return bool(self._out or self._events)

    @property
    def unfinished(self) -> bool:
        """Whether there is output, or input that is not handled."""
        return bool(self._out or self._events or self._decoder.waiting)

    def is_idle(self) -> bool:
        """Whether the next request is handled as soon as it comes, and nothing is output before
        that."""
        return not (self._out or self._events or self._decoder.waiting or self.blocked)

    @property
    def wanted(self) -> int:
        """Number of bytes to read next: the rest of a header or of a body. With 0 nothing should be
        read.

        A socket may read more than that, unless it is 0.
        """
        return 0 if self.blocked else self._decoder.wanted

    @property
    def blocked(self) -> bool:
        """Whether requests are not handled: too much output is not taken, or the session is
        closed."""
        if self.closed or self._reply_bytes > self._most_replies:
            return True
        if self._privileged:
            return False
        connection = self.connection
        return connection.outstanding >= connection.quota.outstanding or self._events.overflowed

    def close(self) -> None:
        """End the session. Nothing of it stays in the store; output that was not taken is
        dropped."""
        self._ending = True
        self.connection.close()
        self._clear()

    # -- inside --------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._busy:
            return  # called within a request: the caller's loop goes on with it
        decoder, events = self._decoder, self._events
        store = self.connection.store
        self._busy = True
        held, store.held = store.held, True
        try:
            while decoder.waiting and not self.blocked:
                request = decoder.split()
                if request is None:
                    break
                if events:
                    self._place_events()  # what happened before the request
                self._queue(request[0], self._reply(*request))
                if store.woken:
                    store.held = held
                    self._tell_of_events()
                    store.held = True
        except ProtocolError as error:
            # Requests before the error are answered, however the stream was cut.
            answers = self._take(None)
            self._end(str(error))
            if answers:
                self._out.append(answers)
        finally:
            store.held = held
            self._busy = False

    def _reply(self, kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
        """Handle a request of type ``kind``. Returns the reply."""
        connection = self.connection
        if tx_id and kind in _TX_MEANS_NOTHING and not connection.store.like.watch_keeps_tx:
            tx_id = 0
        try:
            handler = self._table.get(kind)
            if handler is None:
                raise XsError("ENOSYS", str(kind), "no such message type")
            if handler.privileged and not self._privileged:
                raise XsError("EACCES", detail=f"domain {connection.domid} is not privileged")
            if tx_id and handler.transactional and not connection.has_transaction(tx_id):
                errno = connection.store.like.no_transaction
                raise XsError(errno, str(tx_id), "no such transaction on this connection")
            answer = handler.answer(connection, payload, tx_id)
            size = len(answer)
            if size > XENSTORE_PAYLOAD_MAX:
                raise XsError("E2BIG", detail=f"reply of {size} bytes")
            return _pack_header(kind, req_id, tx_id, size) + answer
        except XsError as error:
            return encode_error(error.errno, req_id, tx_id)

    def _queue(self, kind: int, reply: bytes) -> None:
        """Output the reply to a request of type ``kind``, unless the session ended with it."""
        if not self.closed:
            connection = self.connection
            if self._events and kind not in connection.store.like.replies_first:
                self._place_events()
            self._out.append(reply)
            self._reply_bytes += len(reply)
            connection.outstanding += 1
            if not self._privileged:
                connection.saw_outstanding()

    def _tell_of_events(self) -> None:
        """After a request that caused events: let others hear of theirs behind the reply."""
        store = self.connection.store
        if self._events.overflowed and self._privileged:
            self._end(_UNREAD)
        store.woken.pop(self.connection, None)
        if store.woken and not store.held:
            if self._out and self.on_output is not None:
                self.on_output()
            store.wake()

    def _place_events(self) -> None:
        """Give the events that wait their place in the output, before what comes next."""
        count = len(self._events)
        if self._placed < count:
            self._out.extend([_EVENT] * (count - self._placed))
            self._placed = count

    def _take(self, limit: int | None) -> bytes:
        self._place_events()
        room = limit if limit is not None else 1 << 62
        parts = []
        out, head = self._out, self._head
        while out and room > 0:
            item = out.popleft()
            if item is _EVENT:
                item = encode_event(*self._events.popleft())
                self._placed -= 1
            size = len(item) - head
            if size > room:
                out.appendleft(item)
                parts.append(item[head : head + room])
                head += room
                break
            parts.append(item[head:])
            room -= size
            head = 0
            if item[0] != XS_WATCH_EVENT:
                self._reply_bytes -= len(item)
                self.connection.outstanding -= 1
        self._head = head
        return b"".join(parts)

    def _woken(self) -> None:
        if self._busy:
            return
        if self._events.overflowed and self._privileged:
            self._end(_UNREAD)
        if self.on_output is not None:
            self.on_output()

    def _reset(self) -> None:
        """Forget all input and output: the store reset the connection, or closed it."""
        self.closed = self.connection.closed
        self._clear()
        if not self._busy and not self._ending and self.on_output is not None:
            self.on_output()

    def _end(self, error: str) -> None:
        self.error = error
        self.close()

    def _clear(self) -> None:
        self._decoder.clear()
        self._out.clear()
        self._head = self._placed = self._reply_bytes = self.connection.outstanding = 0
