"""The server's end of a domain's ring page: moves bytes between the page and a session.

It treats a ring as C xenstored 4.17 does (``handle_input``, ``handle_output``,
``ignore_connection``): header and body are taken one after the other, the domain is notified after
every change, and a domain that breaks the ring finds the reason in the error field and is not
served any more. In addition it knows reconnection (xenstore-ring.txt): a domain that sets
``connection`` to 1 gets a new session on empty rings, whatever happened before.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.abi.xs_numbers import (
    XENSTORE_ERROR_COMM,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
)
from xennet.xenstore.ring_page import RingIndexError, RingPage
from xennet.xenstore.session import Session

FEATURES = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR


class RingServer:
    """Serves ``page`` with sessions that ``open_session()`` makes, one after the other.

    ``notify()`` sends the domain an event; False if that is not possible any more. ``features`` are
    the server_features of the page. Nothing that the domain writes into the page raises an
    exception, and one call of :meth:`run` moves no more bytes than the two rings hold.
    """

    def __init__(
        self,
        page: RingPage,
        open_session: Callable[[], Session],
        notify: Callable[[], bool],
        features: int = FEATURES,
    ) -> None:
        self._page = page
        self._open = open_session
        self._notify = notify
        self._features = features
        self._dead = False
        self._gone = False
        self._running = False
        #: The session that serves the domain at present.
        self.session = open_session()
        self._start()

    @property
    def dead(self) -> bool:
        """Whether the domain is not served, until it reconnects."""
        return self._dead

    def run(self) -> bool:
        """Do all the work that can be done now. Returns False if there was none.

        A session calls it in the middle of a request to have a reply sent; then nothing is
        received.
        """
        if self._gone:
            return False
        if self._running:
            return not self._dead and self._send_guarded()
        self._running = True
        try:
            moved = self._page.connection == XENSTORE_RECONNECT and self._reconnect()
            while not self._dead and self._step():
                moved = True
            return moved
        finally:
            self._running = False

    def answer(self, request: bytes, events_pass: Callable[[], bool]) -> bytes | None:
        """Serve a domain that sends ``request``, at most 1024 bytes, and takes the answer at once:
        returns it, up to 1024 bytes. ``events_pass()`` stands for the events that are sent for
        these.

        None, with nothing done, if something is on its way from the domain or to it, or
        ``events_pass()`` is False. An answer that could not wait is sent as by :meth:`run`: then
        the domain is notified, and b"" is returned.
        """
        page, session = self._page, self.session
        if self._dead or self._running or not page.is_idle():
            return None
        if not session.is_idle() or not events_pass():
            return None
        page.requests.carry(request)
        self._running = True
        try:
            answer = session.answer(request, XENSTORE_RING_SIZE)
        finally:
            self._running = False
        if answer:
            page.responses.carry(answer)
            return answer
        if self._dead:
            return b""
        if page.responses.empty and not session.closed:
            answer = session.take(XENSTORE_RING_SIZE)
            page.responses.carry(answer)
            if session.unfinished:
                session.resume()
                self.run()
            return answer
        self._changed()
        self.run()
        return b""

    def flush(self) -> None:
        """Send all the output that there is room for; receive nothing."""
        while not self._gone and not self._dead and self._send_guarded():
            pass

    def introduced_again(self) -> None:
        """Reset the rings and the session: XS_INTRODUCE of a domain that is introduced.

        A domain that is not served any more (:attr:`dead`) stays so, with its error, as in C
        xenstored.
        """
        self._page.reset()
        if not self._dead:
            # Still the same connection, which counts its transactions on.
            self.session.connection.reset()
        self._changed()

    def close(self) -> None:
        """End the session: the domain is gone. The page is not touched any more."""
        self._gone = True
        self._stop()

    def _reconnect(self) -> bool:
        if not self._features & XENSTORE_SERVER_FEATURE_RECONNECTION:
            return False
        self.session.close()
        self.session = self._open()
        self._dead = False
        self._start()
        return True

    def _start(self) -> None:
        self._page.start(self._features)
        self._changed()

    def _step(self) -> bool:
        """Read a header, or the rest of a body, then send output."""
        session = self.session
        moved = False
        try:
            moved = self._receive(session)
            if self._dead:
                return False
            if session.closed:
                if session.error:
                    self._give_up(XENSTORE_ERROR_PROTO)
                self._dead = True
                return False
            return self._send(session) or moved
        except RingIndexError:
            self._give_up(XENSTORE_ERROR_RINGIDX)
            return moved

    def _send_guarded(self) -> bool:
        try:
            return self._send(self.session)
        except RingIndexError:
            self._give_up(XENSTORE_ERROR_RINGIDX)
            return False

    def _receive(self, session: Session) -> bool:
        requests = self._page.requests
        if requests.empty or not (wanted := session.wanted):
            return False
        data = requests.read(wanted)
        try:
            self._changed()
        finally:  # an observer of events may raise
            session.receive(data)
        return True

    def _send(self, session: Session) -> bool:
        responses = self._page.responses
        if not session.pending or responses.full:
            return False
        responses.write(session.take(responses.room()))
        self._changed()
        session.resume()
        return True

    def _changed(self) -> None:
        if not self._notify():
            self._give_up(XENSTORE_ERROR_COMM)

    def _give_up(self, error: int) -> None:
        self._page.error = error
        self._stop()

    def _stop(self) -> None:
        self._dead = True
        self.session.close()
