"""``tap:NAME@NETNS`` against the kernel: frames of real sockets, offloads, errors."""

from __future__ import annotations

import os
import random
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from namespaces import ip, namespace, why_none, wire
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from tap_frames import ETHER, V4, V6, blank, header, tcp, udp, vxlan_tcp

from xennet.abi.if_tun import IFF_NO_PI, IFF_TAP, IFREQ, TUNSETIFF
from xennet.frames import (
    CSUM_BLANK,
    DATA_VALIDATED,
    EVERYTHING,
    NOTHING,
    UNBOUNDED,
    FrameBatch,
    Offload,
    attach,
)
from xennet.link.vif import VifLink
from xennet.port import PortError, open_port
from xennet.pump import Pump, RealClock
from xennet.runloop import RunLoop
from xennet.tap import port as tap_port
from xennet.tap.device import TUN_DEVICE, name_fault, offload_flags
from xennet.tap.namespace import within
from xennet.tap.port import TapPort
from xennet.wrap import OffloadEdge, check_order

_WHY = why_none()
pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.skipif(bool(_WHY), reason=_WHY or "-"),
]

#: linux/if_packet.h; the module socket does not have them.
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
#: For a program that is not to load the compiled engine.
PLAIN = {**os.environ, "XENNET_ENGINE": "plain"}
BLANK = CSUM_BLANK | DATA_VALIDATED


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace() as name:
        yield name


@pytest.fixture
def port(netns: str) -> Iterator[TapPort]:
    port = TapPort(f"t0@{netns}")
    yield port
    port.close()


def new_batch(size: int = 1 << 19, frames: int = 256) -> FrameBatch:
    return FrameBatch(memoryview(bytearray(size)), frames)


def pull(port: TapPort, size: int = 1 << 19, frames: int = 256) -> list[bytes]:
    batch = new_batch(size, frames)
    assert port.pull(batch) == batch.count
    return [bytes(frame) for frame in batch]


def pull_all(port: TapPort) -> list[bytes]:
    found: list[bytes] = []
    while more := pull(port):
        found += more
    return found


def push(port: TapPort, *frames: bytes, flags: int = 0, gso: tuple[int, int] = (0, 0)) -> None:
    batch = new_batch(frames=300)
    for frame in frames:
        batch.append(frame, flags=flags, gso_size=gso[0], gso_type=gso[1])
    port.push(batch)


def numbered(number: int, size: int = 60) -> bytes:
    return b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(size - 18)


# -- frames ----------------------------------------------------------------------------------------


def test_frames_come_in_order_and_go_in_order(port: TapPort, netns: str) -> None:
    with wire(netns, "t0") as outside:
        for number in range(150):
            outside.send(numbered(number, 60 + number))
        batch = new_batch()
        assert port.pull(batch) == tap_port.PULL_FRAMES  # so much at once
        assert all(batch.timestamp[:64])
        assert not any(batch.flags)
        assert not any(batch.gso_size)
        found = [bytes(frame) for frame in batch] + pull_all(port)
        assert found == [numbered(number, 60 + number) for number in range(150)]
        push(port, *(numbered(number, 1514) for number in range(300)))
        assert [outside.recv(2000) for _ in range(300)] == [
            numbered(number, 1514) for number in range(300)
        ]
    counters = port.counters
    assert (counters.frames_in, counters.frames_out) == (150, 300)
    assert (counters.bytes_in, counters.bytes_out) == (sum(range(60, 210)), 300 * 1514)
    assert port.room == UNBOUNDED
    assert port.carries == EVERYTHING
    assert port.expected is None


def test_a_frame_longer_than_the_rest_of_a_batch_waits(port: TapPort, netns: str) -> None:
    frames = [numbered(number, 60 + 200 * number) for number in range(7)]
    with wire(netns, "t0") as outside:
        for frame in frames:
            outside.send(frame)
    found, seen = pull(port, 1400), 0
    while len(found) > seen:
        seen = len(found)
        found += pull(port, 1400)
    assert found == frames
    with wire(netns, "t0") as outside:
        outside.send(frames[6])
        for _ in range(2):
            with pytest.raises(IndexError, match="holds no next frame"):
                pull(port, 100)
    assert pull_all(port) == [frames[6]]


