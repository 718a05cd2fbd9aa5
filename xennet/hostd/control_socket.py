"""The socket for commands: a session for each client, of which none can stop or delay the host.

A client that sends garbage is told so and hung up on. One that sends nothing, or does not read, has
its place until another one needs it; so has one whose command waits, if no other client can go.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.hostd.json_lines import LONGEST, Json, MessageError, decode_request, encode
from xennet.xenstore.daemon import ByteSession, Descriptors, SocketServer

#: Most clients at a time.
MOST_CLIENTS = 64

#: Takes the answer to a request, once.
Answer = Callable[[Json], None]
#: Carries out a command with its arguments, and calls the function with the answer, then or later.
Perform = Callable[[str, Json, Answer], None]


class ControlSession:
    """One client (a xennet.xenstore.daemon.ByteSession). One command of it is carried out at a
    time; ``perform`` does it. ``number``: the how many-th client it is."""

    def __init__(self, perform: Perform, number: int = 1) -> None:
        self.number = number
        self.on_output: Callable[[], object] | None = None
        self.closed = False
        #: Whether a command is being carried out.
        self.busy = False
        self._perform = perform
        self._input = bytearray()
        self._output = b""
        self._in_receive = False

    @property
    def pending(self) -> bool:
        """Whether there is output."""
        return bool(self._output)

    @property
    def blocked(self) -> bool:
        """Whether nothing should be read: an answer has to be found, or sent, first."""
        return self.closed or self.busy or self.pending

    @property
    def wanted(self) -> int:
        """Number of bytes that complete a request, which is not known: at least one."""
        return 0 if self.blocked else 1

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of requests, cut anywhere, and carry out what is complete."""
        if not self.closed:
            self._input += data
            self._run()

    def take(self) -> bytes:
        """All output, which counts as sent from now on."""
        output, self._output = self._output, b""
        return output

    def resume(self) -> bool:
        """Go on with requests that are there already: what was taken has been sent.

        Returns False if there were none.
        """
        if not self._input:
            return False
        self._run()
        return True

    def close(self) -> None:
        """End the session: nobody hears the answers any more."""
        self.closed = True
        self._input.clear()

    def _run(self) -> None:
        if self._in_receive:
            return
        self._in_receive = True
        try:
            while not self.blocked and (line := self._line()) is not None:
                self._request(line)
        finally:
            self._in_receive = False

    def _line(self) -> bytearray | None:
        """The next request; None if it is not complete."""
        end = self._input.find(b"\n")
        if (len(self._input) if end < 0 else end) > LONGEST:
            self._hang_up(f"a request of more than {LONGEST} bytes")
            return None
        if end < 0:
            return None
        line = self._input[:end]
        del self._input[: end + 1]
        return line

    def _request(self, line: bytearray) -> None:
        try:
            command, arguments = decode_request(line)
        except MessageError as error:
            self._hang_up(str(error))
            return
        self.busy = True
        self._perform(command, arguments, self._answer)

    def _answer(self, message: Json) -> None:
        if not self.busy:
            return
        self.busy = False
        if self.closed:
            return
        self._output = encode(message)
        if not self._in_receive and self.on_output is not None:
            self.on_output()

    def _hang_up(self, why: str) -> None:
        self._output = encode({"error": f"no request: {why}"})
        self.close()


class ControlSocket(SocketServer):
    """The socket ``path``, whose commands ``perform`` carries out."""

    def __init__(self, path: str, descriptors: Descriptors, perform: Perform) -> None:
        super().__init__(path, descriptors)
        self._perform = perform

    def session(self, number: int) -> ByteSession | None:
        """A session for one more client. Where there are too many, the oldest goes: of those that
        are gone anyway, of those without a command, or of all, in this order."""
        if len(self.peers) >= MOST_CLIENTS:
            ranks = [
                (not peer.hung_up, peer.session.busy, peer.session.number, peer)
                for peer in self.peers
                if isinstance(peer.session, ControlSession)
            ]
            min(ranks)[-1].close()
        return ControlSession(self._perform, number)
