"""Links: what joins two ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.link.base import LimitError, LinkError
    from xennet.link.capacity import Capacity
    from xennet.link.house import House, guest_mac
    from xennet.link.lines import Line, Lines
    from xennet.link.residents import BackendDomain, Guest, PluggedVif, SavedGuest
    from xennet.link.setup import Setup
    from xennet.link.switch import Switch, SwitchPort
    from xennet.link.vif import VifLink

__all__ = [
    "BackendDomain",
    "Capacity",
    "Guest",
    "House",
    "LimitError",
    "Line",
    "Lines",
    "LinkError",
    "PluggedVif",
    "SavedGuest",
    "Setup",
    "Switch",
    "SwitchPort",
    "VifLink",
    "guest_mac",
]

_HOMES = {
    "BackendDomain": "xennet.link.residents",
    "Capacity": "xennet.link.capacity",
    "Guest": "xennet.link.residents",
    "House": "xennet.link.house",
    "LimitError": "xennet.link.base",
    "Line": "xennet.link.lines",
    "Lines": "xennet.link.lines",
    "LinkError": "xennet.link.base",
    "PluggedVif": "xennet.link.residents",
    "SavedGuest": "xennet.link.residents",
    "Setup": "xennet.link.setup",
    "Switch": "xennet.link.switch",
    "SwitchPort": "xennet.link.switch",
    "VifLink": "xennet.link.vif",
    "guest_mac": "xennet.link.house",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
