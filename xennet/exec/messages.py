"""What the shim in a program and the server say to each other: ``shim.c`` has the same in C.

A message of the SEQPACKET connection is a request with its data, or an answer with its data and
perhaps a descriptor. Both processes are of one machine, so numbers are in its own byte order.
"""

from __future__ import annotations

import socket
import struct

#: struct request: op, arg, cookie, a[0..3]. ``cookie`` is the SO_COOKIE of the device file.
REQUEST = struct.Struct("=IIQ4Q")
#: struct answer: error, flags, result, address, prot, number of extents.
ANSWER = struct.Struct("=iIqQII")
#: struct extent: first page in the descriptor that comes along, number of pages.
EXTENT = struct.Struct("=QQ")
#: The most bytes of a request: an ioctl's argument has 14 bits of size.
MOST_BYTES = REQUEST.size + (1 << 14)
#: The most extents that one answer can have.
MAX_EXTENTS = 4096
#: First page of an extent that is not mapped.
HOLE = (1 << 64) - 1

_SO_COOKIE = 57


def cookie_of(end: socket.socket) -> int:
    """The SO_COOKIE of the socket that a program gets, by which both sides call it."""
    return int.from_bytes(end.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")


OP_OPEN = 1
"""arg: flags of open(2); data: the path. The answer has the descriptor."""
OP_ACCESS = 2
"""data: the path. Error 0 if there is such a device."""
OP_IOCTL = 3
"""arg: the number; a: the argument, UNREADABLE or 0; data: what the argument points to. The
answer's data goes there."""
OP_MMAP = 4
"""arg: protection; a: address, bytes, offset, flags. The answer has extents and a descriptor."""
OP_MUNMAP = 5
"""a: address, bytes: there are no pages of the machine any more."""
OP_EMPTY_READ = 6
"""A read of the device file gave nothing. Error EFBIG or EAGAIN (read again); 0: it is the end."""
OP_CRASH = 7
"""The end of this process is to be the crash of its domain."""
OP_POLL = 8
"""arg: events of poll(2); a: SO_COOKIE of the thread's waker, 0 if it does not wait. The result is
what is so of them."""
OP_WAKER = 9
"""The answer has a descriptor that can be read when OP_POLL may find something."""

#: Flag of OP_IOCTL: the program cannot read what the argument points to.
UNREADABLE = 1

#: SO_MAX_PACING_RATE, which means nothing to such a socket, of a device file that OP_POLL is for.
POLLED = int.from_bytes(b"netmap", "big")

# Flags of an answer
MAPS = 1
DONT_FORK = 2
LATER = 4
"""The answer comes by the descriptor that is with this one."""
