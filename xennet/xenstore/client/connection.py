"""A connection whose requests travel as messages: the same methods as
:class:`xennet.xenstore.Connection`, over any :class:`Channel`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from xennet.abi import xs_wire as xs
from xennet.xenstore.client.channel import Channel
from xennet.xenstore.client.errors import XsConnectionError, XsReplyError, XsTimeoutError
from xennet.xenstore.client.protocol import (
    ClientProtocol,
    EventBacklog,
    Request,
    decimal,
    strings,
    transaction_id,
)
from xennet.xenstore.errors import XsError
from xennet.xenstore.perms import Perm, parse_perm
from xennet.xenstore.wire import encode_text

OK = b"OK\0"
_RESTARTS = 100


class WireConnection:
    """One client of a server at the other end of ``channel``.

    ``timeout`` seconds (None: no limit) is what each method waits for its answer before it raises
    XsTimeoutError. A refusal is an XsError with the path as given; XsConnectionError and
    XsReplyError tell of a server that is gone or talks nonsense. Not for several threads at once.
    """

    def __init__(
        self, channel: Channel, name: str = "client", timeout: float | None = None
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.sink: Callable[[], None] | None = None
        self._channel = channel
        self._protocol = ClientProtocol()
        self._lost: XsError | None = None

    @property
    def events(self) -> EventBacklog:
        """Watch events that have come and were not taken."""
        return self._protocol.events

    # -- nodes ---------------------------------------------------------------------------------

    def read(self, path: str, tx: int = 0) -> bytes:
        """XS_READ: value of a node."""
        return self._ask(_about(xs.XS_READ, path, tx))

    def write(self, path: str, value: bytes, tx: int = 0) -> None:
        """XS_WRITE: set a value; missing nodes are made."""
        request = Request(xs.XS_WRITE, _text(path, path) + value, tx, path)
        self._acknowledged(request)

    def mkdir(self, path: str, tx: int = 0) -> None:
        """XS_MKDIR: make a node if there is none."""
        self._acknowledged(_about(xs.XS_MKDIR, path, tx))

    def rm(self, path: str, tx: int = 0) -> None:
        """XS_RM: remove a node and all below it."""
        self._acknowledged(_about(xs.XS_RM, path, tx))

    def directory(self, path: str, tx: int = 0) -> list[str]:
        """XS_DIRECTORY: names of the children; in parts if they do not fit into one message."""
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
            # A server without DIRECTORY_PART: then that first answer is the one that tells.
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
        """XS_WATCH: hear of changes at and below ``path``."""
        self._acknowledged(_about(xs.XS_WATCH, path, 0, token))

    def unwatch(self, path: str, token: str) -> None:
        """XS_UNWATCH: drop a watch."""
        self._acknowledged(_about(xs.XS_UNWATCH, path, 0, token))

    def reset_watches(self) -> None:
        """XS_RESET_WATCHES: drop all watches and transactions."""
        self._acknowledged(Request(xs.XS_RESET_WATCHES, b"\0"))

    # -- transactions --------------------------------------------------------------------------

    def transaction_start(self) -> int:
        """XS_TRANSACTION_START: a new transaction id."""
        request = Request(xs.XS_TRANSACTION_START, b"\0")
        return transaction_id(request, self._ask(request))

    def transaction_end(self, tx: int, commit: bool) -> None:
        """XS_TRANSACTION_END: commit (XsError EAGAIN: do it again) or abort."""
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
        """XS_IS_DOMAIN_INTRODUCED."""
        request = _about(xs.XS_IS_DOMAIN_INTRODUCED, str(domid), 0)
        answer = self._ask(request)
        if answer not in (b"T\0", b"F\0"):
            raise XsReplyError(request.path, f"IS_DOMAIN_INTRODUCED: {answer[:40]!r}")
        return answer == b"T\0"

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """XS_INTRODUCE: a domain's ring page and its unbound event channel port."""
        self._acknowledged(_about(xs.XS_INTRODUCE, str(domid), 0, str(gfn), str(port)))

    def release(self, domid: int) -> None:
        """XS_RELEASE: forget a domain."""
        self._acknowledged(_about(xs.XS_RELEASE, str(domid), 0))

    def resume(self, domid: int) -> None:
        """XS_RESUME: a domain runs again."""
        self._acknowledged(_about(xs.XS_RESUME, str(domid), 0))

    def set_target(self, domid: int, target: int) -> None:
        """XS_SET_TARGET: give ``domid`` the rights of ``target`` too."""
        self._acknowledged(_about(xs.XS_SET_TARGET, str(domid), 0, str(target)))

    # -- events --------------------------------------------------------------------------------

    def deadline(self, timeout: float | None) -> float:
        """The moment ``timeout`` seconds (None: never) from now, on the channel's clock."""
        return self._channel.deadline(timeout)

    def fetch(self, deadline: float) -> bool:
        """Receive until an event waits or it is past ``deadline``; True if one does.

        A lost connection is raised only when there is no event left.
        """
        events = self._protocol.events
        if not events:
            self._alive("")
            with self._breaking(""):
                self._exchange(lambda: bool(events), deadline)
        return bool(events)

    def arrived(self) -> None:
        """Something came in while nobody waited (an event channel fired): receive it, and tell the
        sink if events were among it."""
        with self._telling():
            self._alive("")
            with self._breaking(""):
                self._exchange(lambda: False, self._channel.deadline(0))

    def close(self) -> None:
        """Close the channel. May be repeated."""
        self._lost = XsConnectionError("", f"connection {self.name} is closed", "EBADF")
        self._protocol.events.discard(lambda event: True)
        self._channel.close()

    # -- inside --------------------------------------------------------------------------------

    def _acknowledged(self, request: Request) -> None:
        answer = self._ask(request)
        if answer != OK:
            raise XsReplyError(request.path, f"{request.op}: {answer[:40]!r} instead of OK")

    def _ask(self, request: Request, deadline: float | None = None) -> bytes:
        with self._telling():
            self._alive(request.path)
            req_id = self._protocol.ask(request)
            if deadline is None:
                deadline = self._channel.deadline(self.timeout)
            answered = False
            try:
                with self._breaking(request.path):
                    answered = self._exchange(lambda: self._protocol.answered(req_id), deadline)
            finally:
                if not answered:
                    self._protocol.abandon(req_id)
            if not answered:
                raise XsTimeoutError(request.path, f"no answer to {request.op}{self._patience()}")
            return self._protocol.answer(req_id)

    def _patience(self) -> str:
        return "" if self.timeout is None else f" within {self.timeout:g} s"

    def _exchange(self, done: Callable[[], bool], deadline: float) -> bool:
        """Move bytes both ways until ``done``; False if that was not to be by ``deadline``."""
        protocol, channel = self._protocol, self._channel
        while True:
            if protocol.outgoing:
                protocol.sent(channel.send(protocol.outgoing))
            if data := channel.receive():
                protocol.receive(data)
            if done():
                return True
            if not channel.wait(deadline, bool(protocol.outgoing)):
                return done()

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

    @contextmanager
    def _breaking(self, path: str) -> Iterator[None]:
        """A server that is gone, or cannot be understood, ends the connection; the error names the
        request that found out."""
        try:
            yield
        except (XsConnectionError, XsReplyError) as error:
            self._lost = error
            self._channel.close()
            raise type(error)(error.path or path, error.detail) from error

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell the sink afterwards if events came."""
        before = len(self._protocol.events)
        try:
            yield
        finally:
            if self.sink is not None and len(self._protocol.events) > before:
                self.sink()


def _about(kind: int, path: str, tx: int, *more: str) -> Request:
    """A request whose arguments are strings, each with its nul, the first being ``path``."""
    payload = b"".join(_text(argument, path) for argument in (path, *more))
    return Request(kind, payload, tx, path)


def _text(text: str, path: str) -> bytes:
    if "\0" in text:
        raise XsError("EINVAL", path, f"argument {text!r} contains a nul")
    return encode_text(text) + b"\0"
