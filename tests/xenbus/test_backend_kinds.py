"""xnb beside Linux: what FreeBSD's backend does differently, defect by defect (C1 .. C10 are the
life cycle defects of xnb; what a defect does to rings is its driver's business)."""

from __future__ import annotations

import pytest
from vif_world import LinuxBackendDriver, World, XnbBackendDriver

from xennet.xenbus.backend import Advertisement
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.tables import (
    FREEBSD_FRONTEND,
    LINUX_BACKEND,
    LINUX_FRONTEND,
    WINDOWS_FRONTEND,
    XNB_BACKEND,
    BackendRules,
    FrontendRules,
)

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"
ERROR = "/local/domain/0/error/backend/vif/1/0/error"


def driver(world: World) -> XnbBackendDriver:
    found = world.backend_drivers[0]
    assert isinstance(found, XnbBackendDriver)
    return found


@pytest.fixture
def world() -> World:
    return World(backend=XNB_BACKEND)


@pytest.fixture
def hostile(world: World) -> World:
    world.hostile()
    return world


def test_attach_says_connected_for_the_script_then_features_then_init_wait(world: World) -> None:
    world.script.held = True
    world.record()
    world.create_domain()
    world.attach()
    world.idle()
    writes = [
        (op.path.rpartition("/")[2], op.value)
        for op in world.operations
        if op.op == "WRITE" and op.who == "dom0-kernel"
    ]
    assert writes == [
        ("hotplug-status", b"connected"),
        ("feature-sg", b"1"),
        ("feature-gso-tcpv4", b"1"),
        ("feature-rx-copy", b"1"),
        ("feature-rx-flip", b"0"),
        ("state", b"2"),
    ]


def test_connected_waits_for_no_script(world: World) -> None:
    world.script.held = True
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    assert world.states() == (4, 4)


@pytest.mark.parametrize("node", ["script", "handle"])
def test_attach_reads_neither_script_nor_handle(world: World, node: str) -> None:
    world.create_domain()
    world.backends.stop()
    world.attach()
    world.root.rm(f"{BE}/{node}")
    world.backends.start()
    world.idle()
    assert world.states()[1] == 2


def test_initialised_connects(world: World) -> None:
    world.create_domain()
    world.attach()
    guest = world.boot()
    world.idle()
    world.frontend().close()
    world.idle()
    guest.bus.stop()
    driver(world).calls.clear()
    world.set_frontend_state("3")
    assert world.states() == (3, 4)
    assert driver(world).calls == ["connect"]


def test_a_frontend_that_starts_over_never_sees_a_new_init_wait(world: World) -> None:
    world.connected()
    world.frontend().close()
    world.idle()
    world.frontend().start()
    world.idle()
    assert world.states() == (1, 6)
    assert not world.frontend_drivers[0].set_up


def test_c3_request_rx_copy_is_not_looked_at(world: World) -> None:
    guest = world.connected()
    guest.bus.stop()
    world.set_frontend_state("6")
    guest.store.rm("device/vif/0/request-rx-copy")
    world.set_frontend_state("4")
    assert world.states() == (4, 4)


def test_c4_connected_closing_connected_connects_again(hostile: World) -> None:
    driver(hostile).calls.clear()
    for frontend, backend in ((5, 5), (4, 4)):
        hostile.set_frontend_state(str(frontend))
        assert hostile.states() == (frontend, backend)
    assert hostile.walked(BE) == [5, 4]
    assert driver(hostile).calls == ["disconnect", "connect"]


def test_c4_is_absent_in_linux() -> None:
    world = World()
    world.hostile()
    world.set_frontend_state("5")
    world.set_frontend_state("4")
    assert world.walked(BE) == [5, 6, 2, 4]


def test_c5_closing_before_ever_connecting_disconnects(world: World) -> None:
    world.create_domain()
    world.attach()
    guest = world.boot()
    guest.bus.stop()
    world.idle()
    world.set_frontend_state("5")
    assert driver(world).calls == ["probe", "disconnect"]
    assert driver(world).blind == 1
    assert world.states() == (5, 5)


def test_c5_closing_twice_disconnects_twice(hostile: World) -> None:
    hostile.set_frontend_state("5")
    hostile.set_frontend_state("5")
    assert driver(hostile).blind == 1
    hostile.set_frontend_state("6")
    assert driver(hostile).blind == 2
    assert hostile.walked(BE) == [5, 6]
    hostile.set_frontend_state("5")
    assert driver(hostile).blind == 3
    assert hostile.states() == (5, 6)


def test_c5_is_absent_in_linux() -> None:
    world = World()
    world.hostile()
    for state in "55656":
        world.set_frontend_state(state)
    assert world.backend_drivers[0].calls == ["probe", "connect", "disconnect"]


