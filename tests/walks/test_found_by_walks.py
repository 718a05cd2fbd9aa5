"""What random walks have found, each as the shortest walk that shows it."""

from __future__ import annotations

import pytest
from vif_peers import Stack
from walk_ends import PLENTY, CheckedVif
from walk_frames import Maker

from xennet.errors import LinkError
from xennet.frames import EVERYTHING, NOTHING
from xennet.host.domains import PluggedVif
from xennet.host.host import Host
from xennet.lifecycle.why import why
from xennet.netfront.device import HELD_PERIOD
from xennet.netfront.kinds import LINUX, WINDOWS, FrontendKind
from xennet.netfront.options import NetfrontOptions


def connected(*, kind: FrontendKind = LINUX, **options) -> tuple[Host, PluggedVif]:
    host = Host()
    vif = host.plug(host.add_guest(kind=kind), 0, Stack(), Stack(), **options)
    host.boot()
    host.settle()
    host.require_connected(vif)
    return host, vif


def test_a_frontend_that_vanishes_before_its_backend_frees_its_rings_when_they_are_unmapped() -> (
    None
):
    # The backend is busy with another event, so the frontend is first to see its directory go:
    # the ring pages are mapped still. Linux tries again every second (gnttab_handle_deferred).
    host, vif = connected()
    host.store.write(f"{vif.paths.backend}/rate", "20000,50000")
    host.store.rm(vif.paths.frontend)
    host.settle()
    assert vif.netfront is not None
    assert vif.netfront.held_pages == 2
    host.machine.run_loop.advance(1_000_000_000)
    host.settle()
    assert vif.netfront.held_pages == 0
    host.unplug(vif)
    host.settle()
    assert not host.leaks(), str(host.leaks())


def test_a_frontend_tries_for_ever_to_free_pages_and_the_machine_still_comes_to_rest() -> None:
    host, vif = connected()
    assert vif.netfront is not None
    assert vif.netfront.queue is not None
    kept = host.dom0.kernel.map_grant(vif.guest.domid, vif.netfront.queue.tx_ring_ref)
    host.unplug(vif)
    loop = host.machine.run_loop
    loop.run_until_idle(advance_timers=True)
    assert vif.netfront.held_pages == 1
    assert loop.now < 100 * HELD_PERIOD
    for _ in range(10):
        host.store.write("/local/domain/0/backend/vif/noise", "")
        loop.run_until_idle(advance_timers=True)
    loop.advance(1_000_000 * HELD_PERIOD)
    host.settle()
    assert (vif.netfront.held_pages, loop.timers) == (1, 1)
    host.dom0.kernel.unmap_grant(kept)
    host.store.write("/local/domain/0/backend/vif/noise", "")
    loop.run_until_idle(advance_timers=True)
    assert (vif.netfront.held_pages, loop.timers) == (0, 0)
    host.store.rm("/local/domain/0/backend/vif/noise")
    assert not host.leaks(), str(host.leaks())


def test_pages_of_many_connections_are_waited_for_with_one_timer() -> None:
    host, vif = connected()
    timers = host.machine.run_loop.timers
    kept = []
    for _ in range(3):
        assert vif.netfront is not None
        assert vif.netfront.queue is not None
        ref = vif.netfront.queue.tx_ring_ref
        kept.append(host.dom0.kernel.map_grant(vif.guest.domid, ref))
        vif.guest.unload()
        host.settle()
        vif.guest.load()
        host.settle()
    front = vif.netfront
    assert front is not None
    assert front.held_pages == 3
    assert host.machine.run_loop.timers == timers + 1
    for mapping in kept:
        host.dom0.kernel.unmap_grant(mapping)
    host.machine.run_loop.advance(1_000_000_000)
    host.settle()
    assert (front.held_pages, host.machine.run_loop.timers) == (0, timers)


