"""Suspend, resume, save, restore, migrate: what the two ends and the store do."""

from __future__ import annotations

import pytest
from vif_world import World

from xennet.abi.xenbus import XenbusState as S
from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.relocation import restore_domain
from xennet.toolstack.shutdown import GuestControl, GuestRequest
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.frontend import Frontend, Phase
from xennet.xenbus.tables import (
    FREEBSD_FRONTEND,
    FRONTENDS,
    LINUX_FRONTEND,
    XNB_BACKEND,
    FrontendRules,
)

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"
#: xen/sched.h
SHUTDOWN_suspend = 2

frontends = pytest.mark.parametrize("rules", FRONTENDS.values(), ids=FRONTENDS)


@frontends
def test_resume_walks_the_same_backend_through_closed_and_writes_all_keys_again(
    rules: FrontendRules,
) -> None:
    world = World(frontend=rules)
    world.connected()
    world.record()
    old = world.value(f"{FE}/tx-ring-ref")
    world.guests[1].bus.resume()
    assert not world.frontend_drivers[0].set_up
    assert world.frontend().phase is Phase.RESUMING
    world.idle()
    assert world.walked(BE) == [5, 6, 2, 4]
    assert world.walked(FE)[0] == 1
    assert world.walked(FE)[-1] == 4
    assert world.states() == (4, 4)
    assert world.value(f"{FE}/tx-ring-ref") != old
    assert world.frontend_drivers[0].calls[-3:] == ["setup", "ready", "connected"]
    assert world.frontend_drivers[0].calls.count("disconnect") == 1


@pytest.mark.parametrize("believed", [S.Initialising, S.Connected])
@pytest.mark.parametrize("stored", ["1", "4", "6", "garbage"])
def test_the_state_is_written_again_whatever_was_there(believed: S, stored: str) -> None:
    world = World()
    world.connected()
    world.backends.stop()
    world.root.write(f"{FE}/state", stored)
    world.frontend().dev.state = believed
    world.record()
    world.frontend().resume()
    # A state that is no number: the directory counts as being removed.
    assert world.walked(FE) == ([] if stored == "garbage" else [1])


def test_a_cancelled_suspend_changes_nothing() -> None:
    world = World()
    guest = world.connected()
    suspended: list[int] = []
    answers: list[str] = []
    GuestControl(guest.store, {"suspend": lambda: suspended.append(1)}).start()
    world.idle()
    world.record()
    GuestRequest(world.xl.store, 1, "suspend", answers.append).start(world.xl.after)
    world.idle()
    assert suspended == [1]
    assert answers == [""]
    # The hypercall says that it was cancelled: the guest goes on and nobody resumes.
    assert world.walked(FE) == world.walked(BE) == []
    assert world.states() == (4, 4)


def test_a_resume_before_the_script_is_done_connects_again() -> None:
    world = World()
    world.connected()
    world.backend().close()
    world.idle()
    world.script.held = True
    world.frontend().resume()
    world.idle()
    assert world.states() == (4, 4)


def test_xnb_ignores_initialising_so_a_resumed_frontend_waits_for_ever() -> None:
    world = World(backend=XNB_BACKEND)
    world.connected()
    world.frontend().resume()
    world.idle()
    assert world.states() == (1, 4)
    assert world.frontend().phase is Phase.RESUMING


def test_a_resume_finds_a_backend_that_moved() -> None:
    world = World()
    world.connected()
    bus = world.driver_domain(2)
    world.idle()
    world.backends.stop()
    world.root.rm(BE)
    new = "/local/domain/2/backend/vif/1/0"
    for name, value in (("frontend", FE), ("frontend-id", "1"), ("script", "s"), ("handle", "0")):
        world.root.write(f"{new}/{name}", value)
    world.root.set_perms(new, ["n2", "r1"])
    for name, value in (("online", "1"), ("hotplug-status", "connected"), ("state", "1")):
        world.root.write(f"{new}/{name}", value)
        world.root.set_perms(f"{new}/{name}", ["n2", "r1"])
    for path in (FE, *(f"{FE}/{name}" for name in world.root.directory(FE))):
        world.root.set_perms(path, ["n1", "r2"])
    world.root.write(f"{FE}/backend", new)
    world.root.write(f"{FE}/backend-id", "2")
    world.frontend().resume()
    world.idle()
    assert bus.devices["backend/vif/1/0"].dev.otherend_id == 1
    assert world.frontend().dev.otherend_id == 2
    assert world.value(f"{new}/state") == "4"
    assert world.value(f"{FE}/state") == "4"
    assert world.store.watches_of(1) == 2


