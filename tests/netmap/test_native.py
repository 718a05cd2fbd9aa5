"""The native adapter on a netfront queue, with a backend that answers as a test says."""

from __future__ import annotations

from errno import EINVAL
from random import Random

import pytest
from native_world import N, NativeWorld, frame
from netmap_clients import Client, all_free

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.netmap import (
    NR_TX_RINGS_ONLY,
    NS_BUF_CHANGED,
    NS_FORWARD,
    NS_MOREFRAG,
    NS_REPORT,
)
from xennet.ifnet import Interface

GONE = NS_REPORT | NS_BUF_CHANGED | NS_MOREFRAG


def space(world: NativeWorld) -> int:
    head, _, tail = world.tx.shown()
    return (tail - head) % N


# --- sending --------------------------------------------------------------------------------------


def test_a_slot_is_free_when_the_backend_has_answered() -> None:
    world = NativeWorld()
    frames = [frame(i) for i in range(3)]
    world.client.send(*frames)
    packets = world.sent()
    assert [packet.data for packet in packets] == frames
    assert world.tx.hwcur == 3
    world.client.txsync()
    assert world.tx.shown() == (3, 3, N - 1)
    world.answer(*packets[0].ids, *packets[1].ids)
    assert world.woken == ["tx"]
    assert world.tx.shown() == (3, 3, N - 1)  # a sync shows it
    world.client.txsync()
    assert world.tx.shown() == (3, 3, 1)
    world.answer(*packets[2].ids)
    world.client.txsync()
    assert world.tx.shown() == (3, 3, 2)


def test_slots_are_freed_in_order_whatever_the_order_of_the_answers() -> None:
    world = NativeWorld()
    world.client.send(*[frame(i) for i in range(4)])
    ids = [packet.ids[0] for packet in world.sent()]
    for ident, tail in ((ids[2], N - 1), (ids[0], 0), (ids[3], 0), (ids[1], 3)):
        world.answer(ident)
        world.client.txsync()
        assert world.tx.shown()[2] == tail


def test_an_id_that_is_used_again_before_older_ones_are_answered_frees_its_own_slot() -> None:
    world = NativeWorld()
    world.client.send(frame(0), frame(1))
    first, second = (packet.ids[0] for packet in world.sent())
    world.answer(second)
    world.client.send(frame(2))
    (again,) = world.sent()
    assert again.ids == [second]
    world.client.txsync()
    assert world.tx.shown()[2] == N - 1
    world.answer(first)
    world.client.txsync()
    assert world.tx.shown()[2] == 1
    world.answer(second)
    world.client.txsync()
    assert world.tx.shown()[2] == 2


def test_an_error_of_the_backend_frees_a_slot_too() -> None:
    world = NativeWorld()
    world.client.send(frame(0), frame(1))
    ids = [packet.ids[0] for packet in world.sent()]
    for ident in ids:
        world.raw.answer(ident, -1)
    world.raw.push_tx()
    world.client.txsync()
    assert space(world) == N - 1
    assert world.raw.counters.tx.errors == 2


def test_a_frame_is_copied_when_it_is_sent() -> None:
    world = NativeWorld()
    world.client.send(frame(1))
    world.client.put(0, b"x" * 60)
    assert world.sent()[0].data == frame(1)


def test_a_sent_slot_loses_the_flags_of_a_driver_and_keeps_the_others() -> None:
    world = NativeWorld()
    world.put(frame(0), flags=NS_REPORT | NS_BUF_CHANGED | NS_FORWARD | 0x300)
    world.client.txsync()
    assert world.client.slot(True, 0)[2] == NS_FORWARD | 0x300


def test_what_is_no_frame_is_not_sent_and_its_slot_is_free_at_once() -> None:
    world = NativeWorld()
    world.put(*[frame(i) for i in range(7)])
    tx = world.client
    buffer = tx.slot(True, 1)[0]
    pool = world.client.region.bufs.layout.objtotal
    for slot, index, length in (
        (0, 0, 60),
        (1, 1, 60),
        (2, pool, 60),
        (3, buffer, 13),
        (4, buffer, 0),
        (5, buffer, 2049),
    ):
        tx.set_slot(True, slot, index, length, 0)
    assert tx.txsync() == 0
    assert [packet.data for packet in world.sent()] == [frame(6)]
    assert world.tx.shown() == (7, 7, 5)
    assert tx.slot(True, 0) == (0, 60, 0)


