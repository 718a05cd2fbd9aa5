"""xennet: the Xen paravirtual network, byte for byte, in an ordinary Python process.

Importing it is cheap: each name is imported when it is first used. docs/api.md says what is public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet import moved
from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.errors import LinkError
    from xennet.frames import BaseEndpoint, Endpoint, FrameBatch, Offload
    from xennet.host.host import Host
    from xennet.host.setup import Setup
    from xennet.hypervisor import LeakReport, Machine
    from xennet.interface import HypercallError, Hypervisor
    from xennet.lifecycle.why import why
    from xennet.link.vif import VifLink
    from xennet.netback.defects import BackendPanic
    from xennet.netback.poll_page import PagePoller, PolledPacket, poll_page
    from xennet.netback.xnb.poller import XnbPoller
    from xennet.port import BasePort, Port, PortError, open_port, open_ports
    from xennet.ring import BackRing, FrontRing, SharedRing, ctrl_ring, rx_ring, tx_ring
    from xennet.vif.end import BaseEnd, VifEnd
    from xennet.xenstore import XsError

__all__ = [
    "BackRing",
    "BackendPanic",
    "BaseEnd",
    "BaseEndpoint",
    "BasePort",
    "Endpoint",
    "FrameBatch",
    "FrontRing",
    "Host",
    "HypercallError",
    "Hypervisor",
    "LeakReport",
    "LinkError",
    "Machine",
    "Offload",
    "PagePoller",
    "PolledPacket",
    "Port",
    "PortError",
    "Setup",
    "SharedRing",
    "VifEnd",
    "VifLink",
    "XnbPoller",
    "XsError",
    "ctrl_ring",
    "open_port",
    "open_ports",
    "poll_page",
    "rx_ring",
    "tx_ring",
    "why",
]

#: The one place where the version is written; pyproject.toml reads it here.
__version__ = "0.1.0"

_HOMES = {
    "BackRing": "xennet.ring",
    "BackendPanic": "xennet.netback.defects",
    "BaseEnd": "xennet.vif.end",
    "BaseEndpoint": "xennet.frames",
    "BasePort": "xennet.port",
    "Endpoint": "xennet.frames",
    "FrameBatch": "xennet.frames",
    "FrontRing": "xennet.ring",
    "Host": "xennet.host.host",
    "HypercallError": "xennet.interface",
    "Hypervisor": "xennet.interface",
    "LeakReport": "xennet.hypervisor",
    "LinkError": "xennet.errors",
    "Machine": "xennet.hypervisor",
    "Offload": "xennet.frames",
    "PagePoller": "xennet.netback.poll_page",
    "PolledPacket": "xennet.netback.poll_page",
    "Port": "xennet.port",
    "PortError": "xennet.port",
    "Setup": "xennet.host.setup",
    "SharedRing": "xennet.ring",
    "VifEnd": "xennet.vif.end",
    "VifLink": "xennet.link.vif",
    "XnbPoller": "xennet.netback.xnb.poller",
    "XsError": "xennet.xenstore",
    "ctrl_ring": "xennet.ring",
    "open_port": "xennet.port",
    "open_ports": "xennet.port",
    "poll_page": "xennet.netback.poll_page",
    "rx_ring": "xennet.ring",
    "tx_ring": "xennet.ring",
    "why": "xennet.lifecycle.why",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
moved.install()
