"""Connecting with other keys than usual."""

from __future__ import annotations

from collections.abc import Mapping

from xennet.check.check import Violation
from xennet.check.peers import FrontendPeer
from xennet.testing.raw_peer import NodeValue


def enter_with(
    peer: FrontendPeer,
    changes: Mapping[str, NodeValue | None] | None = None,
    *,
    queues: int = 1,
    split: bool = False,
    start: int = 0,
    ctrl: bool = False,
) -> None:
    """Connect with these ``changes`` of the keys, as a frontend does. Raises Violation if the
    backend does not connect."""
    peer.connect(changes, queues=queues, split=split, start=start, ctrl=ctrl)
    if not peer.wait(lambda: peer.connected):
        raise Violation(
            f"the backend does not connect: its state is {peer.otherend_state}",
            path=f"{peer.otherend.path}/state",
        )
