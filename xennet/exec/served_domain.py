"""A domain that programs run in: what its device files share, as a kernel's drivers do."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from xennet.hypervisor import Domain, Machine
from xennet.interface import GuestGrants, HypercallError
from xennet.memory import PageRun
from xennet.xenstore.daemon import Daemon

#: ns between two looks at grants that were in use when their pages were given up.
_LOOK_AGAIN = 100_000_000


class BoundPort:
    """An event channel that evtchn bound, and those who need it: the file that bound it, and
    notifications at unmapping (evtchn_get, evtchn_put of Linux)."""

    def __init__(self, domain: Domain, port: int) -> None:
        self._domain, self.port = domain, port
        self._users = 1

    def get(self) -> BoundPort:
        """One more user. Returns the port itself."""
        self._users += 1
        return self

    def send(self) -> None:
        """EVTCHNOP_send, if the domain runs. A refusal is nobody's fault."""
        if self._domain.running:
            with suppress(HypercallError):
                self._domain.send(self.port)

    @property
    def users(self) -> int:
        """Number of users."""
        return self._users

    def put(self) -> None:
        """One user less; with the last one the port is closed."""
        self._users -= 1
        if not self._users and self._domain.running:
            with suppress(HypercallError):
                self._domain.close(self.port)


class ServedDomain:
    """``domain`` of ``machine``, whose memory has to be shared. ``grants`` is its grant table,
    ``store`` serves its connections to the store.

    ``ports`` are those that its programs have bound, by number. ``xsd``: the page and the port
    through which a xenstored among its programs serves the domain's own kernel.
    """

    def __init__(
        self, machine: Machine, domain: Domain, grants: GuestGrants, store: Daemon | None
    ) -> None:
        self.machine, self.domain, self.grants, self.store = machine, domain, grants, store
        self.ports: dict[int, BoundPort] = {}
        self.xsd: tuple[PageRun, int] | None = None
        #: Pages that gntalloc gave and that are not freed yet.
        self.gntalloc_pages = 0
        self._given_up: list[tuple[int, PageRun]] = []
        self._bounce: PageRun | None = None
        self._looking: Callable[[], None] | None = None
        fd = machine.memory.fd
        if fd is None:
            raise ValueError("programs can only map a machine's memory if it is shared")
        self._fds = fd, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        view = ctypes.c_char.from_buffer(machine.memory.u8)
        self._base = ctypes.addressof(view)
        del view

    @property
    def domid(self) -> int:
        """The domain's number."""
        return self.domain.domid

    @property
    def running(self) -> bool:
        """Whether hypercalls are possible: the domain is neither stopped nor destroyed."""
        return self.domain.running

    def memory_fd(self, readonly: bool = False) -> int:
        """A descriptor of the machine's memory."""
        return self._fds[readonly]

    def address_of(self, frame: int) -> int:
        """The address of a frame in this process."""
        return self._base + frame * 4096

    # -- event channels ----------------------------------------------------------------------------

    def bound(self, port: int) -> BoundPort:
        """Note a port that was bound just now."""
        bound = self.ports[port] = BoundPort(self.domain, port)
        return bound

    def put_port(self, bound: BoundPort) -> None:
        """One user of ``bound`` less."""
        bound.put()
        if not bound.users:
            self.ports.pop(bound.port, None)

    # -- pages that are granted --------------------------------------------------------------------

    def give_up(self, granted: Sequence[tuple[int, PageRun]]) -> None:
        """End the access to pages and free them; those in use as soon as they are not
        (gntalloc's do_cleanup)."""
        self._given_up += granted
        self.clean_up()

    def clean_up(self) -> None:
        """Free what was given up and is in use no more."""
        if not self.running:
            self._given_up.clear()
            return
        kept = []
        for gref, page in self._given_up:
            if self.grants.end_access(gref):
                self.domain.free_pages(page)
                self.gntalloc_pages -= 1
            else:
                kept.append((gref, page))
        self._given_up = kept
        if kept and self._looking is None:
            self._looking = self.domain.call_after(_LOOK_AGAIN, self._look, background=True)

    def _look(self) -> None:
        self._looking = None
        self.clean_up()

    # -- pages through which grant copies go -------------------------------------------------------

    def bounce(self, count: int) -> PageRun:
        """At least ``count`` frames of the domain's own, the same in each call. Raises
        OutOfFramesError."""
        if self._bounce is None or self._bounce.count < count:
            if self._bounce is not None:
                self.domain.free_pages(self._bounce)
                self._bounce = None
            self._bounce = self.domain.alloc_pages(max(64, count))
        return self._bounce

    def no_bounce(self) -> None:
        """Give those frames back."""
        if self._bounce is not None and self.running:
            self.domain.free_pages(self._bounce)
        self._bounce = None

    def close(self) -> None:
        """Let go of descriptors; the domain stays as it is."""
        self.no_bounce()
        os.close(self._fds[1])
