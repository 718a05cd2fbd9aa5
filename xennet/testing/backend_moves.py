"""Moves of a hand-driven backend against a frontend: the rules B of docs/hardening.md."""

from __future__ import annotations

from functools import partial

from xennet.abi.netif import (
    EXTRA_XDP,
    NETIF_RSP_DROPPED,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    RX_RESPONSE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_XDP,
    NETRXF_csum_blank,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.abi.xenbus import XenbusState
from xennet.testing.frontend_moves import GARBAGE
from xennet.testing.moves import Move, Step, into
from xennet.testing.raw_backend import FEATURES, RawBackend
from xennet.testing.raw_peer import SHARED_INDICES

BACKEND_MOVES: dict[str, Move[RawBackend]] = {}
backend_move = partial(into, BACKEND_MOVES)

_FRAME = bytes(range(14)) + bytes(46)


# -- indices ---------------------------------------------------------------------------------------


def _jump(back: RawBackend, ring: str, ahead: int) -> None:
    back.set_index("rsp_prod", back.index("req_prod", ring=ring) + ahead, ring=ring)
    back.notify(ring)


@backend_move("ring.front.rsp-prod-overflow", "B1", 1)
def tx_rsp_prod_jump(back: RawBackend, value: int) -> None:
    """rsp_prod of the transmit ring ``value`` beyond all that was requested."""
    _jump(back, "tx", value)


@backend_move("ring.front.rsp-prod-overflow", "B1", 1)
def rx_rsp_prod_jump(back: RawBackend, value: int) -> None:
    """rsp_prod of the receive ring ``value`` beyond all that was requested."""
    _jump(back, "rx", value)


@backend_move("ring.front.rsp-prod-backwards", "B1", 1)
def tx_rsp_prod_back(back: RawBackend, value: int) -> None:
    """rsp_prod of the transmit ring ``value`` before where it is."""
    back.set_index("rsp_prod", back.index("rsp_prod") - value)
    back.notify("tx")


@backend_move("ring.front.rsp-prod-backwards", "B2", 1)
def rx_rsp_prod_back(back: RawBackend, value: int) -> None:
    """rsp_prod of the receive ring ``value`` before where it is."""
    back.set_index("rsp_prod", back.index("rsp_prod", ring="rx") - value, ring="rx")
    back.notify("rx")


@backend_move("ring.front.no-notify-unasked", "", 5)
def events_out_of_reach(back: RawBackend, value: int) -> None:
    """req_event of both rings ``value`` behind req_prod: no event is asked for."""
    for ring in ("tx", "rx"):
        back.set_index("req_event", back.index("req_prod", ring=ring) - value, ring=ring)


@backend_move("ring.front.req-prod-moves-forward", "", 7)
def indices_of_the_frontend(back: RawBackend, value: int) -> None:
    """One of the four shared indices of the receive ring set to ``value``, the frontend's own among
    them, which it keeps for itself."""
    back.set_index(SHARED_INDICES[value % 4], value, ring="rx")


# -- transmit responses ----------------------------------------------------------------------------


@backend_move("ring.front.response-id", "B3", 256)
def id_out_of_range(back: RawBackend, value: int) -> None:
    """A response for id ``value`` (of 256..65535)."""
    back.answer(max(256, value & 0xFFFF))
    back.push_tx()


@backend_move("ring.front.response-pending", "B4", 100)
def id_forged(back: RawBackend, value: int) -> None:
    """A response for id ``value`` (mod 256), whether or not it is pending."""
    back.answer(value & 0xFF)
    back.push_tx()


@backend_move("ring.front.response-pending", "B4", 2)
def id_repeated(back: RawBackend, value: int) -> None:
    """``value`` responses (2 to 9) for the first new request, in place of those of others."""
    request = back.requests()[0]
    for _ in range(2 + (value - 2) % 8):
        back.answer(request.id)
    back.push_tx()


@backend_move("netif.front.tx.answered-slots-return", "", 0)
def responses_withheld(back: RawBackend, value: int) -> None:
    """The new requests are taken, and not answered before the move "responses-late"."""
    taken = back.requests()
    if not taken:
        raise LookupError("there are no new requests")
    back.withheld += taken


@backend_move("ring.front.response-pending", "B4", 0)
def responses_late(back: RawBackend, value: int) -> None:
    """The requests that were withheld are answered, the last one first, also where another
    connection has begun since."""
    if not back.withheld:
        raise LookupError("no request has been withheld")
    back.ring("tx")
    while back.withheld:
        back.answer(back.withheld.pop().id)
    back.push_tx()


@backend_move("grant.front.in-use-is-kept", "B5", 0)
def response_while_mapped(back: RawBackend, value: int) -> None:
    """A response for a request whose page the backend has mapped, and keeps until it detaches
    (XSA-396)."""
    request = back.requests()[0]
    back.held.append(back.hold(request.gref, readonly=True))
    back.answer(request.id)
    back.push_tx()


@backend_move("grant.front.in-use-is-kept", "B5", 0)
def buffer_kept_mapped(back: RawBackend, value: int) -> None:
    """A packet in a buffer that the backend has mapped, and keeps until it detaches."""
    back.held.append(back.hold(back.buffer().gref))
    back.rx(_FRAME)
    back.push_rx()


@backend_move("netif.front.tx.error-response", "B6", 0)
def tx_refused(back: RawBackend, value: int) -> None:
    """All new requests are answered ERROR, or DROPPED where ``value`` is odd."""
    for request in back.requests():
        back.answer(request.id, NETIF_RSP_DROPPED if value & 1 else NETIF_RSP_ERROR)
    back.push_tx()


@backend_move("netif.front.tx.answered-slots-return", "B6", 0)
def pages_never_mapped(back: RawBackend, value: int) -> None:
    """All new requests are answered OKAY, and no page of theirs was ever read."""
    for request in back.requests():
        back.answer(request.id)
    back.push_tx()


@backend_move("netif.front.tx.null-response", "B7", 0)
def null_for_data(back: RawBackend, value: int) -> None:
    """All new requests are answered NULL."""
    for request in back.requests():
        back.answer(request.id, NETIF_RSP_NULL)
    back.push_tx()


@backend_move("netif.front.tx.error-response", "", 77)
def tx_status(back: RawBackend, value: int) -> None:
    """A new request is answered with a status that there is none of, ``value`` (mod 32768)."""
    back.answer(back.requests()[0].id, max(2, value & 0x7FFF))
    back.push_tx()


# -- receive responses -----------------------------------------------------------------------------


@backend_move("netif.front.rx.negative-status", "B8", 1)
def rx_status_negative(back: RawBackend, value: int) -> None:
    """A packet whose status is minus ``value`` (mod 32768)."""
    back.rx(_FRAME, status=-(value & 0x7FFF))
    back.push_rx()


@backend_move("netif.front.rx.in-page", "B8", 97)
def rx_beyond_page(back: RawBackend, value: int) -> None:
    """``value`` bytes (mod 32768) from offset 4000 of a buffer."""
    back.rx(offset=4000, status=value & 0x7FFF)
    back.push_rx()


@backend_move("netif.front.rx.same-slot", "B9", 999)
def rx_id(back: RawBackend, value: int) -> None:
    """A good packet whose response has id ``value`` (mod 65536)."""
    back.fill(back.buffer().gref, _FRAME)
    back.raw_rx(RX_RESPONSE.pack(value & 0xFFFF, 0, 0, 60))
    back.push_rx()


@backend_move("netif.front.rx.missing-slots", "B10", 1)
def rx_more_data_last(back: RawBackend, value: int) -> None:
    """``value`` slots (up to 8), the last of which says that another one follows."""
    for _ in range(max(1, value % 9)):
        back.rx(_FRAME, NETRXF_more_data)
    back.push_rx()


@backend_move("netif.front.rx.too-many-slots", "B11", 19)
def rx_too_many_slots(back: RawBackend, value: int) -> None:
    """A packet of ``value`` slots (up to 255) beside the first, of 300 bytes each."""
    more = value % 256
    for number in range(more + 1):
        back.rx(bytes(300), NETRXF_more_data if number < more else 0)
    back.push_rx()


@backend_move("netif.front.rx.missing-extra", "B12")
def rx_extra_missing(back: RawBackend, value: int) -> None:
    """A packet that announces an extra info slot, and none behind it."""
    back.rx(_FRAME, NETRXF_extra_info)
    back.push_rx()


@backend_move("netif.front.rx.extra-type", "B12", 0)
def rx_extra_type(back: RawBackend, value: int) -> None:
    """An extra info slot of type ``value`` (mod 256)."""
    back.rx(_FRAME, NETRXF_extra_info)
    back.extra(value & 0xFF)
    back.push_rx()


@backend_move("netif.front.rx.missing-extra", "B12", 20)
def rx_extras_without_end(back: RawBackend, value: int) -> None:
    """``value`` extra info slots (up to 255), each of which announces another."""
    back.rx(_FRAME, NETRXF_extra_info)
    for _ in range(value % 256):
        back.extra(XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_FLAG_MORE, 1000, 1)
    back.push_rx()


@backend_move("netif.front.rx.gso-fields", "B13", 0)
def rx_gso(back: RawBackend, value: int) -> None:
    """GSO whose segments have ``value`` bytes (mod 65536) and whose type is its upper half (mod
    256)."""
    back.rx(_FRAME, NETRXF_extra_info)
    back.extra(size=value & 0xFFFF, gso=value >> 16 & 0xFF)
    back.push_rx()


@backend_move("netif.front.rx.xdp-headroom", "B14", 4000)
def rx_headroom(back: RawBackend, value: int) -> None:
    """A packet that begins ``value`` bytes (mod 65536) into its page, by an XDP extra info slot."""
    back.rx(_FRAME, NETRXF_extra_info)
    back.raw_rx(EXTRA_XDP.pack(XEN_NETIF_EXTRA_TYPE_XDP, 0, value & 0xFFFF, 0, 0))
    back.push_rx()


@backend_move("netif.front.rx.sizes", "B20", 13)
def rx_short(back: RawBackend, value: int) -> None:
    """A packet of ``value`` bytes (mod 14): no Ethernet header."""
    back.rx(_FRAME[: value % 14])
    back.push_rx()


@backend_move("netif.front.rx.sizes", "B20", 17)
def rx_long(back: RawBackend, value: int) -> None:
    """A packet of ``value`` whole pages (up to 18), which with 16 is longer than any frame."""
    for number in range(count := max(1, value % 19)):
        back.rx(bytes(PAGE_SIZE), NETRXF_more_data if number < count - 1 else 0)
    back.push_rx()


@backend_move("netif.front.rx.headers", "B21", 60)
def rx_blank_on_garbage(back: RawBackend, value: int) -> None:
    """A blank checksum on ``value`` bytes (mod 4096) that are no IP packet."""
    back.rx(bytes(value % PAGE_SIZE), NETRXF_csum_blank)
    back.push_rx()


@backend_move("ring.front.rsp-prod-overflow", "B1", 300)
def rx_overrun(back: RawBackend, value: int) -> None:
    """``value`` responses (up to 600) for receive buffers, whether or not any are posted."""
    for _ in range(value % 601):
        back.raw_rx(RX_RESPONSE.pack(0, 0, 0, 60))
    back.push_rx()


# -- what is read twice ----------------------------------------------------------------------------


@backend_move("ring.front.copy-once", "B9", 0xFFFFFFFF)
def responses_rewritten(back: RawBackend, value: int) -> None:
    """All words of the last responses of both rings are ``value``, whether or not they have been
    read; with at_point this is a double fetch."""
    for ring, words in (("tx", 3), ("rx", 2)):
        back.write_slot(
            back.index("rsp_prod", ring=ring) - 1, value.to_bytes(4, "little") * words, ring=ring
        )


# -- stalls and events -----------------------------------------------------------------------------


@backend_move("event.front.storm", "B18", 50)
def events_without_work(back: RawBackend, value: int) -> None:
    """``value`` events (up to 200) on each channel, with nothing new on the rings."""
    for _ in range(value % 201):
        for ring in ("tx", "rx"):
            back.notify(ring)


@backend_move("event.front.work-without-event", "", 1)
def work_without_event(back: RawBackend, value: int) -> None:
    """``value`` good packets (up to 8) are published, and the event that is asked for is not
    sent."""
    for _ in range(max(1, value % 9)):
        back.rx(_FRAME)
    back.set_index("rsp_prod", back.index("rsp_prod_pvt", ring="rx"), ring="rx")


@backend_move("event.front.closed-port", "")
def channels_closed(back: RawBackend, value: int) -> None:
    """All event channels are closed while the frontend has theirs."""
    back.close_ports()


@backend_move("xenbus.frontend.frees-after-backend-closed", "B5")
def rings_unmapped(back: RawBackend, value: int) -> None:
    """Rings and channels are let go, and no state says so."""
    back.detach()


# -- the store -------------------------------------------------------------------------------------


@backend_move("xenbus.frontend.every-transition", "B15", 5)
def state_jump(back: RawBackend, value: int) -> None:
    """The state is ``value`` (mod 16), at once."""
    back.set_state(value % 16)


@backend_move("xenbus.end.unknown-state", "B15", 0)
def state_garbage(back: RawBackend, value: int) -> None:
    """The state is no number."""
    back.write("state", GARBAGE[value % len(GARBAGE)])


@backend_move("xenbus.frontend.every-transition", "B15", 4)
def state_flicker(back: RawBackend, value: int) -> None:
    """Connected, Closing and Connected ``value`` times (up to 8), without waiting."""
    for _ in range(value % 9):
        for state in (XenbusState.Connected, XenbusState.Closing, XenbusState.Connected):
            back.set_state(state)


@backend_move("xenbus.frontend.features-read-at-connect", "B16", 0)
def features_changed(back: RawBackend, value: int) -> None:
    """All features are ``value`` at once, whatever was said before."""
    for name in FEATURES:
        back.write(name, value)


@backend_move("xenbus.frontend.garbage-in-features", "B16", 0)
def features_garbage(back: RawBackend, value: int) -> None:
    """All features, the number of queues among them, are garbage that ``value`` picks."""
    for name in FEATURES:
        back.write(name, GARBAGE[value % len(GARBAGE)])


@backend_move("xenbus.frontend.every-transition", "B19")
def init_wait_never(back: RawBackend, value: int) -> None:
    """The state is Initialising again, and stays it."""
    back.set_state(XenbusState.Initialising)


@backend_move("xenbus.frontend.backend-vanishes", "B15")
def directory_removed(back: RawBackend, value: int) -> None:
    """The backend's directory is removed."""
    back.remove()


@backend_move("xs-wire.enoent-is-an-answer", "B15", 0)
def node_removed(back: RawBackend, value: int) -> None:
    """One node of the backend's directory, picked by ``value``, is removed."""
    names = sorted({*FEATURES, "state", "frontend", "frontend-id", "mac", "handle"})
    back.remove(names[value % len(names)])


# -- a normal life ---------------------------------------------------------------------------------


def _deliver(back: RawBackend) -> None:
    back.deliver(_FRAME)
    back.deliver(_FRAME.ljust(9000, b"x"))
    back.push_rx()


def _take(back: RawBackend) -> None:
    back.packets()
    for request in back.ctrl_requests():
        back.answer_ctrl(request.id, request.type)
    back.push_ctrl()


def _close(back: RawBackend) -> None:
    back.detach()
    back.set_state(XenbusState.Closed)


#: A backend from its features to the end, in named steps.
BACKEND_LIFE: dict[str, Step[RawBackend]] = {
    "announce": RawBackend.announce,
    "answer": RawBackend.answer_state,
    "attach": RawBackend.attach,
    "connect": lambda back: back.set_state(XenbusState.Connected),
    "deliver": _deliver,
    "take": _take,
    "deliver again": _deliver,
    "take again": _take,
    "closing": lambda back: back.set_state(XenbusState.Closing),
    "closed": _close,
}
