"""HYPERVISOR_xen_version (xen/version.h; xen/common/kernel.c do_xen_version)."""

from __future__ import annotations

import errno

from xennet.abi.version import (
    XEN_CAPABILITIES_INFO_LEN,
    XEN_CHANGESET_INFO_LEN,
    XEN_EXTRAVERSION_LEN,
    XEN_FEATURE_INFO,
    XENFEAT_NR_SUBMAPS,
    XENVER_capabilities,
    XENVER_changeset,
    XENVER_extraversion,
    XENVER_get_features,
    XENVER_guest_handle,
    XENVER_pagesize,
    XENVER_version,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.hypercall.caller import Caller, no_such_op, refused

#: The release whose headers and rules this machine follows.
VERSION = 4, 17

_TEXTS = {
    XENVER_extraversion: b".xennet".ljust(XEN_EXTRAVERSION_LEN, b"\0"),
    XENVER_capabilities: b"xen-3.0-x86_64".ljust(XEN_CAPABILITIES_INFO_LEN, b"\0"),
    XENVER_changeset: b"unavailable".ljust(XEN_CHANGESET_INFO_LEN, b"\0"),
    XENVER_guest_handle: bytes(16),
}


def xen_version(caller: Caller, cmd: int, arg: int, _: int) -> int:
    """The version and the size of a page are returned, everything else is written to ``arg``.

    None of the features is there (XENVER_get_features): frames are those of the machine.
    """
    if cmd == XENVER_version:
        return VERSION[0] << 16 | VERSION[1]
    if cmd == XENVER_pagesize:
        if arg:
            raise refused(errno.EINVAL, "XENVER_pagesize takes no argument")
        return PAGE_SIZE
    if cmd == XENVER_get_features:
        asked = XEN_FEATURE_INFO.read(caller.memory.read(arg, XEN_FEATURE_INFO.size))
        if asked.submap_idx >= XENFEAT_NR_SUBMAPS:
            raise refused(errno.EINVAL, f"submap {asked.submap_idx}")
        caller.memory.write(arg, XEN_FEATURE_INFO.pack(asked.submap_idx, 0))
        return 0
    if cmd not in _TEXTS:
        raise no_such_op("HYPERVISOR_xen_version", cmd)
    caller.memory.write(arg, _TEXTS[cmd])
    return 0
