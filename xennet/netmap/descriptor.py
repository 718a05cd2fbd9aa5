"""An open file of the device: what it is registered to, and the mappings that keep it alive."""

from __future__ import annotations

from errno import EBADF, EBUSY, EINVAL, ENXIO
from typing import Protocol

from attrs import define, field

from xennet.netmap.address_space import AddressSpace
from xennet.netmap.errors import NetmapError
from xennet.netmap.registration import Registration
from xennet.netmap.sync import POLLERR, Syncer


class Loop(Protocol):
    """A kernel loop (xennet.netmap.kloop.Kloop)."""

    def end(self) -> None:
        """The loop is over."""


@define(eq=False)
class Descriptor:
    """An open file. ``memory`` is that of the client that has it.

    The file is there while a descriptor or a mapping of it is: a port stays registered after
    :meth:`close` until the last mapping goes.
    """

    memory: AddressSpace
    syncer: Syncer
    registration: Registration | None = field(init=False, default=None)
    descriptors: int = field(init=False, default=1)
    mappings: int = field(init=False, default=0)
    #: The control blocks (xennet.netmap.csb) by which the client syncs in place of this file, the
    #: loop that looks at them, and whether one is to end that has not begun.
    csb: object = field(init=False, default=None)
    kloop: Loop | None = field(init=False, default=None)
    kloop_stops: bool = field(init=False, default=False)

    def bound(self) -> Registration:
        """The registration. Raises NetmapError(ENXIO) without one."""
        if self.registration is None:
            raise NetmapError(ENXIO, "the file is not registered")
        return self.registration

    def _syncable(self) -> Registration:
        registration = self.bound()
        if self.csb is not None:
            raise NetmapError(EBUSY, "the client syncs by control blocks")
        self.syncer.state.caller = self.memory
        return registration

    def txsync(self) -> None:
        """NIOCTXSYNC. Raises NetmapError: ENXIO, EBUSY."""
        self.syncer.txsync(self._syncable().binding)

    def rxsync(self) -> None:
        """NIOCRXSYNC. Raises NetmapError: ENXIO, EBUSY."""
        self.syncer.rxsync(self._syncable().binding)

    def poll(self, events: int) -> int:
        """What is so now of ``events`` (POLLIN, POLLOUT ...), POLLERR included. Does not wait."""
        if self.registration is None or self.csb is not None:
            return POLLERR
        self.syncer.state.caller = self.memory
        return self.syncer.poll(self.registration.binding, events)

    def mmap(self, length: int, offset: int = 0) -> memoryview:
        """Map part of the region of the port.

        Raises NetmapError(EINVAL) before the registration, and if it reaches beyond the region.
        """
        if self.registration is None:
            raise NetmapError(EINVAL, "nothing to map before a registration")
        region = self.registration.port.region
        if length <= 0 or offset < 0 or offset + length > -(-region.memsize // 4096) * 4096:
            raise NetmapError(EINVAL, f"{length} bytes from {offset} on are not in the region")
        self.mappings += 1
        return region.u8[offset : offset + length]

    def munmap(self) -> None:
        """A mapping goes."""
        self.mappings -= 1
        self._release_if_unused()

    def dup(self) -> None:
        """One descriptor more, by dup or fork."""
        self.descriptors += 1

    def close(self) -> None:
        """A descriptor goes. Raises NetmapError(EBADF) if there is none."""
        if not self.descriptors:
            raise NetmapError(EBADF, "closed before")
        self.descriptors -= 1
        if not self.descriptors and self.kloop is not None:
            self.kloop.end()  # nobody is left who could stop it
        self._release_if_unused()

    def _release_if_unused(self) -> None:
        if not self.descriptors and not self.mappings:
            self.unregister()

    def unregister(self) -> None:
        """Leave the port, if there is one."""
        if self.registration is None:
            return
        if self.kloop is not None:
            self.kloop.end()
        port = self.registration.port
        self.registration.undo()
        self.registration = None
        self.csb = None
        self.kloop_stops = False
        port.put()
