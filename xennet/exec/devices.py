"""What a device is: one small protocol, and one table by the paths that programs open.

Each open(2) of a path of :data:`xennet.exec.device_table.DEVICES` makes a :class:`Device`, which
answers for that one open file until its last descriptor is closed and its last page unmapped,
wherever descriptors were passed to. A device raises OSError with the errno that the program gets,
or HypercallError, whose negative errno it gets. Nothing here waits.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from attrs import define, field, frozen

from xennet.exec import messages
from xennet.exec.client_memory import ClientMemory
from xennet.exec.served_domain import ServedDomain
from xennet.pump import Pump

PROT_WRITE = 2
MAP_SHARED = 1


@define(eq=False, repr=False)
class OpenFile:
    """One open file of a device: ``socket`` is the machine's end of the pair whose other end the
    program has; ``domain`` is the domain that it was opened in.

    ``common`` is one dictionary for all files of the server: what a device keeps for the whole
    machine is there, under the device's own key. ``pump`` makes the machine go. ``mappings`` counts
    those that hold the file.
    """

    domain: ServedDomain
    path: str
    cookie: int
    socket: socket.socket
    common: dict[str, Any] = field(repr=False)
    pump: Pump = field(repr=False)
    mappings: int = 0
    open: bool = True
    device: Device = field(init=False, repr=False)


@define(eq=False, repr=False)
class Mapping:
    """Pages of a device file that a program has mapped at ``address``: ``count`` of them, of which
    ``left`` are still there. ``tag`` is what the device likes to find again."""

    file: OpenFile
    address: int
    count: int
    left: int
    frames: list[int] | None
    tag: Any = None


class Client(Protocol):
    """The process that calls."""

    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    @property
    def memory(self) -> ClientMemory: ...
    def mapping_at(self, address: int) -> tuple[Mapping, int] | None:
        """The mapping of a page of the machine at ``address``, and which of its pages that is."""
        ...


class Later:
    """The answer of a call that may go on for long. To be made before that begins: raises OSError
    if there is no descriptor left for what the program waits on."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, ...] = ()
        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def __del__(self) -> None:
        for end in self._ends:
            end.close()

    def begin(self) -> int:
        """The call is not over. Returns the program's descriptor, for the caller to close."""
        return self._ends[1].detach()

    def answer(self, error: int) -> None:
        """The call is over, with an errno or 0."""
        with self._ends[0] as mine, suppress(OSError):  # the program is gone
            mine.send(messages.ANSWER.pack(error, 0, 0, 0, 0, 0), socket.MSG_DONTWAIT)


@define(eq=False, repr=False)
class Call:
    """One ioctl: ``number``, ``address`` (the argument as the program gave it) and ``data``, the
    bytes there, as many as the number says; None if the program cannot read them.

    ``out`` is copied to ``address`` if there is no error; if the program cannot write there it gets
    EFAULT, and what was done stays done. ``pages`` are mapped by the program before its call ends.
    """

    client: Client
    number: int
    address: int
    data: bytes | None
    out: bytes = b""
    pages: Pages | None = None
    later: Later | None = None

    def argument(self) -> bytes:
        """The argument's bytes. Raises OSError EFAULT as copy_from_user() would."""
        if self.data is None:
            raise OSError(errno.EFAULT, "the program cannot read its argument")
        return self.data


@frozen
class MapRequest:
    """One mmap(2): of ``count`` pages at ``address`` (which the program has reserved), from
    ``offset`` bytes of the file on, with ``prot`` and ``flags`` as the program gave them."""

    client: Client
    address: int
    count: int
    offset: int
    prot: int
    flags: int


@frozen
class Pages:
    """What a program is to map. ``extents``: (first page in ``fd``, number of pages) one behind
    the other; a first page of None is a hole, which stays inaccessible.

    ``frames`` are the numbers of the machine's frames, if they are that: they get no other owner
    before the program has unmapped them. ``tag`` is for :class:`Mapping`. ``dont_fork``: a child
    does not have them (VM_DONTCOPY). ``address``: only for the pages of a :class:`Call`.
    """

    fd: int
    prot: int
    extents: Sequence[tuple[int | None, int]]
    frames: Sequence[int] | None = None
    tag: Any = None
    dont_fork: bool = True
    address: int = 0


