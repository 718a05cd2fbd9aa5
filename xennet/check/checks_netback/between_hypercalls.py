"""Moves in the middle of a backend's work: when it makes a hypercall, its peer may do anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xennet.check.peers import FrontendPeer
from xennet.observe import Hypercall

#: The hypercalls by which a backend gets at the pages of slots, and by which it tells of responses.
COPIES = ("GNTTABOP_copy", "GNTTABOP_map_grant_ref")
SENDS = ("EVTCHNOP_send",)


@contextmanager
def at_hypercalls(
    peer: FrontendPeer, ops: tuple[str, ...], move: Callable[[], None]
) -> Iterator[None]:
    """A context in which ``move()`` is made at the end of each hypercall of the backend's domain
    that is one of ``ops``. Hypercalls that the move itself makes are the peer's own."""

    def made(call: Hypercall) -> None:
        if call.domid == peer.otherend_id and call.op in ops:
            move()

    end = peer.session.host.machine.observers.subscribe(made, Hypercall)
    try:
        yield
    finally:
        end()
