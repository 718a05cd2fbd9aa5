"""Guests that write anything into their tables and ask for anything: nothing breaks out.

Domains 0, 1 and 2 are hostile. Domain 3 grants nothing to anybody: its memory must stay what it is.
"""

from __future__ import annotations

import random
from array import array

from gnttab_world import World, status_name
from how_many import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xennet.abi.words import COPY_STRIDE
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.gnttab.copy import copy_one, grant_copy

CANARY = 3
SEED = st.integers(0, 2**32 - 1)
VERSIONS = st.tuples(*[st.sampled_from([1, 2])] * 3)


def hostile_world(seed: int, versions: tuple[int, ...]) -> tuple[World, random.Random]:
    """Tables (and status words) full of noise, half of it plausible: the right types, domids and
    frames, so that some of it works."""
    noise = random.Random(seed)
    world = World((*versions, 1))
    frames = [noise.randrange(600) for _ in range(4)] + list(world.page.values())
    for domid in range(3):
        frames.append(world.new_page(domid))
        frames += world.hypervisor.table_frames(domid)
    for domid, version in enumerate(versions):
        words = world.table[domid].words
        words.cast("B")[:] = noise.randbytes(PAGE_SIZE)
        world.table[domid].status.cast("B")[: len(words)] = noise.randbytes(len(words))
        for gref in range(0, len(world.table[domid]), 2):
            entry = gref << version
            words[entry] = noise.randrange(4) << 16 | noise.choice([1, 1, 1, 3, 0x101, 5, 2])
            words[entry + 1] = noise.choice([noise.randrange(4), 100 | 3000 << 16])
            words[entry + version] = noise.choice([*frames, noise.randrange(300)])
            if version == 2:
                words[entry + 3] = noise.choice([0, 0, 0, 1])
    return world, noise


def noise_ops(world: World, noise: random.Random, count: int) -> array[int]:
    """A copy table, words as noise or as something near a meaning."""
    ops = array("I", noise.randbytes(4 * COPY_STRIDE * count))
    for op in range(0, len(ops), COPY_STRIDE):
        if noise.random() < 0.1:
            continue
        for end in (op, op + 4):
            domid = noise.choice([0, 1, 2, CANARY, DOMID_SELF, DOMID_SELF, 0x7FF1, 9])
            ops[end] = noise.choice([noise.randrange(300), *world.page.values()])
            ops[end + 1] = noise.choice([0, 0, 0, 1])
            ops[end + 2] = domid | noise.choice([0, 100, 4000, 4095, 5000, 0xFFFF]) << 16
        length = noise.choice([0, 1, 60, 1000, 4096, 4097, 0xFFFF])
        ops[op + 8] = length | noise.choice([0, 1, 2, 3, 1, 2, 0xFFFF]) << 16
    return ops


def snapshot(world: World, domid: int) -> dict[int, bytes]:
    """All pages of a domain."""
    return {frame: world.bytes_of(frame) for frame in world.memory.owned_by(domid)}


@settings(max_examples=examples(90), deadline=None)
@given(SEED, VERSIONS)
@example(0, (1, 1, 1))
@example(0, (2, 2, 2))
def test_copies_through_noise_touch_nobody_elses_memory(
    seed: int, versions: tuple[int, ...]
) -> None:
    world, noise = hostile_world(seed, versions)
    before = snapshot(world, CANARY)
    for caller in range(3):
        ops = noise_ops(world, noise, 30)
        world.hypervisor.copy(caller, memoryview(ops), 30)
        for op in range(0, len(ops), COPY_STRIDE):
            status_name((ops[op + 9] & 0xFFFF ^ 0x8000) - 0x8000)
    assert snapshot(world, CANARY) == before
    assert [world.pins(domid) for domid in range(4)] == [{}] * 4


@settings(max_examples=examples(90), deadline=None)
@given(SEED, VERSIONS)
def test_a_copy_writes_only_pages_of_the_domains_it_names(
    seed: int, versions: tuple[int, ...]
) -> None:
    """Frame by frame: what changed belongs to the caller, to a granter the element names or, if
    that has a version 2 table, to a domain it can pass on."""
    world, noise = hostile_world(seed, versions)
    for _ in range(30):
        caller = noise.randrange(3)
        ops = noise_ops(world, noise, 1)
        named = {caller, ops[2] & 0xFFFF, ops[6] & 0xFFFF}
        if any(domid < 3 and versions[domid] == 2 for domid in named):
            named |= {0, 1, 2}
        before = bytes(world.memory.u8)
        world.hypervisor.copy(caller, memoryview(ops), 1)
        for frame in range(world.memory.nr_frames):
            where = slice(frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE)
            if bytes(world.memory.u8[where]) != before[where]:
                owner = world.memory.owner[frame]
                # Active entries are the hypervisor's; what a copy that ended left there is dead.
                assert owner in named or frame in active_frames(world)


