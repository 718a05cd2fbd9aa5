"""A port behind a network card: its frames have the card's address, and it takes frames for the
card."""

from __future__ import annotations

from xennet.frames import MAX_FRAME, FrameBatch, large_enough
from xennet.port.base import Port, PortWrapper

#: Lowest bit of the first octet of a group address.
_GROUP = 1


class AddressedPort(PortWrapper):
    """``port`` behind a network card with the address ``mac``, which sends to ``peer`` (6 bytes).

    Frames that are pulled get these addresses. Frames that are pushed reach the port if they are
    for ``mac`` or for a group address; ``foreign`` counts the others.
    """

    def __init__(self, port: Port, mac: bytes, peer: bytes) -> None:
        super().__init__(port)
        self._header = peer + mac
        self._mac = mac
        self._kept: FrameBatch | None = None
        self.foreign = 0

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        try:
            return self.endpoint.pull(batch)
        finally:
            header, data = self._header, batch.data
            for i in range(first, batch.count):
                at = batch.offset[i]
                data[at : at + 12] = header

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
