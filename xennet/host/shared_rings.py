"""The state of a vif's rings as the hypervisor knows it, whichever drivers are at its ends: the
ring pages and event channels of the frontend that the backend's domain has in use, and the indices
that both ends have stored in the pages."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from xennet.abi.event_channel import EVTCHNSTAT_interdomain, EVTCHNSTAT_unbound
from xennet.abi.grant_table import GTF_permit_access, GTF_type_mask
from xennet.abi.ring import (
    NETIF_RX_RING_SIZE,
    NETIF_TX_RING_SIZE,
    SRING_WORD_req_event,
    SRING_WORD_req_prod,
    SRING_WORD_rsp_event,
    SRING_WORD_rsp_prod,
)
from xennet.hypervisor.machine import CONTROL_DOMAIN, Machine
from xennet.interface import HypercallError
from xennet.netback.keys import QueueKeys, read_queue_count, read_queues
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.paths import VifDirectories, VifPaths

#: The highest number of queues that a backend of xennet announces.
MOST_QUEUES = 64
#: The slots of each ring.
_SIZES = {"tx": NETIF_TX_RING_SIZE, "rx": NETIF_RX_RING_SIZE}


class Use(Enum):
    """The use that the backend's domain makes of something that the frontend has published."""

    ATTACHED = "in use"
    OFFERED = "could be used"
    NOTHING = "names nothing that could be used"


class Shared(NamedTuple):
    """A ring page or an event channel, named by the frontend's ``node`` with its ``number``.
    ``what`` is "ring page" or "event channel"."""

    what: str
    node: str
    number: int
    use: Use


class RingState(NamedTuple):
    """One ring that the backend has attached: ``name`` is "tx" or "rx", of queue number ``queue``;
    the indices are those that both ends have stored in its page, ``size`` the number of its slots.
    ``port`` is the frontend's."""

    queue: int
    name: str
    req_prod: int
    req_event: int
    rsp_prod: int
    rsp_event: int
    size: int
    port: int

    @property
    def unanswered(self) -> int:
        """The requests without a response, by the indices; any 32-bit number if these are
        garbage."""
        return (self.req_prod - self.rsp_prod) & 0xFFFFFFFF


def published(seen: VifDirectories) -> tuple[QueueKeys, ...]:
    """The rings and channels that the frontend has published. Raises XenbusError, which names the
    node, if one is missing or garbage."""
    return read_queues(seen.frontend, read_queue_count(seen.frontend, MOST_QUEUES))


def shared(machine: Machine, seen: VifDirectories) -> list[Shared]:
    """Each ring page and channel of the frontend with the use that the backend's domain makes of
    it. Raises XenbusError as :func:`published` does."""
    return [one for keys in published(seen) for one in _shared(machine, seen.paths, keys)]


def attached(machine: Machine, seen: VifDirectories) -> bool:
    """Whether the backend's domain has mapped all ring pages and bound all channels that the
    frontend has published."""
    try:
        return all(one.use is Use.ATTACHED for one in shared(machine, seen))
    except XenbusError:
        return False


def rings(machine: Machine, seen: VifDirectories) -> list[RingState]:
    """The rings that the backend's domain has mapped; none if keys are missing or garbage."""
    try:
        queues = published(seen)
    except XenbusError:
        return []
    return [
        ring
        for number, keys in enumerate(queues)
        for ring in _rings(machine, seen.paths, number, keys)
    ]


def event_state(machine: Machine, paths: VifPaths, port: int) -> str:
    """Says whether an event is pending for the backend's domain at the other end of the frontend's
    ``port``."""
    domid, channels = paths.backend_domid, machine.channels
    if _channel_use(machine, paths, port) is not Use.ATTACHED:
        return f"domain {domid} has not bound port {port} of domain {paths.frontend_domid}"
    there = channels.status(CONTROL_DOMAIN, paths.frontend_domid, port).port
    bits = channels.bits(domid)
    if not bits.is_pending(there):
        return f"no event is pending for domain {domid}"
    masked = ", which is masked" if bits.is_masked(there) else ""
    return f"an event is pending at port {there} of domain {domid}{masked}"


def _shared(machine: Machine, paths: VifPaths, keys: QueueKeys) -> Iterator[Shared]:
    for name, gref in (("tx-ring-ref", keys.tx_ring_ref), ("rx-ring-ref", keys.rx_ring_ref)):
        yield Shared("ring page", f"{keys.path}/{name}", gref, _page_use(machine, paths, gref))
    ports = [("event-channel", keys.tx_port)]
    if keys.split:
        ports = [("event-channel-tx", keys.tx_port), ("event-channel-rx", keys.rx_port)]
    for name, port in ports:
        use = _channel_use(machine, paths, port)
        yield Shared("event channel", f"{keys.path}/{name}", port, use)


def _page_use(machine: Machine, paths: VifPaths, gref: int) -> Use:
    grant = machine.grant_tables.grant(paths.frontend_domid, gref)
    if grant is None or grant.domid != paths.backend_domid:
        return Use.NOTHING
    if grant.pin:
        return Use.ATTACHED
    return Use.OFFERED if grant.flags & GTF_type_mask == GTF_permit_access else Use.NOTHING


def _channel_use(machine: Machine, paths: VifPaths, port: int) -> Use:
    try:
        channel = machine.channels.status(CONTROL_DOMAIN, paths.frontend_domid, port)
    except HypercallError:
        return Use.NOTHING
    if channel.dom != paths.backend_domid:
        return Use.NOTHING
    uses = {EVTCHNSTAT_interdomain: Use.ATTACHED, EVTCHNSTAT_unbound: Use.OFFERED}
    return uses.get(channel.status, Use.NOTHING)


def _rings(machine: Machine, paths: VifPaths, queue: int, keys: QueueKeys) -> Iterator[RingState]:
    for name, gref, port in (
        ("tx", keys.tx_ring_ref, keys.tx_port),
        ("rx", keys.rx_ring_ref, keys.rx_port),
    ):
        if _page_use(machine, paths, gref) is not Use.ATTACHED:
            continue
        grant = machine.grant_tables.grant(paths.frontend_domid, gref)
        assert grant is not None  # it is in use
        words = machine.memory.run(grant.frame).u32
        yield RingState(
            queue,
            name,
            req_prod=words[SRING_WORD_req_prod],
            req_event=words[SRING_WORD_req_event],
            rsp_prod=words[SRING_WORD_rsp_prod],
            rsp_event=words[SRING_WORD_rsp_event],
            size=_SIZES[name],
            port=port,
        )
