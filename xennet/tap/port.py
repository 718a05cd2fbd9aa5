"""``tap:NAME[@NETNS]``: a port that is an interface of Linux, in a network namespace or not."""

from __future__ import annotations

import errno
import os
import time
from array import array
from contextlib import suppress

from xennet.abi.virtio_net import VNET_HDR, VNET_WORDS
from xennet.engine.choice import current
from xennet.frames import EVERYTHING, MAX_FRAME, FrameBatch, Offload, Watch
from xennet.offload.headers import PLACES
from xennet.port.base import BasePort, Counters
from xennet.tap import vnet_hdr
from xennet.tap.device import TapDevice
from xennet.tap.errors import TapError

#: Frames of one pull at most, so that the other direction has its turn.
PULL_FRAMES = 64
#: Headers that are written in one go.
_HEADERS = 256
#: Bytes that one read must have room for, header not counted: a longer frame would be cut silently.
_LONGEST = MAX_FRAME + 4
_HEADER_BYTES = VNET_HDR.size
_NO_HEADER = bytes(_HEADER_BYTES)
#: Seconds for which a reading of the kernel's statistics is good enough.
_FRESH = 1.0
#: What the kernel says of a frame that it does not take, or of an interface that is down.
_NOT_TAKEN = frozenset((errno.EINVAL, errno.EIO, errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE))


