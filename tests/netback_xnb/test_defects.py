"""The seed driver's defects, one test each, named by their rows in xennet.netback.xnb.

``[size, flags]``: M more_data, E extra_info, C csum_blank, V data_validated.
"""

from __future__ import annotations

import errno

import pytest

from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    RX_RESPONSE,
    TX_REQUEST,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.netback.xnb import (
    BackendPanic,
    GnttabCopyTable,
    Pkt,
    chain_bytes,
    mbufc2pkt,
    pkt2mbufc,
    ring2pkt,
    rxpkt2gnttab,
    rxpkt2rsp,
    start_locked,
    txpkt2gnttab,
    txpkt2rsp,
)
from xennet.netback.xnb.mbuf import CSUM_TSO
from xennet.testing.xnb_world import FIRST_ID, FRONT, C, E, M, V, extra, pattern

OK, ERROR, NULL = NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_NULL
BAD_COPY_ARG = -10
BAD_GNTREF = -3
GENERAL_ERROR = -1


def parse(world, start=0):
    pkt = Pkt()
    return pkt, ring2pkt(pkt, world.txb, start, world.xnb.log)


def statuses(world, count, start=0):
    return [status for _, status in world.tx_responses(count, start)]


# Guest transmit


def test_A1_later_slot_larger_than_the_packet_wraps_car_size_and_runs_off_the_chain(world):
    world.put_and_push([100, M], [200])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid, pkt.car_size) == (2, True, 65436)
    with pytest.raises(BackendPanic, match="no mbuf is left and 65468 bytes seem to be") as panic:
        world.recv()
    assert panic.value.rule == "A1/A2"


def test_A2_sum_of_the_later_slots_wraps_to_40_and_car_size_looks_sane(world):
    world.put_and_push([60, M], [40000, M], [25576])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid, pkt.car_size, pkt.list_len) == (3, True, 20, 3)
    with pytest.raises(BackendPanic, match="65428 bytes seem to be") as panic:
        world.recv()
    assert panic.value.rule == "A1/A2"
    # Before that: 20 bytes of the first slot, and as many of the second as the mbuf had room for.
    assert [world.xnb.tx_gnttab[i].len for i in range(2)] == [20, 168 - 20]


def test_A3_a_packet_of_no_bytes_is_answered_and_not_consumed(world):
    world.put_and_push([0])
    assert world.recv() == (errno.ENOMEM, None)
    assert world.tx_responses(1) == [(FIRST_ID, ERROR)]
    assert (world.txb.rsp_prod_pvt, world.txb.req_cons) == (1, 0)
    with pytest.raises(BackendPanic, match="response 1 is due, the packet begins at 0") as panic:
        world.recv()
    assert panic.value.rule == "A3/A4"


def test_A3_one_interrupt_publishes_the_response_of_the_unconsumed_request(world):
    world.put_and_push([0])
    world.interrupt()
    assert (world.tx.sring.rsp_prod, world.txb.req_cons, world.tx.sring.req_event) == (1, 0, 1)


def test_A4_extra_info_flag_without_a_slot_gives_two_responses_for_one_request(world):
    world.put_and_push([60, E])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid) == (1, True)
    assert world.recv()[0] == 0
    assert (world.txb.rsp_prod_pvt, world.txb.req_cons) == (2, 1)
    assert statuses(world, 2) == [OK, NULL]
    world.put_and_push([60])
    with pytest.raises(BackendPanic) as panic:
        world.recv()
    assert panic.value.rule == "A3/A4"


def test_A5_a_second_extra_info_becomes_the_next_packets_first_request(world):
    world.put_and_push([60, E], extra(flags=1), extra(type=4), [60])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid) == (2, False)
    assert world.recv() == (errno.EINVAL, None)
    confused, _ = parse(world, world.txb.req_cons)
    assert (confused.car, confused.list_len) == (2, 1)
    taken_for_a_request = TX_REQUEST.read(world.tx.sring.copy_slot(2))
    assert taken_for_a_request.gref == 4 | 1448 << 16


