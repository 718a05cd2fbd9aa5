"""Moves of a hand-driven frontend against a backend: the rules F of docs/hardening.md."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from xennet.abi.netif import (
    EXTRA_MCAST,
    RX_REQUEST,
    TX_REQUEST,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.abi.xenbus import XenbusState
from xennet.testing.moves import Move, Step, into
from xennet.testing.raw_frontend import RawFrontend
from xennet.testing.raw_peer import SHARED_INDICES
from xennet.xenstore.errors import XsError

FRONTEND_MOVES: dict[str, Move[RawFrontend]] = {}
frontend_move = partial(into, FRONTEND_MOVES)

_FRAME = bytes(range(14)) + bytes(46)
#: Values of nodes that a backend may stumble over.
GARBAGE = (b"", b"x", b"-1", b"4294967296", b"0x8", b" 8", b"\x00\xff\x1b[2J", b"9" * 1000)


# -- indices ---------------------------------------------------------------------------------------


def _jump(front: RawFrontend, ring: str, ahead: int) -> None:
    base = front.index("rsp_prod", ring=ring)
    front.set_index("req_prod", base + ahead, ring=ring)
    front.notify(ring)


@frontend_move("ring.request-overflow", "F1", 257)
def tx_req_prod_jump(front: RawFrontend, value: int) -> None:
    """req_prod of the transmit ring ``value`` requests ahead of rsp_prod."""
    _jump(front, "tx", value)


@frontend_move("ring.request-overflow", "F1", 1)
def tx_req_prod_back(front: RawFrontend, value: int) -> None:
    """req_prod of the transmit ring ``value`` before where it is."""
    front.set_index("req_prod", front.index("req_prod") - value)
    front.notify("tx")


@frontend_move("ring.request-overflow", "F1", 257)
def rx_req_prod_jump(front: RawFrontend, value: int) -> None:
    """req_prod of the receive ring ``value`` requests ahead of rsp_prod, and a packet for the echo,
    for which the backend looks."""
    _jump(front, "rx", value)
    front.tx(60)
    front.push_tx()


@frontend_move("ring.request-overflow", "F1", 257)
def rx_req_prod_back(front: RawFrontend, value: int) -> None:
    """req_prod of the receive ring ``value`` before where it is, and a packet for the echo."""
    front.set_index("req_prod", front.index("req_prod", ring="rx") - value, ring="rx")
    front.notify("rx")
    front.tx(60)
    front.push_tx()


@frontend_move("ring.request-overflow", "F1", 129)
def ctrl_req_prod_jump(front: RawFrontend, value: int) -> None:
    """req_prod of the control ring ``value`` requests ahead of rsp_prod."""
    _jump(front, "ctrl", value)


@frontend_move("ring.event-fields", "F20", 5)
def events_out_of_reach(front: RawFrontend, value: int) -> None:
    """rsp_event of the transmit ring ``value`` behind rsp_prod: no event is asked for."""
    front.set_index("rsp_event", front.index("rsp_prod") - value)


@frontend_move("ring.responses-published", "F14", 7)
def indices_of_the_backend(front: RawFrontend, value: int) -> None:
    """One of the four shared indices of the transmit ring set to ``value``, the backend's own among
    them, which it keeps for itself."""
    front.set_index(SHARED_INDICES[value % 4], value)


# -- packets ---------------------------------------------------------------------------------------


@frontend_move("netif.tx.chain-ends", "F2", 1)
def more_data_last(front: RawFrontend, value: int) -> None:
    """``value`` requests (up to 8), the last of which says that another one follows."""
    for _ in range(max(1, value % 9)):
        front.tx(60, NETTXF_more_data)
    front.push_tx()


@frontend_move("netif.tx.slots-max", "F3", 21)
def too_many_slots(front: RawFrontend, value: int) -> None:
    """A packet of ``value`` slots (up to 255) beside the first."""
    more = value % 256
    front.tx(100 + more, NETTXF_more_data if more else 0)
    for number in range(more):
        front.tx(1, NETTXF_more_data if number < more - 1 else 0)
    front.push_tx()


@frontend_move("netif.tx.sizes-add-up", "F4", 200)
def slot_beyond_rest(front: RawFrontend, value: int) -> None:
    """A packet of 100 bytes whose second slot has ``value`` (mod 4096)."""
    front.tx(100, NETTXF_more_data)
    front.tx(value % PAGE_SIZE)
    front.push_tx()


@frontend_move("netif.tx.slot-in-page", "F5", 200)
def slot_beyond_page(front: RawFrontend, value: int) -> None:
    """``value`` bytes (mod 65536) from offset 4000 of a page."""
    front.tx(value & 0xFFFF, offset=4000)
    front.push_tx()


@frontend_move("netif.tx.short-packet", "F6", 13)
def short_packet(front: RawFrontend, value: int) -> None:
    """A packet of ``value`` bytes (mod 14): no Ethernet header."""
    front.tx(value % 14)
    front.push_tx()


@frontend_move("netif.tx.empty-slot", "F7", 3)
def empty_slots(front: RawFrontend, value: int) -> None:
    """``value`` slots (up to 15) of no bytes behind the first, whose references are none."""
    more = value % 16
    front.tx(60, NETTXF_more_data if more else 0)
    for number in range(more):
        front.tx(0, NETTXF_more_data if number < more - 1 else 0, gref=0xFFFFFFF0 + number)
    front.push_tx()


@frontend_move("netif.tx.extra-missing", "F8")
def extra_missing(front: RawFrontend, value: int) -> None:
    """A packet that announces an extra info slot, and none behind it."""
    front.tx(60, NETTXF_extra_info)
    front.push_tx()


@frontend_move("netif.tx.extra-type", "F9", 0)
def extra_type(front: RawFrontend, value: int) -> None:
    """An extra info slot of type ``value`` (mod 256)."""
    front.tx(60, NETTXF_extra_info)
    front.extra(value & 0xFF)
    front.push_tx()


@frontend_move("netif.tx.extra-more", "F8", 40)
def extras_without_end(front: RawFrontend, value: int) -> None:
    """``value`` extra info slots (up to 255), each of which announces another."""
    front.tx(60, NETTXF_extra_info)
    for _ in range(value % 256):
        front.extra(XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_FLAG_MORE, 1000, 1)
    front.push_tx()


@frontend_move("netif.tx.gso-size", "F10", 1)
def gso_empty(front: RawFrontend, value: int) -> None:
    """GSO of type ``value`` (mod 256) with segments of no bytes."""
    front.tx(60, NETTXF_csum_blank | NETTXF_extra_info)
    front.extra(size=0, gso=value & 0xFF)
    front.push_tx()


@frontend_move("netif.tx.gso-type", "F10", 3)
def gso_type(front: RawFrontend, value: int) -> None:
    """GSO of type ``value`` (mod 256) with segments of 1000 bytes."""
    front.tx(60, NETTXF_csum_blank | NETTXF_extra_info)
    front.extra(size=1000, gso=value & 0xFF)
    front.push_tx()


@frontend_move("netif.tx.mcast-limit", "F11", 65)
def multicast_list_full(front: RawFrontend, value: int) -> None:
    """``value`` multicast addresses (up to 100) are added, each by a request with more_data."""
    for number in range(value % 101):
        front.tx(0, NETTXF_extra_info | NETTXF_more_data)
        address = bytes((1, 0, 0x5E, 0, 0, number))
        front.slot(EXTRA_MCAST.pack(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, address))
    front.push_tx()


@frontend_move("netif.tx.extra-more", "F12", 2)
def extra_twice(front: RawFrontend, value: int) -> None:
    """``value`` extra info slots (up to 8) of one type."""
    count = max(1, value % 9)
    front.tx(60, NETTXF_csum_blank | NETTXF_extra_info)
    for number in range(count):
        more = XEN_NETIF_EXTRA_FLAG_MORE if number < count - 1 else 0
        front.extra(XEN_NETIF_EXTRA_TYPE_GSO, more, 1000, XEN_NETIF_GSO_TYPE_TCPV4)
    front.push_tx()


@frontend_move("netif.tx.slots-min", "F15", 18)
def tiny_slots(front: RawFrontend, value: int) -> None:
    """A packet in ``value`` slots (up to 18) of one byte behind a first one of 14."""
    more = value % 19
    front.tx(14 + more, NETTXF_more_data if more else 0)
    for number in range(more):
        front.tx(1, NETTXF_more_data if number < more - 1 else 0, offset=number)
    front.push_tx()


@frontend_move("netif.tx.csum-blank", "F16", 1000)
def gso_without_blank(front: RawFrontend, value: int) -> None:
    """GSO with segments of ``value`` bytes (mod 65536) and a checksum that is not blank."""
    front.tx(200, NETTXF_data_validated | NETTXF_extra_info)
    front.extra(size=value & 0xFFFF, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    front.push_tx()


@frontend_move("netif.tx.csum-headers", "F17", 60)
def blank_on_garbage(front: RawFrontend, value: int) -> None:
    """A blank checksum on ``value`` bytes (mod 4096) that are no IP packet."""
    front.tx(value % PAGE_SIZE, NETTXF_csum_blank)
    front.push_tx()


@frontend_move("ring.request-overflow", "F1", 300)
def ring_overrun(front: RawFrontend, value: int) -> None:
    """``value`` good requests (up to 600) in a ring of 256, whatever is answered."""
    for _ in range(value % 601):
        front.tx(60)
    front.push_tx()


# -- grants ----------------------------------------------------------------------------------------


@frontend_move("grant.bad-reference", "F13", 40000)
def grant_never_made(front: RawFrontend, value: int) -> None:
    """A request and a receive buffer name reference ``value``, which grants nothing."""
    front.tx(60, gref=value)
    front.push_tx()
    front.post_rx(gref=value)
    front.push_rx()


@frontend_move("grant.revoked", "F13", 1)
def grant_ended(front: RawFrontend, value: int) -> None:
    """A packet of ``value`` pages (up to 8) is published, then their grants end before the event
    is."""
    pages = [front.page(_FRAME) for _ in range(max(1, value % 9))]
    grefs = [page.gref for page in pages]
    for number, gref in enumerate(grefs):
        size = 60 * len(grefs) if not number else 60
        front.tx(size, NETTXF_more_data if number < len(grefs) - 1 else 0, gref=gref)
    front.set_index("req_prod", front.index("req_prod_pvt"))
    for page in pages:
        front.end(page)
    front.notify("tx")


@frontend_move("grant.readonly", "F13", 1)
def buffer_read_only(front: RawFrontend, value: int) -> None:
    """``value`` receive buffers (up to 8) that may only be read, and a packet for the echo."""
    for _ in range(max(1, value % 9)):
        page = front.page(readonly=True)
        front.slot(RX_REQUEST.pack(0, 0, page.gref), ring="rx")
    front.push_rx()
    front.tx(60)
    front.push_tx()


@frontend_move("grant.same-page", "F13", 3)
def one_page_many_times(front: RawFrontend, value: int) -> None:
    """``value`` receive buffers (up to 64) that are one page, and a packet for the echo."""
    page = front.page()
    front.post_rx(value % 65, gref=page.gref)
    front.push_rx()
    front.tx(2000)
    front.push_tx()


# -- what is read twice ----------------------------------------------------------------------------


@frontend_move("ring.copy-once", "F14", 0xFFFFFFFF)
def slot_rewritten(front: RawFrontend, value: int) -> None:
    """All words of the last published request are ``value``, whether or not it has been read; with
    at_point this is a double fetch (XSA-155)."""
    raw = value.to_bytes(4, "little") * 3
    front.write_slot(front.index("req_prod") - 1, raw)


@frontend_move("ring.copy-once", "F14", 200)
def packet_rewritten(front: RawFrontend, value: int) -> None:
    """A good request is published without an event, then made one of ``value`` bytes (mod 65536)
    from offset 4000, then the event is sent."""
    front.tx(60)
    front.set_index("req_prod", front.index("req_prod_pvt"))
    front.write_slot(
        front.index("req_prod") - 1, TX_REQUEST.pack(front.gref, 4000, 0, 1, value & 0xFFFF)
    )
    front.notify("tx")


# -- stalls and events -----------------------------------------------------------------------------


@frontend_move("netif.rx.no-buffers", "F18", 20)
def no_buffers(front: RawFrontend, value: int) -> None:
    """``value`` packets (up to 200) for the echo behind the backend, and no buffer for any that
    comes back."""
    for _ in range(value % 201):
        front.tx(60)
    front.push_tx()


@frontend_move("event.storm", "F19", 50)
def events_without_work(front: RawFrontend, value: int) -> None:
    """``value`` events (up to 200) on each channel, with nothing new on the rings."""
    for _ in range(value % 201):
        for ring in ("tx", "rx"):
            front.notify(ring)


@frontend_move("event.check-again", "F28", 1)
def work_without_event(front: RawFrontend, value: int) -> None:
    """``value`` good requests (up to 8) are published, and the event that is asked for is not
    sent."""
    for _ in range(max(1, value % 9)):
        front.tx(60)
    front.set_index("req_prod", front.index("req_prod_pvt"))


@frontend_move("event.closed", "F28")
def channels_closed(front: RawFrontend, value: int) -> None:
    """All event channels are closed while the backend is bound to them."""
    front.close_ports()


@frontend_move("ring.response-hold-off", "", 3)
def responses_left(front: RawFrontend, value: int) -> None:
    """``value`` good requests (up to 256) whose responses nobody takes."""
    for _ in range(value % 257):
        front.tx(60)
    front.push_tx()
    front.set_index("rsp_event", front.index("rsp_prod") - 1)


# -- keys and rings before the connection ----------------------------------------------------------


@frontend_move("xenbus.backend.ring-key-missing", "F21", 0)
def keys_missing(front: RawFrontend, value: int) -> None:
    """One of the keys, picked by ``value``, is not there at the next connection."""
    front.changes[list(front.keys())[value % len(front.keys())]] = None


@frontend_move("xenbus.backend.ring-key-garbage", "F21", 0)
def keys_garbage(front: RawFrontend, value: int) -> None:
    """One of the keys is garbage at the next connection: ``value`` picks both."""
    keys = list(front.keys())
    front.changes[keys[value % len(keys)]] = GARBAGE[value // len(keys) % len(GARBAGE)]


@frontend_move("xenbus.backend.same-page-twice", "F21", 0)
def rings_the_same(front: RawFrontend, value: int) -> None:
    """Both rings are one page at the next connection."""
    front.changes["rx-ring-ref"] = front.queues[0].tx_ref


@frontend_move("event.bad-port", "F21", 0)
def keys_of_others(front: RawFrontend, value: int) -> None:
    """References and ports that are not there, or not for the backend, at the next connection:
    ``value``, and a page that only the frontend has."""
    front.changes["tx-ring-ref"] = front.gref
    front.changes["event-channel"] = value


@frontend_move("xenbus.backend.number-of-queues", "F23", 0)
def queue_count(front: RawFrontend, value: int) -> None:
    """``value`` queues at the next connection, with the keys of one."""
    front.changes["multi-queue-num-queues"] = value


@frontend_move("ring.attach-overflow", "F22", 257)
def rings_overfull(front: RawFrontend, value: int) -> None:
    """Rings in which more than fits has been requested (``value`` by the transmit ring) when the
    backend attaches."""
    front.set_index("req_prod", front.index("rsp_prod") + value)


@frontend_move("ring.attach-in-chain", "F22", 1)
def rings_inside_a_packet(front: RawFrontend, value: int) -> None:
    """rsp_prod stands behind the first slot of a packet of ``value`` slots (up to 17) and one, as
    Linux leaves it under TCP, when the backend attaches (field bug 22)."""
    more = max(1, value % 18)
    front.tx(100 + 60 * more, NETTXF_more_data)
    for number in range(more):
        front.tx(60, NETTXF_more_data if number < more - 1 else 0)
    front.set_index("req_prod", front.index("req_prod_pvt"))
    front.set_index("rsp_prod", front.index("rsp_prod") + 1)
    front.set_index("rsp_cons", front.index("rsp_prod"))


# -- the control ring ------------------------------------------------------------------------------


@frontend_move("netif.ctrl.unknown-type", "F24", 0)
def ctrl_type(front: RawFrontend, value: int) -> None:
    """A control request of type ``value`` (mod 65536)."""
    front.ctrl(value & 0xFFFF, 1, 2, 3)
    front.push_ctrl()


@frontend_move("netif.ctrl.hash-key", "F24", 40000)
def ctrl_gref(front: RawFrontend, value: int) -> None:
    """The hash key and the mapping table are to be read from reference ``value``, which grants
    nothing."""
    front.ctrl(XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, value, 40)
    front.ctrl(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, value, 8, 0)
    front.push_ctrl()


@frontend_move("netif.ctrl.mapping", "F24", 0xFFFFFFFF)
def ctrl_wrap(front: RawFrontend, value: int) -> None:
    """Mapping entries from index ``value`` on, which with their number goes round 2^32
    (XSA-270)."""
    front.ctrl(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, 8)
    front.ctrl(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, front.gref, 8, value)
    front.push_ctrl()


# -- the store -------------------------------------------------------------------------------------


@frontend_move("xenbus.backend.every-transition", "F25", 5)
def state_jump(front: RawFrontend, value: int) -> None:
    """The state is ``value`` (mod 16), at once."""
    front.set_state(value % 16)


@frontend_move("xenbus.end.unknown-state", "F25", 0)
def state_garbage(front: RawFrontend, value: int) -> None:
    """The state is no number."""
    front.write("state", GARBAGE[value % len(GARBAGE)])


@frontend_move("xenbus.backend.every-transition", "F25", 4)
def state_flicker(front: RawFrontend, value: int) -> None:
    """Connected, Closing and Connected ``value`` times (up to 8), without waiting."""
    for _ in range(value % 9):
        for state in (XenbusState.Connected, XenbusState.Closing, XenbusState.Connected):
            front.set_state(state)


@frontend_move("xenbus.backend.identity-from-own-directory", "F26", 6)
def strings(front: RawFrontend, value: int) -> None:
    """Identity and limits that are the toolstack's to say, in the frontend's directory, as garbage
    that ``value`` picks."""
    for name in ("mac", "rate", "handle", "bridge", "script"):
        front.write(name, GARBAGE[value % len(GARBAGE)])


@frontend_move("xenbus.backend.frontend-vanishes", "F27")
def directory_removed(front: RawFrontend, value: int) -> None:
    """The frontend's directory is removed."""
    front.remove()


