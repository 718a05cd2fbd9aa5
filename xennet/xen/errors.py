"""The error of a domain that cannot be used."""

from __future__ import annotations

import errno
import os

from xennet.errors import LinkError


class XenError(LinkError):
    """A library, a device or the store of a real Xen cannot be used. The message is one line that
    names it, with the errno."""


def because(number: int) -> str:
    """The name and the text of an errno: "ENOENT, No such file or directory"."""
    return f"{errno.errorcode.get(number, number)}, {os.strerror(number)}"
