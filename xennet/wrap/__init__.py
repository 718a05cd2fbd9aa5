"""Wrappers: endpoints in front of another endpoint that change or watch the frames that pass.

A wrapper in front of a port is a port, and wrappers can be nested: ``FaultInjector(Tracer(port))``.
New ones inherit from :class:`~xennet.port.PortWrapper`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.wrap.faults import FaultCounters, FaultInjector, Faults
    from xennet.wrap.in_order import (
        CheckedEnd,
        InOrderCheck,
        Mismatch,
        check_order,
        ip_flow,
        one_flow,
    )
    from xennet.wrap.offload_edge import OffloadEdge
    from xennet.wrap.tracer import Passed, Tracer

__all__ = [
    "CheckedEnd",
    "FaultCounters",
    "FaultInjector",
    "Faults",
    "InOrderCheck",
    "Mismatch",
    "OffloadEdge",
    "Passed",
    "Tracer",
    "check_order",
    "ip_flow",
    "one_flow",
]

_HOMES = {
    "CheckedEnd": "xennet.wrap.in_order",
    "FaultCounters": "xennet.wrap.faults",
    "FaultInjector": "xennet.wrap.faults",
    "Faults": "xennet.wrap.faults",
    "InOrderCheck": "xennet.wrap.in_order",
    "Mismatch": "xennet.wrap.in_order",
    "OffloadEdge": "xennet.wrap.offload_edge",
    "Passed": "xennet.wrap.tracer",
    "Tracer": "xennet.wrap.tracer",
    "check_order": "xennet.wrap.in_order",
    "ip_flow": "xennet.wrap.in_order",
    "one_flow": "xennet.wrap.in_order",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
