"""The parts of a XenStore message's payload, by its type: what they are called in filters.

A part ends at a nul. Of a name that ends in ``*`` there is one for each of the parts that are left;
one that ends in ``=`` is all that is left, nuls included (xen 4.17 io/xs_wire.h and
docs/misc/xenstore.txt).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from xennet.abi import xs_wire as xs


@frozen
class Arguments:
    """The parts of a request's payload, and those of its answer's."""

    asked: tuple[str, ...] = ("argument*",)
    answered: tuple[str, ...] = ("answer",)

    def of(self, to_store: bool) -> tuple[str, ...]:
        """The parts of one of the two."""
        return self.asked if to_store else self.answered


_PATH, _DOMID, _WATCH = ("path",), ("domid",), ("path", "token")
ARGUMENTS: Mapping[int, Arguments] = {
    xs.XS_CONTROL: Arguments(("command", "argument*"), ("answer=",)),
    xs.XS_DIRECTORY: Arguments(_PATH, ("name*",)),
    xs.XS_READ: Arguments(_PATH, ("value=",)),
    xs.XS_GET_PERMS: Arguments(_PATH, ("perm*",)),
    xs.XS_WATCH: Arguments(_WATCH),
    xs.XS_UNWATCH: Arguments(_WATCH),
    xs.XS_TRANSACTION_START: Arguments((), ("transaction",)),
    xs.XS_TRANSACTION_END: Arguments(("commit",)),
    xs.XS_INTRODUCE: Arguments(("domid", "gfn", "port")),
    xs.XS_RELEASE: Arguments(_DOMID),
    xs.XS_GET_DOMAIN_PATH: Arguments(_DOMID, _PATH),
    xs.XS_WRITE: Arguments(("path", "value=")),
    xs.XS_MKDIR: Arguments(_PATH),
    xs.XS_RM: Arguments(_PATH),
    xs.XS_SET_PERMS: Arguments(("path", "perm*")),
    xs.XS_WATCH_EVENT: Arguments(answered=_WATCH),
    xs.XS_ERROR: Arguments(answered=("error",)),
    xs.XS_IS_DOMAIN_INTRODUCED: Arguments(_DOMID),
    xs.XS_RESUME: Arguments(_DOMID),
    xs.XS_SET_TARGET: Arguments(("domid", "target")),
    xs.XS_RESTRICT: Arguments(_DOMID),
    xs.XS_RESET_WATCHES: Arguments(()),
    xs.XS_DIRECTORY_PART: Arguments(("path", "offset"), ("generation", "name*")),
}
#: Of all other types.
OTHERS = Arguments()


def names() -> list[str]:
    """All names of parts, without their marks."""
    every = [OTHERS, *ARGUMENTS.values()]
    return sorted({part.rstrip("*=") for one in every for part in (*one.asked, *one.answered)})


def parts(kind: int, to_store: bool, payload: bytes) -> Iterator[tuple[str, bytes]]:
    """The parts of a payload that are not empty, with their names; those beyond the names that
    there are have none."""
    named = ARGUMENTS.get(kind, OTHERS).of(to_store)
    at = 0
    for name in named:
        while at < len(payload):
            end = payload.find(b"\0", at)
            if end < 0 or name.endswith("="):
                end = len(payload)
            if end > at:
                yield name.rstrip("*="), payload[at:end]
            at = end + 1
            if not name.endswith("*"):
                break
