"""Interfaces at the ends of links in netmap mode: frames of a client pass over the link, the stack
is cut off meanwhile, and has its interface back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EBUSY, EEXIST, EINVAL

import pytest
from attrs import define, field
from netmap_clients import all_free

from xennet.abi.netmap import NR_REG_ALL_NIC, NR_REG_NIC_SW
from xennet.frames import CSUM_BLANK, NOTHING, UNBOUNDED, BaseEndpoint, FrameBatch, Offload
from xennet.host.host import Host
from xennet.host.setup import Setup
from xennet.ifnet import Interface
from xennet.link.base_link import BaseLink
from xennet.link.epair import EpairLink
from xennet.link.vifs import Vifs
from xennet.netback.policy import VifOptions
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import FREEBSD
from xennet.netfront.options import NetfrontOptions
from xennet.netmap import NetmapError, Port
from xennet.netmap import open as open_port
from xennet.netmap.admode import ADMODE_BEST, ADMODE_GENERIC
from xennet.netmap.device import Device
from xennet.netmap.interface_end import TX_QUEUE_LEN, InterfaceEnd
from xennet.netmap.vale_nic import attach, detach
from xennet.port import open_port as open_frame_port
from xennet.wrap.offload_edge import OffloadEdge

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def frame(number: int, to: bytes = B, of: bytes = A, size: int = 60) -> bytes:
    return (to + of + b"\x88\xb5" + number.to_bytes(4, "big")).ljust(size, b"\0")


class StackEnd(BaseEndpoint):
    """A network stack: frames to send, and those that came."""

    def __init__(self) -> None:
        self.queued: list[bytes] = []
        self.flags = 0
        self.got: list[bytes] = []
        self.told: list[Offload] = []
        self.has_room = UNBOUNDED

    @property
    def room(self) -> int:
        return self.has_room

    def send(self, *frames: bytes) -> None:
        self.queued += frames
        self.wake()

    def pull(self, batch: FrameBatch, /) -> int:
        first = batch.count
        while self.queued and batch.has_room(len(self.queued[0])):
            batch.append(self.queued.pop(0), flags=self.flags)
        return batch.count - first

    def push(self, batch: FrameBatch, /) -> None:
        assert batch.count <= self.room
        self.got += [bytes(one) for one in batch]

    def negotiated(self, offload: Offload, /) -> None:
        self.told.append(offload)

    def taken(self) -> list[bytes]:
        got, self.got = self.got, []
        return got


Link = Vifs | EpairLink | BaseLink


@define
class Machine:
    """A link whose guest's interface netmap can have, by what adapter ``admode`` says. ``name``: of
    that interface."""

    link: Link
    admode: int = ADMODE_BEST
    device: Device = field(factory=Device)
    guest: StackEnd = field(factory=StackEnd)
    host: StackEnd = field(factory=StackEnd)
    end: InterfaceEnd = field(init=False)
    name: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.device.state.parameters.admode = self.admode
        self.end = InterfaceEnd(self.guest)
        pair = self.link.join(self.end, self.host)
        self.link.open()
        self.end.add(self.device, pair.interfaces[0])
        self.name = pair.interfaces[0].name

    def open(self, suffix: str = "") -> Port:
        return open_port(f"netmap:{self.name}{suffix}", device=self.device)

    def both_ways(self) -> tuple[list[bytes], list[bytes]]:
        """What the host and the guest get if each sends the other a frame."""
        self.guest.send(frame(101))
        self.host.send(frame(102, A, B))
        self.link.carry()
        return self.host.taken(), self.guest.taken()


BOTH = [frame(101)], [frame(102, A, B)]

LINKS: dict[str, Callable[[], Link]] = {
    "linux vif": lambda: Vifs(Setup()),
    "freebsd vif": lambda: Vifs(Setup(kind=FREEBSD)),
    "two queues": lambda: Vifs(
        Setup(front=NetfrontOptions(queues=2), back=VifOptions(max_queues=2))
    ),
    "freebsd backend": lambda: Vifs(Setup(policy=XNB)),
    "epair": EpairLink,
    "cable": BaseLink,
}


#: Links and adapters: those of a vif's guest are native, unless generic ones are wanted.
MACHINES = {name: (make, ADMODE_BEST) for name, make in LINKS.items()} | {
    f"{name}, generic": (LINKS[name], ADMODE_GENERIC)
    for name in ("linux vif", "freebsd vif", "two queues")
}


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    make, admode = MACHINES[request.param]
    made = Machine(make(), admode)
    yield made
    made.link.close()
    assert made.link.left_behind() == []
    made.link.destroy()


def received(port: Port) -> list[bytes]:
    """What is in the rx rings of a client."""
    port.rxsync()
    return list(iter(port.next_packet, None))


def sent(port: Port, *frames: bytes) -> None:
    for one in frames:
        assert port.inject(one)
    port.txsync()


def sent_in_turns(machine: Machine, port: Port, frames: list[bytes]) -> None:
    """Send what a ring holds, have it carried, and send more."""
    left = list(frames)
    while left:
        while left and port.inject(left[0]):
            left.pop(0)
        port.txsync()
        if left:
            machine.link.carry()
            port.txsync()


def test_frames_pass_between_a_client_and_the_other_end_and_the_stack_is_cut_off(
    machine: Machine,
) -> None:
    assert machine.both_ways() == BOTH
    with machine.open() as port:
        assert machine.end.in_netmap_mode
        frames = [frame(i) for i in range(300)]
        replies = [frame(i, A, B) for i in range(200)]
        sent_in_turns(machine, port, frames)
        machine.host.send(*replies)
        machine.guest.send(frame(999))
        machine.link.carry()
        assert sorted(machine.host.taken()) == frames
        assert sorted(received(port)) == replies
        assert machine.guest.got == []
        port.txsync()
        assert port.tx_rings[0].space == len(port.tx_rings[0]) - 1
    assert not machine.end.in_netmap_mode
    assert machine.both_ways() == BOTH  # what the stack sent meanwhile is lost


def test_the_host_rings_are_the_stack(machine: Machine) -> None:
    with machine.open("*") as port:
        machine.guest.send(frame(1), frame(2))
        machine.link.carry()
        assert received(port) == [frame(1), frame(2)]
        assert machine.host.got == []
        to_stack = port.tx_rings[-1]
        to_stack[to_stack.head].put(frame(3, A, B))
        to_stack.hand_over()
        machine.guest.has_room = 0
        port.txsync()
        assert machine.guest.got == []  # no room: dropped
        machine.guest.has_room = 1
        to_stack[to_stack.head].put(frame(4, A, B))
        to_stack.hand_over()
        port.txsync()
        assert machine.guest.taken() == [frame(4, A, B)]
    assert machine.both_ways() == BOTH


def test_with_its_host_rings_only_the_wire_is_the_stacks(machine: Machine) -> None:
    with machine.open("^"):
        assert machine.both_ways() == BOTH


def test_all_buffers_are_free_when_a_client_goes_with_frames_on_their_way(machine: Machine) -> None:
    port = machine.open()
    region = port.file.bound().port.region
    sent(port, *[frame(i) for i in range(40)])
    port.close()
    assert all_free(region)
    machine.link.carry()  # the driver has them still
    assert sorted(machine.host.taken()) == [frame(i) for i in range(40)]
    assert machine.both_ways() == BOTH


def test_a_driver_that_is_not_asked_takes_a_queue_full_and_the_rest_later() -> None:
    machine = Machine(BaseLink())
    with machine.open("@conf:slots=8") as port:
        frames = [frame(i) for i in range(TX_QUEUE_LEN + 20)]
        left = list(frames)
        while left:
            while left and port.inject(left[0]):
                left.pop(0)
            port.txsync()
            if not port.tx_rings[0].space:
                machine.link.carry()
        machine.link.carry()
        port.txsync()
        machine.link.carry()
        assert machine.host.taken() == frames


def test_more_than_the_drivers_queue_waits_in_the_ring() -> None:
    machine = Machine(BaseLink())
    with machine.open() as port:
        assert len(port.tx_rings[0]) - 1 > TX_QUEUE_LEN
        frames = [frame(i) for i in range(len(port.tx_rings[0]) - 1)]
        sent(port, *frames)
        machine.link.carry()
        assert machine.host.taken() == frames[:TX_QUEUE_LEN]
        port.txsync()
        machine.link.carry()
        assert machine.host.taken() == frames[TX_QUEUE_LEN:]


def test_no_stack_is_given_more_than_it_has_room_for_and_netmap_has_always_room() -> None:
    machine = Machine(BaseLink())
    machine.guest.has_room = 0
    machine.host.send(frame(1, A, B))
    machine.link.carry()
    assert machine.end.room == 0
    with machine.open() as port:
        machine.link.carry()
        assert received(port) == [frame(1, A, B)]


def test_a_driver_is_told_when_netmap_takes_and_gives_back_an_interface() -> None:
    woken: list[int] = []
    machine = Machine(BaseLink())
    machine.end.listen(lambda: woken.append(1))
    port = machine.open()
    assert woken == [1]
    sent(port, frame(1))
    assert woken == [1, 1]
    port.close()
    assert woken == [1, 1, 1]


def test_a_batch_that_is_too_small_for_a_frame_is_an_error_if_it_is_empty() -> None:
    machine = Machine(BaseLink())
    with machine.open() as port:
        sent(port, frame(1), frame(2, size=100))
        batch = FrameBatch(memoryview(bytearray(99)))
        assert machine.end.pull(batch) == 1
        batch.clear()
        with pytest.raises(IndexError, match="a batch of 99 bytes holds no next frame"):
            machine.end.pull(batch)
        larger = FrameBatch(memoryview(bytearray(100)))
        assert machine.end.pull(larger) == 1


# --- a vif that goes while netmap has an end of it ------------------------------------------------


def test_a_vif_is_unplugged_and_plugged_in_again_under_a_client() -> None:
    host, device = Host(), Device()
    host.dom0.load()
    guest, stack, outside = host.add_guest(kind=FREEBSD), StackEnd(), StackEnd()
    end = InterfaceEnd(stack)
    interface = Interface("xn0", 1)
    vif = host.plug(guest, 0, end, outside)
    host.boot()
    host.settle()
    host.require_connected(vif)
    end.add(device, interface)
    with open_port("netmap:xn0", device=device) as port:
        sent(port, frame(1))
        host.settle()
        assert outside.taken() == [frame(1)]
        host.unplug(vif)
        host.settle()
        sent(port, frame(2))  # waits for a driver
        host.settle()
        assert outside.got == []
        again = host.plug(guest, 0, end, outside)
        host.settle()
        host.require_connected(again)
        again.kick()
        outside.send(frame(3, A, B))
        host.settle()
        assert outside.taken() == [frame(2)]
        assert received(port) == [frame(3, A, B)]
        assert stack.got == []
        host.unplug(again)
        host.settle()
    end.remove()
    assert not host.leaks()
    host.destroy()


def test_a_guest_is_saved_and_restored_under_a_client() -> None:
    host, device = Host(), Device()
    host.dom0.load()
    guest, outside, end = host.add_guest(), StackEnd(), InterfaceEnd(StackEnd())
    vif = host.plug(guest, 0, end, outside)
    host.boot()
    host.settle()
    end.add(device, Interface("eth0", 1))
    with open_port("netmap:eth0", device=device) as port:
        saved = host.save(guest)
        sent(port, frame(1))
        host.settle()
        assert outside.got == []
        host.restore(saved)
        host.settle()
        host.require_connected(vif)
        vif.kick()
        outside.send(frame(2, A, B))
        host.settle()
        assert outside.taken() == [frame(1)]
        assert received(port) == [frame(2, A, B)]
    host.destroy()


def test_an_mtu_beyond_a_buffer_cannot_be_received_in_netmap_mode() -> None:
    machine = Machine(Vifs(Setup(mtu=2049)))
    assert errno_of(machine.open) == EINVAL
    assert not machine.end.in_netmap_mode
    with machine.open("/T") as port:
        sent(port, frame(1, size=2048))
        machine.link.carry()
        assert machine.host.taken() == [frame(1, size=2048)]
    assert machine.both_ways() == BOTH
    machine.link.destroy()


def test_a_client_outlives_a_link() -> None:
    machine = Machine(Vifs(Setup()))
    with machine.open() as port:
        region = port.file.bound().port.region
        machine.link.close()
        assert machine.link.left_behind() == []
        machine.link.destroy()
        sent(port, frame(1))
        assert received(port) == []
        assert errno_of(machine.end.remove) == EBUSY
    machine.end.remove()
    assert all_free(region)


# --- on a switch --------------------------------------------------------------------------------


def attached(machine: Machine, mode: int) -> str:
    name = f"vale0:{machine.name}"
    attach(machine.device.state, name, mode, 0, 0, None)
    return name


def test_an_interface_on_a_switch(machine: Machine) -> None:
    with open_port("vale0:p", device=machine.device) as port:
        name = attached(machine, NR_REG_ALL_NIC)
        sent(port, frame(1))
        machine.host.send(frame(2, A, B))
        machine.guest.send(frame(3))
        machine.link.carry()
        assert machine.host.taken() == [frame(1)]
        assert received(port) == [frame(2, A, B)]
        assert machine.guest.got == []
        with pytest.raises(NetmapError) as refused:
            machine.open()
        assert refused.value.errno == EBUSY
        detach(machine.device.state, name)
    assert machine.both_ways() == BOTH


def test_an_interface_on_a_switch_with_its_stack(machine: Machine) -> None:
    with open_port("vale0:p", device=machine.device) as port:
        name = attached(machine, NR_REG_NIC_SW)
        assert machine.both_ways() == BOTH
        assert received(port) == [frame(101)]  # nobody knew where B is; A was known by then
        detach(machine.device.state, name)
    assert machine.both_ways() == BOTH


def test_a_switch_in_the_backend_domain_joins_two_guests() -> None:
    device = Device()
    link = Vifs(Setup(guests=2, kind=FREEBSD))
    guests, ends = [StackEnd(), StackEnd()], [InterfaceEnd(BaseEndpoint()) for _ in range(2)]
    pairs = [link.join(guest, end) for guest, end in zip(guests, ends, strict=True)]
    link.open()
    for pair, end in zip(pairs, ends, strict=True):
        end.add(device, pair.interfaces[1])
        attach(device.state, f"vale0:{pair.name}", NR_REG_ALL_NIC, 0, 0, None)
    assert list(device.state.interfaces) == ["vif1.0", "vif2.0"]
    guests[0].send(*[frame(i) for i in range(50)])
    link.carry()
    guests[1].send(*[frame(i, A, B, 1514) for i in range(50)])
    link.carry()
    assert guests[1].taken() == [frame(i) for i in range(50)]
    assert guests[0].taken() == [frame(i, A, B, 1514) for i in range(50)]
    for pair, end in zip(pairs, ends, strict=True):
        detach(device.state, f"vale0:{pair.name}")
        end.remove()
    assert device.state.interfaces == {}
    link.destroy()


# --- offloads -----------------------------------------------------------------------------------


def test_offloads_are_refused(machine: Machine) -> None:
    told = machine.guest.told[-1]
    assert (told.csum_v4, told.csum_v6, told.gso_types) == (False, False, 0)
    assert machine.end.carries == NOTHING


def test_frames_that_need_an_offload_are_dropped_and_counted() -> None:
    machine = Machine(BaseLink())  # a vif would drop them too: they are no TCP or UDP
    machine.host.flags = machine.guest.flags = CSUM_BLANK
    with machine.open("*") as port:
        machine.host.send(frame(1, A, B))
        machine.guest.send(frame(2))
        machine.link.carry()
        assert received(port) == []
        assert machine.end.refused == 2
    assert machine.both_ways() == BOTH
    assert machine.end.refused == 2


def test_an_edge_completes_what_a_backend_sends_with_offloads() -> None:
    device, end, link = Device(), InterfaceEnd(StackEnd()), Vifs(Setup())
    pair = link.join(OffloadEdge(end), open_frame_port("tcp:8000x3/1448"))
    link.open()
    end.add(device, pair.interfaces[0], "xn0")
    with open_port("netmap:xn0", device=device) as port:
        link.carry()
        lengths = [len(packet) for packet in received(port)]
    assert lengths
    assert max(lengths) <= 1514
    assert sum(length - 54 for length in lengths) >= 3 * 7900
    assert end.refused == 0
    link.destroy()


def test_a_frontend_without_offloads_needs_no_edge() -> None:
    device, end = Device(), InterfaceEnd(StackEnd())
    link = Vifs(Setup(front=NetfrontOptions(csum=False, gso=False)))
    pair = link.join(end, OffloadEdge(open_frame_port("tcp:8000x3/1448")))
    link.open()
    end.add(device, pair.interfaces[0])
    with open_port("netmap:eth0", device=device) as port:
        link.carry()
        lengths = [len(packet) for packet in received(port)]
    assert len(lengths) >= 3 * 6
    assert max(lengths) <= 1514
    assert end.refused == 0
    link.destroy()


# --- names, and what is in use ------------------------------------------------------------------


def errno_of(call: Callable[[], object]) -> int:
    with pytest.raises(NetmapError) as refused:
        call()
    return refused.value.errno


def test_which_interfaces_can_be_added_and_removed() -> None:
    machine = Machine(BaseLink())
    device, end = machine.device, machine.end
    interface = machine.link.pairs[0].interfaces[1]
    assert errno_of(lambda: end.add(device, interface)) == EBUSY
    other = InterfaceEnd(StackEnd())
    assert errno_of(lambda: other.add(device, interface, machine.name)) == EEXIST
    assert errno_of(lambda: other.add(device, interface, "")) == EINVAL
    assert errno_of(lambda: other.add(device, interface, "x" * 16)) == EINVAL
    port = machine.open()
    assert errno_of(end.remove) == EBUSY
    port.close()
    end.remove()
    end.remove()
    assert device.state.interfaces == {}
    end.add(device, interface, "again")
    assert machine.both_ways() == BOTH
