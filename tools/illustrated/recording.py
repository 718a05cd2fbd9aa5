"""One life of one vif, always the same, and every write to shared memory and to the store in it.

The machine runs with the engine of xennet.adversary, which reports each access to shared memory.
Pages that are shared without that engine (the store's ring page) are compared with a copy whenever
anything is reported: what differs was written just before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import field, frozen

from xennet.adversary import Access, Adversary
from xennet.engine.choice import using
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, EVERYTHING, UNBOUNDED, FrameBatch, Offload
from xennet.host import Host
from xennet.observe import StoreOperation
from xennet.xenstored.service import XenStoreService

PAGE = 4096
GUEST = 1

_MAC_GUEST = bytes.fromhex("00163e000001")
_MAC_HOST = bytes.fromhex("feffffffffff")


def _sum16(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _ipv4(source: bytes, to: bytes, protocol: int, length: int) -> bytes:
    head = bytearray(20)
    head[0], head[8], head[9] = 0x45, 64, protocol
    head[2:4] = (20 + length).to_bytes(2, "big")
    head[6:8] = b"\x40\x00"
    head[12:16], head[16:20] = source, to
    head[10:12] = (0xFFFF - _sum16(bytes(head))).to_bytes(2, "big")
    return bytes(head)


def _pseudo(source: bytes, to: bytes, protocol: int, length: int) -> bytes:
    return _sum16(source + to + bytes((0, protocol)) + length.to_bytes(2, "big")).to_bytes(2, "big")


_IP_GUEST, _IP_HOST = bytes((192, 168, 7, 2)), bytes((192, 168, 7, 1))
TX_TEXT = b"Hello, domain 0!"
RX_TEXT = b"A GSO packet is one packet that wants to be two: send once, cut later, at 32 B."


def tx_frame() -> bytes:
    """The guest's frame: UDP over IPv4, its checksum left blank."""
    udp = bytearray((4242).to_bytes(2, "big") + (7).to_bytes(2, "big"))
    udp += (8 + len(TX_TEXT)).to_bytes(2, "big")
    udp += _pseudo(_IP_GUEST, _IP_HOST, 17, 8 + len(TX_TEXT))
    ip = _ipv4(_IP_GUEST, _IP_HOST, 17, 8 + len(TX_TEXT))
    return _MAC_HOST + _MAC_GUEST + b"\x08\x00" + ip + bytes(udp) + TX_TEXT


def rx_frame() -> bytes:
    """The answer: TCP over IPv4, to be cut into segments of 32 bytes by who needs that."""
    tcp = bytearray((7).to_bytes(2, "big") + (4242).to_bytes(2, "big"))
    tcp += (1000).to_bytes(4, "big") + (2000).to_bytes(4, "big") + b"\x50\x18" + b"\x10\x00"
    tcp += _pseudo(_IP_HOST, _IP_GUEST, 6, 20 + len(RX_TEXT)) + b"\x00\x00"
    ip = _ipv4(_IP_HOST, _IP_GUEST, 6, 20 + len(RX_TEXT))
    return _MAC_GUEST + _MAC_HOST + b"\x08\x00" + ip + bytes(tcp) + RX_TEXT


class NetworkStack:
    """An end of the vif that sends what it was given, and keeps what it gets."""

    carries = EVERYTHING
    room = UNBOUNDED

    def __init__(self) -> None:
        self.to_send: list[tuple[bytes, int, int, int]] = []
        self.received: list[bytes] = []

    def pull(self, batch: FrameBatch, /) -> int:
        """Give what is to be sent: bytes, flags, GSO size and type."""
        count = len(self.to_send)
        for data, flags, size, kind in self.to_send:
            batch.append(data, flags=flags, gso_size=size, gso_type=kind)
        self.to_send.clear()
        return count

    def push(self, batch: FrameBatch, /) -> None:
        """Keep the frames."""
        self.received += map(bytes, batch)

    def negotiated(self, offload: Offload, /) -> None:
        """Nothing is made to fit."""

    def listen(self, wake: Callable[[], None], /) -> None:
        """The driver is kicked by hand."""


@frozen
class Write:
    """``new`` was written over ``old``, from byte ``at`` of machine frame ``frame``, which is page
    number ``page`` of the memory ``what`` of domain ``owner``; in delivery ``delivery``."""

    what: str
    owner: int
    page: int
    frame: int
    at: int
    old: bytes
    new: bytes
    delivery: str

    @property
    def bytes_at(self) -> range:
        """The bytes written, numbered through the whole machine."""
        return range(self.frame * PAGE + self.at, self.frame * PAGE + self.at + len(self.new))


