"""xennet.memory: frames, owners, views."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

import xennet.memory
from xennet.abi.xen import DOMID_INVALID, PAGE_SIZE
from xennet.interface import OutOfFramesError
from xennet.memory import FREE, AddressSpace, Memory, MemoryAccessError


@pytest.fixture
def memory() -> Memory:
    return Memory(16)


def test_all_frames_are_free_at_first(memory: Memory) -> None:
    assert set(memory.owner) == {FREE} == {DOMID_INVALID}
    assert (memory.used, memory.owned_by(1)) == (0, [])


def test_allocated_frames_are_consecutive_and_owned(memory: Memory) -> None:
    memory.alloc(7, 2)
    first = memory.alloc(1, 3)
    assert memory.owned_by(1) == [first, first + 1, first + 2]
    assert memory.used == 5


def test_no_arena_without_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        Memory(0)


@pytest.mark.parametrize("count", [0, -1])
def test_no_allocation_of_nothing(memory: Memory, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} frames"):
        memory.alloc(1, count)


@pytest.mark.parametrize("count", [0, -1])
def test_no_release_of_nothing(memory: Memory, count: int) -> None:
    first = memory.alloc(1, 4)
    with pytest.raises(ValueError, match=f"{count} frames"):
        memory.free(1, first + 2, count)
    assert memory.used == 4


def test_what_says_that_frames_lack_is_the_interfaces_and_still_found_here() -> None:
    assert xennet.memory.OutOfFramesError is OutOfFramesError


def test_an_exhausted_arena_says_what_it_has(memory: Memory) -> None:
    memory.alloc(1, 14)
    with pytest.raises(OutOfFramesError, match=r"domain 2 wants 3 .* 2 of 16"):
        memory.alloc(2, 3)
    memory.alloc(2, 2)
    assert memory.used == 16


def test_free_frames_in_short_runs_do_not_make_a_long_one(memory: Memory) -> None:
    first = memory.alloc(1, 16)
    for frame in range(first, first + 16, 2):
        memory.free(1, frame)
    with pytest.raises(OutOfFramesError):
        memory.alloc(1, 2)
    memory.free(1, 5)
    assert memory.alloc(1, 3) == 4


def test_space_in_front_of_the_last_allocation_is_found_again(memory: Memory) -> None:
    first = memory.alloc(1, 8)
    memory.alloc(1, 8)
    memory.free(1, first, 8)
    assert memory.alloc(2, 8) == first


def test_freed_frames_read_zero_for_the_next_owner(memory: Memory) -> None:
    first = memory.alloc(1, 2)
    memory.run(first, 2).u8[:] = b"\xff" * 2 * PAGE_SIZE
    memory.free(1, first, 2)
    assert bytes(memory.run(memory.alloc(2, 2), 2).u8) == bytes(2 * PAGE_SIZE)


@pytest.mark.parametrize("shared", [False, True])
def test_a_long_freed_run_reads_zero_and_nothing_else_does(shared: bool) -> None:
    memory = Memory(256, shared=shared)
    before, run, behind = memory.alloc(1), memory.alloc(1, 200), memory.alloc(1)
    memory.run(before, 202).u8[:] = b"\xff" * 202 * PAGE_SIZE
    memory.free(1, run, 200)
    assert bytes(memory.run(before).u8) == bytes(memory.run(behind).u8) == b"\xff" * PAGE_SIZE
    assert bytes(memory.run(memory.alloc(2, 200), 200).u8) == bytes(200 * PAGE_SIZE)


def test_freed_memory_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    memory = Memory(8192)
    first = memory.alloc(1, 8192)
    memory.run(first, 8192).u8[::PAGE_SIZE] = b"\1" * 8192
    used = resident()
    memory.free(1, first, 8192)
    assert resident() < used - 8192 // 2


def test_only_the_owner_frees_and_all_or_nothing(memory: Memory) -> None:
    mine, foreign = memory.alloc(1), memory.alloc(2)
    memory.run(mine).u8[0] = 1
    for first, count in ((mine, 2), (foreign, 1), (15, 1), (15, 2), (-1, 1)):
        with pytest.raises(MemoryAccessError):
            memory.free(1, first, count)
    assert (memory.owner[mine], memory.run(mine).u8[0], memory.used) == (1, 1, 2)


def test_a_reassigned_frame_keeps_its_contents(memory: Memory) -> None:
    frame = memory.alloc(1)
    memory.run(frame).u8[5] = 55
    memory.reassign(1, frame, 2)
    assert (memory.owner[frame], memory.run(frame).u8[5], memory.used) == (2, 55, 1)
    with pytest.raises(MemoryAccessError, match="belongs to domain 2, not to 1"):
        memory.reassign(1, frame, 3)


def test_the_views_of_a_run_show_the_same_bytes(memory: Memory) -> None:
    run = memory.run(memory.alloc(1, 2), 2)
    run.u64[512] = 0x8877_6655_4433_2211
    assert bytes(run.u8[4096:4104]) == bytes.fromhex("1122334455667788")
    assert (run.u16[2048], run.u32[1024]) == (0x2211, 0x4433_2211)
    assert [len(view) for view in (run.u8, run.u16, run.u32, run.u64)] == [8192, 4096, 2048, 1024]


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (16, 1), (15, 2), (0, 0), (3, -1), (0, 17)])
def test_no_run_leaves_the_arena(memory: Memory, first: int, count: int) -> None:
    with pytest.raises(MemoryAccessError, match="outside the arena"):
        memory.run(first, count)


def test_revoked_views_raise(memory: Memory) -> None:
    run = memory.run(0)
    run.revoke()
    for view in (run.u8, run.u16, run.u32, run.u64):
        with pytest.raises(ValueError, match="released"):
            view[0]
    run.revoke()


def test_a_foreign_frame_is_out_of_reach(memory: Memory) -> None:
    space, frame = AddressSpace(memory, 1), memory.alloc(2)
    for access in (
        lambda: space.read(frame),
        lambda: space.write(frame, 0, b"x"),
        lambda: space.run(frame),
    ):
        with pytest.raises(MemoryAccessError, match=rf"domain 1 .* frame {frame:#x}"):
            access()
    assert not space.can_access(frame)
    assert bytes(memory.run(frame).u8) == bytes(PAGE_SIZE)


@pytest.mark.parametrize("frame", [-1, 16, 1 << 40])
def test_frames_that_do_not_exist_are_out_of_reach(memory: Memory, frame: int) -> None:
    space = AddressSpace(memory, 1)
    assert not space.can_access(frame)
    with pytest.raises(MemoryAccessError):
        space.read(frame)


def test_a_run_with_one_foreign_frame_is_out_of_reach(memory: Memory) -> None:
    memory.alloc(1, 2)
    memory.alloc(2)
    with pytest.raises(MemoryAccessError, match="frame 0x2"):
        AddressSpace(memory, 1).run(0, 3)


def test_a_mapped_frame_is_reachable_until_the_last_mapping_is_gone(memory: Memory) -> None:
    space, frame = AddressSpace(memory, 1), memory.alloc(2)
    space.map(frame)
    space.map(frame)
    space.unmap(frame)
    space.write(frame, 0, b"x")
    space.unmap(frame)
    assert not space.can_access(frame)


def test_a_readonly_mapping_can_be_read_only(memory: Memory) -> None:
    space, frame = AddressSpace(memory, 1), memory.alloc(2)
    space.map(frame, readonly=True)
    assert space.read(frame, 0, 1) == b"\x00"
    with pytest.raises(MemoryAccessError, match="read-only"):
        space.write(frame, 0, b"x")
    run = space.run(frame)
    for view in (run.u8, run.u16, run.u32, run.u64):
        assert view.readonly
    space.map(frame)
    space.write(frame, 0, b"x")
    assert not space.run(frame).u8.readonly
    space.unmap(frame)
    assert space.run(frame).u8.readonly


@pytest.mark.parametrize(("offset", "length"), [(0, 4097), (4096, 1), (-1, 2), (4000, 97)])
def test_bytes_lie_inside_one_frame(memory: Memory, offset: int, length: int) -> None:
    memory.alloc(1, 2)
    space = AddressSpace(memory, 1)
    with pytest.raises(MemoryAccessError, match="leave frame"):
        space.read(0, offset, length)
    with pytest.raises(MemoryAccessError, match="leave frame"):
        space.write(0, offset, bytes(length))


def test_a_negative_length_is_refused(memory: Memory) -> None:
    memory.alloc(1)
    with pytest.raises(MemoryAccessError, match="leave frame"):
        AddressSpace(memory, 1).read(0, 10, -1)


@pytest.mark.usefixtures("sharing")
def test_who_has_a_shared_arena_cannot_take_it_away() -> None:
    memory = Memory(4, shared=True)
    assert memory.fd is not None
    for size in (0, 8 * PAGE_SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(memory.fd, size)
    memory.close()


def test_a_shared_arena_is_seen_through_another_mapping_of_its_fd() -> None:
    memory = Memory(4, shared=True)
    assert memory.fd is not None
    other = mmap.mmap(memory.fd, 4 * PAGE_SIZE)
    frame = memory.alloc(1)
    memory.run(frame).u32[3] = 0xDEAD_BEEF
    at = frame * PAGE_SIZE + 12
    assert other[at : at + 4] == bytes.fromhex("efbeadde")
    other[at] = 0
    assert memory.run(frame).u8[12] == 0
    other.close()
    memory.close()
    assert memory.fd is None


@pytest.mark.usefixtures("sharing")
def test_an_arena_closes_under_views_that_are_still_held() -> None:
    memory = Memory(4, shared=True)
    run = memory.run(0)
    memory.close()
    run.u8[0] = 1
    assert run.u8[0] == 1
    with pytest.raises(ValueError, match="released"):
        memory.u8[0]