def test_A6_extra_info_on_a_later_slot_becomes_the_next_packets_first_request(world):
    world.put_and_push([100, M], [40, E], extra())
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid, pkt.list_len, pkt.car_size) == (2, True, 2, 60)
    assert "flags 0x8 on a later request at index 1" in world.console[0]
    assert world.recv()[0] == 0
    confused, _ = parse(world, world.txb.req_cons)
    assert (confused.car, confused.list_len) == (2, 1)


@pytest.mark.parametrize("kind", [2, 3, 4, 0xFF], ids=["MCAST_ADD", "MCAST_DEL", "HASH", "0xFF"])
def test_A7_any_extra_info_but_gso_drops_the_packet(world, kind):
    world.put_and_push([60, E], extra(type=kind))
    assert world.recv() == (errno.EINVAL, None)
    assert statuses(world, 2) == [ERROR, NULL]


@pytest.mark.parametrize("req_prod", [256, 0xFFFFFFF0])
def test_A8_a_ring_full_of_more_data_is_never_consumed_and_never_answered(world, req_prod):
    world.put(*[[60, M]] * 256)
    world.tx.sring.req_prod = req_prod
    world.notify()
    pkt, consumed = parse(world)
    assert (consumed, pkt.list_len, pkt.is_valid) == (0, 256, False)
    world.interrupt()
    assert (world.tx.sring.rsp_prod, world.delivered, world.signals) == (0, [], 0)


def test_A9_more_than_64_slots_are_too_much_for_the_copy_table(world):
    world.put_and_push([70, M], *[[1, M]] * 68, [1])
    assert parse(world)[0].car_size == 1
    with pytest.raises(BackendPanic, match="packet of 70 slots needs more than 64 copies") as panic:
        world.recv()
    assert panic.value.rule == "A9"


def test_A9_what_counts_is_copies_64_slots_are_fine_and_65_with_an_empty_tail_too(world):
    world.put_and_push([64, M], *[[1, M]] * 62, [1])
    assert world.recv()[0] == 0
    world.put_and_push([1, M], *[[0, M]] * 63, [0])
    assert world.recv()[0] == 0


def test_A9_fewer_than_65_slots_suffice_when_mbuf_borders_split_them(world):
    # 60 slots of 1000 bytes over clusters of 4096: 14 slots straddle a border
    world.put_and_push([60000, M], *[[1000, M]] * 58, [1000])
    with pytest.raises(BackendPanic) as panic:
        world.recv()
    assert panic.value.rule == "A9"


def test_A10_a_good_packet_behind_garbage_is_never_announced_again(world):
    world.put([60, E], extra(type=0xFF), [60])
    assert world.push()
    world.interrupt()
    assert world.delivered == []
    assert world.tx.sring.req_event == 3 == world.tx.sring.req_prod
    world.put([60])
    assert not world.push()  # 3 -> 4 passes no event index: nobody tells the backend


def test_A11_a_half_published_packet_is_never_announced_again(world):
    world.put([60, M])
    assert world.push()
    world.interrupt()
    assert (world.txb.req_cons, world.tx.sring.req_event) == (0, 1)
    world.put([20])
    assert not world.push()


def test_A12_a_slot_beyond_the_page_is_copied_unchecked_and_the_failure_asserted(world):
    world.put_and_push([200, 0, world.data, 4000])
    with pytest.raises(
        BackendPanic, match=f"offset 4000 length 200 has status {BAD_COPY_ARG}"
    ) as p:
        world.recv()
    assert p.value.rule == "A12/A13"


@pytest.mark.parametrize(
    ("gref", "status"), [(0xFFFFFFFF, BAD_GNTREF), (1000, GENERAL_ERROR), (0, GENERAL_ERROR)]
)
def test_A12_a_bad_gref_is_asserted_against(world, gref, status):
    world.put_and_push([60, 0, gref])
    with pytest.raises(BackendPanic, match=f"status {status}") as panic:
        world.recv()
    assert panic.value.rule == "A12/A13"


def test_A12_a_grant_revoked_before_the_copy_is_asserted_against(world):
    gref = world.buffer()
    world.put_and_push([60, 0, gref])
    assert world.front_hv.grants.end_access(gref)
    with pytest.raises(BackendPanic, match=f"status {GENERAL_ERROR}"):
        world.recv()


