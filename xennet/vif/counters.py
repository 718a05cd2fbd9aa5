"""The counters of a driver about its rings."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field, fields


@define
class RingCounters:
    """Totals over all connections, seen from one end.

    ``packets`` and ``bytes`` count whole packets and their payload, ``slots`` the ring slots that
    they took, extra info slots included; ``requests`` and ``responses`` those that this end
    produced or consumed; ``errors`` packets (of the backend's rx: slots) that were refused or
    dropped. A push that had to be announced counts in ``notified``, one that needed no event in
    ``avoided``. ``grants`` is the number of grants of pages (frontend only).
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


@define
class VifCounters:
    """The counters of one end: those of the guest-transmit ring and of the guest-receive ring."""

    tx: RingCounters = field(factory=RingCounters)
    rx: RingCounters = field(factory=RingCounters)


@define
class BackendCounters(VifCounters):
    """The counters of a backend queue: those of its rings, and events that these do not show.

    Guest transmit: ``csum_fixup`` GSO packets that came without a blank checksum (hardening rule
    F16), ``bad_csum`` packets without the checksum that they said was blank (F17), ``rate_limited``
    times that requests waited because the rate limit did not cover the next one. Guest receive, in
    packets: ``filtered`` by multicast control, ``expired`` for want of buffers, ``dropped`` because
    there was no carrier, ``lost`` because they waited for buffers when the vif disconnected.
    ``spurious``: events that brought nothing new (F19), ``jiffies_eoi_delayed``: jiffies for which
    later events were held back.
    """

    csum_fixup: int = 0
    bad_csum: int = 0
    rate_limited: int = 0
    filtered: int = 0
    expired: int = 0
    dropped: int = 0
    lost: int = 0
    spurious: int = 0
    jiffies_eoi_delayed: int = 0


def total(queues: Iterable[BackendCounters]) -> BackendCounters:
    """The sums over all queues of a vif."""
    result = BackendCounters()
    for queue in queues:
        _add(result.tx, queue.tx)
        _add(result.rx, queue.rx)
        for name in _OWN:
            setattr(result, name, getattr(result, name) + getattr(queue, name))
    return result


def _add(into: RingCounters, more: RingCounters) -> None:
    for name in _OF_A_RING:
        setattr(into, name, getattr(into, name) + getattr(more, name))


_OF_A_RING = tuple(attribute.name for attribute in fields(RingCounters))
_OWN = tuple(
    attribute.name for attribute in fields(BackendCounters) if attribute.name not in ("tx", "rx")
)
