"""How large a machine has to be for so many guests, vifs and queues."""

from __future__ import annotations

from attrs import frozen

#: Frames of one connected queue (both ends' pages and rings, bounce pages), of one domain, and of
#: any machine.
_QUEUE_FRAMES = 1300
_DOMAIN_FRAMES = 160
_LEAST_FRAMES = 131072


@frozen
class Capacity:
    """What a machine is built for: ``guests``, ``vifs`` of each guest, ``queues`` of each vif.

    Memory that is not used costs nothing; a machine that is too small raises OutOfFramesError.
    """

    guests: int = 1
    vifs: int = 1
    queues: int = 1

    @property
    def nr_frames(self) -> int:
        """Page frames of the machine."""
        queues = self.guests * self.vifs * self.queues
        return max(_LEAST_FRAMES, (self.guests + 2) * _DOMAIN_FRAMES + queues * _QUEUE_FRAMES)

    @property
    def max_grant_frames(self) -> int:
        """Frames of one domain's grant table: 256 entries of version 2 in each."""
        return max(64, 8 + 3 * self.vifs * self.queues)


#: Enough for one vif of one queue, and a good deal more.
ONE_VIF = Capacity()
