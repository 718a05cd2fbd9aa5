"""Path rules: which names are legal and what a relative path means (docs/misc/xenstore.txt).

Lengths follow the C daemon's ``is_valid_nodename``: the limit of 2048 counts what is left after
an optional ``/local/domain/<n>/`` prefix, so an absolute path may reach 2048 + the prefix.
"""

from __future__ import annotations

import re

from xennet.abi.xs_wire import XENSTORE_REL_PATH_MAX
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


def canonical(path: str, domid: int, limit: int = XENSTORE_REL_PATH_MAX) -> str:
    """Absolute form of ``path`` for a connection of domain ``domid``.

    Raises XsError EINVAL for an empty or special name, an illegal character, a trailing or double
    slash, or more than ``limit`` characters.
    """
    full = path
    if is_relative(path):
        if len(path) > limit:
            raise XsError("EINVAL", path, f"relative path of {len(path)} characters > {limit}")
        full = f"{domain_path(domid)}/{path}"
    if not full.startswith("/"):
        raise XsError("EINVAL", path, "special names are no nodes")
    if full == "/":
        return full
    if full.endswith("/"):
        raise XsError("EINVAL", path, "empty or ends in a slash")
    if "//" in full:
        raise XsError("EINVAL", path, "contains //")
    if _LEGAL(full) is None:
        raise XsError("EINVAL", path, "only A-Z a-z 0-9 - / _ @ are legal")
    if len(full) > limit:
        prefix = _DOMAIN_PREFIX(full)
        if prefix is None or len(full) > limit + prefix.end():
            raise XsError("EINVAL", path, f"{len(full)} characters, the limit is {limit}")
    return full


def canonical_watch(path: str, domid: int, limit: int = XENSTORE_REL_PATH_MAX) -> str:
    """Like :func:`canonical`, but any ``@name`` may be watched as well."""
    if is_special(path):
        if len(path) > limit:
            raise XsError("EINVAL", path, f"{len(path)} characters, the limit is {limit}")
        return path
    return canonical(path, domid, limit)


def split(path: str) -> list[str]:
    """Names from the root down, ``[]`` for the root."""
    return path.split("/")[1:] if path != "/" else []


def parent(path: str) -> str:
    """Path of the directory that holds ``path``; the root is its own parent."""
    return path[: path.rindex("/")] or "/"


def join(directory: str, name: str) -> str:
    """Path of the child ``name`` of ``directory``."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def is_same_or_below(path: str, top: str) -> bool:
    """True if ``path`` is ``top`` or lies below it (``/w`` does not cover ``/wx``)."""
    return path == top or top == "/" or path.startswith(top + "/")
