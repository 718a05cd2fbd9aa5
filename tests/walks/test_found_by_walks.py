"""What random walks have found, each as the shortest walk that shows it."""

from __future__ import annotations

import pytest
from vif_peers import Stack
from walk_ends import PLENTY, Wire
from walk_frames import Maker

from xennet.frames import EVERYTHING, NOTHING
from xennet.link.base import LinkError
from xennet.link.house import House
from xennet.link.residents import PluggedVif
from xennet.netfront.device import HELD_PERIOD, HELD_TRIES
from xennet.netfront.kinds import WINDOWS
from xennet.netfront.options import NetfrontOptions


def connected(**options) -> tuple[House, PluggedVif]:
    house = House()
    vif = house.plug(house.add_guest(), 0, Stack(), Stack(), **options)
    house.boot()
    house.settle()
    house.require_connected(vif)
    return house, vif


def test_a_frontend_that_vanishes_before_its_backend_frees_its_rings_when_they_are_unmapped() -> (
    None
):
    # The backend is busy with another event, so the frontend is first to see its directory go:
    # the ring pages are mapped still. Linux tries again every second (gnttab_handle_deferred).
    house, vif = connected()
    house.store.write(f"{vif.paths.backend}/rate", "20000,50000")
    house.store.rm(vif.paths.frontend)
    house.settle()
    assert vif.netfront is not None
    assert vif.netfront.held_pages == 2
    house.machine.run_loop.advance(1_000_000_000)
    house.settle()
    assert vif.netfront.held_pages == 0
    house.unplug(vif)
    house.settle()
    assert not house.leaks(), str(house.leaks())


def test_a_frontend_does_not_wait_for_ever_for_pages_that_its_backend_keeps() -> None:
    house, vif = connected()
    assert vif.netfront is not None
    assert vif.netfront.queue is not None
    kept = house.dom0.kernel.map_grant(vif.guest.domid, vif.netfront.queue.tx_ring_ref)
    house.unplug(vif)
    house.machine.run_loop.run_until_idle(advance_timers=True)
    assert vif.netfront.held_pages == 1
    assert HELD_TRIES <= house.machine.run_loop.now // HELD_PERIOD < HELD_TRIES + 100
    house.dom0.kernel.unmap_grant(kept)


def test_pages_of_many_connections_are_waited_for_with_one_timer() -> None:
    house, vif = connected()
    timers = house.machine.run_loop.timers
    kept = []
    for _ in range(3):
        assert vif.netfront is not None
        assert vif.netfront.queue is not None
        ref = vif.netfront.queue.tx_ring_ref
        kept.append(house.dom0.kernel.map_grant(vif.guest.domid, ref))
        vif.guest.unload()
        house.settle()
        vif.guest.load()
        house.settle()
    front = vif.netfront
    assert front is not None
    assert front.held_pages == 3
    assert house.machine.run_loop.timers == timers + 1
    for mapping in kept:
        house.dom0.kernel.unmap_grant(mapping)
    house.machine.run_loop.advance(1_000_000_000)
    house.settle()
    assert (front.held_pages, house.machine.run_loop.timers) == (0, timers)


def test_a_vif_that_has_just_lost_its_driver_domain_can_be_kicked() -> None:
    house = House()
    old = house.add_driver_domain()
    vif = house.plug(house.add_guest(), 0, Stack(), Stack(), backend_domid=old.domid)
    house.boot()
    house.settle()
    old.kill()
    house.replace_backend(vif, house.add_driver_domain())
    vif.kick()
    house.settle()


def test_a_vif_is_not_given_to_the_domain_that_has_it() -> None:
    # Its driver would not see the directory go, and never offer anything in the new one.
    house, vif = connected()
    driver, attached = vif.netback, vif.operation
    operation = house.replace_backend(vif, house.dom0)
    house.settle()
    assert "domain 0 is the backend already" in operation.reason
    assert (vif.netback, vif.operation) == (driver, attached)
    house.require_connected(vif)


