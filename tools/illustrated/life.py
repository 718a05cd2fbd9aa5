"""One life of one vif, always the same, as the events of xennet.trace."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.frames import CSUM_BLANK, DATA_VALIDATED, EVERYTHING, UNBOUNDED, FrameBatch, Offload
from xennet.host import Host
from xennet.trace.recorder import recording
from xennet.trace.stream import Event

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
class Life:
    """What the recorder told, in order. ``chapters``: where in ``events`` each chapter begins, and
    its name. ``received``: the frames that came out at the guest's end and at the host's."""

    events: list[Event]
    chapters: list[tuple[int, str]]
    received: tuple[list[bytes], list[bytes]]


def _nobody_looks(host: Host, events: list[Event]) -> None:
    pass


def record(look: Callable[[Host, list[Event]], object] = _nobody_looks) -> Life:
    """The life of one vif: attach, a frame from the guest, a GSO frame to it, detach.

    ``look(host, events)`` is called when the recording begins and behind each delivery. Nothing in
    the run depends on time or chance, so each call tells the same.
    """
    events: list[Event] = []
    chapters: list[tuple[int, str]] = []
    guest_end, host_end = NetworkStack(), NetworkStack()
    with recording(store_rings=True) as recorder:
        host = Host()
        host.dom0.load()
        guest = host.add_guest(name="guest", evtchn_abi="2l")
        guest.boot()
        host.settle()
        recorder.sink(events.append)
        recorder.attach(host.machine)
        look(host, events)

        def chapter(name: str) -> None:
            chapters.append((len(events), name))

        def run() -> None:
            loop = host.machine.run_loop
            recorder.settle()
            look(host, events)
            while ready := loop.ready():
                due = min(ready, key=lambda one: one.kind != "evtchn")  # interrupts before work
                loop.step(due)
                recorder.settle()
                look(host, events)

        chapter("attach")
        vif = host.plug(guest, 0, guest_end, host_end)
        run()
        host.require_connected(vif)
        chapter("transmit")
        guest_end.to_send.append((tx_frame(), CSUM_BLANK | DATA_VALIDATED, 0, 0))
        vif.kick_guest()
        run()
        chapter("receive")
        host_end.to_send.append((rx_frame(), CSUM_BLANK | DATA_VALIDATED, 32, 1))
        vif.kick_host()
        run()
        chapter("close")
        host.unplug(vif)
        run()
        recorder.detach()
    return Life(events, chapters, (guest_end.received, host_end.received))
