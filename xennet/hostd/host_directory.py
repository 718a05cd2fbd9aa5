"""The directory of a host that stays up: who has it, what is in it, what a dead host left there.

A host holds a lock on the file ``lock`` as long as it lives; the system lets go of it however the
host ends. So who gets the lock has the directory, and sockets in it are a dead host's.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress

from attrs import define, field

from xennet.exec.launch import socket_paths

#: The environment variable that names the directory of the host that commands mean.
HOST_VARIABLE = "XENNET_HOST"
#: Begin of the names of directories that hosts made for themselves.
_PREFIX = "xennet-host-"
#: Most bytes of a socket's name (struct sockaddr_un, with its NUL).
_LONGEST = 107
#: The longest name of a file in it: that of the highest domid.
_LONGEST_NAME = "xenstored-32751.sock"


class DirectoryError(Exception):
    """A directory cannot be a host's. The message is one line that names it."""


def runtime_directory() -> str:
    """Where hosts make directories of their own: the user's runtime directory, or the system's for
    temporary files."""
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    return own if os.path.isdir(own) and os.access(own, os.W_OK) else tempfile.gettempdir()


def control_socket(path: str) -> str:
    """The socket for commands to the host in the directory ``path``."""
    return os.path.join(path, "control.sock")


def store_socket(path: str, domid: int) -> str:
    """The socket of the store for domain ``domid`` of the host in the directory ``path``."""
    return socket_paths(path, domid)[1]


def exec_socket(path: str, domid: int) -> str:
    """The socket of domain ``domid`` for programs of the host in the directory ``path``."""
    return socket_paths(path, domid)[0]


def known_directories() -> Iterator[str]:
    """The directories that hosts of this user made for themselves and have a socket in, dead hosts'
    too."""
    above = runtime_directory()
    with suppress(OSError):
        for name in sorted(os.listdir(above)):
            path = os.path.join(above, name)
            with suppress(OSError):
                is_own = name.startswith(_PREFIX) and os.stat(path).st_uid == os.getuid()
                if is_own and os.path.exists(control_socket(path)):
                    yield path


@define(eq=False)
class HostDirectory:
    """The directory ``path`` (None: a fresh one below the runtime directory, removed in the end),
    taken with :meth:`take`."""

    path: str
    _fresh: bool
    _lock: int | None = field(init=False, default=None)

    @classmethod
    def at(cls, path: str | None) -> HostDirectory:
        """The directory ``path``, made if it is missing, of mode 0700; None: a fresh one, and what
        dead hosts made for themselves is removed.

        Raises DirectoryError if it cannot be one.
        """
        if path is None:
            _remove_dead()
            try:
                fresh = tempfile.mkdtemp(prefix=_PREFIX, dir=runtime_directory())
            except OSError as error:
                raise _refused(runtime_directory(), error) from error
            return cls(fresh, True)
        path = os.path.abspath(path)
        if len(longest := os.fsencode(os.path.join(path, _LONGEST_NAME))) > _LONGEST:
            raise DirectoryError(
                f"{path}: sockets in it would have names of {len(longest)} bytes, "
                f"{_LONGEST} are possible"
            )
        try:
            with suppress(FileExistsError):
                os.makedirs(path, 0o700)
            info = os.stat(path)
        except (OSError, ValueError) as error:
            raise _refused(path, error) from error
        if not stat.S_ISDIR(info.st_mode):
            raise DirectoryError(f"{path}: is no directory")
        if info.st_uid != os.getuid():
            raise DirectoryError(f"{path}: belongs to another user ({info.st_uid})")
        return cls(path, False)

    def take(self) -> list[str]:
        """Become the host of this directory, and remove the sockets that a dead one left. Returns
        their names. Raises DirectoryError if a host lives there."""
        name = os.path.join(self.path, "lock")
        lock = self._locked(name)
        while not _is_at(lock, name):  # its last host took it away meanwhile
            os.close(lock)
            lock = self._locked(name)
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        dead = [name for name in sorted(os.listdir(self.path)) if self._is_socket(name)]
        for name in dead:
            os.unlink(os.path.join(self.path, name))
        return dead

    def leave(self) -> None:
        """Let go of the directory, and remove it if it was made for this host. May be repeated."""
        if self._lock is None:
            return
        # Before the lock ends: afterwards the files are another host's.
        with suppress(OSError):
            os.unlink(os.path.join(self.path, "lock"))
        if self._fresh:
            with suppress(OSError):
                os.rmdir(self.path)
        os.close(self._lock)
        self._lock = None

    def _locked(self, name: str) -> int:
        """A descriptor of the file ``name``, with the lock. Raises DirectoryError if another has
        it."""
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _refused(name, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise DirectoryError(f"{self.path}: a host runs there (process {process})") from None
        return lock

    def _is_socket(self, name: str) -> bool:
        with suppress(OSError):
            if name.endswith((".sock", ".soc~")):
                return stat.S_ISSOCK(os.lstat(os.path.join(self.path, name)).st_mode)
        return False


def _remove_dead() -> None:
    """Remove the directories that hosts of this user made for themselves and left as they died."""
    above = runtime_directory()
    with suppress(OSError):
        for name in os.listdir(above):
            path = os.path.join(above, name)
            with suppress(OSError, DirectoryError):
                if name.startswith(_PREFIX) and _was_taken(path):
                    dead = HostDirectory(path, True)
                    dead.take()
                    dead.leave()


def _was_taken(path: str) -> bool:
    """Whether ``path`` is a directory of this user that a host has, or had: the process id is in
    the lock. A host that is about to take it has not written it yet."""
    info, lock = os.lstat(path), os.lstat(os.path.join(path, "lock"))
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and lock.st_size > 0


def _is_at(fd: int, path: str) -> bool:
    """Whether ``fd`` is of the file that is at ``path``."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


def _refused(path: str, error: Exception) -> DirectoryError:
    reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    return DirectoryError(f"{path}: {reason}")
