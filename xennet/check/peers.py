"""The peers that play checks: the hand-driven ones of xennet.testing, at one end of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xennet.abi.netif import (
    CTRL_RESPONSE,
    RX_RESPONSE,
    TX_RESPONSE,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_EXTRA_FLAG_MORE,
    NETRXF_extra_info,
)
from xennet.abi.xenbus import XenbusState
from xennet.check.check import Side, Violation
from xennet.check.target import DriverEndedError, Liveness, Session
from xennet.ring import BackRing, FrontRing
from xennet.testing.notes import Note
from xennet.testing.raw_backend import RawBackend
from xennet.testing.raw_frontend import RawFrontend
from xennet.testing.raw_peer import NodeValue, Packet, R, RawPeer
from xennet.xenbus.nodes import NodeDirectory

#: Probes before a driver counts as wedged: the first ones may end a packet that a move began.
PROBES = 3
#: Experimental EtherType (IEEE 802): nobody looks into what follows.
_PROBE_TYPE = b"\x88\xb5"
_FRAME = 60


class _SuitePeer(RawPeer[R]):
    """What both peers have: time passes in their ``session`` only. ``frames``: those that they have
    sent and received, each with its time in ns."""

    session: Session
    frames: list[tuple[int, bytes]]

    def rest(self) -> None:
        """Let everything happen. Raises DriverEndedError if the driver is dead or busy then."""
        _settle(self.session, None)

    def wait(self, until: Callable[[], bool]) -> bool:
        """Let time pass until ``until()``, for a few seconds. Returns whether it is true then."""
        _settle(self.session, until)
        return until()

    def probe(self, number: int) -> str:
        """Have a well-formed packet go through each queue, and come back by any. Returns what is
        missing, "" if nothing is."""
        for queue in range(len(self.queues)):
            if missing := self._probe(number, queue):
                return f"queue {queue}: {missing}" if queue else missing
        return ""

    def _probe(self, number: int, queue: int) -> str:
        """The probe of one ``queue``. Returns what is missing, "" if nothing is."""
        raise NotImplementedError

    def _noted(self, packets: list[Packet]) -> list[Packet]:
        """``packets`` that have come, whose frames are kept."""
        self.frames += [(self.hv.now, packet.frame) for packet in packets]
        return packets


class FrontendPeer(RawFrontend, _SuitePeer[FrontRing]):
    """The frontend that faces a netback under test in ``session``."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.kernel, session.node, settle=self.rest)
        self.session, self.frames = session, []
        self._published: set[str] = set()

    def send(self, frame: bytes, flags: int = 0, **options: Any) -> list[int]:
        """As RawFrontend.send."""
        self.frames.append((self.hv.now, frame))
        return super().send(frame, flags, **options)

    def packets(self, queue: int = 0) -> list[Packet]:
        """As RawFrontend.packets."""
        return self._noted(super().packets(queue))

    def publish(self, changes: Mapping[str, NodeValue | None] | None = None) -> None:
        """As RawFrontend.publish; what is written is remembered."""
        super().publish(changes)
        values = {**self.keys(), **(changes or {})}
        self._published |= {name for name, value in values.items() if value is not None}

    def enter(self, queues: int) -> bool:
        """Connect as a frontend does usually, with ``queues``. Returns whether both ends are
        Connected."""
        self.connect(queues=queues)
        return self.wait(lambda: self.connected)

    def enter_again(self, queues: int) -> bool:
        """Close, take back the keys, and connect again as usual. Returns whether both ends are
        Connected."""
        self.set_state(XenbusState.Closing)
        self.rest()
        self.set_state(XenbusState.Closed)
        self.wait(lambda: self.otherend_state in (XenbusState.Closed, XenbusState.InitWait))
        self.release()
        for name in sorted(self._published):
            self.remove(name)
        self._published.clear()
        self.set_state(XenbusState.Initialising)
        self.wait(lambda: self.otherend_state == XenbusState.InitWait)
        return self.enter(queues)

    def drain(self) -> None:
        """Take all responses and packets that have come."""
        for queue in range(len(self.queues)):
            self.responses(queue)
            self.packets(queue)
        if self.ctrl_ring is not None:
            self.ctrl_responses()

    def _probe(self, number: int, queue: int) -> str:
        """As _SuitePeer says; the backend chooses the queue by which the packet comes back."""
        frame = probe_frame(number, queue)
        statuses: dict[int, int] = {}
        frames: list[bytes] = []
        everywhere = range(len(self.queues))
        for other in everywhere:
            self.post_rx(2, queue=other)
            self.push_rx(other)
        (ident,) = self.send(frame, queue=queue)
        self.push_tx(queue)

        def over() -> bool:
            statuses.update((one.id, one.status) for one in self.responses(queue))
            for other in everywhere:
                frames.extend(packet.frame for packet in self.packets(other))
            return ident in statuses and frame in frames

        if self.wait(over):
            status = statuses[ident]
            return "" if status == 0 else f"a well-formed packet is answered {status}"
        if ident not in statuses:
            return "a well-formed request gets no response"
        return f"a packet that was answered {statuses[ident]} does not come back"


