"""Frames on their way between a port and a driver: flat memory, no object per frame.

A :class:`FrameBatch` is one buffer in which frames lie end to end, and flat arrays of equal length
that say where each is and what travels with it. Ports fill and empty batches, kernels read and
write them; the arrays are exactly what a compiled kernel can use.
"""

from __future__ import annotations

import mmap
import sys
import warnings
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

from attrs import evolve, frozen

#: Longest frame that one netif packet can carry: the 16-bit size of the first tx request.
MAX_FRAME = 65535
#: Two addresses and the type.
ETHERNET_HEADER = 14
#: Shortest frame: an Ethernet header (a backend answers ERROR to less; hardening rule F6).
MIN_FRAME = ETHERNET_HEADER

#: ``room`` of an endpoint that never fills up.
UNBOUNDED = 2**31 - 1

#: Frame flags, as in the tx request: the protocol checksum field holds only the pseudo-header sum.
CSUM_BLANK = 1
#: The checksum was verified, or cannot have been damaged (it never left the machine).
DATA_VALIDATED = 2

#: Bits of both GSO types, TCPv4 (1) and TCPv6 (2); xennet.abi.netif has their names, and costs too
#: much to be imported by everybody.
ALL_GSO_TYPES = 1 << 1 | 1 << 2


@frozen
class Offload:
    """What the taker of frames can take as it is; a giver has to do the rest in software.

    ``sg``: frames of more than one page. ``csum_v4``, ``csum_v6``: blank TCP and UDP checksums.
    ``gso_types``: bit t is set for each XEN_NETIF_GSO_TYPE_* t; without ``sg`` there are none
    (a segmented frame would not fit). ``max_frame``: longest frame without GSO in bytes, Ethernet
    header included, 0 = any. ``max_tagged``: longest one with its VLAN tags, if these come on top
    of ``max_frame``; 0 = they count in it. ``vlan``: whether offloads go for frames with a VLAN tag
    too; not for drivers: Linux's have no vlan_features, and drop such frames when they come (rule
    F17).
    """

    sg: bool = True
    csum_v4: bool = True
    csum_v6: bool = True
    gso_types: int = ALL_GSO_TYPES
    max_frame: int = 0
    max_tagged: int = 0
    vlan: bool = False

    def with_mtu(self, mtu: int) -> Offload:
        """The same for a device with this mtu in bytes, which counts neither the Ethernet header
        nor VLAN tags (Linux is_skb_forwardable; the outer tag is not in the skb then)."""
        longest = self.max_frame or MAX_FRAME
        return evolve(
            self,
            max_frame=min(longest, mtu + ETHERNET_HEADER),
            max_tagged=self.max_tagged or longest,
        )


#: The taker looks at nothing: rings and files that keep frames as they are.
EVERYTHING = Offload(vlan=True)
#: The taker wants plain frames, as they would be on a wire.
NOTHING = Offload(csum_v4=False, csum_v6=False, gso_types=0)


