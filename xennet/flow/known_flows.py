"""The kernel ``classify`` for plain Python, which asks it once for each flow.

What classify says of a frame with an IPv4 header without options depends on 20 bytes and on the
hash configuration. For plain code it costs a fraction of the kernel to take those bytes out of all
frames of a batch and to look up what was said of them before.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from struct import Struct
from typing import Any

from xennet.engine.kernel import Bytes, Frames, U32Array
from xennet.flow.classify import classify
from xennet.flow.hash_config import HashConfig
from xennet.offload.headers import USUAL_FIRST, USUAL_FIRST_MASK

#: Most flows that are known; then all are forgotten.
MOST = 1024
#: Ethernet type and IP version (USUAL_FIRST), fragment and protocol, addresses, and what is behind
#: the IP header: the ports, if there are some.
_FLOW = Struct(">12xI4xI2x12s")
#: What is said of a flow.
_INFO, _VALUE, _QUEUE = map(itemgetter, range(3))


@lru_cache(maxsize=64)
def _every(size: int) -> Struct:
    """What takes the flow out of each of many frames of ``size`` bytes that lie end to end."""
    return Struct(f"{_FLOW.format}{size - _FLOW.size}x")


def _flows(data: Bytes, offset: U32Array, length: U32Array) -> Iterable[tuple[Any, ...]]:
    """The flow of each frame, of which there is at least one, and none is shorter than _FLOW."""
    size, begin = length[0], offset[0]
    end = begin + size * len(length)
    if offset[-1] + size == end and length[1:] == length[:-1]:
        return _every(size).iter_unpack(data[begin:end])
    return map(_FLOW.unpack_from, repeat(data), offset)


class KnownFlows:
    """The kernel with its fixed arguments, and what it said of the flows that were seen last.

    ``config`` may change, ``queues`` does not. ``hashing`` is ``config.views()``.
    """

    def __init__(self, config: HashConfig, queues: int, hashing: tuple[Any, ...]) -> None:
        self._config = config
        self._queues = queues
        self._hashing = hashing
        #: By flow: hash_info, hash_value and queue, as they are after ``_changes`` changes.
        self._known: dict[tuple[Any, ...], tuple[int, int, int]] = {}
        self._changes = config.changes

    def __repr__(self) -> str:
        return f"<KnownFlows {len(self._known)} of {MOST}>"

    def run(self, first: int, count: int, frames: Frames, queue: U32Array) -> None:
        """Classify the frames ``first`` ... ``count - 1``, at least one, as the kernel does.

        The hash value of a frame without a hash is undefined afterwards.
        """
        data, _, offset, length, _, _, _, hash_info, hash_value = frames
        if min(length[first:count]) < _FLOW.size:  # its bytes may be those of another frame
            classify(first, count, self._queues, self._hashing, frames, queue)
            return
        if self._changes != self._config.changes:
            self._changes = self._config.changes
            self._known.clear()
        flows = _flows(data, offset[first:count], length[first:count])
        said: list[Any] = list(map(self._known.get, flows))
        if None in said:
            self._learn(first, said, frames, queue)
        queue[first:count] = array("I", map(_QUEUE, said))
        if self._config.active:
            hash_info[first:count] = array("I", map(_INFO, said))
            hash_value[first:count] = array("I", map(_VALUE, said))
        else:
            hash_info[first:count] = array("I", bytes(4 * len(said)))

    def _learn(
        self,
        first: int,
        said: list[tuple[int, int, int] | None],
        frames: Frames,
        queue: U32Array,
    ) -> None:
        """Fill in where nothing is ``said`` of the frames from ``first`` on, and remember it."""
        data, _, offset, _, _, _, _, hash_info, hash_value = frames
        unknown = [i for i, known in enumerate(said, first) if known is None]
        classify(unknown[0], unknown[-1] + 1, self._queues, self._hashing, frames, queue)
        for i in unknown:
            of_frame = said[i - first] = hash_info[i], hash_value[i], queue[i]
            flow = _FLOW.unpack_from(data, offset[i])
            if flow[0] & USUAL_FIRST_MASK == USUAL_FIRST:
                if len(self._known) == MOST:
                    self._known.clear()
                self._known[flow] = of_frame
