"""The setup of the guests and vifs of a link: numbers, options and limits."""

from __future__ import annotations

from attrs import field, frozen

from xennet.host.buses import XENNET
from xennet.host.capacity import Capacity
from xennet.host.domains import GuestDrivers, HostDrivers
from xennet.host.host import guest_mac
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netfront.kinds import LINUX as LINUX_GUEST
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenstore.quota import Quota

#: The quota that xenstored gives a domain.
DEFAULT_QUOTA = Quota()


@frozen
class Setup:
    """The setup of a link: ``guests`` equal guests with ``vifs`` equal vifs each. ``mtu`` is that
    of every vif in bytes, None for the usual one; frames are not held to it. ``evtchn`` is the ABI
    by which guests receive events, "fifo" or "2l", None for what is usual for their ``kind``.
    ``quota`` limits each guest in the store. ``frames``: page frames of the machine, None for as
    many as it can take. ``guest_drivers``, ``host_drivers``: what guests and domain 0 load
    (Host.add_guest)."""

    guests: int = 1
    vifs: int = 1
    grant_version: int = 1
    kind: FrontendKind = LINUX_GUEST
    evtchn: str = field()
    front: NetfrontOptions = DEFAULTS
    policy: BackendPolicy = LINUX
    back: VifOptions | None = None
    mtu: int | None = None
    quota: Quota = field(default=DEFAULT_QUOTA, repr=False)
    frames: int | None = None
    guest_drivers: GuestDrivers = XENNET
    host_drivers: HostDrivers = XENNET
    capacity: Capacity = field(init=False, repr=False)  # made of the others

    @evtchn.default
    def _evtchn(self) -> str:
        return self.kind.evtchn

    @capacity.default
    def _capacity(self) -> Capacity:
        return Capacity(self.guests, self.vifs, self.front.queues, self.frames)

    def vif_config(self, domid: int, handle: int) -> VifConfig:
        """The configuration of one vif for the toolstack."""
        mac = guest_mac(domid, handle)
        if self.mtu is None:
            return VifConfig(mac)
        # The hotplug script takes it from the backend's directory to the frontend's.
        return VifConfig(mac, mtu=self.mtu, options={"mtu": str(self.mtu)})
