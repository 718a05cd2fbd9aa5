"""Frontends that start otherwise than Linux does, each against both backends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from vif_world import LinuxFrontendDriver, World

from xennet.runloop import Delivery
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.frontend import Frontend, Phase
from xennet.xenbus.tables import (
    FREEBSD_FRONTEND,
    FRONTENDS,
    LINUX_BACKEND,
    LINUX_FRONTEND,
    WINDOWS_FRONTEND,
    XNB_BACKEND,
    BackendRules,
    FrontendRules,
)

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"

backends = pytest.mark.parametrize("backend", [LINUX_BACKEND, XNB_BACKEND], ids=["linux", "xnb"])
frontends = pytest.mark.parametrize("rules", FRONTENDS.values(), ids=FRONTENDS)


@backends
def test_freebsd_publishes_then_is_initialised_then_posts_then_connected(
    backend: BackendRules,
) -> None:
    world = World(backend=backend, frontend=FREEBSD_FRONTEND)
    order: list[str] = []

    class Driver(LinuxFrontendDriver):
        def ready(self, dev: XenbusDevice) -> None:
            order.append(f"ready in {int(dev.state)}")
            assert world.value(f"{FE}/tx-ring-ref")

    world.make_frontend_driver = Driver
    world.record()
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    assert order == ["ready in 3"]
    assert world.walked(FE) == [1, 3, 4]
    assert world.walked(BE)[-1] == 4
    assert world.frontend_drivers[0].calls[-1] == "connected"


#: What is delivered first; the last schedule lets the frontend hear that its backend is Connected
#: before it goes on after Initialised.
SCHEDULES: dict[str, Callable[[Delivery], bool]] = {
    "backend first": lambda d: d.domid == 0,
    "frontend first": lambda d: d.domid != 0,
    "deferred work last": lambda d: d.kind != "work",
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_freebsd_is_announced_whichever_end_connects_first(schedule: str) -> None:
    world = World(backend=XNB_BACKEND, frontend=FREEBSD_FRONTEND)
    world.create_domain()
    world.attach()
    world.boot()

    def choose(ready: list[Delivery]) -> int:
        first = map(SCHEDULES[schedule], ready)
        return next((i for i, wanted in enumerate(first) if wanted), 0)

    world.idle(choose)
    assert world.states() == (4, 4)
    assert world.frontend_drivers[0].calls.count("connected") == 1


def initialised() -> World:
    """A FreeBSD frontend shows Initialised, and no more has happened."""
    world = World(frontend=FREEBSD_FRONTEND)
    world.create_domain()
    world.attach()
    world.boot()
    while world.states()[0] != 3:
        world.loop.step()
    return world


def test_freebsd_that_is_closed_while_initialised_does_not_go_on() -> None:
    world = initialised()
    world.frontend().close()
    world.record()
    world.idle()
    assert 4 not in world.walked(FE)
    assert world.states() == (6, 6)
    assert "ready" not in world.frontend_drivers[0].calls
    world.frontend().start()
    world.idle()
    assert world.states() == (4, 4)


def test_a_second_start_does_not_let_the_first_go_on() -> None:
    world = initialised()
    world.frontend().resume()
    world.idle()
    assert world.states() == (4, 4)
    assert world.frontend_drivers[0].calls.count("ready") == 1


def test_field_bug_3_windows_drives_a_close_cycle_before_it_first_connects() -> None:
    world = World(frontend=WINDOWS_FRONTEND)
    world.record()
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    assert world.walked(FE) == [1, 5, 6, 1, 4]
    assert world.walked(BE) == [1, 2, 5, 6, 2, 4]
    assert world.states() == (4, 4)


def test_field_bug_3_the_close_cycle_comes_once() -> None:
    world = World(frontend=WINDOWS_FRONTEND)
    world.connected()
    world.frontend().close()
    world.idle()
    world.record()
    world.frontend().start()
    world.idle()
    assert world.walked(FE) == [1, 4]


def test_field_bug_3_a_backend_that_sits_in_init_wait_wedges_windows() -> None:
    world = World(frontend=WINDOWS_FRONTEND)
    world.create_domain()
    world.attach()
    world.idle()
    world.backends.stop()
    world.boot()
    world.idle()
    assert world.states() == (5, 2)
    assert world.frontend().phase is Phase.STARTING
    world.root.write(f"{BE}/state", "6")
    world.idle()
    assert world.states() == (1, 6)


@pytest.mark.parametrize("rules", [WINDOWS_FRONTEND, LINUX_FRONTEND, FREEBSD_FRONTEND])
def test_field_bug_7_a_backend_left_connected_by_another_driver_is_closed_first(
    rules: FrontendRules,
) -> None:
    world = World()
    guest = world.hostile()
    Frontend(guest.kernel, "device/vif/0", LinuxFrontendDriver(), rules=rules).start()
    world.idle()
    assert world.states() == (4, 4)
    assert world.walked(FE)[:3] == [5, 6, 1]
    assert world.walked(BE) == [5, 6, 2, 4]


def test_field_bug_4_nodes_stay_when_a_vif_closes() -> None:
    world = World(frontend=WINDOWS_FRONTEND)
    world.connected()
    before = world.root.directory(BE)
    world.frontend().close()
    world.idle()
    assert world.states() == (6, 6)
    assert world.root.directory(BE) == before
    assert not world.frontend().unplugged


def test_field_bug_4_a_backend_directory_that_vanishes_unplugs_windows() -> None:
    world = World(frontend=WINDOWS_FRONTEND)
    world.connected()
    world.backends.stop()
    world.root.rm(BE)
    world.idle()
    frontend = world.frontend()
    assert frontend.unplugged
    assert frontend.phase is Phase.IDLE
    assert not world.frontend_drivers[0].set_up
    assert world.store.watches_of(1) == 1


def test_a_backend_directory_that_vanishes_is_nothing_to_linux_and_closed_to_freebsd() -> None:
    for rules, state, kept in ((LINUX_FRONTEND, 4, True), (FREEBSD_FRONTEND, 6, False)):
        world = World(frontend=rules)
        world.connected()
        world.backends.stop()
        world.root.rm(BE)
        world.idle()
        assert world.states() == (state, None)
        assert world.frontend_drivers[0].set_up is kept


@frontends
def test_an_unload_ends_though_its_backend_went_unseen(rules: FrontendRules) -> None:
    ways: tuple[Callable[[World], None], ...] = (
        lambda world: world.backend().close(),
        lambda world: world.root.rm(BE),
    )
    for gone in ways:
        world = World(frontend=rules)
        world.connected()
        gone(world)
        world.record()
        world.frontend().close()  # before it hears of it
        assert world.frontend().phase is Phase.IDLE
        world.idle()
        assert world.walked(FE) == [6]
        assert not world.frontend_drivers[0].set_up


@frontends
def test_a_new_start_waits_for_a_backend_that_is_still_closed(rules: FrontendRules) -> None:
    world = World(frontend=rules)
    world.connected()
    world.frontend().close()
    world.idle()
    world.frontend().start()
    # The guest hears of its own watch before the backend hears of Initialising.
    world.idle(lambda ready: next((i for i, d in enumerate(ready) if d.domid == 1), 0))
    assert world.states() == (4, 4)


@frontends
@backends
def test_every_frontend_is_unplugged_by_the_toolstack(
    rules: FrontendRules, backend: BackendRules
) -> None:
    world = World(frontend=rules, backend=backend)
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert world.states() == (None, None)
    assert world.backends.devices == {}
    assert world.guests[1].bus.devices == {}
    assert (world.store.watches_of(0), world.store.watches_of(1)) == (1, 1)
    assert not world.frontend_drivers[0].set_up
    assert not world.backend_drivers[0].connected
