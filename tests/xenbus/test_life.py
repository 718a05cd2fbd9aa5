"""The life of a vif, both ends and the toolstack over the real store."""

from __future__ import annotations

import pytest
from vif_world import MAC, LinuxBackendDriver, LinuxFrontendDriver, World

from xennet.toolstack.toolstack import Outcome
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.backend import Advertisement, Backend
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.frontend import Frontend

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"


@pytest.fixture
def world() -> World:
    world = World()
    world.create_domain()
    return world


def assert_nothing_left(world: World, domid: int = 1) -> None:
    """No nodes, no watches beyond the buses', no connection of a driver."""
    assert not world.exists(f"/local/domain/{domid}/device/vif")
    assert not world.exists("/local/domain/0/backend/vif")
    assert not world.exists(f"/libxl/{domid}/device/vif")
    assert world.backends.devices == {}
    assert world.store.watches_of(0) == 1
    assert not any(driver.connected for driver in world.backend_drivers)
    assert not any(driver.set_up for driver in world.frontend_drivers)
    guest = world.guests.get(domid)
    if guest is not None:
        assert guest.bus.devices == {}
        assert world.store.watches_of(domid) == 1


# -- start -----------------------------------------------------------------------------------------


def test_backend_first_waits_in_init_wait_for_the_guest(world: World) -> None:
    world.attach()
    world.idle()
    assert world.states() == (1, 2)
    world.boot()
    world.idle()
    assert world.states() == (4, 4)


def test_frontend_first_waits_for_the_backend(world: World) -> None:
    world.backends.stop()
    world.boot()
    operation = world.attach()
    world.idle()
    assert world.states() == (1, 1)
    world.backends.start()
    world.idle()
    assert world.states() == (4, 4)
    assert operation.outcome is Outcome.DONE


def test_drivers_are_called_in_order(world: World) -> None:
    world.attach()
    world.boot()
    world.idle()
    assert world.backend_drivers[0].calls == ["probe", "connect"]
    assert world.frontend_drivers[0].calls == ["setup", "ready", "connected"]


def test_a_connection_is_announced_once_however_often_connected_is_written(world: World) -> None:
    world.attach()
    world.boot()
    world.idle()
    world.root.write(f"{BE}/state", "4")
    world.idle()
    assert world.frontend_drivers[0].calls.count("connected") == 1


def test_connected_is_held_back_until_the_script_is_done(world: World) -> None:
    world.script.held = True
    world.attach()
    world.boot()
    world.idle()
    assert world.states() == (4, 2)
    assert world.backend_drivers[0].connected
    world.script.release()
    world.idle()
    assert world.states() == (4, 4)
    assert world.frontend_drivers[0].calls[-1] == "connected"


@pytest.mark.parametrize("status", ["connected\0", "Connected", "connected ", "", "error"])
def test_only_the_exact_word_ends_the_wait(world: World, status: str) -> None:
    world.script.held = True
    world.attach()
    world.boot()
    world.idle()
    world.root.write(f"{BE}/hotplug-status", status)
    world.idle()
    assert world.states() == (4, 2)


def test_a_failing_script_leaves_the_backend_waiting_and_tells_the_toolstack(world: World) -> None:
    world.script.failure = "bridge xbr0 not found"
    operation = world.attach()
    world.boot()
    world.idle()
    assert world.states() == (4, 2)
    assert world.value(f"{BE}/hotplug-error") == "bridge xbr0 not found"
    assert world.value(f"{BE}/hotplug-status") == "error"
    assert (operation.outcome, operation.reason) == (Outcome.FAILED, "bridge xbr0 not found")


def test_the_script_sets_the_frontends_mtu_from_the_bridge(world: World) -> None:
    world.script.bridge_mtu = 9000
    world.attach()
    world.idle()
    assert world.value(f"{FE}/mtu") == "9000"


def test_a_guest_cannot_write_what_the_toolstack_keeps_for_itself(world: World) -> None:
    guest = world.boot()
    world.attach()
    world.idle()
    for path in (f"{FE}/mtu", f"{BE}/state", "/libxl/1/device/vif/0/mac"):
        with pytest.raises(Exception, match="EACCES"):
            guest.store.write(path, "1")


