"""A house: domains and vifs come and go in any order, many of them, and nothing is left."""

from __future__ import annotations

import pytest
from vif_peers import Stack

from xennet.evtchn import FifoBits
from xennet.link.base import LinkError
from xennet.link.capacity import Capacity
from xennet.link.house import House, guest_mac
from xennet.link.residents import Guest, PluggedVif
from xennet.netback.policy import VifOptions
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.xenbus.toolstack import Outcome
from xennet.xenbus.vif_nodes import VifConfig


def ends(vif: PluggedVif) -> tuple[Stack, Stack]:
    assert isinstance(vif.guest_end, Stack)
    assert isinstance(vif.host_end, Stack)
    return vif.guest_end, vif.host_end


def plug(house: House, guest: Guest, handle: int = 0, **options) -> PluggedVif:
    return house.plug(guest, handle, Stack(), Stack(), **options)


def house_with_vif(**options) -> tuple[House, PluggedVif]:
    house = House()
    vif = plug(house, house.add_guest(), **options)
    house.boot()
    house.settle()
    house.require_connected(vif)
    return house, vif


def check_traffic(house: House, *vifs: PluggedVif, frames: int = 3) -> None:
    """Frames of every vif arrive at its other end and nowhere else."""
    for number, vif in enumerate(vifs):
        for side, stack in enumerate(ends(vif)):
            stack.received.clear()
            stack.to_send = [bytes([number & 0xFF, side, i]) * 20 for i in range(frames)]
        vif.kick()
    sent = [tuple(list(stack.to_send) for stack in ends(vif)) for vif in vifs]
    house.settle()
    for vif, (up, down) in zip(vifs, sent, strict=True):
        guest, host = ends(vif)
        assert host.received == up, vif.name
        assert guest.received == down, vif.name


def check_empty(house: House, *vifs: PluggedVif) -> None:
    operations = [house.unplug(vif) for vif in vifs]
    house.settle()
    assert [(one.outcome, one.forced) for one in operations] == [(Outcome.DONE, False)] * len(vifs)
    assert not house.leaks(), str(house.leaks())
    house.destroy()


@pytest.mark.parametrize("first", ["backend", "frontend", "vif"])
def test_either_end_may_be_there_first(first: str) -> None:
    house = House()
    guest = house.add_guest()
    steps = {
        "backend": house.dom0.load,
        "frontend": guest.boot,
        "vif": lambda: plug(house, guest),
    }
    for name in (first, *(name for name in steps if name != first)):
        steps[name]()
        house.settle()
    (vif,) = house.vifs
    house.require_connected(vif)
    check_traffic(house, vif)
    check_empty(house, vif)


def test_domains_receive_events_as_their_kernels_usually_do() -> None:
    house, freebsd_host = House(), House(backend_evtchn="2l")
    abis = {kind: house.add_guest(kind=KINDS[kind]).domain.evtchn_abi for kind in KINDS}
    assert abis == {"linux": "fifo", "freebsd": "2l", "windows": "fifo"}
    for here, abi in ((house, "fifo"), (freebsd_host, "2l")):
        owners = here.dom0, here.add_driver_domain()
        assert [owner.domain.evtchn_abi for owner in owners] == [abi, abi]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("evtchn", ["2l", FifoBits.abi])
def test_every_kind_of_guest_has_its_traffic(kind: str, evtchn: str) -> None:
    house = House()
    guest = house.add_guest(kind=KINDS[kind], grant_version=2, evtchn_abi=evtchn)
    vif = plug(house, guest)
    house.boot()
    house.settle()
    check_traffic(house, vif)
    check_empty(house, vif)


def test_eight_vifs_of_one_guest_do_not_meet() -> None:
    house = House(Capacity(vifs=8))
    guest = house.add_guest()
    vifs = [plug(house, guest, handle) for handle in range(8)]
    house.boot()
    house.settle()
    check_traffic(house, *vifs)
    assert {vif.netfront.mac.hex(":") for vif in vifs if vif.netfront} == {
        guest_mac(1, handle) for handle in range(8)
    }
    check_empty(house, *vifs)


def test_two_hundred_guests_live_in_one_machine() -> None:
    house = House(Capacity(guests=200))
    vifs = [plug(house, house.add_guest()) for _ in range(200)]
    house.boot()
    house.settle()
    check_traffic(house, *vifs, frames=1)
    check_empty(house, *vifs)


def test_eight_vifs_with_eight_queues_fit_into_the_grant_table_and_the_machine() -> None:
    house = House(Capacity(vifs=8, queues=8))
    guest = house.add_guest(grant_version=2)
    vifs = [
        plug(
            house,
            guest,
            handle,
            front=NetfrontOptions(queues=8),
            back=VifOptions(max_queues=8),
        )
        for handle in range(8)
    ]
    house.boot()
    house.settle()
    assert [len(vif.netback.queues) for vif in vifs if vif.netback] == [8] * 8
    check_traffic(house, *vifs, frames=1)
    check_empty(house, *vifs)