class TapPort(BasePort):
    """``tap:NAME@NETNS``: frames that the kernel sends through the interface are pulled, frames
    that are pushed arrive there.

    Frames keep their offloads, blank checksums and GSO, as netif has them
    (:mod:`xennet.tap.vnet_hdr`). What the other end does not take is not asked for, so the kernel
    does it before it gives a frame. No frame is longer than MAX_FRAME.

    The kernel keeps some 1000 frames that nobody has read, and drops the rest
    (``counters.dropped_unread``). Frames whose header has no meaning on the other side are dropped
    (``counters.refused_headers``), and so are those that the kernel does not take
    (``counters.refused_by_kernel``), for instance because the interface is down. Raises TapError (a
    PortError) in the constructor, and later if the interface is deleted.
    """

    expected = None
    live = True
    carries = EVERYTHING

    def __init__(self, argument: str) -> None:
        super().__init__(f"tap:{argument}")
        name, at, namespace = argument.partition("@")
        engine = current()
        self._view = engine.view
        self._words = array("H", bytes(_HEADER_BYTES * _HEADERS))
        octets = memoryview(self._words).cast("B")
        #: The place of each header.
        self._heads = [octets[n : n + _HEADER_BYTES] for n in range(0, len(octets), _HEADER_BYTES)]
        self._res = array("q", bytes(8 * vnet_hdr.RESULTS))
        self._args = tuple(map(engine.view, (array("q", bytes(8 * PLACES)), self._res)))
        self._headers = engine.view(self._words)
        self._take_headers = engine.kernel(vnet_hdr.take_headers)
        self._put_headers = engine.kernel(vnet_hdr.put_headers)
        #: What of a frame did not find room in the batch; the header and all of such a frame.
        self._beyond = memoryview(bytearray(_LONGEST))
        self._waiting: tuple[bytes, bytes] | None = None
        self._failure: OSError | None = None
        self._watch: Watch | None = None
        self._watched: tuple[int, ...] = ()
        #: Whether the listener was called and has not pulled since.
        self._told = False
        #: Queues that the last look found empty.
        self._empty = 0
        self._finished = False
        self._quiet = False
        self._asked = time.monotonic()
        self._device = TapDevice(name, namespace if at else None)
        #: The queue that is read first.
        self._turn = 0

    def configure(self, mtu: int | None, queues: int) -> None:
        """Set the interface's MTU (bytes; None: as it is), and have at most so many queues.

        Raises TapError.
        """
        if mtu is not None or queues > 1:
            self._device.configure(mtu, queues)

    @property
    def exhausted(self) -> bool:
        return self._finished and self._quiet

    @property
    def counters(self) -> Counters:
        """The counters; those that the kernel keeps are at most a second old."""
        res = self._res
        refused = res[vnet_hdr.R_INEXPRESSIBLE] + res[vnet_hdr.R_ERRORS]
        self._counters.refused_headers = refused
        if self._finished or time.monotonic() - self._asked > _FRESH:
            self._ask_kernel()
        return self._counters

    def _ask_kernel(self) -> None:
        self._asked = time.monotonic()
        if self._device.queues:
            with suppress(TapError):  # deleted: what it was before is what is known
                self._counters.dropped_unread = self._device.dropped_unread()

    def negotiated(self, offload: Offload, /) -> None:
        with suppress(OSError, TapError):  # deleted: the next pull says so
            self._device.set_offload(offload)

    # -- waiting -----------------------------------------------------------------------------------

    def watch_descriptors(self, watch: Watch) -> None:
        self._end_watch()
        self._watch = watch
        self._begin_watch()

    def _begin_watch(self) -> None:
        if self._watch is not None and not self._watched:
            self._watched = tuple(self._device.queues)
            for queue in self._watched:
                self._watch(queue, self._readable, None)

    def _end_watch(self) -> None:
        watched, self._watched = self._watched, ()
        if self._watch is not None:
            for queue in watched:
                self._watch(queue, None, None)

    def _readable(self) -> None:
        # Nobody has pulled since the last call, as the ring is full: that must not keep the pump
        # awake until a pull has found no more.
        if self._told:
            self._end_watch()
            return
        self._told = True
        self.wake()

    # -- frames that are read ----------------------------------------------------------------------

    def pull(self, batch: FrameBatch, /) -> int:
        first, used = batch.count, batch.used
        self._told = False
        if self._empty == len(self._device.queues) and self._watch is not None:
            # So the last pull found after its frames. What has come since is told by the watch.
            self._empty = 0
            self._quiet = True
            self._begin_watch()
            return 0
        while True:
            special = self._fill(batch, first)
            count = batch.count
            if count == first:
                break
            if special:
                frames = batch.for_kernels(self._view)
                batch.count = self._take_headers(first, count, self._headers, frames, *self._args)
            else:
                zeros = array("I", bytes(4 * (count - first)))
                for column in batch.flags, batch.gso_size, batch.hash_info:
                    column[first:count] = zeros
            if batch.count > first:
                break
            batch.used = used  # all of them were dropped
        pulled = batch.count - first
        octets = sum(batch.length[first : batch.count])
        self._quiet = not pulled
        if pulled:
            batch.timestamp[first : batch.count] = array("q", [time.time_ns()]) * pulled
        elif self._waiting is not None:
            if not batch.count:
                raise IndexError(f"a batch of {len(batch.data)} bytes holds no next frame")
        elif self._failure is not None:
            raise TapError(f"{self._device}: {self._failure.strerror}; was it deleted?")
        else:
            self._empty = 0
            self._begin_watch()
        return self._pulled(pulled, octets)

    def _fill(self, batch: FrameBatch, first: int) -> bool:
        """Read frames and their headers, of which that of frame ``first`` is the first. Returns
        whether any header says anything."""
        self._empty = 0
        special = self._waiting is not None and self._place_waiting(batch)
        queues, most = self._device.queues, min(batch.max_frames, first + PULL_FRAMES)
        for _ in queues:
            if self._waiting is not None or batch.count >= most:
                break
            special |= self._read(queues[self._turn], batch, first, most)
            self._turn = (self._turn + 1) % len(queues)
        return special

    def _read(self, queue: int, batch: FrameBatch, first: int, most: int) -> bool:
        """Read from ``queue`` until there are ``most`` frames, as :meth:`_fill` does."""
        data, offset, length = batch.data, batch.offset, batch.length
        heads, words, beyond = self._heads, self._words, self._beyond
        i, used, special = batch.count, batch.used, 0
        try:
            while i < most:
                head, rest = heads[i - first], data[used:]
                if len(rest) >= _LONGEST:
                    n = os.readv(queue, (head, rest)) - _HEADER_BYTES
                else:
                    n = os.readv(queue, (head, rest, beyond)) - _HEADER_BYTES
                    if n > len(rest):
                        frame = bytes(rest) + bytes(beyond[: n - len(rest)])
                        self._waiting = bytes(head), frame
                        break
                if n > MAX_FRAME:
                    self._counters.refused_oversize += 1
                    continue
                special |= words[(i - first) * VNET_WORDS]
                offset[i] = used
                length[i] = n
                used += n
                i += 1
        except BlockingIOError:
            self._empty += 1
        except OSError as error:
            self._failure = error
        batch.count, batch.used = i, used
        return special != 0

    def _place_waiting(self, batch: FrameBatch) -> bool:
        """Put the frame that waits into ``batch``, and its header at the first place, if there is
        room for it. Returns whether its header says anything."""
        assert self._waiting is not None
        head, frame = self._waiting
        if not batch.has_room(len(frame)):
            return False
        self._waiting = None
        batch.append(frame)
        self._heads[0][:] = head
        return self._words[0] != 0

    # -- frames that are written -------------------------------------------------------------------

    def push(self, batch: FrameBatch, /) -> None:
        for first in range(0, batch.count, _HEADERS):
            self._write(batch, first, min(batch.count, first + _HEADERS))
        super().push(batch)

    def _write(self, batch: FrameBatch, first: int, count: int) -> None:
        data, offset, length = batch.data, batch.offset, batch.length
        heads, words, writer = self._heads, self._words, self._device.writer
        special = any(batch.flags[first:count]) or any(batch.gso_size[first:count])
        if special:
            frames = batch.for_kernels(self._view)
            self._put_headers(first, count, self._headers, frames, *self._args)
        head: bytes | memoryview = _NO_HEADER
        for i in range(first, count):
            if special:
                if words[(i - first) * VNET_WORDS] == vnet_hdr.NOT_WRITTEN:
                    continue
                head = heads[i - first]
            start = offset[i]
            try:
                os.writev(writer, (head, data[start : start + length[i]]))
            except OSError as error:
                if error.errno not in _NOT_TAKEN:
                    raise TapError(f"{self._device}: {error.strerror}; was it deleted?") from None
                self._counters.refused_by_kernel += 1

    def finish(self) -> None:
        self._finished = True

    def close(self) -> None:
        self._end_watch()
        self._device.close()
