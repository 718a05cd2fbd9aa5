"""The indices of a vif's rings, those that are shared and those that an end keeps to itself."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from xennet.host.domains import PluggedVif
from xennet.ring import BackRing, FrontRing

#: Names of the indices, in the order in which they are shown.
INDICES = ("req_prod", "req_cons", "req_event", "rsp_prod", "rsp_cons", "rsp_event")


@frozen
class RingIndices:
    """The indices of the ring ``name`` ("tx", "vif2.0 q1 rx"); each is from 0 to 2**32 - 1.

    ``req_cons`` is the backend's own, None if it has not come so far; ``rsp_cons`` is the
    frontend's.
    """

    name: str
    req_prod: int
    req_cons: int | None
    req_event: int
    rsp_prod: int
    rsp_cons: int
    rsp_event: int

    def __str__(self) -> str:
        return f"{self.name}: " + ", ".join(
            f"{name} {'-' if value is None else value}" for name, value in self.values()
        )

    def values(self) -> tuple[tuple[str, int | None], ...]:
        """(name, value) of each index, in order."""
        return tuple((name, getattr(self, name)) for name in INDICES)


def rings_of(vifs: Sequence[PluggedVif]) -> tuple[RingIndices, ...]:
    """The rings of each connection of ``vifs``, none for a driver that is not xennet's."""
    found = []
    for vif in vifs:
        fronts = vif.netfront.queues if vif.netfront is not None else ()
        backs = vif.netback.queues if vif.netback is not None else []
        for number, front in enumerate(fronts):
            back = backs[number] if number < len(backs) else None
            where = f"{vif.name} " if len(vifs) > 1 else ""
            where += f"q{number} " if len(fronts) > 1 else ""
            found += [
                _indices(f"{where}tx", front.tx_ring, None if back is None else back.tx_ring),
                _indices(f"{where}rx", front.rx_ring, None if back is None else back.rx_ring),
            ]
    return tuple(found)


def _indices(name: str, front: FrontRing, back: BackRing | None) -> RingIndices:
    shared = front.sring.indices()
    return RingIndices(
        name,
        shared["req_prod"],
        None if back is None else back.req_cons,
        shared["req_event"],
        shared["rsp_prod"],
        front.rsp_cons,
        shared["rsp_event"],
    )
