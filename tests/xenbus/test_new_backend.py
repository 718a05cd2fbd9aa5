"""Backends that go and come: drivers reloaded, driver domains that crash, nodes that vanish."""

from __future__ import annotations

import pytest
from handshake_log import by, seen
from vif_world import MAC, World

from xennet.toolstack.relocation import replace_backend
from xennet.toolstack.toolstack import Outcome
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.frontend import Phase
from xennet.xenbus.tables import FRONTENDS, WINDOWS_FRONTEND, FrontendRules

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"
NEW = "/local/domain/2/backend/vif/1/0"

frontends = pytest.mark.parametrize("rules", FRONTENDS.values(), ids=FRONTENDS)


# -- a backend driver that is reloaded -------------------------------------------------------------


def test_unloading_keeps_the_state_and_forgets_the_scripts_answer() -> None:
    world = World()
    world.connected()
    world.record()
    world.backends.unload()
    world.idle()
    assert world.walked(BE) == []
    assert world.states() == (4, 4)
    assert world.value(f"{BE}/hotplug-status") is None
    assert world.backend_drivers[0].calls == ["probe", "connect", "disconnect", "remove"]
    assert world.backends.devices == {}
    assert world.store.watches_of(0) == 1


def test_unbinding_ends_watches_in_the_order_of_linux() -> None:
    # xenbus_dev_remove: the watch of the other end; then netback_remove. Seen on Linux 6.1.
    world = World()
    world.connected()
    world.record()
    world.backends.unload()
    world.idle()
    assert [(c.op, c.path) for c in seen(world.operations)] == [
        ("UNWATCH", f"{FE}/state"),
        ("RM", "backend/vif/1/0/hotplug-status"),
        ("UNWATCH", f"{FE}/request-multicast-control"),
        ("UNWATCH", "backend/vif/1/0/rate"),
    ]


def test_a_domain_destroyed_while_the_script_is_silent_sees_only_closed() -> None:
    # backend_switch_state shows nothing before hotplug-status is there; xenbus_dev_remove shows
    # Closed because the toolstack has written Closing.
    world = World()
    world.connected()
    world.backends.unload()
    world.backends.load()
    world.idle()
    assert world.states() == (4, 2)
    world.record()
    world.xl.destroy_domain(1)
    world.idle()
    changes = by(seen(world.operations), "dom0-kernel")
    steps = [(c.op, c.path, c.detail) for c in changes if not c.op.startswith("TRANSACTION")]
    assert steps == [
        ("UNWATCH", f"{FE}/request-multicast-control", "TOKEN"),
        ("UNWATCH", "backend/vif/1/0/rate", "TOKEN"),
        ("UNWATCH", f"{FE}/state", "TOKEN"),
        ("UNWATCH", "backend/vif/1/0/hotplug-status", "TOKEN"),
        ("RM", "backend/vif/1/0/hotplug-status", ""),
        ("WRITE", "backend/vif/1/0/state", "6"),
    ]
    assert not world.exists(BE)


def test_binding_again_writes_features_then_init_wait_and_maps_the_same_rings() -> None:
    world = World()
    world.connected()
    world.backends.unload()
    world.idle()
    world.record()
    world.backends.load()
    world.idle()
    world.xl.replug_vif(1, 0)
    world.idle()
    changes = [(c.op, c.path.rpartition("/")[2]) for c in by(seen(world.operations), "dom0-kernel")]
    offered = changes.index(("WRITE", "feature-ctrl-ring"))
    assert changes.index(("WRITE", "feature-sg")) < offered < changes.index(("WRITE", "state"))
    assert world.walked(BE) == [2, 4]
    assert world.walked(FE) == []
    assert world.backend_drivers[1].calls == ["probe", "connect"]
    assert world.frontend_drivers[0].calls == ["setup", "ready", "connected"]


def test_field_bug_19_a_reloaded_backend_waits_for_a_hotplug_status_that_nobody_writes() -> None:
    world = World()
    world.connected()
    world.backends.unload()
    world.backends.load()
    world.loop.run_until_idle(advance_timers=True)
    assert world.states() == (4, 2)
    assert world.backend_drivers[1].connected
    assert world.value(f"{BE}/hotplug-status") is None
    operation = world.xl.replug_vif(1, 0)
    world.idle()
    assert operation.outcome is Outcome.DONE
    assert world.states() == (4, 4)


def test_field_bug_19_a_script_that_never_runs_fails_the_attach_after_40_s() -> None:
    world = World()
    world.script.held = True
    world.create_domain()
    operation = world.attach()
    world.boot()
    world.loop.run_until_idle(advance_timers=True)
    assert operation.reason == "hotplug script did not end in 40 s"
    assert world.loop.now == 40 * 10**9
    assert world.states() == (4, 2)
    assert world.value(f"{BE}/hotplug-status") == ""


def test_devices_that_come_while_nothing_is_loaded_are_found_later() -> None:
    world = World()
    world.create_domain()
    world.boot()
    world.backends.unload()
    world.attach()
    world.idle()
    assert world.backends.devices == {}
    assert world.states() == (1, 1)
    world.backends.load()
    world.idle()
    assert world.states() == (4, 4)


def test_devices_that_go_while_nothing_is_loaded_stay_gone() -> None:
    world = World()
    world.connected()
    world.backends.unload()
    operation = world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert operation.outcome is not Outcome.PENDING
    world.backends.load()
    world.idle()
    assert world.backends.devices == {}
    assert world.states() == (None, None)


