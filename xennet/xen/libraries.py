"""The libraries of the Xen tools through ctypes: libxengnttab, libxenevtchn, libxentoollog.

Their names and the calls used here are the same in Xen 4.17 and 4.20 (tools/libs).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from xennet.xen.errors import XenError

_PTR, _INT, _U32 = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32

#: soname -> function -> (result, arguments).
_CALLS: dict[str, dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "libxengnttab.so.1": {
        "xengnttab_open": (_PTR, (_PTR, ctypes.c_uint)),
        "xengnttab_close": (_INT, (_PTR,)),
        "xengnttab_map_grant_ref": (_PTR, (_PTR, _U32, _U32, _INT)),
        "xengnttab_unmap": (_INT, (_PTR, _PTR, _U32)),
        "xengnttab_grant_copy": (_INT, (_PTR, _U32, _PTR)),
    },
    "libxenevtchn.so.1": {
        "xenevtchn_open": (_PTR, (_PTR, ctypes.c_uint)),
        "xenevtchn_close": (_INT, (_PTR,)),
        "xenevtchn_fd": (_INT, (_PTR,)),
        "xenevtchn_notify": (_INT, (_PTR, _U32)),
        "xenevtchn_bind_unbound_port": (_INT, (_PTR, _U32)),
        "xenevtchn_bind_interdomain": (_INT, (_PTR, _U32, _U32)),
        "xenevtchn_unbind": (_INT, (_PTR, _U32)),
    },
    "libxentoollog.so.1": {
        "xtl_createlogger_stdiostream": (_PTR, (_PTR, _INT, ctypes.c_uint)),
    },
}
#: Debian's packages of them.
_PACKAGES = {soname: f"{soname.removesuffix('.so.1')}1" for soname in _CALLS}
#: XTL_CRITICAL: what a call says of its failure is in errno, and a peer can make calls fail.
_CRITICAL = 9


@cache
def library(soname: str) -> ctypes.CDLL:
    """One of the libraries, with the types of its calls. Raises XenError if it is not there."""
    try:
        loaded = ctypes.CDLL(soname, use_errno=True)
        for name, (result, arguments) in _CALLS[soname].items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        package = _PACKAGES[soname]
        raise XenError(f"{error}; it is a library of the Xen tools, in Debian {package}") from None
    return loaded


@cache
def quiet_logger() -> int:
    """The address of a logger that keeps what libraries say of failed calls to itself."""
    stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
    made: int = library("libxentoollog.so.1").xtl_createlogger_stdiostream(stderr, _CRITICAL, 0)
    return made
