"""Where our answers differ from those of C xenstored 4.17 on purpose, each with its reason."""

from __future__ import annotations

from collections.abc import Callable

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
from xennet.xenstore.wire import Message
from xennet.xenstore.words import atoi

GUEST_DOMID = 5
SPECIALS = (b"@introduceDomain", b"@releaseDomain")

ONE_PATH = frozenset({XS_READ, XS_DIRECTORY, XS_GET_PERMS, XS_MKDIR, XS_RM})


@frozen
class Difference:
    """``allows(request, theirs, ours)`` is True where the two replies may differ so."""

    name: str
    reason: str
    allows: Callable[[Message, Message, Message], bool]


def uses_stale_errno(request: Message) -> bool:
    """True for requests whose refusal the daemon forgets to set an errno for: one path is wanted
    and it is not one string; permissions of a special name that does not exist."""
    kind, payload = request.type, request.payload
    not_one = not payload or payload.find(b"\0") != len(payload) - 1
    unknown_special = payload.startswith(b"@") and payload.split(b"\0")[0] not in SPECIALS
    return (kind in ONE_PATH and not_one) or (kind == XS_SET_PERMS and unknown_special)


def _stale_errno(request: Message, theirs: Message, ours: Message) -> bool:
    return (
        uses_stale_errno(request)
        and theirs.type == XS_ERROR
        and (ours.type, ours.payload) == (XS_ERROR, b"EINVAL\0")
    )


def _usage(request: Message, theirs: Message, ours: Message) -> bool:
    words = request.payload.split(b"\0")[:-1]
    if request.type != XS_CONTROL or words[:1] != [b"quota"] or len(words) != 2:
        return False
    # The daemon reads the number with atoi: any word that is none is domain 0.
    domid = atoi(words[1].decode("latin-1"))
    of_sockets = (b"watches ", b"transactions ") if domid == 0 else ()

    def lines(reply: Message) -> list[bytes]:
        return [
            n for n in reply.payload.split(b"\n") if not n.startswith((b"memory ", *of_sockets))
        ]

    return theirs.type == ours.type and lines(theirs) == lines(ours)


DIFFERENCES = (
    Difference(
        "refusal without an errno",
        "The daemon answers with the errno of whatever failed in it before (the errno of its C "
        "library is not set on this way; if there was none it answers nothing, and dies of the "
        "next request); ours is EINVAL, as in later versions.",
        _stale_errno,
    ),
    Difference(
        "usage of a domain",
        "CONTROL quota <domid>: memory is the bytes of the server's own records; domain 0 is "
        "charged with the watches and transactions of its sockets here, the daemon charges nobody.",
        _usage,
    ),
)


def must_not_be_asked(request: Message) -> bool:
    """True for requests after which the daemon has a fault of its own, see FAULTS."""
    numbers = [atoi(word.decode("latin-1")) for word in request.payload.split(b"\0")[:-1]]
    if request.type == XS_SET_TARGET:
        return len(numbers) > 1 and numbers[1] == GUEST_DOMID
    return request.type == XS_INTRODUCE and bool(numbers) and not 0 <= numbers[0] <= 0xFFFF


FAULTS = (
    "SET_TARGET to a guest keeps its connection alive: if the guest dies first, its event channel "
    "stays bound and the daemon works with freed memory. Ours forgets the target.",
    "INTRODUCE of a domid above 65535 asks the hypervisor for its low 16 bits and makes a second "
    "domain on the same ring page. Ours answers EINVAL.",
)


def declared(request: Message, theirs: Message, ours: Message) -> Difference | None:
    """The declared difference that covers these two replies to ``request``, if there is one."""
    same_frame = (theirs.req_id, theirs.tx_id) == (ours.req_id, ours.tx_id)
    return next((d for d in DIFFERENCES if same_frame and d.allows(request, theirs, ours)), None)
