"""``pcap:FILE`` plays a capture: pcap or pcapng, compressed or not; content tells which."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from xennet.frames import MAX_FRAME, MIN_FRAME, FrameBatch
from xennet.port import pcap_format, pcapng_format
from xennet.port.base import BasePort, PullStopped
from xennet.port.capture import Faults, Record, without_fcs
from xennet.port.compression import unpacked
from xennet.port.files import CAPTURE_OPTIONS, open_file, shown, split_option
from xennet.port.frame_options import OffloadState
from xennet.port.window import CaptureError, Window

if TYPE_CHECKING:
    from xennet.offload.captured import CapturedFrames

#: Time stamps that a batch can hold, in ns since the epoch: the years 1677 to 2262.
_TIMES = range(-(1 << 63), 1 << 63)


class PcapPort(BasePort):
    """``pcap:FILE[?csum=fix]``: the frames of a capture in file order. Frames that are pushed are
    swallowed.

    FILE ``-`` is standard input. gzip, xz and Zstandard are decompressed. With ``?csum=fix``
    checksums are completed that an offload was to fill in after the frame was captured
    (xennet.offload.captured), and counted; a file that has this in its name is played as it is.

    It streams: memory does not grow with the file. Frames that a snap length cut pass with their
    captured bytes and are counted; frame check sequences are cut off and counted; records too short
    for an Ethernet header are skipped and counted.

    Raises CaptureError (a PortError), with the byte offset, if the file is no Ethernet capture or
    is damaged before its first frame (so a bad file is known before a run starts); PortError if it
    cannot be opened. Damage behind the first frame ends the file. ``counters.faults`` tells that,
    and frames that no netif packet can carry, and times that no batch can hold.
    """

    expected = None

    def __init__(self, argument: str) -> None:
        super().__init__(f"pcap:{argument}")
        path, option = split_option(argument, CAPTURE_OPTIONS)
        self._completes = bool(option)
        self._file = open_file(path, "rb")
        self._faults = Faults(self._counters)
        try:
            self._window = unpacked(Window(self._file, shown(path, written=False)))
            self._frames = self._playable()
            self._waiting = next(self._frames, None)
        except BaseException:
            self._file.close()
            raise

    @property
    def exhausted(self) -> bool:
        return self._waiting is None

    def pull(self, batch: FrameBatch) -> int:
        count, used = batch.count, batch.used
        while self._waiting is not None:
            record = self._waiting
            data = record.data
            if batch.count and not batch.has_room(len(data)):
                break
            batch.append(data, timestamp=record.timestamp, remark=record.remark)
            truncated = record.wire_length > len(data)
            if record.state is not None:
                self._note(batch, record.state, truncated)
            self._counters.truncated += truncated
            try:
                self._waiting = next(self._frames, None)
            except CaptureError as e:
                self._faults.add("damage", e.damage)
                self._waiting = None
            except PullStopped:
                self._waiting = None
        if self._completes:
            self._counters.csum_completed += self._kernels.complete(batch, count)
        return self._pulled(batch.count - count, batch.used - used)

    def close(self) -> None:
        self._file.close()
        self._waiting = None

    def _records(self) -> Iterator[Record]:
        """The records of a capture of either format."""
        window = self._window
        if not window.need(4):
            raise window.error(f"not a pcap or pcapng file, it has {window.end} bytes", 0)
        magic = int.from_bytes(window.view[:4], "big")
        if magic == pcapng_format.MAGIC:
            return pcapng_format.records(window, self._counters, self._faults)
        if magic in pcap_format.MAGICS:
            return pcap_format.records(window, magic)
        raise window.error(f"not a pcap or pcapng file, it starts with {magic:08x}", 0)

    def _playable(self) -> Iterator[Record]:
        """The records that a vif can carry; the others are counted."""
        counters = self._counters
        for record in self._records():
            captured = len(record.data)
            if record.fcs:
                record = without_fcs(record)
            length = len(record.data)
            if length > MAX_FRAME:
                counters.refused_oversize += 1
                problem = f"frame of {length} bytes, the longest is {MAX_FRAME}"
                self._refuse("oversize", problem, record)
            elif record.timestamp not in _TIMES:
                counters.refused_time += 1
                problem = f"timestamp of {record.timestamp} ns is out of range"
                self._refuse("time", problem, record)
            elif length >= MIN_FRAME:
                counters.fcs_cut += captured > length
                yield record
            elif length:
                counters.skipped_runt += 1
            else:
                counters.skipped_empty += 1

    def _refuse(self, kind: str, problem: str, record: Record) -> None:
        self._faults.add(kind, str(self._window.error(problem, record.offset)))

    @cached_property
    def _kernels(self) -> CapturedFrames:
        from xennet.offload.captured import CapturedFrames

        return CapturedFrames()

    def _note(self, batch: FrameBatch, state: OffloadState, truncated: bool) -> None:
        """Write the metadata of the last frame into ``batch``.

        There is no offload for a frame that a snap length cut: what is left of it is carried as it
        is. Where only a word of epb_flags says that its checksum is not ready, the sum of the
        pseudo-header is put there, as a blank checksum has it; a frame without TCP or UDP is no
        frame for an offload.
        """
        last = batch.count - 1
        flags, size, kind, info, value, assumed = state
        batch.hash_info[last], batch.hash_value[last] = info, value
        if truncated or (assumed and not self._kernels.make_blank(batch, last)):
            return
        batch.flags[last], batch.gso_size[last], batch.gso_type[last] = flags, size, kind
