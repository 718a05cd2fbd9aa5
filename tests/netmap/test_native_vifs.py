"""Native adapters of real vifs: rings by queue, the stack beside them, vifs that go and come."""

from __future__ import annotations

from errno import EOPNOTSUPP

import pytest
from netmap_clients import all_free
from test_interface_ends import (
    A,
    B,
    Machine,
    StackEnd,
    errno_of,
    frame,
    received,
    sent,
)

from xennet.abi.netmap import NR_FORWARD, NR_REG_ALL_NIC, NS_FORWARD, NS_MOREFRAG
from xennet.host.domains import PluggedVif
from xennet.host.host import Host
from xennet.host.setup import Setup
from xennet.ifnet import Interface
from xennet.link.base_link import BaseLink
from xennet.link.vifs import Vifs
from xennet.netback.policy import LINUX, VifOptions
from xennet.netback.xnb.policy import XNB
from xennet.netfront.options import NetfrontOptions
from xennet.netmap import InterfaceEnd, Port
from xennet.netmap import open as open_port
from xennet.netmap.admode import ADMODE_BEST, ADMODE_GENERIC, ADMODE_NATIVE
from xennet.netmap.device import Device
from xennet.netmap.generic import GenericPort
from xennet.netmap.native import NativePort
from xennet.netmap.vale_nic import attach, detach


def queues(number: int) -> Vifs:
    return Vifs(Setup(front=NetfrontOptions(queues=number), back=VifOptions(max_queues=number)))


def kind_of(port: Port) -> type:
    return type(port.file.bound().port)


# --- which adapter --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("admode", "kind", "slots"),
    [
        (ADMODE_BEST, NativePort, 256),
        (ADMODE_NATIVE, NativePort, 256),
        (ADMODE_GENERIC, GenericPort, 1024),
        (7, NativePort, 256),
    ],
)
def test_the_parameter_admode(admode: int, kind: type, slots: int) -> None:
    machine = Machine(Vifs(Setup()), admode)
    with machine.open() as port:
        assert kind_of(port) is kind
        assert len(port.tx_rings[0]) == len(port.rx_rings[0]) == slots
        machine.device.state.parameters.admode = ADMODE_GENERIC
        with machine.open() as again:  # an adapter that is there is kept
            assert kind_of(again) is kind
    assert machine.device.state.parameters.admode == ADMODE_GENERIC
    with machine.open() as port:
        assert kind_of(port) is GenericPort
    machine.link.destroy()


def test_a_driver_without_rings_for_netmap_has_no_native_adapter() -> None:
    machine = Machine(BaseLink(), ADMODE_NATIVE)
    assert errno_of(machine.open) == EOPNOTSUPP
    machine.device.state.parameters.admode = ADMODE_BEST
    with machine.open() as port:
        assert kind_of(port) is GenericPort


def test_the_backends_interface_has_a_generic_adapter() -> None:
    link, device, end = Vifs(Setup()), Device(), InterfaceEnd(StackEnd())
    pair = link.join(StackEnd(), end)
    link.open()
    end.add(device, pair.interfaces[1])
    with open_port("netmap:vif1.0", device=device) as port:
        assert kind_of(port) is GenericPort
    link.destroy()


# --- rings and queues -----------------------------------------------------------------------------


def test_each_ring_is_a_queue() -> None:
    machine = Machine(queues(4))
    with machine.open() as port:
        assert len(port.tx_rings) == len(port.rx_rings) == 4
        for number, ring in enumerate(port.tx_rings):
            ring[ring.head].put(frame(number))
            ring.hand_over()
        port.txsync()
        netfront = machine.link.pairs[0].plugged.netfront
        assert netfront is not None
        assert [queue.tx_ring.req_prod_pvt for queue in netfront.queues] == [1, 1, 1, 1]
        machine.link.carry()
        assert sorted(machine.host.taken()) == [frame(i) for i in range(4)]
        port.txsync()
        assert [ring.space for ring in port.tx_rings] == [255] * 4
        machine.host.send(*[ipv4(i) for i in range(200)])
        machine.link.carry()
        port.rxsync()
        assert sum(ring.space for ring in port.rx_rings) == 200
        assert all(ring.space for ring in port.rx_rings)
        assert sorted(iter(port.next_packet, None)) == sorted(ipv4(i) for i in range(200))
    machine.link.close()
    assert machine.link.left_behind() == []
    machine.link.destroy()


