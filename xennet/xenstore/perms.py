"""Permissions: their text form and the access decision (``perm_for_conn`` of the C daemon).

The first entry names the owner and, by its letter, what everybody else may do. Of the later
entries the first that names the domain decides. ``n0 r8 w8`` gives domain 8 read only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from attrs import evolve, frozen

from xennet.xenstore.errors import XsError


class Access:
    """What a domain may do with a node: bits of a number."""

    NONE = 0
    READ = 1
    WRITE = 2
    OWNER = 4


FULL = Access.READ | Access.WRITE | Access.OWNER

ANY = Access.NONE
"""No right: what a request demands that needs none."""

_LETTERS = {
    "n": Access.NONE,
    "r": Access.READ,
    "w": Access.WRITE,
    "b": Access.READ | Access.WRITE,
}
# What strtol(text, &end, 0) accepts as a whole
_NUMBER = re.compile(r"[ \t-\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))").fullmatch
_BASES = (16, 8, 10)


@frozen
class Perm:
    """One permission entry: ``letter`` is one of "nrwb".

    A ``stale`` entry names a domain that did not exist, or had an earlier life, when the node was
    last written. It is shown and grants nothing (XSA-322).
    """

    letter: str
    domid: int
    stale: bool = False

    @property
    def access(self) -> int:
        """The rights that the letter stands for."""
        return _LETTERS[self.letter]

    def __str__(self) -> str:
        return f"{self.letter}{self.domid}"


Perms = tuple[Perm, ...]


class Identity(NamedTuple):
    """The domain that makes a request, and its rights.

    ``target`` is a domain whose rights it shares, None if there is none; a ``privileged`` domain
    may do everything.
    """

    domid: int
    privileged: bool = False
    target: int | None = None


@lru_cache(1024)
def parse_perm(text: str) -> Perm:
    """The entry that ``text`` ("r5") means.

    The number is read as strtol with base 0 does (0x10 and 010 are legal, and blanks and a sign
    before it) and cut to 32 bits, as the daemon does; domains have ids below 0x7FF0. Raises XsError
    EINVAL for another letter, no number, or anything behind it.
    """
    if not text or text[0] not in _LETTERS:
        raise XsError("EINVAL", text, "permission must start with one of n r w b")
    number = _NUMBER(text[1:])
    if number is None:
        raise XsError("EINVAL", text, "permission needs a number, and only that, after the letter")
    sign, *digits = number.groups()
    size = next(int(d, base) for d, base in zip(digits, _BASES, strict=True) if d is not None)
    long = max(-(1 << 63), min((1 << 63) - 1, -size if sign == "-" else size))
    return Perm(text[0], (long + (1 << 31)) % (1 << 32) - (1 << 31))


def parse_perms(perms: Iterable[str | Perm]) -> Perms:
    """Entries from texts or from entries. Raises XsError EINVAL for a bad text."""
    return tuple([parse_perm(p) if isinstance(p, str) else p for p in perms])


def format_perms(perms: Iterable[Perm]) -> list[str]:
    """The entries as texts, ``["n0", "r5"]``."""
    return [str(p) for p in perms]


def access(perms: Sequence[Perm], who: Identity) -> int:
    """The rights of ``who`` on a node with ``perms``, bits of :class:`Access`: as owner, by the
    first entry for it, or by default."""
    owner = perms[0]
    if who.privileged or owner.domid in (who.domid, who.target):
        return FULL
    for perm in perms[1:]:
        if not perm.stale and perm.domid in (who.domid, who.target):
            return perm.access
    return owner.access


def without_stale_rights(
    perms: Perms, generation: int, is_current: Callable[[int, int], bool]
) -> Perms:
    """``perms`` as they were written at ``generation``, with the entries behind the first marked
    stale whose domains are not ``is_current(domid, generation)``."""
    for perm in perms[1:]:
        if not (perm.stale or is_current(perm.domid, generation)):
            return perms[:1] + tuple(
                p if p.stale or is_current(p.domid, generation) else evolve(p, stale=True)
                for p in perms[1:]
            )
    return perms


def owned_by_creator(perms: Perms, who: Identity) -> Perms:
    """The entries of a new node below one with ``perms`` (``construct_node``).

    They are inherited, but a creator that is not privileged becomes the owner.
    """
    owner = perms[0]
    if who.privileged or owner.domid == who.domid:
        return perms
    return (Perm(owner.letter, who.domid), *perms[1:])
