"""A host: domains and vifs come and go in any order, many of them, and nothing is left."""

from __future__ import annotations

import pytest
from vif_peers import Stack

from xennet.errors import LinkError, PortError
from xennet.evtchn import FifoBits
from xennet.host.capacity import Capacity
from xennet.host.domains import Guest, PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.netback.policy import VifOptions
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.port.echo import EchoPort
from xennet.port.null import NullPort
from xennet.toolstack.toolstack import Outcome
from xennet.toolstack.vif_nodes import VifConfig


def ends(vif: PluggedVif) -> tuple[Stack, Stack]:
    assert isinstance(vif.guest_end, Stack)
    assert isinstance(vif.host_end, Stack)
    return vif.guest_end, vif.host_end


def plug(host: Host, guest: Guest, handle: int = 0, **options) -> PluggedVif:
    return host.plug(guest, handle, Stack(), Stack(), **options)


def host_with_vif(**options) -> tuple[Host, PluggedVif]:
    host = Host()
    vif = plug(host, host.add_guest(), **options)
    host.boot()
    host.settle()
    host.require_connected(vif)
    return host, vif


def check_traffic(host: Host, *vifs: PluggedVif, frames: int = 3) -> None:
    """Frames of every vif arrive at its other end and nowhere else."""
    for number, vif in enumerate(vifs):
        for side, stack in enumerate(ends(vif)):
            stack.received.clear()
            stack.to_send = [bytes([number & 0xFF, side, i]) * 20 for i in range(frames)]
        vif.kick()
    sent = [tuple(list(stack.to_send) for stack in ends(vif)) for vif in vifs]
    host.settle()
    for vif, (up, down) in zip(vifs, sent, strict=True):
        in_guest, in_host = ends(vif)
        assert in_host.received == up, vif.name
        assert in_guest.received == down, vif.name


def check_empty(host: Host, *vifs: PluggedVif) -> None:
    operations = [host.unplug(vif) for vif in vifs]
    host.settle()
    assert [(one.outcome, one.forced) for one in operations] == [(Outcome.DONE, False)] * len(vifs)
    assert not host.leaks(), str(host.leaks())
    host.destroy()


@pytest.mark.parametrize("first", ["backend", "frontend", "vif"])
def test_either_end_may_be_there_first(first: str) -> None:
    host = Host()
    guest = host.add_guest()
    steps = {
        "backend": host.dom0.load,
        "frontend": guest.boot,
        "vif": lambda: plug(host, guest),
    }
    for name in (first, *(name for name in steps if name != first)):
        steps[name]()
        host.settle()
    (vif,) = host.vifs
    host.require_connected(vif)
    check_traffic(host, vif)
    check_empty(host, vif)


def test_domains_receive_events_as_their_kernels_usually_do() -> None:
    host, freebsd_host = Host(), Host(backend_evtchn="2l")
    abis = {kind: host.add_guest(kind=KINDS[kind]).domain.evtchn_abi for kind in KINDS}
    assert abis == {"linux": "fifo", "freebsd": "2l", "windows": "fifo"}
    for here, abi in ((host, "fifo"), (freebsd_host, "2l")):
        owners = here.dom0, here.add_driver_domain()
        assert [owner.domain.evtchn_abi for owner in owners] == [abi, abi]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("evtchn", ["2l", FifoBits.abi])
def test_every_kind_of_guest_has_its_traffic(kind: str, evtchn: str) -> None:
    host = Host()
    guest = host.add_guest(kind=KINDS[kind], grant_version=2, evtchn_abi=evtchn)
    vif = plug(host, guest)
    host.boot()
    host.settle()
    check_traffic(host, vif)
    check_empty(host, vif)


def test_eight_vifs_of_one_guest_do_not_meet() -> None:
    host = Host(Capacity(vifs=8))
    guest = host.add_guest()
    vifs = [plug(host, guest, handle) for handle in range(8)]
    host.boot()
    host.settle()
    check_traffic(host, *vifs)
    assert {vif.netfront.mac.hex(":") for vif in vifs if vif.netfront} == {
        guest_mac(1, handle) for handle in range(8)
    }
    check_empty(host, *vifs)


def test_two_hundred_guests_live_in_one_machine() -> None:
    host = Host(Capacity(guests=200))
    vifs = [plug(host, host.add_guest()) for _ in range(200)]
    host.boot()
    host.settle()
    check_traffic(host, *vifs, frames=1)
    check_empty(host, *vifs)


def test_eight_vifs_with_eight_queues_fit_into_the_grant_table_and_the_machine() -> None:
    host = Host(Capacity(vifs=8, queues=8))
    guest = host.add_guest(grant_version=2)
    vifs = [
        plug(
            host,
            guest,
            handle,
            front=NetfrontOptions(queues=8),
            back=VifOptions(max_queues=8),
        )
        for handle in range(8)
    ]
    host.boot()
    host.settle()
    assert [len(vif.netback.queues) for vif in vifs if vif.netback] == [8] * 8
    check_traffic(host, *vifs, frames=1)
    check_empty(host, *vifs)


