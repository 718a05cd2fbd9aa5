"""``record:FILE`` writes a capture: pcapng if FILE ends in ``.pcapng``, else pcap; compressed if
``.gz``, ``.xz`` or ``.zst`` follows.

Both formats have nanosecond timestamps, so that every timestamp is kept exactly. A pcapng file
keeps what the file that is played says of its sections, interfaces and packets (Remark in
xennet.port.capture), and the metadata of frames (xennet.port.frame_options). dpkt packs the file
headers. Records are packed with its layouts but not by its Writers, which take float timestamps and
hand each record to the file in two pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from struct import Struct
from typing import Protocol

from dpkt import pcap, pcapng

from xennet.frames import FrameBatch
from xennet.port.base import BasePort, PortError
from xennet.port.capture import LINKTYPE_ETHERNET, NANOSECONDS, Interface, Remark, Section
from xennet.port.compression import packing
from xennet.port.files import open_file, shown
from xennet.port.frame_options import FrameOptions
from xennet.unit_file import UnitFile

_SNAPLEN = 262144  # tcpdump's: no frame is cut


_OPTION = Struct("<HH")
_END_OF_OPTIONS = _OPTION.pack(pcapng.PCAPNG_OPT_ENDOFOPT, 0)
#: An if_tsoffset, in whole seconds, before the earliest time stamp of a frame (the year 1677).
_BEFORE_ALL = -(1 << 63) // NANOSECONDS


class _Format(Protocol):
    """One capture format; ``header`` is the beginning of a file."""

    header: bytes

    def record(self, batch: FrameBatch, index: int) -> tuple[bytes | memoryview, ...]:
        """The record of a frame, with blocks that have to come before it, as pieces to be joined.

        Raises ValueError if the format cannot hold its time stamp.
        """
        ...

    def end(self) -> bytes:
        """The bytes that a file without a further record lacks."""
        ...


class _Pcap:
    """pcap-savefile with the nanosecond magic, little-endian. It cannot hold remarks and
    metadata."""

    _LAYOUT = Struct(pcap.LEPktHdr.__hdr_fmt__)

    def __init__(self) -> None:
        self.header = bytes(
            pcap.LEFileHdr(
                magic=pcap.TCPDUMP_MAGIC_NANO, snaplen=_SNAPLEN, linktype=LINKTYPE_ETHERNET
            )
        )

    def record(self, batch: FrameBatch, index: int) -> tuple[bytes | memoryview, ...]:
        seconds, fraction = divmod(batch.timestamp[index], NANOSECONDS)
        if not 0 <= seconds < 1 << 32:
            raise ValueError("pcap has 32 bits for the seconds since 1970; a .pcapng file holds it")
        length = batch.length[index]
        return self._LAYOUT.pack(seconds, fraction, length, length), batch.frame(index)

    def end(self) -> bytes:
        return b""


class _Pcapng:
    """Little-endian sections, interfaces with if_tsresol 9, Enhanced Packet Blocks.

    A section begins when a frame comes from another section of a file that is played; frames
    without a remark belong to the present one. An interface is described before its first frame,
    and once more for frames whose time its if_tsoffset cannot express.
    """

    header = b""
    _LAYOUT = Struct(pcapng.EnhancedPacketBlockLE.__hdr_fmt__[:-1])
    _OVERHEAD = pcapng.EnhancedPacketBlockLE.__hdr_len__

    def __init__(self) -> None:
        self._section: Section | None = None
        self._numbers: dict[tuple[Interface, int], int] = {}
        self._unknown = Interface(Section())
        self._frame_options = FrameOptions("<")

    def record(self, batch: FrameBatch, index: int) -> tuple[bytes | memoryview, ...]:
        interface, told = self._unknown, []
        if batch.remarks and isinstance(remark := batch.remarks.get(index), Remark):
            interface, told = remark.interface, _comments(remark.comments)
        if batch.flags[index] or batch.gso_size[index] or batch.hash_info[index]:
            told += self._frame_options.encode(batch, index)
        options = _options(told) if told else b""
        number, ticks, before = self._place(interface, batch.timestamp[index])
        length = batch.length[index]
        padding = -length % 4
        total = self._OVERHEAD + length + padding + len(options)
        high, low = ticks >> 32, ticks & 0xFFFFFFFF
        head = self._LAYOUT.pack(pcapng.PCAPNG_BT_EPB, total, number, high, low, length, length)
        end = bytes(padding) + options + total.to_bytes(4, "little")
        return before, head, batch.frame(index), end

    def end(self) -> bytes:
        return b"" if self._section else self._place(self._unknown, 0)[2]

    def _place(self, interface: Interface, timestamp: int) -> tuple[int, int, bytes]:
        """The interface's number, the ticks of ``timestamp`` there, and blocks to write before."""
        before = b""
        if self._section is None or interface.section not in (self._section, self._unknown.section):
            self._section = interface.section
            self._numbers.clear()
            before = _section_header(interface.section)
        for offset in (interface.offset, 0, _BEFORE_ALL):
            ticks = timestamp - offset * NANOSECONDS
            if 0 <= ticks < 1 << 64:
                break
        number = self._numbers.get((interface, offset))
        if number is None:
            number = self._numbers[interface, offset] = len(self._numbers)
            before += _interface_description(interface, offset)
        return number, ticks, before