def test_frames_are_put_behind_those_of_the_batch(port: TapPort, netns: str) -> None:
    with wire(netns, "t0") as outside:
        outside.send(numbered(1))
        batch = new_batch()
        batch.append(numbered(0), flags=CSUM_BLANK, gso_size=9)
        assert port.pull(batch) == 1
    assert [bytes(frame) for frame in batch] == [numbered(0), numbered(1)]
    assert (batch.flags[0], batch.gso_size[0]) == (CSUM_BLANK, 9)


def test_the_kernel_drops_what_nobody_pulls_and_it_is_counted(port: TapPort, netns: str) -> None:
    with wire(netns, "t0") as outside:
        for number in range(1100):
            outside.send(numbered(number))
    port.finish()
    assert port.counters.dropped_unread == 100
    assert pull_all(port) == [numbered(number) for number in range(1000)]
    assert port.exhausted


#: Frames to be sent, by length; or a pull into a batch of so many bytes and frames.
_STEPS = st.one_of(
    st.lists(st.integers(18, 1514), min_size=1, max_size=20),
    st.tuples(st.integers(0, 6000), st.integers(1, 80)),
)


@given(steps=st.lists(_STEPS, max_size=30))
@settings(max_examples=40)
def test_batches_of_any_size_get_every_frame_once_and_in_order(
    netns: str, steps: list[list[int] | tuple[int, int]]
) -> None:
    port, pump = TapPort(f"t0@{netns}"), Pump(RunLoop(), RealClock())
    woken: list[int] = []
    attach(port, lambda: woken.append(1), pump.watch)
    sent: list[bytes] = []
    found: list[bytes] = []
    try:
        with wire(netns, "t0") as outside:
            for step in steps:
                if isinstance(step, list):
                    for length in step:
                        sent.append(numbered(len(sent), length))
                        outside.send(sent[-1])
                    continue
                with suppress(IndexError):  # too small for the next one
                    more = pull(port, *step)
                    found += more
                    if not more and len(found) < len(sent):
                        woken.clear()
                        pump.turn()
                        assert woken  # what has come since the last look is told
            while more := pull(port) or pull(port):  # a first one may stand for the last look
                found += more
    finally:
        port.close()
        pump.close()
    assert found == sent


# -- offloads --------------------------------------------------------------------------------------


@pytest.fixture
def flow(port: TapPort, netns: str) -> Iterator[Callable[..., None]]:
    """Sends UDP datagrams, or the first segment of a TCP connection, from the tap's address."""
    ip(netns, "address", "add", "10.77.0.1/24", "dev", "t0")
    neighbour = ("10.77.0.2", "lladdr", "02:00:00:00:00:02", "dev", "t0", "nud", "permanent")
    ip(netns, "neighbour", "add", *neighbour)
    made = within(netns, partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))

    def send(*payloads: bytes) -> None:
        for payload in payloads:
            made.sendto(payload, ("10.77.0.2", 9))

    yield send
    made.close()


def test_checksums_are_blank_once_the_link_takes_them(
    port: TapPort, flow: Callable[..., None]
) -> None:
    seen = []
    for offload in (NOTHING, EVERYTHING, Offload(csum_v6=False, gso_types=0)):
        port.negotiated(offload)
        flow(b"hello")
        batch = new_batch()
        assert port.pull(batch) == 1
        frame = bytes(batch.frame(0))
        seen.append((batch.flags[0], Ether(frame)[UDP].chksum == right_sum(frame)))
    assert seen == [(0, True), (BLANK, False), (0, True)]


def right_sum(frame: bytes) -> int:
    """The right UDP checksum."""
    packet = Ether(frame)
    del packet[UDP].chksum
    return int(Ether(bytes(packet))[UDP].chksum)


def test_datagrams_longer_than_the_mtu_are_fragments(
    port: TapPort, flow: Callable[..., None]
) -> None:
    port.negotiated(EVERYTHING)
    flow(bytes(4000))
    batch = new_batch()
    assert port.pull(batch) == 3
    assert not any(batch.flags[:3])
    assert max(batch.length[:3]) <= 1514


