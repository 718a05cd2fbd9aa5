"""``record:FILE`` writes a capture: pcapng when FILE ends in ``.pcapng``, else pcap; either of them
compressed when that is followed by ``.gz``, ``.xz`` or ``.zst``.

Both with nanosecond timestamps, so that a timestamp survives exactly whatever it was. dpkt packs
the file headers; records are packed with its layouts but not by its Writers, which take float
timestamps and hand each record to the file in two pieces.
"""

from __future__ import annotations

from io import BufferedWriter
from struct import Struct
from typing import Protocol

from dpkt import pcap, pcapng

from xennet.frames import FrameBatch
from xennet.port.base import BasePort, PortError
from xennet.port.capture import LINKTYPE_ETHERNET, NANOSECONDS
from xennet.port.compression import packing
from xennet.port.files import open_file, shown

_SNAPLEN = 262144  # tcpdump's: no frame is cut


class _Format(Protocol):
    """One capture format: what the file starts with, and one record as pieces to be joined."""

    header: bytes

    def record(self, timestamp: int, frame: memoryview) -> tuple[bytes | memoryview, ...]:
        """``timestamp`` in ns since the epoch; ValueError when the format cannot hold it."""
        ...


class _Pcap:
    """pcap-savefile with the nanosecond magic, little-endian."""

    _LAYOUT = Struct(pcap.LEPktHdr.__hdr_fmt__)

    def __init__(self) -> None:
        self.header = bytes(
            pcap.LEFileHdr(
                magic=pcap.TCPDUMP_MAGIC_NANO, snaplen=_SNAPLEN, linktype=LINKTYPE_ETHERNET
            )
        )

    def record(self, timestamp: int, frame: memoryview) -> tuple[bytes | memoryview, ...]:
        seconds, fraction = divmod(timestamp, NANOSECONDS)
        if not 0 <= seconds < 1 << 32:
            raise ValueError("pcap has 32 bits for the seconds since 1970")
        length = len(frame)
        return self._LAYOUT.pack(seconds, fraction, length, length), frame


class _Pcapng:
    """One little-endian section, one interface with if_tsresol 9, Enhanced Packet Blocks."""

    _LAYOUT = Struct(pcapng.EnhancedPacketBlockLE.__hdr_fmt__[:-1])
    _OVERHEAD = pcapng.EnhancedPacketBlockLE.__hdr_len__

    def __init__(self) -> None:
        options = [
            pcapng.PcapngOptionLE(code=pcapng.PCAPNG_OPT_IF_TSRESOL, data=b"\x09"),
            pcapng.PcapngOptionLE(code=pcapng.PCAPNG_OPT_ENDOFOPT),
        ]
        interface = pcapng.InterfaceDescriptionBlockLE(
            snaplen=_SNAPLEN, linktype=LINKTYPE_ETHERNET, opts=options
        )
        self.header = bytes(pcapng.SectionHeaderBlockLE()) + bytes(interface)

    def record(self, timestamp: int, frame: memoryview) -> tuple[bytes | memoryview, ...]:
        if timestamp < 0:
            raise ValueError("pcapng counts from 1970 on")
        length = len(frame)
        padding = -length % 4
        total = self._OVERHEAD + length + padding
        high, low = timestamp >> 32, timestamp & 0xFFFFFFFF
        head = self._LAYOUT.pack(pcapng.PCAPNG_BT_EPB, total, 0, high, low, length, length)
        return head, frame, bytes(padding) + total.to_bytes(4, "little")


class RecordPort(BasePort):
    """``record:FILE``: writes what is pushed, gives nothing. FILE ``-`` is standard output (pcap).

    An existing file is overwritten; a capture without frames is a valid file too. Records are
    handed to the file whole, a batch at a time, and reach it at the latest when the port is
    closed, so a run that fails or is interrupted leaves a valid capture of the frames until then.
    PortError when the file cannot be created or written, or a timestamp does not fit the format.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"record:{path}")
        self._path = shown(path, written=True)
        self._target = BufferedWriter(open_file(path, "wb"), 1 << 20)
        name, self._file = packing(path, self._target)
        self._format: _Format = _Pcapng() if name.lower().endswith(".pcapng") else _Pcap()
        self._write(self._format.header)

    def push(self, batch: FrameBatch) -> None:
        pieces: list[bytes | memoryview] = []
        for i in range(batch.count):
            timestamp = batch.timestamp[i]
            try:
                pieces += self._format.record(timestamp, batch.frame(i))
            except ValueError as e:
                frame = self._counters.frames_out + i
                message = f"timestamp of {timestamp} ns of frame {frame} does not fit: {e}"
                raise PortError(f"{self._path}: {message}") from e
        self._write(b"".join(pieces))
        super().push(batch)

    def close(self) -> None:
        try:
            try:
                self._file.close()
            finally:
                self._target.close()
        except OSError as e:
            raise self._failed(e) from e

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as e:
            raise self._failed(e) from e

    def _failed(self, e: OSError) -> PortError:
        frames = self._counters.frames_out
        return PortError(f"{self._path}: cannot be written after {frames} frames: {e.strerror}")
