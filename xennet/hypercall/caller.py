"""Who makes a hypercall: a domain, and the memory that its pointers lead to."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Protocol

from attrs import frozen

from xennet.hypervisor import Domain

#: Most elements that one hypercall takes at a time. Xen interrupts longer ones and goes on later
#: (hypercall_create_continuation); here the caller makes another call, so no program can keep the
#: machine from its other work.
MOST_ELEMENTS = 1024


class ProgramMemory(Protocol):
    """The memory of the calling program. Both raise OSError EFAULT where it has none."""

    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...


@frozen(eq=False)
class Caller:
    """A domain that makes hypercalls, and the memory in which their arguments are.

    ``shut_down(reason)`` is what SCHEDOP_shutdown does.
    """

    domain: Domain
    memory: ProgramMemory
    shut_down: Callable[[int], None]

    def elements(self, address: int, size: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Yields (address, bytes) of each of ``count`` elements of ``size`` bytes.

        As in Xen the elements before one that cannot be read are yielded, then OSError EFAULT is
        raised.
        """
        try:
            whole = self.memory.read(address, size * count) if count else b""
        except OSError:
            whole = b""
        for i in range(count):
            at = address + i * size & (1 << 64) - 1
            yield at, whole[i * size : (i + 1) * size] or self.memory.read(at, size)


#: A hypercall: its arguments (the caller and up to five registers) -> what it returns. Refusals are
#: OSError or HypercallError.
HypercallFunction = Callable[[Caller, int, int, int], int]


def refused(error: int, why: str) -> OSError:
    """An error for a hypercall that returns ``-error``."""
    return OSError(error, why)


def no_such_op(hypercall: str, cmd: int) -> OSError:
    """The error of an operation that this machine does not have: Xen's ENOSYS."""
    return refused(errno.ENOSYS, f"{hypercall} {cmd}")
