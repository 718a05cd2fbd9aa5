"""What observers are told of packets that the frontend drops, and of answers that are not OKAY."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from vif_peers import RawBackend

from xennet.abi.netif import (
    EXTRA_GSO,
    EXTRA_XDP,
    NETIF_RSP_DROPPED,
    NETIF_RSP_ERROR,
    TX_REQUEST,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_XDP,
    NETRXF_csum_blank,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
)
from xennet.vif.ring_events import RingEvent

M, E = NETRXF_more_data, NETRXF_extra_info


@pytest.fixture
def back(engine: str) -> RawBackend:
    """A backend driven by hand, behind a frontend that is observed."""
    back = RawBackend(checksum_setup=True)
    back.guest.interest(RingEvent).any = True
    return back


def refused(back: RawBackend) -> list[RingEvent]:
    return [e for e in back.guest.events if isinstance(e, RingEvent) and e.rule]


def extra(back: RawBackend, kind: int, size: int = 0, gso: int = 0) -> None:
    back.raw_rx(EXTRA_GSO.pack(kind, 0, size, gso, 0, 0))


def chain(back: RawBackend, slots: int, size: int) -> None:
    for i in range(slots):
        back.rx(bytes(size), M if i < slots - 1 else 0)


def negative(back: RawBackend) -> None:
    back.rx(status=-3)


def beyond(back: RawBackend) -> None:
    back.rx(offset=4000, status=100)


def cut(back: RawBackend) -> None:
    back.rx(bytes(60), M)


def no_extra(back: RawBackend) -> None:
    back.rx(bytes(60), E)


def unknown_extra(back: RawBackend) -> None:
    back.rx(bytes(60), E)
    extra(back, 9)


def prefix(back: RawBackend) -> None:
    back.rx(offset=1448, status=2, flags=NETRXF_gso_prefix | M)
    back.rx(bytes(60))


def no_segments(back: RawBackend) -> None:
    back.rx(bytes(60), E)
    extra(back, XEN_NETIF_EXTRA_TYPE_GSO, 0, 1)


def headroom_beyond_status(back: RawBackend) -> None:
    back.rx(bytes(60), E)
    back.raw_rx(EXTRA_XDP.pack(XEN_NETIF_EXTRA_TYPE_XDP, 0, 256, 0, 0))


def headroom_beyond_page(back: RawBackend) -> None:
    back.rx(status=4097, flags=E)
    back.raw_rx(EXTRA_XDP.pack(XEN_NETIF_EXTRA_TYPE_XDP, 0, 4000, 0, 0))


def short(back: RawBackend) -> None:
    back.rx(bytes(13))


def no_headers(back: RawBackend) -> None:
    back.rx(bytes(60), NETRXF_csum_blank)


@pytest.mark.parametrize(
    ("play", "rule"),
    [
        (negative, "B8"),
        (beyond, "B8"),
        (cut, "B10"),
        (lambda back: chain(back, 20, 60), "B11"),
        (no_extra, "B12"),
        (unknown_extra, "B12"),
        (prefix, "B12"),
        (no_segments, "B13"),
        (headroom_beyond_status, "B14"),
        (headroom_beyond_page, "B14"),
        (short, "B20"),
        (lambda back: chain(back, 17, 4096), "B20"),
        (no_headers, "B21"),
    ],
)
def test_a_dropped_packet_names_its_rule(
    back: RawBackend, play: Callable[[RawBackend], None], rule: str
) -> None:
    back.rx(bytes(60))
    play(back)
    back.push_rx()
    (event,) = refused(back)
    assert (event.ring, event.what, event.index) == ("rx", "packet dropped", 1)
    assert event.rule == rule
    assert f"{event.why} [{rule}; " in back.queue.last_drop


@pytest.mark.parametrize("status", [NETIF_RSP_ERROR, NETIF_RSP_DROPPED])
def test_B6_is_named_for_an_answer_that_is_not_okay(back: RawBackend, status: int) -> None:
    back.stack.to_send += [bytes(60)] * 2
    back.run()
    first, second = (TX_REQUEST.unpack_from(raw)[3] for raw in back.requests())
    back.answer(first)
    back.answer(second, status)
    back.push_tx()
    (event,) = refused(back)
    assert (event.rule, event.ring, event.what, event.index) == ("B6", "tx", "response", 1)
    assert dict(event.values) == {"id": second, "status": status}
