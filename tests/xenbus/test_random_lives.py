"""Random lives: whatever both ends, the toolstack, the script and crashes do, in any interleaving,
the machine comes to rest, and once the devices are taken away nothing of them is left."""

from __future__ import annotations

import random
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from vif_world import LinuxBackendDriver, LinuxFrontendDriver, World

from xennet.xenbus.frontend import Phase
from xennet.xenbus.toolstack import Outcome, VifOperation
from xennet.xenstore import XsError

HANDLES = st.integers(0, 1)
SEEDS = st.integers(0, 2**16)
FAILURES = st.sampled_from(["", "", "", "", "probe", "connect", "setup", "ready"])
STATES = st.sampled_from([*"0123456789", "", "-1", "garbage", " 4 ", "5\0", "99999999999"])


class Lives(RuleBasedStateMachine):
    """Domain 1 is created, booted, killed and created again; it has up to two vifs."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.xl.kill = self._kill
        self.operations: list[VifOperation] = []
        self.failure = ""
        self.world.make_backend_driver = lambda: LinuxBackendDriver(fail=self.failure)
        self.world.make_frontend_driver = lambda: LinuxFrontendDriver(fail=self.failure)
        self.world.create_domain()

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
    @rule(handle=HANDLES, failure=FAILURES)
    def attach(self, handle: int, failure: str) -> None:
        self.failure = failure
        self.operations.append(self.world.attach(1, handle))

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

    @rule()
    def backend_closes(self) -> None:
        for backend in list(self.world.backends.devices.values()):
            backend.close()

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
        assert connected <= len(self.world.backends.devices)

    def teardown(self) -> None:
        self.world.script.failure = ""
        self.world.script.release()
        self._rest_with_time()
        assert all(operation.outcome is not Outcome.PENDING for operation in self.operations)
        for handle in (0, 1):
            self.world.xl.detach_vif(1, handle)
        self._rest_with_time()
        for path in ("/libxl/1/device/vif", "/local/domain/1/device/vif"):
            assert not self.world.exists(path)
        assert not self.world.exists("/local/domain/0/backend/vif")
        assert self.world.backends.devices == {}
        assert self.world.store.watches_of(0) == 1
        assert not any(driver.connected for driver in self.world.backend_drivers)
        for driver in self.world.backend_drivers:
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

    def _rest_with_time(self) -> None:
        self.world.loop.run_until_idle(limit=50_000, advance_timers=True)

    def _destroy(self) -> None:
        self.world.script.release()
        self.world.xl.destroy_domain(1)
        self._rest_with_time()


TestRandomLives = Lives.TestCase
TestRandomLives.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_an_idle_phase_follows_every_unload() -> None:
    world = World()
    world.connected()
    world.frontend().close()
    assert world.frontend().phase is Phase.UNLOADING
    world.idle()
    assert world.frontend().phase is Phase.IDLE
