"""Path rules: which names are legal and what a relative path means (docs/misc/xenstore.txt).

Lengths follow the C daemon's ``is_valid_nodename``: the limit of 2048 counts what is left after
an optional ``/local/domain/<n>/`` prefix, so an absolute path may reach 2048 + the prefix. Whom it
binds depends on the daemon.
"""

from __future__ import annotations

import re

from xennet.xenstore.errors import XsError

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"
SPECIALS = (INTRODUCE_DOMAIN, RELEASE_DOMAIN)

_LEGAL = re.compile(r"[-A-Za-z0-9/_@]+").fullmatch
# sscanf("/local/domain/%5u/%n"), which takes a sign for part of a number
_DOMAIN_PREFIX = re.compile(r"/local/domain/(?=[-0-9]{1,5}/)-?[0-9]+/").match


def domain_path(domid: int) -> str:
    """Home directory of a domain, ``/local/domain/<domid>``."""
    return f"/local/domain/{domid}"


def is_special(path: str) -> bool:
    """True for the event names ``@...``, which are no nodes of the tree."""
    return path.startswith("@")


def is_relative(path: str) -> bool:
    """True for a path that is meant below the home directory of the connection's domain."""
    return not path.startswith(("/", "@"))


def absolute(path: str, domid: int) -> str:
    """What ``path`` means for a connection of domain ``domid``, legal or not."""
    return f"{domain_path(domid)}/{path}" if is_relative(path) else path


def canonical(path: str, domid: int, *, special: bool = False) -> str:
    """Absolute form of ``path`` for a connection of domain ``domid``.

    Raises XsError EINVAL for an empty name, an illegal character, a trailing or double slash, and
    for a special name unless ``special`` ones are wanted as well. How long it may be is
    :func:`path_length`'s to tell.
    """
    full = absolute(path, domid)
    if is_special(path) and not special:
        raise XsError("EINVAL", path, "special names are no nodes")
    if full == "/":
        return full
    if full.endswith("/"):
        raise XsError("EINVAL", path, "empty or ends in a slash")
    if "//" in full:
        raise XsError("EINVAL", path, "contains //")
    if _LEGAL(full) is None:
        raise XsError("EINVAL", path, "only A-Z a-z 0-9 - / _ @ are legal")
    return full


def path_length(full: str) -> int:
    """Characters of a canonical path that the quota counts: those after a domain's directory."""
    prefix = _DOMAIN_PREFIX(full)
    return len(full) - (prefix.end() if prefix is not None else 0)


def split(path: str) -> list[str]:
    """Names from the root down, ``[]`` for the root."""
    return path.split("/")[1:] if path != "/" else []


def parent(path: str) -> str:
    """Path of the directory that holds ``path``; the root is its own parent, and that of a
    special name."""
    return path[: path.rfind("/")] or "/" if "/" in path else "/"


def join(directory: str, name: str) -> str:
    """Path of the child ``name`` of ``directory``."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def is_same_or_below(path: str, top: str) -> bool:
    """True if ``path`` is ``top`` or lies below it (``/w`` does not cover ``/wx``)."""
    return path == top or top == "/" or path.startswith(top + "/")
