"""Packets between switch ports whose virtio-net headers differ: checksums and segments in software.

A header is told to the receiver, made up of zeros, or obeyed: a receiver without one gets whole
checksums, and TCP segments of at most its ``mfs`` bytes (1514) whatever gso_size says. A packet
that does not fit, or that asks for what is no TCP segmentation, is dropped. Rules:
netmap_offloadings.c.
"""

from __future__ import annotations

from collections.abc import Sequence

from xennet.abi.netmap import NS_MOREFRAG

#: struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
VNET_HDR = 10
NEEDS_CSUM = 1
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
_GSO_ECN = 0x80
_IPPROTO_TCP = 6
_FIN_PSH = 0x01 | 0x08

#: What one packet becomes: the bytes and the flags of each slot.
Slots = list[tuple[bytes, int]]


def ones_sum(data: bytes) -> int:
    """The folded ones-complement sum of big-endian 16-bit words."""
    if len(data) & 1:
        data += b"\0"
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _inverted(total: int) -> bytes:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (0xFFFF - total).to_bytes(2, "big")


def converted(fragments: Sequence[bytes], before: int, after: int, size: int, mfs: int) -> Slots:
    """What a receiver gets of a packet. Returns no slots if it is dropped.

    ``before``, ``after``: bytes of the sender's and of the receiver's header. ``size``: bytes of
    the receiver's buffers. ``mfs``: its longest frame.
    """
    header, pieces = fragments[0][:before], [fragments[0][before:], *fragments[1:]]
    if not pieces[0]:
        pieces = pieces[1:]
    if not pieces:
        return []
    if after:
        told = header[:VNET_HDR].ljust(after, b"\0")
        return _as_slots([told + pieces[0], *pieces[1:]], size)
    kind = header[1] & ~_GSO_ECN
    if kind in (GSO_TCPV4, GSO_TCPV6):
        segments = _segments(b"".join(pieces), kind, min(mfs, size))
        return [(segment, 0) for segment in segments]
    if kind != GSO_NONE:
        return []
    if header[0] & NEEDS_CSUM:
        frame = _completed(b"".join(pieces), header)
        cut = []
        for piece in pieces:
            cut.append(frame[: len(piece)])
            frame = frame[len(piece) :]
        pieces = cut
    return _as_slots(pieces, size)


def _as_slots(pieces: Sequence[bytes], size: int) -> Slots:
    if any(len(piece) > size for piece in pieces):
        return []
    bits = len(pieces) << 8 & 0xFF00
    return [
        (piece, bits | NS_MOREFRAG if i < len(pieces) - 1 else bits)
        for i, piece in enumerate(pieces)
    ]


def _completed(frame: bytes, header: bytes) -> bytes:
    """``frame`` with its blank checksum completed, as the virtio-net header says: the sum from
    csum_start on, to which the sum that is in the field belongs."""
    start, offset = (int.from_bytes(header[i : i + 2], "little") for i in (6, 8))
    field = start + offset
    if field + 2 > len(frame):
        return frame
    return frame[:field] + _inverted(ones_sum(frame[start:])) + frame[field + 2 :]


def _l4(frame: bytes) -> tuple[int, int, bytes] | None:
    """Where the transport header of a frame begins, its protocol, and the pseudo-header without its
    length; None for what is no IP packet."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= 34:
        start = 14 + (frame[14] & 0xF) * 4
        return start, frame[23], frame[26:34] + bytes((0, frame[23]))
    if kind == b"\x86\xdd" and len(frame) >= 54:
        return 54, frame[20], frame[22:54] + bytes((0, frame[20]))
    return None


def _with_checksum(frame: bytes) -> bytes:
    """``frame`` with the checksum of TCP or UDP over all that follows its IP header."""
    found = _l4(frame)
    if found is None:
        return frame
    start, protocol, pseudo = found
    field = start + (16 if protocol == _IPPROTO_TCP else 6)
    if len(frame) < field + 2:
        return frame
    blank = frame[:field] + b"\0\0" + frame[field + 2 :]
    total = ones_sum(pseudo) + len(frame) - start + ones_sum(blank[start:])
    return frame[:field] + _inverted(total) + frame[field + 2 :]


def _segments(frame: bytes, kind: int, longest: int) -> list[bytes]:
    """TCP segments of at most ``longest`` bytes; none if the frame is no TCP of that version."""
    found = _l4(frame)
    wanted = b"\x08\x00" if kind == GSO_TCPV4 else b"\x86\xdd"
    if found is None or frame[12:14] != wanted or found[1] != _IPPROTO_TCP:
        return []
    start = found[0]
    if len(frame) < start + 20:
        return []
    payload_at = start + (frame[start + 12] >> 4) * 4
    room = longest - payload_at
    if payload_at < start + 20 or payload_at > len(frame) or room <= 0:
        return []
    payload = frame[payload_at:]
    cuts = [payload[i : i + room] for i in range(0, len(payload), room)] or [b""]
    segments = []
    sequence = int.from_bytes(frame[start + 4 : start + 8], "big")
    for i, cut in enumerate(cuts):
        head = bytearray(frame[:payload_at])
        total = payload_at + len(cut)
        if kind == GSO_TCPV4:
            head[16:18] = (total - 14).to_bytes(2, "big")
            number = int.from_bytes(head[18:20], "big") + i
            head[18:20] = (number & 0xFFFF).to_bytes(2, "big")
            head[24:26] = b"\0\0"
            head[24:26] = _inverted(ones_sum(bytes(head[14:start])))
        else:
            head[18:20] = (total - 54).to_bytes(2, "big")
        head[start + 4 : start + 8] = (sequence + i * room & 0xFFFFFFFF).to_bytes(4, "big")
        if i < len(cuts) - 1:
            head[start + 13] &= ~_FIN_PSH
        segments.append(_with_checksum(bytes(head) + cut))
    return segments