def test_a_driver_domain_serves_as_domain_0_does() -> None:
    host = Host()
    driver = host.add_driver_domain()
    guest = host.add_guest()
    near, far = plug(host, guest), plug(host, guest, 1, backend_domid=driver.domid)
    host.boot()
    host.settle()
    assert far.paths.backend == f"/local/domain/{driver.domid}/backend/vif/{guest.domid}/1"
    check_traffic(host, near, far)
    check_empty(host, near, far)


def test_a_vif_goes_on_with_another_backend_domain() -> None:
    host = Host()
    old, new = host.add_driver_domain(), host.add_driver_domain()
    vif = plug(host, host.add_guest(), backend_domid=old.domid)
    host.boot()
    host.settle()
    check_traffic(host, vif)
    old.kill()
    host.settle()
    host.replace_backend(vif, new)
    vif.guest.frontends.resume()
    host.settle()
    check_traffic(host, vif)
    check_empty(host, vif)


def test_a_guest_is_restored_in_a_new_domain() -> None:
    host, vif = host_with_vif()
    guest = vif.guest
    saved = host.save(guest)
    host.settle()
    host.destroy_guest(saved.domid)
    host.settle()
    assert not host.guests
    host.restore(saved)
    host.settle()
    assert (guest.domid, vif.paths.frontend_domid) == (2, 2)
    check_traffic(host, vif)
    check_empty(host, vif)


def test_a_guest_moves_to_another_host_with_all_its_vifs() -> None:
    here, there = Host(Capacity(vifs=2)), Host(Capacity(vifs=2))
    guest = here.add_guest(grant_version=2, evtchn_abi=FifoBits.abi)
    vifs = [plug(here, guest, handle) for handle in range(2)]
    for host in (here, there):
        host.boot()
        host.settle()
    check_traffic(here, *vifs)
    saved = here.save(guest)
    assert not here.guests
    new_end = Stack()
    there.restore(saved, domid=9, host_ends={1: new_end})
    there.settle()
    assert [vif.paths.backend for vif in vifs] == [
        f"/local/domain/0/backend/vif/9/{handle}" for handle in range(2)
    ]
    assert vifs[1].host_end is new_end
    assert [vif.owner for vif in vifs] == [there.dom0] * 2
    check_traffic(there, *vifs)
    assert here.leaks(), "the source still has the old domain"
    here.destroy_guest(saved.domid)
    here.settle()
    assert not here.leaks(), str(here.leaks())
    here.destroy()
    check_traffic(there, *vifs)
    check_empty(there, *vifs)


def test_a_guest_is_not_restored_where_its_backend_domain_does_not_live() -> None:
    here, there = Host(), Host()
    driver = here.add_driver_domain()
    guest = here.add_guest(name="web")
    plug(here, guest, backend_domid=driver.domid)
    here.boot()
    here.settle()
    saved = here.save(guest)
    with pytest.raises(LinkError, match="web needs backend domain 1"):
        there.restore(saved)
    assert not there.guests
    assert len(there.machine.domains) == 1


@pytest.mark.parametrize(
    ("backend", "why"), [(False, "domain 2 is gone"), (True, "domain 1 is no backend domain")]
)
def test_no_vif_is_plugged_where_a_domain_is_gone(backend: bool, why: str) -> None:
    host = Host()
    driver = host.add_driver_domain()
    guest = host.add_guest()
    host.boot()
    host.settle()
    before = host.store.directory(f"/local/domain/{driver.domid}")
    (driver if backend else guest).kill()
    with pytest.raises(LinkError, match=why):
        plug(host, guest, backend_domid=driver.domid)
    assert (guest.vifs, host.vifs) == ({}, [])
    assert host.store.directory(f"/local/domain/{driver.domid}") == before


class _Unwilling(NullPort):
    """A port that cannot be watched."""

    def listen(self, wake: object) -> None:
        raise PortError("cannot be watched")


def test_an_end_that_takes_no_listener_leaves_no_half_of_a_vif() -> None:
    host = Host()
    guest = host.add_guest()
    with pytest.raises(PortError):
        host.plug(guest, 0, NullPort(), _Unwilling())
    assert (guest.vifs, host.vifs) == ({}, [])
    vif = plug(host, guest)
    host.boot()
    host.settle()
    assert vif.connected


def test_a_guest_is_not_restored_by_half_for_an_end_that_is_none() -> None:
    host = Host()
    guest = host.add_guest()
    plug(host, guest)
    host.boot()
    host.settle()
    saved = host.save(guest)
    domains = len(host.machine.domains)
    with pytest.raises(TypeError, match="host_ends"):
        host.restore(saved, host_ends={0: "null:"})  # type: ignore[dict-item]
    assert len(host.machine.domains) == domains
    assert not host.guests
    host.restore(saved)
    host.settle()
    assert guest.vifs[0].connected