def test_a_blank_checksum_that_is_pushed_is_trusted(port: TapPort, netns: str) -> None:
    ip(netns, "address", "add", "10.77.0.2/24", "dev", "t0")
    mac = ip(netns, "link", "show", "t0").split("link/ether ")[1].split()[0]
    errors = checksum_errors(netns)
    server = within(netns, partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("10.77.0.2", 5201))
    server.settimeout(60)
    packet = Ether(src="02:00:00:00:00:01", dst=mac) / V4 / udp(8)
    frame = blank(packet, 34, 6)
    push(port, frame)  # nothing says that it is blank: a wrong checksum
    push(port, frame, flags=DATA_VALIDATED)
    push(port, frame, flags=BLANK)
    push(port, bytes(packet))
    with server:
        assert [server.recv(100) for _ in range(2)] == [bytes(8)] * 2
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.recv(100)
    assert checksum_errors(netns) - errors == 2


def checksum_errors(netns: str) -> int:
    """The number of UDP datagrams that the namespace dropped for their checksums."""
    snmp = within(netns, Path("/proc/thread-self/net/snmp").read_text)
    names, values = (line.split() for line in snmp.splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["InCsumErrors"])


@pytest.mark.parametrize("takes", [NOTHING, EVERYTHING])
def test_a_super_frame_arrives_whole_or_in_segments(
    port: TapPort, netns: str, takes: Offload
) -> None:
    """From one tap through a bridge of the kernel to another, which takes GSO or does not."""
    other = TapPort(f"t1@{netns}")
    try:
        ip(netns, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        for name in ("t0", "t1"):
            ip(netns, "link", "set", name, "master", "br0")
        ip(netns, "link", "set", "br0", "up")
        other.negotiated(takes)
        frame = blank(ETHER / V4 / tcp(9000), 34, 16)
        push(port, frame, flags=BLANK, gso=(1000, 1))
        batch = new_batch()
        other.pull(batch)
        rows = [
            (batch.length[i], batch.flags[i] & CSUM_BLANK, batch.gso_size[i], batch.gso_type[i])
            for i in range(batch.count)
        ]
        if takes is EVERYTHING:
            assert rows == [(9066, 1, 1000, 1)]
            assert bytes(batch.frame(0)) == frame
        else:
            assert rows == [(1066, 0, 0, batch.gso_type[i]) for i in range(9)]
            for segment in batch:
                right = Ether(bytes(segment))
                was = right[TCP].chksum
                del right[TCP].chksum
                assert Ether(bytes(right))[TCP].chksum == was
    finally:
        other.close()
        ip(netns, "link", "del", "br0")


def test_what_is_asked_of_the_kernel() -> None:
    csum, tso4, tso6, ecn = 1, 2, 4, 8
    assert offload_flags(EVERYTHING) == csum | tso4 | tso6 | ecn
    assert offload_flags(NOTHING) == 0
    assert offload_flags(Offload(gso_types=0)) == csum
    assert offload_flags(Offload(sg=False)) == csum
    assert offload_flags(Offload(gso_types=1 << 1)) == csum | tso4 | ecn
    # Blank ones of one IP version alone are worth having with GSO only.
    assert offload_flags(Offload(csum_v6=False)) == csum | tso4 | ecn
    assert offload_flags(Offload(csum_v4=False)) == csum | tso6 | ecn
    assert offload_flags(Offload(csum_v6=False, gso_types=0)) == 0


def test_whatever_a_local_program_sends_crosses_a_vif_or_is_counted(netns: str) -> None:
    """PACKET_VNET_HDR lets it say anything of its frames; the kernel looks at it first."""
    chance = random.Random(5)
    samples = [
        blank(ETHER / V4 / tcp(3000), 34, 16),
        blank(ETHER / V6 / tcp(3000), 54, 16),
        blank(ETHER / V4 / udp(1000), 34, 6),
        vxlan_tcp(),
    ]
    with namespace() as beyond:
        near, far = TapPort(f"t0@{netns}"), TapPort(f"t1@{beyond}")
        guest, host = check_order(OffloadEdge(near), OffloadEdge(far))
        link = VifLink(guest, host)
        link.open()
        accepted = 0
        with wire(netns, "t0") as outside:
            outside.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            for number in range(1500):
                frame = bytearray(chance.choice(samples))
                for _ in range(chance.choice((0, 0, 1, 5))):
                    frame[chance.randrange(len(frame))] = chance.randrange(256)
                if chance.random() < 0.3:
                    del frame[chance.randrange(14, len(frame)) :]
                anywhere = chance.randrange(len(frame))
                head = header(
                    chance.choice((0, 1, 1, 1, 2)),
                    chance.choice((0, 0, 1, 4, 5, 0x81)),
                    chance.choice((0, 54, 66, anywhere)),
                    chance.choice((1000, 1448, anywhere)),
                    chance.choice((34, 54, 84, anywhere)),
                    chance.choice((6, 16, chance.randrange(20))),
                )
                with suppress(OSError):  # EINVAL: the kernel does not believe it
                    accepted += outside.send(head[:10] + frame) > 0
                if number % 100 == 99:
                    link.carry()
        link.close()
        link.destroy()
        near.close()
        far.close()
    assert accepted > 200
    assert guest.outgoing.frames_sent == far.counters.frames_out > 200
    assert guest.outgoing.intact


# -- waiting ---------------------------------------------------------------------------------------


def test_a_readable_interface_wakes_once_until_it_was_emptied(port: TapPort, netns: str) -> None:
    pump = Pump(RunLoop(), RealClock())
    woken: list[int] = []
    attach(port, lambda: woken.append(1), pump.watch)
    with wire(netns, "t0") as outside:
        outside.send(numbered(1))
        pump.turn()
        pump.turn()
        assert woken == [1]
        assert not pump.watching
        assert pull(port) == [numbered(1)]
        assert pull(port) == []
        assert pump.watching
        pump.turn()
        assert woken == [1]
        outside.send(numbered(2))
        pump.turn()
        assert woken == [1, 1]
    port.close()
    assert not pump.watching
    pump.close()


# -- several queues --------------------------------------------------------------------------------


def test_flows_of_several_queues_stay_in_order_and_where_they_are(
    port: TapPort, netns: str
) -> None:
    port.configure(None, 4)
    pump = Pump(RunLoop(), RealClock())
    attach(port, lambda: None, pump.watch)
    flows, each = 16, 20
    queues_used = set()

    def frame(sport: int, number: int) -> bytes:
        return bytes(ETHER / V4 / UDP(sport=sport, dport=9) / number.to_bytes(4, "big"))

    def answer(sport: int) -> bytes:
        back = IP(src=V4.dst, dst=V4.src) / UDP(sport=9, dport=sport) / b"back"
        return bytes(Ether(src=ETHER.dst, dst=ETHER.src) / back)

    seen: dict[int, list[int]] = {}
    with wire(netns, "t0") as outside:
        for number in range(each):
            for sport in range(flows):
                outside.send(frame(sport + 1000, number))
            queues_used.update(select.select(port._device.queues, [], [], 0)[0])
            # Some of what waits is read, then every flow is answered, which could move it.
            note(seen, pull(port, frames=4))
            push(port, *(answer(sport + 1000) for sport in range(flows)))
        while found := pull(port):
            note(seen, found)
    assert queues_used == set(port._device.queues)
    assert set(seen) == set(range(1000, 1000 + flows))
    assert all(numbers == list(range(each)) for numbers in seen.values())
    port.close()
    pump.close()


def note(seen: dict[int, list[int]], frames: list[bytes]) -> None:
    for frame in frames:
        packet = Ether(frame)[UDP]
        seen.setdefault(packet.sport, []).append(int.from_bytes(bytes(packet.payload)[:4], "big"))


# -- the interface ---------------------------------------------------------------------------------


def test_the_interface_is_up_with_its_mtu_and_goes_when_it_is_closed(netns: str) -> None:
    port = TapPort(f"t9@{netns}")
    try:
        port.configure(9000, 1)
        shown = ip(netns, "-d", "link", "show", "t9")
        assert "mtu 9000" in shown
        assert ",UP" in shown
        assert "vnet_hdr on" in shown
        with wire(netns, "t9") as outside:
            outside.send(numbered(1, 9014))
        assert pull(port) == [numbered(1, 9014)]
    finally:
        port.close()
    assert "t9" not in ip(netns, "link", "show")
    port.close()


def mtu(netns: str, name: str) -> int:
    return int(ip(netns, "link", "show", name).split(" mtu ")[1].split()[0])


def test_frames_of_a_greater_mtu_are_gone_once_it_is_smaller(port: TapPort, netns: str) -> None:
    with wire(netns, "t0") as outside:
        outside.send(numbered(1, 1514))
        port.configure(9000, 1)
        outside.send(numbered(2, 1514))
        assert pull_all(port) == [numbered(1, 1514), numbered(2, 1514)]
        outside.send(numbered(3, 1514))
        port.configure(68, 2)
        assert pull_all(port) == []
        outside.send(numbered(4, 82))
        assert pull_all(port) == [numbered(4, 82)]


def test_the_mtu_is_no_more_than_the_link_takes(port: TapPort, netns: str) -> None:
    seen = []
    offloads = [Offload(sg=False, max_frame=length) for length in (4096, 914, 4096, 0)]
    for wanted in (1500, 9000):
        port.configure(wanted, 1)
        for offload in offloads:
            port.negotiated(offload)
            seen.append(mtu(netns, "t0"))
    assert seen == [1500, 900, 1500, 1500, 4082, 900, 4082, 9000]
    ip(netns, "link", "set", "t0", "mtu", "1400")
    port.negotiated(EVERYTHING)
    assert mtu(netns, "t0") == 1400  # nothing has changed since


def test_the_mtu_of_a_persistent_interface_is_its_owners(netns: str) -> None:
    ip(netns, "tuntap", "add", "dev", "old2", "mode", "tap")
    port = TapPort(f"old2@{netns}")
    try:
        port.negotiated(Offload(sg=False, max_frame=914))
        assert mtu(netns, "old2") == 1500
    finally:
        port.close()
        ip(netns, "tuntap", "del", "dev", "old2", "mode", "tap")


def test_without_a_namespace_it_is_in_the_process_own() -> None:
    port = TapPort("xennettest0")
    try:
        assert Path("/sys/class/net/xennettest0").exists()
    finally:
        port.close()
    assert not Path("/sys/class/net/xennettest0").exists()


def test_a_persistent_interface_is_taken_and_stays(netns: str) -> None:
    for kind in ((), ("multi_queue",)):
        ip(netns, "tuntap", "add", "dev", "old0", "mode", "tap", *kind)
        try:
            port = TapPort(f"old0@{netns}")
            port.configure(None, 2)
            with wire(netns, "old0") as outside:
                outside.send(numbered(1))
            assert pull(port) == [numbered(1)]
            port.close()
            assert "old0" in ip(netns, "link", "show")
        finally:
            ip(netns, "tuntap", "del", "dev", "old0", "mode", "tap", *kind)


def test_what_was_dropped_before_is_not_counted(netns: str) -> None:
    ip(netns, "tuntap", "add", "dev", "old1", "mode", "tap")
    counted = []
    try:
        for dropped in (100, 0, 50):
            port = TapPort(f"old1@{netns}")
            with wire(netns, "old1") as outside:
                for number in range(1000 + dropped if dropped else 5):
                    outside.send(numbered(number))
            port.finish()
            counted.append(port.counters.dropped_unread)
            port.close()
    finally:
        ip(netns, "tuntap", "del", "dev", "old1", "mode", "tap")
    assert counted == [100, 0, 50]


def test_an_interface_that_is_down_or_deleted(port: TapPort, netns: str) -> None:
    with wire(netns, "t0") as outside:
        outside.send(numbered(1))
    ip(netns, "link", "set", "t0", "down")
    push(port, numbered(2), numbered(3))
    assert port.counters.refused_by_kernel == 2
    assert pull(port) == [numbered(1)]
    assert pull(port) == []
    ip(netns, "link", "set", "t0", "up")
    with wire(netns, "t0") as outside:
        outside.send(numbered(4))
    assert pull(port) == [numbered(4)]
    ip(netns, "link", "del", "t0")
    with pytest.raises(PortError, match=rf"^tap t0 in {netns}: .*; was it deleted\?$"):
        pull(port)
    with pytest.raises(PortError, match="was it deleted"):
        push(port, numbered(5))
    port.negotiated(NOTHING)
    port.finish()
    assert port.counters.frames_in == 2


# -- bad specifications ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "tap: no interface name"),
        ("@ns", "tap: no interface name"),
        ("a234567890123456", "tap: a name has 15 bytes at most, 'a234567890123456' has 16"),
        ("a/b", "tap: 'a/b' is no interface name: no '/', ':', '%' or white space"),
        ("tap%d", "tap: 'tap%d' is no interface name"),
        ("t0@", "tap t0 in : '' is no name of a network namespace"),
        ("t0@a/b", "tap t0 in a/b: 'a/b' is no name of a network namespace"),
        ("t0@.", "tap t0 in .: '.' is no name of a network namespace"),
        ("t0@..", "tap t0 in ..: '..' is no name of a network namespace"),
        ("t0@a\0b", "tap t0 in a\0b: 'a\\x00b' is no name of a network namespace"),
        ("t0@é", "tap t0 in é: there is no network namespace 'é'; `ip netns add"),
        ("t0@absent", "tap t0 in absent: there is no network namespace 'absent'; `ip netns add"),
        ("lo", "tap lo: there is an interface of that name that is no TAP"),
    ],
)
def test_a_bad_specification_is_one_line(argument: str, message: str) -> None:
    with pytest.raises(PortError) as caught:
        open_port(f"tap:{argument}")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not Path("/run/netns/absent").exists()