def test_A13_one_slot_may_claim_65000_bytes(world):
    world.put_and_push([65000])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid, pkt.car_size) == (1, True, 65000)
    with pytest.raises(BackendPanic, match=f"copy 1 .* offset 4096 .* status {BAD_COPY_ARG}"):
        world.recv()


def test_A14_req_prod_moved_backwards_shows_a_full_ring_for_ever(world):
    # A response overwrites its request's gref with id | status << 16: ids that are grefs live on.
    world.put(*[TX_REQUEST.pack(world.data, 0, 0, world.data, 60)] * 256)
    world.tx.sring.req_prod = 0xFFFFFFFF  # req_cons - 1
    world.notify()
    assert world.txb.unconsumed_requests == 256
    with pytest.raises(BackendPanic, match="after 1000 packets") as panic:
        world.interrupt(limit=1000)
    assert panic.value.rule == "A14/A15"
    assert len(world.delivered) == 1000 > 256  # stale slots, again and again


def test_A15_a_frontend_that_keeps_producing_is_served_in_one_interrupt(world):
    take = world.xnb.ifp.if_input

    def produce_another(mbufc):
        take(mbufc)
        world.put_and_push([60])

    world.xnb.ifp.if_input = produce_another
    world.put_and_push([60])
    with pytest.raises(BackendPanic) as panic:
        world.interrupt(limit=5000)
    assert panic.value.rule == "A14/A15"
    assert world.tx.sring.rsp_prod == 0  # and nothing was published meanwhile


def test_A16_a_slot_rewritten_after_it_was_parsed_is_believed_again(world):
    secret = world.buffer(b"other")
    world.put_and_push([100, M], [60])
    pkt, _ = parse(world)
    mbufc = pkt2mbufc(pkt, world.xnb.ifp, world.pool)
    world.tx.sring.write_slot(1, TX_REQUEST.pack(secret, 9, 0, 1, 60))
    table = GnttabCopyTable()
    assert txpkt2gnttab(pkt, mbufc, table, world.txb, FRONT) == 2
    assert (table[1].source_ref, table[1].source_offset) == (secret, 9)


def test_A16_a_size_that_grows_after_the_check_runs_off_the_chain(world):
    world.put_and_push([100, M], [60])
    pkt, _ = parse(world)
    mbufc = pkt2mbufc(pkt, world.xnb.ifp, world.pool)
    world.tx.sring.write_slot(1, TX_REQUEST.pack(world.data, 0, 0, 1, 4000))
    with pytest.raises(BackendPanic) as panic:
        txpkt2gnttab(pkt, mbufc, GnttabCopyTable(), world.txb, FRONT)
    assert panic.value.rule == "A1/A2"


def test_A17_a_frame_of_four_bytes_is_delivered(world):
    world.put_and_push([4])
    world.interrupt()
    assert world.delivered == [pattern(4)]


def ip_frame(*, ihl=5, ip_len=None, protocol=17, payload=b"", options=b""):
    ip_len = 20 + len(options) + len(payload) if ip_len is None else ip_len
    header = bytes([0x40 | ihl, 0]) + ip_len.to_bytes(2, "big") + bytes(4) + bytes([64, protocol])
    return bytes(12) + b"\x08\x00" + header + bytes(2) + bytes(range(8)) + options + payload


def sent(world, frame, flags):
    world.put_and_push([len(frame), flags, world.buffer(frame)])
    error, mbufc = world.recv()
    assert error == 0
    return chain_bytes(mbufc)


def test_A17_the_ip_headers_own_length_decides_what_is_summed_up(world):
    payload = bytes(range(40))
    honest = sent(world, ip_frame(payload=payload), V)
    short = sent(world, ip_frame(payload=payload, ip_len=30), V)
    beyond = sent(world, ip_frame(payload=payload, ip_len=5000), V)
    sums = {frame[14 + 20 + 6 : 14 + 20 + 8] for frame in (honest, short, beyond)}
    assert len(sums) == 3


def test_A17_with_ip_options_the_sum_lands_20_bytes_behind_the_ip_header(world):
    frame = ip_frame(ihl=7, options=bytes(8), payload=bytes(40))
    result = sent(world, frame, V)
    changed = [i for i in range(14 + 20, len(frame)) if frame[i] != result[i]]
    assert changed == [14 + 20 + 6, 14 + 20 + 7]  # inside the options


