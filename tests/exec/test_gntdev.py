"""/dev/xen/gntdev as drivers/xen/gntdev.c of Linux has it."""

from __future__ import annotations

import errno

import pytest
from exec_world import BOTH, EVTCHN, GNTDEV, PRIVATE, READ, SHARED, Caller, World, refused

from xennet.abi.linux_xen import (
    GNTDEV_GET_OFFSET_FOR_VADDR,
    GNTDEV_MAP_GRANT_REF,
    IOCTL_EVTCHN_NOTIFY,
    IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR,
    IOCTL_GNTDEV_MAP_GRANT_REF,
)
from xennet.exec import messages


@pytest.fixture
def program(world: World) -> Caller:
    return world.caller()


def test_a_page_is_shared(world: World, program: Caller) -> None:
    page, gref = world.page()
    page.u8[:5] = b"hello"
    fd = program.open(GNTDEV)
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]))
    assert program.peek(at, 5) == b"hello"
    program.poke(at, b"world")
    assert bytes(page.u8[:5]) == b"world"
    assert not world.kernel.grants.end_access(gref), "it is in use"
    program.munmap(at)
    world.give_back(page, gref)


def test_a_mapping_holds_its_file_and_the_process_holds_the_mapping(
    world: World, program: Caller
) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]))
    program.ask("close", fd)
    world.settle()
    program.poke(at, b"still here")
    assert bytes(page.u8[:10]) == b"still here"
    program.end()
    world.give_back(page, gref)


def test_what_is_wrong_is_refused_as_linux_does(world: World, program: Caller) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    for count in (0, 1 << 17):
        with refused(errno.EINVAL):
            program.ioctl(
                fd, IOCTL_GNTDEV_MAP_GRANT_REF, GNTDEV_MAP_GRANT_REF.pack(count, 0, 0) + bytes(8)
            )
    for address in (0, 0x10000, 1 << 62):
        with refused(errno.EFAULT):
            program.ask("ioctl_at", fd, IOCTL_GNTDEV_MAP_GRANT_REF, address)
    with refused(errno.ENOTTY):
        program.ioctl(fd, IOCTL_EVTCHN_NOTIFY, bytes(4))
    with refused(errno.ENOTTY):
        program.ioctl(fd, 0x5413, bytes(8))  # TIOCGWINSZ
    offset = program.map_grants(fd, [(1, gref)])
    with refused(errno.EINVAL):
        program.mmap(fd, offset, flags=PRIVATE)
    with refused(errno.EINVAL):
        program.mmap(fd, offset, pages=2)
    with refused(errno.EINVAL):
        program.mmap(fd, offset + 4096)
    at = program.mmap(fd, offset)
    with refused(errno.EINVAL):
        program.mmap(fd, offset)
    with refused(errno.ENOENT):
        program.unmap_grants(fd, offset, 2)
    program.unmap_grants(fd, offset)
    with refused(errno.ENOENT):
        program.unmap_grants(fd, offset)
    assert program.peek(at) == bytes(8), "the mapping outlives its place in the file"
    program.munmap(at)
    for bad in ((1, 4000), (77, 8)):
        offset = program.map_grants(fd, [(1, gref), bad])
        with refused(errno.EINVAL):
            program.mmap(fd, offset, pages=2)
    world.give_back(page, gref)


def test_the_argument_has_to_be_writable(world: World, program: Caller) -> None:
    """copy_to_user() fails after the map was made, which stays."""
    fd = program.open(GNTDEV)
    at = program.ask("mmap", 0, 4096, BOTH, 0x22, -1, 0)  # MAP_PRIVATE | MAP_ANONYMOUS
    program.poke(at, GNTDEV_MAP_GRANT_REF.pack(1, 0, 0) + bytes(8))
    program.ask("mprotect", at, 4096, READ)
    with refused(errno.EFAULT):
        program.ask("ioctl_at", fd, IOCTL_GNTDEV_MAP_GRANT_REF, at)
    assert program.map_grants(fd, [(1, 8)]) == 4096, "the first one is there"