def test_an_unusable_backend_leaves_the_frontend_in_initialising_without_an_error() -> None:
    world = World()
    world.make_frontend_driver = lambda: LinuxFrontendDriver(usable=False)
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    assert world.states() == (1, 2)
    assert not world.frontend_drivers[0].set_up
    assert not world.exists("/local/domain/1/error/device/vif/0/error")


def test_two_vifs_of_one_guest_do_not_disturb_each_other(world: World) -> None:
    world.attach(1, 0)
    world.attach(1, 1)
    world.boot()
    world.idle()
    assert world.states(1, 0) == world.states(1, 1) == (4, 4)
    world.xl.detach_vif(1, 0)
    world.idle()
    assert world.states(1, 0) == (None, None)
    assert world.states(1, 1) == (4, 4)
    world.xl.detach_vif(1, 1)
    world.idle()
    assert_nothing_left(world)


# -- close -----------------------------------------------------------------------------------------


def test_guest_unload_closes_in_order_and_keeps_the_device() -> None:
    world = World()
    world.connected()
    world.record()
    world.frontend().close()
    world.idle()
    assert world.walked(FE) == [5, 6]
    assert world.walked(BE) == [5, 6]
    assert world.states() == (6, 6)
    assert world.store.watches_of(1) == 1
    assert world.frontend_drivers[0].calls[-1] == "disconnect"
    assert world.backend_drivers[0].calls[-1] == "disconnect"
    assert "backend/vif/1/0" in world.backends.devices


def test_reconnect_after_unload() -> None:
    world = World()
    world.connected()
    for _ in range(3):
        world.frontend().close()
        world.idle()
        world.record()
        world.frontend().start()
        world.idle()
        assert world.states() == (4, 4)
    assert world.walked(FE)[:2] == [1, 4]
    assert world.backend_drivers[0].calls.count("connect") == 4
    assert world.frontend_drivers[0].calls.count("connected") == 4


def test_backend_initiated_close_is_followed_by_the_frontend() -> None:
    world = World()
    world.connected()
    world.backend().close()
    world.idle()
    assert world.states() == (6, 6)
    assert not world.frontend_drivers[0].set_up
    assert not world.backend_drivers[0].connected
    world.record()
    world.frontend().close()
    assert world.walked(FE) == []
    world.frontend().start()
    world.idle()
    assert world.states() == (4, 4)


def test_rings_are_still_there_for_the_backend_until_it_is_closed() -> None:
    world = World()
    world.connected()
    order: list[str] = []
    frontend, backend = world.frontend_drivers[0], world.backend_drivers[0]
    frontend.calls = backend.calls = order
    world.xl.detach_vif(1, 0)
    world.idle()
    assert order == ["disconnect", "remove", "disconnect"]


def test_frontend_straight_to_closed_is_closing_and_closed() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state("6")
    assert world.walked(BE) == [5, 6]
    assert not world.backend_drivers[0].connected
    assert "backend/vif/1/0" in world.backends.devices


@pytest.mark.parametrize("state", [1, 3, 4, 5, 6])
def test_the_forward_close_cycle_is_answered_from_any_state(state: int) -> None:
    world = World()
    world.hostile()
    for frontend, backend in ((state, None), (5, 5), (6, 6), (1, 2), (4, 4)):
        world.set_frontend_state(str(frontend))
        if backend is not None:
            assert world.states() == (frontend, backend)


def test_a_close_cycle_while_the_script_runs_is_answered_at_once(world: World) -> None:
    world.script.held = True
    world.attach()
    guest = world.boot()
    world.idle()
    assert world.states() == (4, 2)
    guest.bus.stop()
    for frontend, backend in ((5, 5), (6, 6), (1, 2), (4, 2)):
        world.set_frontend_state(str(frontend))
        assert world.states() == (frontend, backend)
    world.script.release()
    world.idle()
    assert world.states() == (4, 4)


def test_connected_closing_connected_walks_through_closed_and_init_wait() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state("5")
    world.set_frontend_state("4")
    assert world.walked(BE) == [5, 6, 2, 4]
    assert world.backend_drivers[0].calls == ["probe", "connect", "disconnect", "connect"]