@pytest.mark.parametrize("node", ["backend", "backend-id"])
def test_a_resume_without_a_backend_is_fatal_and_names_the_node(node: str) -> None:
    world = World()
    world.connected()
    world.root.rm(f"{FE}/{node}")
    world.frontend().resume()
    world.idle()
    error = world.value("/local/domain/1/error/device/vif/0/error")
    assert f"device/vif/0/{node}" in (error or "")
    assert world.frontend().phase is Phase.IDLE
    assert not world.frontend_drivers[0].set_up
    assert world.store.watches_of(1) == 1


def test_an_unload_goes_on_after_a_resume() -> None:
    world = World()
    world.connected()
    frontend = world.frontend()
    frontend.close()
    frontend.resume()
    world.idle()
    assert frontend.phase is Phase.IDLE
    assert world.states() == (6, 6)


def test_an_unloaded_frontend_has_nothing_to_resume() -> None:
    world = World()
    world.connected()
    world.frontend().close()
    world.idle()
    world.record()
    world.guests[1].bus.resume()
    world.idle()
    assert world.walked(FE) == world.walked(BE) == []
    assert world.states() == (6, 6)


def test_two_resumes_are_as_good_as_one() -> None:
    world = World()
    world.connected()
    world.frontend().resume()
    world.frontend().resume()
    world.idle()
    assert world.states() == (4, 4)
    assert world.store.watches_of(1) == 2
    assert world.frontend_drivers[0].calls.count("setup") == 2


def test_an_unplug_during_a_resume_ends_by_force() -> None:
    world = World(backend=XNB_BACKEND)
    world.connected()
    world.frontend().resume()
    operation = world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert (operation.outcome, operation.forced) == (Outcome.DONE, True)
    assert world.guests[1].bus.devices == {}


# -- save, restore, migrate ------------------------------------------------------------------------


def save(world: World) -> None:
    """Suspend and destroy domain 1; its image is world.guests[1]."""
    world.machine.shutdown_domain(1, SHUTDOWN_suspend)
    world.xl.destroy_domain(1)
    world.idle()
    assert world.states() == (None, None)


@frontends
def test_save_and_restore_into_a_new_domid(rules: FrontendRules) -> None:
    world = World(frontend=rules)
    guest = world.connected()
    vifs = world.xl.vifs(1)
    save(world)
    assert world.xl.vifs(1) == ()
    world.machine.create_domain(7, name="g7")
    operations = restore_domain(world.xl, DomainConfig(7, "g7", "0000-7"), vifs)
    world.idle()
    assert world.states(7) == (1, 2)
    world.restore(7, guest)
    world.idle()
    assert world.states(7) == (4, 4)
    assert [operation.outcome for operation in operations] == [Outcome.DONE]
    driver = world.frontend_drivers[0]
    assert len(world.frontend_drivers) == 1
    assert driver.calls.count("moved") == 1
    assert driver.calls[-3:] == ["setup", "ready", "connected"]
    assert world.store.watches_of(7) == 2
    world.xl.detach_vif(7, 0)
    world.idle()
    assert guest.bus.devices == {}


def test_the_image_may_wake_up_before_its_vifs_are_plugged_in() -> None:
    world = World()
    guest = world.connected()
    vifs = world.xl.vifs(1)
    save(world)
    world.script.held = True
    world.backends.unload()
    world.machine.create_domain(7, name="g7")
    restore_domain(world.xl, DomainConfig(7, "g7", "0000-7"), vifs)
    world.restore(7, guest)
    world.idle()
    assert world.states(7) == (1, 1)
    world.backends.load()
    world.script.release()
    world.idle()
    assert world.states(7) == (4, 4)


