"""Frames on their way between a port and a driver: flat memory, no object per frame.

A :class:`FrameBatch` is one buffer in which frames lie end to end, and flat arrays of equal length
with the place and the metadata of each frame. Ports fill and empty batches, kernels read and write
them; a compiled kernel uses the very same arrays.
"""

from __future__ import annotations

import mmap
import sys
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from attrs import evolve, frozen

#: Longest frame that one netif packet can carry: the 16-bit size of the first tx request.
MAX_FRAME = 65535
#: Bytes of an Ethernet header: two addresses and the type.
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
    """What the receiver of frames takes as it is. The sender does the rest in software.

    ``sg``: frames of more than one page. ``csum_v4``, ``csum_v6``: blank TCP and UDP checksums.
    ``gso_types``: bit t is set for each XEN_NETIF_GSO_TYPE_* t; without ``sg`` there are none (a
    segmented frame would not fit). ``max_frame``: longest frame without GSO in bytes, Ethernet
    header included, 0 = any. ``max_tagged``: longest frame with its VLAN tags, if these come on top
    of ``max_frame``; 0 = tags count in ``max_frame``. ``vlan``: the offloads also apply to frames
    with a VLAN tag. Drivers never have ``vlan``: Linux's netfront and netback have no
    vlan_features, so a frame with a VLAN tag that needs an offload is dropped (rule F17).
    """

    sg: bool = True
    csum_v4: bool = True
    csum_v6: bool = True
    gso_types: int = ALL_GSO_TYPES
    max_frame: int = 0
    max_tagged: int = 0
    vlan: bool = False

    def with_mtu(self, mtu: int) -> Offload:
        """The same offloads for a device with this mtu in bytes.

        The mtu counts neither the Ethernet header nor VLAN tags (Linux is_skb_forwardable; the
        outer tag is not in the skb then).
        """
        longest = self.max_frame or MAX_FRAME
        return evolve(
            self,
            max_frame=min(longest, mtu + ETHERNET_HEADER),
            max_tagged=self.max_tagged or longest,
        )


#: The receiver takes any frame: rings and files that keep frames as they are.
EVERYTHING = Offload(vlan=True)
#: The receiver takes plain frames only, as they are on a wire.
NOTHING = Offload(csum_v4=False, csum_v6=False, gso_types=0)


