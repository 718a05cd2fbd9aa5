"""The backend end of a vif."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.netback.defects import BackendPanic, DefectStruck
    from xennet.netback.device import Vif
    from xennet.netback.policy import BackendPolicy, VifOptions
    from xennet.netback.poll_page import PagePoller, PolledPacket
    from xennet.netback.verdict import FrontendError

__all__ = [
    "BackendPanic",
    "BackendPolicy",
    "DefectStruck",
    "FrontendError",
    "PagePoller",
    "PolledPacket",
    "Vif",
    "VifOptions",
]

_HOMES = {
    "BackendPanic": "xennet.netback.defects",
    "BackendPolicy": "xennet.netback.policy",
    "DefectStruck": "xennet.netback.defects",
    "FrontendError": "xennet.netback.verdict",
    "PagePoller": "xennet.netback.poll_page",
    "PolledPacket": "xennet.netback.poll_page",
    "Vif": "xennet.netback.device",
    "VifOptions": "xennet.netback.policy",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