def lazy_bytes(size: int) -> memoryview:
    """``size`` zeroed bytes, which take memory once they are touched and not before."""
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class FrameBatch:
    """Up to ``max_frames`` frames in ``data``, filled from the start and in order.

    ``data``: writable memoryview of unsigned bytes. ``offset``, ``length`` (bytes), ``flags``
    (CSUM_BLANK, DATA_VALIDATED), ``gso_size`` (bytes of one segment, 0 = no GSO), ``gso_type``
    (XEN_NETIF_GSO_TYPE_*), ``hash_info`` (0 = none, else algorithm << 8 | type bit number + 1),
    ``hash_value``, ``timestamp`` (ns since the epoch) are arrays indexed by frame. ``count`` frames
    are valid, ``used`` bytes of ``data`` are taken. ``remarks`` has what ports say to each other of
    single frames, by index: comments of a capture and the like, which no driver ever sees.
    """

    __slots__ = (
        "count",
        "data",
        "flags",
        "gso_size",
        "gso_type",
        "hash_info",
        "hash_value",
        "length",
        "max_frames",
        "offset",
        "remarks",
        "timestamp",
        "used",
    )

    def __init__(self, data: memoryview, max_frames: int = 256) -> None:
        self.data = data
        self.max_frames = max_frames
        self.offset = array("I", bytes(4 * max_frames))
        self.length = array("I", bytes(4 * max_frames))
        self.flags = array("I", bytes(4 * max_frames))
        self.gso_size = array("I", bytes(4 * max_frames))
        self.gso_type = array("I", bytes(4 * max_frames))
        self.hash_info = array("I", bytes(4 * max_frames))
        self.hash_value = array("I", bytes(4 * max_frames))
        self.timestamp = array("q", bytes(8 * max_frames))
        self.remarks: dict[int, object] = {}
        self.count = 0
        self.used = 0

    @property
    def columns(self) -> tuple[array[int], array[int], array[int], array[int], array[int]]:
        """offset, length, flags, gso_size, gso_type: what kernels take of a batch, in order."""
        return self.offset, self.length, self.flags, self.gso_size, self.gso_type

    @property
    def hash_columns(self) -> tuple[array[int], array[int]]:
        """hash_info, hash_value: for kernels that know of hashes."""
        return self.hash_info, self.hash_value

    @property
    def all_columns(self) -> tuple[array[int], ...]:
        """All that is known of frames: ``columns``, ``hash_columns``, timestamp."""
        return (*self.columns, *self.hash_columns, self.timestamp)

    def for_kernels(self, view: Callable[[Any], Any]) -> Any:
        """The batch as kernels take it (xennet.kernel.Frames), as long as it lives.

        ``view``: that of the engine of the kernels. Words that the end of ``data`` cuts are left
        out.
        """
        words = self.data[: len(self.data) & ~3].cast("I")
        return tuple(map(view, (self.data, words, *self.columns, *self.hash_columns)))

    def clear(self) -> None:
        """Forget all frames."""
        self.count = 0
        self.used = 0
        self.remarks.clear()

    def cut(self, count: int) -> None:
        """Forget the frames from number ``count`` on, which is less than there are."""
        self.count, self.used = count, self.offset[count]
        for index in [index for index in self.remarks if index >= count]:
            del self.remarks[index]

    def remark(self, index: int, remark: object | None) -> None:
        """Attach ``remark`` to frame ``index`` in place of what was; None: nothing."""
        if remark is not None:
            self.remarks[index] = remark
        elif self.remarks:
            self.remarks.pop(index, None)

    def has_room(self, length: int) -> bool:
        """Whether one more frame of ``length`` bytes fits."""
        return self.count < self.max_frames and self.used + length <= len(self.data)

    def append(
        self,
        frame: bytes | memoryview,
        *,
        timestamp: int = 0,
        flags: int = 0,
        gso_size: int = 0,
        gso_type: int = 0,
        remark: object | None = None,
    ) -> None:
        """Add a frame at the end; IndexError when it does not fit (ask has_room first)."""
        n = len(frame)
        if not self.has_room(n):
            raise IndexError(f"no room for a frame of {n} bytes after {self.count} frames")
        i, used = self.count, self.used
        self.data[used : used + n] = frame
        self.offset[i] = used
        self.length[i] = n
        self.flags[i] = flags
        self.gso_size[i] = gso_size
        self.gso_type[i] = gso_type
        self.hash_info[i] = 0
        self.timestamp[i] = timestamp
        self.remark(i, remark)
        self.count = i + 1
        self.used = used + n

    def append_from(self, source: FrameBatch, index: int) -> None:
        """Add a copy of frame ``index`` of ``source``, with all that travels with it."""
        to = self.count
        self.append(source.frame(index), remark=source.remarks.get(index))
        for mine, theirs in zip(self.all_columns[1:], source.all_columns[1:], strict=True):
            mine[to] = theirs[index]

    def frame(self, index: int) -> memoryview:
        """The bytes of frame ``index``, a view that is valid until the batch is refilled."""
        start = self.offset[index]
        return self.data[start : start + self.length[index]]

    def __iter__(self) -> Iterator[memoryview]:
        return (self.frame(i) for i in range(self.count))


def large_enough(kept: FrameBatch | None, size: int, frames: int) -> FrameBatch:
    """``kept`` if it holds ``frames`` frames and ``size`` bytes, else a new batch that does."""
    if kept is None or len(kept.data) < size or kept.max_frames < frames:
        return FrameBatch(lazy_bytes(size), frames)
    return kept


class Outbox:
    """A batch of frames that are sent in order; ``next`` is the first that has not been."""

    def __init__(self, batch: FrameBatch) -> None:
        self.batch = batch
        self.next = 0

    @property
    def empty(self) -> bool:
        """Whether every frame of the batch has been sent."""
        return self.next == self.batch.count

    def refill(self) -> FrameBatch:
        """The batch, emptied, for new frames."""
        self._forget()
        return self.batch

    def drop_all(self) -> int:
        """Forget the frames that have not been sent; how many they were."""
        dropped = self.batch.count - self.next
        self._forget()
        return dropped

    def discard(self, source: Endpoint) -> int:
        """Drop them, and a batch of those that ``source`` has as well; how many in all."""
        dropped = self.drop_all() + source.pull(self.refill())
        self._forget()
        return dropped

    def _forget(self) -> None:
        self.batch.clear()
        self.next = 0


class Endpoint(Protocol):
    """Whatever gives frames and takes frames: a network stack's side of a driver, a port, and all
    that stands between the two. None of its calls blocks.

    ``carries``: what ``push`` takes as it is; the same all its life. An edge
    (xennet.wrap.OffloadEdge) makes other frames fit. ``room``: how many frames ``push`` takes now,
    whatever their length; UNBOUNDED without a limit. To ask for it changes nothing.
    """

    @property
    def carries(self) -> Offload: ...

    @property
    def room(self) -> int: ...

    def pull(self, batch: FrameBatch, /) -> int:
        """Append as many frames as are there and fit; the number appended, 0 for none now."""
        ...

    def push(self, batch: FrameBatch, /) -> None:
        """Take all frames of ``batch`` (which is not changed), at most ``room`` of them."""
        ...

    def negotiated(self, offload: Offload, /) -> None:
        """Told at each connect what the other end of the driver's link takes of the frames that are
        pulled from here."""
        ...

    def listen(self, wake: Callable[[], None], /) -> None:
        """Have ``wake`` called, in place of what was given before, once there are frames after a
        pull that found none, or once there is room after there was none.

        Not for frames that a push brings: who pushes pulls as well. It is called in the machine's
        thread only, also in the middle of a pull or push of this endpoint. A driver's notes that it
        was called and returns; whoever stands in between may push at once what waits for room,
        unless it is in the middle of a call itself.
        """
        ...


