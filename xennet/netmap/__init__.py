"""netmap: rings, ports and switches behind a device, as the kernel module has them (API 14).

    with xennet.netmap.open("netmap:vale0:1/R") as port: ...

opens a port by its name (xennet.netmap.user). An :class:`InterfaceEnd` lets netmap
have an interface of a link. The device itself starts at :mod:`xennet.netmap.device`. docs/netmap.md
says what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.netmap.errors import NetmapError as NetmapError
    from xennet.netmap.interface_end import InterfaceEnd as InterfaceEnd
    from xennet.netmap.user.mapped_ring import Ring as Ring
    from xennet.netmap.user.mapped_ring import Slot as Slot
    from xennet.netmap.user.nmport import Port as Port
    from xennet.netmap.user.nmport import open as open

__all__ = ["InterfaceEnd", "NetmapError", "Port", "Ring", "Slot", "open"]

_HOMES = {
    "InterfaceEnd": "xennet.netmap.interface_end",
    "NetmapError": "xennet.netmap.errors",
    "Port": "xennet.netmap.user.nmport",
    "Ring": "xennet.netmap.user.mapped_ring",
    "Slot": "xennet.netmap.user.mapped_ring",
    "open": "xennet.netmap.user.nmport",
}

if not TYPE_CHECKING:  # a type checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
