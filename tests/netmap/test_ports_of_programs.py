"""Ports as programs use them: opened by name, rings as objects, no copy of a frame."""

from __future__ import annotations

import gc
import select
import threading
from collections.abc import Callable, Iterator
from errno import EBADF, EBUSY, EINVAL, ENOENT, ENOMEM, ENXIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netmap_clients import all_free

import xennet.netmap
from xennet.abi.netmap import NR_NO_TX_POLL, NS_INDIRECT, NS_MOREFRAG
from xennet.netmap import NetmapError, Port
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.user.process_device import device_of_process

FRAME = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(range(46))

Opener = Callable[..., Port]


@pytest.fixture
def device() -> Device:
    device = Device()
    device.state.add_interface(NetInterface("dm0"))
    return device


@pytest.fixture
def opened(device: Device) -> Iterator[Opener]:
    ports: list[Port] = []

    def open_one(name: str, **more: object) -> Port:
        ports.append(xennet.netmap.open(name, device=device, **more))  # type: ignore[arg-type]
        return ports[-1]

    yield open_one
    for port in ports:
        port.close()


def test_frames_go_from_ring_to_ring(opened: Opener) -> None:
    sender, receiver = opened("netmap:vale0:a"), opened("vale0:b")
    ring = sender.tx_rings[0]
    assert ring.space == len(ring) - 1 == 1023
    slot = ring[ring.head]
    slot.put(FRAME)
    ring.hand_over()
    sender.txsync()
    assert (ring.head, ring.cur, ring.tail) == (1, 1, 0)
    receiver.rxsync()
    got = receiver.rx_rings[0]
    assert got.space == 1
    assert [bytes(one.data) for one in got.owned()] == [FRAME]
    assert got.timestamp > 10**15
    assert got[0].flags == 1 << 8
    assert (sender.name, sender.kernel_name) == ("netmap:vale0:a", "vale0:a")


def test_a_slots_views_are_the_memory_itself(opened: Opener) -> None:
    port = opened("vale0:a@conf:slots=8")
    ring = port.tx_rings[0]
    slot = ring[3]
    slot.put(b"abc")
    slot.data[1] = ord("X")
    assert bytes(slot.buffer[:4]) == b"aXc\0"
    assert slot.len == 3
    at = bytes(port.region).find(b"aXc")
    port.region[at] = ord("Y")
    assert bytes(slot.data) == b"YXc"
    other = ring[4]
    slot.buf_idx, other.buf_idx = other.buf_idx, slot.buf_idx
    assert bytes(other.buffer[:3]) == b"YXc"
    slot.flags, slot.ptr = 0x21, 1 << 40
    assert (slot.flags, slot.len, slot.ptr) == (0x21, 3, 1 << 40)


def test_a_pipe_moves_buffers_and_no_byte(opened: Opener) -> None:
    ends = [opened(f"netmap:dm0{role}1@conf:slots=8") for role in "{}"]
    tx, rx = ends[0].tx_rings[0], ends[1].rx_rings[0]
    slot = tx[0]
    slot.put(FRAME)
    buffer = slot.buf_idx
    tx.hand_over()
    ends[0].txsync()
    ends[1].rxsync()
    assert rx[0].buf_idx == buffer
    assert bytes(rx[0].data) == FRAME


def test_the_rings_that_a_name_binds(opened: Opener) -> None:
    def bound(name: str) -> tuple[list[int], list[int]]:
        port = opened(name)
        rings = [r.ringid for r in port.tx_rings], [r.ringid for r in port.rx_rings]
        port.close()
        return rings

    conf = "@conf:rings=3,slots=16"
    assert bound(f"vale0:a{conf}") == ([0, 1, 2], [0, 1, 2])
    assert bound(f"vale0:a-1{conf}") == ([1], [1])
    assert bound(f"vale0:a/R{conf}") == ([], [0, 1, 2])
    assert bound(f"vale0:a/T{conf}") == ([0, 1, 2], [])
    assert bound("netmap:dm0^") == ([1], [1])
    assert bound("netmap:dm0*") == ([0, 1], [0, 1])


def test_fields_of_the_request_and_extra_buffers(opened: Opener) -> None:
    port = opened("vale0:a", nr_extra_bufs=3, nr_rx_slots=32, nr_flags=NR_NO_TX_POLL)
    assert port.reply.nr_extra_bufs == 3
    assert port.rx_rings[0].num_slots == 32
    assert port.reply.nr_flags == NR_NO_TX_POLL


