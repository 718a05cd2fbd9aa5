"""The protocol of a link: what a run calls, whatever kind of link it is.

A link joins pairs of endpoints: frames pulled from one end of a pair are pushed to the other, in
both directions. A link is opened once, carries frames any number of times, and is closed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from xennet.frames import Endpoint
from xennet.ifnet import Interface
from xennet.link.report import LinkReport, LinkStatus

if TYPE_CHECKING:
    from xennet.link.switch import Clock


class Pair(Protocol):
    """Two endpoints that a link joins. ``name`` is how messages call the pair ("vif1.0").
    ``queues`` and ``split_channels`` are what it was connected with, 0 and False before."""

    @property
    def name(self) -> str: ...

    @property
    def queues(self) -> int: ...

    @property
    def split_channels(self) -> bool: ...

    @property
    def interfaces(self) -> tuple[Interface, Interface]:
        """The interfaces at the guest's end and at the host's end, with what is known of them now;
        the same two objects from the moment when the link is open. A link calls their taps with
        the frames that pass, each at both ends: as they are given there and as they are taken. Who
        wants to listen does so before frames are carried."""
        ...

    @property
    def was_up(self) -> bool:
        """Whether the link has begun to bring this pair up."""
        ...


class Link(Protocol):
    """Joins a guest's end and a host's end for each pair; ``host_clock`` is the time at the host's
    ends. The link's own errors are LinkErrors, or exceptions that :meth:`explain` knows."""

    @property
    def host_clock(self) -> Clock: ...

    def join(
        self,
        guest: Endpoint,
        host: Endpoint,
        filtered: Callable[[bytes, int], None] = ...,
    ) -> Pair:
        """Add the next pair, before :meth:`open`, and return it; the link sets the listeners of
        both ends. ``filtered`` is called with each frame (its bytes and time stamp) that the link
        took from ``host`` and need not bring to ``guest``."""
        ...

    def address(self, number: int) -> bytes:
        """The MAC address (6 bytes) of the guest's end of pair ``number``, counted from 0."""
        ...

    def open(self) -> None:
        """Bring all pairs up. Raises LinkError, with the evidence, if one gets stuck."""
        ...

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Move frames until no end has any more to give.

        ``waiting()`` returns the number of frames that have arrived so far, or None when none are
        on their way. Raises LinkError when an end broke.
        """
        ...

    def carry_live(self, seconds: float | None, over: Callable[[], bool]) -> None:
        """Move frames as they come, in real time, for ``seconds`` (None: without end) or until
        ``over()`` returns True.

        The link sleeps while nothing is to be done: the ends call their listeners, and the link
        watches their descriptors (xennet.frames.attach). ``over`` is called after each event and
        every now and then in between. Frames may be on their way at the end; :meth:`carry` brings
        them home. Raises LinkError when an end broke.
        """
        ...

    def trickle(self) -> None:
        """Let every guest send one frame, so that a switch learns where each of them is."""
        ...

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        """Let other programs use the link's XenStore over the unix socket ``path``; they have
        ``pace`` seconds to look at each change. Raises LinkError for a link that has no
        XenStore."""
        ...

    def hold(self, seconds: float, over: Callable[[], bool] = ...) -> None:
        """Keep the link as it is for ``seconds``, or until ``over()`` returns True."""
        ...

    def close(self) -> None:
        """Take all pairs down in order. Raises LinkError if one had to be forced. May be
        repeated."""
        ...

    def explain(self, error: Exception) -> str | None:
        """One line about an exception that the parts of the link raise on purpose; None for any
        other."""
        ...

    def report(self) -> LinkReport:
        """The report of the link itself, without the frames."""
        ...

    def status(self) -> LinkStatus:
        """How full the link's queues are, and what it has dropped; asked for twice a second."""
        ...

    def left_behind(self) -> list[str]:
        """The things that are still held, a line for each; empty after an orderly :meth:`close`."""
        ...

    def destroy(self) -> None:
        """Release everything, whatever state the link is in."""
        ...


@runtime_checkable
class FiltersUp(Protocol):
    """What a link is as well if it need not bring every frame of a guest to its host."""

    def filter_up(self, pair: Any, filtered: Callable[[bytes, int], None], /) -> None:
        """Have ``filtered`` called with each frame (its bytes and time stamp) that the link took
        from the guest of ``pair``, a pair of its own, and does not bring to the host."""
        ...
