"""/dev/xen/evtchn as drivers/xen/evtchn.c of Linux has it."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
from collections.abc import Callable

import pytest
from exec_world import EVTCHN, RDWR, Caller, World, refused

from xennet.abi.linux_xen import (
    IOCTL_EVTCHN_BIND_INTERDOMAIN,
    IOCTL_EVTCHN_BIND_VIRQ,
    IOCTL_EVTCHN_NOTIFY,
    IOCTL_EVTCHN_RESET,
    IOCTL_EVTCHN_RESTRICT_DOMID,
    IOCTL_EVTCHN_UNBIND,
)

POLLIN = 1


@pytest.fixture
def program(world: World) -> Caller:
    return world.caller()


@pytest.fixture
def bind(world: World, program: Caller) -> Callable[[int], tuple[int, int]]:
    """Binds a new port of the emulated peer's to a file: the peer's port and the program's."""

    def bound(fd: int) -> tuple[int, int]:
        port = world.kernel.alloc_unbound(2)
        world.kernel.on_event(port, lambda: None)
        return port, program.bind(fd, 1, port)

    return bound


def test_an_event_is_read_once_and_again_after_it_is_written_back(
    world: World, program: Caller, bind: Callable[[int], tuple[int, int]]
) -> None:
    fd = program.open(EVTCHN, RDWR | os.O_NONBLOCK)
    port, mine = bind(fd)
    assert program.ask("poll", fd, 60000) == POLLIN
    assert program.event(fd) == mine, "it is pending from the bind on"
    with refused(errno.EAGAIN):
        program.event(fd)
    world.kernel.notify(port)
    world.settle()
    with refused(errno.EAGAIN):
        program.event(fd)  # masked
    program.ask("write", fd, mine.to_bytes(4, "little").hex())
    assert program.ask("poll", fd, 60000) == POLLIN
    assert program.event(fd) == mine
    program.end()
    world.kernel.close_port(port)


def test_reads_wait(world: World, program: Caller, bind: Callable[[int], tuple[int, int]]) -> None:
    fd = program.open(EVTCHN)
    port, mine = bind(fd)
    program.event(fd)
    program.ask("write", fd, mine.to_bytes(4, "little").hex())
    program.tell("read", fd, 4)
    world.settle()
    world.kernel.notify(port)
    assert int.from_bytes(program.answer()[1], "little") == mine
    program.end()
    world.kernel.close_port(port)


def test_what_is_wrong_is_refused_as_linux_does(
    world: World, program: Caller, bind: Callable[[int], tuple[int, int]]
) -> None:
    fd, other = program.open(EVTCHN), program.open(EVTCHN)
    port, mine = bind(fd)
    for data in ((1, 999), (77, 1)):
        with pytest.raises(OSError):
            program.bind(fd, *data)
    for number in (IOCTL_EVTCHN_NOTIFY, IOCTL_EVTCHN_UNBIND):
        with refused(errno.ENOTCONN):
            program.port_ioctl(other, number, mine)
    with refused(errno.EINVAL):
        program.port_ioctl(fd, IOCTL_EVTCHN_UNBIND, 1 << 20)
    with refused(errno.ENOSYS):
        program.ioctl(fd, 0x0445FF, bytes(4))
    with refused(errno.EFAULT):
        program.ask("ioctl_at", fd, IOCTL_EVTCHN_BIND_INTERDOMAIN, 0x10000)
    with refused(errno.EEXIST):
        for _ in range(2):
            program.port_ioctl(fd, IOCTL_EVTCHN_BIND_VIRQ, 0)
    with refused(errno.ENODEV):
        program.mmap(fd, 0)
    program.port_ioctl(fd, IOCTL_EVTCHN_UNBIND, mine)
    with refused(errno.ENOTCONN):
        program.port_ioctl(fd, IOCTL_EVTCHN_UNBIND, mine)
    program.ask("write", fd, "ffffffff0100000002")  # ports that it has not, and a rest
    program.ask("write", fd, "-")
    assert program.bind_unbound(fd, 1) > 0, "an empty message is no end"
    program.end()
    world.kernel.close_port(port)


