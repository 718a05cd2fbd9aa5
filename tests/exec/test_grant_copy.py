"""IOCTL_GNTDEV_GRANT_COPY: between a program's memory and grants; statuses are the hypervisor's."""

from __future__ import annotations

import errno

import pytest
from attrs import frozen
from exec_world import BOTH, GNTDEV, READ, Caller, World, refused

from xennet.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_gntref,
    GNTST_okay,
)
from xennet.abi.linux_xen import (
    GNTDEV_GRANT_COPY,
    GNTDEV_GRANT_COPY_SEGMENT,
    IOCTL_GNTDEV_GRANT_COPY,
)

SIZE = GNTDEV_GRANT_COPY_SEGMENT.size


@frozen
class Copier:
    """A program with a file of gntdev and four pages of memory: segments are in the first one."""

    program: Caller
    fd: int
    at: int

    def copy(self, *segments: bytes) -> list[int]:
        """Make copies. Returns their statuses."""
        self.program.poke(self.at, b"".join(segments))
        self.ask(len(segments), self.at)
        out = self.program.peek(self.at, SIZE * len(segments))
        return [
            GNTDEV_GRANT_COPY_SEGMENT.unpack_from(out, i * SIZE)[4] for i in range(len(segments))
        ]

    def ask(self, count: int, address: int) -> None:
        self.program.ioctl(self.fd, IOCTL_GNTDEV_GRANT_COPY, GNTDEV_GRANT_COPY.pack(count, address))


@pytest.fixture
def copier(world: World) -> Copier:
    program = world.caller()
    at = program.ask("mmap", 0, 4 * 4096, BOTH, 0x22, -1, 0)
    return Copier(program, program.open(GNTDEV), at)


def grant(gref: int, offset: int = 0, domid: int = 1) -> int:
    return gref | offset << 32 | domid << 48


def taken(gref: int, to: int, size: int, offset: int = 0) -> bytes:
    return GNTDEV_GRANT_COPY_SEGMENT.pack(grant(gref, offset), to, size, GNTCOPY_source_gref, -99)


def given(source: int, gref: int, size: int, offset: int = 0) -> bytes:
    return GNTDEV_GRANT_COPY_SEGMENT.pack(source, grant(gref, offset), size, GNTCOPY_dest_gref, -99)


def test_bytes_are_copied_both_ways_and_between_grants(world: World, copier: Copier) -> None:
    page, gref = world.page()
    other, theirs = world.page()
    page.u8[100:104] = b"from"
    across = copier.at + 2 * 4096 - 2  # a buffer of the program's may lie across pages
    copier.program.poke(copier.at + 4096, b"to it")
    between = GNTDEV_GRANT_COPY_SEGMENT.pack(
        grant(gref, 100), grant(theirs, 8), 4, GNTCOPY_source_gref | GNTCOPY_dest_gref, 0
    )
    statuses = copier.copy(
        taken(gref, across, 4, 100),
        given(copier.at + 4096, theirs, 5),
        between,
        taken(gref, across + 8, 0),
    )
    assert statuses == [GNTST_okay] * 4
    assert copier.program.peek(across, 4) == b"from"
    assert bytes(other.u8[:5]) == b"to it"
    assert bytes(other.u8[8:12]) == b"from"
    world.server.domains[2].no_bounce()
    world.give_back(page, gref)
    world.give_back(other, theirs)


def test_what_is_refused_leaves_memory_as_it_is_and_the_rest_is_copied(
    world: World, copier: Copier
) -> None:
    page, gref = world.page(readonly=True)
    page.u8[:4] = b"good"
    to = copier.at + 3 * 4096
    copier.program.poke(to, b"....")
    segments = [taken(4000, to, 4), taken(gref, to + 8, 4), given(to, gref, 4)]
    statuses = copier.copy(*segments * 100)  # more than one batch
    assert statuses[:2] == [GNTST_bad_gntref, GNTST_okay]
    assert statuses[2] not in (GNTST_okay, -99)
    assert statuses == statuses[:3] * 100
    assert copier.program.peek(to, 12) == b"....\0\0\0\0good"
    assert bytes(page.u8[:4]) == b"good"
    world.server.domains[2].no_bounce()
    world.give_back(page, gref)


def test_what_is_wrong_is_refused_as_linux_does(world: World, copier: Copier) -> None:
    page, gref = world.page()
    copier.ask(0, 0)  # QEMU asks in this way whether there is such an ioctl
    for count, address in ((1, 0), (1, 0x10000), (4, 1 << 63)):
        with refused(errno.EFAULT):
            copier.ask(count, address)
    with refused(errno.EINVAL):
        copier.ask(1 << 17, copier.at)
    for wrong in (
        GNTDEV_GRANT_COPY_SEGMENT.pack(copier.at, copier.at, 4, 0, 0),
        taken(gref, copier.at, 100, 4000),
        given(copier.at, gref, 4097),
    ):
        with refused(errno.EINVAL):
            copier.copy(taken(gref, copier.at + 4096, 4), wrong)
    for wrong in (taken(gref, 0x10000, 4), given(1 << 63, gref, 4)):
        with refused(errno.EFAULT):
            copier.copy(wrong)
    copier.program.ask("mprotect", copier.at + 4096, 4096, READ)
    with refused(errno.EFAULT):
        copier.copy(taken(gref, copier.at + 4096, 4))
    world.server.domains[2].no_bounce()
    world.give_back(page, gref)