def test_a_vif_that_has_just_lost_its_driver_domain_can_be_kicked() -> None:
    host = Host()
    old = host.add_driver_domain()
    vif = host.plug(host.add_guest(), 0, Stack(), Stack(), backend_domid=old.domid)
    host.boot()
    host.settle()
    old.kill()
    host.replace_backend(vif, host.add_driver_domain())
    vif.kick()
    host.settle()


def test_a_vif_is_not_given_to_the_domain_that_has_it() -> None:
    # Its driver would not see the directory go, and never offer anything in the new one.
    host, vif = connected()
    driver, attached = vif.netback, vif.operation
    operation = host.replace_backend(vif, host.dom0)
    host.settle()
    assert "domain 0 is the backend already" in operation.reason
    assert (vif.netback, vif.operation) == (driver, attached)
    host.require_connected(vif)


def test_a_vif_that_comes_back_at_once_finds_the_driver_that_never_saw_it_go() -> None:
    host, vif = connected()
    driver = vif.netback
    host.replace_backend(vif, host.add_driver_domain())
    assert vif.netback is None
    host.replace_backend(vif, host.dom0)
    assert vif.netback is driver is not None
    host.settle()
    assert vif.netback is driver


def test_a_backend_that_is_loaded_again_finds_the_directory_of_a_guest_that_was_saved() -> None:
    host, vif = connected()
    saved = host.save(vif.guest)
    host.dom0.backends.unload()
    host.settle()
    host.dom0.backends.load()
    host.settle()
    assert list(host.dom0.backends.devices) == [f"backend/vif/{saved.domid}/0"]
    host.destroy_guest(saved.domid)
    host.machine.run_loop.run_until_idle(advance_timers=True)
    assert not host.dom0.backends.devices
    assert not host.leaks(), str(host.leaks())


def test_what_a_vif_has_left_behind_does_not_take_its_driver() -> None:
    host, vif = connected()
    old = vif.paths.backend
    host.replace_backend(vif, owner := host.add_driver_domain())
    owner.load()
    host.settle()
    vif.guest.frontends.resume()
    host.settle()
    host.require_connected(vif)
    driver = vif.netback
    host.store.write(f"{old}/frontend", vif.paths.frontend)  # somebody writes it again
    host.settle()
    host.dom0.backends.unload()
    host.dom0.backends.load()
    host.settle()
    assert vif.netback is driver
    assert vif.connected


def test_a_handle_in_use_stays_with_its_vif() -> None:
    host, vif = connected()
    with pytest.raises(LinkError, match="handle 0 of domain 1 is in use"):
        host.plug(vif.guest, 0, Stack(), Stack())
    host.settle()
    assert vif.guest.vifs[0] is vif
    host.require_connected(vif)


def test_a_vif_that_cannot_be_moved_keeps_its_backend() -> None:
    host, vif = connected()
    host.unplug(vif)
    operation = host.replace_backend(vif, host.add_driver_domain())
    assert "it is being removed" in operation.reason
    assert vif.owner is host.dom0
    host.settle()
    assert not host.leaks(), str(host.leaks())


def test_segments_that_wait_for_room_are_whole_although_frames_before_them_were_dropped() -> None:
    # What a pass drops (F17) leaves a hole in its batch: its frames end behind the sum of their
    # lengths.
    host, maker = Host(), Maker()
    checked = CheckedVif((EVERYTHING, NOTHING), (False, True), True)
    checked.vif = host.plug(host.add_guest(), 0, checked.guest.tap, checked.host.tap)
    host.boot()
    host.settle()
    host.require_connected(checked.vif)
    checked.host.stack.room = 4
    for kind in ("garbage", "gso", "gso", "tcp", "udp"):
        checked.guest.stack.to_send.append(maker.make(kind, 0, 3000, True))
    checked.vif.kick()
    host.settle()
    assert checked.host.stack.judge.frames == 4
    checked.host.stack.room = PLENTY
    checked.vif.kick()
    host.settle()
    assert checked.host.stack.judge.frames == 3 + 3 + 2
    checked.check(flowing=True, exact=True)


