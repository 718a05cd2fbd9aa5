"""What a record may ask for: one that was made of the module needs a hundredth of that."""

from __future__ import annotations

import os
from errno import EBADF
from typing import Any

from xennet.netmap.address_space import ClientMemory

#: Bytes of a record file.
MOST_FILE_BYTES = 1 << 26
#: Seconds of processor time that one file may take.
MOST_SECONDS = 300
#: Bytes that the clients of a machine may map in one case.
MOST_MAPPED = 1 << 28
#: Bytes that one value may say in short form; frames that one step may send; buffers.
MOST_BYTES = 1 << 20
MOST_FRAMES = 1 << 16
#: Descriptors that the client of a record has at most.
_DESCRIPTORS = 256
MOST_BUFFERS = 1 << 18


class TooMuchError(Exception):
    """A record asks for more than is given."""


def bounded(what: str, value: Any, most: int) -> int:
    """``value`` as a number. Raises TooMuchError if it is above ``most``."""
    number = int(value)
    if number > most:
        raise TooMuchError(f"{what}: {number}, at most {most}")
    return number


class BoundedMemory(ClientMemory):
    """A client's memory, which may not grow without end (:meth:`map` raises TooMuchError), and its
    descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self._mapped = 0

    def descriptor(self, number: int) -> int:
        # A record has the numbers that eventfds had in the process that made it.
        if number >= _DESCRIPTORS:
            raise OSError(EBADF, "no descriptor")
        return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def map(self, memory: bytearray | memoryview) -> int:
        self._mapped = bounded("bytes mapped", self._mapped + len(memory), MOST_MAPPED)
        return super().map(memory)
