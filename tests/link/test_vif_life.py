"""Random lives of a real vif: both drivers, the toolstack, crashes and traffic, in any order.

Whatever happens, the machine comes to rest, what arrived was sent (unchanged, in order), and when
everything is unplugged nothing is left.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from vif_peers import Stack

from xennet.abi.netif import RX_REQUEST
from xennet.hypervisor import Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.netback.device import Vif
from xennet.netfront.device import Netfront
from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.hotplug import HotplugScript
from xennet.toolstack.toolstack import Toolstack
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.backend_bus import BackendBus
from xennet.xenbus.frontend_bus import FrontendBus
from xennet.xenstore import XsError
from xennet.xenstored.service import XenStoreService

#: xen/sched.h
SHUTDOWN_crash = 3


class World:
    """Domain 0 with netback and a toolstack, and one guest at a time with netfront."""

    def __init__(self) -> None:
        self.machine = Machine(nr_frames=16384, max_grant_frames=8)
        self.loop = self.machine.run_loop
        dom0 = self.machine.create_domain(0)
        self.service = XenStoreService(self.machine)
        self.dom0 = GuestKernel(dom0, self.service.connect(dom0))
        self.toolstack = Toolstack(
            self.service.connect(dom0),
            introduce=lambda domid: self.service.introduce(self.machine.domain(domid)),
            kill=self.kill,
            script=HotplugScript(self.service.connect(dom0), dom0.defer),
            after=lambda delay, call: self.loop.call_after(delay, 0, call),
        )
        self.host = Stack()
        self.guest = Stack()
        self.vifs: list[Vif] = []
        self.netfronts: list[Netfront] = []
        self.backends = BackendBus(self.dom0, self._vif)
        self.backends.start()
        self.domid = 0
        self.bus: FrontendBus | None = None

    def _vif(self, _nodename: str) -> Vif:
        vif = Vif(self.dom0, self.host)
        self.vifs.append(vif)
        return vif

    def _netfront(self, _nodename: str) -> Netfront:
        netfront = Netfront(self.kernel, self.guest)
        self.netfronts.append(netfront)
        return netfront

    def create_guest(self) -> None:
        self.domid += 1
        self.netfronts.clear()
        domain = self.machine.create_domain(self.domid)
        self.toolstack.create_domain(DomainConfig(self.domid, "guest"))
        self.kernel = GuestKernel(domain, self.service.connect(domain))

    def kill(self, domid: int) -> None:
        if any(domain.domid == domid for domain in self.machine.domains):
            self.machine.destroy_domain(domid)

    def boot(self) -> None:
        self.bus = FrontendBus(self.kernel, self._netfront)
        self.bus.start()

    def attach(self) -> None:
        self.toolstack.attach_vif(self.domid, 0, VifConfig("00:16:3e:00:00:01"))

    def detach(self) -> None:
        self.toolstack.detach_vif(self.domid, 0)

    def rest(self) -> None:
        self.loop.run_until_idle(limit=50_000)

    def send(self, count: int, size: int) -> None:
        for stack in (self.guest, self.host):
            first = len(sent := self.sent(stack))
            frames = [(first + i).to_bytes(4, "little") * (size // 4) for i in range(count)]
            stack.to_send += frames
            sent += frames
        for vif in self.vifs:
            vif.kick()
        if self.running:
            for netfront in self.netfronts:
                netfront.kick()

    def sent(self, stack: Stack) -> list[bytes]:
        if not hasattr(stack, "ever_sent"):
            stack.ever_sent = []  # type: ignore[attr-defined]
        frames: list[bytes] = stack.ever_sent  # type: ignore[attr-defined]
        return frames

    @property
    def running(self) -> bool:
        """Whether the newest guest's code runs."""
        return any(domain.domid == self.domid and domain.running for domain in self.machine.domains)

    @property
    def connected(self) -> bool:
        return any(vif.carrier for vif in self.vifs) and any(
            netfront.carrier for netfront in self.netfronts
        )

    def check_arrived(self) -> None:
        """What arrived is a part of what was sent, in order."""
        for sender, receiver in ((self.guest, self.host), (self.host, self.guest)):
            rest = iter(self.sent(sender))
            assert all(frame in rest for frame in receiver.received)

    def check_empty(self) -> None:
        leaks = self.machine.leaks()
        assert not leaks, str(leaks)
        assert not self.backends.devices


