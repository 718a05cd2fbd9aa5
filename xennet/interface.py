"""The interface of the machine that a driver runs on.

netfront and netback import this file and the abi, ring and kernel files, never the emulator's own
classes. The emulator implements these protocols (:mod:`xennet.hypervisor.guest_kernel`); so could a
real Xen, through libxengnttab, libxenevtchn and libxenstore, and a second, minimal implementation
in the tests keeps it so. Foreign memory is reached in two ways only, as on Xen: a mapped grant (the
ring pages) and the batched grant copy (payload).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable


class HypercallError(Exception):
    """A hypercall (or a service of the hypervisor other than XenStore) refused.

    ``op`` is the hypercall's name in the public headers, ``status`` its negative GNTST_ code for
    grant operations or the negative errno for event channel operations.
    """

    def __init__(self, op: str, status: int, message: str) -> None:
        super().__init__(f"{op}: {message} (status {status})")
        self.op = op
        self.status = status


class OutOfFramesError(Exception):
    """``alloc_pages`` found no run of free frames of the wanted length."""


class PageRun(Protocol):
    """Consecutive frames the domain can reach, as flat integer views of the same bytes."""

    @property
    def first(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def u8(self) -> memoryview: ...
    @property
    def u16(self) -> memoryview: ...
    @property
    def u32(self) -> memoryview: ...
    @property
    def u64(self) -> memoryview: ...


class GrantMapping(Protocol):
    """One foreign page, mapped through grant ``gref`` of domain ``domid``."""

    @property
    def domid(self) -> int: ...
    @property
    def gref(self) -> int: ...
    @property
    def page(self) -> PageRun: ...


class GuestGrants(Protocol):
    """The granting side: how a driver lets another domain use its pages.

    It depends on who writes the entries of the domain's grant table.

    * The domain does, where it has its table at hand: an emulated guest, another process into which
      the frames of its table are mapped, a kernel on real Xen (xen/grant_table.h, "Guest-side grant
      table operations"). Then kernels get the raw words and switch access on and off, packet by
      packet: entry ``g`` starts at ``words[g << shift]``, its frame number is word
      ``(g << shift) + shift`` (v1: shift 1, v2: shift 2); the half word that holds GTF_reading and
      GTF_writing is ``status[g << status_shift]``. The hypervisor changes them too, at any time, so
      an access ends by an atomic operation (xennet.granter), not by a store.
    * A service does, for a process that has no table: Linux's gntalloc on real Xen
      (libxengntshr), or a service of the domain's kernel. Then ``shift`` is 0, drivers use no words
      and claim no references, and every page is granted for life: :meth:`grant_access` once,
      :meth:`end_access` when its owner goes. A backend that still uses a page although its response
      says done (rule B5) is not noticed there before the end.

    Pages that are granted for life anyway, those of rings, take these two in both cases.
    """

    @property
    def words(self) -> memoryview: ...
    @property
    def shift(self) -> int: ...
    @property
    def status(self) -> memoryview: ...
    @property
    def status_shift(self) -> int: ...

    def claim(self, count: int) -> Sequence[int]:
        """Reserve ``count`` unused references, whose entries grant nothing yet; :meth:`end_access`
        gives them back.

        Raises HypercallError when the table is exhausted.
        """
        ...

    def grant_access(self, domid: int, frame: int, readonly: bool = False) -> int:
        """Let ``domid`` use one of the domain's own frames. Returns the grant reference.

        ``frame`` is PageRun.first + index; what was written into the page before may be gone, where
        a page that can be granted is another than one that cannot (gntalloc). Raises HypercallError
        when there is no reference left.
        """
        ...

    def end_access(self, gref: int) -> bool:
        """Revoke and release ``gref``, whatever its entry grants.

        Returns False while it is in use: it stays claimed then, and its page must be kept. A
        service that writes the table may return True at once if it keeps the page itself until it
        is unused (gntalloc).
        """
        ...

    def end_all(self, grefs: Sequence[int]) -> Sequence[int]:
        """:meth:`end_access` of each of ``grefs``. Returns those that are in use."""
        ...


class StoreTransaction(Protocol):
    """The operations of a XenStore connection, inside or outside a transaction."""

    def read(self, path: str) -> bytes: ...
    def write(self, path: str, value: bytes | str | int) -> None: ...
    def rm(self, path: str) -> None: ...
    def mkdir(self, path: str) -> None: ...
    def directory(self, path: str) -> list[str]: ...
    def set_perms(self, path: str, perms: Sequence[str]) -> None: ...


class StoreClient(StoreTransaction, Protocol):
    """A domain's XenStore connection. A refused request raises xennet.xenstore.XsError."""

    def transact(self, body: Callable[[Any], Any]) -> Any:
        """Run ``body(tx)`` in a transaction, again from the start as long as it meets EAGAIN.
        Returns what ``body`` returned."""
        ...

    def watch(self, path: str, token: str, callback: Callable[[str, str], None]) -> None: ...
    def unwatch(self, path: str, token: str) -> None: ...


class Interest(Protocol):
    """The interest of observers in events of one kind."""

    @property
    def any(self) -> bool:
        """Whether an observer wants them now."""
        ...


class Hypervisor(Protocol):
    """One domain's view of its machine."""

    @property
    def domid(self) -> int: ...
    @property
    def grants(self) -> GuestGrants: ...
    @property
    def store(self) -> StoreClient: ...

    def alloc_pages(self, count: int) -> PageRun:
        """Allocate ``count`` consecutive zeroed pages of the domain's own. Raises OutOfFramesError
        if there is no such run."""
        ...

    def free_pages(self, pages: PageRun) -> None: ...

    def map_grant(self, domid: int, gref: int, readonly: bool = False) -> GrantMapping:
        """GNTTABOP_map_grant_ref of one page. Raises HypercallError, with the GNTST_ code, on
        refusal."""
        ...

    def unmap_grant(self, mapping: GrantMapping) -> None: ...

    def grant_copy(self, ops: memoryview, count: int) -> None:
        """GNTTABOP_copy: ``count`` byte-exact struct gnttab_copy in ``ops`` (u32 words).

        Each element's status is written into the table; the call itself does not fail for them.
        Frames of DOMID_SELF are named by PageRun.first + index.
        """
        ...

    def alloc_unbound(self, remote_domid: int) -> int:
        """EVTCHNOP_alloc_unbound for oneself. Returns the local port."""
        ...

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain. Returns the local port."""
        ...

    def on_event(self, port: int, handler: Callable[[], None]) -> None:
        """Run ``handler`` when an event arrives at ``port``; this unmasks the port."""
        ...

    def mask(self, port: int) -> None:
        """Hold events of ``port`` back; an event that comes is remembered."""
        ...

    def unmask(self, port: int) -> None:
        """EVTCHNOP_unmask: an event that was held back arrives now."""
        ...

    def notify(self, port: int) -> None:
        """EVTCHNOP_send."""
        ...

    def close_port(self, port: int) -> None: ...

    def defer(self, work: Callable[[], None]) -> None:
        """Run ``work`` later, in this domain, when the run loop chooses to (a work queue item)."""
        ...

    @property
    def now(self) -> int:
        """The time in ns since some moment before; it moves only between deliveries."""
        ...

    def call_after(
        self, delay: int, work: Callable[[], None], *, background: bool = False
    ) -> Callable[[], None]:
        """Run ``work`` in this domain ``delay`` ns from now. Returns a function that prevents it.

        ``background``: ``work`` only looks whether anything has changed, so virtual time does not
        go on for its sake while nothing else happens.
        """
        ...

    def emit(self, event: object) -> None:
        """Pass ``event`` to the observers. Callers look at the :meth:`interest` first, so that an
        event without observers costs nothing."""
        ...

    def interest(self, kind: type) -> Interest:
        """The interest of observers in events of ``kind``. Callers keep it: it changes by
        itself."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """What a :class:`Hypervisor` is as well if others go on in the process of a domain that has
    stopped, and may call its drivers."""

    @property
    def running(self) -> bool:
        """Whether the domain's code may run: it is neither destroyed nor shut down."""
        ...
