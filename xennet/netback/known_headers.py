"""The kernel judge_checksums for plain Python, which asks it once for headers that are alike.

What it says of a frame with an IPv4 header without options depends, beside the length, on 8 bytes.
For plain code it costs a fraction of the kernel to take those bytes out of all frames of a pass and
to look whether all of them were good before.
"""

from __future__ import annotations

from xennet.engine.kernel import Frames, Vector
from xennet.netback.guest_tx import CSUM_FIXUP, R_FLAGS_SEEN, R_PACKETS, TxSlots
from xennet.netback.tx_checksum import judge_checksums
from xennet.offload.headers import USUAL_BYTES, usual_l4
from xennet.offload.many_headers import HEAD, ManyHeaders

#: Most headers that are known; then all are forgotten.
MOST = 1024


class KnownHeaders:
    """The kernel, and which of the headers that were seen last are good in any frame of USUAL_BYTES
    or more."""

    def __init__(self) -> None:
        self._good: set[tuple[int, ...]] = set()

    def __repr__(self) -> str:
        return f"<KnownHeaders {len(self._good)} of {MOST}>"

    def judge(self, log: Vector, slots: TxSlots, frames: Frames, res: Vector) -> int:
        """Judge all packets as the kernel does. Returns the number of good ones."""
        data, _, offset, length, *_ = frames
        packets = res[R_PACKETS]
        if packets and res[R_FLAGS_SEEN] < CSUM_FIXUP:
            headers = ManyHeaders(data, offset[:packets], length[:packets])
            if headers.shortest >= USUAL_BYTES:
                head = headers.common_head()
                if self._good.issuperset(headers.fields(HEAD) if head is None else (head,)):
                    return packets
                self._learn(packets, frames)
        return judge_checksums(log, slots, frames, res)

    def _learn(self, packets: int, frames: Frames) -> None:
        """Remember the headers that are good."""
        data, _, offset, length, *_ = frames
        for i in range(packets):
            if usual_l4(data, offset[i], length[i]):
                if len(self._good) == MOST:
                    self._good.clear()
                self._good.add(HEAD.unpack_from(data, offset[i]))