def ipv4(number: int) -> bytes:
    """A UDP frame of flow ``number`` for the guest."""
    header = bytes.fromhex("4500002c0000400040110000") + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    udp = number.to_bytes(2, "big") + bytes.fromhex("003500180000") + bytes(16)
    return A + B + b"\x08\0" + header + udp


def test_a_ring_of_its_own_leaves_the_other_queues_to_the_stack() -> None:
    machine = Machine(queues(2))
    with machine.open("-1") as port:
        flows = [ipv4(i) for i in range(64)]
        machine.host.send(*flows)
        sent(port, frame(1))
        machine.link.carry()
        mine = received(port)
        theirs = machine.guest.taken()
        assert mine
        assert theirs
        assert sorted(mine + theirs) == sorted(flows)
        # Ring 0 is not netmap's, so the stack sends.
        machine.guest.send(frame(2))
        machine.link.carry()
        assert machine.host.taken() == [frame(1), frame(2)]
    machine.link.destroy()


def test_two_clients_with_a_ring_each_come_and_go() -> None:
    machine = Machine(queues(2))
    with machine.open("-0") as first:
        second = machine.open("-1")
        sent(first, frame(1))
        sent(second, frame(2))
        second.close()
        machine.link.carry()
        assert sorted(machine.host.taken()) == [frame(1), frame(2)]
        with machine.open("-1") as third:
            sent(third, frame(3))
            machine.link.carry()
            third.txsync()
            assert third.tx_rings[0].space == 255
        first.txsync()
        assert first.tx_rings[0].space == 255
    region = machine.device.state.regions.shared
    assert all_free(region)
    assert sorted(machine.host.taken()) == [frame(3)]
    machine.link.destroy()


def test_a_ring_that_is_taken_again_begins_anew() -> None:
    machine = Machine(queues(2))
    with machine.open("-0"):
        with machine.open("-1") as second:
            sent(second, frame(1), frame(2))
            ring = second.tx_rings[0]
            ring[ring.head].put(frame(3)[:30], NS_MOREFRAG)
            ring.hand_over()
            second.txsync()
        with machine.open("-1") as third:
            assert third.tx_rings[0].space == 255
            machine.link.carry()
            assert machine.host.taken() == [frame(1), frame(2)]
            third.txsync()
            sent(third, frame(4))
            machine.link.carry()
            assert machine.host.taken() == [frame(4)]
            third.txsync()
            assert third.tx_rings[0].space == 255
    machine.link.destroy()


# --- the stack, monitors, pipes, switches ---------------------------------------------------------


def test_frames_are_forwarded_between_the_wire_and_the_stack() -> None:
    machine = Machine(Vifs(Setup()))
    with machine.open("*") as port:
        for ring in port.rx_rings:
            ring.flags |= NR_FORWARD
        machine.host.send(frame(1, A, B), frame(2, A, B))
        machine.guest.send(frame(3), frame(4))
        machine.link.carry()
        port.rxsync()
        for ring in port.rx_rings:
            ring[ring.head + 1].flags |= NS_FORWARD
            ring.hand_over(2)
        wired = port.rx_rings[1][1].buf_idx
        port.rxsync()
        assert port.tx_rings[0][0].buf_idx == wired  # the very buffer
        port.txsync()
        machine.link.carry()
        assert machine.guest.taken() == [frame(2, A, B)]
        assert machine.host.taken() == [frame(4)]
    machine.link.destroy()


