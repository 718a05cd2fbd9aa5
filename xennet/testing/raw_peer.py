"""What both hand-driven peers share: the store, rings by name, indices, events, notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, Protocol, TypeAlias, TypeVar

from attrs import define, frozen

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_FLAG_MORE,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.abi.xenbus import XenbusState
from xennet.interface import Hypervisor
from xennet.ring import BackRing, FrontRing, SharedRing
from xennet.testing.notes import Note
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.state import read_state

R = TypeVar("R", FrontRing, BackRing)

#: What a node can be set to; numbers are written in decimal.
NodeValue: TypeAlias = bytes | str | int

#: The fields of a shared ring's header, and the private indices of either end.
SHARED_INDICES = ("req_prod", "req_event", "rsp_prod", "rsp_event")
PRIVATE_INDICES = ("req_prod_pvt", "rsp_cons", "rsp_prod_pvt", "req_cons")


@lru_cache(64)
def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes that say where in a page they come from; as a frame they are no IP packet."""
    return bytes((seed + 7 * i + (i >> 8)) & 0xFF for i in range(length))


def cut(frame: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The parts of a frame: of ``sizes`` bytes each, the rest in whole pages."""
    parts, at = [], 0
    for size in (*sizes, *[PAGE_SIZE] * (len(frame) // PAGE_SIZE + 1)):
        if at < len(frame):
            parts.append(frame[at : at + size])
            at += size
    return parts


class Slot(Protocol):
    """A slot of a data ring as it was taken: ``raw`` bytes, and the ``flags`` of a data slot."""

    @property
    def raw(self) -> bytes: ...
    @property
    def flags(self) -> int: ...


S = TypeVar("S", bound=Slot)


def packet_slots(slots: Sequence[S]) -> Iterator[tuple[list[S], list[S]]]:
    """Data slots and extra info slots of one packet after the other; the last packet may lack some.

    more_data and extra_info are the same bits in a tx request and an rx response (xen/io/netif.h).
    """
    left = list(slots)
    while left:
        data = [left.pop(0)]
        extras: list[S] = []
        more = bool(data[0].flags & NETRXF_extra_info)
        while more and left:
            extras.append(left.pop(0))
            more = bool(extras[-1].raw[1] & XEN_NETIF_EXTRA_FLAG_MORE)
        while data[-1].flags & NETRXF_more_data and left:
            data.append(left.pop(0))
        yield data, extras


@define(eq=False)
class RawQueue(Generic[R]):
    """The two rings of a queue with their event channels, which are one if the ports are equal.

    ``tx_events``, ``rx_events``: events that came; those of a common channel count as tx.
    """

    tx: R
    rx: R
    tx_port: int
    rx_port: int
    tx_events: int = 0
    rx_events: int = 0


@frozen
class Packet:
    """One packet that a peer has received.

    ``frame``: its bytes. ``flags``: those of the first slot. ``extras``: the raw extra info slots.
    ``indices``: the ring indices of its data slots. ``status``: the first negative status of a
    response, 0 if there is none (and always from a frontend).
    """

    frame: bytes
    flags: int
    extras: tuple[bytes, ...]
    indices: tuple[int, ...]
    status: int = 0


class RawPeer(Generic[R]):
    """One end of a vif, driven by hand: nothing happens that is not called for.

    ``hv`` is the peer's domain, ``node`` its directory there, ``settle`` lets everything else
    happen until it is quiet. ``otherend_id`` and ``otherend`` are the domid and the directory of
    the other end; ``queues`` is empty while nothing is allocated or attached. ``notes`` has all
    that was done and seen, in order.
    """

    def __init__(self, hv: Hypervisor, node: str, other: str, settle: Callable[[], object]) -> None:
        self.hv = hv
        self.node = node
        self.settle = settle
        self.notes: list[Note] = []
        self.queues: list[RawQueue[R]] = []
        self.ctrl_ring: R | None = None
        self.ctrl_port = -1
        self.ctrl_events = 0
        self._own = NodeDirectory(hv.store, node)
        self.otherend_id = self._own.unsigned(f"{other}-id")
        self.otherend = NodeDirectory(hv.store, self._own.text(other))

    def note(self, what: str, where: str, raw: bytes | str | int = b"") -> None:
        """Add to ``notes``."""
        self.notes.append(Note(what, where, raw if isinstance(raw, bytes) else str(raw).encode()))

    # -- the store ---------------------------------------------------------------------------------

    def read(self, name: str) -> str | None:
        """A node of the own directory; None if it cannot be read."""
        return self._own.optional_text(name) or None

    def write(self, name: str, value: NodeValue) -> None:
        """Write a node of the own directory. Raises XsError if the store refuses."""
        self.hv.store.write(self._own.node(name), value)
        self.note("node", self._own.node(name), value)

    def remove(self, name: str = "") -> None:
        """Remove a node of the own directory, or the directory itself."""
        path = self._own.node(name) if name else self.node
        self.hv.store.rm(path)
        self.note("removed", path)

    def set_state(self, state: int) -> None:
        """Write the ``state`` node, whatever it was before."""
        self.write("state", int(state))

    @property
    def state(self) -> int:
        """The own state as the store has it; Unknown (0) if it cannot be read."""
        return read_state(self.hv.store, self.node)

    @property
    def otherend_state(self) -> int:
        """The state of the other end; Unknown (0) if it cannot be read."""
        return read_state(self.hv.store, self.otherend.path)

    @property
    def connected(self) -> bool:
        """Whether both ends show Connected."""
        return self.state == self.otherend_state == XenbusState.Connected

    def otherend_nodes(self) -> dict[str, str]:
        """The nodes of the other end's directory that have a value."""
        values = {name: self.otherend.optional_text(name) for name in self.otherend.names()}
        return {name: value for name, value in values.items() if value}

    # -- rings -------------------------------------------------------------------------------------

    def ring(self, name: str, queue: int = 0) -> R:
        """The ring called "tx", "rx" or "ctrl". Raises LookupError where there is none."""
        if name == "ctrl":
            if self.ctrl_ring is None:
                raise LookupError(f"{self.node} has no control ring")
            return self.ctrl_ring
        if queue >= len(self.queues):
            raise LookupError(f"{self.node} has no queue {queue}: it has {len(self.queues)}")
        return self.queues[queue].tx if name == "tx" else self.queues[queue].rx

    def shared(self, name: str, queue: int = 0) -> SharedRing:
        """The shared page of a ring, for its header and any slot."""
        return self.ring(name, queue).sring

    def set_index(self, index: str, value: int, *, ring: str = "tx", queue: int = 0) -> None:
        """Set an index by hand: "req_prod", "req_event", "rsp_prod", "rsp_event" in the shared
        page; "req_prod_pvt", "rsp_cons", "rsp_prod_pvt", "req_cons" of this end's own."""
        if index in SHARED_INDICES:
            setattr(self.shared(ring, queue), index, value)
        elif index in PRIVATE_INDICES and hasattr(self.ring(ring, queue), index):
            setattr(self.ring(ring, queue), index, value)
        else:
            raise ValueError(f"a ring of this end has no index {index!r}")
        self.note("set", f"{self._where(ring, queue)}, {index}", value & 0xFFFFFFFF)

    def index(self, index: str, *, ring: str = "tx", queue: int = 0) -> int:
        """An index by its name, as for :meth:`set_index`."""
        holder = self.shared(ring, queue) if index in SHARED_INDICES else self.ring(ring, queue)
        value: int = getattr(holder, index)
        return value

    def write_slot(self, index: int, raw: bytes, *, ring: str = "tx", queue: int = 0) -> None:
        """Write the slot of ``index``, whether or not it is this end's turn; no index moves."""
        self.shared(ring, queue).write_slot(index, raw)
        self.note("wrote", f"{self._where(ring, queue)}, index {index & 0xFFFFFFFF}", raw)

    def push_tx(self, queue: int = 0) -> bool:
        """Publish what was put on the tx ring, with the event if it is wanted
        (RING_PUSH_REQUESTS_AND_CHECK_NOTIFY of a frontend, RING_PUSH_RESPONSES_AND_CHECK_NOTIFY of
        a backend). Returns whether."""
        return self._push("tx", queue)

    def push_rx(self, queue: int = 0) -> bool:
        """The same for the receive ring."""
        return self._push("rx", queue)

    def push_ctrl(self) -> bool:
        """The same for the control ring."""
        return self._push("ctrl", 0)

    def _push(self, ring: str, queue: int) -> bool:
        raise NotImplementedError

    def _took(self, index: int, ring: str, queue: int) -> bytes:
        raw = self.shared(ring, queue).copy_slot(index)
        self.note("took", f"{self._where(ring, queue)}, index {index}", raw)
        return raw

    def _where(self, ring: str, queue: int) -> str:
        return "ctrl ring" if ring == "ctrl" else f"queue {queue} {ring} ring"

    # -- events ------------------------------------------------------------------------------------

    def port(self, ring: str = "tx", queue: int = 0) -> int:
        """The port of a ring's event channel."""
        if ring == "ctrl":
            return self.ctrl_port
        return self.queues[queue].tx_port if ring == "tx" else self.queues[queue].rx_port

    def notify(self, ring: str = "tx", queue: int = 0) -> None:
        """Send an event of a ring's channel, whether or not it is wanted."""
        self.hv.notify(self.port(ring, queue))
        self.note("sent", f"{self._where(ring, queue)}, event")

    def _announce(self, wanted: bool, ring: str, queue: int) -> bool:
        if wanted:
            self.notify(ring, queue)
        else:
            self.note("kept", f"{self._where(ring, queue)}, event")
        return wanted

    def _listen(self, queue: RawQueue[R]) -> None:
        """Count the events of a queue."""

        def tx() -> None:
            queue.tx_events += 1

        def rx() -> None:
            queue.rx_events += 1

        self.hv.on_event(queue.tx_port, tx)
        if queue.rx_port != queue.tx_port:
            self.hv.on_event(queue.rx_port, rx)

    def _listen_ctrl(self) -> None:
        def ctrl() -> None:
            self.ctrl_events += 1

        self.hv.on_event(self.ctrl_port, ctrl)

    def close_ports(self) -> None:
        """Close all event channels; the other end is not told."""
        ports = {port for queue in self.queues for port in (queue.tx_port, queue.rx_port)}
        for port in sorted(ports | {self.ctrl_port}):
            if port >= 0:
                self.hv.close_port(port)
                self.note("closed", f"port {port}")
        for queue in self.queues:
            queue.tx_port = queue.rx_port = -1
        self.ctrl_port = -1
