"""/dev/netmap: the netmap device of this process (xennet.netmap) for programs.

Requests are bytes in the memory of the program that calls; what it maps is the region's own memfd.
poll(2) and its like are asked by the shim (OP_POLL), because the rings have to be synced then: a
thread for which nothing is ready sleeps, and is woken as the module wakes those who wait on a ring.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import ENODEV
from functools import partial
from weakref import WeakKeyDictionary

from xennet.abi.netmap import NIOCRXSYNC, NIOCTXSYNC
from xennet.exec.devices import (
    Call,
    Client,
    Device,
    Later,
    Mapping,
    MapRequest,
    OpenFile,
    Pages,
)
from xennet.exec.linux_interfaces import LinuxInterfaces
from xennet.exec.messages import OP_IOCTL, OP_POLL
from xennet.exec.program_memory import ProgramMemory
from xennet.netmap.device import PENDING
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import Kring
from xennet.netmap.module_state import State
from xennet.netmap.sync import POLLIN, POLLOUT
from xennet.netmap.user.process_device import device_of_process
from xennet.pump import Pump

_PAGE = 4096
#: What files have in common.
_KEY = "netmap"
_SYNCS = (NIOCTXSYNC, NIOCRXSYNC)
_IOC_SIZEMASK = 0x3FFF
_IN = POLLIN | 0x040  # POLLRDNORM
_OUT = POLLOUT | 0x100  # POLLWRNORM

#: Wakes a thread that sleeps in poll.
Wake = Callable[[], None]


class _Served:
    """The device while a server serves it: it goes by the server's pump, and has interfaces of
    Linux."""

    def __init__(self, state: State, pump: Pump) -> None:
        self._state, self._before = state, (state.pump, state.after)
        self.interfaces = LinuxInterfaces(state)
        state.run_on(pump)

    def close(self) -> None:
        self.interfaces.close()
        self._state.pump, self._state.after = self._before


class NetmapFile(Device):
    """One open file of /dev/netmap."""

    polled = True

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._device = device_of_process()
        if _KEY not in file.common:
            file.common[_KEY] = _Served(self._device.state, file.pump)
        self._interfaces = file.common[_KEY].interfaces
        self._open = self._device.open(self._device.state.caller)
        #: The threads that sleep, and the events for which they do. A waker that is let go of (its
        #: thread has ended) is not in it any more.
        self._sleeping: WeakKeyDictionary[Wake, int] = WeakKeyDictionary()
        self._waiting: list[tuple[Kring, Wake]] = []

    # -- calls -------------------------------------------------------------------------------------

    def ioctl(self, call: Call) -> int:
        memory = self._called_by(call.client)
        if call.number in _SYNCS:
            self._sync(call.number)
            return 0
        self._interfaces.look()
        before = self._open.registration
        later = Later()
        error = self._device.ioctl(self._open, call.number, call.address, later.answer)
        pages = memory.replaced()
        if error == PENDING:
            call.later = later
        elif error:
            if pages is not None:
                os.close(pages.fd)
            raise OSError(error, os.strerror(error))
        elif self._open.registration is not before:
            self._wait_on_rings()
        if pages is not None:
            call.pages = pages
            # What the request says by now: the extents are behind it.
            call.out = memory.read(call.address, call.number >> 16 & _IOC_SIZEMASK)
        return 0

    def at_once(self, client: Client, op: int, arg: int, wake: Wake | None) -> int | None:
        if op == OP_POLL:
            return self.poll(client, arg, wake)
        if op == OP_IOCTL and arg in _SYNCS and self._open.registration and not self._open.csb:
            self._called_by(client)
            self._sync(arg)
            return 0
        return None

    def _called_by(self, client: Client) -> ProgramMemory:
        """The memory of the program that calls: another one than before if the descriptor was
        passed on."""
        memory = self._open.memory
        if not isinstance(memory, ProgramMemory) or memory.client is not client:
            memory = self._open.memory = ProgramMemory(client)
        return memory

    def _sync(self, number: int) -> None:
        try:
            if number == NIOCTXSYNC:
                self._open.txsync()
            else:
                self._open.rxsync()
        except NetmapError as e:
            raise OSError(e.errno, str(e)) from e

    def mmap(self, request: MapRequest) -> Pages:
        try:
            self._open.mmap(request.count * _PAGE, request.offset)
        except NetmapError as e:
            raise OSError(e.errno, str(e)) from e
        fd = self._open.bound().port.region.memfd
        if fd < 0:
            self._open.munmap()
            raise OSError(ENODEV, "the region is the program's own memory")
        extents = [(request.offset // _PAGE, request.count)]
        return Pages(fd, request.prot & 7, extents, dont_fork=False)

    def munmap(self, mapping: Mapping, first: int, count: int) -> None:
        if not mapping.left:
            self._open.munmap()
            self._leave_rings()

    def overflowed(self) -> int:
        return self._device.read_write()

    def last_close(self) -> None:
        self._open.close()
        self._leave_rings()

    def release(self) -> None:
        self._sleeping.clear()

    # -- poll --------------------------------------------------------------------------------------

    def poll(self, client: Client, events: int, wake: Wake | None) -> int:
        self._called_by(client)
        found = self._open.poll(events)
        if not found and wake is not None:
            # One call may ask more than once: for a duplicate, or for each event apart.
            self._sleeping[wake] = self._sleeping.get(wake, 0) | events
        return found

    def _wait_on_rings(self) -> None:
        """The file is registered: those who sleep are to be woken by its rings."""
        for kring in self._open.bound().binding.every():
            wake = partial(self._wake, _OUT if kring.tx else _IN)
            kring.waiters.append(wake)
            self._waiting.append((kring, wake))

    def _leave_rings(self) -> None:
        """Forget the rings if the file is not registered any more."""
        while self._waiting and self._open.registration is None:
            kring, wake = self._waiting.pop()
            kring.waiters.remove(wake)

    def _wake(self, kind: int) -> None:
        """There is news for those who sleep for events of a kind."""
        for wake in [wake for wake, events in self._sleeping.items() if events & kind]:
            del self._sleeping[wake]
            wake()