@pytest.mark.parametrize("flags", ["/tr", "/ztr"])
def test_monitors_see_both_ways(flags: str) -> None:
    machine = Machine(Vifs(Setup()))
    with machine.open() as port, machine.open(flags) as monitor:
        buffers = {slot.buf_idx for ring in monitor.rx_rings for slot in ring.owned()}
        sent(port, frame(1))
        machine.host.send(frame(2, A, B))
        machine.link.carry()
        port.txsync()
        port.rxsync()
        port.rx_rings[0].hand_over()
        port.rxsync()
        assert sorted(received(monitor)) == sorted([frame(1), frame(2, A, B)])
        assert machine.host.taken() == [frame(1)]
        assert not buffers
        sent(port, frame(3))
        machine.link.carry()
        assert machine.host.taken() == [frame(3)]
    assert all_free(machine.device.state.regions.shared)
    machine.link.destroy()


def test_a_kernel_loop_on_a_native_port() -> None:
    machine = Machine(Vifs(Setup()))
    with machine.open("/x") as port, port.kernel_loop(sleep_us=100) as loop:
        tx, rx = loop.tx_rings[0], loop.rx_rings[0]
        loop.go_on(1_000_000)
        for number in range(3):
            tx[tx.head].put(frame(number))
            tx.hand_over()
        machine.host.send(frame(9, A, B))
        loop.go_on(1_000_000)
        machine.link.carry()
        loop.go_on(1_000_000)
        assert machine.host.taken() == [frame(number) for number in range(3)]
        assert (tx.hwcur, tx.tail) == (3, 2)
        assert [bytes(slot.data) for slot in rx.owned()] == [frame(9, A, B)]
    machine.link.destroy()


def test_pipes_on_a_native_port() -> None:
    machine = Machine(Vifs(Setup()))
    with machine.open("{1") as one, machine.open("}1") as other, machine.open() as port:
        sent(one, frame(1))
        assert received(other) == [frame(1)]
        sent(port, frame(2))
        machine.link.carry()
        assert machine.host.taken() == [frame(2)]
    assert all_free(machine.device.state.regions.shared)
    machine.link.destroy()


def test_a_switch_sends_from_and_into_the_slots_of_the_driver() -> None:
    machine = Machine(queues(2))
    name = f"vale0:{machine.name}"
    with open_port("vale0:p@conf:rings=2", device=machine.device) as port:
        attach(machine.device.state, name, NR_REG_ALL_NIC, 0, 0, None)
        nic = machine.device.state.interfaces[machine.name].adapter
        assert isinstance(nic, NativePort)
        out = [frame(i, b"\xff" * 6) for i in range(400)]
        for start in range(0, 400, 200):
            sent(port, *out[start : start + 200])
            machine.link.carry()
        assert sorted(machine.host.taken()) == out
        assert nic.tx[0].hwcur == 400 % 256
        flows = [b"\xff" * 6 + ipv4(i)[6:] for i in range(700)]
        got = []
        for start in range(0, 700, 100):
            machine.host.send(*flows[start : start + 100])
            machine.link.carry()
            got += received(port)
        assert sorted(got) == sorted(flows)
        assert machine.end.refused == 0
        detach(machine.device.state, name)
    assert machine.both_ways() == ([frame(101)], [frame(102, A, B)])
    assert all_free(machine.device.state.regions.shared)
    machine.link.destroy()


def test_a_switch_drops_what_a_driver_has_no_slots_for() -> None:
    machine = Machine(Vifs(Setup()))
    with open_port("vale0:p", device=machine.device) as port:
        attach(machine.device.state, f"vale0:{machine.name}", NR_REG_ALL_NIC, 0, 0, None)
        out = [frame(i, b"\xff" * 6) for i in range(300)]
        sent(port, *out)
        machine.link.carry()
        assert machine.host.taken() == out[:255]
        sent(port, out[0])
        machine.link.carry()
        assert machine.host.taken() == out[:1]
    machine.link.destroy()