def lazy_bytes(size: int) -> memoryview:
    """``size`` zeroed bytes, which take memory when they are touched first."""
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class FrameBatch:
    """Up to ``max_frames`` frames in ``data``, filled from the start and in order.

    ``data``: writable memoryview of unsigned bytes. ``offset``, ``length`` (bytes), ``flags``
    (CSUM_BLANK, DATA_VALIDATED), ``gso_size`` (bytes of one segment, 0 = no GSO), ``gso_type``
    (XEN_NETIF_GSO_TYPE_*), ``hash_info`` (0 = none, else algorithm << 8 | type bit number + 1),
    ``hash_value``, ``timestamp`` (ns since the epoch) are arrays indexed by frame. ``count`` frames
    are valid, ``used`` bytes of ``data`` are taken. ``remarks`` has, by index, what one port tells
    another about a frame: comments of a capture and the like, which no driver sees.
    """

    __slots__ = (
        "_for_kernels",
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
        self.offset = zeroes = array("I", bytes(4 * max_frames))
        # A copy of a column takes less than a new one.
        self.length, self.flags = zeroes[:], zeroes[:]
        self.gso_size, self.gso_type = zeroes[:], zeroes[:]
        self.hash_info, self.hash_value = zeroes[:], zeroes[:]
        self.timestamp = array("q", bytes(8 * max_frames))
        self.remarks: dict[int, object] = {}
        self._for_kernels: tuple[object, Any] = (None, None)
        self.count = 0
        self.used = 0

    def __repr__(self) -> str:
        return f"<FrameBatch {self.count} of {self.max_frames} frames, {self.used} bytes>"

    @property
    def columns(self) -> tuple[array[int], array[int], array[int], array[int], array[int]]:
        """offset, length, flags, gso_size, gso_type: the columns that all kernels take, in
        order."""
        return self.offset, self.length, self.flags, self.gso_size, self.gso_type

    @property
    def hash_columns(self) -> tuple[array[int], array[int]]:
        """hash_info, hash_value: for kernels that handle hashes."""
        return self.hash_info, self.hash_value

    @property
    def all_columns(self) -> tuple[array[int], ...]:
        """All columns: ``columns``, ``hash_columns``, timestamp."""
        return (*self.columns, *self.hash_columns, self.timestamp)

    def for_kernels(self, view: Callable[[Any], Any]) -> Any:
        """The batch as kernels take it (xennet.engine.kernel.Frames); valid as long as the batch
        is, which keeps it.

        ``view`` is that of the kernels' engine. A last word that the end of ``data`` cuts is left
        out.
        """
        made_by, frames = self._for_kernels
        if made_by != view:
            words = self.data[: len(self.data) & ~3].cast("I")
            frames = tuple(map(view, (self.data, words, *self.columns, *self.hash_columns)))
            self._for_kernels = view, frames
        return frames

    def clear(self) -> None:
        """Forget all frames."""
        self.count = 0
        self.used = 0
        self.remarks.clear()

    def cut(self, count: int) -> None:
        """Forget the frames from number ``count`` on; ``count`` is less than the present number."""
        self.count, self.used = count, self.offset[count]
        for index in [index for index in self.remarks if index >= count]:
            del self.remarks[index]

    def remark(self, index: int, remark: object | None) -> None:
        """Replace the remark on frame ``index`` by ``remark``; None: no remark."""
        if remark is not None:
            self.remarks[index] = remark
        elif self.remarks:
            self.remarks.pop(index, None)

    def has_room(self, length: int) -> bool:
        """Whether a frame of ``length`` bytes fits behind the others."""
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
        """Add a frame at the end. Raises IndexError if it does not fit (:meth:`has_room`)."""
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
        """Add a copy of frame ``index`` of ``source``, with its metadata and its remark."""
        to = self.count
        self.append(source.frame(index), remark=source.remarks.get(index))
        for mine, theirs in zip(self.all_columns[1:], source.all_columns[1:], strict=True):
            mine[to] = theirs[index]

    def frame(self, index: int) -> memoryview:
        """The bytes of frame ``index``: a view that is valid until the batch is refilled."""
        start = self.offset[index]
        return self.data[start : start + self.length[index]]

    def __iter__(self) -> Iterator[memoryview]:
        return (self.frame(i) for i in range(self.count))


def large_enough(kept: FrameBatch | None, size: int, frames: int) -> FrameBatch:
    """``kept`` if it has room for ``frames`` frames and ``size`` bytes, else a new batch."""
    if kept is None or len(kept.data) < size or kept.max_frames < frames:
        return FrameBatch(lazy_bytes(size), frames)
    return kept


class Outbox:
    """A batch of frames that are sent in order; ``next`` is the number of the next one to send."""

    def __init__(self, batch: FrameBatch) -> None:
        self.batch = batch
        self.next = 0

    @property
    def empty(self) -> bool:
        """Whether all frames of the batch have been sent."""
        return self.next == self.batch.count

    def refill(self) -> FrameBatch:
        """Forget all frames. Returns the batch, for new ones."""
        if self.batch.used or self.batch.count:  # else there is nothing to forget
            self._forget()
        return self.batch

    def drop_all(self) -> int:
        """Forget the frames that have not been sent. Returns their number."""
        dropped = self.batch.count - self.next
        self._forget()
        return dropped

    def discard(self, source: Endpoint) -> int:
        """Forget the frames that have not been sent; if there are none, pull one batch from
        ``source`` and forget it. Returns the number of frames that were dropped."""
        if self.empty:
            source.pull(self.refill())
        return self.drop_all()

    def _forget(self) -> None:
        self.batch.clear()
        self.next = 0


class Endpoint(Protocol):
    """A source and sink of frames: the network stack's side of a driver, a port, or a wrapper
    between them.

    No call blocks. ``carries``: what ``push`` takes as it is; it never changes. (An edge,
    xennet.wrap.OffloadEdge, makes other frames fit.) ``room``: how many frames ``push`` takes now,
    whatever their length; UNBOUNDED without a limit. Reading ``room`` changes nothing.
    """

    @property
    def carries(self) -> Offload: ...

    @property
    def room(self) -> int: ...

    def pull(self, batch: FrameBatch, /) -> int:
        """Append as many frames to ``batch`` as there are and as fit. Returns their number, 0 for
        none now. What it has appended before it raises is given all the same."""
        ...

    def push(self, batch: FrameBatch, /) -> None:
        """Take all frames of ``batch``, at most ``room``. The batch is not changed. Frames of a
        call that raises are not pushed again."""
        ...

    def negotiated(self, offload: Offload, /) -> None:
        """Note what the other end of the driver's link takes of the frames pulled here; called at
        each connect."""
        ...

    def listen(self, wake: Callable[[], None], /) -> None:
        """Have ``wake()`` called, instead of an earlier function, when there is something to do
        again.

        That is when there are frames after a pull that found none, and when there is room after
        there was none. Frames that a push brings do not call it: the caller of push pulls as well.
        ``wake`` is called in the machine's thread only, perhaps within a pull or push of this
        endpoint. A driver's ``wake`` makes a note and returns; that of a wrapper may push frames
        that wait for room at once, unless the wrapper is within a call itself.
        """
        ...


#: What watches a descriptor (xennet.pump.Pump.watch): calls the one when it can be read, the other
#: when it can be written, and ends that if both are None.
Watch: TypeAlias = Callable[[int, Callable[[], None] | None, Callable[[], None] | None], None]


@runtime_checkable
class HasDescriptors(Protocol):
    """What an endpoint is as well if its frames come and go by file descriptors."""

    def watch_descriptors(self, watch: Watch, /) -> None:
        """Have the descriptors watched by ``watch``, in place of what was given before.

        The calls come in the machine's thread, between deliveries, and again and again as long as
        it is so. An endpoint ends a watch when it has called its listener, begins it again when a
        pull has found no more, and ends it before it closes the descriptor.
        """
        ...


class RingPair(Protocol):
    """Both rings of one queue of a driver, for who drives them past pull and push (netmap).

    ``slots``: of a ring. ``longest``: bytes of the longest frame that can be sent now, 0 if none
    can. ``waiting``: at most so many frames have arrived and were not taken. A driver whose other
    end breaks the protocol does nothing more; no call raises.
    """

    @property
    def slots(self) -> int: ...

    @property
    def longest(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    def drive_tx(self, unanswered: array[int] | None, event: Callable[[bool], None] | None) -> None:
        """Send past pull, too: ``unanswered`` counts by tag what the other end has not answered,
        and ``event(answered)`` is called when the ring was looked at. None: no more."""
        ...

    def drive_rx(self, event: Callable[[], None] | None) -> None:
        """Call ``event`` when frames arrive, in place of pushing them. None: push them again, also
        those that wait."""
        ...

    def send(self, batch: FrameBatch, tags: array[int]) -> int:
        """Send the frames of ``batch``, of at most ``longest`` bytes; ``tags`` has the tag of each.
        Returns how many were taken: their bytes are copied, what they were in may change."""
        ...

    def collect(self) -> None:
        """Take what the other end has answered out of ``unanswered``."""
        ...

    def receive(self, frames: int) -> FrameBatch:
        """Take up to ``frames`` frames that have arrived; they stay valid until the next call. The
        other end cannot send others in their place before :meth:`post`."""
        ...

    def post(self, kept: int) -> None:
        """Let the other end send as much as the ring holds, less ``kept`` slots."""
        ...


@runtime_checkable
class DrivesRings(Protocol):
    """What an endpoint is as well if it may drive a driver's rings itself.

    Wrappers that change frames are none: what is sent past them would escape them.
    """

    def rings(self, queues: Sequence[RingPair], /) -> None:
        """Note the queues of the driver's connection, which begins; none: it has ended."""
        ...


def attach(endpoint: Endpoint, wake: Callable[[], None], watch: Watch) -> None:
    """Set the listener of ``endpoint``, and have ``watch`` watch its descriptors if it has any."""
    endpoint.listen(wake)
    # isinstance of HasDescriptors, which looks at more, takes as long as all the rest of a plug.
    if hasattr(endpoint, "watch_descriptors"):
        endpoint.watch_descriptors(watch)


#: Its first name: scripts import it, and annotations need a class, not a function that warns.
FrameEndpoint = Endpoint


def pull_at_most(endpoint: Endpoint, batch: FrameBatch, frames: int) -> int:
    """Pull from ``endpoint`` as its ``pull`` does, but no more than ``frames`` frames."""
    most = batch.max_frames
    batch.max_frames = min(most, batch.count + frames)
    try:
        return endpoint.pull(batch)
    finally:
        batch.max_frames = most


class BaseEndpoint:
    """An endpoint without frames that swallows what is pushed: a base class for other endpoints.

    ``wake`` calls the listener, if there is one.
    """

    carries: Offload = EVERYTHING
    wake: Callable[[], None] = staticmethod(lambda: None)

    @property
    def room(self) -> int:
        return UNBOUNDED

    def pull(self, batch: FrameBatch, /) -> int:
        return 0

    def push(self, batch: FrameBatch, /) -> None:
        """Swallow the frames."""

    def negotiated(self, offload: Offload, /) -> None:
        """Do nothing: an edge in front of this endpoint makes its frames fit."""

    def listen(self, wake: Callable[[], None], /) -> None:
        self.wake = wake


class Wrapper:
    """An endpoint in front of ``endpoint`` that passes every call on: a base class for wrappers.

    ``endpoint`` never changes.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = require_endpoint("endpoint", endpoint)
        #: Whose room it is: those in between that only hand on are not asked.
        self._has_room: Endpoint = self
        if type(self).room is Wrapper.room:
            self._hand_on_room()

    def _hand_on_room(self) -> None:
        """Make ``room`` the endpoint's from now on."""
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

    def watch_descriptors(self, watch: Watch, /) -> None:
        if isinstance(self.endpoint, HasDescriptors):
            self.endpoint.watch_descriptors(watch)


class _Completed(Wrapper):
    """Stands before an endpoint without ``carries`` or ``listen``, which endpoints did not always
    have.

    It takes everything and wakes nobody. Other attributes (a port's name ...) are the endpoint's.
    """

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
    """Check an endpoint, which was given as ``what``. Returns the endpoint to use in its place.

    Raises TypeError, with the way out, if it is none. An endpoint without ``carries`` or ``listen``
    is completed, with a DeprecationWarning.
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
    """The ``stacklevel`` for warnings.warn: that of the first frame outside of the package."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("xennet."):
        depth, frame = depth + 1, frame.f_back
    return depth
