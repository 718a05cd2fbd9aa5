"""Captures made by hand, and draining a port, for the port tests."""

from __future__ import annotations

from pathlib import Path
from struct import pack
from typing import TypeVar

from xennet.frames import FrameBatch
from xennet.port import Port, PortError

HEADER = {"<": {1000: "d4c3b2a1", 1: "4d3cb2a1"}, ">": {1000: "a1b2c3d4", 1: "a1b23c4d"}}


def new_batch(size: int = 1 << 20, max_frames: int = 256) -> FrameBatch:
    return FrameBatch(memoryview(bytearray(size)), max_frames)


def frames_of(batch: FrameBatch) -> list[tuple[int, bytes]]:
    return [(batch.timestamp[i], bytes(batch.frame(i))) for i in range(batch.count)]


def drain(
    port: Port, batch: FrameBatch | None = None
) -> tuple[list[tuple[int, bytes]], PortError | None]:
    """All (timestamp, frame) that a port gives, and the error that ended it, if one did."""
    batch = batch or new_batch()
    got: list[tuple[int, bytes]] = []
    while not port.exhausted:
        batch.clear()
        try:
            count = port.pull(batch)
        except PortError as e:
            assert batch.count == 0, "an error must not come together with frames"
            return got, e
        assert count == batch.count
        assert count or port.exhausted, "a file always has a frame, an error or its end"
        got += frames_of(batch)
    return got, None


P = TypeVar("P", bound=Port)
_opened: list[Port] = []


def opened(port: P) -> P:
    """``port``, which is closed at the end of the test."""
    _opened.append(port)
    return port


def close_opened() -> None:
    while _opened:
        _opened.pop().close()


def play(path: Path, batch: FrameBatch | None = None) -> tuple[list[tuple[int, bytes]], str]:
    """What ``pcap:path`` gives, and what is wrong with it, "" for nothing, whenever that came."""
    from xennet.port.pcap import PcapPort

    try:
        port = PcapPort(str(path))
    except PortError as e:
        return [], str(e)
    got, error = drain(port, batch)
    port.close()
    assert error is None, "a capture that could be opened tells its faults in the counters"
    return got, "; ".join(port.counters.faults)


def pcap_header(order: str = "<", unit: int = 1, linktype: int = 1, version=(2, 4)) -> bytes:
    return bytes.fromhex(HEADER[order][unit]) + pack(
        order + "HHIIII", *version, 0, 0, 262144, linktype
    )


def pcap_record(
    data: bytes,
    seconds: int = 0,
    fraction: int = 0,
    *,
    order: str = "<",
    captured: int | None = None,
    wire_length: int | None = None,
) -> bytes:
    captured = len(data) if captured is None else captured
    wire_length = captured if wire_length is None else wire_length
    return pack(order + "IIII", seconds, fraction, captured, wire_length) + data


def block(kind: int, body: bytes, order: str = "<", trailer: int | None = None) -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    tail = length if trailer is None else trailer
    return pack(order + "II", kind, length) + body + pack(order + "I", tail)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", version: tuple[int, int] = (1, 0)) -> bytes:
    return block(0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, *version, -1), order)


def interface(order: str = "<", linktype: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(1, pack(order + "HHI", linktype, 0, snaplen) + options, order)


def enhanced(
    data: bytes,
    ticks: int = 0,
    *,
    order: str = "<",
    number: int = 0,
    wire_length: int | None = None,
    captured: int | None = None,
    options: bytes = b"",
) -> bytes:
    captured = len(data) if captured is None else captured
    wire_length = captured if wire_length is None else wire_length
    head = pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, captured, wire_length)
    return block(6, head + data + bytes(-len(data) % 4) + options, order)


def frame(number: int, length: int = 60) -> bytes:
    return bytes([number & 0xFF]) * length