def test_A18_every_odd_slot_prints_thirteen_lines_without_limit(world):
    world.put_and_push([62, M], *[[1, M | C]] * 61, [1])
    parse(world)
    assert len(world.console) == 61 * 13


def test_A19_csum_blank_alone_leaves_the_checksum_blank(world):
    frame = ip_frame(payload=bytes(range(40)))
    assert sent(world, frame, C) == frame
    assert sent(world, frame, C | V) != frame


@pytest.mark.parametrize(("size", "gso"), [(0, 1), (1448, 9)])
def test_A20_senseless_gso_is_recorded_and_ignored(world, size, gso):
    world.put_and_push([60, E], extra(size=size, gso=gso))
    pkt, _ = parse(world)
    assert (pkt.is_valid, pkt.extra.gso_size, pkt.extra.gso_type) == (True, size, gso)
    error, mbufc = world.recv()
    assert (error, mbufc.pkthdr.tso_segsz, mbufc.pkthdr.csum_flags) == (0, 0, 0)


def test_A21_a_packet_in_error_keeps_its_list_len(world):
    world.put_and_push([60, E], extra(type=9))
    pkt, _ = parse(world)
    assert (pkt.is_valid, pkt.list_len) == (False, 1)


def test_A21_the_receive_flag_that_is_tested_on_transmit_is_the_same_bit(world):
    world.put_and_push([60, E], extra())
    pkt, _ = parse(world)
    assert pkt.flags == NETRXF_extra_info
    txpkt2rsp(pkt, world.txb, False)
    assert world.txb.rsp_prod_pvt == 2


def test_A22_a_null_response_keeps_type_and_flags_of_the_extra_as_its_id(world):
    world.put_and_push([60, E], extra(type=1, flags=1))
    world.recv()
    assert world.tx_responses(2)[1] == (1 | 1 << 8, NULL)


# Guest receive


def test_B1_buffers_with_the_same_gref_get_one_response_for_both(world):
    gref = next(gref for gref in iter(world.buffer, None) if gref == 24)
    world.post(gref, gref)
    assert world.send(world.packet(4196)) == 0
    assert list(world.rxb.pvt) == [1, 1]
    (rsp,) = world.rx_responses(1)
    assert rsp == (FIRST_ID, 0, NETRXF_more_data, 4196)


def test_B2_leftovers_of_an_earlier_packet_are_counted_too(world):
    gref = world.buffer()
    world.post(gref, gref, gref)
    assert world.send(world.packet(300, segments=[100, 100, 100])) == 0
    assert world.rx_responses(1)[0].status == 300
    assert world.send(world.packet(50)) == 0
    assert world.rx_responses(1, 1)[0].status == 50 + 100 + 100


def test_B2_the_search_for_a_gref_can_leave_the_table(world):
    world.post(24)
    table = GnttabCopyTable()
    for i in range(64):
        table[i].dest_ref = 24
    pkt = Pkt()
    mbufc2pkt(world.packet(60), pkt, 0, 1)
    with pytest.raises(BackendPanic, match="leaves the table of 64") as panic:
        rxpkt2rsp(pkt, table, 1, world.rxb)
    assert panic.value.rule == "B2"


def test_B2_a_packet_that_just_fills_the_table_walks_off_its_end(world):
    world.post(world.buffer())
    with pytest.raises(BackendPanic) as panic:
        world.send(world.packet(64, segments=[1] * 64))
    assert panic.value.rule == "B2"


@pytest.mark.parametrize(
    ("gref", "flags"),
    [
        (0x0000000C, NETRXF_more_data | NETRXF_extra_info),
        (42, NETRXF_csum_blank | NETRXF_extra_info | 0x20),
    ],
)
def test_B3_an_error_response_keeps_pad_and_gref_as_offset_and_flags(world, gref, flags):
    world.post(gref)
    assert world.send(world.packet(60)) == 0
    assert world.rx_responses(1) == [(FIRST_ID, 0xAAAA, flags, ERROR)]