def test_pages_of_the_file_are_used_again(program: Caller) -> None:
    fd = program.open(GNTDEV)
    offsets = [program.map_grants(fd, [(1, 8)] * count) for count in (1, 3, 1)]
    assert offsets == [0, 4096, 4 * 4096]
    program.unmap_grants(fd, 4096, 3)
    assert program.map_grants(fd, [(1, 8)]) == 4096, "the first one is there"
    assert program.map_grants(fd, [(1, 8)] * 3) == 5 * 4096, "as gntdev_add_map looks for room"


def test_a_file_has_so_many_references_at_most(program: Caller) -> None:
    fd = program.open(GNTDEV)
    at = program.ask("mmap", 0, 1 << 20, BOTH, 0x22, -1, 0)
    program.poke(at, GNTDEV_MAP_GRANT_REF.pack(1 << 16, 0, 0))
    for _ in range(4):
        program.ask("ioctl_at", fd, IOCTL_GNTDEV_MAP_GRANT_REF, at)
    with refused(errno.ENOMEM):
        program.ask("ioctl_at", fd, IOCTL_GNTDEV_MAP_GRANT_REF, at)
    program.unmap_grants(fd, 0, 1 << 16)
    assert program.map_grants(fd, [(1, 8)]) == 0


def test_a_map_in_too_many_pieces_leaves_nothing_mapped(
    world: World, program: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_EXTENTS", 1)
    page, gref = world.page()
    fd = program.open(GNTDEV)
    offset = program.map_grants(fd, [(1, gref)] * 2)
    for _ in range(2):
        with refused(errno.ENOMEM):
            program.mmap(fd, offset, 2)
        assert not world.in_use(gref)
    world.give_back(page, gref)


def test_a_reader_cannot_write(world: World, program: Caller) -> None:
    page, gref = world.page(readonly=True)
    page.u8[:4] = b"read"
    fd = program.open(GNTDEV)
    offset = program.map_grants(fd, [(1, gref)])
    with refused(errno.EINVAL):
        program.mmap(fd, offset)
    program.unmap_grants(fd, offset)
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]), prot=READ)
    assert program.peek(at, 4) == b"read"
    with refused(errno.EFAULT):
        program.poke(at, b"no")
    with refused(errno.EACCES):
        program.ask("mprotect", at, 4096, BOTH)
    program.munmap(at)
    world.give_back(page, gref)


def test_pages_are_unmapped_one_by_one(world: World, program: Caller) -> None:
    pages = [world.page() for _ in range(4)]
    for number, (page, _) in enumerate(pages):
        page.u8[0] = number
    fd = program.open(GNTDEV)
    offset = program.map_grants(fd, [(1, gref) for _, gref in pages])
    at = program.mmap(fd, offset, pages=4)
    program.munmap(at + 4096, 2)
    used = [not world.kernel.grants.end_access(gref) for _, gref in pages]
    assert used == [True, False, False, True]
    assert program.peek(at, 1) + program.peek(at + 3 * 4096, 1) == b"\0\3"
    with refused(errno.EFAULT):
        program.peek(at + 4096, 1)
    found = GNTDEV_GET_OFFSET_FOR_VADDR.pack(at + 3 * 4096, 0, 0, 0)
    _, out = program.ioctl(fd, IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR, found)
    assert GNTDEV_GET_OFFSET_FOR_VADDR.unpack_from(out)[1:3] == (offset, 4)
    program.munmap(at, 4)
    for number, (page, gref) in enumerate(pages):
        if used[number]:
            assert world.kernel.grants.end_access(gref)
        world.kernel.free_pages(page)


def test_an_anonymous_page_in_its_place_unmaps_one(world: World, program: Caller) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]))
    assert program.ask("mmap", at, 4096, BOTH, 0x32, -1, 0) == at  # MAP_FIXED as well
    world.give_back(page, gref)
    program.poke(at, b"own")
    assert program.peek(at, 3) == b"own"


