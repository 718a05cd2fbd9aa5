"""Random lives: whatever both ends, the toolstack, the script and crashes do, in any interleaving,
the machine comes to rest, and once the devices are taken away nothing of them is left."""

from __future__ import annotations

import random
from contextlib import suppress

from how_many import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from vif_world import MAC, LinuxBackendDriver, LinuxFrontendDriver, World, XnbBackendDriver

from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.relocation import replace_backend, restore_domain
from xennet.toolstack.toolstack import Outcome, VifOperation
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.backend_bus import BackendBus
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.frontend import Phase
from xennet.xenbus.tables import (
    BACKENDS,
    FRONTENDS,
    LINUX_BACKEND,
    WINDOWS_FRONTEND,
    XNB_BACKEND,
    BackendRules,
    FrontendRules,
)
from xennet.xenstore import XsError

HANDLES = st.integers(0, 1)
SEEDS = st.integers(0, 2**16)
FAILURES = st.sampled_from(["", "", "", "", "probe", "connect", "setup", "ready"])
#: Domain 0, and a driver domain.
BACKEND_DOMAINS = st.sampled_from([0, 2])
#: xen/sched.h
SHUTDOWN_suspend = 2
STATES = st.sampled_from([*"0123456789", "", "-1", "garbage", " 4 ", "5\0", "99999999999"])


class ReconfigurableDriver(LinuxBackendDriver):
    """A Linux backend that knows xdp-headroom."""

    def reconfigure(self, dev: XenbusDevice) -> None:
        self.calls.append("reconfigure")


