"""The numbers of xen/io/xs_wire.h, all of which :mod:`xennet.abi.xs_wire` has as well.

A server of sockets needs no more, and starts sooner without Construct.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType

# enum xsd_sockmsg_type
XS_CONTROL = 0
XS_DIRECTORY = 1
XS_READ = 2
XS_GET_PERMS = 3
XS_WATCH = 4
XS_UNWATCH = 5
XS_TRANSACTION_START = 6
XS_TRANSACTION_END = 7
XS_INTRODUCE = 8
XS_RELEASE = 9
XS_GET_DOMAIN_PATH = 10
XS_WRITE = 11
XS_MKDIR = 12
XS_RM = 13
XS_SET_PERMS = 14
XS_WATCH_EVENT = 15
XS_ERROR = 16
XS_IS_DOMAIN_INTRODUCED = 17
XS_RESUME = 18
XS_SET_TARGET = 19
XS_RESTRICT = 20  # removed from the header; a server answers ENOSYS
XS_RESET_WATCHES = 21
XS_DIRECTORY_PART = 22
# Younger than the 4.17 headers
XS_GET_FEATURE = 23
XS_SET_FEATURE = 24
XS_GET_QUOTA = 25
XS_SET_QUOTA = 26

# Message type -> its name
XS_NAMES: Mapping[int, str] = MappingProxyType(
    {value: name for name, value in list(globals().items()) if name.startswith("XS_")}
)

XS_DEBUG = XS_CONTROL
XS_TYPE_COUNT = 23
XS_TYPE_COUNT_in_master = 27
XS_INVALID = 0xFFFF

# Words of XS_WRITE in the oldest protocol
XS_WRITE_NONE = "NONE"
XS_WRITE_CREATE = "CREATE"
XS_WRITE_CREATE_EXCL = "CREATE|EXCL"

# enum xs_watch_type: the parts of a watch event
XS_WATCH_PATH = 0
XS_WATCH_TOKEN = 1

# (errnum, errstring) in the header's order; errors cross the wire as strings
xsd_errors: tuple[tuple[int, str], ...] = (
    (errno.EINVAL, "EINVAL"),
    (errno.EACCES, "EACCES"),
    (errno.EEXIST, "EEXIST"),
    (errno.EISDIR, "EISDIR"),
    (errno.ENOENT, "ENOENT"),
    (errno.ENOMEM, "ENOMEM"),
    (errno.ENOSPC, "ENOSPC"),
    (errno.EIO, "EIO"),
    (errno.ENOTEMPTY, "ENOTEMPTY"),
    (errno.ENOSYS, "ENOSYS"),
    (errno.EROFS, "EROFS"),
    (errno.EBUSY, "EBUSY"),
    (errno.EAGAIN, "EAGAIN"),
    (errno.EISCONN, "EISCONN"),
    (errno.E2BIG, "E2BIG"),
    (errno.EPERM, "EPERM"),
)

# Bytes
XENSTORE_RING_SIZE = 1024
XENSTORE_PAYLOAD_MAX = 4096
XENSTORE_ABS_PATH_MAX = 3072
XENSTORE_REL_PATH_MAX = 2048

# xenstore_domain_interface.server_features
XENSTORE_SERVER_FEATURE_RECONNECTION = 1
XENSTORE_SERVER_FEATURE_ERROR = 2
# Younger than the 4.17 headers
XENSTORE_SERVER_FEATURE_WATCHDEPTH = 4
XENSTORE_SERVER_FEATURE_DOMID_ANY = 8

# xenstore_domain_interface.connection
XENSTORE_CONNECTED = 0
XENSTORE_RECONNECT = 1

# xenstore_domain_interface.error
XENSTORE_ERROR_NONE = 0
XENSTORE_ERROR_COMM = 1
XENSTORE_ERROR_RINGIDX = 2
XENSTORE_ERROR_PROTO = 3