def test_a_vif_that_was_not_restored_is_removed_from_the_guest() -> None:
    world = World()
    world.create_domain()
    world.attach(1, 0)
    world.attach(1, 1)
    guest = world.boot()
    world.idle()
    vifs = world.xl.vifs(1)[1:]
    save(world)
    world.machine.create_domain(7, name="g7")
    restore_domain(world.xl, DomainConfig(7, "g7", "0000-7"), vifs)
    world.restore(7, guest)
    world.idle()
    assert list(guest.bus.devices) == ["device/vif/1"]
    assert world.states(7, 1) == (4, 4)
    assert world.store.watches_of(7) == 2


@pytest.mark.parametrize("domid", [1, 7])
@pytest.mark.parametrize("rules", [LINUX_FRONTEND, FREEBSD_FRONTEND], ids=["linux", "freebsd"])
def test_migration_to_another_machine(domid: int, rules: FrontendRules) -> None:
    here, there = World(frontend=rules), World(frontend=rules)
    guest = here.connected()
    here.machine.shutdown_domain(1, SHUTDOWN_suspend)
    there.machine.create_domain(domid, name="moved")
    restore_domain(there.xl, DomainConfig(domid, "moved", "0000-1"), here.xl.vifs(1))
    there.restore(domid, guest)
    there.idle()
    assert there.states(domid) == (4, 4)
    # The sending machine knew nothing of it.
    assert here.states() == (4, 4)
    here.xl.destroy_domain(1)
    here.idle()
    assert here.states() == (None, None)
    assert here.backends.devices == {}
    assert guest.bus.devices["device/vif/0"].announced
    assert there.states(domid) == (4, 4)


def test_xnb_on_the_other_machine_is_fresh_and_connects() -> None:
    here, there = World(backend=XNB_BACKEND), World(backend=XNB_BACKEND)
    guest = here.connected()
    there.machine.create_domain(1, name="moved")
    restore_domain(there.xl, DomainConfig(1, "moved", "0000-1"), here.xl.vifs(1))
    there.restore(1, guest)
    there.idle()
    assert there.states() == (4, 4)


def test_a_driver_that_cannot_be_moved_is_refused() -> None:
    class Fixed:
        """A frontend driver without ``moved``."""

        def setup(self, dev: object) -> None:
            return None

        ready = connected = disconnect = setup

    world = World()
    guest = world.connected()
    frontend = Frontend(guest.kernel, "device/vif/0", Fixed())
    with pytest.raises(TypeError, match="device/vif/0: Fixed cannot be moved"):
        frontend.resume(guest.kernel)


# -- control/shutdown ------------------------------------------------------------------------------


def test_a_guest_says_what_it_can_be_asked_and_empties_the_node() -> None:
    world = World()
    guest = world.connected()
    control = GuestControl(guest.store, {"suspend": lambda: None})
    control.start()
    assert world.value("/local/domain/1/control/feature-suspend") == "1"
    answers: list[str] = []
    GuestRequest(world.xl.store, 1, "suspend", answers.append).start()
    world.idle()
    assert world.value("/local/domain/1/control/shutdown") == ""
    assert answers == [""]
    control.stop()
    assert world.store.watches_of(1) == 2


def test_a_guest_that_does_not_take_a_command_has_60_s() -> None:
    world = World()
    guest = world.connected()
    GuestControl(guest.store, {"poweroff": lambda: None}).start()
    answers: list[str] = []
    before = world.store.watches_of(0)
    GuestRequest(world.xl.store, 1, "suspend", answers.append).start(world.xl.after)
    world.idle()
    assert answers == []
    world.loop.run_until_idle(advance_timers=True)
    assert answers == ["/local/domain/1/control/shutdown: the guest did not take 'suspend' in 60 s"]
    assert world.value("/local/domain/1/control/shutdown") == ""
    assert world.store.watches_of(0) == before


def test_a_domain_that_dies_instead_is_gone() -> None:
    world = World()
    world.connected()
    answers: list[str] = []
    GuestRequest(world.xl.store, 1, "suspend", answers.append).start(world.xl.after)
    world.xl.destroy_domain(1)
    world.loop.run_until_idle(advance_timers=True)
    assert answers == ["the domain is gone"]
