"""What lies in the slots of a ring: requests, responses and extra infos.

An extra info has no mark of its own: it is one because of the flags of the slot before it (xen 4.17
netif.h). So who reads a ring from outside has to follow its chains.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen

from xennet.abi import netif
from xennet.abi.codec import Codec
from xennet.abi.ring import (
    NETIF_CTRL_SLOT_SIZE,
    NETIF_RX_SLOT_SIZE,
    NETIF_TX_SLOT_SIZE,
    SRING_HEADER_SIZE,
    SRING_WORD_req_prod,
    SRING_WORD_rsp_prod,
    ring_size,
)
from xennet.trace.records import STRUCTURES, Kind, Role

_MASK32 = 0xFFFF_FFFF


@frozen
class RingKind:
    """A ring: bytes of a slot, what a request is, what a response is."""

    slot_size: int
    request: Kind
    response: Kind


#: Memory -> the kind of ring that it is.
RINGS: Mapping[str, RingKind] = {
    "tx ring": RingKind(NETIF_TX_SLOT_SIZE, Kind.TX_REQUEST, Kind.TX_RESPONSE),
    "rx ring": RingKind(NETIF_RX_SLOT_SIZE, Kind.RX_REQUEST, Kind.RX_RESPONSE),
    "ctrl ring": RingKind(NETIF_CTRL_SLOT_SIZE, Kind.CTRL_REQUEST, Kind.CTRL_RESPONSE),
}
#: Slots behind which extra infos can stand: where their flags are; bits of more data, extra info.
_CHAINED = {
    Kind.TX_REQUEST: (netif.TX_REQUEST, netif.NETTXF_more_data, netif.NETTXF_extra_info),
    Kind.RX_RESPONSE: (netif.RX_RESPONSE, netif.NETRXF_more_data, netif.NETRXF_extra_info),
}
_EXTRA = STRUCTURES[Kind.EXTRA_INFO].codec({"u": "pad"})


@frozen
class Chain:
    """Where in a packet the next slot of a ring is: ``inside`` one, behind a slot that says more
    data, or among ``extras``."""

    inside: bool = False
    extras: bool = False

    def kind(self, usual: Kind) -> Kind:
        """What the next slot is, if slots are as a rule ``usual``."""
        return Kind.EXTRA_INFO if self.extras else usual

    def role(self, usual: Kind) -> Role:
        """Where in its packet the next slot stands."""
        if usual not in _CHAINED or self.extras:
            return Role.NONE
        return Role.LATER_SLOT if self.inside else Role.FIRST_SLOT

    def behind(self, usual: Kind, slot: bytes | bytearray) -> Chain:
        """Where the slot behind the next one, ``slot``, is."""
        if usual not in _CHAINED:
            return self
        if self.extras:
            more = _value(_EXTRA, "flags", slot) & netif.XEN_NETIF_EXTRA_FLAG_MORE
            return Chain(self.inside, bool(more))
        layout, more_data, extra_info = _CHAINED[usual]
        flags = _value(layout, "flags", slot)
        return Chain(bool(flags & more_data), not self.inside and bool(flags & extra_info))


_OUTSIDE = Chain()


@define
class _Side:
    """The slots that one end writes: ``chains`` are those before index ``base``, ``base`` + 1 and
    so on, which is what was published; ``fresh`` are the slots that were written since."""

    usual: Kind
    word: int
    base: int = 0
    chains: list[Chain] = field(factory=lambda: [_OUTSIDE])
    fresh: set[int] = field(factory=set)


@define(init=False)
class RingSlots:
    """What the slots of the ring ``held`` (its page, as it is now) are, followed from store to
    store."""

    ring: RingKind
    held: bytearray
    count: int
    kinds: dict[int, Kind]
    _requests: _Side
    _responses: _Side

    def __init__(self, ring: RingKind, held: bytearray) -> None:
        self.ring, self.held = ring, held
        self.count = ring_size(len(held), ring.slot_size, ring.slot_size)
        self.kinds = {}
        self._requests = _Side(ring.request, SRING_WORD_req_prod)
        self._responses = _Side(ring.response, SRING_WORD_rsp_prod)
        for side in (self._requests, self._responses):
            side.base = self._published(side)

    def stored(self, slot: int, by_frontend: bool) -> Kind:
        """What ``slot`` is, a part of which was just stored by the frontend, or by the backend."""
        side = self._requests if by_frontend else self._responses
        ahead = (slot - side.base) % self.count
        waiting = (self._published(self._requests) - self._published(self._responses)) & _MASK32
        if by_frontend and waiting <= self.count and ahead >= self.count - waiting:
            # What waits for its response is written once more, or was published unwritten.
            return self.kinds.setdefault(slot, side.usual)
        kind = self._chain(side, ahead).kind(side.usual)
        del side.chains[ahead + 1 :]
        side.fresh.add(slot)
        self.kinds[slot] = kind
        return kind

    def loaded(self, slot: int, by_frontend: bool) -> Kind:
        """What ``slot`` is, which is loaded: what was stored there last."""
        side = self._responses if by_frontend else self._requests
        return self.kinds.get(slot, side.usual)

    def published(self) -> None:
        """An index was stored: what is in front of it is published."""
        for side in (self._requests, self._responses):
            new = self._published(side)
            if new == side.base:
                continue
            ahead = (new - side.base) & _MASK32
            chain = self._chain(side, ahead) if ahead <= self.count else _OUTSIDE
            side.base, side.chains = new, [chain]
            side.fresh.clear()

    def _published(self, side: _Side) -> int:
        return int.from_bytes(self.held[4 * side.word : 4 * side.word + 4], "little")

    def _chain(self, side: _Side, ahead: int) -> Chain:
        """Where the slot ``ahead`` of the published index is. What was not written since is no part
        of a packet."""
        chains = side.chains
        while len(chains) <= ahead:
            slot = (side.base + len(chains) - 1) % self.count
            behind = _OUTSIDE
            if slot in side.fresh:
                at = SRING_HEADER_SIZE + slot * self.ring.slot_size
                raw = self.held[at : at + self.ring.slot_size]
                behind = chains[-1].behind(side.usual, raw)
            chains.append(behind)
        return chains[ahead]


def _value(codec: Codec, name: str, slot: bytes | bytearray) -> int:
    at = codec.offsets[name]
    return int.from_bytes(slot[at : at + codec.sizes[name]], "little")
