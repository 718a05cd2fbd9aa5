"""What a run asks of a link, whatever kind of link it is.

A link joins pairs of endpoints: what is pulled from one end of a pair is pushed to the other, in
both directions. It is opened, carries frames as often as it is asked to, and is closed, once each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from xennet.frames import Endpoint
from xennet.link.report import LinkReport

if TYPE_CHECKING:
    from xennet.link.switch import Clock


class Pair(Protocol):
    """Two endpoints that a link joins. ``name``: as its messages call it ("vif1.0"). ``queues``,
    ``split_channels``: what it was connected with, 0 and False before."""

    @property
    def name(self) -> str: ...

    @property
    def queues(self) -> int: ...

    @property
    def split_channels(self) -> bool: ...

    @property
    def was_up(self) -> bool:
        """Whether the link has begun to bring this pair up."""
        ...


class Link(Protocol):
    """Joins a guest's end and a host's end for each pair; ``host_clock`` is the time at the host's
    ends. All errors that are the link's own are LinkError, or what :meth:`explain` knows."""

    @property
    def host_clock(self) -> Clock: ...

    def join(
        self,
        guest: Endpoint,
        host: Endpoint,
        filtered: Callable[[bytes, int], None] = ...,
    ) -> Pair:
        """The next pair, before :meth:`open`; the link tells both ends whom to wake. ``filtered``
        is told of each frame (its bytes and time stamp) that the link took from ``host`` and need
        not bring to ``guest``."""
        ...

    def address(self, number: int) -> bytes:
        """The MAC address (6 bytes) of the guest's end of pair ``number``, from 0."""
        ...

    def open(self) -> None:
        """Bring all pairs up. LinkError with the evidence if one gets stuck."""
        ...

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Move frames until no end has anything more to give. ``waiting`` tells how many frames
        have arrived as long as some are on their way, None when none are. LinkError when an end
        broke."""
        ...

    def trickle(self) -> None:
        """Let every guest send one frame, so that a switch sees where each of them is."""
        ...

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        """Let other programs use the link's XenStore over the unix socket ``path``; they have
        ``pace`` seconds to look at each change. LinkError for a link that has none."""
        ...

    def hold(self, seconds: float, over: Callable[[], bool] = ...) -> None:
        """Keep everything as it is for that long, or until it is ``over``."""
        ...

    def close(self) -> None:
        """Take all pairs down in order. LinkError if one had to be forced. Idempotent."""
        ...

    def explain(self, error: Exception) -> str | None:
        """One line about an exception that is the doing of what the link is made of; None for any
        other."""
        ...

    def report(self) -> LinkReport:
        """All there is to tell of the link itself."""
        ...

    def left_behind(self) -> list[str]:
        """What is still held, a line for each; empty after an orderly :meth:`close`."""
        ...

    def destroy(self) -> None:
        """Release everything, whatever state it is in."""
        ...
