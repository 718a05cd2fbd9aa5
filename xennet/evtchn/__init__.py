"""Event channels: ports, their bindings, and the bits that show a guest what is pending.

`two_level` and `fifo` are the two shared-memory forms (pending and mask bits; event words in
queues), `pages` the guest pages of the latter, `ports` one domain's port table, `channels` the
hypercalls over all domains, with Xen's order of checks and errors.
"""

from __future__ import annotations

from xennet.evtchn.channels import ChannelStatus, EventChannels
from xennet.evtchn.fifo import FifoBits
from xennet.evtchn.pages import GuestPages
from xennet.evtchn.ports import Channel, PortBits, PortTable
from xennet.evtchn.two_level import TwoLevelBits

__all__ = [
    "Channel",
    "ChannelStatus",
    "EventChannels",
    "FifoBits",
    "GuestPages",
    "PortBits",
    "PortTable",
    "TwoLevelBits",
]
