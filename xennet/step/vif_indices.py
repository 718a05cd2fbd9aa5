"""The indices of a vif's rings, those that are shared and those that an end keeps to itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from attrs import frozen

from xennet.host.domains import PluggedVif
from xennet.ring import BackRing, FrontRing

#: Names of the indices, in the order in which they are shown.
INDICES = ("req_prod", "req_cons", "req_event", "rsp_prod", "rsp_cons", "rsp_event")


@frozen
class RingIndices:
    """The indices of the ring ``name`` ("tx", "vif2.0 q1 rx"); each is from 0 to 2**32 - 1.

    ``req_cons`` is the backend's own, ``rsp_cons`` the frontend's; None where that end is no driver
    of xennet's, or has not come so far.
    """

    name: str
    req_prod: int
    req_cons: int | None
    req_event: int
    rsp_prod: int
    rsp_cons: int | None
    rsp_event: int

    def __str__(self) -> str:
        return f"{self.name}: " + ", ".join(
            f"{name} {'-' if value is None else value}" for name, value in self.values()
        )

    def values(self) -> tuple[tuple[str, int | None], ...]:
        """(name, value) of each index, in order."""
        return tuple((name, getattr(self, name)) for name in INDICES)


def rings_of(vifs: Sequence[PluggedVif]) -> tuple[RingIndices, ...]:
    """The rings of each connection of ``vifs`` that a driver of xennet's has."""
    found: list[RingIndices] = []
    for vif in vifs:
        fronts = [] if vif.netfront is None else vif.netfront.queues
        backs = [] if vif.netback is None else vif.netback.queues
        several = max(len(fronts), len(backs)) > 1
        for number, (front, back) in enumerate(zip_longest(fronts, backs)):
            where = f"{vif.name} " if len(vifs) > 1 else ""
            where += f"q{number} " if several else ""
            for name in ("tx", "rx"):
                ends = (getattr(end, f"{name}_ring", None) for end in (front, back))
                found.append(_indices(where + name, *ends))
    return tuple(found)


def _indices(name: str, front: FrontRing | None, back: BackRing | None) -> RingIndices:
    either = front or back
    assert either is not None
    return RingIndices(
        name,
        req_cons=None if back is None else back.req_cons,
        rsp_cons=None if front is None else front.rsp_cons,
        **either.sring.indices(),
    )
