"""What a backend should make of a tx ring, said as plainly as possible.

Written from xen/io/netif.h and the hardening rules F1..F17, independent of the kernels, to be
compared with them.
"""

from __future__ import annotations

from attrs import define, field
from ip_frames import TCP, UDP, pseudo_sum

ERROR, OKAY, NULL = -1, 0, 1
MORE, EXTRA = 4, 8
PAGE = 4096


@define
class Slot:
    gref: int
    offset: int
    flags: int
    ident: int
    size: int

    @classmethod
    def parse(cls, raw: bytes) -> Slot:
        def u16(at: int) -> int:
            return raw[at] | raw[at + 1] << 8

        return cls(u16(0) | u16(2) << 16, u16(4), u16(6), u16(8), u16(10))


@define
class Packet:
    pieces: list[tuple[int, int, int]]  # gref, offset, bytes
    size: int
    flags: int
    gso: tuple[int, int]
    hash: tuple[int, int]  # hash_info, hash_value
    slots: list[int]  # positions of its data slots

    def delivered(self, data: bytes) -> tuple[bytes, int] | None:
        """Bytes and flags for the host when the slots held ``data``; None if it is dropped."""
        if self.gso[0] and not self.flags & 1:  # F16
            fixed = set_up(data, recalculate=True)
            return None if fixed is None else (fixed, 3)
        if self.flags & 1 and set_up(data, recalculate=False) is None:  # F17
            return None
        return data, self.flags


def set_up(frame: bytes, recalculate: bool) -> bytes | None:
    """The frame as Linux 6.1 skb_checksum_setup leaves it, with ``recalculate`` with the sum of its
    pseudo-header; None if it finds no field. Of IPv4 only: no frame here is IPv6.

    Headers have to lie in the frame; version and total length are not looked at, and what is behind
    a VLAN tag is not IPv4.
    """
    ip = frame[14:]
    if frame[12:14] != b"\x08\x00" or len(ip) < 20 or int.from_bytes(ip[6:8], "big") & 0x3FFF:
        return None
    l4 = 4 * (ip[0] & 15)
    size, field = {TCP: (20, 16), UDP: (8, 6)}.get(ip[9], (1 << 16, 0))
    if l4 + size > len(ip):
        return None
    if not recalculate:
        return frame
    checksum = pseudo_sum(ip[12:20], ip[9], len(ip) - l4).to_bytes(2, "big")
    where = 14 + l4 + field
    return frame[:where] + checksum + frame[where + 2 :]


@define
class Expected:
    """``statuses``: (id, status) for each answered slot; ``rule``: of the fatal packet, or "";
    ``limited``: size of the request that the credit did not cover, or 0."""

    packets: list[Packet] = field(factory=list)
    statuses: list[tuple[int | None, int]] = field(factory=list)
    rule: str = ""
    limited: int = 0
    credit: int = 0
    mcast: list[bytes] = field(factory=list)


class FatalError(Exception):
    def __init__(self, rule: str) -> None:
        self.rule = rule


def expect(
    ring: list[bytes], claimed: int, *, credit: int = 1 << 62, mcast: tuple[bytes, ...] = ()
) -> Expected:
    """``ring``: the raw slots from req_cons on; ``claimed``: req_prod - req_cons, modulo 2^32;
    ``credit``: bytes that the rate limit leaves; ``mcast``: the multicast list."""
    result = Expected(credit=credit, mcast=list(mcast))
    if claimed > 256:
        result.rule = "F1"
        return result
    slots = ring[:claimed]
    at = 0
    while at < len(slots):
        size = Slot.parse(slots[at]).size
        if size > result.credit:
            result.limited = size
            break
        if result.credit < 1 << 62:
            result.credit -= size
        try:
            at = _packet(slots, at, result)
        except FatalError as fatal:
            result.rule = fatal.rule
            break
    return result


def _amend(extras: dict[int, bytes], mcast: list[bytes]) -> int:
    """What a request with a multicast extra is answered."""
    if 2 in extras:
        if len(mcast) == 64:
            return ERROR
        mcast.append(extras[2][2:8])
    elif extras[3][2:8] in mcast:
        mcast.remove(extras[3][2:8])
    return OKAY


def _packet(slots: list[bytes], at: int, result: Expected) -> int:
    first = Slot.parse(slots[at])
    begin = at
    at += 1
    extras = []
    if first.flags & EXTRA:
        while True:
            if at >= len(slots):
                raise FatalError("F8")
            extra = slots[at]
            at += 1
            if extra[0] == 0 or extra[0] >= 6:
                raise FatalError("F9")
            extras.append(extra)
            if not extra[1] & 1:
                break
    nulls: list[tuple[int | None, int]] = [(None, NULL)] * len(extras)
    last = {extra[0]: extra for extra in extras}
    if 2 in last or 3 in last:
        result.statuses += [(first.ident, _amend(last, result.mcast)), *nulls]
        return at

    later = []
    drop = False
    size = first.size
    flags = first.flags
    while flags & MORE:
        if at >= len(slots):
            raise FatalError("F2")
        if len(later) >= 20:
            raise FatalError("F3")
        if len(later) >= 18:
            drop = True
        slot = Slot.parse(slots[at])
        if slot.size > size:
            drop = True
        size = (size - slot.size) % 65536
        if slot.offset + slot.size > PAGE:
            raise FatalError("F5")
        later.append((at, slot))
        flags = slot.flags
        at += 1
    answers = [(slot.ident, OKAY) for _, slot in later]
    if drop or size < 14:
        result.statuses += [(first.ident, ERROR), *nulls]
        result.statuses += [(ident, ERROR) for ident, _ in answers]
        return at
    if first.offset + size > PAGE:
        raise FatalError("F5")
    gso = (0, 0)
    if 1 in last:
        gso = (last[1][2] | last[1][3] << 8, last[1][4])
        if gso[0] == 0 or gso[1] not in (1, 2):
            raise FatalError("F10")
    hashed = (0, 0)
    if 4 in last and last[4][2] < 4:
        hashed = (last[4][3] << 8 | last[4][2] + 1, int.from_bytes(last[4][4:8], "little"))
    result.statuses += [(first.ident, OKAY), *nulls, *answers]
    pieces = [(first.gref, first.offset, size)]
    pieces += [(slot.gref, slot.offset, slot.size) for _, slot in later]
    result.packets.append(
        Packet(
            pieces,
            first.size,
            first.flags & 3,
            gso,
            hashed,
            [begin, *(place for place, _ in later)],
        )
    )
    return at
