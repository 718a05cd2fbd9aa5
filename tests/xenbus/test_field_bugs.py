"""Life cycle bugs that real netif implementations shipped, by their number in our list.

3, 7 and 12 are in the tests of the kinds, 4 there and here, 19 with the backends that are reloaded.
"""

from __future__ import annotations

import pytest
from vif_world import LinuxBackendDriver, LinuxFrontendDriver, World

from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.tables import BACKENDS, FRONTENDS, LINUX_BACKEND, BackendRules, FrontendRules

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"

backends = pytest.mark.parametrize("rules", BACKENDS.values(), ids=BACKENDS)
frontends = pytest.mark.parametrize("rules", FRONTENDS.values(), ids=FRONTENDS)


@pytest.mark.parametrize("state", ["1", "3", "4"])
@backends
def test_field_bug_3_a_close_cycle_is_answered_step_by_step(
    rules: BackendRules, state: str
) -> None:
    world = World(backend=rules)
    world.hostile()
    world.set_frontend_state(state)
    for closing in ("5", "6"):
        world.set_frontend_state(closing)
        assert world.states() == (int(closing), int(closing))


@backends
def test_field_bug_4_no_node_of_the_backend_goes_when_a_vif_closes(rules: BackendRules) -> None:
    world = World(backend=rules)
    world.hostile()
    before = world.root.directory(BE)
    for state in "56":
        world.set_frontend_state(state)
        assert world.root.directory(BE) == before


@frontends
@pytest.mark.parametrize("held", [True, False])
def test_field_bug_5_a_frontend_is_told_to_send_only_when_the_backend_is_connected(
    rules: FrontendRules, held: bool
) -> None:
    world = World(frontend=rules)
    states: list[str | None] = []

    class Driver(LinuxFrontendDriver):
        def connected(self, dev: XenbusDevice) -> None:
            states.append(world.value(f"{BE}/state"))

    world.make_frontend_driver = Driver
    world.script.held = held
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    assert states == ([] if held else ["4"])
    world.script.release()
    world.idle()
    assert states == ["4"]


@backends
def test_field_bug_8_nothing_is_mapped_when_closing_is_shown(rules: BackendRules) -> None:
    world = World(backend=rules)
    shown: list[str | None] = []
    kind = type(world.make_backend_driver())

    class Driver(kind):  # type: ignore[misc, valid-type]
        def disconnect(self, dev: XenbusDevice) -> None:
            super().disconnect(dev)
            shown.append(world.value(f"{BE}/state"))

    world.make_backend_driver = Driver
    world.hostile()
    world.set_frontend_state("5")
    assert shown == ["4"]
    assert world.states() == (5, 5)


@backends
def test_field_bug_9_straight_to_closed_is_closing_and_closed(rules: BackendRules) -> None:
    world = World(backend=rules)
    world.hostile()
    world.set_frontend_state("6")
    assert world.walked(BE) == [5, 6]
    assert not world.backend_drivers[0].connected


@backends
@pytest.mark.parametrize("first", range(10))
@pytest.mark.parametrize("second", range(10))
def test_field_bug_18_every_pair_of_states_has_a_defined_answer(
    rules: BackendRules, first: int, second: int
) -> None:
    world = World(backend=rules)
    world.hostile()
    for state in (first, second, 5, 6):
        world.set_frontend_state(str(state))
    gone = rules is LINUX_BACKEND and 0 in (first, second)
    assert world.value(f"{BE}/state") == "6"
    assert not world.backend_drivers[0].connected
    assert ("backend/vif/1/0" in world.backends.devices) is not gone
    # It is as good as new, in so far as it ever was.
    world.set_frontend_state("1")
    world.set_frontend_state("4")
    assert world.value(f"{BE}/state") == ("6" if gone else "4")


def test_a_frontend_that_connects_and_closes_again_and_again_leaves_nothing_more() -> None:
    world = World()
    world.connected()

    def left() -> tuple[object, ...]:
        return (
            world.store.watches_of(0),
            world.store.watches_of(1),
            sorted(world.root.directory(FE)),
            sorted(world.root.directory(BE)),
            len(world.backends.devices),
            len(world.backend().dev.watches),
            len(world.frontend().dev.watches),
        )

    before = left()
    frontend = world.frontend()
    for _ in range(20):  # a thousand times: tests/lifecycle, reconnect-1000
        frontend.close()
        world.idle()
        frontend.start()
        world.idle()
    assert world.states() == (4, 4)
    assert left() == before
    assert world.backend_drivers[0].calls.count("connect") == 21


@backends
def test_50_attaches_leave_nothing(rules: BackendRules) -> None:
    world = World(backend=rules)
    world.connected()
    for _ in range(50):
        world.xl.detach_vif(1, 0)
        world.idle()
        world.attach()
        world.idle()
        world.loop.advance(100_000_000_000)
        world.backend_drivers.clear()
        world.frontend_drivers.clear()
    assert world.states() == (4, 4)
    world.xl.detach_vif(1, 0)
    world.idle()
    assert (world.store.watches_of(0), world.store.watches_of(1)) == (1, 1)
    assert world.xl.vifs(1) == ()
    assert not world.exists("/local/domain/0/backend/vif")


def test_multicast_control_is_cancelled_before_rate_when_linux_disconnects() -> None:
    world = World()
    world.connected()
    world.record()
    world.frontend().close()
    world.idle()
    unwatched = [op.path for op in world.operations if op.op == "UNWATCH" and op.domid == 0]
    names = [path.rpartition("/")[2] for path in unwatched]
    assert names == ["request-multicast-control", "rate"]


def test_drivers_watch_nodes_of_either_end() -> None:
    fired: list[str] = []

    class Driver(LinuxBackendDriver):
        def connect(self, dev: XenbusDevice) -> None:
            self.connected = True
            self.watches.append(dev.watch("rate", lambda: fired.append("rate")))
            self.watches.append(
                dev.watch_otherend("request-multicast-control", lambda: fired.append("multicast"))
            )

    world = World()
    world.make_backend_driver = Driver
    guest = world.connected()
    assert fired == ["rate", "multicast"]
    world.root.write(f"{BE}/rate", "1000,50000")
    guest.store.write("device/vif/0/request-multicast-control", "1")
    world.idle()
    assert fired[2:] == ["rate", "multicast"]
    world.frontend().close()
    world.idle()
    guest.store.write("device/vif/0/request-multicast-control", "0")
    world.root.rm(f"{BE}/rate")
    world.idle()
    assert len(fired) == 4