@frozen
class Chapter:
    """From here on everything belongs to this chapter."""

    name: str


@frozen
class NodeChange:
    """``who`` changed the store: ``op`` on the absolute ``path``."""

    who: str
    op: str
    path: str
    value: bytes


@frozen
class Recording:
    """What happened, in order (:class:`Write`, :class:`NodeChange`, :class:`Chapter`, the events of
    xennet.observe), and how the machine was at the end of each delivery.

    ``changed``: the bytes of the guest's frames, and of those that domain 0 shares, that were ever
    seen to differ from what they were when the delivery before had ended: found by comparing whole
    frames, not by any access. ``nodes``: the store's changes, found in the same way: (path, value
    or None). ``received``: the frames that came out at the guest's end and at the host's.
    """

    happened: list[object]
    changed: frozenset[int]
    nodes: frozenset[tuple[str, bytes | None]]
    received: tuple[list[bytes], list[bytes]]


@frozen
class _Place:
    what: str
    address: int
    size: int


class _Engine(Adversary):
    """The adversary's engine, with the place of each shared memory in the arena."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, _Place] = {}
        self.arena = range(0)  # the addresses of the machine's memory

    def set_arena(self, memory: memoryview) -> None:
        """Note where the machine's memory is."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.arena = range(start, start + len(memory))

    def first(self, name: str) -> int | None:
        """The byte of the arena at which a memory begins; None if it is elsewhere."""
        address = self.places[name].address
        return address - self.arena.start if address in self.arena else None

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        if not isinstance(memory, memoryview):
            return memory  # a view that was made here
        address = 0
        if memory.nbytes and not memory.readonly:
            address = ctypes.addressof((ctypes.c_char * memory.nbytes).from_buffer(memory))
        name = f"{what}#{len(self.places)}"
        self.places[name] = _Place(what, address, memory.nbytes)
        return super().shared(memory, name, whose)


