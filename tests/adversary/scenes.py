"""Rings in many states for a driver to work on, good and bad ones; a peer wrote each by hand.

A scene function makes one; its ring was published and announced, and nothing was done about it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from ip_frames import ipv4, tcp
from vif_peers import GUEST, RawBackend, RawFrontend

from xennet.abi.netif import (
    EXTRA_GSO,
    NETIF_RSP_DROPPED,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_XDP,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.frames import CSUM_BLANK
from xennet.netback.vif_config import C_HASH, C_HEADROOM
from xennet.testing.minimal_hypervisor import MinimalMachine

FRAME = bytes(range(60))
#: A TCP segment whose checksum field is free for a pseudo-header sum.
TCP = ipv4(tcp() + bytes(946))
BLANK = NETTXF_csum_blank | NETTXF_data_validated
MORE, EXTRA = NETTXF_more_data, NETTXF_extra_info


#: What a backend may say of its frontend before it gives it up, and the other way round.
FRONTEND_RULES = {"F1", "F2", "F3", "F5", "F8", "F9", "F10"}
BACKEND_RULES = {"B1", "B2", "B3", "B4", "B5", "B7"}


def held_by(machine: MinimalMachine, domid: int) -> list[str]:
    """What a domain holds."""
    hv = machine.domains[domid]
    lines = [f"frame {n:#x}" for n, frame in machine.frames.items() if frame.owner == domid]
    lines += [f"mapping of {mapping.gref}" for mapping in hv.mappings]
    return lines + [f"port {port}" for port in hv.ports]


def notify_backend(front: RawFrontend) -> None:
    """Publish both rings; the backend hears of it if it wants to."""
    for ring, port in ((front.tx_ring, front.port), (front.rx_ring, front.rx_port)):
        if ring.push_requests_and_check_notify():
            front.guest.notify(port)


def notify_frontend(back: RawBackend) -> None:
    """Publish both rings; the frontend hears of it if it wants to."""
    for ring, port in ((back.tx_ring, back.port), (back.rx_ring, back.rx_port)):
        if ring.push_responses_and_check_notify():
            back.host.notify(port)


def gref_of(slot: bytes) -> int:
    """The grant reference of a tx request."""
    return int.from_bytes(slot[:4], "little")


def ident_of(slot: bytes) -> int:
    """The id of a tx request."""
    return int.from_bytes(slot[8:10], "little")


# -- what a frontend sends -----------------------------------------------------------------------

Write = Callable[[Any], object]


def gso(front: RawFrontend, size: int = 400, kind: int = 1, *, flags: int = 0) -> None:
    front.slot(EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, flags, size, kind, 0, 0))


def _mixed(front: RawFrontend) -> None:
    """Every kind of good packet, and those that are answered ERROR."""
    front.tx(60, ident=1)
    front.tx(3000, MORE, ident=2, offset=1096)
    front.tx(700, MORE, ident=3, offset=3)
    front.tx(300, ident=4)
    front.tx(len(TCP), BLANK | EXTRA, ident=5)
    gso(front)
    front.tx(len(TCP), EXTRA | MORE, ident=6)  # F16
    gso(front, flags=XEN_NETIF_EXTRA_FLAG_MORE)
    front.slot(bytes([XEN_NETIF_EXTRA_TYPE_HASH, 0, 1, 1, 1, 2, 3, 4]))
    front.tx(100, ident=7)
    front.tx(0, EXTRA, ident=8)
    front.slot(bytes([XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, 1, 0, 94, 0, 0, 9]))  # F11
    front.tx(13, ident=9)  # F6
    front.tx(1000, MORE, ident=10)  # F4
    front.tx(1001, ident=11)
    front.tx(60, ident=12, gref=2000)  # F13
    front.tx(60, ident=13)


def _f3_error(front: RawFrontend) -> None:
    front.tx(19 * 10 + 60, MORE, ident=1)
    for i in range(19):
        front.tx(10, MORE if i < 18 else 0, ident=i + 2)
    front.tx(60, ident=30)


def _f3_fatal(front: RawFrontend) -> None:
    front.tx(60, ident=1)
    for i in range(23):
        front.tx(1000, MORE, ident=i + 2)


def _after_a_good_one(*slots: Callable[[RawFrontend], object]) -> Write:
    def write(front: RawFrontend) -> None:
        front.tx(60, ident=1)
        for slot in slots:
            slot(front)

    return write


#: By the rule that each is about.
GUEST_TX: dict[str, Write] = {
    "packets of every kind": _mixed,
    "F2": _after_a_good_one(lambda f: f.tx(1000, MORE, ident=2), lambda f: f.tx(90, MORE)),
    "F3 error": _f3_error,
    "F3 fatal": _f3_fatal,
    "F5 in the first slot": _after_a_good_one(lambda f: f.tx(60, offset=4090, ident=2)),
    "F5 in a later slot": _after_a_good_one(
        lambda f: f.tx(1000, MORE, ident=2), lambda f: f.tx(90, offset=4090, ident=3)
    ),
    "F8": _after_a_good_one(lambda f: f.tx(60, EXTRA, ident=2)),
    "F9": _after_a_good_one(lambda f: f.tx(60, EXTRA, ident=2), lambda f: f.extra(9)),
    "F10 size": _after_a_good_one(lambda f: f.tx(60, EXTRA, ident=2), lambda f: gso(f, 0)),
    "F10 type": _after_a_good_one(lambda f: f.tx(60, EXTRA, ident=2), lambda f: gso(f, 400, 3)),
}


def guest_tx(write: Write, start: int = 0) -> Callable[[], RawFrontend]:
    """A backend and requests that ``write`` put on the tx ring."""

    def scene() -> RawFrontend:
        front = RawFrontend(start=start)
        front.page.u8[: len(TCP)] = TCP
        front.machine.run()
        write(front)
        notify_backend(front)
        return front

    return scene


def _rx_mixed(front: RawFrontend) -> None:
    front.config[C_HASH] = 1
    front.stack.gso = (0, 0)
    front.stack.to_send += [FRAME, bytes(9000), TCP, bytes(range(200))]
    front.stack.flags = [0, 0, CSUM_BLANK, 0]
    for ident in (7, 900, 3, 65535, 0, 12):  # one buffer too few, but for the last refused
        front.post_rx(ident=ident)
    front.post_rx(ident=44, gref=1999)


def _rx_gso(front: RawFrontend) -> None:
    front.config[C_HEADROOM] = 64
    front.stack.gso = (400, 1)
    front.stack.to_send += [TCP, ipv4(tcp() + bytes(6000))]
    for ident in range(20, 30):
        front.post_rx(ident=ident)


GUEST_RX: dict[str, Write] = {"frames": _rx_mixed, "GSO and XDP headroom": _rx_gso}


def guest_rx(write: Write, start: int = 0, **features: Any) -> Callable[[], RawFrontend]:
    """A backend with frames for the guest, and buffers that ``write`` posted."""

    def scene() -> RawFrontend:
        front = RawFrontend(start=start, **features)
        front.machine.run()
        write(front)
        notify_backend(front)
        front.queue.kick()  # the host's frames
        return front

    return scene


# -- what a backend sends ------------------------------------------------------------------------


def requests(back: RawBackend, frames: list[bytes], meta: tuple[int, int] = (0, 0)) -> list[int]:
    """The frontend sends ``frames``; the ids of its requests that wait for an answer, in order,
    -1 for the slot of an extra info."""
    back.stack.gso = meta
    back.stack.to_send += frames
    back.queue.kick()  # the guest's frames
    back.machine.run()
    back.tx_ring.final_check_for_requests()
    idents, extra = [], False
    for raw in back.requests():
        idents.append(-1 if extra else ident_of(raw))
        extra = not extra and bool(raw[6] & EXTRA)
    return idents


def _answers(*statuses: int) -> Write:
    def write(back: RawBackend) -> None:
        for ident, status in zip(requests(back, [FRAME] * 8), statuses, strict=False):
            back.answer(ident, status)

    return write


def _answers_mixed(back: RawBackend) -> None:
    plain = requests(back, [FRAME, bytes(9000), FRAME])
    segmented = requests(back, [TCP, TCP], (400, 1))
    statuses = [0, NETIF_RSP_ERROR, NETIF_RSP_DROPPED]
    for i, ident in enumerate([*reversed(plain), *segmented]):
        back.answer(max(ident, 0), NETIF_RSP_NULL if ident < 0 else statuses[i % 3])  # B6


def _b3(back: RawBackend) -> None:
    back.answer(requests(back, [FRAME] * 3)[0])
    back.answer(256)


def _b4(back: RawBackend) -> None:
    ident = requests(back, [FRAME] * 3)[0]
    back.answer(ident)
    back.answer(ident)


def _b5(back: RawBackend) -> None:
    first, second, _ = requests(back, [FRAME] * 3)
    back.host.map_grant(GUEST, gref_of(back.tx_ring.sring.copy_slot(1)), readonly=True)
    back.answer(first)
    back.answer(second)


TX_RESPONSES: dict[str, Write] = {
    "answers of every kind": _answers_mixed,
    "B3": _b3,
    "B4": _b4,
    "B5": _b5,
    "B7": _answers(0, NETIF_RSP_NULL, 0),
}


def tx_responses(write: Write) -> Callable[[], RawBackend]:
    """A frontend and responses that ``write`` put on the tx ring."""

    def scene() -> RawBackend:
        back = RawBackend(split=True)
        back.machine.run()
        write(back)
        notify_frontend(back)
        return back

    return scene


def rx_extra(back: RawBackend, kind: int, size: int = 400, gso_type: int = 1) -> None:
    """``size`` is where GSO has its segment size and XDP its headroom."""
    back.raw_rx(EXTRA_GSO.pack(kind, 0, size, gso_type, 0, 0))


RX_MORE, RX_EXTRA = NETRXF_more_data, NETRXF_extra_info
RX_BLANK = NETRXF_csum_blank | NETRXF_data_validated


def _packets_mixed(back: RawBackend) -> None:
    """Every kind of good packet, and those that are dropped (B8 to B14)."""
    back.rx(FRAME)
    back.rx(bytes(4000), RX_MORE, offset=96)
    back.rx(bytes(range(100)))
    back.rx(TCP, RX_BLANK)
    back.rx(TCP, RX_BLANK | RX_EXTRA)
    rx_extra(back, XEN_NETIF_EXTRA_TYPE_GSO)
    back.rx(TCP, RX_EXTRA)  # repaired
    rx_extra(back, XEN_NETIF_EXTRA_TYPE_GSO)
    back.rx(bytes(64) + FRAME, RX_EXTRA | RX_MORE)
    rx_extra(back, XEN_NETIF_EXTRA_TYPE_XDP, 64)  # B14
    back.rx(bytes(64) + FRAME)
    back.rx(FRAME, NETRXF_gso_prefix | RX_MORE)  # B12
    back.rx(FRAME)
    back.rx(FRAME, status=-1)  # B8
    back.rx(offset=4090, status=60)  # B8
    back.rx(FRAME, RX_EXTRA)
    rx_extra(back, 9)  # B12
    back.rx(TCP, RX_EXTRA)
    rx_extra(back, XEN_NETIF_EXTRA_TYPE_GSO, 0)  # B13
    back.rx(FRAME)


def _rx_b11(back: RawBackend) -> None:
    for i in range(20):
        back.rx(bytes(300), RX_MORE if i < 19 else 0)
    back.rx(FRAME)


def _rx_b5(back: RawBackend) -> None:
    back.rx(FRAME)
    back.host.map_grant(1, back.buffer()[1])
    back.rx(FRAME)


RX_RESPONSES: dict[str, Write] = {
    "packets of every kind": _packets_mixed,
    "B5": _rx_b5,
    "B10": lambda back: (back.rx(FRAME), back.rx(FRAME, RX_MORE)),
    "B11": _rx_b11,
    "B12": lambda back: (back.rx(FRAME), back.rx(FRAME, RX_EXTRA)),
    "B20": lambda back: (back.rx(FRAME), back.rx(bytes(13)), back.rx(FRAME)),
}


def rx_responses(write: Write, **negotiated: Any) -> Callable[[], RawBackend]:
    """A frontend and responses that ``write`` put on the rx ring."""

    def scene() -> RawBackend:
        back = RawBackend(split=True, **negotiated)
        back.machine.run()
        write(back)
        notify_frontend(back)
        return back

    return scene


# -- anything ------------------------------------------------------------------------------------


def random_requests(front: RawFrontend, seed: int) -> None:
    """Requests with flags and sizes that are likely to make chains and extras, other slots any."""
    random = Random(seed)
    for _ in range(120):
        flags = random.choice((0, 0, 0, MORE, EXTRA, MORE | EXTRA, BLANK))
        size = random.choice((60, 100, 0, 5000))
        front.tx(size, flags, ident=random.randrange(1 << 16), offset=random.choice((0, 4000)))


def random_responses(back: RawBackend, seed: int) -> None:
    """Responses with flags that are likely to make chains and extras."""
    random = Random(seed)
    for _ in range(60):
        flags = random.choice((0, 0, RX_MORE, RX_EXTRA, NETRXF_gso_prefix))
        back.rx(FRAME, flags, status=random.choice((60, 60, 5000, -1)))
