"""Event channels: ports, their bindings, and the bits that show a guest what is pending.

`two_level` is the shared-memory form (pending and mask bits), `ports` one domain's port table,
`channels` the hypercalls over all domains, with Xen's order of checks and errors.
"""

from __future__ import annotations

from xennet.evtchn.channels import ChannelStatus, EventChannels
from xennet.evtchn.ports import Channel, PortBits, PortTable
from xennet.evtchn.two_level import TwoLevelBits

__all__ = [
    "Channel",
    "ChannelStatus",
    "EventChannels",
    "PortBits",
    "PortTable",
    "TwoLevelBits",
]
