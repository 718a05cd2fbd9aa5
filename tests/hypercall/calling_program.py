"""A domain that makes hypercalls whose arguments lie in a memory of a few pages."""

from __future__ import annotations

import errno
from typing import Any

from xennet.abi.codec import Codec
from xennet.hypercall import Caller, hypercall
from xennet.hypervisor import Domain, Machine
from xennet.xenstored.service import XenStoreService

BASE = 0x7000_0000


class Memory:
    """A program's memory: ``data`` at address BASE, nothing elsewhere."""

    def __init__(self, size: int = 8192) -> None:
        self.data = bytearray(size)

    def _span(self, address: int, size: int) -> slice:
        if not BASE <= address <= address + size <= BASE + len(self.data):
            raise OSError(errno.EFAULT, "bad address")
        return slice(address - BASE, address - BASE + size)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[self._span(address, size)])

    def write(self, address: int, data: bytes) -> None:
        self.data[self._span(address, len(data))] = data


class Program:
    """What runs in a domain: its memory, and ways to make hypercalls with structures in it."""

    def __init__(self, domain: Domain) -> None:
        self.domain, self.memory = domain, Memory()
        self.reasons: list[int] = []
        self.caller = Caller(domain, self.memory, self.reasons.append)

    def call(self, number: int, a1: int = 0, a2: int = BASE, a3: int = 0) -> int:
        """A hypercall's result, or its negative errno."""
        try:
            return hypercall(self.caller, number, a1, a2, a3)
        except OSError as refusal:
            return -(refusal.errno or 0)

    def put(self, codec: Codec, at: int = BASE, **values: int) -> None:
        """Write a structure; fields that are not named are 0."""
        named = {"_pad": b""} | values
        self.memory.write(at, codec.pack(*(named.get(name, 0) for name in codec.fields)))

    def get(self, codec: Codec, at: int = BASE) -> Any:
        return codec.read(self.memory.read(at, codec.size))

    def ask(self, number: int, cmd: int, codec: Codec, count: int = 1, **values: int) -> Any:
        """Make a hypercall on one structure, which must be accepted. Returns it as it is then."""
        self.put(codec, **values)
        assert self.call(number, cmd, BASE, count) == 0
        return self.get(codec)


class Site:
    def __init__(self) -> None:
        self.machine = Machine(1500, max_grant_frames=4)
        self.dom0 = self.machine.create_domain(name="Domain-0")
        self.service = XenStoreService(self.machine)
        self.front = Program(self.machine.create_domain(name="front"))
        self.back = Program(self.machine.create_domain(name="back"))
