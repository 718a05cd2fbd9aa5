"""The size of a machine for a number of guests, vifs and queues."""

from __future__ import annotations

from attrs import frozen

from xennet.abi.xen import PAGE_SIZE

#: Frames of one connected queue (both ends' pages and rings, bounce pages), of one domain, and of
#: a machine by default.
_QUEUE_FRAMES = 1300
_DOMAIN_FRAMES = 160
_USUAL_FRAMES = 131072


@frozen
class Capacity:
    """The size that a machine is built for: ``guests``, ``vifs`` of each guest, ``queues`` of each
    vif. ``frames`` is its number of page frames, None for what the guests take and a good deal
    more.

    Memory that is not used costs nothing; a machine that is too small raises OutOfFramesError.
    """

    guests: int = 1
    vifs: int = 1
    queues: int = 1
    frames: int | None = None

    @property
    def needed(self) -> int:
        """The page frames that the guests take at most."""
        queues = self.guests * self.vifs * self.queues
        return (self.guests + 2) * _DOMAIN_FRAMES + queues * _QUEUE_FRAMES

    @property
    def nr_frames(self) -> int:
        """The page frames of the machine."""
        return max(_USUAL_FRAMES, self.needed) if self.frames is None else self.frames

    @property
    def max_grant_frames(self) -> int:
        """The frames of one domain's grant table: each holds 256 entries of version 2."""
        return max(64, 8 + 3 * self.vifs * self.queues)


def mib_frames(mib: int) -> int:
    """The number of page frames in ``mib`` MiB."""
    return (mib << 20) // PAGE_SIZE


#: Enough for one vif of one queue, and a good deal more.
ONE_VIF = Capacity()
