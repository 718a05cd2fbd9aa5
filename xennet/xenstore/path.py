"""Paths: which names are legal, and what a relative path means (docs/misc/xenstore.txt).

Lengths follow ``is_valid_nodename`` of the C daemon: the limit of 2048 counts the characters behind
an optional prefix ``/local/domain/<n>/``, so an absolute path may have 2048 more than its prefix.
Which connections the limit binds depends on the daemon.
"""

from __future__ import annotations

import re
from functools import lru_cache

from xennet.xenstore.errors import XsError

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"
SPECIALS = (INTRODUCE_DOMAIN, RELEASE_DOMAIN)

_LEGAL = re.compile(r"[-A-Za-z0-9/_@]+").fullmatch
# sscanf("/local/domain/%5u/%n"), which takes a sign for part of a number
_DOMAIN_PREFIX = re.compile(r"/local/domain/(?=[-0-9]{1,5}/)-?[0-9]+/").match


def domain_path(domid: int) -> str:
    """The home directory of a domain, ``/local/domain/<domid>``."""
    return f"/local/domain/{domid}"


def is_special(path: str) -> bool:
    """Whether ``path`` is the name of an event, ``@...``, and no node of the tree."""
    return path.startswith("@")


def is_relative(path: str) -> bool:
    """Whether ``path`` starts at the home directory of the connection's domain."""
    return not path.startswith(("/", "@"))


def absolute(path: str, domid: int) -> str:
    """The absolute form of ``path``, legal or not, for a connection of domain ``domid``."""
    return f"{domain_path(domid)}/{path}" if is_relative(path) else path


def canonical(path: str, domid: int, special: bool = False) -> str:
    """The absolute form of ``path`` for a connection of domain ``domid``.

    Raises XsError EINVAL for an empty name, an illegal character, a slash at the end, a double
    slash, and for a special name unless ``special`` is True. The length is not checked
    (:func:`path_length`).
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
    """The number of characters of a canonical path that the quota counts.

    A prefix ``/local/domain/<n>/`` is not counted.
    """
    prefix = _DOMAIN_PREFIX(full)
    return len(full) - (prefix.end() if prefix is not None else 0)


@lru_cache(1024)
def measured(path: str, domid: int, special: bool = False) -> tuple[str, int]:
    """:func:`canonical` and its :func:`path_length`."""
    full = canonical(path, domid, special)
    return full, path_length(full)


def split(path: str) -> list[str]:
    """The names on the way from the root to ``path``; none for the root."""
    return path.split("/")[1:] if path != "/" else []


@lru_cache(256)
def parent(path: str) -> str:
    """The path of the parent of ``path``. The root is its own parent, and that of special names."""
    return path.rpartition("/")[0] or "/"


def join(directory: str, name: str) -> str:
    """The path of the child ``name`` of ``directory``."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def is_same_or_below(path: str, top: str) -> bool:
    """Whether ``path`` is ``top`` or lies below it (``/wx`` is not below ``/w``, and a special name
    is below nothing)."""
    return path == top or path.startswith(f"{top}/") or (top == "/" and not is_special(path))