def of_frames(
    domain: ServedDomain,
    frames: Sequence[int],
    prot: int,
    tag: Any = None,
    *,
    address: int = 0,
    payload: bool = False,
) -> Pages:
    """Pages of the machine's memory; of a read-only descriptor if ``prot`` is without PROT_WRITE. A
    negative frame is a hole.

    ``payload``: they are no pages of a grant table or of event channels, whose words the hypervisor
    changes too, by atomic operations from now on (Memory.quiet).
    """
    if not payload and prot & PROT_WRITE:
        domain.machine.memory.quiet = False
    extents: list[tuple[int | None, int]] = []
    first, count = 0, 0
    for frame in frames:
        if count and frame == (first + count if first >= 0 else -1):
            count += 1
            continue
        if count:
            extents.append((first if first >= 0 else None, count))
        first, count = frame, 1
    if count:
        extents.append((first if first >= 0 else None, count))
    fd = domain.memory_fd(readonly=not prot & PROT_WRITE)
    return Pages(fd, prot & 7, extents, frames, tag, address=address)


class Device:
    """One open file of a device that does nothing: what there is to overrule.

    A device of another room derives from this, or has these methods.
    """

    #: The socket's type: SOCK_STREAM, or SOCK_SEQPACKET where each message is one.
    kind = socket.SOCK_STREAM
    #: Whether poll(2) of a descriptor asks :meth:`poll`; the socket is at its end then, so that a
    #: read asks :meth:`overflowed`.
    polled = False
    #: The errno of an ioctl that is not there.
    no_ioctl = errno.ENOTTY

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        #: The ioctls by their numbers: what does one returns what ioctl(2) does, None for 0.
        self.ioctls: dict[int, Callable[[Call], int | None]] = {}
        #: What the server calls for it: the program's end of the socket is closed.
        self.closed: Callable[[], None] = lambda: None
        #: Call a function whenever the socket has room (None: no more).
        self.watch_writable: Callable[[Callable[[], None] | None], None] = lambda call: None

    def opened(self) -> None:
        """The program has its descriptor as soon as this is over."""

    def ioctl(self, call: Call) -> int:
        """Returns what ioctl(2) returns, not negative."""
        handler = self.ioctls.get(call.number)
        if handler is None:
            raise OSError(self.no_ioctl, f"no such ioctl of {self.file.path}")
        return handler(call) or 0

    def mmap(self, request: MapRequest) -> Pages:
        """Returns what is to be mapped."""
        raise OSError(errno.ENODEV, "nothing to map")

    def munmap(self, mapping: Mapping, first: int, count: int) -> None:
        """Pages ``first`` to ``first + count - 1`` of a mapping are not there any more; with them
        ``mapping.left`` has fallen."""

    def readable(self, data: bytes) -> None:
        """The program wrote ``data``."""

    def overflowed(self) -> int:
        """The errno of a read that gave nothing; 0: it is the end of the file."""
        return 0

    def poll(self, client: Client, events: int, wake: Callable[[], None] | None) -> int:
        """Returns which of ``events`` of poll(2) are so.

        If none is, ``wake`` (None: the program does not wait) is called once, as soon as that may
        be another.
        """
        raise OSError(errno.ENOTTY, "not to be polled")

    def at_once(
        self, client: Client, op: int, arg: int, wake: Callable[[], None] | None
    ) -> int | None:
        """The result of an ioctl or a poll (``op``, ``arg``: as in messages.py) of a device that is
        polled, if it needs no delivery and is not refused; None for any other."""
        return None

    def last_close(self) -> None:
        """The last descriptor is closed; pages may still be mapped."""

    def release(self) -> None:
        """The last descriptor is closed and the last page unmapped. In a domain that does not run
        any more no hypercall is possible, and everything stays in place."""


#: Makes the device of one open file.
MakeDevice = Callable[[OpenFile], Device]
