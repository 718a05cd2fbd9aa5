"""A port as a network card: its frames have its own address, and it takes what is meant for it."""

from __future__ import annotations

from xennet.frames import MAX_FRAME, FrameBatch, large_enough
from xennet.port.base import Port, PortWrapper

#: Lowest bit of an address's first octet: frames for it go to everybody.
_GROUP = 1


class AddressedPort(PortWrapper):
    """``port`` behind a network card that has the address ``mac`` and sends to ``peer`` (6 bytes).

    What is pulled gets these addresses. What is pushed reaches the port if it is for ``mac`` or for
    a group address; ``foreign`` counts the frames that were not.
    """

    def __init__(self, port: Port, mac: bytes, peer: bytes) -> None:
        super().__init__(port)
        self._header = peer + mac
        self._mac = mac
        self._kept: FrameBatch | None = None
        self.foreign = 0

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        pulled = self.endpoint.pull(batch)
        header, data = self._header, batch.data
        for i in range(first, batch.count):
            at = batch.offset[i]
            data[at : at + 12] = header
        return pulled

    def push(self, batch: FrameBatch) -> None:
        mine = [i for i in range(batch.count) if self._takes(batch, i)]
        if len(mine) == batch.count:
            self.endpoint.push(batch)
            return
        self.foreign += batch.count - len(mine)
        if mine:
            self.endpoint.push(self._copy(batch, mine))

    def _takes(self, batch: FrameBatch, index: int) -> bool:
        at, data = batch.offset[index], batch.data
        return bool(data[at] & _GROUP) or data[at : at + 6] == self._mac

    def _copy(self, batch: FrameBatch, indices: list[int]) -> FrameBatch:
        size, frames = max(batch.used, MAX_FRAME), max(256, len(indices))
        kept = self._kept = large_enough(self._kept, size, frames)
        kept.clear()
        for i in indices:
            kept.append_from(batch, i)
        return kept