@pytest.mark.parametrize(
    ("backend", "why"), [(False, "domain 2 is gone"), (True, "domain 1 is no backend domain")]
)
def test_no_backend_is_replaced_where_a_domain_is_gone(backend: bool, why: str) -> None:
    host = Host()
    driver = host.add_driver_domain()
    vif = plug(host, host.add_guest())
    host.boot()
    host.settle()
    (driver if backend else vif.guest).kill()
    before, owner = vif.operation, vif.owner
    with pytest.raises(LinkError, match=why):
        host.replace_backend(vif, driver)
    assert (vif.operation, vif.owner) == (before, owner)
    assert not host.store.exists(f"/local/domain/{driver.domid}/backend/vif")


def test_a_driver_domain_that_is_destroyed_leaves_nothing() -> None:
    host = Host()
    driver = host.add_driver_domain()
    vif = plug(host, host.add_guest(), backend_domid=driver.domid)
    host.boot()
    host.settle()
    host.require_connected(vif)
    driver.destroy()
    host.settle()
    assert list(host.backend_domains) == [0]
    assert not host.store.exists(f"/local/domain/{driver.domid}")
    host.unplug(vif)
    host.machine.run_loop.run_until_idle(advance_timers=True)
    assert not host.leaks(), str(host.leaks())
    host.destroy()


def test_unloading_and_loading_the_frontend_connects_again() -> None:
    host, vif = host_with_vif()
    vif.guest.unload()
    host.settle()
    assert not vif.connected
    assert not host.leaks(), str(host.leaks())
    vif.guest.load()
    host.settle()
    check_traffic(host, vif)
    check_empty(host, vif)


def test_a_held_hotplug_script_holds_the_connection() -> None:
    host = Host()
    host.script.held = True
    vif = plug(host, host.add_guest())
    host.boot()
    host.settle()
    assert vif.operation.outcome is Outcome.PENDING
    waits = r"the toolstack still waits: .*/backend/vif/1/0/state = InitWait \(2\)"
    with pytest.raises(LinkError, match=waits):
        host.require_connected(vif)
    host.script.release()
    host.settle()
    host.require_connected(vif)
    check_traffic(host, vif)
    check_empty(host, vif)


@pytest.mark.parametrize("how", ["crash", "kill", "destroy"])
def test_a_guest_that_goes_leaves_nothing_and_harms_nobody(how: str) -> None:
    host = Host()
    vifs = [plug(host, host.add_guest()) for _ in range(2)]
    host.boot()
    host.settle()
    victim, other = vifs
    getattr(victim.guest, how)()
    host.settle()
    check_traffic(host, other)
    if how != "destroy":
        victim.guest.destroy()
        host.settle()
    assert list(host.guests) == [2]
    check_empty(host, other)


def test_time_passes_while_frames_wait_for_the_rate_limit_and_not_otherwise() -> None:
    # 10,000 bytes in 50 ms.
    config = VifConfig(guest_mac(1), options={"rate": "10000,50000"})
    host, vif = host_with_vif(config=config)
    in_guest, in_host = ends(vif)
    loop = host.machine.run_loop
    assert loop.now == 0
    in_guest.to_send = [bytes(1000)] * 200
    vif.kick()
    host.settle()
    assert len(in_host.received) < 200
    assert loop.now == 0
    host.settle(lambda: None if len(in_host.received) == 200 else len(in_host.received))
    assert len(in_host.received) == 200
    assert 500_000_000 < loop.now < 2_000_000_000
    check_empty(host, vif)


def test_time_does_not_pass_for_ever_for_frames_that_do_not_come() -> None:
    host, _ = host_with_vif()
    loop = host.machine.run_loop

    def tick() -> None:
        loop.call_after(1_000_000_000, 0, tick)

    tick()
    host.settle(lambda: 0)
    assert 30_000_000_000 < loop.now <= 60_000_000_000


@pytest.mark.parametrize("slots", [1, 3, 256])
@pytest.mark.parametrize("echo_in", ["guest", "host"])
def test_an_echo_that_was_full_goes_on_when_its_frames_are_taken(slots: int, echo_in: str) -> None:
    host = Host()
    stack, echo = Stack(), EchoPort(slots=slots)
    guest_end, host_end = (stack, echo) if echo_in == "host" else (echo, stack)
    host.plug(host.add_guest(), 0, guest_end, host_end)
    host.boot()
    host.settle()
    frames = [i.to_bytes(2) * 30 for i in range(2000)]
    stack.to_send = list(frames)
    stack.room = 0
    stack.wake()
    host.settle()
    assert stack.to_send
    stack.room = 1 << 30
    stack.wake()
    host.settle()
    assert stack.received == frames
    host.destroy()
