"""The rings and channels that a driver under test holds, as the hypervisor knows them."""

from __future__ import annotations

from attrs import frozen

from xennet.abi.event_channel import EVTCHNSTAT_interdomain
from xennet.check.peers import FrontendPeer, Peer
from xennet.hypervisor.machine import CONTROL_DOMAIN, Machine
from xennet.interface import HypercallError


@frozen
class Attachment:
    """What was shared when a vif was connected: the ``grefs`` of the peer's ring pages that a
    netback had mapped, and the ``ports`` of the peer that were bound."""

    domid: int
    grefs: tuple[int, ...]
    ports: tuple[int, ...]

    @classmethod
    def of(cls, peer: Peer) -> Attachment:
        """What ``peer`` shares now."""
        grefs: list[int] = []
        if isinstance(peer, FrontendPeer):
            grefs = [ref for queue in peer.queues for ref in (queue.tx_ref, queue.rx_ref)]
        ports = {port for queue in peer.queues for port in (queue.tx_port, queue.rx_port)}
        return cls(peer.hv.domid, tuple(grefs), tuple(sorted(ports)))

    def lost(self, machine: Machine) -> str:
        """What the driver has let go of, in words; "" if nothing. What the peer itself has taken
        back does not count."""
        for gref in self.grefs:
            grant = machine.grant_tables.grant(self.domid, gref)
            if grant is not None and not grant.pin:
                return f"it has unmapped ring page {gref}"
        for port in self.ports:
            try:
                channel = machine.channels.status(CONTROL_DOMAIN, self.domid, port)
            except HypercallError:
                continue
            if channel.status != EVTCHNSTAT_interdomain:
                return f"it has closed the event channel at port {port}"
        return ""