def test_B4_a_tso_packet_of_three_data_slots_loses_its_third(world):
    world.post(*(world.buffer() for _ in range(4)))
    mbufc = world.packet(9000)
    mbufc.pkthdr.csum_flags, mbufc.pkthdr.tso_segsz = CSUM_TSO, 1448
    assert world.send(mbufc) == 0
    first, _, second, third = world.rx_responses(4)
    assert first.flags & NETRXF_more_data
    assert (second.status, second.flags) == (4096, 0)
    assert (third.status, third.flags) == (808, 0)


def test_B5_a_failed_multi_slot_packet_gets_one_response_and_counts_as_sent(world):
    world.post(world.buffer(), 1000, world.buffer())
    world.xnb.ifp.if_snd.append(world.packet(9000))
    start_locked(world.xnb)
    assert list(world.rxb.pvt) == [1, 1]
    assert world.rx_responses(1)[0].status == ERROR
    assert (world.xnb.ifp.opackets, world.xnb.ifp.oerrors) == (1, 0)


def test_B6_req_prod_far_ahead_is_taken_at_face_value(world):
    stale = world.buffer()
    world.post(*[stale] * 256)
    world.start_at(0)
    world.rx.sring.req_prod = 1000
    for _ in range(300):
        assert world.send(world.packet(60)) == 0
    assert world.rxb.req_cons == 300 > 256


def test_B6_req_prod_two_billion_ahead_is_no_room_for_ever(world):
    world.rx.sring.req_prod = 1 << 31
    assert world.send(world.packet(60)) == errno.EAGAIN
    world.rx.sring.req_prod = (1 << 31) - 1
    world.rx.sring.write_slot(0, RX_RESPONSE.pack(0, 0, world.data, 0))
    assert world.send(world.packet(60)) == 0


def test_B7_a_gref_rewritten_before_the_response_gets_status_0(world):
    world.post(world.buffer())
    mbufc, pkt, table = world.packet(60), Pkt(), GnttabCopyTable()
    mbufc2pkt(mbufc, pkt, 0, 1)
    count = rxpkt2gnttab(pkt, mbufc, table, world.rxb, FRONT)
    world.rx.sring.write_slot(0, RX_RESPONSE.pack(FIRST_ID, 0, 0x5555, 0))
    assert rxpkt2rsp(pkt, table, count, world.rxb) == 1
    assert world.rx_responses(1)[0].status == 0


def test_B8_a_chain_of_more_than_64_fragments_is_too_much_for_the_table(world):
    world.post(world.buffer())
    with pytest.raises(BackendPanic, match="needs more than 64 copies") as panic:
        world.send(world.packet(65, segments=[1] * 65))
    assert panic.value.rule == "B8"


def test_B9_of_65536_bytes_nothing_remains(world):
    world.post(world.buffer())
    world.xnb.ifp.if_snd.append(world.packet(65536))
    start_locked(world.xnb)
    assert list(world.rxb.pvt) == [0, 0]
    assert world.xnb.ifp.opackets == 1


def test_B9_65636_bytes_pass_for_one_slot_and_take_seventeen(world):
    world.post(*(world.buffer() for _ in range(17)))
    world.rx.sring.req_prod = 1  # one buffer is all that was offered
    pkt = Pkt()
    assert mbufc2pkt(world.packet(65636), pkt, 0, 1) == 0
    assert (pkt.size, pkt.list_len) == (100, 1)
    assert world.send(world.packet(65636)) == 0
    assert world.rxb.req_cons == 17
    responses = world.rx_responses(17)
    assert [rsp.status for rsp in responses] == [4096] * 16 + [100]
    assert not any(rsp.flags & NETRXF_more_data for rsp in responses)


def test_B10_what_the_frontend_can_take_is_never_asked(world):
    front = world.front_hv.store
    for feature in ("feature-sg", "feature-gso-tcpv4"):
        front.write(f"device/vif/0/{feature}", 0)
    world.post(*(world.buffer() for _ in range(3)))
    mbufc = world.packet(5000)
    mbufc.pkthdr.csum_flags, mbufc.pkthdr.tso_segsz = CSUM_TSO, 1448
    assert world.send(mbufc) == 0
    first = world.rx_responses(1)[0].flags
    assert first == (
        NETRXF_more_data | NETRXF_extra_info | NETRXF_csum_blank | NETRXF_data_validated
    )
