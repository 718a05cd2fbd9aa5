"""Random allocation, release, reassignment and mapping against dictionaries."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xennet.abi.xen import PAGE_SIZE
from xennet.interface import OutOfFramesError
from xennet.memory import FREE, AddressSpace, Memory, MemoryAccessError

NR_FRAMES = 12
DOMID = st.integers(1, 3)
FRAME = st.integers(-1, NR_FRAMES)
COUNT = st.integers(1, 5)


class Arena(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(NR_FRAMES)
        self.spaces = {domid: AddressSpace(self.memory, domid) for domid in (1, 2, 3)}
        self.owner: dict[int, int] = {}
        self.first_byte: dict[int, int] = {}
        # (domid, frame) -> readonly of each mapping
        self.mappings: dict[tuple[int, int], list[bool]] = {}

    def is_mapped(self, frame: int) -> bool:
        return any(mappings for key, mappings in self.mappings.items() if key[1] == frame)

    def teardown(self) -> None:
        self.memory.close()

    @rule(domid=DOMID, count=COUNT)
    def alloc(self, domid: int, count: int) -> None:
        starts = [
            first
            for first in range(NR_FRAMES - count + 1)
            if not any(frame in self.owner for frame in range(first, first + count))
        ]
        if not starts:
            with pytest.raises(OutOfFramesError):
                self.memory.alloc(domid, count)
            return
        first = self.memory.alloc(domid, count)
        assert first in starts
        for frame in range(first, first + count):
            assert self.memory.run(frame).u8[:] == bytes(PAGE_SIZE)
            self.owner[frame] = domid

    @rule(domid=DOMID, first=FRAME, count=COUNT)
    def free(self, domid: int, first: int, count: int) -> None:
        frames = range(first, first + count)
        if any(self.is_mapped(frame) for frame in frames):
            return  # whoever frees pages sees to that first (hypervisor.frames)
        if all(self.owner.get(frame) == domid for frame in frames):
            self.memory.free(domid, first, count)
            for frame in frames:
                del self.owner[frame]
                self.first_byte.pop(frame, None)
        else:
            with pytest.raises(MemoryAccessError):
                self.memory.free(domid, first, count)

    @rule(domid=DOMID, choice=st.integers(0, NR_FRAMES))
    def free_own(self, domid: int, choice: int) -> None:
        owned = sorted(frame for frame, owner in self.owner.items() if owner == domid)
        if owned:
            self.free(domid, owned[choice % len(owned)], 1)

    @rule(domid=DOMID, frame=FRAME, new_owner=DOMID)
    def reassign(self, domid: int, frame: int, new_owner: int) -> None:
        if self.owner.get(frame) == domid:
            self.memory.reassign(domid, frame, new_owner)
            self.owner[frame] = new_owner
        else:
            with pytest.raises(MemoryAccessError):
                self.memory.reassign(domid, frame, new_owner)

    @rule(domid=DOMID, frame=st.integers(0, NR_FRAMES - 1), readonly=st.booleans())
    def map(self, domid: int, frame: int, readonly: bool) -> None:
        if frame not in self.owner:
            return
        self.spaces[domid].map(frame, readonly)
        self.mappings.setdefault((domid, frame), []).append(readonly)

    @rule(choice=st.integers(0, 100))
    def unmap(self, choice: int) -> None:
        held = sorted(key for key, mappings in self.mappings.items() if mappings)
        if held:
            domid, frame = key = held[choice % len(held)]
            self.spaces[domid].unmap(frame, self.mappings[key].pop(0))

    @rule(domid=DOMID, frame=FRAME, byte=st.integers(1, 255))
    def write(self, domid: int, frame: int, byte: int) -> None:
        mappings = self.mappings.get((domid, frame), [])
        if self.owner.get(frame) == domid or False in mappings:
            self.spaces[domid].write(frame, 0, bytes([byte]))
            self.first_byte[frame] = byte
        else:
            with pytest.raises(MemoryAccessError):
                self.spaces[domid].write(frame, 0, bytes([byte]))

    @invariant()
    def owners_agree(self) -> None:
        owners = [self.owner.get(frame, FREE) for frame in range(NR_FRAMES)]
        assert list(self.memory.owner) == owners
        assert self.memory.used == len(self.owner)

    @invariant()
    def reach_and_contents_agree(self) -> None:
        for domid, space in self.spaces.items():
            for frame in range(NR_FRAMES):
                mappings = self.mappings.get((domid, frame), [])
                owned = self.owner.get(frame) == domid
                assert space.can_access(frame) == (owned or bool(mappings))
                assert space.can_write(frame) == (owned or False in mappings)
                if space.can_access(frame):
                    assert space.read(frame, 0, 1)[0] == self.first_byte.get(frame, 0)


TestArena = Arena.TestCase
TestArena.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