def test_reinitialising_while_connected_restarts_the_backend() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state("1")
    assert world.walked(BE) == [5, 6, 2]


def test_a_driver_that_finds_the_backend_connected_closes_it_first() -> None:
    world = World()
    guest = world.hostile()
    frontend = Frontend(guest.kernel, "device/vif/0", LinuxFrontendDriver())
    frontend.start()
    world.idle()
    assert world.states() == (4, 4)
    assert world.walked(FE) == [5, 6, 1, 4]
    assert world.walked(BE) == [5, 6, 2, 4]


# -- unplug, crash, destroy ------------------------------------------------------------------------


def test_detach_leaves_nothing() -> None:
    world = World()
    world.connected()
    operation = world.xl.detach_vif(1, 0)
    world.idle()
    assert operation.outcome is Outcome.DONE
    assert not operation.forced
    assert_nothing_left(world)


def test_detach_of_a_device_whose_guest_never_came(world: World) -> None:
    world.attach()
    world.idle()
    operation = world.xl.detach_vif(1, 0)
    world.idle()
    assert operation.outcome is Outcome.PENDING
    world.loop.run_until_idle(advance_timers=True)
    assert (operation.outcome, operation.forced) == (Outcome.DONE, True)
    assert_nothing_left(world)


def test_detach_with_no_backend_driver_ends_by_force_and_says_so(world: World) -> None:
    world.backends.stop()
    attach = world.attach()
    detach = world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert attach.outcome is Outcome.FAILED
    assert detach.outcome is Outcome.FAILED
    assert "did not close" in detach.reason
    assert not world.exists("/local/domain/0/backend/vif")
    assert world.store.watches_of(0) == 0


def test_detach_of_an_unloaded_device() -> None:
    world = World()
    world.connected()
    world.frontend().close()
    world.idle()
    world.record()
    operation = world.xl.detach_vif(1, 0)
    world.idle()
    assert operation.outcome is Outcome.DONE
    assert world.walked(BE) == []
    assert_nothing_left(world)


def test_reattach_after_detach() -> None:
    world = World()
    world.connected()
    for _ in range(3):
        world.xl.detach_vif(1, 0)
        world.idle()
        world.attach()
        world.idle()
        assert world.states() == (4, 4)


def test_attaching_a_handle_twice_is_refused_and_changes_nothing() -> None:
    world = World()
    world.connected()
    operation = world.attach()
    world.idle()
    assert operation.outcome is Outcome.FAILED
    assert "exists already" in operation.reason
    assert world.states() == (4, 4)


def test_detach_while_the_script_hangs_goes_on_after_its_time_limit() -> None:
    world = World()
    world.connected()
    world.script.held = True
    operation = world.xl.detach_vif(1, 0)
    world.idle()
    assert operation.outcome is Outcome.PENDING
    world.loop.run_until_idle(advance_timers=True)
    assert operation.outcome is Outcome.FAILED
    assert "40 s" in operation.reason
    world.script.release()
    world.idle()
    assert_nothing_left(world)


def test_a_script_that_runs_after_the_device_is_gone_brings_nothing_back(world: World) -> None:
    world.script.held = True
    world.attach()
    world.idle()
    world.xl.detach_vif(1, 0, force=True)
    world.loop.run_until_idle(advance_timers=True)
    world.script.release()
    world.idle()
    assert_nothing_left(world)


def test_the_scripts_time_limit_does_not_hit_the_next_device() -> None:
    world = World()
    world.connected()
    world.xl.detach_vif(1, 0)
    world.idle()
    world.attach()
    world.idle()
    world.loop.run_until_idle(advance_timers=True)
    assert world.states() == (4, 4)


def test_a_script_does_not_bring_back_a_frontend_that_is_gone(world: World) -> None:
    world.script.held = True
    world.attach()
    guest = world.boot()
    world.idle()
    guest.store.rm("device/vif/0")
    world.script.release()
    world.idle()
    assert not world.exists(FE)


