"""A host whose domains run programs, and a program that makes the system calls it is told to."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from xennet.abi.linux_xen import (
    EVTCHN_BIND_INTERDOMAIN,
    GNTALLOC_ALLOC_GREF,
    GNTALLOC_DEALLOC_GREF,
    GNTDEV_GRANT_REF,
    GNTDEV_MAP_GRANT_REF,
    GNTDEV_UNMAP_GRANT_REF,
    IOCTL_EVTCHN_BIND_INTERDOMAIN,
    IOCTL_EVTCHN_BIND_UNBOUND_PORT,
    IOCTL_GNTALLOC_ALLOC_GREF,
    IOCTL_GNTALLOC_DEALLOC_GREF,
    IOCTL_GNTDEV_MAP_GRANT_REF,
    IOCTL_GNTDEV_SET_UNMAP_NOTIFY,
    IOCTL_GNTDEV_UNMAP_GRANT_REF,
    UNMAP_NOTIFY,
)
from xennet.exec.launch import launch, socket_paths
from xennet.exec.server import ExecServer
from xennet.host import Host
from xennet.pump import RealClock

#: Seconds that only a hang reaches.
PATIENCE = 60.0
RDWR = os.O_RDWR
READ, WRITE, BOTH = 1, 2, 3
SHARED, PRIVATE = 1, 2
GNTDEV, GNTALLOC, EVTCHN = "/dev/xen/gntdev", "/dev/xen/gntalloc", "/dev/xen/evtchn"


def refused(number: int) -> AbstractContextManager[object]:
    """A context in which the program gets this errno."""
    return pytest.raises(OSError, check=lambda error: error.errno == number)


class Caller:
    """One process in a domain. An errno is raised as OSError."""

    def __init__(self, world: World, domid: int, **options: Any) -> None:
        self._world = world
        self.process = launch(
            [world.program],
            socket_paths(world.directory, domid)[0],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._told = b""

    def tell(self, *words: object) -> None:
        """Give a command and go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b" ".join(str(word).encode() for word in words) + b"\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[int, bytes]:
        """The answer of a command: result and bytes."""
        self._world.hold(lambda: b"\n" in self._told, self._out, self._read)
        line, _, self._told = self._told.partition(b"\n")
        result, _, data = line.partition(b" ")
        if int(result) < 0:
            raise OSError(-int(result), os.strerror(-int(result)))
        return int(result), bytes.fromhex(data.decode())

    def ask(self, *words: object) -> int:
        """The result of a command."""
        self.tell(*words)
        return self.answer()[0]

    def fetch(self, *words: object) -> bytes:
        """The bytes of a command's answer."""
        self.tell(*words)
        return self.answer()[1]

    def kill(self) -> None:
        """SIGKILL. May be repeated."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def end(self) -> None:
        """SIGKILL, and wait until the server has noticed."""
        self.kill()
        self._world.hold(lambda: self.process.pid not in self._world.pids)

    def _read(self) -> None:
        got = os.read(self._out, 1 << 16)
        assert got, "the program has ended"
        self._told += got

    # -- calls -------------------------------------------------------------------------------------

    def open(self, path: str, flags: int = RDWR) -> int:
        return self.ask("open", path, flags)

    def ioctl(self, fd: int, number: int, data: bytes = b"") -> tuple[int, bytes]:
        self.tell("ioctl", fd, number, data.hex() or "-")
        return self.answer()

    def mmap(
        self, fd: int, offset: int, pages: int = 1, prot: int = BOTH, flags: int = SHARED
    ) -> int:
        return self.ask("mmap", 0, pages * 4096, prot, flags, fd, offset)

    def munmap(self, address: int, pages: int = 1) -> int:
        return self.ask("munmap", address, pages * 4096)

    def peek(self, address: int, size: int = 8) -> bytes:
        return self.fetch("peek", address, size)

    def poke(self, address: int, data: bytes) -> int:
        return self.ask("poke", address, data.hex())

    def map_grants(self, fd: int, refs: list[tuple[int, int]]) -> int:
        """IOCTL_GNTDEV_MAP_GRANT_REF. Returns the offset for mmap."""
        head = GNTDEV_MAP_GRANT_REF.pack(len(refs), 0, 0)
        data = head + b"".join(GNTDEV_GRANT_REF.pack(*ref) for ref in refs)
        _, out = self.ioctl(fd, IOCTL_GNTDEV_MAP_GRANT_REF, data)
        return int(GNTDEV_MAP_GRANT_REF.unpack_from(out)[2])

    def unmap_grants(self, fd: int, offset: int, count: int = 1) -> int:
        data = GNTDEV_UNMAP_GRANT_REF.pack(offset, count, 0)
        return self.ioctl(fd, IOCTL_GNTDEV_UNMAP_GRANT_REF, data)[0]

    def notify_at_unmap(self, fd: int, index: int, action: int, port: int = 0) -> int:
        data = UNMAP_NOTIFY.pack(index, action, port)
        return self.ioctl(fd, IOCTL_GNTDEV_SET_UNMAP_NOTIFY, data)[0]

    def alloc(self, fd: int, domid: int, count: int = 1, flags: int = 1) -> tuple[int, list[int]]:
        """IOCTL_GNTALLOC_ALLOC_GREF. Returns the offset for mmap and the references."""
        data = GNTALLOC_ALLOC_GREF.pack(domid, flags, count, 0).ljust(
            max(24, 16 + 4 * count), b"\0"
        )
        _, out = self.ioctl(fd, IOCTL_GNTALLOC_ALLOC_GREF, data)
        grefs = memoryview(out[16 : 16 + 4 * count]).cast("I").tolist()
        return int(GNTALLOC_ALLOC_GREF.unpack_from(out)[3]), grefs

    def dealloc(self, fd: int, offset: int, count: int = 1) -> int:
        data = GNTALLOC_DEALLOC_GREF.pack(offset, count)
        return self.ioctl(fd, IOCTL_GNTALLOC_DEALLOC_GREF, data)[0]

    def bind(self, fd: int, domid: int, port: int) -> int:
        """IOCTL_EVTCHN_BIND_INTERDOMAIN. Returns the port."""
        data = EVTCHN_BIND_INTERDOMAIN.pack(domid, port)
        return self.ioctl(fd, IOCTL_EVTCHN_BIND_INTERDOMAIN, data)[0]

    def bind_unbound(self, fd: int, domid: int) -> int:
        return self.port_ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, domid)

    def port_ioctl(self, fd: int, number: int, value: int) -> int:
        return self.ioctl(fd, number, value.to_bytes(4, "little"))[0]

    def event(self, fd: int) -> int:
        """The port of the next event."""
        return int.from_bytes(self.fetch("read", fd, 4), "little")


class World:
    """A host on the real clock: domain 0 and two guests whose kernels tests use themselves. All
    three serve programs."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.host = Host(clock=RealClock(), shared=True)
        self.directory = tempfile.mkdtemp(prefix="xennet-test-")
        self.server = ExecServer(self.host.machine, self.host.pump, self.host.service.server)
        self.guests = [self.host.add_guest(drivers=None) for _ in range(2)]
        dom0 = self.host.dom0
        for domain, kernel in (
            (dom0.domain, dom0.kernel),
            *((guest.domain, guest.kernel) for guest in self.guests),
        ):
            paths = socket_paths(self.directory, domain.domid)
            self.server.serve(domain, kernel.grants, *paths)
        #: The emulated peer of the programs, which run in domain 2 if nothing else is said.
        self.kernel = self.guests[0].kernel
        self.callers: list[Caller] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for caller in self.callers:
                caller.process.kill()
            if kind is None:
                for caller in self.callers:
                    caller.end()
                # Children of theirs may still be on their way out.
                self.hold(lambda: not self.server.programs and not self.server.files)
                self.settle()
                assert not self.host.leaks(), str(self.host.leaks())
        finally:
            for caller in self.callers:
                caller.kill()
            self.server.close()
            self.host.destroy()
            shutil.rmtree(self.directory)

    def caller(self, domid: int = 2, **options: Any) -> Caller:
        """A process in a domain."""
        self.callers.append(Caller(self, domid, **options))
        return self.callers[-1]

    @property
    def pids(self) -> set[int]:
        """The processes that the server knows."""
        return {pid for _, pid in self.server.programs}

    def hold(
        self,
        until: Callable[[], bool],
        fd: int | None = None,
        readable: Callable[[], None] | None = None,
    ) -> None:
        """Keep the machine going until something is so, and meanwhile serve a descriptor."""
        pump = self.host.pump
        if fd is not None:
            pump.watch(fd, readable)
        try:
            pump.hold(PATIENCE, until)
        finally:
            if fd is not None:
                pump.unwatch(fd)
        assert until(), "it has not come to that in time"

    def settle(self) -> None:
        """Let the server see what is there now, and everything be delivered that is ready."""
        for _ in range(3):
            self.host.pump.turn()
            self.host.pump.run()

    def page(self, domid: int = 2, readonly: bool = False) -> tuple[Any, int]:
        """A page of the emulated peer's, granted: its views and the reference."""
        page = self.kernel.alloc_pages(1)
        return page, self.kernel.grants.grant_access(domid, page.first, readonly)

    def in_use(self, gref: int) -> bool:
        """Whether a grant of :meth:`page` is mapped."""
        pinned = self.host.machine.grant_tables.pinned(self.kernel.domid)
        return any(grant.gref == gref for grant in pinned)

    def give_back(self, page: Any, gref: int) -> None:
        """End a grant of :meth:`page`; it has to be unused."""
        assert self.kernel.grants.end_access(gref)
        self.kernel.free_pages(page)
