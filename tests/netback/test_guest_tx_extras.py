"""What HASH and multicast extras do, and the rate limit, at the backend's guest-transmit ring."""

from __future__ import annotations

import pytest
from vif_peers import RawFrontend

from xennet.abi.netif import (
    _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
    EXTRA_HASH,
    EXTRA_MCAST,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.netback.guest_tx import OK, R_LIMITED, R_SLOTS, UNLIMITED
from xennet.netback.vif_config import C_MCAST, C_MCAST_COUNT, MCAST_MAX

OKAY, ERROR, NULL = NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_NULL
ADD, DEL = XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL
E, M, MORE = NETTXF_extra_info, NETTXF_more_data, XEN_NETIF_EXTRA_FLAG_MORE
ONE, TWO = bytes.fromhex("01005e000001"), bytes.fromhex("333300000002")


def mcast(front: RawFrontend, *extras: tuple[int, bytes]) -> None:
    """A dummy request with multicast extras."""
    front.tx(60, E)
    for i, (kind, mac) in enumerate(extras):
        front.slot(EXTRA_MCAST.pack(kind, MORE if i < len(extras) - 1 else 0, mac))


def listed(front: RawFrontend) -> list[bytes]:
    config = front.queue.tx.config
    count = config[C_MCAST_COUNT]
    return [mac.to_bytes(6, "big") for mac in config[C_MCAST : C_MCAST + count]]


def take(front: RawFrontend) -> int:
    """One pass over what was put into the ring."""
    front.tx_ring.push_requests()
    return front.queue.tx.run(256)


def test_f11_mcast_add_and_del_amend_the_list_whether_or_not_there_is_a_filter() -> None:
    front = RawFrontend()
    mcast(front, (ADD, ONE))
    mcast(front, (ADD, TWO))
    front.push()
    assert listed(front) == [ONE, TWO]
    mcast(front, (DEL, ONE))
    front.push()
    assert listed(front) == [TWO]
    assert front.statuses() == [OKAY, NULL] * 3
    assert front.stack.received == []


def test_f11_the_65th_address_is_answered_error_and_the_list_stays() -> None:
    front = RawFrontend()
    macs = [bytes([1, 0, 0x5E, 0, 0, i]) for i in range(65)]
    for mac in macs:
        mcast(front, (ADD, mac))
    front.push()
    assert front.statuses() == [OKAY, NULL] * MCAST_MAX + [ERROR, NULL]
    assert listed(front) == macs[:64]
    assert front.counters.tx.errors == 1


def test_f11_deleting_an_address_that_is_not_listed_is_okay() -> None:
    front = RawFrontend()
    mcast(front, (ADD, ONE))
    mcast(front, (DEL, TWO))
    front.push()
    assert front.statuses() == [OKAY, NULL] * 2
    assert listed(front) == [ONE]


@pytest.mark.parametrize("order", [[(ADD, TWO), (DEL, ONE)], [(DEL, ONE), (ADD, TWO)]])
def test_f11_with_both_extras_only_the_addition_is_done(order: list[tuple[int, bytes]]) -> None:
    front = RawFrontend()
    mcast(front, (ADD, ONE))
    mcast(front, *order)
    front.push()
    assert listed(front) == [ONE, TWO]
    assert front.statuses() == [OKAY, NULL, OKAY, NULL, NULL]


def test_f12_of_two_additions_in_a_request_the_last_one_counts() -> None:
    front = RawFrontend()
    mcast(front, (ADD, ONE), (ADD, TWO))
    front.push()
    assert listed(front) == [TWO]


def test_f9_an_address_before_a_bad_extra_is_not_added() -> None:
    front = RawFrontend()
    mcast(front, (ADD, ONE), (9, TWO))
    front.push()
    assert front.fatal[0].rule == "F9"
    assert listed(front) == []


def hashed(front: RawFrontend, kind: int, value: bytes, *, more: int = 0) -> None:
    algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ
    front.slot(EXTRA_HASH.pack(XEN_NETIF_EXTRA_TYPE_HASH, more, kind, algorithm, value))


@pytest.mark.parametrize("kind", range(4))
def test_a_hash_extra_reaches_the_host_with_its_value_least_significant_byte_first(
    kind: int,
) -> None:
    front = RawFrontend()
    front.tx(60)
    front.tx(60, E)
    hashed(front, kind, b"\x78\x56\x34\x12")
    take(front)
    batch = front.queue.tx.batch
    assert list(batch.hash_info[:2]) == [0, 1 << 8 | kind + 1]
    assert batch.hash_value[1] == 0x12345678
    assert front.statuses() == [OKAY, OKAY, NULL]


@pytest.mark.parametrize("kind", [_XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP + 1, 255])
def test_a_hash_of_an_unknown_type_is_no_hash(kind: int) -> None:
    front = RawFrontend()
    front.tx(60, E)
    hashed(front, 0, bytes(4), more=MORE)
    hashed(front, kind, bytes(4))
    take(front)
    assert front.queue.tx.batch.count == 1
    assert front.queue.tx.batch.hash_info[0] == 0


def test_a_hash_does_not_stay_for_the_packets_of_the_next_pass() -> None:
    front = RawFrontend()
    for _ in range(3):
        front.tx(60, E)
        hashed(front, 1, bytes(4))
    take(front)
    for _ in range(3):
        front.tx(60)
    take(front)
    assert list(front.queue.tx.batch.hash_info[:3]) == [0, 0, 0]


def test_gso_does_not_stay_for_the_packets_of_the_next_pass() -> None:
    front = RawFrontend()
    for _ in range(3):
        front.tx(60, E)
        front.extra(size=1448, gso=2)
    take(front)
    for _ in range(3):
        front.tx(60)
    take(front)
    batch = front.queue.tx.batch
    assert [*batch.gso_size[:3], *batch.gso_type[:3]] == [0] * 6


def test_a_hash_stays_with_its_packet_when_one_before_it_is_dropped() -> None:
    front = RawFrontend()
    front.tx(60, gref=1999)
    front.tx(60, E)
    hashed(front, 2, b"\x05\0\0\0")
    take(front)
    batch = front.queue.tx.batch
    assert (batch.count, batch.hash_info[0], batch.hash_value[0]) == (1, 1 << 8 | 3, 5)


def test_without_a_limit_no_credit_is_used_up() -> None:
    front = RawFrontend()
    for _ in range(256):
        front.tx(4000)
    assert front.queue.tx.credit == UNLIMITED
    take(front)
    assert front.queue.tx.credit == UNLIMITED
    assert front.queue.tx.res[R_LIMITED] == 0


def test_a_request_that_credit_does_not_cover_stops_the_pass_and_names_its_size() -> None:
    front = RawFrontend()
    front.queue.tx.credit = 150
    for size in (100, 50, 14):
        front.tx(size)
    assert take(front) == OK
    tx = front.queue.tx
    assert (tx.batch.count, tx.credit, tx.res[R_LIMITED]) == (2, 0, 14)
    assert front.queue.tx.await_requests()
    tx.credit = 14
    take(front)
    assert (tx.batch.count, tx.credit, tx.res[R_LIMITED]) == (1, 0, 0)


def test_credit_is_judged_before_anything_behind_the_first_request_is_looked_at() -> None:
    front = RawFrontend()
    front.queue.tx.credit = 59
    front.tx(60, E | M)  # neither extra nor data behind it: fatal, once there is credit
    assert take(front) == OK
    assert (front.queue.tx.res[R_LIMITED], front.queue.tx.res[R_SLOTS]) == (60, 0)
    front.queue.tx.credit = 60
    assert take(front) != OK
    assert front.queue.tx.credit == 0


def test_a_packet_costs_the_size_in_its_first_request_whatever_becomes_of_it() -> None:
    front = RawFrontend()
    front.queue.tx.credit = 1000
    front.tx(13)  # F6
    front.tx(60, gref=1999)  # F13
    mcast(front, (ADD, ONE))
    front.tx(300, M)
    front.tx(200)
    take(front)
    assert front.queue.tx.credit == 1000 - 13 - 60 - 60 - 300
