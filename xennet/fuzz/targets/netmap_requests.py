"""The target ``netmap``: three clients of a netmap device that ask for anything.

A step is one call of a client: a request with a body and an option, head and cur of a ring, a slot,
a sync, a poll, or its end. What is wrong: an exception; a result that is no errno; memory of the
device that is not free when all have gone (net/netmap.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from attrs import define, field

from xennet.abi.netmap import (
    HEADER,
    NETMAP_API,
    NIOCCTRL,
    NIOCRXSYNC,
    NIOCTXSYNC,
    NR_REG_ALL_NIC,
    OPTION,
    REGISTER,
)
from xennet.fuzz.steps_target import StepsTarget
from xennet.fuzz.target import Finding
from xennet.netmap.adapter import Adapter
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface, join_pair
from xennet.ring import MASK32

NAMES = (b"vale0:a", b"vale0:b", b"va", b"vb", b"va{1", b"va}1", b"vale1:va", b"vale0:va",
         b"vale0:", b"x{y", b"x}y", b"", b"{", b"n" * 64)  # fmt: skip
#: What a step does, by number: 0 is a registration.
REGISTERS, ASKS, HEADS, SLOT, TXSYNC, RXSYNC, POLL, TIME, CLOSES = range(9)
_CLIENTS, _BODY, _HIGHEST_REQUEST, _HIGHEST_ERRNO = 3, 72, 16, 200
_TURN = 1_000_000  # ns of virtual time
#: Where a ring has its head, in words (struct netmap_ring); cur is behind it.
_HEAD = 5


@define
class _Client:
    """An open file and its memory."""

    device: Device
    memory: ClientMemory = field(factory=ClientMemory)
    file: Descriptor | None = None

    def opened(self) -> Descriptor:
        if self.file is None:
            self.file = self.device.open(self.memory)
        return self.file

    def close(self) -> None:
        if self.file is not None:
            self.device.close(self.file)
            self.file = None

    def ioctl(self, command: int, address: int = 0) -> int:
        return self.device.ioctl(self.opened(), command, address)

    def ask(self, request: int, name: bytes, body: bytes, option: bytes) -> int:
        """NIOCCTRL with a header; ``option`` b"" for none."""
        memory = self.memory
        following = memory.map(bytearray(option)) if option else 0
        at = memory.map(bytearray(body))
        header = HEADER.pack(NETMAP_API, request, 0, name, following, at)
        return self.ioctl(NIOCCTRL, memory.map(bytearray(header)))


class NetmapTarget(StepsTarget):
    """Clients of a device with two joined interfaces."""

    name = "netmap"
    step_fields = (
        ("client", 1), ("what", 1), ("request", 2), ("name", 1), ("option", 1), ("mode", 4),
        ("flags", 4), ("a", 4), ("b", 4),
    )  # fmt: skip
    modules = (
        "xennet.netmap.requests",
        "xennet.netmap.registration",
        "xennet.netmap.lookup",
        "xennet.netmap.options",
        "xennet.netmap.binding",
        "xennet.netmap.adapter",
        "xennet.netmap.pipe",
        "xennet.netmap.vale_switch",
        "xennet.netmap.vale_nic",
        "xennet.netmap.monitor",
        "xennet.netmap.pools",
        "xennet.netmap.region",
    )

    def any_step(self, random: Random) -> tuple[int, ...]:
        what = random.choice((REGISTERS, REGISTERS, REGISTERS, ASKS, HEADS, SLOT, TXSYNC, RXSYNC,
                              POLL, TIME, CLOSES))  # fmt: skip
        flags = random.choice(
            (0, 0, 0, 0x100, 0x200, 0x400, 0x700, 0x800, 1 << random.randrange(16))
        )
        return (
            random.randrange(_CLIENTS), 1 + what, random.randrange(_HIGHEST_REQUEST + 1),
            random.randrange(len(NAMES)), random.choice((0, 0, 0, random.randrange(9))),
            random.choice((NR_REG_ALL_NIC, random.randrange(9))), flags, random.randrange(10),
            random.randrange(10),
        )  # fmt: skip

    def play(self, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        device = Device()
        join_pair(*(device.state.add_interface(NetInterface(name)) for name in ("va", "vb")))
        clients = [_Client(device) for _ in range(_CLIENTS)]
        for number, values in enumerate(steps):
            result = _done(clients[values[0] % _CLIENTS], values)
            if not 0 <= result < _HIGHEST_ERRNO:
                return Finding("netmap.errno", f"step {number}, {values}: {result} is no errno")
            self.packets += 1
        for client in clients:
            client.close()
        region = device.state.regions.shared
        pools = {"interfaces": region.ifs, "rings": region.rings, "buffers": region.bufs}
        for what, pool in pools.items():
            held = pool.layout.objtotal - pool.reserved - pool.objfree
            if held and not region.active:
                return Finding("leak", f"{held} {what} of the shared region, with no file open")
        return None


def _done(client: _Client, values: tuple[int, ...]) -> int:
    """Do a step. Returns the errno of its call, 0 if it made none."""
    _, what, request, name, option, mode, flags, a, b = values
    what -= 1
    file = client.opened()
    if what in (REGISTERS, ASKS):
        kind, body = request, b"".join(v.to_bytes(4, "little") for v in (a, b, mode, flags) * 4)
        if what == REGISTERS:
            fields = dict.fromkeys(REGISTER.fields, 0) | {
                "nr_tx_slots": 8, "nr_rx_slots": 8, "nr_mode": mode,
                "nr_flags": flags, "nr_extra_bufs": a if b == 9 else 0, "nr_ringid": b % 2,
            }  # fmt: skip
            kind, body = 1, REGISTER.pack(*(fields[field] for field in REGISTER.fields))
        raw = OPTION.pack(0, option, 0, 32 + a) + body[:_BODY] if option else b""
        return client.ask(kind, NAMES[name % len(NAMES)], body.ljust(_BODY, b"\0"), raw)
    if what in (TXSYNC, RXSYNC):
        return client.ioctl(NIOCTXSYNC if what == TXSYNC else NIOCRXSYNC)
    if what == POLL:
        file.poll(a)
    elif what == TIME:
        client.device.state.pump.pass_time(_TURN)
    elif what == CLOSES:
        client.close()
    elif file.registration is not None and (port := file.bound().port) is not None:
        _write(port, what, mode, a, b)
    return 0


def _write(port: Adapter, what: int, mode: int, a: int, b: int) -> None:
    """Write head and cur of a ring of the port, or a slot of it."""
    rings = port.rings(bool(mode & 1))
    if not rings:
        return
    words, ring = port.region.u32, rings[mode // 2 % len(rings)]
    at = ring.offset // 4
    if what == HEADS:
        words[at + _HEAD], words[at + _HEAD + 1] = a, b
    else:
        at = ring.slot_at(a % ring.num_slots)
        words[at + 1] = b & MASK32
        if mode & 4:
            words[at] = a
