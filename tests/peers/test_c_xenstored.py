"""Debian's C xenstored as the store of a machine that has none: it serves guests' ring pages."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
from peer_world import PATIENCE, Programs

from xennet.abi.xen import DOMID_SELF
from xennet.bench.real_xenstored import Prepared
from xennet.hypervisor import Domain, Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.pump import Pump, RealClock
from xennet.xenstore import Client, XsError
from xennet.xenstore.ring_client import RingChannel
from xennet.xenstore.ring_page import RingPage


class GuestPort:
    """A guest's port to a xenstored in another process."""

    def __init__(self, world: StoreWorld, guest: Domain, page: RingPage, port: int) -> None:
        self._world, self._guest, self._page, self._port = world, guest, page, port

    @property
    def up(self) -> bool:
        return self._guest.running

    def notify(self) -> None:
        self._guest.send(self._port)

    def take_event(self) -> None:
        self._guest.poll(self._port)

    def pump(self) -> bool:
        requests, responses = self._page.requests, self._page.responses
        full = requests.full
        self._world.hold(lambda: not responses.empty or (full and not requests.full))
        return True


class StoreWorld(Programs):
    """A machine without a store of its own, and the daemon as a program of domain 0."""

    def __init__(self, prepared: Prepared) -> None:
        machine = Machine(shared=True)
        super().__init__(machine, Pump(machine.run_loop, RealClock()), None)
        self.dom0 = machine.create_domain(0, name="Domain-0")
        served = self.serve(self.dom0, GuestKernel(self.dom0, None))
        served.xsd = self.dom0.alloc_pages(1), self.dom0.alloc_unbound(DOMID_SELF, 0)
        self.xsd = served.xsd
        rundir = self.directory / "xenstored"
        rundir.mkdir()
        self.path = str(rundir / "socket")
        self.daemon = self._start(prepared, str(rundir))

    def _start(self, prepared: Prepared, rundir: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "LD_LIBRARY_PATH": str(prepared.libraries)}
        env |= {"XENSTORED_RUNDIR": rundir, "XENSTORED_ROOTDIR": rundir}
        words = [str(prepared.daemon), "--no-fork", "--pid-file", f"{rundir}/pid"]
        return self.launch(0, words, by_socket=False, env=env)

    def require_nothing_left(self) -> None:
        self.dom0.close(self.xsd[1])
        self.dom0.free_pages(self.xsd[0])
        super().require_nothing_left()

    def connect(self) -> Client:
        """A connection of domain 0, over the socket."""

        def listens() -> bool:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(self.path) == 0

        self.hold(lambda: listens() or self.daemon.poll() is not None)
        return self.meanwhile(lambda: Client.connect(self.path, timeout=PATIENCE))

    def add_guest(self, toolstack: Client, name: str) -> tuple[Domain, Client]:
        """A guest that is introduced, and its own connection over its ring page."""
        guest = self.machine.create_domain(name=name)
        ring = self.machine.build_store_ring(guest.domid)
        home = f"/local/domain/{guest.domid}"

        def introduce() -> None:
            toolstack.introduce(guest.domid, ring.gfn, ring.port)
            for node, value in (("", ""), ("/name", name), ("/data", "")):
                toolstack.write(home + node, value)
                toolstack.set_perms(home + node, [f"n{guest.domid}"])

        self.meanwhile(introduce)
        guest.set_handler(ring.port, lambda: None)
        guest.unmask(ring.port)
        page = RingPage.over(ring.page)
        channel = RingChannel(page, GuestPort(self, guest, page, ring.port))
        return guest, Client.over(channel, name=name)


@pytest.fixture
def world(xen_utils: Prepared) -> Iterator[StoreWorld]:
    with StoreWorld(xen_utils) as made:
        yield made


def test_guests_use_it_over_their_ring_pages(world: StoreWorld) -> None:
    toolstack = world.connect()
    one, first = world.add_guest(toolstack, "one")
    two, second = world.add_guest(toolstack, "two")
    assert (first.read("name"), second.read("name")) == (b"one", b"two")
    # More than a ring at once, wrapped around its end again and again.
    values = [bytes([number]) * (240 * number) for number in range(1, 9)]
    for number, value in enumerate(values):
        first.write(f"data/{number}", value)
    assert [first.read(f"data/{number}") for number in range(len(values))] == values
    assert sorted(first.directory("data")) == [str(number) for number in range(len(values))]
    with pytest.raises(XsError, match="EACCES"):
        second.read(f"/local/domain/{one.domid}/data/0")
    with pytest.raises(XsError, match="ENOENT"):
        first.read("data/none")
    with first.transaction() as tx:
        tx.write("data/0", tx.read("data/1"))
        assert second.read("name") == b"two"
    assert world.meanwhile(lambda: toolstack.read(f"/local/domain/{one.domid}/data/0")) == values[1]
    world.meanwhile(toolstack.close)
    assert two.running


def test_a_guest_is_told_of_a_change(world: StoreWorld) -> None:
    toolstack = world.connect()
    guest, client = world.add_guest(toolstack, "one")
    seen: list[str] = []
    client.watch("data", "token", lambda path, token: seen.append(path))
    world.hold(lambda: client.poll() > 0)
    assert seen == ["data"]
    world.meanwhile(lambda: toolstack.write(f"/local/domain/{guest.domid}/data/new", "1"))
    world.hold(lambda: client.poll() > 0)
    assert seen == ["data", "data/new"]
    world.meanwhile(toolstack.close)


def test_it_lets_go_of_a_domain_that_is_destroyed(world: StoreWorld) -> None:
    """VIRQ_DOM_EXC, and XEN_DOMCTL_getdomaininfo by privcmd."""
    toolstack = world.connect()
    guest, client = world.add_guest(toolstack, "one")
    domid, home = guest.domid, f"/local/domain/{guest.domid}"
    client.write("data/mine", "1")
    released: list[str] = []
    toolstack_events = world.meanwhile(lambda: Client.connect(world.path, timeout=PATIENCE))
    world.meanwhile(
        lambda: toolstack_events.watch("@releaseDomain", "t", lambda path, _: released.append(path))
    )
    world.hold(lambda: toolstack_events.poll() > 0)
    released.clear()
    world.machine.shutdown_domain(domid, 3)
    world.hold(lambda: toolstack_events.poll() > 0)
    assert world.meanwhile(lambda: toolstack.is_domain_introduced(domid))
    released.clear()
    world.machine.destroy_domain(domid)
    world.hold(lambda: toolstack_events.poll() > 0)
    assert released == ["@releaseDomain"]
    assert not world.meanwhile(lambda: toolstack.is_domain_introduced(domid))
    assert not world.meanwhile(lambda: toolstack.exists(home))
    world.hold(lambda: not held_by(world, domid))
    for connection in (toolstack, toolstack_events):
        world.meanwhile(connection.close)


def held_by(world: StoreWorld, domid: int) -> bool:
    """Whether anything of a destroyed domain is still held."""
    return any(leaks.domid == domid and leaks for leaks in world.machine.leaks().domains)


def test_it_is_killed_while_guests_are_connected(world: StoreWorld) -> None:
    toolstack = world.connect()
    guest, client = world.add_guest(toolstack, "one")
    assert client.read("name") == b"one"
    client.write("data/x", "1")
    world.kill(world.daemon)
    world.hold(lambda: not world.server.programs and not world.server.files)
    assert guest.running
