"""The frontend end of a vif."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.netfront.counters import NetfrontCounters
    from xennet.netfront.device import Netfront
    from xennet.netfront.kinds import KINDS, FrontendKind
    from xennet.netfront.options import NetfrontOptions
    from xennet.netfront.verdict import BackendError

__all__ = [
    "KINDS",
    "BackendError",
    "FrontendKind",
    "Netfront",
    "NetfrontCounters",
    "NetfrontOptions",
]

_HOMES = {
    "KINDS": "xennet.netfront.kinds",
    "BackendError": "xennet.netfront.verdict",
    "FrontendKind": "xennet.netfront.kinds",
    "Netfront": "xennet.netfront.device",
    "NetfrontCounters": "xennet.netfront.counters",
    "NetfrontOptions": "xennet.netfront.options",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