# --- vifs that go and come ------------------------------------------------------------------------


def test_a_reconnection_with_another_number_of_queues() -> None:
    host, device = Host(), Device()
    host.dom0.load()
    guest, stack, outside = host.add_guest(), StackEnd(), StackEnd()
    end = InterfaceEnd(stack)

    def plug(backend: int) -> PluggedVif:
        front, back = NetfrontOptions(queues=4), VifOptions(max_queues=backend)
        plugged = host.plug(guest, 0, end, outside, front=front, back=back)
        host.settle()
        host.require_connected(plugged)
        return plugged

    host.boot()
    vif = plug(2)
    end.add(device, Interface("eth0", 1))
    with open_port("netmap:eth0", device=device) as port:
        assert len(port.tx_rings) == 2
        for number, spaces in ((1, [255, 255]), (4, [255, 254])):
            host.unplug(vif)
            host.settle()
            assert [ring.space for ring in port.tx_rings] == spaces
            for ring in port.tx_rings:
                ring[ring.head].put(frame(ring.ringid))
                ring.hand_over()
            port.txsync()
            assert [ring.space for ring in port.tx_rings] == [space - 1 for space in spaces]
            vif = plug(number)
            vif.kick()
            outside.send(*[ipv4(i) for i in range(64)])
            host.settle()
            assert sorted(received(port)) == sorted(ipv4(i) for i in range(64))
            # A ring without a queue waits for one.
            wanted = [frame(0)] if number == 1 else [frame(0), frame(1), frame(1)]
            assert sorted(outside.taken()) == wanted
            port.txsync()
        assert [ring.space for ring in port.tx_rings] == [255, 255]
    host.destroy()


def test_what_the_driver_had_counts_as_sent_when_the_connection_goes() -> None:
    machine = Machine(Vifs(Setup()))
    with machine.open() as port:
        sent(port, frame(1), frame(2))
        assert port.tx_rings[0].space == 253
        machine.link.close()
        port.txsync()
        assert port.tx_rings[0].space == 255
        assert machine.link.left_behind() == []
    machine.link.destroy()


def test_a_guest_is_destroyed_under_a_client() -> None:
    host, device = Host(), Device()
    host.dom0.load()
    guest, end = host.add_guest(), InterfaceEnd(StackEnd())
    host.plug(guest, 0, end, StackEnd())
    host.boot()
    host.settle()
    end.add(device, Interface("eth0", 1))
    with open_port("netmap:eth0", device=device) as port:
        sent(port, frame(1))
        guest.kill()
        sent(port, frame(2))
        assert received(port) == []
        host.settle()
        sent(port, frame(3))
    end.remove()
    assert all_free(device.state.regions.shared)
    host.destroy()


@pytest.mark.parametrize("policy", [LINUX, XNB], ids=["linux", "xnb"])
def test_a_full_load_both_ways(policy: object) -> None:
    machine = Machine(Vifs(Setup(policy=policy)))
    sizes = (60, 1514, 14, 333)
    there = [frame(i, size=sizes[i % 4]) for i in range(3000)]
    back = [frame(i, A, B, sizes[i % 4]) for i in range(3000)]
    got: list[bytes] = []
    out: list[bytes] = []
    with machine.open() as port:
        left, theirs = list(there), list(back)
        while len(out) < len(there) or len(got) < len(back):
            before = len(out) + len(got)
            while left and port.inject(left[0]):
                left.pop(0)
            port.txsync()
            machine.host.send(*theirs[:150])
            del theirs[:150]
            machine.link.carry()
            port.txsync()
            got += received(port)
            out += machine.host.taken()
            assert len(out) + len(got) > before
        assert out == there
        assert got == back
    machine.link.close()
    assert machine.link.left_behind() == []
    machine.link.destroy()