class BackendPeer(RawBackend, _SuitePeer[BackRing]):
    """The backend that faces a netfront under test in ``session``."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.kernel, session.node, settle=self.rest)
        self.session, self.frames = session, []

    def deliver(self, frame: bytes, flags: int = 0, **options: Any) -> int:
        """As RawBackend.deliver."""
        self.frames.append((self.hv.now, frame))
        return super().deliver(frame, flags, **options)

    def packets(self, queue: int = 0, **options: Any) -> list[Packet]:
        """As RawBackend.packets."""
        return self._noted(super().packets(queue, **options))

    def enter(self, queues: int) -> bool:
        """Connect as a backend does usually, with ``queues`` to be had. Returns whether both ends
        are Connected."""
        self.connect({"multi-queue-max-queues": queues})
        if not self.wait(lambda: self.otherend_state in _READY):
            return False
        return self.connected or (self.connect() and self.wait(lambda: self.connected))

    def enter_again(self, queues: int) -> bool:
        """Close, and connect again with a frontend that starts again by itself. Returns whether
        both ends are Connected, or the frontend is Closed: most wait for their toolstack there."""
        self.set_state(XenbusState.Closing)
        if not self.wait(lambda: self.otherend_state == XenbusState.Closed):
            return False
        self.detach()
        self.set_state(XenbusState.Closed)
        if self.wait(lambda: self.otherend_state == XenbusState.Initialising):
            return self.enter(queues)
        return self.otherend_state == XenbusState.Closed

    def drain(self) -> None:
        """Take all packets that have come, and answer them."""
        for queue in range(len(self.queues)):
            self.packets(queue)

    def _probe(self, number: int, queue: int) -> str:
        """As _SuitePeer says; the frontend chooses the queue by which the packet comes back."""
        frame = probe_frame(number, queue)
        frames: list[bytes] = []
        if not self.wait(lambda: self.buffers(queue) > 0):
            return "no receive buffer is posted"
        self.deliver(frame, queue=queue)
        self.push_rx(queue)

        def over() -> bool:
            for other in range(len(self.queues)):
                frames.extend(packet.frame for packet in self.packets(other))
            return frame in frames

        return "" if self.wait(over) else "a well-formed packet is not sent back"


Peer = FrontendPeer | BackendPeer
_READY = (XenbusState.Initialised, XenbusState.Connected)


def new_peer(session: Session, side: Side) -> Peer:
    """The peer that faces the driver under test on ``side``."""
    return FrontendPeer(session) if side is Side.NETBACK else BackendPeer(session)


def require_state(peer: Peer, states: Sequence[int], after: str) -> None:
    """Raises Violation unless the other end comes to one of ``states``."""
    if not peer.wait(lambda: peer.otherend_state in states):
        wanted = " or ".join(str(int(state)) for state in states)
        raise Violation(
            f"it is in state {peer.otherend_state} after {after}, not in {wanted}",
            path=peer.otherend.node("state"),
        )


def otherend_error(peer: Peer) -> str:
    """What the driver under test says in its error node (xenbus_dev_error); "" if nothing."""
    directory = error_directory(peer.otherend.path)
    return NodeDirectory(peer.session.host.store, directory).optional_text("error")


def error_directory(directory: str) -> str:
    """Where the driver of a device directory writes its errors: /local/domain/D/error/NODENAME."""
    _, local, domain, domid, nodename = directory.split("/", 4)
    return f"/{local}/{domain}/{domid}/error/{nodename}"


def probe_frame(number: int, queue: int) -> bytes:
    """A well-formed frame that no other probe sends."""
    head = bytes.fromhex("00163e000102 00163e000304") + _PROBE_TYPE
    return (head + b"probe %d of queue %d" % (number, queue)).ljust(_FRAME, b".")


def refused(side: Side, notes: Sequence[Note]) -> bool:
    """Whether a driver has refused something of a move, by what the peer noted in it: a netback
    answers an error; a netfront sends nothing back though it was given something."""
    if side is Side.NETFRONT:
        given = any(note.what == "wrote" and "rx ring" in note.where for note in notes)
        return given and not any(note.what == "took" and "tx ring" in note.where for note in notes)
    extra = False
    for note in notes:
        if note.what != "took":
            continue
        if "tx ring" in note.where:
            if TX_RESPONSE.unpack_from(note.raw)[1] < 0:
                return True
        elif "rx ring" in note.where:
            if extra:
                extra = bool(note.raw[1] & XEN_NETIF_EXTRA_FLAG_MORE)
                continue
            _, _, flags, status = RX_RESPONSE.unpack_from(note.raw)
            if status < 0:
                return True
            extra = bool(flags & NETRXF_extra_info)
        elif CTRL_RESPONSE.unpack_from(note.raw)[2] != XEN_NETIF_CTRL_STATUS_SUCCESS:
            return True
    return False


def _settle(session: Session, until: Callable[[], bool] | None) -> None:
    if session.settle(until) is not Liveness.RESTS:
        raise DriverEndedError(session.reason)
