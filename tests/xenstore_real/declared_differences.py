"""Where our answers differ from those of the C xenstored on purpose, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from attrs import frozen

from xennet.abi.xs_wire import (
    XS_CONTROL,
    XS_DIRECTORY,
    XS_ERROR,
    XS_GET_PERMS,
    XS_INTRODUCE,
    XS_MKDIR,
    XS_READ,
    XS_RM,
    XS_SET_PERMS,
    XS_SET_TARGET,
)
from xennet.xenstore.arguments import atoi
from xennet.xenstore.errors import XsError
from xennet.xenstore.perms import parse_perm
from xennet.xenstore.wire import Message

GUEST_DOMID = 5
SPECIALS = (b"@introduceDomain", b"@releaseDomain")

ONE_PATH = frozenset({XS_READ, XS_DIRECTORY, XS_GET_PERMS, XS_MKDIR, XS_RM})


@frozen
class Difference:
    """``allows(request, theirs, ours)`` is True where the two replies may differ so.

    ``releases`` of xenstored are concerned.
    """

    name: str
    reason: str
    allows: Callable[[Message, Message, Message], bool]
    releases: tuple[str, ...] = ("4.17", "4.20")


def uses_stale_errno(release: str, request: Message) -> bool:
    """True for requests whose refusal the daemon forgets to set an errno for: one path is wanted
    and it is not one string; permissions of a special name that does not exist."""
    kind, payload = request.type, request.payload
    not_one = not payload or payload.find(b"\0") != len(payload) - 1
    unknown_special = payload.startswith(b"@") and payload.split(b"\0")[0] not in SPECIALS
    return release == "4.17" and (
        (kind in ONE_PATH and not_one) or (kind == XS_SET_PERMS and unknown_special)
    )


def _stale_errno(request: Message, theirs: Message, ours: Message) -> bool:
    return (
        uses_stale_errno("4.17", request)
        and theirs.type == XS_ERROR
        and (ours.type, ours.payload) == (XS_ERROR, b"EINVAL\0")
    )


def _of_special(request: Message, theirs: Message, ours: Message) -> bool:
    return (
        request.type == XS_SET_PERMS
        and request.payload.startswith(b"@")
        and theirs.type == XS_ERROR
        and (ours.type, ours.payload) == (XS_ERROR, b"EACCES\0")
    )


_USED = re.compile(rb"([a-z-]+) *: +([0-9]+)(?: \(max +([0-9]+)\))?")
#: Maxima that do not come from requests which were refused half way.
_SURE_MAXIMA = (b"transactions", b"transaction-nodes", b"node-permissions", b"path-max")


def _usage(request: Message, theirs: Message, ours: Message) -> bool:
    words = request.payload.split(b"\0")[:-1]
    if request.type != XS_CONTROL or words[:1] != [b"quota"] or words[1:2] in ([], [b"set"]):
        return False
    # 4.17 reads "max" like any word that is no number: with atoi, so it is domain 0.
    maxima = theirs.payload.startswith(b"Max. ")
    of_sockets = (b"watches", b"transactions") if theirs.payload.startswith(b"Domain 0:") else ()

    def known(reply: Message) -> list[tuple[bytes, ...]]:
        head, *lines = reply.payload.split(b"\n")
        used = [found.groups() for line in lines if (found := _USED.match(line))]
        now = [(name, n) for name, n, _ in used if name not in (b"memory", b"outstanding")]
        most = [(name, n) for name, _, n in used if name in _SURE_MAXIMA]
        kept = [(name, n) for name, n in now if name in _SURE_MAXIMA] if maxima else now + most
        return [(head,), *(entry for entry in kept if entry[0] not in of_sockets)]

    return theirs.type == ours.type and known(theirs) == known(ours)


DIFFERENCES = (
    Difference(
        "refusal without an errno",
        "The daemon answers with the errno of whatever failed in it before (the errno of its C "
        "library is not set on this way; if there was none it answers nothing, and dies of the "
        "next request); ours is EINVAL, as in later versions.",
        _stale_errno,
        releases=("4.17",),
    ),
    Difference(
        "refusal of a special name without an errno",
        "SET_PERMS of @introduceDomain and @releaseDomain by who does not own them: the same fault "
        "of the daemon, ours is EACCES.",
        _of_special,
        releases=("4.17",),
    ),
    Difference(
        "usage of a domain",
        "CONTROL quota <domid>: memory is the bytes of the server's own records; domain 0 is "
        "charged with the watches and transactions of its sockets, which 4.17 charges nobody with. "
        "Maxima of 4.20 count what a request did before it was refused, ours do not all.",
        _usage,
    ),
)


def must_not_be_asked(request: Message) -> bool:
    """True for requests after which the daemon has a fault of its own, see FAULTS."""
    words = [word.decode("latin-1") for word in request.payload.split(b"\0")[:-1]]
    numbers = [atoi(word) for word in words]
    if request.type == XS_SET_TARGET:
        return len(numbers) > 1 and numbers[1] == GUEST_DOMID
    if request.type == XS_SET_PERMS and request.payload.startswith(b"@") and len(words) > 1:
        with suppress(XsError):
            return parse_perm(words[1]).domid == GUEST_DOMID
    return request.type == XS_INTRODUCE and bool(numbers) and not 0 <= numbers[0] <= 0xFFFF


FAULTS = (
    "SET_TARGET to a guest keeps its connection alive: if the guest dies first, its event channel "
    "stays bound and the daemon works with freed memory. Ours forgets the target.",
    "A special name that a guest owns when it dies ends xenstored 4.20. Ours keeps the owner.",
    "INTRODUCE of a domid above 65535 asks the hypervisor for its low 16 bits and makes a second "
    "domain on the same ring page. Ours answers EINVAL.",
)


def declared(release: str, request: Message, theirs: Message, ours: Message) -> Difference | None:
    """The declared difference that covers these two replies to ``request``, if there is one."""
    same_frame = (theirs.req_id, theirs.tx_id) == (ours.req_id, ours.tx_id)
    return next(
        (
            difference
            for difference in DIFFERENCES
            if same_frame
            and release in difference.releases
            and difference.allows(request, theirs, ours)
        ),
        None,
    )