def active_frames(world: World) -> set[int]:
    rows = world.hypervisor.directory.rows
    return {rows[domid * 8 + 5] + i for domid in range(4) for i in range(8)}


@settings(max_examples=examples(90), deadline=None)
@given(SEED, VERSIONS, st.sampled_from((0, 1)))
@example(0, (1, 2, 1), 0)
@example(0, (1, 2, 1), 1)
def test_the_short_cut_for_ordinary_elements_changes_nothing(
    seed: int, versions: tuple[int, ...], alone: int
) -> None:
    """grant_copy and, element by element, copy_one: same statuses, same memory."""
    worlds = [hostile_world(seed, versions)[0] for _ in range(2)]
    noise = random.Random(seed + 1)
    for _ in range(4):
        caller = noise.randrange(3)
        ops = noise_ops(worlds[0], noise, 30)
        expected = array("I", ops)
        machine = [
            (w.hypervisor.directory.rows, w.memory.owner, w.memory.u8, w.memory.u16, w.memory.u32)
            for w in worlds
        ]
        failed = grant_copy(memoryview(ops), 30, caller, *machine[0], alone)
        statuses = [
            copy_one(memoryview(expected), op, caller, *machine[1])
            for op in range(0, len(expected), COPY_STRIDE)
        ]
        assert [(ops[op + 9] & 0xFFFF ^ 0x8000) - 0x8000 for op in range(0, 300, 10)] == statuses
        assert failed == sum(status != 0 for status in statuses)
        active = active_frames(worlds[0])
        for frame in set(range(512)) - active:
            assert worlds[0].bytes_of(frame) == worlds[1].bytes_of(frame)


@settings(max_examples=examples(90), deadline=None)
@given(SEED, VERSIONS)
def test_mapping_noise_reaches_only_what_its_owner_granted(
    seed: int, versions: tuple[int, ...]
) -> None:
    world, noise = hostile_world(seed, versions)
    handles = []
    for _ in range(100):
        caller, granter = noise.randrange(3), noise.randrange(5)
        gref, flags = noise.choice([noise.randrange(300), 2**31]), noise.getrandbits(32)
        if noise.random() < 0.9:
            flags &= 7
        status, handle, frame = world.hypervisor.map_grant_ref(caller, granter, gref, flags)
        status_name(status)
        if status == 0:
            assert world.memory.owner[frame] == granter
            assert granter != CANARY
            handles.append((caller, handle))
    for caller, handle in handles:
        assert world.hypervisor.unmap_grant_ref(caller, handle) == 0
    assert [world.pins(domid) for domid in range(4)] == [{}] * 4
    assert not any(space.mapped or space.writable for space in world.spaces.values())


@settings(max_examples=40, deadline=None)
@given(SEED, VERSIONS)
def test_random_hypercalls_leave_nothing_behind(seed: int, versions: tuple[int, ...]) -> None:
    """Any operation with any numbers, then everybody dies: all frames come back."""
    world, noise = hostile_world(seed, versions)
    hypervisor, canary = world.hypervisor, snapshot(world, CANARY)

    def number() -> int:
        return noise.choice([0, 1, 2, 3, 8, 10, 300, 511, 512, DOMID_SELF, 2**31, 2**32 - 1])

    operations = [
        (hypervisor.map_grant_ref, 3),
        (hypervisor.map_grant_ref, 3),
        (hypervisor.unmap_grant_ref, 1),
        (hypervisor.transfer, 3),
        (hypervisor.query_size, 1),
        (hypervisor.setup_table, 2),
        (hypervisor.get_status_frames, 2),
        (hypervisor.get_version, 1),
        (hypervisor.set_version, 1),
        (hypervisor.swap_grant_ref, 2),
        (hypervisor.granted, 0),
        (hypervisor.pinned, 0),
    ]
    for _ in range(150):
        operation, arity = noise.choice(operations)
        operation(noise.randrange(3), *[number() for _ in range(arity)])  # type: ignore[operator]
    assert {f: d for f, d in snapshot(world, CANARY).items() if f in canary} == canary
    for domid in noise.sample(range(4), 4):
        hypervisor.destroy(domid)
    assert [hypervisor.directory.state(domid) for domid in range(4)] == [0] * 4
    for domid in range(4):
        for frame in world.memory.owned_by(domid):
            world.memory.free(domid, frame)
    assert world.memory.used == 1