def test_whole_packets(opened: Opener) -> None:
    a, b = opened("vale0:a@conf:slots=8"), opened("vale0:b")
    ring = a.tx_rings[0]
    first, second = ring[0], ring[1]
    first.put(FRAME[:30], NS_MOREFRAG)
    second.put(FRAME[30:])
    ring.hand_over(2)
    assert all(a.inject(FRAME + bytes([i])) for i in range(5))
    assert not a.inject(FRAME)
    with pytest.raises(ValueError, match="2049 bytes do not fit a buffer of 2048 bytes"):
        ring[7].put(bytes(2049))
    a.txsync()
    b.rxsync()
    assert b.next_packet() == FRAME
    assert [b.next_packet() for _ in range(5)] == [FRAME + bytes([i]) for i in range(5)]
    assert b.next_packet() is None


def test_a_packet_without_its_end_is_not_given(opened: Opener) -> None:
    rx = opened("vale0:b@conf:slots=8").rx_rings[0]
    rx.flags = 2
    assert rx.flags == 2
    assert rx.packet() == []


def test_payload_in_the_clients_own_memory(opened: Opener) -> None:
    memory = ClientMemory()
    a, b = opened("vale0:a", memory=memory), opened("vale0:b")
    ring = a.tx_rings[0]
    slot = ring[0]
    slot.len, slot.flags, slot.ptr = len(FRAME), NS_INDIRECT, memory.map(bytearray(FRAME))
    ring.hand_over()
    a.txsync()
    b.rxsync()
    assert b.next_packet() == FRAME


def test_a_client_that_moves_head_wrongly_gets_its_ring_set_right(opened: Opener) -> None:
    port = opened("vale0:a@conf:slots=8")
    ring = port.tx_rings[0]
    for wrong in (8, -1 & 0xFFFFFFFF):
        ring.head = wrong
        assert port.poll(select.POLLOUT) == select.POLLOUT | select.POLLERR
        assert (ring.head, ring.cur, ring.tail) == (0, 0, 7)
    with pytest.raises(IndexError, match="8 slots on, the space is 7"):
        ring.hand_over(8)


def test_places_that_are_none(opened: Opener) -> None:
    ring = opened("vale0:a@conf:slots=8").tx_rings[0]
    for index in (-1, 8):
        with pytest.raises(IndexError):
            ring[index]
    slot = ring[0]
    for buffer in (0, 1, 2**32 - 1):
        slot.buf_idx = buffer
        with pytest.raises(IndexError):
            slot.data  # noqa: B018
    slot.buf_idx, slot.len = 2, 2049
    with pytest.raises(IndexError):
        slot.data  # noqa: B018


def test_offsets_in_buffers(opened: Opener) -> None:
    port = opened("vale0:a@offset:initial=64,bits=16", offsets=True)
    slot = port.tx_rings[0][0]
    assert slot.ptr == 64
    slot.put(b"abc")
    assert bytes(slot.buffer[64:67]) == bytes(slot.data) == b"abc"