@pytest.mark.parametrize("name", ["xennet-junk", "xennet-ä"])
def test_a_file_that_is_no_namespace(netns: str, name: str) -> None:
    path = Path("/run/netns") / name  # which is there: netns is in it
    path.touch()
    try:
        with pytest.raises(PortError) as caught:
            TapPort(f"t0@{name}")
        assert str(caught.value) == f"tap t0 in {name}: {name!r} is no network namespace"
    finally:
        path.unlink()


def test_names_as_the_kernel_takes_them() -> None:
    assert name_fault("a" * 15) == name_fault("..a") == name_fault("é") == ""
    assert name_fault("é" * 8) != ""
    assert name_fault(".") != ""
    assert name_fault("..") != ""
    assert name_fault("a\tb") != ""
    assert name_fault("a:b") != ""


def test_an_interface_that_another_program_uses(netns: str) -> None:
    holder = within(netns, partial(os.open, "/dev/net/tun", os.O_RDWR))
    try:
        ioctl(holder, TUNSETIFF, IFREQ.pack(b"busy0", IFF_TAP | IFF_NO_PI))
        with pytest.raises(PortError, match=f"^tap busy0 in {netns}: another program uses it$"):
            TapPort(f"busy0@{netns}")
    finally:
        os.close(holder)


