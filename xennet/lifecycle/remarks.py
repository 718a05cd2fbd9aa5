"""Remarks on a vif: what does not stop its traffic but costs speed, features or frames.

These are nodes that their reader cannot use, so that a default holds, and counters of lost frames.
Features have defaults and garbage counts as missing (xenbus_read_unsigned), so neither driver
complains about them in an error node; here they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen

from xennet.host.domains import PluggedVif
from xennet.netback.credit import NO_LIMIT, parse_rate
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.device import DEFAULT_MTU, MAX_MTU, MIN_MTU
from xennet.vif.counters import BackendCounters
from xennet.xenbus.paths import VifDirectories
from xennet.xenbus.scan import scan_unsigned
from xennet.xenstore.errors import XsError

#: (value) -> whether the node's reader can use it.
Usable = Callable[[bytes], bool]


def _number(value: bytes) -> bool:
    return scan_unsigned(value) is not None


def _mtu(value: bytes) -> bool:
    mtu = scan_unsigned(value)
    return mtu is not None and MIN_MTU <= mtu <= MAX_MTU


def _rate(value: bytes) -> bool:
    return parse_rate(value) is not NO_LIMIT


@frozen
class Fallback:
    """A node with a default: ``instead`` tells what holds if its value is not ``usable``."""

    key: str
    instead: str
    usable: Usable = _number


#: Nodes of the frontend's directory that backends read.
OF_FRONTEND = (
    Fallback("multi-queue-num-queues", "there is one queue"),
    Fallback("feature-rx-notify", "packets wait 30 ms for buffers and no stall is noticed"),
    Fallback("feature-sg", "frames for the guest have to fit a page"),
    Fallback("feature-gso-tcpv4", "TCP over IPv4 for the guest is segmented"),
    Fallback("feature-gso-tcpv6", "TCP over IPv6 for the guest is segmented"),
    Fallback("feature-gso-tcpv4-prefix", "no GSO over IPv4 is announced by a prefix"),
    Fallback("feature-gso-tcpv6-prefix", "no GSO over IPv6 is announced by a prefix"),
    Fallback("feature-no-csum-offload", "the guest gets blank checksums over IPv4"),
    Fallback("feature-ipv6-csum-offload", "checksums over IPv6 are filled in for the guest"),
    Fallback("request-multicast-control", "the guest gets all multicast frames"),
    Fallback("xdp-headroom", "no headroom is left"),
    Fallback("ctrl-ring-ref", "there is no control ring"),
)
#: Nodes of the frontend's directory that the toolstack writes and frontends read.
OF_GUEST = (
    Fallback("trusted", "the backend is trusted"),
    Fallback("mtu", f"the mtu is {DEFAULT_MTU}", _mtu),
)
#: Nodes of the backend's directory that frontends read, or the backend itself.
OF_BACKEND = (
    Fallback("feature-sg", "frames of the guest have to fit a page"),
    Fallback("feature-gso-tcpv4", "the guest segments TCP over IPv4"),
    Fallback("feature-gso-tcpv6", "the guest segments TCP over IPv6"),
    Fallback("feature-no-csum-offload", "the guest leaves checksums over IPv4 blank"),
    Fallback("feature-ipv6-csum-offload", "the guest fills in checksums over IPv6"),
    Fallback("feature-split-event-channels", "both rings share a channel"),
    Fallback("multi-queue-max-queues", "there is one queue"),
    Fallback("feature-multicast-control", "the guest gets all multicast frames"),
    Fallback("feature-ctrl-ring", "there is no control ring"),
    Fallback("feature-xdp-headroom", "no headroom is left"),
    Fallback("carrier", "the link counts as up"),
    Fallback("online", "the vif counts as being taken away"),
    Fallback("rate", "there is no rate limit", _rate),
)


def remarks(vif: PluggedVif) -> list[str]:
    """All remarks on ``vif``, one line each."""
    found = [remark for look in (unheeded, said, refused, lost) for remark in look(vif)]
    return [*unreadable(vif.seen), *found]


def unreadable(seen: VifDirectories) -> Iterator[str]:
    """Nodes whose value their reader cannot use."""
    paths = seen.paths
    for path, rows in (
        (paths.frontend, (*OF_FRONTEND, *OF_GUEST)),
        (paths.backend, OF_BACKEND),
    ):
        for row in rows:
            try:
                value = seen.store.read(f"{path}/{row.key}")
            except XsError:
                continue
            if not row.usable(value):
                text = value[:64].decode("ascii", "backslashreplace")
                yield f'{path}/{row.key} = "{text}" says nothing: {row.instead}'


def unheeded(vif: PluggedVif) -> Iterator[str]:
    """A carrier node of 0 that the frontend does not read: Linux's never does. Whether a frontend
    that cannot be asked reads it is not known."""
    backend, front = vif.seen.backend, vif.guest_driver
    if scan_unsigned(backend.optional_text("carrier").encode()) != 0:
        return
    if front is not None and front.carrier:
        yield f"{backend.node('carrier')} = 0, and the frontend does not look at it"
    elif front is None and vif.guest.drivers is None:
        yield f"{backend.node('carrier')} = 0: a frontend that looks at it sends nothing"


def said(vif: PluggedVif) -> Iterator[str]:
    """What the drivers have to say themselves."""
    for driver in (vif.guest_driver, vif.host_driver):
        if driver is not None:
            yield from driver.remarks()


def refused(vif: PluggedVif) -> Iterator[str]:
    """Packets that one end did not accept from the other, though the ring went on."""
    front, back = _counters(vif)
    if count := back.tx.errors:
        yield f"packets of the guest that the backend refused: {count} {_BY_RULE}"
    if count := front.rx.errors:
        yield f"packets for the guest that its driver dropped: {count} {_BY_RULE}"


def lost(vif: PluggedVif) -> Iterator[str]:
    """Frames that were dropped, in all connections of these drivers."""
    front, back = _counters(vif)
    for whose, counters, rows in (("of", front, _LOST_OF_GUEST), ("for", back, _LOST_FOR_GUEST)):
        for name, how in rows:
            if count := getattr(counters, name):
                yield f"frames {whose} the guest that {how}: {count}"


def _counters(vif: PluggedVif) -> tuple[NetfrontCounters, BackendCounters]:
    """The counters of both ends; zeros for an end that keeps none."""
    front, back = vif.guest_driver, vif.host_driver
    return (
        (front.counters if front is not None else None) or NetfrontCounters(),
        (back.counters if back is not None else None) or BackendCounters(),
    )


#: Behind a count of refused packets.
_BY_RULE = "(observers of xennet.vif.ring_events.RingEvent see the rule of each)"
#: Counters of lost frames of the frontend and of the backend, and why they were lost.
_LOST_OF_GUEST = (
    ("no_carrier", "were dropped without a carrier"),
    ("lost", "still waited for the ring when the vif disconnected"),
)
_LOST_FOR_GUEST = (
    ("expired", "found no buffers in time"),
    ("dropped", "were dropped without a carrier"),
    ("lost", "still waited for buffers when the vif disconnected"),
)
