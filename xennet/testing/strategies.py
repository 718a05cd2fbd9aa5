"""Hypothesis strategies: slots, packets, ring pages, features, walks through a peer's life.

What is well-formed is a strategy of its own (:func:`packets`, :func:`ring_pages`), and so is what
is nearly so (:func:`odd_slots`, :func:`damaged_pages`): bytes that are merely random end at the
first check of a ring's producer index. All give raw bytes as they lie in shared memory::

    @given(ring_pages())
    def test_mine(page: RingPage) -> None:
        feed(page.raw, page.start)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from attrs import frozen
from hypothesis import strategies as st

from xennet.abi.netif import (
    EXTRA_GSO,
    EXTRA_HASH,
    EXTRA_MCAST,
    EXTRA_XDP,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_EXTRA_TYPE_XDP,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.ring import NETIF_TX_RING_SIZE, NETIF_TX_SLOT_SIZE
from xennet.abi.xen import PAGE_SIZE
from xennet.ring import MASK32, tx_ring_page
from xennet.testing import raw_backend, raw_frontend
from xennet.testing.backend_moves import BACKEND_LIFE, BACKEND_MOVES
from xennet.testing.frontend_moves import FRONTEND_LIFE, FRONTEND_MOVES, GARBAGE
from xennet.testing.moves import Move, Planned, Step
from xennet.testing.raw_backend import RawBackend
from xennet.testing.raw_frontend import RawFrontend
from xennet.testing.raw_peer import NodeValue

P = TypeVar("P", RawFrontend, RawBackend)

#: References of a grant table as a poller has it (xennet.netback.poll_page): 8 to 71.
GREFS = tuple(range(8, 72))
#: Shortest frame with an Ethernet header.
_SHORTEST = 14
_FLAGS = (
    NETTXF_more_data,
    NETTXF_extra_info,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_csum_blank | NETTXF_data_validated,
    NETTXF_more_data | NETTXF_extra_info,
)


def start_indices() -> st.SearchStrategy[int]:
    """Free-running ring indices, with those around 0, 2^31 and 2^32 before all others."""
    around = [(base + near) & MASK32 for base in (0, 1 << 31, 1 << 32) for near in (-5, -1, 0, 1)]
    return st.sampled_from(around) | st.integers(0, MASK32)


# -- slots -----------------------------------------------------------------------------------------


def _sizes() -> st.SearchStrategy[int]:
    edges = [0, 1, 13, 14, 60, 1514, 4095, 4096, 4097, 65535]
    return st.sampled_from(edges) | st.integers(0, 0xFFFF)


def _offsets() -> st.SearchStrategy[int]:
    return st.sampled_from([0, 0, 1, 4000, 4095, 4096, 65535]) | st.integers(0, 0xFFFF)


def _references(grefs: Sequence[int]) -> st.SearchStrategy[int]:
    return st.sampled_from([*grefs]) | st.sampled_from([0, 40000, MASK32])


def odd_tx_requests(grefs: Sequence[int] = GREFS) -> st.SearchStrategy[bytes]:
    """struct netif_tx_request of any values, those at the edges of a rule before others."""
    flags = st.just(0) | st.sampled_from(_FLAGS) | st.integers(0, 0xFFFF)
    idents = st.integers(0, 255) | st.integers(0, 0xFFFF)
    return st.builds(TX_REQUEST.pack, _references(grefs), _offsets(), flags, idents, _sizes())


def odd_extras() -> st.SearchStrategy[bytes]:
    """struct netif_extra_info of every type, and of some that there are none of."""
    more = st.sampled_from([0, 0, 0, XEN_NETIF_EXTRA_FLAG_MORE]) | st.integers(0, 0xFF)
    lengths = st.sampled_from([0, 1, 536, 1448, 65535])
    gso = st.sampled_from([XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6, 0, 3, 255])
    kinds = st.sampled_from([XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL])
    kind_gso, kind_hash = st.just(XEN_NETIF_EXTRA_TYPE_GSO), st.just(XEN_NETIF_EXTRA_TYPE_HASH)
    kind_xdp, byte = st.just(XEN_NETIF_EXTRA_TYPE_XDP), st.integers(0, 0xFF)
    nothing = st.just(0)
    return st.one_of(
        st.builds(EXTRA_GSO.pack, kind_gso, more, lengths, gso, nothing, nothing),
        st.builds(EXTRA_MCAST.pack, kinds, more, st.binary(min_size=6, max_size=6)),
        st.builds(EXTRA_HASH.pack, kind_hash, more, byte, byte, st.binary(min_size=4, max_size=4)),
        st.builds(EXTRA_XDP.pack, kind_xdp, more, st.integers(0, 0xFFFF), nothing, nothing),
        st.builds(EXTRA_GSO.pack, byte, more, lengths, gso, nothing, nothing),
    )


def odd_slots(grefs: Sequence[int] = GREFS) -> st.SearchStrategy[bytes]:
    """Slots of the transmit ring that a frontend may put there: requests, extra infos, anything."""
    anything = st.binary(min_size=NETIF_TX_SLOT_SIZE, max_size=NETIF_TX_SLOT_SIZE)
    return st.one_of(odd_tx_requests(grefs), odd_tx_requests(grefs), odd_extras(), anything)


def odd_tx_responses() -> st.SearchStrategy[bytes]:
    """struct netif_tx_response of any id and status."""
    statuses = st.sampled_from([0, 0, 1, -1, -2]) | st.integers(-0x8000, 0x7FFF)
    return st.builds(TX_RESPONSE.pack, st.integers(0, 260) | st.integers(0, 0xFFFF), statuses)


def odd_rx_requests(grefs: Sequence[int] = GREFS) -> st.SearchStrategy[bytes]:
    """struct netif_rx_request of any values."""
    return st.builds(
        RX_REQUEST.pack, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), _references(grefs)
    )


def odd_rx_responses() -> st.SearchStrategy[bytes]:
    """struct netif_rx_response of any values; an extra info slot looks like some of them."""
    statuses = st.sampled_from([0, 14, 60, 1514, 4096, -1, -3]) | st.integers(-0x8000, 0x7FFF)
    flags = st.integers(0, 31) | st.integers(0, 0xFFFF)
    return st.builds(RX_RESPONSE.pack, st.integers(0, 0xFFFF), _offsets(), flags, statuses)


# -- packets ---------------------------------------------------------------------------------------


@frozen
class TxPacket:
    """A packet on the transmit ring: its raw ``slots``, and how many bytes it has."""

    slots: tuple[bytes, ...]
    size: int


@st.composite
def packets(draw: st.DrawFn, grefs: Sequence[int] = GREFS, *, gso: bool = True) -> TxPacket:
    """Packets that a backend has to take: 1 to 19 data slots of 1 to 4096 bytes, each within its
    page, at least 14 bytes in all and at most 65535; some with a GSO extra info slot."""
    count = draw(st.integers(1, 4) | st.integers(1, XEN_NETIF_NR_SLOTS_MIN + 1))
    longest = 0xFFFF // count
    sizes = [draw(st.integers(1, min(PAGE_SIZE, longest))) for _ in range(count)]
    sizes[0] = max(sizes[0], _SHORTEST)
    offsets = [draw(st.integers(0, PAGE_SIZE - size) | st.just(0)) for size in sizes]
    with_extra = gso and draw(st.booleans())
    size = sum(sizes)
    slots = []
    for number in range(count):
        flags = NETTXF_more_data if number < count - 1 else 0
        if with_extra and not number:
            flags |= NETTXF_extra_info | NETTXF_csum_blank | NETTXF_data_validated
        gref, ident = draw(st.sampled_from([*grefs])), draw(st.integers(0, 0xFFFF))
        of_slot = sizes[number] if number else size
        slots.append(TX_REQUEST.pack(gref, offsets[number], flags, ident, of_slot))
        if with_extra and not number:
            kind = draw(st.sampled_from([XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6]))
            segment = draw(st.integers(1, 1448))
            slots.append(EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, segment, kind, 0, 0))
    return TxPacket(tuple(slots), size)


# -- ring pages ------------------------------------------------------------------------------------


@frozen
class RingPage:
    """A page with a transmit ring: its 4096 ``raw`` bytes, the index ``start`` at which a backend
    goes on (rsp_prod), and the ``packets`` from there on, where all of them are well-formed."""

    raw: bytes
    start: int
    packets: tuple[TxPacket, ...] = ()


@st.composite
def ring_pages(draw: st.DrawFn, grefs: Sequence[int] = GREFS) -> RingPage:
    """Pages with up to 6 :func:`packets`, from any start index."""
    start = draw(start_indices())
    chosen = draw(st.lists(packets(grefs), max_size=6))  # 20 slots each at most
    slots = [raw for packet in chosen for raw in packet.slots]
    return RingPage(tx_ring_page(slots, start), start, tuple(chosen))


def _with_extra(grefs: Sequence[int]) -> st.SearchStrategy[bytes]:
    """A good request that announces an extra info slot."""
    flags = st.sampled_from([NETTXF_extra_info, NETTXF_extra_info | NETTXF_csum_blank])
    zero, ident, size = st.just(0), st.integers(0, 255), st.sampled_from([60, 1514])
    return st.builds(TX_REQUEST.pack, st.sampled_from([*grefs]), zero, flags, ident, size)


@st.composite
def odd_pages(draw: st.DrawFn, grefs: Sequence[int] = GREFS) -> RingPage:
    """Pages with a sane header and :func:`odd_slots`, :func:`packets` between them."""
    start = draw(start_indices())
    groups = st.lists(
        st.one_of(
            odd_slots(grefs).map(lambda raw: (raw,)),
            st.tuples(_with_extra(grefs), odd_extras()),
            packets(grefs).map(lambda packet: packet.slots),
        ),
        max_size=12,
    )
    slots = [raw for group in draw(groups) for raw in group][:NETIF_TX_RING_SIZE]
    return RingPage(tx_ring_page(slots, start), start)


@st.composite
def damaged_pages(draw: st.DrawFn, pages: st.SearchStrategy[RingPage] | None = None) -> RingPage:
    """``pages`` (None: :func:`ring_pages`) with a few of their 32-bit words changed: in the header,
    in a slot, anywhere; to a number near what it was, to the edge of a range, to anything."""
    page: RingPage = draw(ring_pages() if pages is None else pages)
    raw = bytearray(page.raw)
    words = memoryview(raw).cast("I")
    used = 16 + 3 * 20  # the header, and the slots that most pages have
    places = st.integers(0, 3) | st.integers(16, used) | st.integers(0, len(words) - 1)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(places)
        was = words[at]
        near = [(was + by) & MASK32 for by in (-2, -1, 1, 2)]
        bits = [was ^ 1 << bit for bit in range(32)]
        edges = [0, 1, 0xFFFF, 0x10000, 1 << 31, MASK32]
        words[at] = draw(st.sampled_from(near + edges + bits) | st.integers(0, MASK32))
    words.release()
    return RingPage(bytes(raw), page.start)


# -- nodes -----------------------------------------------------------------------------------------


def _changes(features: Mapping[str, NodeValue]) -> st.SearchStrategy[dict[str, NodeValue | None]]:
    value: st.SearchStrategy[NodeValue | None] = st.one_of(
        st.integers(0, 1), st.none(), st.sampled_from(GARBAGE), st.integers(0, MASK32)
    )
    return st.dictionaries(st.sampled_from([*features]), value, max_size=4)


def frontend_features() -> st.SearchStrategy[dict[str, NodeValue | None]]:
    """Changes of what a frontend publishes, for RawFrontend.publish: other values, garbage, None
    for a node that is not there."""
    return _changes(raw_frontend.FEATURES)


def backend_features() -> st.SearchStrategy[dict[str, NodeValue | None]]:
    """The same of what a backend announces, for RawBackend.announce."""
    return _changes(raw_backend.FEATURES)


# -- lives -----------------------------------------------------------------------------------------


def _plans(
    life: Mapping[str, Step[P]], moves: Mapping[str, Move[P]], most: int
) -> st.SearchStrategy[list[Planned[P]]]:
    values = st.none() | st.integers(0, 20) | st.integers(0, MASK32)
    planned = st.builds(
        Planned[P], st.sampled_from([*life]), st.sampled_from([*moves.values()]), values
    )
    return st.lists(planned, max_size=most)


def frontend_plans(most: int = 8) -> st.SearchStrategy[list[Planned[RawFrontend]]]:
    """Moves of a frontend, ``most`` of them, in front of any steps of its life, for
    xennet.testing.live."""
    return _plans(FRONTEND_LIFE, FRONTEND_MOVES, most)


def backend_plans(most: int = 8) -> st.SearchStrategy[list[Planned[RawBackend]]]:
    """The same of a backend."""
    return _plans(BACKEND_LIFE, BACKEND_MOVES, most)


def walks(life: Mapping[str, Step[P]], most: int = 12) -> st.SearchStrategy[list[str]]:
    """Steps of a life in any order, for xennet.testing.live: its own beginning, as far as it goes,
    then up to ``most`` others."""
    names = [*life]
    begun = st.integers(0, len(names)).map(lambda count: names[:count])
    return st.builds(list.__add__, begun, st.lists(st.sampled_from(names), max_size=most))