def test_destroying_the_domain_removes_everything() -> None:
    world = World()
    world.connected()
    done: list[int] = []
    world.xl.destroy_domain(1, lambda: done.append(1))
    world.idle()
    assert done == [1]
    del world.guests[1]
    world.frontend_drivers.clear()
    assert_nothing_left(world)
    for path in ("/local/domain/1", "/libxl/1", "/vm/0000-1"):
        assert not world.exists(path)
    assert world.exists("/local/domain/0/domid")


def test_a_crashed_frontend_is_cleaned_up_by_the_backend() -> None:
    world = World()
    world.connected()
    world.machine.destroy_domain(1)
    world.idle()
    # The store has deleted what the guest owned; the backend saw Unknown and went.
    assert world.states() == (None, 6)
    assert world.backend_drivers[0].calls[-2:] == ["disconnect", "remove"]
    assert world.backends.devices == {}
    assert world.store.watches_of(0) == 1


def test_a_frontend_that_removes_its_own_directory_loses_its_device() -> None:
    world = World()
    guest = world.connected()
    guest.store.rm("device/vif/0")
    world.idle()
    assert world.backends.devices == {}
    assert not world.backend_drivers[0].connected
    assert not world.frontend_drivers[0].set_up
    assert world.states() == (None, 6)


@pytest.mark.parametrize("failure", ["", "probe"])
def test_watches_that_a_driver_forgets_end_with_its_device(world: World, failure: str) -> None:
    class Forgetful(LinuxBackendDriver):
        def probe(self, dev: XenbusDevice) -> Advertisement:
            dev.watch("forgotten", lambda: None)
            return super().probe(dev)

    world.make_backend_driver = lambda: Forgetful(fail=failure)
    world.boot()
    world.attach()
    world.idle()
    # The bus, and xl's wait; or the bus, the frontend's state and three of the driver.
    assert world.store.watches_of(0) == (2 if failure else 5)
    world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert_nothing_left(world)


def test_starting_a_running_frontend_again_changes_nothing() -> None:
    world = World()
    world.connected()
    world.record()
    world.frontend().start()
    world.idle()
    assert world.operations == []
    assert world.states() == (4, 4)


def test_an_unload_is_not_begun_twice_and_ends_once() -> None:
    world = World()
    world.connected()
    ends: list[Frontend] = []
    frontend = world.frontend()
    frontend.on_unloaded = ends.append
    world.backends.stop()  # from here on the test is the backend
    world.idle()
    world.record()
    frontend.close()
    world.root.write(f"{BE}/state", "5")
    world.idle()
    frontend.close()
    assert world.walked(FE) == [5, 6]
    assert ends == []
    world.root.write(f"{BE}/state", "6")
    world.idle()
    frontend.close()
    frontend.remove()
    assert world.walked(FE) == [5, 6]
    assert ends == [frontend]


def test_a_start_waits_while_the_backend_shows_no_state(world: World) -> None:
    world.attach()
    guest = world.boot()
    world.idle()
    world.backends.stop()
    guest.bus.stop()
    guest.store.write("device/vif/0/state", "6")
    world.root.write(f"{BE}/state", "soon")
    world.record()
    Frontend(guest.kernel, "device/vif/0", LinuxFrontendDriver()).start()
    world.idle()
    assert world.walked(FE) == []
    for state in ("6", "2"):
        world.root.write(f"{BE}/state", state)
        world.idle()
    assert world.walked(FE) == [1, 4]


def test_a_removed_backend_does_nothing_any_more() -> None:
    world = World()
    world.connected()
    backend = world.backend()
    world.backends.stop()
    world.record()
    backend.remove()
    backend.close()
    assert world.operations == []
    assert world.backend_drivers[0].calls[-2:] == ["disconnect", "remove"]


def test_a_backend_that_is_bound_again_shows_init_wait_and_never_initialising() -> None:
    world = World()
    world.connected()
    world.frontend().close()
    world.idle()
    world.backends.stop()
    world.record()
    Backend(world.dom0, "backend/vif/1/0", LinuxBackendDriver()).start()
    assert world.walked(BE) == [2]


# -- hostile states --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "garbage", "\0004", "99999999999999", "state 4"])
def test_a_state_that_is_no_number_removes_the_backend(text: str) -> None:
    world = World()
    world.hostile()
    world.set_frontend_state(text)
    assert world.backends.devices == {}
    assert world.value(f"{BE}/state") == "6"
    assert not world.backend_drivers[0].connected


