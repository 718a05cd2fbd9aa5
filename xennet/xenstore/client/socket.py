"""Where a XenStore server listens, and how to connect: as libxenstore does it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Mapping

from xennet.xenstore.client.channel import FdChannel
from xennet.xenstore.errors import XsError

RUNDIR = "/var/run/xenstored"
DEVICES = ("/dev/xen/xenbus", "/proc/xen/xenbus")


def socket_path(environ: Mapping[str, str] = os.environ) -> str:
    """The socket of the running daemon (``xs_daemon_socket``): $XENSTORED_PATH, else ``socket`` in
    $XENSTORED_RUNDIR, else in /var/run/xenstored."""
    return environ.get("XENSTORED_PATH") or (
        environ.get("XENSTORED_RUNDIR", RUNDIR).rstrip("/") + "/socket"
    )


def open_channel(path: str | None = None, timeout: float | None = None) -> FdChannel:
    """Connect to ``path``, a socket or the xenbus device.

    Without a path it connects to :func:`socket_path`, and if that fails to the device, unless
    $XENSTORED_PATH is set (``xs_open``). Raises XsError with the system's errno and the path.
    """
    if path is not None or "XENSTORED_PATH" in os.environ:
        return _open(path or socket_path(), timeout)
    try:
        return _open(socket_path(), timeout)
    except XsError:
        for device in DEVICES:
            if os.path.exists(device):
                return _open(device, timeout)
        raise


def _open(path: str, timeout: float | None) -> FdChannel:
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            return FdChannel(_connect(path, timeout))
        if not stat.S_ISCHR(os.stat(path).st_mode):
            raise XsError("ENOTSOCK", path, "neither a socket nor a device")
        return FdChannel(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise XsError(name, path, "cannot connect to XenStore") from None


def _connect(path: str, timeout: float | None) -> int:
    """A connected socket. SO_SNDTIMEO, because a non-blocking connect of a unix socket does not
    wait for room in the backlog (that of the C daemon is 1)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        if timeout is not None:
            seconds, rest = divmod(max(timeout, 0.000001), 1)
            interval = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
        peer.connect(path)
        return peer.detach()
