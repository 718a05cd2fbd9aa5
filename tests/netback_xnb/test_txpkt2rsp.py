"""txpkt2rsp: one response for each slot of a packet."""

from __future__ import annotations

import pytest

from xennet.abi.netif import NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY
from xennet.netback.xnb import BackendPanic, Pkt, ring2pkt, txpkt2rsp
from xennet.testing.xnb_world import FIRST_ID, E, M, extra


def respond(world, *slots, error=False, start=0):
    world.start_at(start)
    world.put_and_push(*slots)
    pkt = Pkt()
    ring2pkt(pkt, world.txb, start)
    txpkt2rsp(pkt, world.txb, error)
    return world.tx_responses(world.txb.rsp_prod_pvt - start, start)


def test_a_single_request_is_answered_okay_with_its_id(world):
    assert respond(world, [60]) == [(FIRST_ID, NETIF_RSP_OKAY)]


def test_every_request_of_a_packet_is_answered(world):
    ok = [(FIRST_ID + i, NETIF_RSP_OKAY) for i in range(3)]
    assert respond(world, [900, M], [200, M], [300]) == ok


def test_extra_info_is_answered_null(world):
    (first, null, last) = respond(world, [900, M | E], extra(), [200])
    assert first == (FIRST_ID, NETIF_RSP_OKAY)
    assert null[1] == NETIF_RSP_NULL
    assert last == (FIRST_ID + 2, NETIF_RSP_OKAY)


def test_an_error_makes_every_data_response_an_error(world):
    statuses = [status for _, status in respond(world, [900, M | E], extra(), [200], error=True)]
    assert statuses == [NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_ERROR]


def test_an_invalid_packet_is_answered_error_without_being_told(world):
    statuses = [status for _, status in respond(world, [60, E], extra(type=7))]
    assert statuses == [NETIF_RSP_ERROR, NETIF_RSP_NULL]


def test_responses_wrap_around_the_ring(world):
    start = 0xFFFFFFFE
    world.start_at(start)
    world.put_and_push([900, M], [200, M], [300])
    pkt = Pkt()
    ring2pkt(pkt, world.txb, start)
    txpkt2rsp(pkt, world.txb, False)
    assert world.txb.rsp_prod_pvt == 1
    assert [world.tx_responses(1, i)[0][1] for i in (254, 255, 0)] == [0, 0, 0]


def test_no_packet_no_response(world):
    assert respond(world) == []


def test_nothing_is_published(world):
    respond(world, [60])
    assert (world.tx.sring.rsp_prod, world.txb.req_cons) == (0, 0)


def test_the_rest_of_the_slot_survives_its_response(world):
    world.put_and_push([60, 0, 77, 5])
    before = world.tx.sring.copy_slot(0)
    pkt = Pkt()
    ring2pkt(pkt, world.txb, 0)
    txpkt2rsp(pkt, world.txb, False)
    assert world.tx.sring.copy_slot(0)[4:] == before[4:]


def test_a_response_out_of_order_is_the_end(world):
    world.put_and_push([60], [60])
    pkt = Pkt()
    ring2pkt(pkt, world.txb, 1)
    with pytest.raises(BackendPanic, match="response 0 is due, the packet begins at 1") as panic:
        txpkt2rsp(pkt, world.txb, False)
    assert panic.value.rule == "A3/A4"