@frontend_move("xs-wire.enoent-is-an-answer", "F27", 0)
def node_removed(front: RawFrontend, value: int) -> None:
    """One node of the frontend's directory, picked by ``value``, is removed."""
    names = sorted({*front.keys(), "state", "backend", "backend-id"})
    front.remove(names[value % len(names)])


@frontend_move("xs-wire.many-nodes", "F26", 2000)
def quota_full(front: RawFrontend, value: int) -> None:
    """Up to ``value`` (mod 5000) nodes in the own directory, as many as the store takes."""
    with suppress(XsError):
        for number in range(value % 5000):
            front.write(f"full/{number}", 1)


# -- a normal life ---------------------------------------------------------------------------------


def _post(front: RawFrontend) -> None:
    front.post_rx(8)
    front.push_rx()


def _send(front: RawFrontend) -> None:
    front.send(_FRAME)
    front.send(_FRAME.ljust(9000, b"x"))
    front.push_tx()


def _take(front: RawFrontend) -> None:
    front.responses()
    front.packets()
    front.ctrl_responses()


#: A frontend from the look at the backend's features to the end, in named steps.
FRONTEND_LIFE: dict[str, Step[RawFrontend]] = {
    "look": RawFrontend.features,
    "allocate": partial(RawFrontend.allocate, ctrl=True),
    "publish": RawFrontend.publish,
    "connect": lambda front: front.set_state(XenbusState.Connected),
    "post": _post,
    "send": _send,
    "take": _take,
    "post again": _post,
    "send again": _send,
    "take again": _take,
    "closing": lambda front: front.set_state(XenbusState.Closing),
    "closed": lambda front: front.set_state(XenbusState.Closed),
    "release": RawFrontend.release,
}
