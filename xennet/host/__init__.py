"""A host as ``xl`` manages it: a machine, domain 0 with store and toolstack, guests, vifs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.host.capacity import Capacity
    from xennet.host.domains import BackendDomain, Guest, PluggedVif, SavedGuest
    from xennet.host.host import Host, guest_mac
    from xennet.host.setup import Setup

__all__ = [
    "BackendDomain",
    "Capacity",
    "Guest",
    "Host",
    "PluggedVif",
    "SavedGuest",
    "Setup",
    "guest_mac",
]

_HOMES = {
    "BackendDomain": "xennet.host.domains",
    "Capacity": "xennet.host.capacity",
    "Guest": "xennet.host.domains",
    "Host": "xennet.host.host",
    "PluggedVif": "xennet.host.domains",
    "SavedGuest": "xennet.host.domains",
    "Setup": "xennet.host.setup",
    "guest_mac": "xennet.host.host",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
