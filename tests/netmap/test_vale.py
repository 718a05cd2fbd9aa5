"""VALE switches: what the records do not say, or not for sure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from netmap_clients import Client, opened

from xennet.abi.netmap import NR_REG_ALL_NIC, NR_REG_NIC_SW
from xennet.engine.choice import using
from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface, join_pair
from xennet.netmap.vale_forward import address
from xennet.netmap.vale_hash import rthash
from xennet.netmap.vale_nic import attach
from xennet.netmap.vale_switch import MOST_ROUNDS

VECTORS: dict[str, int] = json.loads(
    (Path(__file__).parents[1] / "data" / "netmap_abi.json").read_text()
)["vale_rthash_vectors"]
MORE, INDIRECT = 32, 16


def frame(to: int, source: int, tag: int = 0, length: int = 60) -> bytes:
    """A frame between stations of these numbers; station 0 is the broadcast address."""
    head = b"".join(
        b"\xff" * 6 if number == 0 else b"\2\0\0\0\0" + bytes([number]) for number in (to, source)
    )
    return head + b"\x88\xb5" + bytes([tag]) * (length - 14)


@pytest.mark.parametrize(("text", "place"), VECTORS.items())
def test_the_hash_is_the_module_s(text: str, place: int) -> None:
    data = bytes.fromhex(text.replace(":", ""))
    assert rthash(address(memoryview(data), 0)) == place


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_a_frame_may_begin_at_any_byte(offset: int) -> None:
    """What is loaded as words where it is aligned is loaded by bytes elsewhere."""
    device = Device()
    one, two, three = (opened(device, f"vale0:{name}") for name in "abc")
    two.send(frame(0, 2))
    one.receive(), three.receive()
    data = frame(2, 1, 7)
    index = one.slot(True, 0)[0]
    at = one.region.bufs.offset_of(index) + offset
    one.region.u8[at : at + len(data)] = data
    one.set_slot(True, 0, index, len(data), 0)
    kring = one.ring(True)
    kring.pvt[11], kring.pvt[12] = 8, 0xFF
    one.region.u32[kring.slot_at(0) + 2] = offset
    one.write(True, 1, 1)
    assert one.txsync() == 0
    assert two.receive() == [data]
    assert three.receive() == []


def test_a_learned_station_gets_its_frames_alone_and_moves_in_the_middle_of_a_batch() -> None:
    device = Device()
    one, two, three = (opened(device, f"vale0:{name}") for name in "abc")
    two.send(frame(0, 2))
    one.receive(), three.receive()
    # Station 2 is at port b; then the very same batch says that it is at port a.
    one.send(frame(2, 1, 1), frame(2, 1, 2), frame(9, 2, 3), frame(2, 1, 4), frame(2, 1, 5))
    assert two.receive() == [frame(2, 1, 1), frame(2, 1, 2), frame(9, 2, 3)]
    assert three.receive() == [frame(9, 2, 3)]
    three.send(frame(2, 3, 6))
    assert one.receive() == [frame(2, 3, 6)]


def test_a_station_that_moves_is_found_by_the_very_frame_that_says_so() -> None:
    device = Device()
    one, two = opened(device, "vale0:a"), opened(device, "vale0:b")
    two.send(frame(0, 2))
    one.receive()
    one.send(frame(2, 1, 1), frame(2, 2, 2), frame(2, 1, 3))
    assert two.receive() == [frame(2, 1, 1)]


def test_a_group_is_no_source_to_be_learned() -> None:
    device = Device()
    one, two, three = (opened(device, f"vale0:{name}") for name in "abc")
    two.send(frame(0, 2))
    one.receive(), three.receive()
    place = rthash(address(memoryview(frame(2, 1)), 0))
    group = next(
        source
        for source in (b"\1\0\x5e" + number.to_bytes(3, "big") for number in range(1 << 16))
        if rthash(address(memoryview(source), 0)) == place
    )
    one.send(frame(0, 1)[:6] + group + frame(0, 1)[12:], frame(2, 1, 5))
    assert len(two.receive()) == 2
    assert len(three.receive()) == 1


def test_one_slot_of_a_receiver_stays_free() -> None:
    device = Device()
    one, two = opened(device, "vale0:a", nr_tx_slots=16), opened(device, "vale0:b")
    frames = [frame(0, 1, i) for i in range(10)]
    one.send(*frames)
    assert two.receive() == frames[:7]
    one.send(*frames)
    assert two.receive() == frames[:7]


def test_a_frame_for_the_own_port_is_dropped() -> None:
    device = Device()
    one, two = opened(device, "vale0:a"), opened(device, "vale0:b")
    one.send(frame(0, 1))
    two.receive()
    one.send(frame(1, 1, 1), frame(9, 1, 2))
    assert one.receive() == []
    assert two.receive() == [frame(9, 1, 2)]


def send_fragments(client: Client, *fragments: tuple[int, int, int, int]) -> None:
    """Send one packet of slots (buffer, length, more flags, ptr); buffer 0: the slot's own."""
    for i, (buffer, length, flags, ptr) in enumerate(fragments):
        more = MORE if i < len(fragments) - 1 else 0
        client.set_slot(True, i, buffer or client.slot(True, i)[0], length, flags | more)
        client.region.u32[client.ring(True).slot_at(i) + 2] = ptr
    client.write(True, len(fragments), len(fragments))
    assert client.txsync() == 0