def test_a_driver_domain_serves_as_domain_0_does() -> None:
    house = House()
    driver = house.add_driver_domain()
    guest = house.add_guest()
    near, far = plug(house, guest), plug(house, guest, 1, backend_domid=driver.domid)
    house.boot()
    house.settle()
    assert far.paths.backend == f"/local/domain/{driver.domid}/backend/vif/{guest.domid}/1"
    check_traffic(house, near, far)
    check_empty(house, near, far)


def test_a_vif_goes_on_with_another_backend_domain() -> None:
    house = House()
    old, new = house.add_driver_domain(), house.add_driver_domain()
    vif = plug(house, house.add_guest(), backend_domid=old.domid)
    house.boot()
    house.settle()
    check_traffic(house, vif)
    old.kill()
    house.settle()
    house.replace_backend(vif, new)
    vif.guest.frontends.resume()
    house.settle()
    check_traffic(house, vif)
    check_empty(house, vif)


def test_a_guest_is_restored_in_a_new_domain() -> None:
    house, vif = house_with_vif()
    guest = vif.guest
    saved = house.save(guest)
    house.settle()
    house.destroy_guest(saved.domid)
    house.settle()
    assert not house.guests
    house.restore(saved)
    house.settle()
    assert (guest.domid, vif.paths.frontend_domid) == (2, 2)
    check_traffic(house, vif)
    check_empty(house, vif)


def test_a_guest_moves_to_another_house_with_all_its_vifs() -> None:
    here, there = House(Capacity(vifs=2)), House(Capacity(vifs=2))
    guest = here.add_guest(grant_version=2, evtchn_abi=FifoBits.abi)
    vifs = [plug(here, guest, handle) for handle in range(2)]
    for house in (here, there):
        house.boot()
        house.settle()
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
    here, there = House(), House()
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


def test_a_driver_domain_that_is_destroyed_leaves_nothing() -> None:
    house = House()
    driver = house.add_driver_domain()
    vif = plug(house, house.add_guest(), backend_domid=driver.domid)
    house.boot()
    house.settle()
    house.require_connected(vif)
    driver.destroy()
    house.settle()
    assert list(house.backend_domains) == [0]
    assert not house.store.exists(f"/local/domain/{driver.domid}")
    house.unplug(vif)
    house.machine.run_loop.run_until_idle(advance_timers=True)
    assert not house.leaks(), str(house.leaks())
    house.destroy()


def test_unloading_and_loading_the_frontend_connects_again() -> None:
    house, vif = house_with_vif()
    vif.guest.unload()
    house.settle()
    assert not vif.connected
    assert not house.leaks(), str(house.leaks())
    vif.guest.load()
    house.settle()
    check_traffic(house, vif)
    check_empty(house, vif)


def test_a_held_hotplug_script_holds_the_connection() -> None:
    house = House()
    house.script.held = True
    vif = plug(house, house.add_guest())
    house.boot()
    house.settle()
    assert vif.operation.outcome is Outcome.PENDING
    waits = r"the toolstack still waits: .*/backend/vif/1/0/state = InitWait \(2\)"
    with pytest.raises(LinkError, match=waits):
        house.require_connected(vif)
    house.script.release()
    house.settle()
    house.require_connected(vif)
    check_traffic(house, vif)
    check_empty(house, vif)


@pytest.mark.parametrize("how", ["crash", "kill", "destroy"])
def test_a_guest_that_goes_leaves_nothing_and_harms_nobody(how: str) -> None:
    house = House()
    vifs = [plug(house, house.add_guest()) for _ in range(2)]
    house.boot()
    house.settle()
    victim, other = vifs
    getattr(victim.guest, how)()
    house.settle()
    check_traffic(house, other)
    if how != "destroy":
        victim.guest.destroy()
        house.settle()
    assert list(house.guests) == [2]
    check_empty(house, other)


def test_time_passes_while_frames_wait_for_the_rate_limit_and_not_otherwise() -> None:
    # 10,000 bytes in 50 ms.
    config = VifConfig(guest_mac(1), options={"rate": "10000,50000"})
    house, vif = house_with_vif(config=config)
    guest, host = ends(vif)
    loop = house.machine.run_loop
    assert loop.now == 0
    guest.to_send = [bytes(1000)] * 200
    vif.kick()
    house.settle()
    assert len(host.received) < 200
    assert loop.now == 0
    house.settle(lambda: None if len(host.received) == 200 else len(host.received))
    assert len(host.received) == 200
    assert 500_000_000 < loop.now < 2_000_000_000
    check_empty(house, vif)


def test_time_does_not_pass_for_ever_for_frames_that_do_not_come() -> None:
    house, _ = house_with_vif()
    loop = house.machine.run_loop

    def tick() -> None:
        loop.call_after(1_000_000_000, 0, tick)

    tick()
    house.settle(lambda: 0)
    assert 30_000_000_000 < loop.now <= 60_000_000_000
