"""Pointers into ring slots and copy table elements.

xnb works on shared memory through C pointers: every mention of a field is one more load, and the
peer may have rewritten the slot since the last one (defect A16, the XSA-155 class). So it is here:
a pointer holds no value, each attribute access loads or stores the bytes, and a store truncates to
the width of the field as C does. Robust code copies a slot first
(:meth:`xennet.ring.SharedRing.copy_slot`).
"""

from __future__ import annotations

from xennet.abi.codec import Codec
from xennet.abi.grant_table import GNTTAB_COPY_BY_FLAGS, GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.abi.netif import EXTRA_GSO, RX_REQUEST, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xennet.ring import BackRing


class Pointer:
    """The address of a structure: ``base`` bytes into ``memory`` (unsigned bytes)."""

    __slots__ = ("base", "memory")

    def __init__(self, memory: memoryview, base: int) -> None:
        self.memory = memory
        self.base = base


class Field:
    """A little-endian integer field of the structure that a :class:`Pointer` points to."""

    __slots__ = ("at", "end", "mask", "signed", "size")

    def __init__(self, codec: Codec, name: str, *, signed: bool = False) -> None:
        self.at = codec.offsets[name]
        self.size = codec.sizes[name]
        self.end = self.at + self.size
        self.mask = (1 << 8 * self.size) - 1
        self.signed = signed

    def __get__(self, pointer: Pointer, owner: type[Pointer] | None = None) -> int:
        base = pointer.base
        raw = pointer.memory[base + self.at : base + self.end]
        if self.signed:
            return int.from_bytes(raw, "little", signed=True)
        return int.from_bytes(raw, "little")

    def __set__(self, pointer: Pointer, value: int) -> None:
        base = pointer.base
        pointer.memory[base + self.at : base + self.end] = (value & self.mask).to_bytes(
            self.size, "little"
        )


class TxRequest(Pointer):
    """struct netif_tx_request. ``size`` of a packet's first request is that of the whole packet."""

    __slots__ = ()
    gref = Field(TX_REQUEST, "gref")
    offset = Field(TX_REQUEST, "offset")
    flags = Field(TX_REQUEST, "flags")
    id = Field(TX_REQUEST, "id")
    size = Field(TX_REQUEST, "size")


class TxResponse(Pointer):
    """struct netif_tx_response. It shares the first four bytes of its request (the gref)."""

    __slots__ = ()
    id = Field(TX_RESPONSE, "id")
    status = Field(TX_RESPONSE, "status", signed=True)


class RxRequest(Pointer):
    """struct netif_rx_request."""

    __slots__ = ()
    id = Field(RX_REQUEST, "id")
    pad = Field(RX_REQUEST, "pad")
    gref = Field(RX_REQUEST, "gref")


class RxResponse(Pointer):
    """struct netif_rx_response. ``offset`` lies over the request's pad, flags and status over its
    gref."""

    __slots__ = ()
    id = Field(RX_RESPONSE, "id")
    offset = Field(RX_RESPONSE, "offset")
    flags = Field(RX_RESPONSE, "flags")
    status = Field(RX_RESPONSE, "status", signed=True)


class ExtraInfo(Pointer):
    """struct netif_extra_info, its union read as ``gso``."""

    __slots__ = ()
    type = Field(EXTRA_GSO, "type")
    flags = Field(EXTRA_GSO, "flags")
    gso_size = Field(EXTRA_GSO, "u.gso.size")
    gso_type = Field(EXTRA_GSO, "u.gso.type")
    gso_pad = Field(EXTRA_GSO, "u.gso.pad")
    gso_features = Field(EXTRA_GSO, "u.gso.features")


COPY_BY_FRAME = GNTTAB_COPY_BY_FLAGS[0]
COPY_BY_GREF = GNTTAB_COPY_BY_FLAGS[GNTCOPY_source_gref | GNTCOPY_dest_gref]


class GnttabCopy(Pointer):
    """struct gnttab_copy. ``*_ref`` (32 bits) and ``*_gmfn`` (64 bits) share their bytes."""

    __slots__ = ()
    source_ref = Field(COPY_BY_GREF, "source.u.ref")
    source_gmfn = Field(COPY_BY_FRAME, "source.u.gmfn")
    source_domid = Field(COPY_BY_GREF, "source.domid")
    source_offset = Field(COPY_BY_GREF, "source.offset")
    dest_ref = Field(COPY_BY_GREF, "dest.u.ref")
    dest_gmfn = Field(COPY_BY_FRAME, "dest.u.gmfn")
    dest_domid = Field(COPY_BY_GREF, "dest.domid")
    dest_offset = Field(COPY_BY_GREF, "dest.offset")
    len = Field(COPY_BY_GREF, "len")
    flags = Field(COPY_BY_GREF, "flags")
    status = Field(COPY_BY_GREF, "status", signed=True)


def tx_request(ring: BackRing, idx: int) -> TxRequest:
    """RING_GET_REQUEST on the tx ring: slot ``idx mod nr_ents``, wherever the peer's index is."""
    return TxRequest(ring.sring.u8, ring.sring.slot_offset(idx))


def tx_response(ring: BackRing, idx: int) -> TxResponse:
    """RING_GET_RESPONSE on the tx ring."""
    return TxResponse(ring.sring.u8, ring.sring.slot_offset(idx))


def rx_request(ring: BackRing, idx: int) -> RxRequest:
    """RING_GET_REQUEST on the rx ring."""
    return RxRequest(ring.sring.u8, ring.sring.slot_offset(idx))


def rx_response(ring: BackRing, idx: int) -> RxResponse:
    """RING_GET_RESPONSE on the rx ring."""
    return RxResponse(ring.sring.u8, ring.sring.slot_offset(idx))


def extra_info(ring: BackRing, idx: int) -> ExtraInfo:
    """A slot of either ring, read as extra info."""
    return ExtraInfo(ring.sring.u8, ring.sring.slot_offset(idx))
