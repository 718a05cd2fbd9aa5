"""Frames for contract tests, and what is compared of a frame."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from attrs import evolve, frozen

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.frames import (
    CSUM_BLANK,
    ETHERNET_HEADER,
    MAX_FRAME,
    Endpoint,
    FrameBatch,
    Offload,
    lazy_bytes,
)
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES
from xennet.port import open_port

#: Bytes of an Ethernet frame with an MTU of 1500.
ETHERNET_FRAME = ETHERNET_HEADER + 1500
#: What a port might find in the columns of a batch that was used before.
_STALE = 0x5A5A


@frozen
class Frame:
    """A frame with its metadata, as in FrameBatch."""

    data: bytes
    timestamp: int = 0
    flags: int = 0
    gso_size: int = 0
    gso_type: int = 0
    hash_info: int = 0
    hash_value: int = 0


#: The names of a frame's metadata.
METADATA = ("timestamp", "flags", "gso_size", "gso_type", "hash_info", "hash_value")


def new_batch(frames: Iterable[Frame] = (), *, most: int = 256, size: int = 1 << 22) -> FrameBatch:
    """A batch of ``size`` bytes with ``frames`` and room for ``most`` in all, whose other places
    hold metadata of frames from before."""
    batch = FrameBatch(lazy_bytes(size), most)
    for column in (*batch.columns[2:], *batch.hash_columns, batch.timestamp):
        column[:] = type(column)(column.typecode, [_STALE] * most)
    for frame in frames:
        index = batch.count
        batch.append(frame.data)
        for name in METADATA:
            getattr(batch, name)[index] = getattr(frame, name)
    return batch


def frames_of(batch: FrameBatch, first: int = 0) -> list[Frame]:
    """The frames of ``batch`` from number ``first`` on; a hash value only where there is a hash."""
    found = []
    for i in range(first, batch.count):
        metadata = {name: getattr(batch, name)[i] for name in METADATA}
        if not metadata["hash_info"]:
            metadata["hash_value"] = 0
        found.append(Frame(bytes(batch.frame(i)), **metadata))
    return found


def drain(endpoint: Endpoint, *, most: int = 256) -> list[Frame]:
    """What ``endpoint`` gives in batches of at most ``most`` frames, until it has none now."""
    found: list[Frame] = []
    while True:
        batch = new_batch(most=most, size=max(MAX_FRAME, most * 4096))
        pulled = endpoint.pull(batch)
        assert pulled == batch.count, "pull returns the number of frames that it appended"
        found += frames_of(batch)
        if not pulled:
            return found


def numbered(count: int, size: int = 60, first: int = 0) -> list[Frame]:
    """``count`` different frames of ``size`` bytes (18 or more), of a local experimental
    ethertype."""
    header = bytes.fromhex("02584e000002 02584e000001 88b5")
    padding = bytes(i & 0xFF for i in range(size - len(header) - 4))
    return [
        Frame(header + (first + i).to_bytes(4, "big") + padding, timestamp=1000 * (first + i))
        for i in range(count)
    ]


def of_sizes(sizes: Iterable[int]) -> list[Frame]:
    """A frame of each size, numbered."""
    return [numbered(1, size, first=i)[0] for i, size in enumerate(sizes)]


def offloaded(offload: Offload) -> list[list[Frame]]:
    """Frames with blank checksums, and segments to be cut, as far as ``offload`` has it taken; each
    list is of one connection."""
    specs = []
    if offload.csum_v4:
        specs.append("tcp:1514x2")
    if offload.csum_v6:
        specs.append("tcp6:1514x2")
    for scheme, type_ in (("tcp", XEN_NETIF_GSO_TYPE_TCPV4), ("tcp6", XEN_NETIF_GSO_TYPE_TCPV6)):
        if offload.gso_types >> type_ & 1:
            specs.append(f"{scheme}:16000x2")
    return [drain(open_port(spec)) for spec in specs]


def completed(frame: Frame) -> Frame:
    """The frame with its blank TCP or UDP checksum filled in."""
    u8 = lazy_bytes(MAX_FRAME + 1)
    u8[: len(frame.data)] = frame.data
    assert complete(u8, u8.cast("I"), 0, len(frame.data), array("q", bytes(8 * PLACES))) == FOUND
    return evolve(frame, data=bytes(u8[: len(frame.data)]), flags=frame.flags & ~CSUM_BLANK)
