"""A network stack's side of a driver, as two lists of frames."""

from __future__ import annotations

from xennet.frames import EVERYTHING, BaseEndpoint, FrameBatch, Offload


class NetworkStack(BaseEndpoint):
    """``to_send`` goes out when the driver is kicked, ``received`` has come in.

    ``flags``: those of the next frames to be sent, 0 for the others. ``gso``: segment size and type
    of all. ``meta``: (flags, GSO size, GSO type) of each received frame. ``offload``: what was
    negotiated last.
    """

    room = 1 << 30

    def __init__(self) -> None:
        self.to_send: list[bytes] = []
        self.flags: list[int] = []
        self.gso: tuple[int, int] = (0, 0)
        self.received: list[bytes] = []
        self.meta: list[tuple[int, int, int]] = []
        self.offload = EVERYTHING

    def negotiated(self, offload: Offload) -> None:
        """Keep ``offload``."""
        self.offload = offload

    def pull(self, batch: FrameBatch) -> int:
        """Move frames of ``to_send`` into ``batch`` as far as it has room. Returns how many."""
        pulled = 0
        while self.to_send and batch.has_room(len(self.to_send[0])):
            flags = self.flags.pop(0) if self.flags else 0
            batch.append(
                self.to_send.pop(0), flags=flags, gso_size=self.gso[0], gso_type=self.gso[1]
            )
            pulled += 1
        return pulled

    def push(self, batch: FrameBatch) -> None:
        """Add the frames of ``batch`` to ``received``, what they need to ``meta``."""
        self.received += [bytes(frame) for frame in batch]
        for i in range(batch.count):
            self.meta.append((batch.flags[i], batch.gso_size[i], batch.gso_type[i]))