def connected_world() -> World:
    world = World()
    world.create_guest()
    world.attach()
    world.boot()
    world.rest()
    assert world.connected
    return world


@pytest.fixture
def world() -> World:
    return connected_world()


def test_either_end_may_be_there_first() -> None:
    late_guest = World()
    late_guest.create_guest()
    late_guest.attach()
    late_guest.rest()
    late_guest.boot()
    late_guest.rest()
    assert late_guest.connected
    late_device = World()
    late_device.create_guest()
    late_device.boot()
    late_device.rest()
    late_device.attach()
    late_device.rest()
    assert late_device.connected


def test_unplugging_leaves_nothing(world: World) -> None:
    world.detach()
    world.rest()
    world.check_empty()


def test_unloading_the_frontend_frees_everything_and_loading_it_again_connects(
    world: World,
) -> None:
    assert world.bus is not None
    (frontend,) = world.bus.devices.values()
    for _ in range(20):
        frontend.close()
        world.rest()
        assert not world.machine.leaks(), str(world.machine.leaks())
        frontend.start()
        world.rest()
        assert world.connected
        world.send(5, 400)
        world.rest()
    assert world.host.received == world.sent(world.guest)
    assert world.guest.received == world.sent(world.host)


def test_a_frontend_that_jumps_straight_to_closed_is_disconnected(world: World) -> None:
    world.kernel.store.write("device/vif/0/state", 6)
    world.rest()
    assert not world.vifs[0].carrier
    dom0 = world.machine.leaks().domains[0]
    assert not dom0.mappings
    assert not dom0.ports


def test_a_crashed_guest_leaves_no_mapping_in_the_backend(world: World) -> None:
    world.machine.destroy_domain(1)
    world.rest()
    assert [leaks.domid for leaks in world.machine.leaks().domains] == [0]
    assert not world.machine.leaks()


def test_a_frontend_that_connects_without_keys_is_told_and_holds_nothing() -> None:
    world = World()
    world.create_guest()
    world.attach()
    world.rest()
    world.kernel.store.write("device/vif/0/state", 4)
    world.rest()
    error = world.dom0.store.read("error/backend/vif/1/0/error")
    assert b"tx-ring-ref" in error
    assert not world.vifs[0].carrier
    assert not world.machine.leaks().domains[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tx-ring-ref", "junk"),
        ("tx-ring-ref", "99999"),
        ("rx-ring-ref", "-1"),
        ("rx-ring-ref", "3"),
        ("event-channel", "0"),
        ("event-channel", "4095"),
        ("event-channel", ""),
        ("multi-queue-num-queues", "0"),
        ("multi-queue-num-queues", "2"),
    ],
)
def test_garbage_keys_are_refused_by_name_and_leave_nothing(key: str, value: str) -> None:
    # Hardening rules F21 and F23.
    world = connected_world()
    assert world.bus is not None
    (frontend,) = world.bus.devices.values()
    frontend.close()
    world.rest()
    store = world.kernel.store
    store.write("device/vif/0/state", 1)
    world.rest()
    keys = {"tx-ring-ref": 8, "rx-ring-ref": 9, "event-channel": 1, key: value}
    for name, content in keys.items():
        store.write(f"device/vif/0/{name}", content)
    store.write("device/vif/0/state", 4)
    world.rest()
    assert not world.vifs[0].carrier
    dom0 = world.machine.leaks().domains[0]
    assert not dom0, list(dom0.lines())
    assert world.dom0.store.read("backend/vif/1/0/state") == b"5"
    assert world.dom0.store.read("error/backend/vif/1/0/error")


def test_a_protocol_violation_takes_the_carrier_but_not_the_state(world: World) -> None:
    queue = world.netfronts[0].queue
    assert queue is not None
    queue.tx_ring.sring.req_prod = 1000
    world.kernel.notify(queue.tx_port)
    world.rest()
    assert world.vifs[0].error is not None
    assert world.vifs[0].error.rule == "F1"
    assert not world.vifs[0].carrier
    assert world.dom0.store.read("backend/vif/1/0/state") == b"4"
    world.detach()
    world.rest()
    world.check_empty()