def test_a_file_as_memory(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(bytes(16 << 20))
    port = opened(f"vale0:a@extmem:file={path},buf-num=5000")
    port.tx_rings[0][0].put(FRAME)
    port.close()
    assert FRAME in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "errno", "says"),
    [
        ("netmap:xn0", ENXIO, "xn0: No such device or address"),
        ("netmap:dm0-7", EINVAL, "dm0: Invalid argument"),
        ("vale0:a@extmem=/no/such/file", ENOENT, "cannot open '/no/such/file'"),
        ("vale0:a@extmem={folder}/empty", EINVAL, "cannot mmap"),
        ("vale0:a@extmem={folder}/small", ENOMEM, "vale0:a: option extmem: Cannot allocate"),
        ("vale0:a@extmem=\0", EINVAL, "cannot open"),
        ("vale0:" + 16 * "a", ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_cannot_be_opened(
    opened: Opener, device: Device, tmp_path: Path, name: str, errno: int, says: str
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "small").write_bytes(bytes(1 << 20))
    with pytest.raises(NetmapError, match=says) as caught:
        opened(name.format(folder=tmp_path))
    assert caught.value.errno == errno
    assert device.state.switches.find("vale0:x") is None
    assert all_free(device.state.regions.shared)


def test_an_exclusive_port(opened: Opener) -> None:
    opened("vale0:a/x")
    with pytest.raises(NetmapError) as caught:
        opened("vale0:a")
    assert caught.value.errno == EBUSY


def test_it_can_be_selected(opened: Opener) -> None:
    a, b = opened("vale0:a"), opened("vale0:b")

    def readable() -> bool:
        return bool(select.select([b], [], [], 0)[0])

    assert readable(), "what came before is found by a first sync"
    b.rxsync()
    assert not readable()
    a.inject(FRAME)
    assert not readable()
    a.txsync()
    assert readable()
    b.rxsync()
    assert readable(), "a frame is unread"
    assert b.next_packet() == FRAME
    b.poll(select.POLLIN)
    assert not readable()


def test_another_thread_wakes_a_sleeper(opened: Opener) -> None:
    a, b = opened("vale0:a"), opened("vale0:b")
    b.fileno()
    b.rxsync()
    a.inject(FRAME)
    thread = threading.Timer(0.02, a.txsync)
    thread.start()
    assert select.select([b], [], [], 60)[0] == [b]
    thread.join()


def test_a_sender_on_a_pipe_is_woken_by_its_reader(opened: Opener) -> None:
    sender, reader = opened("netmap:dm0{1@conf:slots=8"), opened("netmap:dm0}1")
    while sender.inject(FRAME):
        pass
    sender.fileno()
    sender.txsync()
    assert not select.select([sender], [], [], 0)[0]
    reader.rxsync()
    while reader.next_packet():
        pass
    reader.rxsync()
    assert select.select([sender], [], [], 0)[0]
    sender.txsync()
    assert sender.tx_rings[0].space == 7


def test_a_closed_port_is_gone(device: Device) -> None:
    with xennet.netmap.open("netmap:dm0", device=device) as port:
        region = port.file.bound().port.region
        number = port.fileno()
        ring = port.tx_rings[0]
        assert "tx0" in repr(port)
        assert "buffer" in repr(ring[0])
    assert port.closed
    port.close()
    assert all_free(region)
    assert "closed" in repr(port)
    assert port.tx_rings == []
    for call in (port.txsync, port.rxsync, port.fileno):
        with pytest.raises(NetmapError) as caught:
            call()
        assert caught.value.errno in (ENXIO, EBADF)
    with pytest.raises(OSError, match="Bad file descriptor"):
        select.select([number], [], [], 0)


def test_ports_of_a_process_are_on_one_device() -> None:
    with xennet.netmap.open("vale0:a") as a, xennet.netmap.open("vale0:b") as b:
        assert a.device is b.device is device_of_process()
        a.inject(FRAME)
        a.txsync()
        b.rxsync()
        assert b.next_packet() == FRAME


def test_a_thousand_ports_leave_memory_as_it_was(device: Device) -> None:
    memory = ClientMemory()
    for i in range(1000):
        with xennet.netmap.open(f"vale{i % 8}:{i}", device=device, memory=memory):
            pass
    gc.collect()
    assert memory._mappings == {}
    assert list(device.state.regions.by_id) == [1]


@given(st.lists(st.tuples(st.sampled_from("stra"), st.integers(0, 9)), max_size=30))
def test_head_cur_and_tail_stay_in_order(steps: list[tuple[str, int]]) -> None:
    device = Device()
    a, b = (xennet.netmap.open(f"vale0:{n}@conf:slots=8", device=device) for n in "ab")
    sent: list[bytes] = []
    for kind, number in steps:
        if kind == "s":
            frames = [
                FRAME + bytes([len(sent) + i]) for i in range(min(number, a.tx_rings[0].space))
            ]
            assert all(a.inject(frame) for frame in frames)
            sent += frames
        elif kind == "t":
            room = 7 - (b.file.bound().binding.rings(False)[0].pending)
            waiting = (a.tx_rings[0].head - a.file.bound().binding.rings(True)[0].hwcur) % 8
            a.txsync()
            if waiting > room:
                del sent[len(sent) - waiting + room :]
        elif kind == "r":
            b.rxsync()
        else:
            for _ in range(number):
                if (packet := b.next_packet()) is not None:
                    assert packet == sent.pop(0)
        for port in (a, b):
            for ring in port.tx_rings + port.rx_rings:
                assert ring.head == ring.cur
                assert 0 <= ring.space < ring.num_slots
    a.close()
    b.close()