def test_an_indirect_frame_is_read_from_the_client_s_memory() -> None:
    device = Device()
    one, two = opened(device, "vale0:a"), opened(device, "vale0:b")
    data = frame(0, 1, 5, 200)
    send_fragments(one, (0, len(data), INDIRECT, one.memory.map(bytearray(data))))
    assert two.receive() == [data]


@pytest.mark.parametrize(
    "bad", [(99999, 60, 0, 0), (1, 60, 0, 0), (0, 60, INDIRECT, 4), (0, 9999, 0, 0)]
)
def test_a_packet_whose_first_fragment_is_nowhere_is_dropped(
    bad: tuple[int, int, int, int],
) -> None:
    device = Device()
    one, two = opened(device, "vale0:a"), opened(device, "vale0:b")
    one.put(1, frame(0, 1))
    send_fragments(one, bad, (0, 60, 0, 0))
    assert two.receive() == []
    assert one.ring(True).shown() == (2, 2, 1)


def test_a_later_fragment_that_is_nowhere_is_empty() -> None:
    device = Device()
    one, two = opened(device, "vale0:a"), opened(device, "vale0:b")
    one.put(0, frame(0, 1))
    send_fragments(one, (0, 60, 0, 0), (0, 60, INDIRECT, 4), (0, 10, 0, 0))
    assert two.rxsync() == 0
    assert [two.slot(False, i)[1:] for i in range(3)] == [
        (60, 3 << 8 | MORE),
        (0, 3 << 8 | MORE),
        (10, 3 << 8),
    ]


def test_a_packet_that_does_not_fit_stops_what_is_behind_it() -> None:
    """As the real switch does within a batch: a short packet does not overtake a long one."""
    device = Device()
    one, two = opened(device, "vale0:a", nr_tx_slots=16), opened(device, "vale0:b")
    for i in range(5):
        one.put(i, frame(0, 1, i))
    for i in range(5, 9):
        one.put(i, frame(0, 1, i), MORE if i < 8 else 0)
    one.put(9, frame(0, 1, 9))
    one.write(True, 10, 10)
    assert one.txsync() == 0
    assert two.receive() == [frame(0, 1, i) for i in range(5)]


@pytest.mark.parametrize("index", [0, 1, 4098, 2**32 - 1])
def test_a_receiver_that_took_a_buffer_away_harms_nobody(index: int) -> None:
    device = Device()
    one, two = opened(device, "vale0:a"), opened(device, "vale0:b")
    assert two.region.bufs.layout.objtotal == 4098
    two.set_slot(False, 0, index, 0, 0)
    one.send(frame(0, 1), frame(0, 1, 2))
    assert two.rxsync() == 0
    assert two.ring(False).shown() == (0, 0, 2)
    assert two.frame(1) == frame(0, 1, 2)


def test_a_stack_that_answers_at_once_does_so_behind_the_batch() -> None:
    """The answers are forwarded when the batch is: ports behind the stack's get that as it was."""
    device = Device()
    dm0 = device.state.add_interface(NetInterface("dm0"))
    one = opened(device, "vale0:a")
    attach(device.state, "vale0:dm0", NR_REG_NIC_SW, 0, 0, None)
    two = opened(device, "vale0:b")
    dm0.stack = lambda data: dm0.send(frame(0, 7, data[14] + 16))
    batch = [frame(0, 1, tag, 60 + tag) for tag in range(3)]
    one.send(*batch)
    answers = [frame(0, 7, tag) for tag in (16, 17, 18)]
    assert one.receive() == answers
    assert two.receive() == batch + answers


@pytest.mark.parametrize("cables", [1, 3])
def test_a_cable_between_two_ports_of_a_switch_brings_a_frame_back_a_few_times(cables: int) -> None:
    """For ever, on a real machine."""
    device = Device()
    one = opened(device, "vale0:a")
    for i in range(cables):
        ends = [device.state.add_interface(NetInterface(f"v{side}{i}")) for side in "ab"]
        join_pair(*ends)
        for end in ends:
            attach(device.state, f"vale0:{end.name}", NR_REG_ALL_NIC, 0, 0, None)
    two = opened(device, "vale0:b", nr_rx_slots=1024)
    batch = [frame(0, 1, tag) for tag in (1, 2)]
    one.send(*batch)
    received = two.receive()
    assert received[:2] == batch
    assert set(received) == set(batch)
    if cables == 1:
        # It comes in at each end of the cable, in each round.
        assert received.count(batch[0]) == received.count(batch[1]) == 1 + 2 * MOST_ROUNDS
    one.receive()
    one.send(frame(0, 1, 3))
    assert two.receive()[0] == frame(0, 1, 3)


def test_both_engines_do_the_same() -> None:
    pytest.importorskip("numba")

    def play() -> list[list[bytes]]:
        device = Device()
        ports = [opened(device, f"vale0:{i}", nr_tx_slots=32, nr_rx_slots=16) for i in range(4)]
        for round_number in range(12):
            for i, port in enumerate(ports):
                port.send(
                    *(
                        frame((i + k + round_number) % 5, 1 + (i + k // 3) % 4, k, 60 + 13 * k)
                        for k in range(7)
                    )
                )
        return [port.receive() for port in ports]

    with using("plain"):
        plain = play()
    with using("fast"):
        assert play() == plain
    assert all(plain)
