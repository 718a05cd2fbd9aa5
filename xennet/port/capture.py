"""What the pcap and pcapng parsers share: a record, its checks, and its faults."""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

from xennet.port.base import Counters
from xennet.port.frame_options import OffloadState
from xennet.port.window import Window

#: LINKTYPE_ETHERNET of the tcpdump link-layer header types.
LINKTYPE_ETHERNET = 1
NANOSECONDS = 10**9
#: Longest record of any Ethernet capture (libpcap's MAXIMUM_SNAPLEN). A longer one is damaged.
_MAX_CAPTURED = 262144


@frozen(eq=False)
class Section:
    """A section of a pcapng file. ``comments`` are the bytes of the file, mostly UTF-8."""

    comments: tuple[bytes, ...] = ()


@frozen(eq=False)
class Interface:
    """An interface of ``section``.

    ``options`` (code, value) are its name, description and comments; its time stamps count from
    ``offset`` (seconds).
    """

    section: Section
    options: tuple[tuple[int, bytes], ...] = ()
    offset: int = 0


@frozen(eq=False)
class Remark:
    """What a pcapng file says about a packet besides time and length (``FrameBatch.remarks``)."""

    interface: Interface
    comments: tuple[bytes, ...] = ()


class Record(NamedTuple):
    """One captured packet.

    ``timestamp`` in ns since the epoch, as large as the file has it; ``data``: the bytes, valid
    until the next record; ``wire_length``: bytes that it had before a snap length cut it;
    ``offset`` of the record in the file; ``fcs``: bytes at the end of the packet on the wire that
    are its frame check sequence; ``remark``, and metadata (``state``), if there are any.
    """

    timestamp: int
    data: memoryview
    wire_length: int
    offset: int
    fcs: int = 0
    remark: Remark | None = None
    state: OffloadState | None = None


class Faults:
    """The faults of a capture that is played all the same, shown in ``counters.faults``."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, kind: str, message: str) -> None:
        """Note a fault. Of each ``kind`` the first is shown, and how many more there were."""
        first, before = self._found.get(kind, (message, 0))
        self._found[kind] = first, before + 1
        self._counters.faults = tuple(
            f"{first}, and {times - 1} more like it" if times > 1 else first
            for first, times in self._found.values()
        )


def check_length(window: Window, captured: int, offset: int) -> None:
    """Raise CaptureError for a length that no writer of captures means."""
    if captured > _MAX_CAPTURED:
        raise window.error(f"frame of {captured} bytes, captures have {_MAX_CAPTURED}", offset)


def without_fcs(record: Record) -> Record:
    """The record without its frame check sequence, of which a snap length leaves a part or
    nothing."""
    wire_length = max(record.wire_length, len(record.data))
    frame = max(0, wire_length - record.fcs)
    return record._replace(data=record.data[:frame], wire_length=frame, fcs=0)
