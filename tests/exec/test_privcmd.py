"""/dev/xen/privcmd as drivers/xen/privcmd.c of Linux has it."""

from __future__ import annotations

import errno

import pytest
from exec_world import BOTH, SHARED, World, refused

from xennet.abi.linux_xen import IOCTL_PRIVCMD_MMAPBATCH_V2, PRIVCMD_MMAPBATCH_V2
from xennet.exec import messages

ANONYMOUS = 0x22


def test_pages_of_a_guest_come_where_there_is_a_place_for_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = world.kernel.alloc_pages(1)
    guest.u8[:5] = b"guest"
    program = world.caller(0)
    fd = program.open("/dev/xen/privcmd")
    own = program.ask("mmap", 0, 4096, BOTH, ANONYMOUS, -1, 0)
    program.poke(own, guest.first.to_bytes(8, "little") * 4)
    at = program.mmap(fd, 0, pages=4, flags=SHARED)

    def batch(num: int, address: int) -> None:
        data = PRIVCMD_MMAPBATCH_V2.pack(num, 1, address, own, own + 2048)
        program.ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, data)

    program.munmap(at + 4096)
    for num, address in ((5, at), (4, at), (1, at + 4096), (1, at + 1)):
        with refused(errno.EINVAL):
            batch(num, address)
    with monkeypatch.context() as few:
        few.setattr(messages, "MAX_EXTENTS", 1)
        with refused(errno.ENOMEM):
            batch(2, at + 2 * 4096)
    batch(2, at + 2 * 4096)
    assert program.peek(at + 3 * 4096, 5) == b"guest"
    with refused(errno.EBUSY):
        batch(1, at + 3 * 4096)
    program.end()
    world.kernel.free_pages(guest)