def test_a_vif_that_comes_back_at_once_finds_the_driver_that_never_saw_it_go() -> None:
    house, vif = connected()
    driver = vif.netback
    house.replace_backend(vif, house.add_driver_domain())
    assert vif.netback is None
    house.replace_backend(vif, house.dom0)
    assert vif.netback is driver is not None
    house.settle()
    assert vif.netback is driver


def test_a_backend_that_is_loaded_again_finds_the_directory_of_a_guest_that_was_saved() -> None:
    house, vif = connected()
    saved = house.save(vif.guest)
    house.dom0.backends.unload()
    house.settle()
    house.dom0.backends.load()
    house.settle()
    assert list(house.dom0.backends.devices) == [f"backend/vif/{saved.domid}/0"]
    house.destroy_guest(saved.domid)
    house.machine.run_loop.run_until_idle(advance_timers=True)
    assert not house.dom0.backends.devices
    assert not house.leaks(), str(house.leaks())


def test_what_a_vif_has_left_behind_does_not_take_its_driver() -> None:
    house, vif = connected()
    old = vif.paths.backend
    house.replace_backend(vif, owner := house.add_driver_domain())
    owner.load()
    house.settle()
    vif.guest.frontends.resume()
    house.settle()
    house.require_connected(vif)
    driver = vif.netback
    house.store.write(f"{old}/frontend", vif.paths.frontend)  # somebody writes it again
    house.settle()
    house.dom0.backends.unload()
    house.dom0.backends.load()
    house.settle()
    assert vif.netback is driver
    assert vif.connected


def test_a_handle_in_use_stays_with_its_vif() -> None:
    house, vif = connected()
    with pytest.raises(LinkError, match="handle 0 of domain 1 is in use"):
        house.plug(vif.guest, 0, Stack(), Stack())
    house.settle()
    assert vif.guest.vifs[0] is vif
    house.require_connected(vif)


def test_a_vif_that_cannot_be_moved_keeps_its_backend() -> None:
    house, vif = connected()
    house.unplug(vif)
    operation = house.replace_backend(vif, house.add_driver_domain())
    assert "it is being removed" in operation.reason
    assert vif.owner is house.dom0
    house.settle()
    assert not house.leaks(), str(house.leaks())


def test_segments_that_wait_for_room_are_whole_although_frames_before_them_were_dropped() -> None:
    # What a pass drops (F17) leaves a hole in its batch: its frames end behind the sum of their
    # lengths.
    house, maker = House(), Maker()
    wire = Wire((EVERYTHING, NOTHING), (False, True), True)
    wire.vif = house.plug(house.add_guest(), 0, wire.guest.tap, wire.host.tap)
    house.boot()
    house.settle()
    house.require_connected(wire.vif)
    wire.host.station.room = 4
    for kind in ("garbage", "gso", "gso", "tcp", "udp"):
        wire.guest.station.to_send.append(maker.make(kind, 0, 3000, True))
    wire.vif.kick()
    house.settle()
    assert wire.host.station.judge.frames == 4
    wire.host.station.room = PLENTY
    wire.vif.kick()
    house.settle()
    assert wire.host.station.judge.frames == 3 + 3 + 2
    wire.check(flowing=True, exact=True)


@pytest.mark.parametrize("flow", range(4))
def test_a_gso_packet_behind_a_prefix_is_known_by_its_ip_version_under_a_vlan_tag(
    flow: int,
) -> None:
    house, maker = House(), Maker()
    wire = Wire((EVERYTHING, EVERYTHING), (False, False), True)
    wire.vif = house.plug(
        house.add_guest(kind=WINDOWS),
        0,
        wire.guest.tap,
        wire.host.tap,
        front=NetfrontOptions(gso_prefix=True),
    )
    house.boot()
    house.settle()
    house.require_connected(wire.vif)
    wire.host.station.to_send.append(maker.make("gso", flow, 5000, True))
    wire.vif.kick()
    house.settle()
    assert wire.guest.station.judge.frames == 1