def test_a_state_that_the_toolstack_has_forced_is_confirmed_by_an_unload() -> None:
    world = World()
    guest = world.connected()
    guest.bus.stop()  # hangs
    operation = world.xl.detach_vif(1, 0)
    world.idle()
    assert world.states() == (4, 5)
    world.backends.unload()
    world.idle()
    assert (operation.outcome, operation.forced) == (Outcome.DONE, False)
    assert world.states() == (None, None)


def test_loading_and_unloading_twice_is_harmless() -> None:
    world = World()
    world.connected()
    world.backends.load()
    world.backends.unload()
    world.backends.unload()
    world.backends.load()
    world.backends.load()
    world.xl.replug_vif(1, 0)
    world.idle()
    assert world.states() == (4, 4)
    assert len(world.backend_drivers) == 2


# -- a driver domain that crashes ------------------------------------------------------------------


def crashed(rules: FrontendRules) -> World:
    """Domain 1 was served by domain 2, which is dead; domain 3 is ready to serve."""
    world = World(frontend=rules)
    world.create_domain()
    world.driver_domain(2)
    world.boot()
    operation = world.xl.attach_vif(1, 0, VifConfig(MAC), backend_domid=2)
    world.idle()
    assert operation.outcome is Outcome.DONE
    assert world.value(f"{FE}/state") == "4"
    world.driver_domain(3)
    world.machine.destroy_domain(2)
    world.idle()
    assert not world.exists(NEW)
    return world


@frontends
def test_a_new_backend_domain_serves_a_frontend_that_resumes(rules: FrontendRules) -> None:
    world = crashed(rules)
    operation = replace_backend(world.xl, 1, 0, 3)
    world.idle()
    new = "/local/domain/3/backend/vif/1/0"
    assert (world.value(f"{FE}/state"), world.value(f"{new}/state")) == ("1", "2")
    assert operation.outcome is Outcome.DONE
    # Windows took the crash for a hot-unplug and starts over, the others wake up.
    frontend = world.frontend()
    assert frontend.unplugged is (rules is WINDOWS_FRONTEND)
    world.guests[1].bus.resume()
    frontend.start()
    world.idle()
    assert (world.value(f"{FE}/state"), world.value(f"{new}/state")) == ("4", "4")
    assert frontend.dev.otherend_id == 3
    assert world.root.get_perms(f"{FE}/tx-ring-ref") == ["n1", "r3"]
    assert world.store.watches_of(1) == 2
    detach = world.xl.detach_vif(1, 0)
    world.idle()
    assert detach.outcome is Outcome.DONE
    assert not world.exists(new)


@frontends
def test_a_new_backend_domain_serves_a_frontend_that_is_reloaded(rules: FrontendRules) -> None:
    world = crashed(rules)
    replace_backend(world.xl, 1, 0, 3)
    world.idle()
    world.frontend().close()
    world.frontend().start()
    world.idle()
    assert world.value(f"{FE}/state") == "4"
    assert world.frontend_drivers[0].calls.count("setup") == 2


def test_a_backend_domain_can_be_replaced_while_it_lives() -> None:
    world = World()
    world.connected()
    world.driver_domain(2)
    operation = replace_backend(world.xl, 1, 0, 2)
    world.idle()
    assert not world.exists("/local/domain/0/backend/vif")
    assert world.backends.devices == {}
    assert not world.backend_drivers[0].connected
    world.frontend().resume()
    world.idle()
    assert operation.outcome is Outcome.DONE
    assert (world.value(f"{FE}/state"), world.value(f"{NEW}/state")) == ("4", "4")
    assert world.xl.vifs(1)[0].backend_domid == 2


def test_a_vif_that_is_not_there_has_no_backend_to_replace() -> None:
    world = World()
    world.create_domain()
    operation = replace_backend(world.xl, 1, 0, 2)
    assert operation.reason == "/libxl/1/device/vif/0: no such device, or it is being removed"
    assert operation.outcome is Outcome.FAILED
    assert not world.exists(FE)


def test_a_vif_that_is_being_removed_gets_no_new_backend() -> None:
    world = World()
    world.connected()
    world.driver_domain(2)
    world.xl.detach_vif(1, 0)
    assert replace_backend(world.xl, 1, 0, 2).outcome is Outcome.FAILED
    world.idle()
    assert not world.exists("/local/domain/2/backend/vif")
    assert world.xl.vifs(1) == ()


# -- a backend that goes by itself -----------------------------------------------------------------


@frontends
def test_a_backend_that_closes_and_is_probed_anew_serves_the_next_start(
    rules: FrontendRules,
) -> None:
    world = World(frontend=rules)
    world.connected()
    world.backend().close()
    world.idle()
    assert world.states() == (6, 6)
    world.frontend().close()
    world.backends.unload()
    world.idle()
    world.backends.load()
    world.frontend().start()
    world.idle()
    world.xl.replug_vif(1, 0)
    world.idle()
    assert world.states() == (4, 4)


def test_the_backends_directory_removed_while_connected_unmaps_the_rings() -> None:
    world = World()
    world.connected()
    world.root.rm(BE)
    world.idle()
    assert world.backends.devices == {}
    assert not world.backend_drivers[0].connected
    assert world.states() == (4, None)
    world.frontend().close()
    assert world.frontend().phase is Phase.IDLE
    assert not world.exists(BE)
