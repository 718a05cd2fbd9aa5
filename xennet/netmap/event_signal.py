"""Counting an eventfd of a client's up, as eventfd_signal() of a kernel does: it never waits.

write(2) to an eventfd waits while its counter is full, and a client can fill it between a look at
it and the write. O_NONBLOCK would be the client's too, who shares the open file description, and
it can take it away; eventfds do not know RWF_NOWAIT (EOPNOTSUPP). But Linux signals the eventfd
that an asynchronous request names (IOCB_FLAG_RESFD, linux/aio_abi.h) by that very function when
the request is done: a read of no bytes is, at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache

#: Numbers of io_setup, io_getevents, io_submit.
_GENERIC = (0, 4, 2)
_NUMBERS = {"x86_64": (206, 208, 209), "aarch64": _GENERIC, "riscv64": _GENERIC}
#: struct iocb: opcode (IOCB_CMD_PREAD) and descriptor; flags (IOCB_FLAG_RESFD) and eventfd.
_IOCB = struct.Struct("=16xHhI32xII")
_RESFD_AT = 60
_PREAD, _RESFD = 0, 1
_EVENT_BYTES = 32
#: Requests of which the kernel keeps what became of them.
_MOST = 64

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class _Context:
    """What the requests of a process go to. It stays: io_destroy(2) waits for tens of ms."""

    def __init__(self) -> None:
        numbers = _NUMBERS.get(os.uname().machine)
        if numbers is None:
            raise OSError(errno.ENOSYS, "asynchronous requests of this machine are not known")
        setup, self._getevents, self._submit = numbers
        self._id = ctypes.c_ulong(0)
        if _syscall(setup, _MOST, ctypes.byref(self._id)):
            number = ctypes.get_errno()
            raise OSError(number, f"io_setup: {os.strerror(number)}")
        self.null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def submit(self, requests: ctypes.Array[ctypes.c_void_p]) -> bool:
        """Make one request. Returns whether it has been made."""
        return bool(_syscall(self._submit, self._id, ctypes.c_long(1), requests) == 1)

    def forget(self) -> None:
        """Take away what became of the last requests."""
        done = ctypes.create_string_buffer(_MOST * _EVENT_BYTES)
        _syscall(self._getevents, self._id, ctypes.c_long(0), ctypes.c_long(_MOST), done, None)


@cache
def _context(pid: int) -> _Context:
    """That of this process: a child has none of its parent's."""
    return _Context()


class EventSignal:
    """Counts eventfds up. Raises OSError if this kernel cannot do that: ENOSYS, or EAGAIN with too
    many requests in the system (fs.aio-max-nr)."""

    def __init__(self) -> None:
        self._context = _context(os.getpid())
        self._request = ctypes.create_string_buffer(
            _IOCB.pack(_PREAD, 0, self._context.null, _RESFD, 0), _IOCB.size
        )
        self._requests = (ctypes.c_void_p * 1)(ctypes.addressof(self._request))

    def signal(self, eventfd: int) -> None:
        """Add 1 to the counter of ``eventfd``, unless it is at its end (2**64 - 1). It is lost if
        the kernel has no memory."""
        struct.pack_into("=I", self._request, _RESFD_AT, eventfd)
        if not self._context.submit(self._requests):
            self._context.forget()
            self._context.submit(self._requests)
