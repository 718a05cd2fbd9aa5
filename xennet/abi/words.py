"""Slots and table entries as 32-bit words: the form that kernels read and write.

A kernel sees a ring page as unsigned 32-bit words and takes a slot in as few aligned loads as it
has words. Which fields share a word, and at which bit each starts, follows from the Construct
definitions; nothing here is written down a second time: every constant is computed from a derived
codec, and a layout that did not fit words would fail at import.

``X_W_f`` is the word of field ``f`` relative to the start of structure ``X``; ``X_S_f`` is the
field's shift inside it.
"""

from __future__ import annotations

from xennet.abi.codec import Codec
from xennet.abi.grant_table import GNTTAB_COPY
from xennet.abi.netif import (
    EXTRA_GSO,
    EXTRA_HASH,
    EXTRA_MCAST,
    EXTRA_XDP,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
)
from xennet.abi.ring import (
    NETIF_RX_RING_SIZE,
    NETIF_RX_SLOT_SIZE,
    NETIF_TX_RING_SIZE,
    NETIF_TX_SLOT_SIZE,
    SRING_HEADER_SIZE,
    SRING_WORD_req_event,
    SRING_WORD_req_prod,
    SRING_WORD_rsp_event,
    SRING_WORD_rsp_prod,
)


def _word(codec: Codec, name: str) -> int:
    offset, size = codec.offsets[name], codec.sizes[name]
    if offset // 4 != (offset + size - 1) // 4:
        raise AssertionError(f"{name} spans two words")
    return offset // 4


def _shift(codec: Codec, name: str) -> int:
    return codec.offsets[name] % 4 * 8


REQ_PROD = SRING_WORD_req_prod
REQ_EVENT = SRING_WORD_req_event
RSP_PROD = SRING_WORD_rsp_prod
RSP_EVENT = SRING_WORD_rsp_event

#: First word of slot 0, words from one slot to the next, and slot-number mask.
RING_SLOTS = SRING_HEADER_SIZE // 4
TX_STRIDE = NETIF_TX_SLOT_SIZE // 4
RX_STRIDE = NETIF_RX_SLOT_SIZE // 4
TX_MASK = NETIF_TX_RING_SIZE - 1
RX_MASK = NETIF_RX_RING_SIZE - 1
TX_SLOTS = NETIF_TX_RING_SIZE
RX_SLOTS = NETIF_RX_RING_SIZE
#: First word behind the last slot.
TX_END = RING_SLOTS + TX_SLOTS * TX_STRIDE
RX_END = RING_SLOTS + RX_SLOTS * RX_STRIDE

# netif_tx_request: gref | offset, flags | id, size
TXREQ_W_gref = _word(TX_REQUEST, "gref")
TXREQ_W_offset = TXREQ_W_flags = _word(TX_REQUEST, "offset")
TXREQ_W_id = TXREQ_W_size = _word(TX_REQUEST, "id")
TXREQ_S_flags = _shift(TX_REQUEST, "flags")
TXREQ_S_size = _shift(TX_REQUEST, "size")

# netif_tx_response: id, status
TXRSP_S_status = _shift(TX_RESPONSE, "status")

# netif_rx_request: id, pad | gref
RXREQ_W_gref = _word(RX_REQUEST, "gref")

# netif_rx_response: id, offset | flags, status
RXRSP_W_flags = RXRSP_W_status = _word(RX_RESPONSE, "flags")
RXRSP_S_offset = _shift(RX_RESPONSE, "offset")
RXRSP_S_status = _shift(RX_RESPONSE, "status")

# netif_extra_info: type, flags, and one of
#   GSO        size | type, pad, features
#   MCAST      octets 0 and 1 of the address | octets 2 to 5
#   HASH       type, algorithm | value
#   XDP        headroom | padding
EXTRA_S_flags = _shift(EXTRA_GSO, "flags")
EXTRA_S_gso_size = _shift(EXTRA_GSO, "u.gso.size")
EXTRA_W_gso_type = _word(EXTRA_GSO, "u.gso.type")
EXTRA_S_mcast = _shift(EXTRA_MCAST, "u.mcast.addr")
EXTRA_S_hash_type = _shift(EXTRA_HASH, "u.hash.type")
EXTRA_S_hash_algorithm = _shift(EXTRA_HASH, "u.hash.algorithm")
EXTRA_S_headroom = _shift(EXTRA_XDP, "u.xdp.headroom")
#: The word behind the bar, whichever member it is.
EXTRA_W_rest = EXTRA_W_gso_type
if _word(EXTRA_HASH, "u.hash.value") != EXTRA_W_rest or EXTRA_MCAST.size != 8:
    raise AssertionError("the members of netif_extra_info do not divide into the same two words")

# gnttab_copy: ten words an element
COPY_STRIDE = GNTTAB_COPY.size // 4
COPY_W_source = _word(GNTTAB_COPY, "source.u.ref")
COPY_W_source_domid = _word(GNTTAB_COPY, "source.domid")
COPY_W_dest = _word(GNTTAB_COPY, "dest.u.ref")
COPY_W_dest_domid = _word(GNTTAB_COPY, "dest.domid")
COPY_W_len = _word(GNTTAB_COPY, "len")
COPY_W_status = _word(GNTTAB_COPY, "status")
COPY_S_offset = _shift(GNTTAB_COPY, "source.offset")
COPY_S_flags = _shift(GNTTAB_COPY, "flags")

for _codec, _same_word in (
    (TX_REQUEST, ("offset", "flags")),
    (TX_REQUEST, ("id", "size")),
    (TX_RESPONSE, ("id", "status")),
    (RX_REQUEST, ("id", "pad")),
    (RX_RESPONSE, ("id", "offset")),
    (RX_RESPONSE, ("flags", "status")),
    (EXTRA_GSO, ("type", "flags", "u.gso.size")),
    (EXTRA_GSO, ("u.gso.type", "u.gso.pad", "u.gso.features")),
    (EXTRA_HASH, ("type", "flags", "u.hash.type", "u.hash.algorithm")),
    (EXTRA_XDP, ("type", "flags", "u.xdp.headroom")),
    (GNTTAB_COPY, ("source.domid", "source.offset")),
    (GNTTAB_COPY, ("dest.domid", "dest.offset")),
    (GNTTAB_COPY, ("len", "flags")),
):
    if len({_word(_codec, name) for name in _same_word}) != 1:
        raise AssertionError(f"{_same_word} do not share a word")
