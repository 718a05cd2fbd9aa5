"""Whatever a program asks for and whenever it dies, the machine goes on and nothing leaks.

XENNET_EXEC_SECONDS: seconds of each of the two tests with random calls, instead of a few calls.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator

import pytest
from exec_world import EVTCHN, GNTALLOC, GNTDEV, Caller, World

from xennet.abi.linux_xen import IOCTL_NAMES
from xennet.exec import messages
from xennet.exec.launch import socket_paths

PATHS = (GNTDEV, GNTALLOC, EVTCHN, "/dev/xen/privcmd", "/dev/xen/xenbus")
SECONDS = float(os.environ.get("XENNET_EXEC_SECONDS", 0))


def rounds(few: int) -> Iterator[random.Random]:
    """A source of numbers for each round: a few rounds that are always the same, or as many as
    there is time for."""
    if not SECONDS:
        yield from map(random.Random, range(few))
        return
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        yield random.Random()


def number(numbers: random.Random) -> int:
    """A number that may mean something."""
    kinds = (0, 1, 2, 8, 9, 4096, 0x7FF0, 1 << 31, (1 << 32) - 1, (1 << 64) - 1)
    return numbers.choice((*kinds, numbers.getrandbits(3), numbers.getrandbits(64)))


def any_bytes(numbers: random.Random, size: int) -> bytes:
    """Bytes that may be a structure."""
    data = b""
    while len(data) < size:
        width = numbers.choice((2, 4, 4, 8))
        data += (number(numbers) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return data[:size]


def commands(numbers: random.Random, count: int) -> Iterator[tuple[object, ...]]:
    """Commands for a program whose first files are those of PATHS, 3 to 7."""
    known = tuple(IOCTL_NAMES)
    for _ in range(count):
        fd = numbers.randrange(3, 9)
        offset = numbers.choice((0, 4096, 8192, 1, number(numbers) & ~4095)) & ((1 << 63) - 1)
        pages = numbers.choice((1, 1, 2, 3, 64)) * 4096
        request = numbers.choice((*known, numbers.getrandbits(22) | 0x4500))
        yield numbers.choice(
            (
                ("ioctl", fd, request, any_bytes(numbers, request >> 16 & 0x3FFF).hex() or "-"),
                ("ioctl", fd, request, any_bytes(numbers, 64).hex()),
                ("ioctl_at", fd, request, number(numbers)),
                ("mmap", 0, pages, numbers.randrange(8), numbers.choice((1, 2)), fd, offset),
                ("write", fd, any_bytes(numbers, numbers.randrange(64)).hex() or "-"),
                ("open", numbers.choice(PATHS), os.O_RDWR),
                ("close", fd) if numbers.random() < 0.1 else ("dup", fd),
            )
        )


def opened(world: World) -> Caller:
    program = world.caller()
    for path in PATHS:
        program.open(path)
    return program


def test_any_call_is_answered(world: World) -> None:
    page, gref = world.page()
    for numbers in rounds(8):
        program = opened(world)
        program.map_grants(3, [(1, gref)])
        program.alloc(4, 1, 2)
        program.bind_unbound(5, 1)
        for command in commands(numbers, 80):
            try:
                program.ask(*command)
            except OSError:
                continue
        program.end()
        world.callers.remove(program)
        world.hold(lambda: not world.server.files)
        world.server.domains[2].no_bounce()
    world.hold(lambda: not world.in_use(gref))
    world.give_back(page, gref)


def test_any_message_is_answered_or_ends_the_connection(world: World) -> None:
    opened(world)
    numbers = random.Random(1)
    cookies = list(world.server.files)
    path = socket_paths(world.directory, 2)[0]
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as hostile:
            hostile.connect(path)
            hostile.setblocking(False)
            for _ in range(12):
                message = messages.REQUEST.pack(
                    numbers.randrange(9),
                    number(numbers) & 0xFFFFFFFF,
                    numbers.choice((*cookies, number(numbers))),
                    *(number(numbers) & ((1 << 64) - 1) for _ in range(4)),
                )
                message += any_bytes(numbers, numbers.randrange(80))
                if numbers.random() < 0.05:
                    message = message[: numbers.randrange(len(message))]
                try:
                    hostile.send(message)
                except OSError:
                    break
                if numbers.random() < 0.5:
                    world.settle()
        world.settle()
    world.hold(lambda: not any(one.program.pid == os.getpid() for one in world.server.connections))
    world.server.end(2)


@pytest.mark.parametrize("crash", [False, True])
def test_a_program_killed_at_any_moment_leaves_nothing(world: World, crash: bool) -> None:
    page, gref = world.page()
    port = world.kernel.alloc_unbound(2)
    world.kernel.on_event(port, lambda: None)
    for numbers in rounds(1 if crash else 12):
        program = opened(world)
        if crash:
            world.server.crashes_with(2, program.process.pid)
        for _ in range(numbers.randrange(8)):
            offset = program.map_grants(3, [(1, gref)] * 2)
            program.mmap(3, offset, 2)
            offset, _ = program.alloc(4, 1, 2)
            program.mmap(4, offset, 2)
            program.notify_at_unmap(4, offset, 3, program.bind_unbound(5, 1))
        for command in commands(numbers, numbers.randrange(60)):
            program.tell(*command)
        world.host.pump.hold(numbers.random() * 0.02)
        program.end()
        world.callers.remove(program)
        if crash:
            world.guests[1].destroy()
        world.hold(lambda: not world.server.files and not world.in_use(gref))
        if not crash:
            world.server.domains[2].no_bounce()
            world.hold(lambda: not world.server.domains[2].gntalloc_pages)
        if crash:
            break
    world.kernel.close_port(port)
    world.give_back(page, gref)