def test_a_page_that_the_backend_keeps_is_not_freed_before_it_lets_go(world: World) -> None:
    # XSA-396: ending access may fail, and then the page must stay.
    netfront, queue = world.netfronts[0], world.netfronts[0].queue
    assert queue is not None
    _, _, gref = RX_REQUEST.unpack_from(queue.rx_ring.sring.copy_slot(7))
    mapping = world.dom0.map_grant(1, gref)
    world.detach()
    world.rest()
    assert netfront.held_pages == 256
    world.dom0.unmap_grant(mapping)
    world.attach()
    world.rest()
    assert world.connected
    assert netfront.held_pages == 0 or netfront is not world.netfronts[-1]
    world.detach()
    world.rest()


class VifLife(RuleBasedStateMachine):
    """A random life; see the module's docstring for what must hold."""

    @initialize()
    def power_on(self) -> None:
        self.world = World()
        self.world.create_guest()
        self.booted = False

    @property
    def alive(self) -> bool:
        return self.world.running

    @precondition(lambda self: self.alive)
    @rule()
    def attach(self) -> None:
        self.world.attach()

    @precondition(lambda self: self.alive)
    @rule()
    def detach(self) -> None:
        self.world.detach()

    @precondition(lambda self: self.alive and not self.booted)
    @rule()
    def boot(self) -> None:
        self.booted = True
        self.world.boot()

    @precondition(lambda self: self.alive and self.booted)
    @rule(load=st.booleans())
    def load_or_unload(self, load: bool) -> None:
        bus = self.world.bus
        for frontend in list(bus.devices.values()) if bus is not None else []:
            if load:
                frontend.start()
            else:
                frontend.close()

    @rule()
    def backend_closes(self) -> None:
        for backend in list(self.world.backends.devices.values()):
            backend.close()

    @precondition(lambda self: self.alive)
    @rule(state=st.sampled_from(["1", "3", "4", "5", "6", "7", "nonsense"]))
    def guest_writes_any_state(self, state: str) -> None:
        try:
            self.world.kernel.store.write("device/vif/0/state", state)
        except XsError as refused:
            # No such device: a guest may not create one.
            if refused.errno != "EACCES":
                raise

    @precondition(lambda self: self.alive)
    @rule(at_once=st.booleans())
    def crash(self, at_once: bool) -> None:
        if at_once:
            self.world.machine.destroy_domain(self.world.domid)
        else:
            self.world.machine.shutdown_domain(self.world.domid, SHUTDOWN_crash)
        self.world.bus = None

    @precondition(lambda self: not self.alive)
    @rule()
    def new_guest(self) -> None:
        self.world.rest()
        self.world.toolstack.destroy_domain(self.world.domid)
        self.world.rest()
        self.world.create_guest()
        self.booted = False

    @rule(count=st.integers(1, 80), size=st.sampled_from([60, 1500, 9000]))
    def traffic(self, count: int, size: int) -> None:
        self.world.send(count, size)

    @rule(data=st.data(), steps=st.integers(1, 15))
    def some_deliveries(self, data: st.DataObject, steps: int) -> None:
        for _ in range(steps):
            ready = self.world.loop.ready()
            if not ready:
                return
            choice = data.draw(st.integers(0, len(ready) - 1)) if len(ready) > 1 else 0
            self.world.loop.step(choice)

    @rule()
    def come_to_rest(self) -> None:
        self.world.rest()
        self.world.check_arrived()

    def teardown(self) -> None:
        world = self.world
        world.rest()
        world.check_arrived()
        if self.alive:
            if self.booted and world.bus is not None:
                for frontend in list(world.bus.devices.values()):
                    frontend.close()
                world.rest()
            world.detach()
        else:
            world.toolstack.destroy_domain(world.domid)
        # A backend that could not even probe never closes: the toolstack then waits its 10 s.
        world.loop.run_until_idle(limit=50_000, advance_timers=True)
        world.check_empty()


TestVifLife = VifLife.TestCase
TestVifLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
