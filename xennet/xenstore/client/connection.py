"""A connection whose requests travel as messages: the methods of
:class:`xennet.xenstore.Connection`, over any :class:`Channel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from xennet.abi import xs_numbers as xs
from xennet.xenstore.client.channel import Channel
from xennet.xenstore.client.errors import XsConnectionError, XsReplyError, XsTimeoutError
from xennet.xenstore.client.protocol import (
    ClientProtocol,
    EventBacklog,
    Request,
    decimal,
    new_request,
    strings,
    transaction_id,
)
from xennet.xenstore.errors import XsError
from xennet.xenstore.perms import Perm, parse_perm
from xennet.xenstore.wire import encode_text

AtOnce = Callable[[bytes], bytes | None]
"""(message) -> what the server answers to it, if that is the same as to send it and to receive all
that comes; b"" if it was sent, and the answer is to be received; None, with nothing done, if it is
to be sent."""

OK = b"OK\0"
_RESTARTS = 100


class WireConnection:
    """A client of the server at the other end of ``channel``.

    Each method waits ``timeout`` seconds (None: no limit) for its answer, then raises
    XsTimeoutError. A refusal is an XsError with the path as given; a server that is gone or breaks
    the protocol is an XsConnectionError or XsReplyError. Not for several threads at once.
    ``at_once``: a shorter way for a request, if there is one.
    """

    def __init__(
        self,
        channel: Channel,
        name: str = "client",
        timeout: float | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.sink: Callable[[], None] | None = None
        self._channel = channel
        self._at_once = at_once
        self._protocol = ClientProtocol()
        #: The watch events that have come and were not taken.
        self.events: EventBacklog = self._protocol.events
        self._lost: XsError | None = None

    def __repr__(self) -> str:
        return f"<WireConnection {self.name!r}>"

    # -- nodes ---------------------------------------------------------------------------------

    def read(self, path: str, tx: int = 0) -> bytes:
        """XS_READ: value of a node."""
        return self._ask(_about(xs.XS_READ, path, tx))

    def write(self, path: str, value: bytes, tx: int = 0) -> None:
        """XS_WRITE: set a value; missing nodes are created."""
        self._acknowledged(new_request((xs.XS_WRITE, _arguments(path) + value, tx, path)))

    def mkdir(self, path: str, tx: int = 0) -> None:
        """XS_MKDIR: create a node if there is none."""
        self._acknowledged(_about(xs.XS_MKDIR, path, tx))

    def rm(self, path: str, tx: int = 0) -> None:
        """XS_RM: remove a node and all below it."""
        self._acknowledged(_about(xs.XS_RM, path, tx))

    def directory(self, path: str, tx: int = 0) -> list[str]:
        """XS_DIRECTORY: the names of the children; in several requests if one reply cannot hold
        them."""
        deadline = self._channel.deadline(self.timeout)
        request = _about(xs.XS_DIRECTORY, path, tx)
        try:
            return strings(request, self._ask(request, deadline))
        except XsError as error:
            if error.errno != "E2BIG":
                raise
            too_big = error
        try:
            return self._directory_by_parts(path, tx, deadline)
        except XsError as error:
            # A server without DIRECTORY_PART: the answer to DIRECTORY is the better evidence.
            raise too_big if error.errno == "ENOSYS" else error from None

    def get_perms(self, path: str, tx: int = 0) -> list[Perm]:
        """XS_GET_PERMS: permissions, owner first."""
        request = _about(xs.XS_GET_PERMS, path, tx)
        entries = strings(request, self._ask(request))
        try:
            return [parse_perm(entry) for entry in entries]
        except XsError as error:
            raise XsReplyError(path, f"GET_PERMS: {error.path!r}: {error.detail}") from error

    def set_perms(self, path: str, perms: Sequence[str | Perm], tx: int = 0) -> None:
        """XS_SET_PERMS: replace the permissions."""
        self._acknowledged(_about(xs.XS_SET_PERMS, path, tx, *map(str, perms)))

    # -- watches -------------------------------------------------------------------------------

    def watch(self, path: str, token: str) -> None:
        """XS_WATCH: watch the node ``path`` and everything below it."""
        self._acknowledged(_about(xs.XS_WATCH, path, 0, token))

    def unwatch(self, path: str, token: str) -> None:
        """XS_UNWATCH: end a watch."""
        self._acknowledged(_about(xs.XS_UNWATCH, path, 0, token))

    def reset_watches(self) -> None:
        """XS_RESET_WATCHES: end all watches and transactions."""
        self._acknowledged(Request(xs.XS_RESET_WATCHES, b"\0"))

    # -- transactions --------------------------------------------------------------------------

    def transaction_start(self) -> int:
        """XS_TRANSACTION_START: start a transaction. Returns its id."""
        request = Request(xs.XS_TRANSACTION_START, b"\0")
        return transaction_id(request, self._ask(request))

    def transaction_end(self, tx: int, commit: bool) -> None:
        """XS_TRANSACTION_END: commit (XsError EAGAIN: start again) or abort."""
        self._acknowledged(Request(xs.XS_TRANSACTION_END, b"T\0" if commit else b"F\0", tx))

    # -- domains -------------------------------------------------------------------------------

    def get_domain_path(self, domid: int) -> str:
        """XS_GET_DOMAIN_PATH: the home directory of a domain."""
        request = _about(xs.XS_GET_DOMAIN_PATH, str(domid), 0)
        answer = strings(request, self._ask(request))
        if len(answer) != 1:
            raise XsReplyError(request.path, f"GET_DOMAIN_PATH: {len(answer)} strings")
        return answer[0]

    def is_domain_introduced(self, domid: int) -> bool:
        """XS_IS_DOMAIN_INTRODUCED: whether a domain is introduced."""
        request = _about(xs.XS_IS_DOMAIN_INTRODUCED, str(domid), 0)
        answer = self._ask(request)
        if answer not in (b"T\0", b"F\0"):
            raise XsReplyError(request.path, f"IS_DOMAIN_INTRODUCED: {answer[:40]!r}")
        return answer == b"T\0"

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """XS_INTRODUCE: introduce a domain with its ring page and unbound event channel port."""
        self._acknowledged(_about(xs.XS_INTRODUCE, str(domid), 0, str(gfn), str(port)))

    def release(self, domid: int) -> None:
        """XS_RELEASE: forget a domain."""
        self._acknowledged(_about(xs.XS_RELEASE, str(domid), 0))

    def resume(self, domid: int) -> None:
        """XS_RESUME: tell that a domain runs again."""
        self._acknowledged(_about(xs.XS_RESUME, str(domid), 0))

    def set_target(self, domid: int, target: int) -> None:
        """XS_SET_TARGET: give ``domid`` the rights of ``target`` as well."""
        self._acknowledged(_about(xs.XS_SET_TARGET, str(domid), 0, str(target)))

    # -- events --------------------------------------------------------------------------------

    def deadline(self, timeout: float | None) -> float:
        """The time ``timeout`` seconds (None: never) from now, by the channel's clock."""
        return self._channel.deadline(timeout)

    def fetch(self, deadline: float) -> bool:
        """Receive until there is an event, or ``deadline`` is past. Returns whether there is one.

        A lost connection raises only when no event is left.
        """
        events = self.events
        if not events:
            self._alive("")
            self._transfer(lambda: bool(events), deadline)
        return bool(events)

    def arrived(self) -> None:
        """Receive bytes that came outside of a request (the event channel fired), and call the sink
        if there were events among them."""
        before = len(self.events)
        try:
            self._alive("")
            self._transfer(lambda: False, self._channel.deadline(0))
        finally:
            if len(self.events) > before:
                self._tell()

    def close(self) -> None:
        """Close the channel. May be repeated."""
        self._lost = XsConnectionError("", f"connection {self.name} is closed", "EBADF")
        self.events.discard(lambda event: True)
        self._channel.close()
        self.sink = None  # its user has it, and is not to wait for the garbage collector

    # -- inside --------------------------------------------------------------------------------

    def _acknowledged(self, request: Request) -> None:
        answer = self._ask(request)
        if answer != OK:
            raise XsReplyError(request.path, f"{request.op}: {answer[:40]!r} instead of OK")

    def _ask(self, request: Request, deadline: float | None = None) -> bytes:
        if self._lost is not None:
            self._alive(request.path)
        protocol, events = self._protocol, self.events
        before = len(events)
        try:
            req_id = protocol.ask(request)
            output: bytes | None = None
            if self._at_once is not None:
                message, protocol.outgoing = protocol.outgoing, b""  # whatever comes of it
                try:
                    output = self._at_once(message)
                except BaseException:
                    protocol.abandon(req_id)
                    raise
                if output is None:
                    protocol.outgoing = message
                elif (answer := protocol.answered_at_once(req_id, output)) is not None:
                    return answer
            return self._await(request, req_id, deadline, output or b"")
        finally:
            if len(events) > before:
                self._tell()

    def _await(
        self, request: Request, req_id: int, deadline: float | None, received: bytes
    ) -> bytes:
        """Receive the answer to a request; ``received`` have come already."""
        protocol = self._protocol
        if deadline is None:
            deadline = self._channel.deadline(self.timeout)
        answered = False
        try:
            answered = self._transfer(
                lambda: protocol.answered(req_id), deadline, request.path, received
            )
        finally:
            if not answered:
                protocol.abandon(req_id)
        if not answered:
            raise XsTimeoutError(request.path, f"no answer to {request.op}{self._patience()}")
        return protocol.answer(req_id)

    def _patience(self) -> str:
        return "" if self.timeout is None else f" within {self.timeout:g} s"

    def _transfer(
        self, done: Callable[[], bool], deadline: float, path: str = "", received: bytes = b""
    ) -> bool:
        """Move bytes both ways until ``done()`` is True; ``received`` have come already. Returns
        False if ``deadline`` was earlier.

        A lost or invalid stream ends the connection; its error names ``path``.
        """
        protocol, channel = self._protocol, self._channel
        try:
            while True:
                if protocol.outgoing:
                    protocol.sent(channel.send(protocol.outgoing))
                if data := received or channel.receive():
                    protocol.receive(data)
                received = b""
                if done():
                    return True
                if not channel.wait(deadline, bool(protocol.outgoing)):
                    return done()
        except (XsConnectionError, XsReplyError) as error:
            self._lost = error
            channel.close()
            raise type(error)(error.path or path, error.detail) from error

    def _directory_by_parts(self, path: str, tx: int, deadline: float) -> list[str]:
        for _ in range(_RESTARTS):
            generation: int | None = None
            names = b""
            while True:
                request = _about(xs.XS_DIRECTORY_PART, path, tx, str(len(names)))
                number, nul, part = self._ask(request, deadline).partition(b"\0")
                if not nul:
                    raise XsReplyError(path, "DIRECTORY_PART without a generation")
                now = decimal(request, number)
                if generation not in (None, now):
                    break
                generation = now
                last = part.endswith(b"\0\0") or part == b"\0"
                names += part[:-1] if last else part
                if last:
                    return strings(request, names)
                if not part:
                    raise XsReplyError(path, f"DIRECTORY_PART at {len(names)}: nothing, no end")
        raise XsError("EAGAIN", path, f"DIRECTORY_PART: changed {_RESTARTS} times while listed")

    def _alive(self, path: str) -> None:
        if self._lost is not None:
            raise XsConnectionError(path, self._lost.detail, self._lost.errno)

    def _tell(self) -> None:
        """Call the sink: there are new events."""
        if self.sink is not None:
            self.sink()


def _about(kind: int, path: str, tx: int, *more: str) -> Request:
    """A request whose arguments are strings; the first one is ``path``."""
    return new_request((kind, _arguments(path, *more), tx, path))


@lru_cache(1024)  # drivers ask for the same nodes again and again
def _arguments(*texts: str) -> bytes:
    """The payload with ``texts``, each with its nul."""
    for argument in texts:
        if "\0" in argument:
            raise XsError("EINVAL", texts[0], f"argument {argument!r} contains a nul")
    return encode_text("\0".join((*texts, "")))