@pytest.mark.parametrize("text", ["2", "8", "9", "-1", "2147483647"])
def test_an_unexpected_state_is_a_fatal_error(text: str) -> None:
    world = World()
    world.hostile()
    world.set_frontend_state(text)
    error = world.value("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert error.startswith("22 ")
    assert f"{FE}/state" in error
    assert text in error
    assert not world.backend_drivers[0].connected
    assert world.states()[1] == 5
    world.set_frontend_state("1")
    assert world.walked(BE) == [5, 6, 2]


def test_initialised_is_accepted_and_ignored() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state("3")
    assert world.states() == (3, 4)
    assert world.backend_drivers[0].connected


def test_reconfiguring_without_a_driver_for_it_is_a_fatal_error() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state("7")
    assert world.exists("/local/domain/0/error/backend/vif/1/0/error")


def test_reconfiguring_goes_to_reconfigured_and_back() -> None:
    class Reconfigurable(LinuxBackendDriver):
        def reconfigure(self, dev: object) -> None:
            self.calls.append("reconfigure")

    world = World()
    world.make_backend_driver = Reconfigurable
    world.hostile()
    world.set_frontend_state("7")
    assert world.states() == (7, 8)
    world.set_frontend_state("4")
    assert world.states() == (4, 4)
    assert world.backend_drivers[0].calls == ["probe", "connect", "reconfigure"]


class _RaisingDriver(LinuxBackendDriver):
    """A driver with a fault of its own in the call ``fail``."""

    def _fail(self, name: str) -> None:
        if self.fail == name:
            raise LookupError("a fault of the driver")


@pytest.mark.parametrize(("call", "calls"), [("probe", []), ("connect", ["connect", "disconnect"])])
def test_a_driver_that_raises_leaves_an_error_node_and_goes_to_closing(
    call: str, calls: list[str]
) -> None:
    """As for an error of the device; what it raised is seen as well."""
    world = World()
    world.make_backend_driver = lambda: _RaisingDriver(fail=call)
    world.create_domain()
    world.attach()
    world.boot()
    with pytest.raises(LookupError, match="a fault of the driver"):
        world.idle()
    world.idle()
    (driver,) = world.backend_drivers
    assert driver.calls == ["probe", *calls]
    assert not driver.connected
    assert world.value("/local/domain/0/error/backend/vif/1/0/error") == "5 a fault of the driver"
    assert world.states()[1] in (5, 6)


def test_state_is_read_as_scanf_reads_it() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state(" 5 minutes")
    assert world.value(f"{BE}/state") == "5"


# -- errors ----------------------------------------------------------------------------------------


def test_a_missing_ring_reference_is_fatal_and_names_the_node() -> None:
    world = World()
    world.connected()
    guest = world.guests[1]
    world.frontend().close()
    world.idle()
    guest.store.rm("device/vif/0/tx-ring-ref")
    world.set_frontend_state("4")
    error = world.value("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert error.startswith("2 ")
    assert f"{FE}/tx-ring-ref" in error
    assert not world.backend_drivers[0].connected
    assert world.store.watches_of(0) == 2


def test_a_ring_reference_that_is_no_number_is_fatal_and_shows_the_value() -> None:
    world = World()
    world.connected()
    world.frontend().close()
    world.idle()
    world.guests[1].store.write("device/vif/0/rx-ring-ref", "gref" * 400)
    world.set_frontend_state("4")
    error = world.value("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert "rx-ring-ref" in error
    assert "gref" in error
    assert len(error) < 400


def test_a_refused_map_is_fatal_and_the_frontend_can_start_again() -> None:
    world = World()
    world.make_backend_driver = lambda: LinuxBackendDriver(fail="connect")
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    error = world.value("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert error.startswith("5 GNTTABOP_map_grant_ref")
    assert world.states() == (6, 6)
    assert world.backend_drivers[0].calls == ["probe", "connect", "disconnect"]
    world.backend_drivers[0].fail = ""
    world.frontend().close()
    world.frontend().start()
    world.idle()
    assert world.states() == (4, 4)


@pytest.mark.parametrize("node", ["script", "handle", "frontend", "frontend-id"])
def test_a_backend_that_misses_a_required_node_fails_once(world: World, node: str) -> None:
    world.backends.stop()
    world.attach()
    world.root.rm(f"{BE}/{node}")
    world.backends.start()
    world.idle()
    error = world.value("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert node in error
    assert world.states()[1] == 5
    assert world.backend().failed
    assert world.store.watches_of(0) <= 2


def test_a_failing_probe_is_fatal_and_the_device_can_still_be_removed(world: World) -> None:
    world.make_backend_driver = lambda: LinuxBackendDriver(fail="probe")
    world.boot()
    world.attach()
    world.idle()
    assert world.states()[1] == 5
    world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert_nothing_left(world)
    assert world.backend_drivers[0].calls == ["probe", "remove"]


@pytest.mark.parametrize("call", ["setup", "ready"])
def test_a_frontend_that_fails_says_why_and_closes(call: str) -> None:
    world = World()
    world.make_frontend_driver = lambda: LinuxFrontendDriver(fail=call)
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    error = world.value("/local/domain/1/error/device/vif/0/error")
    assert error is not None
    assert error.startswith("5 GNTTABOP_setup_table")
    assert not world.frontend_drivers[0].set_up
    assert world.states()[0] in (5, 6)


def test_features_are_not_written_into_a_directory_that_has_vanished(world: World) -> None:
    class Slow(LinuxBackendDriver):
        def probe(self, dev: XenbusDevice) -> Advertisement:
            world.root.rm(BE)
            return super().probe(dev)

    world.make_backend_driver = Slow
    world.attach()
    world.idle()
    assert not world.exists(BE)
    error = world.value("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert "vanished" in error
    assert world.backends.devices == {}


def test_a_conflict_in_the_keys_transaction_is_retried(world: World) -> None:
    guest = world.boot()
    world.idle()
    original = guest.store.transact
    tries: list[int] = []

    def racing(body: object) -> object:
        def raced(tx: object) -> object:
            result = body(tx)  # type: ignore[operator]
            tries.append(1)
            if len(tries) == 1:
                world.root.write(f"{FE}/state", "1")
            return result

        return original(raced)

    guest.store.transact = racing  # type: ignore[method-assign, assignment]
    world.attach()
    world.idle()
    assert world.states() == (4, 4)
    assert len(tries) > 2
    assert world.frontend_drivers[0].calls.count("setup") == 1


# -- nodes -----------------------------------------------------------------------------------------


def test_options_and_driver_domain_of_a_vif(world: World) -> None:
    world.xl.attach_vif(
        1, 3, VifConfig(MAC, script=None, trusted=False, options={"rate": "1000,50000"})
    )
    backend = "/local/domain/0/backend/vif/1/3"
    assert world.value(f"{backend}/rate") == "1000,50000"
    assert world.value(f"{backend}/script") is None
    assert world.value("/local/domain/1/device/vif/3/trusted") == "0"
    assert world.root.get_perms("/local/domain/1/device/vif/3") == ["n1", "r0"]
    assert world.root.get_perms("/local/domain/1/device/vif/3/mtu") == ["n0", "r1"]
    assert world.root.get_perms(backend) == ["n0", "r1"]
    assert world.root.get_perms("/libxl/1/device/vif/3") == ["n0"]


def test_a_driver_domain_runs_the_backend_of_another_guest() -> None:
    world = World()
    world.create_domain(1)
    bus = world.driver_domain(2)
    world.boot(1)
    operation = world.xl.attach_vif(1, 0, VifConfig(MAC), backend_domid=2)
    world.idle()
    assert operation.outcome is Outcome.DONE
    backend = "/local/domain/2/backend/vif/1/0"
    assert world.value(f"{backend}/state") == "4"
    assert world.value(f"{FE}/state") == "4"
    operation = world.xl.detach_vif(1, 0)
    world.idle()
    assert operation.outcome is Outcome.DONE
    assert not world.exists(backend)
    assert not world.exists(FE)
    assert bus.devices == {}