def test_at_unmapping_a_byte_is_cleared_and_an_event_sent(world: World, program: Caller) -> None:
    page, gref = world.page()
    page.u8[100] = 1
    events: list[int] = []
    port = world.kernel.alloc_unbound(2)
    world.kernel.on_event(port, lambda: events.append(port))
    fd, channels = program.open(GNTDEV), program.open(EVTCHN)
    theirs = program.bind(channels, 1, port)
    world.settle()
    events.clear()
    offset = program.map_grants(fd, [(1, gref)])
    with refused(errno.EINVAL):
        program.notify_at_unmap(fd, offset + 100, 7, theirs)
    with refused(errno.EINVAL):
        program.notify_at_unmap(fd, offset + 100, 3, 999)
    with refused(errno.ENOENT):
        program.notify_at_unmap(fd, offset + 4096, 3, theirs)
    program.notify_at_unmap(fd, offset + 100, 3, theirs)
    program.mmap(fd, offset)
    assert page.u8[100] == 1
    program.end()
    world.hold(lambda: bool(events))
    assert page.u8[100] == 0
    world.kernel.close_port(port)
    world.give_back(page, gref)


@pytest.mark.parametrize("granted_readonly", [False, True])
def test_no_byte_of_a_page_that_is_mapped_for_reading_is_cleared(
    world: World, program: Caller, granted_readonly: bool
) -> None:
    page, gref = world.page(readonly=granted_readonly)
    page.u8[100] = 1
    fd = program.open(GNTDEV)
    offset = program.map_grants(fd, [(1, gref)])
    program.notify_at_unmap(fd, offset + 100, 1)  # before it is known how it will be mapped
    at = program.mmap(fd, offset, prot=READ)
    with refused(errno.EINVAL):
        program.notify_at_unmap(fd, offset + 100, 1)
    program.munmap(at)
    assert page.u8[100] == 1
    world.give_back(page, gref)


def test_the_port_of_a_notification_stays_open_until_it_is_sent(
    world: World, program: Caller
) -> None:
    page, gref = world.page()
    port = world.kernel.alloc_unbound(2)
    events: list[int] = []
    world.kernel.on_event(port, lambda: events.append(port))
    fd, channels = program.open(GNTDEV), program.open(EVTCHN)
    theirs = program.bind(channels, 1, port)
    offset = program.map_grants(fd, [(1, gref)])
    program.notify_at_unmap(fd, offset, 2, theirs)
    program.ask("close", channels)
    world.settle()
    events.clear()
    program.unmap_grants(fd, offset)  # never mapped: its end all the same
    world.settle()
    assert events == [port]
    world.kernel.close_port(port)
    world.give_back(page, gref)


def test_a_child_has_no_mapping_and_an_own_connection(world: World, program: Caller) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]))
    program.ask("fork")
    with refused(errno.EFAULT):
        program.peek(at)
    other, theirs = world.page()
    again = program.mmap(fd, program.map_grants(fd, [(1, theirs)]))
    program.poke(again, b"child")
    assert bytes(other.u8[:5]) == b"child"
    assert len(world.pids) == 2
    program.ask("exit", 0)
    program.poke(at, b"parent")
    world.hold(lambda: len(world.pids) == 1)
    world.give_back(other, theirs)
    program.munmap(at)
    world.give_back(page, gref)


def test_another_program_in_the_process_has_the_file_and_no_mapping(
    world: World, program: Caller
) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    offset = program.map_grants(fd, [(1, gref)])
    program.mmap(fd, offset)
    program.ask("exec")
    world.hold(lambda: not world.in_use(gref))
    world.give_back(page, gref)
    other, gref = world.page()
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]))
    program.poke(at, b"exec")
    assert bytes(other.u8[:4]) == b"exec"
    program.munmap(at)
    world.give_back(other, gref)


def test_a_program_that_closes_what_it_does_not_know_goes_on(world: World, program: Caller) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    at = program.mmap(fd, program.map_grants(fd, [(1, gref)]))
    program.ask("closefrom", fd + 1)
    world.settle()
    program.poke(at, b"on")
    assert bytes(page.u8[:2]) == b"on"
    assert not world.kernel.grants.end_access(gref), "its end is not that of a connection"
    program.munmap(at)
    world.give_back(page, gref)


def test_a_duplicate_is_the_same_file(world: World, program: Caller) -> None:
    page, gref = world.page()
    fd = program.open(GNTDEV)
    twin = program.ask("dup", fd)
    offset = program.map_grants(fd, [(1, gref)])
    program.ask("close", fd)
    at = program.mmap(twin, offset, prot=READ, flags=SHARED)
    program.munmap(at)
    program.unmap_grants(twin, offset)
    world.give_back(page, gref)