def test_an_interface_that_another_port_uses(port: TapPort, netns: str) -> None:
    for queues in (1, 2):
        port.configure(None, queues)
        with pytest.raises(PortError, match=f"^tap t0 in {netns}: another program uses it$"):
            TapPort(f"t0@{netns}")


def test_an_interface_of_another_kind(netns: str) -> None:
    ip(netns, "tuntap", "add", "dev", "tun0", "mode", "tun")
    for name in ("lo", "tun0"):
        with pytest.raises(PortError, match=f"^tap {name} in {netns}: .* that is no TAP$"):
            TapPort(f"{name}@{netns}")
    ip(netns, "tuntap", "del", "dev", "tun0", "mode", "tun")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_an_interface_that_was_made_for_a_user_takes_no_privileges(netns: str) -> None:
    ip(netns, "tuntap", "add", "dev", "mine0", "mode", "tap", "user", "root")
    script = (
        "from xennet.tap.port import TapPort\n"
        "try:\n"
        "    port = TapPort('mine0')\n"
        "    port.configure(1500, 2)\n"
        "    port.configure(1400, 1)\n"
        "except Exception as error: print(error)\n"
    )
    without = ["setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", script]
    said = []
    for state in ("down", "up"):
        ip(netns, "link", "set", "mine0", state)
        done = subprocess.run(
            ["ip", "netns", "exec", netns, *without], capture_output=True, text=True, env=PLAIN
        )
        said.append(done.stdout)
    assert said == [
        "tap mine0: is down: `ip link set mine0 up` sets it up\n",
        "tap mine0: has MTU 1500: to change it needs CAP_NET_ADMIN\n",
    ]
    ip(netns, "tuntap", "del", "dev", "mine0", "mode", "tap")


def test_without_privileges_it_says_what_is_needed() -> None:
    script = (
        "import os, pyroute2.netlink.exceptions, xennet.tap.namespace\n"
        "from xennet.tap.port import TapPort\n"
        "from xennet.port import PortError\n"
        "os.setuid(65534)\n"
        "try: TapPort('t0')\n"
        "except PortError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=PLAIN)
    for_all = os.stat(TUN_DEVICE).st_mode & 0o006 == 0o006
    why = "needs root, or CAP_NET_ADMIN" if for_all else "/dev/net/tun: Permission denied"
    assert done.stdout.startswith(f"tap t0: {why}"), done


def test_descriptors_do_not_go_to_children(port: TapPort) -> None:
    assert not any(os.get_inheritable(queue) for queue in port._device.queues)
    assert select.select(port._device.queues, [], [], 0)[0] == []
