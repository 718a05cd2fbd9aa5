"""The XDP dance: Reconfiguring, Reconfigured, Connected (xen/io/netif.h, xdp-headroom)."""

from __future__ import annotations

import pytest
from vif_world import LinuxBackendDriver, World

from xennet.interface import HypercallError
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.frontend import Phase
from xennet.xenbus.tables import XNB_BACKEND

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"


class Reconfigurable(LinuxBackendDriver):
    def reconfigure(self, dev: XenbusDevice) -> None:
        self.calls.append(f"headroom {dev.otherend.unsigned('xdp-headroom')}")


@pytest.fixture
def world() -> World:
    world = World()
    world.make_backend_driver = Reconfigurable
    world.connected()
    world.record()
    return world


def test_nodes_then_7_then_exactly_8_then_4_at_both_ends(world: World) -> None:
    answers: list[bool] = []
    world.frontend().reconfigure([("xdp-headroom", 256)], answers.append)
    assert answers == []
    world.idle()
    assert world.walked(FE) == [7, 4]
    assert world.walked(BE) == [8, 4]
    assert answers == [True]
    assert world.frontend().phase is Phase.RUNNING
    assert world.backend_drivers[0].calls == ["probe", "connect", "headroom 256"]
    assert world.frontend_drivers[0].calls == ["setup", "ready", "connected"]
    order = [(op.path.rpartition("/")[2], op.value) for op in world.operations if op.op == "WRITE"]
    assert order[:2] == [("xdp-headroom", b"256"), ("state", b"7")]


def test_it_can_be_done_again_and_again(world: World) -> None:
    answers: list[bool] = []
    for headroom in (256, 0, 256):
        world.frontend().reconfigure([("xdp-headroom", headroom)], answers.append)
        world.idle()
    assert answers == [True] * 3
    assert world.states() == (4, 4)


def test_other_states_of_the_backend_are_no_answer(world: World) -> None:
    world.backends.stop()  # from here on the test is the backend
    answers: list[bool] = []
    world.frontend().reconfigure([], answers.append)
    for state in ("4", "7", "3", "2"):
        world.root.write(f"{BE}/state", state)
        world.idle()
        assert world.states()[0] == 7
    world.root.write(f"{BE}/state", "8")
    world.idle()
    assert world.states()[0] == 4
    assert answers == [True]


def test_it_is_refused_unless_connected(world: World) -> None:
    frontend = world.frontend()
    frontend.reconfigure([])
    with pytest.raises(XenbusError, match=r"device/vif/0: cannot be reconfigured.*\(7\)"):
        frontend.reconfigure([])
    world.idle()
    frontend.close()
    world.idle()
    world.operations.clear()
    with pytest.raises(XenbusError, match=r"frontend Closed \(6\), backend Closed \(6\)"):
        frontend.reconfigure([("xdp-headroom", 256)])
    assert not [op for op in world.operations if op.op == "WRITE"]


def test_it_is_refused_while_the_script_runs() -> None:
    world = World()
    world.script.held = True
    world.create_domain()
    world.attach()
    world.boot()
    world.idle()
    with pytest.raises(XenbusError, match=r"backend InitWait \(2\)"):
        world.frontend().reconfigure([])


@pytest.mark.parametrize("state", ["1", "5", "6"])
def test_a_backend_without_a_connection_reconfigures_nothing(state: str) -> None:
    world = World()
    world.make_backend_driver = Reconfigurable
    world.hostile()
    world.set_frontend_state(state)
    backend = world.states()[1]
    world.set_frontend_state("7")
    assert world.states() == (7, backend)
    world.set_frontend_state("4")
    assert world.states() == (4, 4)
    assert world.backend_drivers[0].calls == ["probe", "connect", "disconnect", "connect"]


def test_a_backend_that_closes_in_between_is_followed(world: World) -> None:
    answers: list[bool] = []
    world.frontend().reconfigure([], answers.append)
    world.backend().close()
    world.idle()
    assert answers == [False]
    assert world.frontend().phase is Phase.RUNNING
    assert world.states()[0] in (1, 6)
    assert not world.frontend_drivers[0].set_up


def test_an_unplug_in_between_ends_it(world: World) -> None:
    answers: list[bool] = []
    world.backends.stop()
    world.frontend().reconfigure([], answers.append)
    world.xl.detach_vif(1, 0, force=True)
    world.idle()
    assert answers == [False]
    assert world.guests[1].bus.devices == {}


@pytest.mark.parametrize("what", ["close", "resume", "remove"])
def test_what_the_guest_does_in_between_ends_it(world: World, what: str) -> None:
    answers: list[bool] = []
    world.frontend().reconfigure([], answers.append)
    getattr(world.frontend(), what)()
    assert answers == [False]


@pytest.mark.parametrize("kind", ["linux without it", "xnb", "one that fails"])
def test_a_backend_that_cannot_do_it_closes_the_vif(kind: str) -> None:
    class Failing(LinuxBackendDriver):
        def reconfigure(self, dev: XenbusDevice) -> None:
            raise HypercallError("none", -1, "injected")

    world = World(backend=XNB_BACKEND) if kind == "xnb" else World()
    if kind == "one that fails":
        world.make_backend_driver = Failing
    world.connected()
    answers: list[bool] = []
    world.frontend().reconfigure([("xdp-headroom", 256)], answers.append)
    world.idle()
    assert answers == [False]
    assert world.states() == (6, 6)
    assert world.exists("/local/domain/0/error/backend/vif/1/0/error")
    assert not world.frontend_drivers[0].set_up


def test_nodes_that_cannot_be_written_leave_the_connection_as_it_is(world: World) -> None:
    world.root.set_perms(f"{FE}/xdp-headroom", ["n0", "r1"])
    with pytest.raises(Exception, match="EACCES"):
        world.frontend().reconfigure([("xdp-headroom", 256)])
    world.idle()
    assert world.states() == (4, 4)
    assert world.walked(FE) == []


def test_who_raises_at_the_end_does_not_keep_a_device_from_going_on(world: World) -> None:
    def failing(_: bool) -> None:
        raise LookupError

    world.frontend().reconfigure([("xdp-headroom", 256)], failing)
    with pytest.raises(LookupError):
        world.idle()
    world.idle()
    assert world.states() == (4, 4)
    world.frontend().reconfigure([("xdp-headroom", 0)], failing)
    world.frontend().close()  # calls it with False
    with pytest.raises(LookupError):
        world.idle()
    world.idle()
    assert world.states() == (6, 6)
