"""A ring in mapped memory, as a program sees it: head, cur and tail, slots, buffers.

Nothing is copied: each value is that of the shared memory now, and a slot's memoryviews are its
buffer. Rules: netmap_user.h, nm_ring_space, nm_ring_next and NETMAP_BUF.
"""

from __future__ import annotations

from collections.abc import Iterator

from xennet.abi.netmap import (
    NS_MOREFRAG,
    RING,
    SLOT,
    SLOT_WORDS,
    RING_W_cur,
    RING_W_flags,
    RING_W_head,
    RING_W_slot,
    RING_W_tail,
    SLOT_W_buf_idx,
    SLOT_W_len,
)

_PTR = SLOT.offsets["ptr"] // 8
_OFFSET_MASK = RING.offsets["offset_mask"] // 8


class Slot:
    """A slot of a ring. ``buf_idx``, ``len`` (bytes), ``flags`` (NS_*) and ``ptr`` can be set."""

    __slots__ = ("_at", "index", "ring")

    def __init__(self, ring: Ring, index: int) -> None:
        self.ring = ring
        self.index = index
        self._at = ring._first + index * SLOT_WORDS

    def __repr__(self) -> str:
        return (
            f"<Slot {self.index} of {self.ring!r}: buffer {self.buf_idx}, {self.len} bytes, "
            f"flags {self.flags:#x}>"
        )

    @property
    def buf_idx(self) -> int:
        return self.ring._u32[self._at + SLOT_W_buf_idx]

    @buf_idx.setter
    def buf_idx(self, index: int) -> None:
        self.ring._u32[self._at + SLOT_W_buf_idx] = index

    @property
    def len(self) -> int:
        return self.ring._u16[2 * (self._at + SLOT_W_len)]

    @len.setter
    def len(self, length: int) -> None:
        self.ring._u16[2 * (self._at + SLOT_W_len)] = length

    @property
    def flags(self) -> int:
        return self.ring._u16[2 * (self._at + SLOT_W_len) + 1]

    @flags.setter
    def flags(self, flags: int) -> None:
        self.ring._u16[2 * (self._at + SLOT_W_len) + 1] = flags

    @property
    def ptr(self) -> int:
        return self.ring._u64[self._at // 2 + _PTR]

    @ptr.setter
    def ptr(self, value: int) -> None:
        self.ring._u64[self._at // 2 + _PTR] = value

    @property
    def buffer(self) -> memoryview:
        """The whole buffer. Raises IndexError if ``buf_idx`` is that of none."""
        return self.ring.buffer(self.buf_idx)

    @property
    def data(self) -> memoryview:
        """The frame, or the part of it, that is in the buffer. Raises IndexError if the slot does
        not say a place in a buffer."""
        offset = self.ptr & self.ring.offset_mask
        buffer, length = self.buffer, self.len
        if offset + length > len(buffer):
            raise IndexError(f"{length} bytes from {offset} on are not in a buffer of this ring")
        return buffer[offset : offset + length]

    def put(self, frame: bytes | memoryview, flags: int = 0) -> None:
        """Copy ``frame`` into the buffer, and set ``len`` and ``flags``. Raises ValueError if it is
        longer than the buffer."""
        offset = self.ptr & self.ring.offset_mask
        buffer, length = self.buffer, len(frame)
        if offset + length > len(buffer):
            raise ValueError(f"{length} bytes do not fit a buffer of {len(buffer)} bytes")
        buffer[offset : offset + length] = frame
        self.len, self.flags = length, flags


class Ring:
    """A tx or rx ring in ``memory``, the mapped region of its port, ``at`` bytes from its begin.

    ``memory``, ``at``, ``tx`` (it is one of the port's tx rings), ``ringid``, ``num_slots`` and
    ``buf_size`` (bytes) never change.
    The program owns the slots from head to tail (``space`` of them): it fills or empties the slots
    from head on, moves ``head`` and ``cur``, and syncs.
    """

    def __init__(self, memory: memoryview, at: int, tx: bool) -> None:
        head = RING.read(memory, at)
        self.memory = memory
        self._u8, self._u16 = memory, memory.cast("H")
        self._u32, self._u64 = memory.cast("I"), memory.cast("Q")
        self.at = at
        self._at = at // 4
        self._first = self._at + RING_W_slot
        self._buffers = at + head.buf_ofs
        self.tx = tx
        self.ringid: int = head.ringid
        self.num_slots: int = head.num_slots
        self.buf_size: int = head.nr_buf_size

    def __repr__(self) -> str:
        return (
            f"<Ring {'tx' if self.tx else 'rx'}{self.ringid}: head {self.head}, cur {self.cur}, "
            f"tail {self.tail} of {self.num_slots}>"
        )

    @property
    def head(self) -> int:
        """The first slot that the program keeps."""
        return self._u32[self._at + RING_W_head]

    @head.setter
    def head(self, index: int) -> None:
        self._u32[self._at + RING_W_head] = index

    @property
    def cur(self) -> int:
        """The slot from which on the program wants to be woken."""
        return self._u32[self._at + RING_W_cur]

    @cur.setter
    def cur(self, index: int) -> None:
        self._u32[self._at + RING_W_cur] = index

    @property
    def tail(self) -> int:
        """The first slot that the kernel has."""
        return self._u32[self._at + RING_W_tail]

    @property
    def flags(self) -> int:
        """NR_TIMESTAMP, NR_FORWARD."""
        return self._u32[self._at + RING_W_flags]

    @flags.setter
    def flags(self, flags: int) -> None:
        self._u32[self._at + RING_W_flags] = flags

    @property
    def timestamp(self) -> int:
        """When the ring was last synced, in microseconds since the epoch; 0 for a tx ring."""
        head = RING.read(self._u8, 4 * self._at)
        return int(head.ts_tv_sec * 1_000_000 + head.ts_tv_usec)

    @property
    def offset_mask(self) -> int:
        """The bits of a slot's ``ptr`` that say where in the buffer the frame begins."""
        return self._u64[self._at // 2 + _OFFSET_MASK]

    @property
    def space(self) -> int:
        """Slots from head to tail: to be filled (tx), with frames in them (rx)."""
        return (self.tail - self.head) % self.num_slots

    def next(self, index: int) -> int:
        """The index behind ``index``."""
        return 0 if index + 1 == self.num_slots else index + 1

    def hand_over(self, slots: int = 1) -> None:
        """Hand so many slots to the kernel: head and cur move on. Raises IndexError for more than
        ``space``."""
        if not 0 <= slots <= self.space:
            raise IndexError(f"{slots} slots on, the space is {self.space}")
        self.head = self.cur = (self.head + slots) % self.num_slots

    def buffer(self, index: int) -> memoryview:
        """Buffer ``index`` of the region. Raises IndexError if that is none."""
        at = self._buffers + index * self.buf_size
        if index < 2 or at + self.buf_size > len(self._u8):
            raise IndexError(f"no buffer {index}")
        return self._u8[at : at + self.buf_size]

    def __len__(self) -> int:
        return self.num_slots

    def __getitem__(self, index: int) -> Slot:
        """Slot ``index``. Raises IndexError."""
        if not 0 <= index < self.num_slots:
            raise IndexError(f"slot {index} of a ring of {self.num_slots}")
        return Slot(self, index)

    def owned(self) -> Iterator[Slot]:
        """The slots from head to tail, as these are now."""
        head = self.head
        for i in range(self.space):
            yield Slot(self, (head + i) % self.num_slots)

    def packet(self) -> list[Slot]:
        """The slots of the packet at head, several with NS_MOREFRAG; none if there is no whole
        one."""
        slots = []
        for slot in self.owned():
            slots.append(slot)
            if not slot.flags & NS_MOREFRAG:
                return slots
        return []
