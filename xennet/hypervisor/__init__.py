"""The machine: domains, their hypercalls, and the run loop in which they run.

`machine` creates and destroys domains, `domain` is the handle through which one domain does
everything that it can do, `leaks` reports what domains still hold.
"""

from __future__ import annotations

from xennet.hypervisor.domain import Domain
from xennet.hypervisor.domain_record import DomainInfo
from xennet.hypervisor.leaks import DomainLeaks, LeakReport
from xennet.hypervisor.machine import Machine
from xennet.hypervisor.round_trip import RoundTrip
from xennet.hypervisor.store_ring import StoreRing, StoreRingReport

__all__ = [
    "Domain",
    "DomainInfo",
    "DomainLeaks",
    "LeakReport",
    "Machine",
    "RoundTrip",
    "StoreRing",
    "StoreRingReport",
]