#: Its first name: scripts import it, and annotations need a class, not a function that warns.
FrameEndpoint = Endpoint


def pull_at_most(endpoint: Endpoint, batch: FrameBatch, frames: int) -> int:
    """As the endpoint's pull, but for no more than so many ``frames``."""
    most = batch.max_frames
    batch.max_frames = min(most, batch.count + frames)
    try:
        return endpoint.pull(batch)
    finally:
        batch.max_frames = most


class BaseEndpoint:
    """An endpoint that has nothing to give and swallows what it gets: a base for those that authors
    write. ``wake`` calls the listener, if there is one."""

    carries: Offload = EVERYTHING
    wake: Callable[[], None] = staticmethod(lambda: None)

    @property
    def room(self) -> int:
        return UNBOUNDED

    def pull(self, batch: FrameBatch, /) -> int:
        return 0

    def push(self, batch: FrameBatch, /) -> None:
        """Nobody wants them."""

    def negotiated(self, offload: Offload, /) -> None:
        """An endpoint gives what it has; who needs less puts an edge in front of it."""

    def listen(self, wake: Callable[[], None], /) -> None:
        self.wake = wake


class Wrapper:
    """An endpoint in front of ``endpoint``, the same all its life, that hands everything on: a base
    for those that change one thing."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = require_endpoint("endpoint", endpoint)
        #: Whose room it is: those in between that only hand on are not asked.
        self._has_room: Endpoint = self
        if type(self).room is Wrapper.room:
            self._hand_on_room()

    def _hand_on_room(self) -> None:
        """``room`` is the endpoint's from now on."""
        end = self.endpoint
        self._has_room = end._has_room if isinstance(end, Wrapper) else end

    @property
    def carries(self) -> Offload:
        return self.endpoint.carries

    @property
    def room(self) -> int:
        return self._has_room.room

    def pull(self, batch: FrameBatch, /) -> int:
        return self.endpoint.pull(batch)

    def push(self, batch: FrameBatch, /) -> None:
        self.endpoint.push(batch)

    def negotiated(self, offload: Offload, /) -> None:
        self.endpoint.negotiated(offload)

    def listen(self, wake: Callable[[], None], /) -> None:
        self.endpoint.listen(wake)


class _Completed(Wrapper):
    """Stands before an endpoint that knows nothing of ``carries`` or ``listen``, as all did once:
    it takes everything and wakes nobody. Whatever else it has is there too (a port's name ...)."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = self._has_room = endpoint

    @property
    def carries(self) -> Offload:
        carries = getattr(self.endpoint, "carries", None)
        return carries if isinstance(carries, Offload) else EVERYTHING

    def listen(self, wake: Callable[[], None], /) -> None:
        if hasattr(self.endpoint, "listen"):
            self.endpoint.listen(wake)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or name == "endpoint":  # being copied, and empty yet
            raise AttributeError(name)
        return getattr(self.endpoint, name)


#: The methods without which nothing is an endpoint.
_CALLS = ("pull", "push", "negotiated")
_E = TypeVar("_E", bound=Endpoint)


def require_endpoint(what: str, end: _E) -> _E:
    """``end``, which was given as ``what``, to be used from now on in its place.

    TypeError, with the way out, for what is no endpoint. One without ``carries`` or ``listen`` (all
    were so once) is completed, with a DeprecationWarning.
    """
    if isinstance(end, str):
        raise TypeError(f"{what}: {end!r} is a port's specification; open_port({end!r}) opens it")
    missing = [name for name in _CALLS if not callable(getattr(end, name, None))]
    if missing:
        raise TypeError(
            f"{what}: {end!r} is no port or other xennet.frames.Endpoint, "
            f"it has no {', '.join(missing)}"
        )
    lacking = [] if isinstance(getattr(end, "carries", None), Offload) else ["carries"]
    lacking += [] if callable(getattr(end, "listen", None)) else ["listen"]
    if not lacking:
        return end
    warnings.warn(
        f"{what}: {end!r} has no {' and no '.join(lacking)}, which every endpoint has now: "
        "inherit from xennet.BaseEndpoint, or add them (xennet.frames.Endpoint says what they are)",
        DeprecationWarning,
        stacklevel=_callers_depth(),
    )
    return cast(_E, _Completed(end))


def _callers_depth() -> int:
    """For warnings.warn in the caller of this: the first frame outside of the package."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("xennet."):
        depth, frame = depth + 1, frame.f_back
    return depth
