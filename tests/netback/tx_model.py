"""What a backend should make of a tx ring, said as plainly as possible.

Written from xen/io/netif.h and the hardening rules F1..F13, independent of the kernels, to be
compared with them.
"""

from __future__ import annotations

from attrs import define, field

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
    slots: list[int]  # positions of its data slots


@define
class Expected:
    """``statuses``: (id, status) for each answered slot; ``rule``: of the fatal packet, or ""."""

    packets: list[Packet] = field(factory=list)
    statuses: list[tuple[int | None, int]] = field(factory=list)
    rule: str = ""


class FatalError(Exception):
    def __init__(self, rule: str) -> None:
        self.rule = rule


def expect(ring: list[bytes], claimed: int) -> Expected:
    """``ring``: the raw slots from req_cons on; ``claimed``: req_prod - req_cons, modulo 2^32."""
    result = Expected()
    if claimed > 256:
        result.rule = "F1"
        return result
    slots = ring[:claimed]
    at = 0
    while at < len(slots):
        try:
            at = _packet(slots, at, result)
        except FatalError as fatal:
            result.rule = fatal.rule
            break
    return result


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
    if any(extra[0] in (2, 3) for extra in extras):
        result.statuses += [(first.ident, ERROR), *nulls]
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
    for extra in extras:
        if extra[0] == 1:
            gso = (extra[2] | extra[3] << 8, extra[4])
    has_gso = any(extra[0] == 1 for extra in extras)
    if has_gso and (gso[0] == 0 or gso[1] not in (1, 2)):
        raise FatalError("F10")
    result.statuses += [(first.ident, OKAY), *nulls, *answers]
    pieces = [(first.gref, first.offset, size)]
    pieces += [(slot.gref, slot.offset, slot.size) for _, slot in later]
    result.packets.append(
        Packet(pieces, first.size, first.flags & 3, gso, [begin, *(place for place, _ in later)])
    )
    return at