def test_c6_a_connect_that_fails_is_fatal_and_is_not_undone(hostile: World) -> None:
    hostile.set_frontend_state("6")
    driver(hostile).fail = "connect"
    driver(hostile).calls.clear()
    hostile.set_frontend_state("4")
    assert driver(hostile).calls == ["connect"]
    assert hostile.value(f"{BE}/state") == "5"
    assert "GNTTABOP_map_grant_ref" in (hostile.value(ERROR) or "")


@pytest.mark.parametrize("state", ["0", "2", "7", "8", "9", "-1"])
def test_c8_other_states_are_fatal_and_the_rings_stay_mapped(hostile: World, state: str) -> None:
    hostile.set_frontend_state(state)
    assert hostile.value(f"{BE}/state") == "5"
    assert f"{FE}/state: saw state" in (hostile.value(ERROR) or "")
    assert driver(hostile).connected
    # XNBF_RING_CONNECTED: connecting again keeps them.
    hostile.set_frontend_state("4")
    assert hostile.states() == (4, 4)
    assert driver(hostile).calls.count("connect") == 1


@pytest.mark.parametrize("text", ["", "garbage", "\0004"])
def test_a_state_that_is_no_number_reads_as_closed(hostile: World, text: str) -> None:
    hostile.set_frontend_state(text)
    assert hostile.walked(BE) == [5, 6]
    assert not driver(hostile).connected
    assert "backend/vif/1/0" in hostile.backends.devices


def test_a_crashed_guest_is_closed_and_the_device_left_to_the_toolstack(world: World) -> None:
    world.connected()
    world.machine.destroy_domain(1)
    world.idle()
    assert world.states() == (None, 6)
    assert not driver(world).connected
    assert "backend/vif/1/0" in world.backends.devices
    world.xl.kill = None  # it is dead
    world.xl.destroy_domain(1)
    world.idle()
    assert world.backends.devices == {}
    assert driver(world).calls[-1] == "remove"
    assert world.store.watches_of(0) == 1


def test_an_unplugged_device_loses_its_hotplug_status_when_it_has_closed(world: World) -> None:
    world.connected()
    world.script.held = True  # the offline run, which ends before the toolstack removes nodes
    world.xl.detach_vif(1, 0)
    world.idle()
    assert world.states() == (6, 6)
    assert world.value(f"{BE}/hotplug-status") is None
    world.script.release()
    world.idle()
    assert world.states() == (None, None)
    assert world.backends.devices == {}


def test_a_failed_attach_says_so_where_a_script_would_and_goes_offline(world: World) -> None:
    world.make_backend_driver = lambda: XnbBackendDriver(fail="probe")
    world.create_domain()
    world.backends.stop()
    operation = world.attach()
    world.backends.start()
    world.idle()
    error = "GNTTABOP_map_grant_ref"
    assert error in (world.value(f"{BE}/hotplug-error") or "")
    assert error in (world.value(ERROR) or "")
    assert world.value(f"{BE}/hotplug-status") == "error"
    assert world.value(f"{BE}/online") == "0"
    assert world.states()[1] == 5
    assert driver(world).calls == ["probe", "disconnect"]
    world.xl.detach_vif(1, 0)
    world.loop.run_until_idle(advance_timers=True)
    assert operation.reason == "backend did not come up: the time limit passed"
    assert driver(world).calls[-1] == "remove"
    assert world.backends.devices == {}
    assert world.store.watches_of(0) == 1


def test_unloading_xnb_shows_closing_so_the_frontend_follows(world: World) -> None:
    world.connected()
    world.backends.unload()
    world.idle()
    assert world.states() == (6, 5)
    assert not driver(world).connected


@pytest.mark.parametrize("rules", [LINUX_BACKEND, XNB_BACKEND], ids=lambda r: str(r.name))
def test_field_bug_12_features_into_a_vanished_directory_fail_cleanly(rules: BackendRules) -> None:
    world = World(backend=rules)
    kind = XnbBackendDriver if rules is XNB_BACKEND else LinuxBackendDriver

    class Late(kind):  # type: ignore[misc, valid-type]
        def probe(self, dev: XenbusDevice) -> Advertisement:
            world.root.rm(BE)
            advertisement: Advertisement = super().probe(dev)
            return advertisement

    world.make_backend_driver = Late
    world.create_domain()
    world.attach()
    world.idle()
    assert not world.exists(BE)
    assert "2 backend/vif/1/0: the directory has vanished" in (world.value(ERROR) or "")
    assert world.backends.devices == {}
    assert world.store.watches_of(0) == 1


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(LINUX_FRONTEND, [1, 4]), (FREEBSD_FRONTEND, [1, 3, 4]), (WINDOWS_FRONTEND, [1, 5, 6, 1])],
    ids=["linux", "freebsd", "windows"],
)
def test_the_first_start_of_each_frontend(rules: FrontendRules, expected: list[int]) -> None:
    world = World(backend=XNB_BACKEND, frontend=rules)
    world.record()
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    assert world.walked(FE) == expected
    # A windows frontend waits for an InitWait that xnb shows once only.
    assert world.states() == ((1, 6) if rules is WINDOWS_FRONTEND else (4, 4))
