"""How large a machine has to be for so many guests, vifs and queues."""

from __future__ import annotations

from attrs import frozen

from xennet.abi.xen import PAGE_SIZE

#: Frames of one connected queue (both ends' pages and rings, bounce pages), of one domain, and of
#: a machine for which nobody says how many.
_QUEUE_FRAMES = 1300
_DOMAIN_FRAMES = 160
_USUAL_FRAMES = 131072


@frozen
class Capacity:
    """What a machine is built for: ``guests``, ``vifs`` of each guest, ``queues`` of each vif.
    ``frames``: how many page frames it shall have, None for what that takes, and a good deal more.

    Memory that is not used costs nothing; a machine that is too small raises OutOfFramesError.
    """

    guests: int = 1
    vifs: int = 1
    queues: int = 1
    frames: int | None = None

    @property
    def needed(self) -> int:
        """Page frames that it takes, at most."""
        queues = self.guests * self.vifs * self.queues
        return (self.guests + 2) * _DOMAIN_FRAMES + queues * _QUEUE_FRAMES

    @property
    def nr_frames(self) -> int:
        """Page frames of the machine."""
        return max(_USUAL_FRAMES, self.needed) if self.frames is None else self.frames

    @property
    def max_grant_frames(self) -> int:
        """Frames of one domain's grant table: 256 entries of version 2 in each."""
        return max(64, 8 + 3 * self.vifs * self.queues)


def mib_frames(mib: int) -> int:
    """How many page frames ``mib`` MiB are."""
    return (mib << 20) // PAGE_SIZE


#: Enough for one vif of one queue, and a good deal more.
ONE_VIF = Capacity()