@frozen
class _Camera:
    """Notes writes. ``kinds``: frame -> what memory it is of, whose, and which page of it.
    ``before`` is the arena as it was when the last write was noted, for what is old; ``last``,
    ``tree``: shared frames and the store as they were when the last delivery ended."""

    host: Host
    engine: _Engine
    happened: list[object] = field(factory=list)
    delivery: list[str] = field(factory=lambda: ["outside of all deliveries"])
    kinds: dict[int, tuple[str, int, int]] = field(factory=dict)
    before: bytearray = field(factory=bytearray)
    last: dict[int, bytes] = field(factory=dict)
    changed: set[int] = field(factory=set)
    nodes: set[tuple[str, bytes | None]] = field(factory=set)
    tree: dict[str, bytes] = field(factory=dict)

    def learn(self) -> None:
        """Note which frames are which memory."""
        owner = self.host.machine.memory.owner
        for name, place in self.engine.places.items():
            first = self.engine.first(name)
            if first is not None and place.what != "arena":
                frame = first // PAGE
                for one in range(frame, (first + place.size - 1) // PAGE + 1):
                    # A ring that netback has mapped is still its frontend's.
                    self.kinds.setdefault(one, (place.what, int(owner[frame]), one - frame))

    def on_access(self, access: Access) -> None:
        """Note a store or an update."""
        self.look_at_store_ring()
        if access.kind == "load":
            return
        self.learn()
        first = self.engine.first(access.memory)
        if first is None:
            raise AssertionError(f"{access} is outside of the machine")
        self.note(first + access.at, access.value.to_bytes(access.size, "little"))

    def note(self, first: int, new: bytes) -> None:
        """Note that ``new`` was written at byte ``first`` of the arena."""
        while new:
            frame, at = divmod(first, PAGE)
            here, new = new[: PAGE - at], new[PAGE - at :]
            if frame in self.kinds:
                what, owner, page = self.kinds[frame]
                old = bytes(self.before[first : first + len(here)])
                delivery = self.delivery[-1]
                self.happened.append(Write(what, owner, page, frame, at, old, here, delivery))
            self.before[first : first + len(here)] = here
            first += len(here)

    def look_at_store_ring(self) -> None:
        """Note what differs in the guest's page of the store's ring."""
        for frame in (f for f, (what, *_) in self.kinds.items() if what == "store ring"):
            first = frame * PAGE
            now = bytes(self.host.machine.memory.u8[first : first + PAGE])
            was = self.before[first : first + PAGE]
            if now == was:
                continue
            differ = [i for i in range(PAGE) if now[i] != was[i]]
            runs: list[list[int]] = []
            for i in differ:  # bytes of one message lie at most a few unchanged ones apart
                if runs and i - runs[-1][1] <= 64 and (i < 2048) == (runs[-1][1] < 2048):
                    runs[-1][1] = i
                else:
                    runs.append([i, i])
            for low, high in runs:
                if low >= 2048:
                    low, high = low // 4 * 4, high // 4 * 4 + 3
                    for word in range(low, high, 4):
                        if now[word : word + 4] != was[word : word + 4]:
                            self.note(first + word, now[word : word + 4])
                else:
                    self.note(first + low, now[low : high + 1])

    def on_event(self, event: object) -> None:
        """Note an event of the machine."""
        self.look_at_store_ring()
        self.learn()
        if isinstance(event, StoreOperation):
            if event.error or event.op not in ("WRITE", "MKDIR", "RM", "SET_PERMS"):
                return
            home = "" if event.path.startswith("/") else f"/local/domain/{event.domid}/"
            self.happened.append(NodeChange(event.who, event.op, home + event.path, event.value))
        else:
            self.happened.append(event)

    def look(self) -> None:
        """Compare all frames of the guest, those that domain 0 shares, and the store, with what
        they were before."""
        memory = self.host.machine.memory.u8
        owner = self.host.machine.memory.owner
        for frame in {*self.kinds, *self.host.machine.memory.owned_by(GUEST)}:
            now = bytes(memory[frame * PAGE : frame * PAGE + PAGE])
            was = self.last.get(frame, bytes(PAGE))
            if now != was and owner[frame] != 0x7FF4:  # a frame that was freed is nobody's
                self.changed.update(frame * PAGE + i for i in range(PAGE) if now[i] != was[i])
            self.last[frame] = now
        tree = dict(_nodes(self.host.service, "/"))
        for path in tree.keys() | self.tree.keys():
            if tree.get(path) != self.tree.get(path):
                self.nodes.add((path, tree.get(path)))
        self.tree.clear()
        self.tree.update(tree)


def _nodes(service: XenStoreService, path: str) -> Iterator[tuple[str, bytes]]:
    store = service.store.tree
    yield from _walk(store.root, "")


def _walk(node: object, path: str) -> Iterator[tuple[str, bytes]]:
    yield path or "/", bytes(node.value)  # type: ignore[attr-defined]
    for name, child in ((one.name, one) for one in node.children.nodes()):  # type: ignore[attr-defined]
        yield from _walk(child, f"{path}/{name}")


@contextmanager
def _told(camera: _Camera, engine: _Engine) -> Iterator[None]:
    camera.host.machine.observers.subscribe(camera.on_event)
    with engine.watching(camera.on_access):
        yield


def record() -> Recording:
    """The life of one vif: attach, a frame from the guest, a GSO frame to it, detach."""
    engine = _Engine()
    with using(engine):
        host = Host()
        engine.set_arena(host.machine.memory.u8)
        host.dom0.load()
        guest = host.add_guest(name="guest", evtchn_abi="2l")
        guest.boot()
        host.settle()
        camera = _Camera(host, engine, before=bytearray(host.machine.memory.u8))
        _find_store_ring(camera)
        camera.learn()
        camera.look()
        camera.changed.clear()
        camera.nodes.clear()
        guest_end, host_end = NetworkStack(), NetworkStack()
        with _told(camera, engine):
            camera.happened.append(Chapter("attach"))
            vif = host.plug(guest, 0, guest_end, host_end)
            _run(camera)
            host.require_connected(vif)
            camera.happened.append(Chapter("transmit"))
            guest_end.to_send.append((tx_frame(), CSUM_BLANK | DATA_VALIDATED, 0, 0))
            vif.kick_guest()
            _run(camera)
            camera.happened.append(Chapter("receive"))
            host_end.to_send.append((rx_frame(), CSUM_BLANK | DATA_VALIDATED, 32, 1))
            vif.kick_host()
            _run(camera)
            camera.happened.append(Chapter("close"))
            host.unplug(vif)
            _run(camera)
        return Recording(
            camera.happened,
            frozenset(camera.changed),
            frozenset(camera.nodes),
            (guest_end.received, host_end.received),
        )


def _find_store_ring(camera: _Camera) -> None:
    page = camera.host.guests[GUEST].domain.store_ring.gfn
    camera.kinds[page] = ("store ring", GUEST, 0)


def _run(camera: _Camera) -> None:
    loop = camera.host.machine.run_loop
    camera.look()
    while ready := loop.ready():
        due = min(ready, key=lambda one: one.kind != "evtchn")  # an interrupt comes before work
        camera.delivery[-1] = str(due)
        loop.step(due)
        camera.look_at_store_ring()
        camera.look()
    camera.delivery[-1] = "outside of all deliveries"