def test_a_frame_fills_a_buffer() -> None:
    world = NativeWorld()
    world.client.send(frame(0)[:14], frame(1, 2048))
    assert [packet.data for packet in world.sent()] == [frame(0)[:14], frame(1, 2048)]


def test_an_offset_is_where_the_frame_begins() -> None:
    world = NativeWorld()
    for kring in (world.tx, world.rx):
        kring.pvt[11], kring.pvt[12] = 100, 0xFFFF  # as the option does
    at = world.client.region.bufs.offset_of(world.client.slot(True, 0)[0]) + 40
    world.client.region.u8[at : at + 60] = frame(5)
    world.client.set_slot(True, 0, world.client.slot(True, 0)[0], 60, 0)
    world.client.region.u32[world.tx.slot_at(0) + 2] = 40
    world.client.write(True, 1, 1)
    world.client.txsync()
    assert world.sent()[0].data == frame(5)
    world.client.region.u32[world.rx.slot_at(0) + 2] = 100
    world.arrive(frame(6))
    assert world.client.receive() == [frame(6)]
    at = world.client.region.bufs.offset_of(world.client.slot(False, 0)[0]) + 100
    assert bytes(world.client.region.u8[at : at + 60]) == frame(6)


@pytest.mark.parametrize("sizes", [[1000] * 5, [100] * 200, [0, 20, 0, 60, 0], [2048] * 20])
def test_slots_with_morefrag_are_one_packet(sizes: list[int]) -> None:
    world = NativeWorld()
    whole = frame(7, sum(sizes))
    parts, at = [], 0
    for size in sizes:
        parts.append(whole[at : at + size])
        at += size
    world.client.send(frame(1))
    world.put(*parts[:-1], flags=NS_MOREFRAG)
    world.put(parts[-1], frame(2))
    world.client.txsync()
    packets = world.sent()
    assert [packet.data for packet in packets] == [frame(1), whole, frame(2)]
    assert len(packets[1].ids) == -(-len(whole) // 4096)
    taken = range(1, 1 + len(sizes))
    assert not any(world.client.slot(True, slot)[2] & GONE for slot in taken)
    world.answer(*packets[0].ids, *packets[2].ids, *packets[1].ids[:-1])
    world.client.txsync()
    assert world.tx.shown()[2] == 0
    world.answer(packets[1].ids[-1])
    world.client.txsync()
    assert space(world) == N - 1


def test_a_packet_waits_for_its_last_slot() -> None:
    world = NativeWorld()
    world.put(frame(1)[:20], frame(1)[20:40], flags=NS_MOREFRAG)
    world.client.txsync()
    assert world.sent() == []
    assert world.tx.hwcur == 0
    world.put(frame(1)[40:])
    world.client.txsync()
    assert [packet.data for packet in world.sent()] == [frame(1)]
    assert world.tx.hwcur == 3


@pytest.mark.parametrize(
    ("sizes", "bad"), [([2048] * 33, None), ([20, 20, 20], 1), ([20, 2049], None), ([6, 7], None)]
)
def test_a_packet_that_cannot_be_sent_is_dropped_with_all_its_slots(
    sizes: list[int], bad: int | None
) -> None:
    world = NativeWorld()
    world.put(*[bytes(min(size, 2048)) for size in sizes[:-1]], flags=NS_MOREFRAG)
    world.put(bytes(min(sizes[-1], 2048)), frame(3))
    last = len(sizes) - 1
    world.client.set_slot(True, last, world.client.slot(True, last)[0], sizes[-1], 0)
    if bad is not None:
        world.client.set_slot(True, bad, 1, 20, NS_MOREFRAG)
    world.client.txsync()
    assert [packet.data for packet in world.sent()] == [frame(3)]
    assert world.tx.hwcur == len(sizes) + 1


def test_a_packet_without_end_is_cut_when_it_fills_the_ring() -> None:
    world = NativeWorld()
    world.put(*[b"x"] * (N - 1), flags=NS_MOREFRAG)
    world.client.txsync()
    assert space(world) == N - 1
    world.put(b"x" * 20, b"x" * 20, flags=NS_MOREFRAG)
    world.client.txsync()
    world.put(b"its end" * 3, frame(9))
    world.client.txsync()
    assert [packet.data for packet in world.sent()] == [frame(9)]
    assert world.tx.hwcur == (N - 1 + 4) % N


def test_a_backend_without_sg_gets_no_packet_of_more_than_a_page() -> None:
    world = NativeWorld(can_sg=False)
    world.put(bytes(2048), bytes(2048), flags=NS_MOREFRAG)
    world.put(b"x", frame(1))
    world.put(frame(2, 2048), flags=NS_MOREFRAG)
    world.put(bytes(2048))
    world.client.txsync()
    packets = world.sent()
    assert [len(packet.data) for packet in packets] == [60, 4096]
    world.answer(*packets[0].ids, *packets[1].ids)
    world.client.txsync()
    assert space(world) == N - 1


def test_packets_for_which_there_are_no_ids_wait_and_go_on_with_the_answers() -> None:
    world = NativeWorld()
    world.stack.to_send = [bytes(4096)] * 250
    world.client.close()
    world.raw.run()
    assert len(world.raw.requests()) == 250
    world.open()
    client = world.client
    client.send(*[frame(i) for i in range(10)])
    packets = world.sent()
    assert [packet.data for packet in packets] == [frame(i) for i in range(6)]
    assert world.tx.hwcur == 6
    world.answer(*packets[0].ids)
    # The driver goes on without a sync: the client has handed the slots over.
    assert [packet.data for packet in world.sent()] == [frame(6)]
    assert world.tx.shown()[2] == N - 1
    client.txsync()
    assert world.tx.shown()[2] == 0


def test_a_head_that_was_refused_is_not_sent_from_when_the_backend_answers() -> None:
    world = NativeWorld()
    world.client.send(*[frame(i) for i in range(3)])
    packets = world.sent()
    world.client.write(True, 1, 1)
    assert world.client.txsync() == 0
    world.answer(*packets[0].ids)
    assert world.sent() == []
    assert world.tx.hwcur == 3


def test_frames_that_were_taken_from_the_stack_go_first() -> None:
    world = NativeWorld()
    world.client.close()
    frames = [bytes([i]) * 60 for i in range(200)]
    for some in (frames[:150], frames[150:] + frames[:100]):
        world.stack.to_send = list(some)
        world.raw.run()
    packets = world.sent()
    assert len(packets) == N
    world.open()
    world.client.send(frame(1))
    assert world.sent() == []
    for packet in packets:
        world.raw.answer(*packet.ids)
    world.raw.publish_tx()  # the client is there before the event
    world.client.txsync()
    assert [packet.data for packet in world.sent()] == [
        *frames[56:100],
        frame(1),
    ]


def test_what_the_driver_had_counts_as_sent_when_its_connection_goes() -> None:
    world = NativeWorld()
    world.client.send(frame(1), frame(2))
    world.end.rings([])
    assert world.woken == ["rx", "tx"]
    assert world.tx.shown() == (2, 2, N - 1)
    world.client.txsync()
    assert space(world) == N - 1
    world.client.send(frame(3))  # waits
    assert world.client.rxsync() == 0
    assert len(world.sent()) == 2
    world.end.rings([world.driven])
    world.raw.run()
    assert [packet.data for packet in world.sent()] == [frame(3)]


# --- receiving ------------------------------------------------------------------------------------


def test_what_arrives_is_in_the_ring_after_a_sync() -> None:
    world = NativeWorld()
    world.arrive(frame(1), frame(2, 1518), frame(3)[:14])
    assert world.woken == ["rx"]
    assert world.rx.shown() == (0, 0, 0)
    world.client.rxsync()
    assert world.rx.shown() == (0, 0, 3)
    assert [world.client.frame(i) for i in range(2)] == [frame(1), frame(2, 1518)]
    assert world.client.slot(False, 2)[1:] == (14, 0)
    assert world.stack.received == []


def test_the_backend_may_send_as_many_as_there_are_slots_that_the_client_does_not_hold() -> None:
    world = NativeWorld()
    assert world.posted == N
    world.arrive(*[frame(i) for i in range(100)])
    assert world.posted == N - 100
    world.client.rxsync()
    assert world.posted == N - 100
    world.client.write(False, 30, 30)
    world.client.rxsync()
    assert world.posted == N - 70
    world.arrive(*[frame(i) for i in range(N - 70)])
    assert world.posted == 0
    world.client.rxsync()
    assert world.rx.pending == N - 1
    assert world.client.receive() == [frame(i) for i in range(30, 100)] + [
        frame(i) for i in range(N - 71)
    ]
    assert world.client.receive() == [frame(N - 71)]
    assert world.posted == N


def test_frames_that_find_no_slot_wait_on_the_ring() -> None:
    world = NativeWorld()
    world.arrive(*[frame(i) for i in range(N)])
    world.client.rxsync()
    assert world.rx.pending == N - 1
    world.client.write(False, 1, 1)
    world.client.rxsync()
    world.client.rxsync()
    assert world.rx.pending == N - 1
    world.client.close()
    world.raw.run()
    assert world.stack.received == []


def test_what_is_on_the_ring_when_the_client_goes_is_the_stacks() -> None:
    world = NativeWorld()
    world.arrive(frame(1))
    world.client.rxsync()
    world.arrive(frame(2))
    world.client.close()
    world.raw.run()
    assert world.stack.received == [frame(2)]
    assert world.posted == N
    assert all_free(world.region)
    world.arrive(frame(3))
    assert world.stack.received == [frame(2), frame(3)]


def test_a_released_slot_loses_its_mark_and_a_slot_without_a_buffer_its_frame() -> None:
    world = NativeWorld()
    world.arrive(frame(1))
    world.client.rxsync()
    world.client.set_slot(False, 0, world.client.slot(False, 0)[0], 60, NS_BUF_CHANGED)
    world.client.set_slot(False, 1, 1, 60, 0)
    world.client.write(False, 1, 1)
    world.client.rxsync()
    assert world.client.slot(False, 0)[2] == 0
    world.arrive(frame(2), frame(3))
    world.client.rxsync()
    assert world.client.slot(False, 1) == (1, 0, 0)
    assert world.client.frame(2) == frame(3)


def test_frames_that_need_an_offload_are_refused_and_counted() -> None:
    world = NativeWorld()
    tcp = bytes.fromhex("020000000001 020000000002 0800 4500003c00004000400600000a0000010a000002")
    tcp += bytes.fromhex("0050005000000000000000005002000000000000") + bytes(6)
    world.raw.rx(tcp, NETRXF_csum_blank | NETRXF_data_validated)
    world.raw.rx(tcp, NETRXF_csum_blank | NETRXF_data_validated | NETRXF_extra_info)
    gso = XEN_NETIF_EXTRA_TYPE_GSO.to_bytes(1, "little") + b"\0" + (1448).to_bytes(2, "little")
    world.raw.raw_rx(gso + b"\1\0\0\0")
    world.arrive(frame(1), frame(2, 1518), frame(3, 1519))
    assert world.client.receive() == [frame(1), frame(2, 1518)]
    assert world.end.refused == 3


def test_what_the_frontend_drops_is_not_seen() -> None:
    world = NativeWorld()
    world.raw.rx(status=-1)
    world.raw.rx(b"x" * 10)
    world.arrive(frame(1))
    assert world.client.receive() == [frame(1)]
    assert world.raw.counters.rx.errors == 2
    assert world.posted == N


# --- frames of several slots ----------------------------------------------------------------------


def test_a_frame_longer_than_a_buffer_has_several_slots() -> None:
    world = NativeWorld(9000, buf_size=4096)
    whole = frame(1, 9018)
    world.raw.rx(whole[:4096], NETRXF_more_data)
    world.raw.rx(whole[4096:8192], NETRXF_more_data)
    world.arrive(whole[8192:], frame(2))
    world.client.rxsync()
    slots = [world.client.slot(False, i)[1:] for i in range(4)]
    assert slots == [(4096, NS_MOREFRAG), (4096, NS_MOREFRAG), (826, 0), (60, 0)]
    assert b"".join(world.client.frame(i) for i in range(3)) == whole


def test_a_frame_of_several_slots_is_taken_when_all_of_it_has_room() -> None:
    world = NativeWorld(9000, buf_size=4096)
    world.arrive(*[frame(i) for i in range(N - 2)])
    world.client.rxsync()
    held = world.rx.pending
    assert held == N - 3  # the longest has three slots
    world.raw.rx(frame(1, 4096), NETRXF_more_data)
    world.arrive(frame(2))
    world.client.rxsync()
    assert world.rx.pending == held
    assert len(world.client.receive()) >= held


@pytest.mark.parametrize(
    ("mtu", "buf_size", "errno"),
    [
        (2048, 2048, 0),
        (2049, 2048, EINVAL),
        (9000, 2048, EINVAL),
        (4096, 4096, 0),
        (4097, 4096, 0),
        (65521, 4096, 0),
        (65521, 4032, EINVAL),
    ],
)
def test_buffers_hold_what_arrives_in_one_piece(mtu: int, buf_size: int, errno: int) -> None:
    world = NativeWorld(buf_size=buf_size)
    world.client.close()
    world.end.remove()
    world.end.add(world.device, Interface("xn0", 1, mtu=mtu))
    for flags, expected in ((0, errno), (NR_TX_RINGS_ONLY, 0)):
        client = Client(world.device)
        found = client.register("xn0", nr_mem_id=world.region.nm_id, nr_flags=flags)
        assert found == expected
        client.close()


# --- a backend that breaks the protocol ----------------------------------------------------------


def test_a_backend_that_breaks_the_transmit_ring_stops_it_and_no_call_raises() -> None:
    world = NativeWorld()
    world.client.send(frame(1))
    assert len(world.sent()) == 1
    world.raw.answer(3)
    world.raw.publish_tx()
    assert world.client.txsync() == 0
    assert [error.rule for error in world.raw.broken] == ["B4"]
    world.client.send(frame(2))
    assert world.sent() == []
    assert world.client.rxsync() == 0
    world.client.close()
    world.raw.run()


def test_a_backend_that_breaks_the_receive_ring_stops_it_and_no_call_raises() -> None:
    world = NativeWorld()
    world.raw.rx_ring.rsp_prod_pvt += 300
    world.raw.publish_rx()
    assert world.client.rxsync() == 0
    assert [error.rule for error in world.raw.broken] == ["B1"]
    assert world.client.rxsync() == 0
    assert world.rx.pending == 0
    world.raw.run()
    world.client.close()


def test_a_backend_that_breaks_it_while_the_queue_looks() -> None:
    world = NativeWorld()
    world.rx.waiters.append(world.client.rxsync)
    world.raw.rx_ring.rsp_prod_pvt += 300
    world.raw.push_rx()
    assert [error.rule for error in world.raw.broken] == ["B1"]
    world.client.close()


@pytest.mark.parametrize("seed", range(30))
def test_a_backend_that_writes_anything_never_makes_a_call_raise(seed: int) -> None:
    random = Random(seed)
    world = NativeWorld()
    for _ in range(30):
        for ring in (world.raw.tx_ring.sring, world.raw.rx_ring.sring):
            words = ring.u32
            for _ in range(random.randrange(8)):
                words[random.randrange(len(words))] = random.randrange(2**32)
            if random.random() < 0.2:
                ring.rsp_prod += random.randrange(6)
        world.raw.notify()
        if space(world):
            world.client.send(frame(1))
        assert world.client.rxsync() == 0
        world.client.receive()
    world.client.close()
    world.raw.run()
    assert all_free(world.region)
    world.open()
    assert world.client.txsync() == world.client.rxsync() == 0
