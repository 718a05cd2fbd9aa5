"""Frames on their way between a port and a driver: flat memory, no object per frame.

A :class:`FrameBatch` is one buffer in which frames lie end to end, and flat arrays of equal length
that say where each is and what travels with it. Ports fill and empty batches, kernels read and
write them; the arrays are exactly what a compiled kernel can use.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol

#: Longest frame that one netif packet can carry: the 16-bit size of the first tx request.
MAX_FRAME = 65535
#: Shortest frame: an Ethernet header (a backend answers ERROR to less; hardening rule F6).
MIN_FRAME = 14

#: Frame flags, as in the tx request: the protocol checksum field holds only the pseudo-header sum.
CSUM_BLANK = 1
#: The checksum was verified, or cannot have been damaged (it never left the machine).
DATA_VALIDATED = 2


class FrameBatch:
    """Up to ``max_frames`` frames in ``data``, filled from the start and in order.

    ``data``: writable memoryview of unsigned bytes. ``offset``, ``length`` (bytes), ``flags``
    (CSUM_BLANK, DATA_VALIDATED), ``gso_size`` (bytes of one segment, 0 = no GSO), ``gso_type``
    (XEN_NETIF_GSO_TYPE_*), ``timestamp`` (ns since the epoch) are arrays indexed by
    frame. ``count`` frames are valid, ``used`` bytes of ``data`` are taken.
    """

    __slots__ = (
        "count",
        "data",
        "flags",
        "gso_size",
        "gso_type",
        "length",
        "max_frames",
        "offset",
        "timestamp",
        "used",
    )

    def __init__(self, data: memoryview, max_frames: int = 256) -> None:
        self.data = data
        self.max_frames = max_frames
        self.offset = array("I", bytes(4 * max_frames))
        self.length = array("I", bytes(4 * max_frames))
        self.flags = array("I", bytes(4 * max_frames))
        self.gso_size = array("I", bytes(4 * max_frames))
        self.gso_type = array("I", bytes(4 * max_frames))
        self.timestamp = array("q", bytes(8 * max_frames))
        self.count = 0
        self.used = 0

    @property
    def columns(self) -> tuple[array[int], array[int], array[int], array[int], array[int]]:
        """offset, length, flags, gso_size, gso_type: what kernels take of a batch, in order."""
        return self.offset, self.length, self.flags, self.gso_size, self.gso_type

    def clear(self) -> None:
        """Forget all frames."""
        self.count = 0
        self.used = 0

    def has_room(self, length: int) -> bool:
        """Whether one more frame of ``length`` bytes fits."""
        return self.count < self.max_frames and self.used + length <= len(self.data)

    def append(
        self,
        frame: bytes | memoryview,
        *,
        timestamp: int = 0,
        flags: int = 0,
        gso_size: int = 0,
        gso_type: int = 0,
    ) -> None:
        """Add a frame at the end; IndexError when it does not fit (ask has_room first)."""
        n = len(frame)
        if not self.has_room(n):
            raise IndexError(f"no room for a frame of {n} bytes after {self.count} frames")
        i, used = self.count, self.used
        self.data[used : used + n] = frame
        self.offset[i] = used
        self.length[i] = n
        self.flags[i] = flags
        self.gso_size[i] = gso_size
        self.gso_type[i] = gso_type
        self.timestamp[i] = timestamp
        self.count = i + 1
        self.used = used + n

    def frame(self, index: int) -> memoryview:
        """The bytes of frame ``index``, a view that is valid until the batch is refilled."""
        start = self.offset[index]
        return self.data[start : start + self.length[index]]

    def __iter__(self) -> Iterator[memoryview]:
        return (self.frame(i) for i in range(self.count))


class FrameEndpoint(Protocol):
    """The outside of a driver: gives frames to send and takes frames that came.

    ``room`` is the number of frames that push takes now; pull appends what there is (0: nothing
    now) and may be asked again.
    """

    @property
    def room(self) -> int: ...

    def pull(self, batch: FrameBatch) -> int: ...

    def push(self, batch: FrameBatch) -> None: ...
