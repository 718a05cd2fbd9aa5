"""Links, which join two ports, and the errors that they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.errors import LimitError, LinkError
    from xennet.link.base_link import BaseLink, EndPair
    from xennet.link.switch import Switch, SwitchPort
    from xennet.link.vif import VifLink
    from xennet.link.vifs import VifPair, Vifs

__all__ = [
    "BaseLink",
    "EndPair",
    "LimitError",
    "LinkError",
    "Switch",
    "SwitchPort",
    "VifLink",
    "VifPair",
    "Vifs",
]

_HOMES = {
    "BaseLink": "xennet.link.base_link",
    "EndPair": "xennet.link.base_link",
    "LimitError": "xennet.errors",
    "LinkError": "xennet.errors",
    "Switch": "xennet.link.switch",
    "SwitchPort": "xennet.link.switch",
    "VifLink": "xennet.link.vif",
    "VifPair": "xennet.link.vifs",
    "Vifs": "xennet.link.vifs",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
