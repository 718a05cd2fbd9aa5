"""intr and start: the loops around the data path, and what they tell the other side."""

from __future__ import annotations

from xennet.abi.netif import NETIF_RSP_OKAY
from xennet.netback.xnb import intr, start
from xennet.testing.xnb_world import FIRST_ID, E, XnbWorld, extra, pattern


def test_all_packets_of_one_push_are_delivered_answered_and_signalled_once(world):
    world.put([60], [70], [80])
    assert world.push()
    world.interrupt()
    world.machine.run()
    assert world.delivered == [pattern(n) for n in (60, 70, 80)]
    assert world.tx.response_prod() == 3
    assert world.tx_responses(3) == [(FIRST_ID + i, NETIF_RSP_OKAY) for i in range(3)]
    assert world.signals == 1


def test_the_next_request_is_asked_for(world):
    world.put_and_push([60], [60])
    world.interrupt()
    assert world.tx.sring.req_event == 3
    world.put([60])
    assert world.push()


def test_no_signal_when_the_frontend_did_not_ask(world):
    world.tx.sring.rsp_event = 5
    world.put_and_push([60])
    world.interrupt()
    world.machine.run()
    assert world.signals == 0


def test_requests_that_come_during_the_interrupt_are_taken_in_it(world):
    take = world.xnb.ifp.if_input

    def produce_once(mbufc):
        take(mbufc)
        if len(world.delivered) == 1:
            world.put_and_push([70])

    world.xnb.ifp.if_input = produce_once
    world.put_and_push([60])
    world.interrupt()
    assert len(world.delivered) == 2


def test_an_event_runs_the_handler_through_the_channel(world):
    world.hv.on_event(world.xnb.port, lambda: intr(world.xnb))
    world.put_and_push([60])
    world.machine.run()
    assert len(world.delivered) == 1


def test_the_interrupt_also_sends_what_waits_for_buffers(world):
    gref = world.buffer()
    world.xnb.ifp.if_snd.append(world.packet(60))
    start(world.xnb)
    assert len(world.xnb.ifp.if_snd) == 1
    world.post(gref)
    world.interrupt()
    assert bytes(world.granted(gref)[:60]) == pattern(60)
    assert world.rx.response_prod() == 1


def test_out_of_buffers_the_frontend_is_signalled_and_the_packet_kept_in_order(world):
    first, second = world.packet(60), world.packet(70)
    world.xnb.ifp.if_snd.extend([first, second])
    start(world.xnb)
    world.machine.run()
    assert list(world.xnb.ifp.if_snd) == [first, second]
    assert (world.signals, world.xnb.ifp.opackets) == (1, 0)


def test_sent_packets_are_published_signalled_freed_and_counted(world):
    world.post(world.buffer(), world.buffer())
    world.xnb.ifp.if_snd.extend([world.packet(60), world.packet(70)])
    start(world.xnb)
    world.machine.run()
    assert world.rx.response_prod() == 2
    assert (world.signals, world.xnb.ifp.opackets, world.pool.in_use) == (1, 2, 0)
    assert world.rx.sring.req_event == 3


def test_a_corrupt_packet_is_counted_as_error_and_as_sent(world):
    world.post(world.buffer())
    mbufc = world.packet(60)
    mbufc.pkthdr.len = 0
    world.xnb.ifp.if_snd.append(mbufc)
    start(world.xnb)
    assert (world.xnb.ifp.opackets, world.xnb.ifp.oerrors, world.pool.in_use) == (1, 1, 0)


def test_without_carrier_nothing_is_sent(world):
    world.post(world.buffer())
    world.xnb.carrier = False
    world.xnb.ifp.if_snd.append(world.packet(60))
    start(world.xnb)
    assert (len(world.xnb.ifp.if_snd), world.rx.sring.rsp_prod) == (1, 0)


def test_many_packets_both_ways_leave_no_mbuf_behind():
    world = XnbWorld()
    for round_ in range(300):
        world.put_and_push([1500], [60, E], extra(), [3000])
        world.post(world.buffer() if round_ == 0 else world.data)
        world.xnb.ifp.if_snd.append(world.packet(1000))
        world.interrupt()
        world.tx.rsp_cons, world.rx.rsp_cons = world.tx.response_prod(), world.rx.response_prod()
    assert len(world.delivered) == 900
    assert (world.pool.in_use, world.tx.rsp_cons, world.rx.rsp_cons) == (0, 1200, 300)