def test_a_restricted_file_speaks_to_one_domain(world: World, program: Caller) -> None:
    fd = program.open(EVTCHN)
    with refused(errno.EINVAL):
        program.ioctl(fd, IOCTL_EVTCHN_RESTRICT_DOMID, (0x7FF0).to_bytes(2, "little"))
    program.ioctl(fd, IOCTL_EVTCHN_RESTRICT_DOMID, (1).to_bytes(2, "little"))
    with refused(errno.EACCES):
        program.ioctl(fd, IOCTL_EVTCHN_RESTRICT_DOMID, (1).to_bytes(2, "little"))
    with refused(errno.EACCES):
        program.bind_unbound(fd, 3)
    with refused(errno.EACCES):
        program.bind(fd, 0, 1)
    with refused(errno.EACCES):
        program.port_ioctl(fd, IOCTL_EVTCHN_BIND_VIRQ, 0)
    assert program.bind_unbound(fd, 1) > 0


def test_the_ring_overflows_and_is_reset(
    world: World, program: Caller, bind: Callable[[int], tuple[int, int]]
) -> None:
    """Only ports that are unbound while they are unread can do that: each bound one is in the ring
    once at most."""
    fd = program.open(EVTCHN)
    ports = []
    for _ in range(64):
        port, mine = bind(fd)
        ports.append(port)
        world.settle()
        program.port_ioctl(fd, IOCTL_EVTCHN_UNBIND, mine)
    program.event(fd)  # room for one
    last = bind(fd)
    world.settle()
    over = bind(fd)
    world.settle()
    for _ in range(64):
        assert program.event(fd) > 0
    for _ in range(2):
        with refused(errno.EFBIG):
            program.event(fd)
    (file,) = world.server.files.values()
    unread = fcntl.ioctl(file.socket, termios.TIOCOUTQ, bytes(4))
    for _ in range(50):  # as many threads that have read the same nothing ask
        assert file.device.overflowed() == errno.EFBIG
    assert fcntl.ioctl(file.socket, termios.TIOCOUTQ, bytes(4)) == unread
    program.ioctl(fd, IOCTL_EVTCHN_RESET)
    program.ask("write", fd, b"".join(p.to_bytes(4, "little") for p in (last[1], over[1])).hex())
    world.kernel.notify(last[0])
    assert program.event(fd) == last[1]
    program.end()
    for port in (*ports, last[0], over[0]):
        world.kernel.close_port(port)


def test_more_events_than_the_socket_holds_come_all_the_same(
    world: World, program: Caller, bind: Callable[[int], tuple[int, int]]
) -> None:
    fd = program.open(EVTCHN)
    bound = [bind(fd) for _ in range(400)]
    world.settle()
    assert sorted(program.event(fd) for _ in bound) == sorted(mine for _, mine in bound)
    program.end()
    for port, _ in bound:
        world.kernel.close_port(port)


def test_closing_the_file_closes_its_ports(
    world: World, program: Caller, bind: Callable[[int], tuple[int, int]]
) -> None:
    fd = program.open(EVTCHN)
    port, _ = bind(fd)
    program.ask("close", fd)
    world.settle()
    assert not world.server.files
    with refused(errno.EBADF):
        program.event(fd)
    world.kernel.close_port(port)


def test_a_child_notifies_on_the_port_of_its_parent(world: World, program: Caller) -> None:
    events: list[int] = []
    port = world.kernel.alloc_unbound(2)
    world.kernel.on_event(port, lambda: events.append(port))
    fd = program.open(EVTCHN)
    mine = program.bind(fd, 1, port)
    world.settle()
    events.clear()
    program.ask("fork")
    program.port_ioctl(fd, IOCTL_EVTCHN_NOTIFY, mine)
    world.settle()
    assert events == [port]
    program.ask("exit", 0)
    program.port_ioctl(fd, IOCTL_EVTCHN_NOTIFY, mine)
    program.end()
    world.kernel.close_port(port)
