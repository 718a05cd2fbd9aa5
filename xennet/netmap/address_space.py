"""A client's memory, as the device reaches it: by address, and any access may fault; and its
descriptors by number."""

from __future__ import annotations

import os
from typing import Protocol

PAGE_SIZE = 4096


class FaultError(Exception):
    """Part of the range is not mapped, or not writable (the kernel's copyin answers EFAULT)."""


class AddressSpace(Protocol):
    """The memory of a client."""

    def read(self, address: int, length: int) -> bytes:
        """The bytes from ``address`` on. Raises FaultError if any of them is not mapped."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store ``data`` from ``address`` on. Raises FaultError, with nothing stored, if any byte
        is not mapped."""
        ...

    def pin(self, address: int, length: int) -> memoryview:
        """The memory itself, writable, for as long as the view lives. Raises FaultError if any of
        it is not mapped or it does not lie in one piece."""
        ...

    def descriptor(self, number: int) -> int:
        """A duplicate, for the caller to close, of the client's descriptor ``number``. Raises
        OSError(EBADF) if it has none."""
        ...


class ClientMemory:
    """An address space made of mappings: for clients inside this process, and for tests.

    Mappings begin at a page; between any two is a page that is not mapped.
    """

    def __init__(self, base: int = 0x10000) -> None:
        self._mappings: dict[int, memoryview] = {}
        self._next = base

    def map(self, memory: bytearray | memoryview) -> int:
        """Map writable ``memory`` at a free address. Returns the address."""
        view = memoryview(memory).cast("B")
        address = self._next
        self._next += (len(view) + 2 * PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
        self._mappings[address] = view
        return address

    def unmap(self, address: int) -> None:
        """Take away the mapping that begins at ``address``."""
        del self._mappings[address]

    def pin(self, address: int, length: int) -> memoryview:
        for start, view in self._mappings.items():
            if start <= address and address + length <= start + len(view):
                return view[address - start : address - start + length]
        raise FaultError(f"{length} bytes at {address:#x} are not mapped")

    def descriptor(self, number: int) -> int:
        return os.dup(number)

    def read(self, address: int, length: int) -> bytes:
        return self.pin(address, length).tobytes() if length else b""

    def write(self, address: int, data: bytes) -> None:
        if data:
            self.pin(address, len(data))[:] = data
