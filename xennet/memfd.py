"""Memory that other processes can map and cannot take away."""

from __future__ import annotations

import fcntl
import os


def new_memfd(name: str, size: int) -> int:
    """A memfd of ``size`` bytes, which stays as large as it is: who has it mapped, or a descriptor
    of it, cannot make it smaller under those who touch it (SIGBUS). Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(fd)
        raise
    return fd
