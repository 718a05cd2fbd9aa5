"""What says by the rules alone what becomes of a packet, and what judges frames."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.abi.netif import NETTXF_extra_info, NETTXF_more_data
from xennet.check.checks_netback.tx_packets import (
    MORE,
    Data,
    Extra,
    Fate,
    TxPacket,
    chain,
    fate_of,
    gso,
    of,
)
from xennet.check.ip_frames import IPV4, IPV6, TCP, UDP, Flow, Sum, judge_sum, packet, toeplitz
from xennet.flow.toeplitz import KEY_SIZE, TABLE_SIZE, fill_table, hash_first_two
from xennet.frames import lazy_bytes
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES

M, E = NETTXF_more_data, NETTXF_extra_info
FLOWS = [Flow(version, protocol) for version in (IPV4, IPV6) for protocol in (TCP, UDP)]


@pytest.mark.parametrize(
    ("packet", "fate"),
    [
        (chain(14), Fate.DELIVER),
        (chain(13), Fate.REFUSE),
        (chain(4096), Fate.DELIVER),
        (of(Data(4096, offset=1)), Fate.REFUSE),
        (of(Data(100, M), Data(86)), Fate.DELIVER),
        (of(Data(100, M), Data(87)), Fate.REFUSE),
        (of(Data(100, M), Data(200)), Fate.REFUSE),
        (of(Data(100, M)), Fate.REFUSE),
        (of(Data(5000, M, 96), Data(1000)), Fate.DELIVER),
        (of(Data(5000, M, 97), Data(1000)), Fate.REFUSE),
        (chain(60, *[1] * 17), Fate.DELIVER),
        (chain(60, *[1] * 18), Fate.OPEN),
        (of(Data(60, usable=False)), Fate.REFUSE),
        (of(Data(60, M), Data(0, usable=False)), Fate.DELIVER),
        (of(Data(60, E)), Fate.REFUSE),
        (of(Data(60, E), gso()), Fate.DELIVER),
        (of(Data(60, E), gso(0)), Fate.REFUSE),
        (of(Data(60, E), gso(1448, 3)), Fate.REFUSE),
        (of(Data(60, E), gso(flags=MORE)), Fate.REFUSE),
        (of(Data(60, E), gso(flags=MORE), Extra(4)), Fate.DELIVER),
        (of(Data(60, E), Extra(0)), Fate.REFUSE),
        (of(Data(60), gso()), Fate.REFUSE),
        (of(Data(60, M), Data(20, E)), Fate.DELIVER),
    ],
)
def test_the_fate_of_a_packet_follows_from_its_slots(packet: TxPacket, fate: Fate) -> None:
    assert fate_of(packet) is fate


@given(st.sampled_from(FLOWS), st.integers(0, 2000), st.integers(0, 255))
def test_a_blank_checksum_that_a_driver_completes_is_judged_right(
    flow: Flow, size: int, number: int
) -> None:
    size += flow.headers
    blank = packet(size, flow, blank=True, number=number)
    assert judge_sum(blank, flow) is Sum.BLANK
    assert judge_sum(packet(size, flow, number=number), flow) is Sum.RIGHT
    u8 = lazy_bytes(4096)
    u8[:size] = blank
    assert complete(u8, u8.cast("I"), 0, size, array("q", bytes(8 * PLACES))) == FOUND
    assert bytes(u8[:size]) == packet(size, flow, number=number)
    u8[size - 1] ^= 1
    assert judge_sum(bytes(u8[:size]), flow) is Sum.WRONG


@given(st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE), st.binary(min_size=8, max_size=8))
def test_the_hash_is_the_one_of_the_drivers(key: bytes, data: bytes) -> None:
    table = array("I", bytes(4 * TABLE_SIZE))
    fill_table(key, table)
    assert toeplitz(key, data) == hash_first_two(table, data, 0)
