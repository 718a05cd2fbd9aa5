"""``pcap:FILE`` plays a capture: pcap or pcapng, told apart by content. It never writes."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.frames import MIN_FRAME, FrameBatch
from xennet.port import pcap_format, pcapng_format
from xennet.port.base import BasePort, PortError
from xennet.port.capture import Record
from xennet.port.files import open_file
from xennet.port.window import Window


def _records(window: Window) -> Iterator[Record]:
    """The records of a capture of either format."""
    if not window.need(4):
        raise window.error(f"not a pcap or pcapng file, it has {window.end} bytes", 0)
    magic = int.from_bytes(window.view[:4], "big")
    if magic == pcapng_format.MAGIC:
        return pcapng_format.records(window)
    if magic in pcap_format.MAGICS:
        return pcap_format.records(window, magic)
    raise window.error(f"not a pcap or pcapng file, it starts with {magic:08x}", 0)


class PcapPort(BasePort):
    """``pcap:FILE``: the frames of a capture in file order; what is pushed is swallowed.

    Streams: memory does not grow with the file. Frames that a snap length cut pass with their
    captured bytes and are counted; records too short for an Ethernet header are skipped and
    counted. PortError, with the byte offset, when the file cannot be opened, is no Ethernet
    capture or is damaged before its first frame (so a bad file is known before a run starts);
    later damage is told by pull, after the frames before it.
    """

    expected = None

    def __init__(self, path: str) -> None:
        super().__init__(f"pcap:{path}")
        self._file = open_file(path, "rb")
        self._failure: PortError | None = None
        self._frames = self._playable(Window(self._file, path))
        try:
            self._waiting = next(self._frames, None)
        except BaseException:
            self._file.close()
            raise
        self._exhausted = self._waiting is None

    @property
    def exhausted(self) -> bool:
        return self._exhausted

    def pull(self, batch: FrameBatch) -> int:
        count, used = batch.count, batch.used
        try:
            self._fill(batch)
        except PortError as e:
            self._failure = e
        if self._failure is not None and batch.count == count:
            raise self._failure
        return self._pulled(batch.count - count, batch.used - used)

    def close(self) -> None:
        self._file.close()
        self._waiting = None
        self._exhausted = True

    def _fill(self, batch: FrameBatch) -> None:
        """Append frames until the batch is full or the file ends; PortError once at damage."""
        while self._waiting is not None:
            timestamp, data, wire_length = self._waiting
            if batch.count and not batch.has_room(len(data)):
                return
            batch.append(data, timestamp=timestamp)
            self._counters.truncated += wire_length > len(data)
            self._waiting = None
            self._waiting = next(self._frames, None)
        self._exhausted = self._failure is None

    def _playable(self, window: Window) -> Iterator[Record]:
        """The records that a vif can carry; the others are counted."""
        for record in _records(window):
            if len(record.data) >= MIN_FRAME:
                yield record
            elif len(record.data):
                self._counters.skipped_runt += 1
            else:
                self._counters.skipped_empty += 1
