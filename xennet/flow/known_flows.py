"""The kernel ``classify`` for plain Python, which asks it once for each flow.

What classify says of a frame with an IPv4 header without options depends on 20 bytes and on the
hash configuration. For plain code it costs a fraction of the kernel to take those bytes out of all
frames of a batch and to look up what was said of them before.
"""

from __future__ import annotations

from array import array
from operator import itemgetter
from struct import Struct
from typing import Any, TypeAlias

from xennet.engine.kernel import Frames, U32Array
from xennet.flow.classify import classify
from xennet.flow.hash_config import HashConfig
from xennet.offload.headers import USUAL_FIRST, USUAL_FIRST_MASK
from xennet.offload.many_headers import HEAD, ManyHeaders

#: Most flows that are known; then all are forgotten.
MOST = 1024
#: What tells the flow of a frame with an IP header without options: the addresses and what is
#: behind that header, the ports if there are some.
_FLOW = Struct(">26x12s")
#: The same where frames differ in HEAD: that before it.
_HEAD_AND_FLOW = Struct(f"{HEAD.format}2x12s")
#: What is said of a flow.
_INFO, _VALUE, _QUEUE = map(itemgetter, range(3))
_Said: TypeAlias = "tuple[int, int, int]"
_Head: TypeAlias = "tuple[int, int] | None"


class KnownFlows:
    """The kernel with its fixed arguments, and what it said of the flows that were seen last.

    ``config`` may change, ``queues`` does not. ``hashing`` is ``config.views()``.
    """

    def __init__(self, config: HashConfig, queues: int, hashing: tuple[Any, ...]) -> None:
        self._config = config
        self._queues = queues
        self._hashing = hashing
        #: By HEAD of a batch, None for one of several, by flow: hash_info, hash_value and queue, as
        #: they are after ``_changes`` changes.
        self._known: dict[_Head, dict[tuple[Any, ...], _Said]] = {}
        self._changes = config.changes

    def __repr__(self) -> str:
        return f"<KnownFlows {self.count} of {MOST}>"

    @property
    def count(self) -> int:
        """Number of flows that are remembered; one counts twice that came in batches of one HEAD
        and of several."""
        return sum(map(len, self._known.values()))

    def run(self, first: int, count: int, frames: Frames, queue: U32Array) -> None:
        """Classify the frames ``first`` ... ``count - 1``, at least one, as the kernel does.

        The hash value of a frame without a hash is undefined afterwards.
        """
        data, _, offset, length, _, _, _, hash_info, hash_value = frames
        headers = ManyHeaders(data, offset[first:count], length[first:count])
        if headers.shortest < _FLOW.size:  # its bytes may be those of another frame
            classify(first, count, self._queues, self._hashing, frames, queue)
            return
        if self._changes != self._config.changes:
            self._changes = self._config.changes
            self._known.clear()
        head = headers.common_head()
        layout = _HEAD_AND_FLOW if head is None else _FLOW
        known = self._known.get(head, {})
        said: list[Any] = list(map(known.get, headers.fields(layout)))
        if not all(said):
            self._learn(first, said, head, layout, frames, queue)
        queue[first:count] = array("I", map(_QUEUE, said))
        if self._config.active:
            hash_info[first:count] = array("I", map(_INFO, said))
            hash_value[first:count] = array("I", map(_VALUE, said))
        else:
            hash_info[first:count] = array("I", bytes(4 * len(said)))

    def _learn(
        self,
        first: int,
        said: list[_Said | None],
        head: _Head,
        layout: Struct,
        frames: Frames,
        queue: U32Array,
    ) -> None:
        """Fill in where nothing is ``said`` of the frames from ``first`` on, and remember it by
        what ``layout`` says of them."""
        data, _, offset, _, _, _, _, hash_info, hash_value = frames
        unknown = [i for i, known in enumerate(said, first) if known is None]
        classify(unknown[0], unknown[-1] + 1, self._queues, self._hashing, frames, queue)
        kept = self.count
        for i in unknown:
            of_frame = said[i - first] = hash_info[i], hash_value[i], queue[i]
            if HEAD.unpack_from(data, offset[i])[0] & USUAL_FIRST_MASK == USUAL_FIRST:
                flow = layout.unpack_from(data, offset[i])
                if flow not in self._known.get(head, ()):
                    if kept == MOST:
                        self._known.clear()
                        kept = 0
                    kept += 1
                    self._known.setdefault(head, {})[flow] = of_frame
