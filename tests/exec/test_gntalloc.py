"""/dev/xen/gntalloc as drivers/xen/gntalloc.c of Linux has it."""

from __future__ import annotations

import errno

import pytest
from exec_world import BOTH, EVTCHN, GNTALLOC, PRIVATE, READ, Caller, World, refused

from xennet.interface import HypercallError


@pytest.fixture
def program(world: World) -> Caller:
    return world.caller()


def test_a_page_of_the_program_is_mapped_by_another_domain(world: World, program: Caller) -> None:
    fd = program.open(GNTALLOC)
    offset, (gref,) = program.alloc(fd, 1)
    at = program.mmap(fd, offset)
    program.poke(at, b"mine")
    mapping = world.kernel.map_grant(2, gref)
    assert bytes(mapping.page.u8[:4]) == b"mine"
    program.end()
    assert bytes(mapping.page.u8[:4]) == b"mine", "a page in use is not freed"
    world.kernel.unmap_grant(mapping)
    world.hold(lambda: not world.host.leaks())


def test_a_page_is_read_only_for_the_other_domain_without_the_flag(
    world: World, program: Caller
) -> None:
    fd = program.open(GNTALLOC)
    _, (gref,) = program.alloc(fd, 1, flags=0)
    with pytest.raises(HypercallError):
        world.kernel.map_grant(2, gref)
    world.kernel.unmap_grant(world.kernel.map_grant(2, gref, readonly=True))


def test_pages_of_several_calls_are_mapped_and_given_back_together(
    world: World, program: Caller
) -> None:
    fd = program.open(GNTALLOC)
    first, grefs = program.alloc(fd, 1, 3)
    second, more = program.alloc(fd, 1, 2)
    assert second == first + 3 * 4096
    assert len({*grefs, *more}) == 5
    at = program.mmap(fd, first + 4096, pages=4)
    program.poke(at + 3 * 4096, b"last")
    mapping = world.kernel.map_grant(2, more[1])
    assert bytes(mapping.page.u8[:4]) == b"last"
    world.kernel.unmap_grant(mapping)
    program.dealloc(fd, first, 5)
    with refused(errno.ENOENT):
        program.mmap(fd, first)
    program.munmap(at + 4096, 3)
    assert program.peek(at) == bytes(8)
    with refused(errno.EFAULT):
        program.peek(at + 4096)


def test_what_is_wrong_is_refused_as_linux_does(world: World, program: Caller) -> None:
    fd = program.open(GNTALLOC)
    for count in (1025, 1 << 31):
        with refused(errno.ENOSPC):
            program.alloc(fd, 1, count) if count < 2000 else program.ioctl(
                fd, 0x184705, b"\1\0\1\0" + count.to_bytes(4, "little") + bytes(16)
            )
    offset, _ = program.alloc(fd, 1, 1000)
    with refused(errno.ENOSPC):
        program.alloc(fd, 1, 25)
    for bad in ((offset + 4096 * 1000, 1), (offset, 1001), (offset + 1, 1), (offset, 0)):
        with refused(errno.EINVAL):
            program.dealloc(fd, *bad)
    with refused(errno.EINVAL):
        program.mmap(fd, offset, prot=READ, flags=PRIVATE)
    with refused(errno.ENOENT):
        program.mmap(fd, offset, pages=1001)
    program.dealloc(fd, offset, 1000)
    program.alloc(fd, 1, 1024)


def test_the_end_of_a_page_clears_a_byte_and_sends_an_event(world: World, program: Caller) -> None:
    events: list[int] = []
    port = world.kernel.alloc_unbound(2)
    world.kernel.on_event(port, lambda: events.append(port))
    fd, channels = program.open(GNTALLOC), program.open(EVTCHN)
    mine = program.bind(channels, 1, port)
    offset, (gref,) = program.alloc(fd, 1)
    at = program.mmap(fd, offset, prot=BOTH)
    program.poke(at, b"alive")
    mapping = world.kernel.map_grant(2, gref)
    program.notify_at_unmap(fd, offset + 1, 3, mine)
    program.dealloc(fd, offset)
    world.settle()
    events.clear()
    assert bytes(mapping.page.u8[:5]) == b"alive", "it is still mapped"
    program.munmap(at)
    world.settle()
    assert events == [port]
    assert bytes(mapping.page.u8[:5]) == b"a\0ive"
    world.kernel.unmap_grant(mapping)
    program.end()
    world.kernel.close_port(port)
    world.hold(lambda: not world.host.leaks())