def _section_header(section: Section) -> bytes:
    block = bytes(pcapng.SectionHeaderBlockLE())
    return _with_options(block, _options(_comments(section.comments)))


def _interface_description(interface: Interface, offset: int) -> bytes:
    """An Interface Description Block with nanoseconds, and ``offset`` seconds to add to them."""
    block = pcapng.InterfaceDescriptionBlockLE(snaplen=_SNAPLEN, linktype=LINKTYPE_ETHERNET)
    times = [(pcapng.PCAPNG_OPT_IF_TSRESOL, b"\x09")]
    if offset:
        times.append((pcapng.PCAPNG_OPT_IF_TSOFFSET, offset.to_bytes(8, "little", signed=True)))
    return _with_options(bytes(block), _options([*interface.options, *times]))


def _comments(comments: Sequence[bytes]) -> list[tuple[int, bytes]]:
    return [(pcapng.PCAPNG_OPT_COMMENT, comment) for comment in comments]


def _options(options: Sequence[tuple[int, bytes]]) -> bytes:
    """The options (code, value) with the one that ends them; nothing if there are none.

    dpkt makes an object of each, and a block has room for four million.
    """
    made = [
        _OPTION.pack(code, len(value)) + value + bytes(-len(value) % 4) for code, value in options
    ]
    return b"".join(made) + _END_OF_OPTIONS if made else b""


def _with_options(block: bytes, options: bytes) -> bytes:
    """A ``block`` without options, with these added."""
    length = (len(block) + len(options)).to_bytes(4, "little")
    return block[:4] + length + block[8:-4] + options + length


class RecordPort(BasePort):
    """``record:FILE``: writes the frames that are pushed, gives none. FILE ``-`` is standard output
    (pcap).

    An existing file is overwritten; a capture without frames is a valid file too. Records are
    handed to the file whole, a batch at a time, and reach it with :meth:`flush` or :meth:`close`,
    so a run that fails or is interrupted leaves a valid capture of the frames until then. Raises
    PortError if the file cannot be created or written, or a timestamp does not fit the format.
    Where the disk gets full the file ends with a whole batch, unless it is compressed.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"record:{path}")
        self._path = shown(path, written=True)
        name, pack = packing(path)  # may be refused, so before the file is overwritten
        self._target = UnitFile(open_file(path, "wb"))
        self._file = pack(self._target)
        self._packed = self._file is not self._target
        self._format: _Format = _Pcapng() if name.lower().endswith(".pcapng") else _Pcap()
        self._write(self._format.header, 0)

    def push(self, batch: FrameBatch) -> None:
        pieces: list[bytes | memoryview] = []
        for i in range(batch.count):
            try:
                pieces += self._format.record(batch, i)
            except ValueError as e:
                frame = self._counters.frames_out + i
                message = f"timestamp of {batch.timestamp[i]} ns of frame {frame} does not fit: {e}"
                raise PortError(f"{self._path}: {message}") from e
        self._write(b"".join(pieces), self._counters.frames_out + batch.count)
        super().push(batch)

    def flush(self) -> None:
        """Hand what was written to the file; of a compressed one, what is packed already."""
        try:
            self._target.flush()
        except OSError as e:
            raise self._failed(e) from e

    def close(self) -> None:
        if self._target.closed:
            return
        try:
            with closing(self._target), closing(self._file):
                self._write(self._format.end(), self._counters.frames_out)
        except OSError as e:
            raise self._failed(e) from e

    def _write(self, data: bytes, frames: int) -> None:
        """Hand over ``data``, with which the file has so many ``frames``."""
        try:
            if self._packed:
                self._file.write(data)
            else:
                self._target.write(data, frames)
        except OSError as e:
            raise self._failed(e) from e

    def _failed(self, e: OSError) -> PortError:
        frames = self._counters.frames_out if self._packed else self._target.kept
        return PortError(f"{self._path}: cannot be written after {frames} frames: {e.strerror}")