class Lives(RuleBasedStateMachine):
    """Domain 1 is created, booted, killed, saved and created again; it has up to two vifs, served
    by domain 0 or by the driver domain 2, which crashes."""

    @initialize(
        backend=st.sampled_from(list(BACKENDS.values())),
        frontend=st.sampled_from(list(FRONTENDS.values())),
    )
    def build(self, backend: BackendRules, frontend: FrontendRules) -> None:
        self.world = World(backend=backend, frontend=frontend)
        self.world.xl.kill = self._kill
        self.operations: list[VifOperation] = []
        self.failure = ""
        kind = ReconfigurableDriver if backend is LINUX_BACKEND else XnbBackendDriver
        self.world.make_backend_driver = lambda: kind(fail=self.failure)
        self.world.make_frontend_driver = lambda: LinuxFrontendDriver(fail=self.failure)
        self.world.create_domain()
        self.other = self.world.driver_domain(2)

    @property
    def buses(self) -> tuple[BackendBus, BackendBus]:
        return self.world.backends, self.other

    # -- the machine -------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return any(domain.domid == 1 for domain in self.world.machine.domains)

    @property
    def booted(self) -> bool:
        return self.alive and 1 in self.world.guests

    def _kill(self, domid: int) -> None:
        """The domain's memory goes, its drivers with it: they count no more."""
        if self.alive:
            self.world.machine.destroy_domain(domid)
        if self.world.guests.pop(domid, None) is not None:
            self.world.frontend_drivers.clear()

    @rule(seed=SEEDS, count=st.integers(1, 30))
    def some_deliveries_in_any_order(self, seed: int, count: int) -> None:
        chooser = random.Random(seed)
        for _ in range(count):
            ready = self.world.loop.ready()
            if not ready:
                return
            self.world.loop.step(chooser.randrange(len(ready)))

    @rule(seed=SEEDS)
    def rest(self, seed: int) -> None:
        chooser = random.Random(seed)
        self.world.idle(lambda ready: chooser.randrange(len(ready)))

    @rule(seconds=st.integers(1, 45))
    def time_passes(self, seconds: int) -> None:
        self.world.loop.advance(seconds * 1_000_000_000)

    # -- toolstack and script ----------------------------------------------------------------------

    @precondition(lambda self: self.alive)
    @rule(handle=HANDLES, failure=FAILURES, backend=BACKEND_DOMAINS)
    def attach(self, handle: int, failure: str, backend: int) -> None:
        self.failure = failure
        self.operations.append(
            self.world.xl.attach_vif(1, handle, VifConfig(MAC), backend_domid=backend)
        )

    @rule(handle=HANDLES)
    def script_is_run_again(self, handle: int) -> None:
        self.operations.append(self.world.xl.replug_vif(1, handle))

    @precondition(lambda self: self.alive)
    @rule(handle=HANDLES, backend=BACKEND_DOMAINS)
    def backend_is_replaced(self, handle: int, backend: int) -> None:
        self.operations.append(replace_backend(self.world.xl, 1, handle, backend))

    @rule(handle=HANDLES, force=st.booleans())
    def detach(self, handle: int, force: bool) -> None:
        self.operations.append(self.world.xl.detach_vif(1, handle, force=force))

    @rule(held=st.booleans(), failure=st.sampled_from(["", "", "no bridge"]))
    def script(self, held: bool, failure: str) -> None:
        self.world.script.failure = failure
        if held:
            self.world.script.held = True
        else:
            self.world.script.release()

    @precondition(lambda self: self.alive)
    @rule()
    def crash(self) -> None:
        self._kill(1)

    @precondition(lambda self: not self.alive)
    @rule()
    def clean_up_and_create_again(self) -> None:
        self._destroy()
        self.world.create_domain()

    # -- backends ----------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1))
    def backend_closes(self, which: int) -> None:
        for backend in list(self.buses[which].devices.values()):
            backend.close()

    @rule(which=st.integers(0, 1), loaded=st.booleans())
    def backend_driver_is_loaded_or_unloaded(self, which: int, loaded: bool) -> None:
        bus = self.buses[which]
        (bus.load if loaded else bus.unload)()

    @rule()
    def driver_domain_crashes_and_boots(self) -> None:
        lost = {id(backend.driver) for backend in self.other.devices.values()}
        self.world.backend_drivers[:] = [
            driver for driver in self.world.backend_drivers if id(driver) not in lost
        ]
        self.world.machine.destroy_domain(2)
        self.rest(0)
        self.other = self.world.driver_domain(2)

    # -- guest -------------------------------------------------------------------------------------

    @precondition(lambda self: self.alive and not self.booted)
    @rule()
    def boot(self) -> None:
        self.world.boot()

    @precondition(lambda self: self.booted)
    @rule()
    def unload(self) -> None:
        for frontend in self.world.guests[1].bus.devices.values():
            frontend.close()

    @precondition(lambda self: self.booted)
    @rule()
    def load(self) -> None:
        for frontend in self.world.guests[1].bus.devices.values():
            frontend.start()

    @precondition(lambda self: self.booted)
    @rule()
    def resume(self) -> None:
        self.world.guests[1].bus.resume()

    @precondition(lambda self: self.booted)
    @rule(headroom=st.sampled_from([0, 256]))
    def reconfigure(self, headroom: int) -> None:
        for frontend in self.world.guests[1].bus.devices.values():
            with suppress(XenbusError, XsError):  # not connected, or not its own any more
                frontend.reconfigure([("xdp-headroom", headroom)])

    @precondition(lambda self: self.booted)
    @rule()
    def save_and_restore(self) -> None:
        guest = self.world.guests.pop(1)
        vifs = self.world.xl.vifs(1)
        self.world.machine.shutdown_domain(1, SHUTDOWN_suspend)
        self.world.xl.destroy_domain(1)
        self._rest_with_time()
        self.world.machine.create_domain(1, name="g1")
        self.operations += restore_domain(self.world.xl, DomainConfig(1, "g1", "0000-1"), vifs)
        self.world.restore(1, guest)

    @precondition(lambda self: self.booted)
    @rule(handle=HANDLES, name=st.sampled_from(["state", "tx-ring-ref", "backend"]), value=STATES)
    def guest_writes_garbage(self, handle: int, name: str, value: str) -> None:
        self._as_guest("write", f"device/vif/{handle}/{name}", value)

    @precondition(lambda self: self.booted)
    @rule(handle=HANDLES)
    def guest_removes_its_directory(self, handle: int) -> None:
        self._as_guest("rm", f"device/vif/{handle}")

    def _as_guest(self, op: str, *args: str) -> None:
        with suppress(XsError):  # the toolstack has taken the device away, or never gave it
            getattr(self.world.guests[1].store, op)(*args)

    # -- what must hold ----------------------------------------------------------------------------

    @invariant()
    def drivers_are_connected_only_where_a_device_is(self) -> None:
        connected = sum(driver.connected for driver in self.world.backend_drivers)
        assert connected <= sum(len(bus.devices) for bus in self.buses)

    @invariant()
    def a_device_has_one_watch_on_its_other_end(self) -> None:
        for bus in self.buses:
            for backend in bus.devices.values():
                paths = [watch.path for watch in backend.dev.watches]
                assert len(paths) == len(set(paths)) <= 4
        if self.booted:
            for frontend in self.world.guests[1].bus.devices.values():
                running = frontend.phase is not Phase.IDLE
                assert len(frontend.dev.watches) == running

    def teardown(self) -> None:
        for bus in self.buses:
            bus.load()
        self.world.script.failure = ""
        self.world.script.release()
        self._rest_with_time()
        assert all(operation.outcome is not Outcome.PENDING for operation in self.operations)
        for handle in (0, 1):
            self.world.xl.detach_vif(1, handle)
        self._rest_with_time()
        for path in ("/libxl/1/device/vif", "/local/domain/1/device/vif"):
            assert not self.world.exists(path)
        for domid, bus in zip((0, 2), self.buses, strict=True):
            assert not self.world.exists(f"/local/domain/{domid}/backend/vif")
            assert bus.devices == {}
            assert self.world.store.watches_of(domid) == 1
        assert self.world.xl.vifs(1) == ()
        assert not any(driver.connected for driver in self.world.backend_drivers)
        for driver in self.world.backend_drivers:
            if not isinstance(driver, XnbBackendDriver):  # disconnects without a connect (C5)
                assert driver.calls.count("connect") == driver.calls.count("disconnect")
            assert driver.calls[-1:] in ([], ["remove"])
            assert driver.calls.count("remove") <= 1
        assert not any(driver.set_up for driver in self.world.frontend_drivers)
        if self.booted:
            guest = self.world.guests[1]
            assert guest.bus.devices == {}
            assert self.world.store.watches_of(1) == 1
        self._destroy()
        assert not self.world.exists("/local/domain/1")
        assert not self.world.exists("/libxl/1")
        self._live_again()

    def _live_again(self) -> None:
        """Nothing of the past is in the way of a new guest."""
        self.failure = ""
        self.world.create_domain()
        self.world.attach()
        self.world.boot()
        self.world.idle()
        hopeless = (self.world.backend_rules, self.world.frontend_rules) == (
            XNB_BACKEND,
            WINDOWS_FRONTEND,
        )
        assert self.world.states() == ((1, 6) if hopeless else (4, 4))

    def _rest_with_time(self) -> None:
        self.world.loop.run_until_idle(limit=50_000, advance_timers=True)

    def _destroy(self) -> None:
        self.world.script.release()
        self.world.xl.destroy_domain(1)
        self._rest_with_time()


TestRandomLives = Lives.TestCase
TestRandomLives.settings = settings(max_examples=examples(90), stateful_step_count=30)


def test_an_idle_phase_follows_every_unload() -> None:
    world = World()
    world.connected()
    world.frontend().close()
    assert world.frontend().phase is Phase.UNLOADING
    world.idle()
    assert world.frontend().phase is Phase.IDLE
