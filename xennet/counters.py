"""What a driver counts about one ring."""

from __future__ import annotations

from attrs import define, field


@define
class RingCounters:
    """Totals of all connections so far, seen from one end.

    ``packets`` and ``bytes`` are whole packets and their payload, ``slots`` the ring slots they
    took, extra info slots included; ``requests`` and ``responses`` those which this end produced
    or consumed; ``errors`` packets (of the backend's rx: slots) that were refused or dropped. A
    push that had to be announced counts in ``notified``, one that needed no event in ``avoided``.
    ``grants`` is how often a page was granted (frontend only).
    """

    packets: int = 0
    bytes: int = 0
    slots: int = 0
    requests: int = 0
    responses: int = 0
    errors: int = 0
    notified: int = 0
    avoided: int = 0
    grants: int = 0

    def pushed(self, notify: int) -> bool:
        """Count one push of an index; returns whether it has to be announced."""
        if notify:
            self.notified += 1
            return True
        self.avoided += 1
        return False


@define
class VifCounters:
    """One end's counters: the guest-transmit ring and the guest-receive ring."""

    tx: RingCounters = field(factory=RingCounters)
    rx: RingCounters = field(factory=RingCounters)