@pytest.mark.parametrize("flow", range(4))
def test_a_gso_packet_behind_a_prefix_is_known_by_its_ip_version_under_a_vlan_tag(
    flow: int,
) -> None:
    host, maker = Host(), Maker()
    checked = CheckedVif((EVERYTHING, EVERYTHING), (False, False), True)
    checked.vif = host.plug(
        host.add_guest(kind=WINDOWS),
        0,
        checked.guest.tap,
        checked.host.tap,
        front=NetfrontOptions(gso_prefix=True),
    )
    host.boot()
    host.settle()
    host.require_connected(checked.vif)
    checked.host.stack.to_send.append(maker.make("gso", flow, 5000, True))
    checked.vif.kick()
    host.settle()
    assert checked.guest.stack.judge.frames == 1


def plugged_before_its_drivers_look(host: Host, vif: PluggedVif) -> PluggedVif:
    """All nodes of a vif go and another one has its handle at once: the directories are there
    again when the buses look, which know these devices and do not probe them."""
    for path in (vif.paths.libxl, vif.paths.frontend, vif.paths.backend):
        host.store.rm(path)
    return host.plug(vif.guest, 0, Stack(), Stack())


def sent_from(vif: PluggedVif, byte: bytes) -> list[list[bytes]]:
    """What ``vif`` receives at its guest's and its host's end, having been given a frame at each
    in which all bytes are ``byte``."""
    for end in (vif.guest_end, vif.host_end):
        end.to_send.append(60 * byte)
    vif.kick()
    vif.guest.host.settle()
    return [vif.guest_end.received, vif.host_end.received]


def test_a_vif_whose_drivers_did_not_see_the_one_before_it_go_has_its_frames_at_its_own_ends() -> (
    None
):
    # Windows: whoever reads feature-rx-copy does not take a backend that was not probed again.
    host, old = connected(kind=WINDOWS)
    drivers = old.netfront, old.netback
    new = plugged_before_its_drivers_look(host, old)
    assert (new.netfront, new.netback) == drivers
    host.settle()
    assert not new.connected
    assert "the frontend is not Connected" in str(why(new)[0])
    new.guest.frontends.resume()
    host.settle()
    host.require_connected(new)
    assert (new.netfront, new.netback) == drivers
    assert sent_from(new, b"n") == [[60 * b"n"], [60 * b"n"]]
    assert sent_from(old, b"o") == [[], []]
    host.unplug(new)
    host.settle()
    assert not host.leaks(), str(host.leaks())


def test_a_new_backend_and_a_frontend_that_did_not_see_the_old_vif_go_serve_the_new_one() -> None:
    host, old = connected()
    new = plugged_before_its_drivers_look(host, old)
    host.dom0.backends.unload()
    host.dom0.backends.load()
    host.settle()
    assert new.netback is not old.netback
    new.guest.frontends.resume()
    host.settle()
    host.require_connected(new)
    assert new.netfront is old.netfront
    assert sent_from(new, b"n") == [[60 * b"n"], [60 * b"n"]]
    assert sent_from(old, b"o") == [[], []]


def test_drivers_that_are_given_another_end_serve_the_one_they_have_until_they_connect_again() -> (
    None
):
    host, vif = connected()
    front, back, device = vif.netfront, vif.netback, vif.frontend
    assert front is not None
    assert back is not None
    assert device is not None
    ends = vif.guest_end, vif.host_end
    front.guest, back.host = Stack(), Stack()
    front.set_xdp_headroom(device, 256)
    host.settle()
    assert back.host.offload == EVERYTHING  # of which nothing was negotiated
    assert sent_from(vif, b"o") == [[60 * b"o"], [60 * b"o"]]
    vif.guest_end, vif.host_end = front.guest, back.host
    vif.guest.frontends.resume()
    host.settle()
    assert sent_from(vif, b"n") == [[60 * b"n"], [60 * b"n"]]
    assert [end.received for end in ends] == [[60 * b"o"], [60 * b"o"]]
