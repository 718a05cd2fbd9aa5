"""netmap as a port and as a link of a run: what the contracts of both do not ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xennet.netmap
from xennet.abi.netmap import NS_MOREFRAG
from xennet.cli import main
from xennet.errors import LinkError
from xennet.frames import EVERYTHING, MAX_FRAME, MIN_FRAME, UNBOUNDED, FrameBatch
from xennet.link.netmap_switch import NetmapLink, port_names
from xennet.netmap.device import Device
from xennet.netmap.user.frame_port import NetmapPort
from xennet.port import PortError, open_port
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.testing.link_contract import Stack
from xennet.testing.sample_frames import Frame, drain, frames_of, new_batch, numbered, of_sizes


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def pair(device: Device) -> Iterator[tuple[NetmapPort, NetmapPort]]:
    ports = NetmapPort("vale0:a", device=device), NetmapPort("vale0:b@conf:slots=16", device=device)
    yield ports
    for port in ports:
        port.close()


def data(frames: list[Frame]) -> list[bytes]:
    return [frame.data for frame in frames]


# --- the port -------------------------------------------------------------------------------------


def test_what_a_receiver_has_no_room_for_is_dropped(pair: tuple[NetmapPort, NetmapPort]) -> None:
    sender, receiver = pair
    assert (sender.room, receiver.room) == (1023, 15)
    sender.push(new_batch(numbered(40)))
    assert data(drain(receiver)) == data(numbered(15))
    assert sender.room == 1023
    sender.push(new_batch(numbered(16)))  # one more, behind 15 that fit
    assert data(drain(receiver)) == data(numbered(15))
    assert receiver.counters.dropped_unread == receiver.counters.lost == 25 + 1
    assert sender.counters.lost == 0


def test_frames_have_the_time_of_the_ring(pair: tuple[NetmapPort, NetmapPort]) -> None:
    sender, receiver = pair
    sender.push(new_batch(numbered(2)))
    stamps = {frame.timestamp for frame in drain(receiver)}
    assert len(stamps) == 1
    assert min(stamps) > 10**18


def test_a_port_is_woken_by_frames_that_come(pair: tuple[NetmapPort, NetmapPort]) -> None:
    sender, receiver = pair
    woken: list[int] = []
    receiver.listen(lambda: woken.append(1))
    sender.push(new_batch(numbered(1)))
    assert woken


def test_a_pipe_has_room_again_when_its_reader_has_pulled(device: Device) -> None:
    sender, reader = (NetmapPort(f"x{end}1@conf:slots=8", device=device) for end in "{}")
    woken: list[int] = []
    sender.listen(lambda: woken.append(1))
    sender.push(new_batch(numbered(7)))
    assert sender.room == 0
    with pytest.raises(IndexError, match="8 frames pushed, room for 0"):
        sender.push(new_batch(numbered(8)))
    assert data(drain(reader)) == data(numbered(7))
    assert woken == [1]
    assert sender.room == 7
    sender.close()
    reader.close()
    assert list(device.state.regions.by_id) == [1]


def test_a_packet_of_several_slots_is_one_frame(device: Device) -> None:
    receiver = NetmapPort("vale0:b", device=device)
    with xennet.netmap.open("vale0:a", device=device) as sender:
        ring = sender.tx_rings[0]
        frame = of_sizes([5000])[0].data
        for i in range(3):
            ring[i].put(frame[2000 * i : 2000 * (i + 1)], NS_MOREFRAG if i < 2 else 0)
        for i in range(3, 43):
            ring[i].put(frame[:2000], NS_MOREFRAG if i < 42 else 0)
        ring[43].put(frame[:60])
        ring.hand_over(44)
        sender.txsync()
    assert data(drain(receiver)) == [frame, frame[:60]]
    assert receiver.counters.refused_oversize == 1
    with xennet.netmap.open("vale0:a", device=device) as sender:
        sender.inject(frame[:60])
        sender.txsync()
    with pytest.raises(IndexError, match="the batch is too small"):
        receiver.pull(new_batch(size=59))
    assert len(drain(receiver)) == 1
    receiver.close()


def test_slots_that_another_client_spoiled(device: Device) -> None:
    sender, receiver = (NetmapPort(f"vale0:{name}", device=device) for name in "ab")
    with xennet.netmap.open("vale0:a", device=device) as other:
        other.tx_rings[0][1].buf_idx = 2**32 - 1
        other.tx_rings[0][2].buf_idx = 1
    sender.push(new_batch(numbered(4)))
    assert data(drain(receiver)) == data([numbered(4)[0], numbered(4)[3]])
    assert sender.counters.faults == (
        "netmap:vale0:a: 2 frames were not sent: longer than a buffer, or a bad slot",
    )
    with xennet.netmap.open("vale0:b", device=device) as other:
        sender.push(new_batch(numbered(3)))
        other.rxsync()
        other.rx_rings[0][2].buf_idx = 0
        other.rx_rings[0][3].len = 65535
        assert data(drain(receiver)) == data(numbered(3, first=2)[:1])
        other.rx_rings[0].head = 5000
        assert drain(receiver) == []
        assert receiver.room
        other.tx_rings[0].head = 5000
        receiver.push(new_batch(numbered(1)))
        assert "1 frames were not sent" in receiver.counters.faults[0]
    assert receiver.counters.refused_oversize == 2
    sender.close()
    receiver.close()


def test_ports_of_one_direction(device: Device) -> None:
    sender, receiver = (NetmapPort(name, device=device) for name in ("vale0:a/T", "vale0:b/R"))
    sender.push(new_batch(numbered(3)))
    assert drain(sender) == []
    assert len(drain(receiver)) == 3
    assert receiver.room == UNBOUNDED
    receiver.push(new_batch(numbered(2)))
    receiver.push(new_batch(numbered(2)))
    why = "netmap:vale0:b/R: 4 frames were not sent: the port has no tx ring"
    assert receiver.counters.faults == (why,)
    assert not receiver.exhausted
    receiver.finish()
    assert drain(receiver) == []
    assert receiver.exhausted
    sender.close()
    receiver.close()
    assert drain(receiver) == []


def test_a_port_that_syncs_no_more_says_so(device: Device) -> None:
    port = NetmapPort("vale0:a", device=device)
    port._port.file.unregister()
    with pytest.raises(PortError, match="netmap:vale0:a: ENXIO"):
        port.pull(new_batch())
    port._port._waiting.clear()
    port.close()


@pytest.mark.usefixtures("engine")
def test_whatever_another_client_writes_into_the_rings_a_port_goes_on() -> None:
    word = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))
    writes = st.lists(st.tuples(st.booleans(), st.integers(0, 100), word), max_size=12)

    @given(st.lists(writes, max_size=5))
    def walk(rounds: list[list[tuple[bool, int, int]]]) -> None:
        device = Device()
        names = "vale0:a@conf:slots=8", "vale0:b@conf:slots=8"
        sender, receiver = (NetmapPort(name, device=device) for name in names)
        others = [xennet.netmap.open(name, device=device) for name in names]
        for words in rounds:
            sender.push(new_batch(numbered(min(3, sender.room))))
            for of_sender, place, value in words:
                port = others[0 if of_sender else 1]
                ring = port.tx_rings[0] if of_sender else port.rx_rings[0]
                # From head, cur and tail on, through the slots.
                at = ring.at + 20 + 4 * place if place < 3 else ring.at + 256 + 4 * (place % 32)
                port.region[at : at + 4] = value.to_bytes(4, "little")
            frames = drain(receiver, most=4)
            assert all(MIN_FRAME <= len(frame.data) <= MAX_FRAME for frame in frames)
        for port in (sender, receiver, *others):
            port.close()
        assert list(device.state.regions.by_id) == [1]

    walk()


@pytest.mark.parametrize("name", ["vale0:a", "cable{1"])
@pytest.mark.usefixtures("engine")
def test_any_frames_come_as_they_were_sent(name: str) -> None:
    @given(st.lists(st.lists(st.integers(14, 2048), max_size=20), max_size=8), st.integers(1, 9))
    def walk(batches: list[list[int]], most: int) -> None:
        device = Device()
        other = name.replace(":a", ":b").replace("{", "}")
        sender, receiver = (NetmapPort(one, device=device) for one in (name, other))
        for sizes in batches:
            frames = [Frame(bytes([i, *bytes(size - 1)])) for i, size in enumerate(sizes)]
            frames = [Frame(b"\xff" * 6 + f.data[: len(f.data) - 6]) for f in frames]
            assert sender.room >= len(frames)
            sender.push(new_batch(frames))
            assert data(drain(receiver, most=most)) == data(frames)
        sender.close()
        receiver.close()

    walk()


# --- vifs on a switch -----------------------------------------------------------------------------


def test_two_guests_on_a_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.pcap"
    command = ["run", "--guests", "2", "--quiet", "--guest", "tcp:1514x200", "--guest"]
    command += [f"record:{out}", "--host", "netmap:cable{1", "--host", "netmap:cable}1"]
    assert main(command) == 0
    recorded = open_port(f"pcap:{out}")
    assert len(drain(recorded)) == 200
    recorded.close()
    assert "GOOD" in capsys.readouterr().out


# --- the link -------------------------------------------------------------------------------------


def opened(link: NetmapLink, number: int = 1) -> list[tuple[Stack, Stack]]:
    ends = [(Stack(), Stack()) for _ in range(number)]
    for both in ends:
        link.join(*both)
    link.open()
    return ends


def mac(number: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, number])


def conversation(count: int) -> list[Frame]:
    """Frames between two stations, each answered."""
    ways = [(1, 2), (2, 1)]
    return [
        Frame(mac(to) + mac(source) + b"\x88\xb5" + bytes([i]) + bytes(45), timestamp=i)
        for i, (source, to) in enumerate(ways * count)
    ]


def test_the_ports_of_pairs() -> None:
    assert port_names("vale0", 0) == ("vale0:guest", "vale0:host")
    assert port_names("vale", 2) == ("vale_2:guest", "vale_2:host")
    assert port_names("a}b", 0) == ("a{b", "a}b")
    assert port_names("a{b", 1) == ("a_1{b", "a_1}b")
    for bad in ("", "a", "val", "vale0:1", "a{", "{b", "a{b{c", "a b{1", "vale0 "):
        with pytest.raises(ValueError, match="is no VALE switch"):
            port_names(bad, 0)


def test_a_switch_does_not_send_back_what_it_has_learned(device: Device) -> None:
    filtered: list[tuple[str, bytes, int]] = []
    link = NetmapLink("vale0", device=device)
    guest, host = Stack(), Stack()
    pair = link.join(guest, host, lambda frame, when: filtered.append(("down", frame, when)))
    link.filter_up(pair, lambda frame, when: filtered.append(("up", frame, when)))
    link.open()
    frames = conversation(3)
    guest.send(list(frames))
    link.carry()
    # The first frame goes everywhere; from the second on both are known to be the guest's.
    assert host.got == frames[:1]
    assert filtered == [("up", frame.data, frame.timestamp) for frame in frames[1:]]
    filtered.clear()
    host.send(conversation(1))
    link.carry()
    # Both are known at the guest's side; now the first is learned at the host's.
    assert len(guest.got) + len(filtered) == 2
    link.close()
    assert link.left_behind() == []
    assert device.state.switches.find("vale0:x") is None


def test_a_run_tells_what_the_switch_did_not_send_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "in.pcap", tmp_path / "out.pcap"
    port = open_port(f"record:{path}")
    port.push(new_batch(conversation(10)))
    port.close()
    command = ["run", "--link", "netmap:vale0", "--guest", f"pcap:{path}"]
    assert main([*command, "--host", f"record:{out}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "every frame but the filtered ones arrived unchanged and in order" in shown
    told = "the switch took 19 frames for addresses on the side that they came from"
    assert f"guest to host: {told}" in shown
    command[2] = "netmap:cable{1"
    assert main([*command, "--host", f"record:{out}", "--quiet"]) == 0
    recorded = open_port(f"pcap:{out}")
    assert [frame.data for frame in drain(recorded)] == data(conversation(10))
    recorded.close()


def test_what_other_ports_send_is_left_alone(device: Device) -> None:
    link = NetmapLink("vale0", device=device)
    ((guest, host),) = opened(link)
    with xennet.netmap.open("vale0:other", device=device) as other:
        for first in range(3):
            other.inject(numbered(1, first=100 + first)[0].data)
            other.txsync()
            guest.send(numbered(2, first=first))
            link.carry()
            host.send(numbered(1, 70, first=first))
            link.carry()
    assert data(host.got) == data([f for first in range(3) for f in numbered(2, first=first)])
    assert data(guest.got) == data([f for first in range(3) for f in numbered(1, 70, first=first)])
    assert [one.counters.opackets for one in link.interfaces] == [6, 3]
    link.destroy()


def test_more_pairs_than_there_are_switches(device: Device) -> None:
    link = NetmapLink("vale0", device=device)
    ends = opened(link, 20)
    ends[19][0].send(numbered(1))
    link.carry()
    assert data(ends[19][1].got) == data(numbered(1))
    link.destroy()
    assert list(device.state.regions.by_id) == [1]
    pipes = NetmapLink("x{1", device=device)
    ends = opened(pipes, 20)
    ends[19][0].send(numbered(1))
    pipes.carry()
    assert data(ends[19][1].got) == data(numbered(1))
    pipes.destroy()
    assert list(device.state.regions.by_id) == [1]


def test_a_port_that_is_taken(device: Device) -> None:
    with xennet.netmap.open("vale0:host/x", device=device):
        link = NetmapLink("vale0", device=device)
        with pytest.raises(LinkError, match="pair0: netmap:vale0:host: EBUSY"):
            opened(link)
        link.close()
    assert device.state.switches.find("vale0:x") is None


def test_an_mtu_has_to_fit_a_buffer(device: Device) -> None:
    link = NetmapLink("vale0", mtu=2049, device=device)
    with pytest.raises(LinkError, match="an MTU of 2049, a buffer has 2048 bytes"):
        opened(link)
    link.destroy()
    link = NetmapLink("vale0", mtu=100, device=device)
    ((guest, _),) = opened(link)
    assert guest.offloads[-1].max_frame == 114
    assert [one.mtu for one in link.interfaces] == [100, 100]
    assert not guest.offloads[-1].csum_v4
    assert guest.offloads[-1] != EVERYTHING
    link.destroy()


def test_what_goes_wrong_with_a_port_is_explained(device: Device) -> None:
    link = NetmapLink("vale0", device=device)
    assert link.explain(PortError("one line")) == "one line"
    link.destroy()


def test_a_switched_run_over_pipes() -> None:
    ports = [open_port("gen:60x50+null:") for _ in range(2)]
    options = RunOptions(link="netmap:cable{1", guests=2, switch=True)
    report = run_ports(ports, [], options, lambda direction, frames: None)
    assert report.verdict.good, report.verdict


def test_a_batch_keeps_what_was_in_it(pair: tuple[NetmapPort, NetmapPort]) -> None:
    sender, receiver = pair
    sender.push(new_batch(numbered(3, first=5)))
    batch: FrameBatch = new_batch(numbered(2))
    assert receiver.pull(batch) == 3
    assert [frame.data for frame in frames_of(batch)] == data(numbered(2) + numbered(3, first=5))
