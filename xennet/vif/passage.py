"""What a driver tells of the frames that it takes from the endpoint behind it, or gives it."""

from __future__ import annotations

from xennet.frames import FrameBatch
from xennet.interface import Hypervisor
from xennet.observe import FramePassed


class Passage:
    """Tells observers of the frames of queue ``number`` of ``vif`` at its ``end`` ("guest",
    "host").

    While ``interest.any`` is False there is nothing to tell: the driver sees to that itself, since
    it costs it no call.
    """

    def __init__(self, hv: Hypervisor, vif: str, number: int, end: str) -> None:
        self._hv = hv
        self._place = vif, number, end
        self.interest = hv.interest(FramePassed)

    def tell(self, direction: str, batch: FrameBatch, count: int) -> None:
        """The first ``count`` frames of ``batch`` go "in", to be carried, or "out"."""
        for index in range(count):
            self._hv.emit(
                FramePassed(
                    self._hv.domid,
                    *self._place,
                    direction,
                    bytes(batch.frame(index)),
                    batch.flags[index],
                    batch.gso_size[index],
                    batch.gso_type[index],
                )
            )
