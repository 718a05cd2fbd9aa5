"""Ends that a domain's drivers leave to other programs, and device models: a frontend is started
when its device model runs, whoever makes the nodes."""

from __future__ import annotations

import pytest
from own_drivers import OwnBackend, OwnFrontend
from vif_peers import Stack

from xennet.host.domains import Guest, PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.why import why
from xennet.toolstack.device_model import DeviceModel
from xennet.toolstack.toolstack import Outcome
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenstore import XsError

FRONT = "/local/domain/1/device/vif/0"
QNIC = "/local/domain/0/backend/qnic/1/0"
MODEL = "/local/domain/0/device-model/1/state"
LONG = 100_000_000_000
FRAMES = [bytes([number]) * 60 for number in range(5)]


def booted(**options) -> tuple[Host, Guest]:
    host = Host(serve_unknown=False, **options)
    guest = host.add_guest()
    host.boot()
    host.settle()
    return host, guest


def plug(host: Host, guest: Guest, kind: str = "vif", **options) -> PluggedVif:
    config = VifConfig(guest_mac(1), type=kind, script=None if kind == "qnic" else "script")
    vif = host.plug(guest, 0, Stack(), Stack(), config, **options)
    host.settle()
    return vif


def carry(host: Host, vif: PluggedVif, other: OwnBackend | OwnFrontend) -> None:
    for stack in (vif.guest_end, vif.host_end):
        assert isinstance(stack, Stack)
        stack.received.clear()
        stack.to_send = list(FRAMES)
    vif.kick()
    other.kick()
    host.settle()
    for stack in (vif.guest_end, vif.host_end):
        assert isinstance(stack, Stack)
        assert stack.received == FRAMES


def nothing_is_left(host: Host) -> None:
    host.settle()
    backends = [f"/local/domain/0/backend/{kind}" for kind in ("vif", "qnic")]
    for path in (FRONT, *backends, "/libxl/1/device/vif"):
        assert not host.store.exists(path), path
    assert not host.leaks(), str(host.leaks())
    host.destroy()


class Model:
    """Does what QEMU does, in its order: with ``plugs`` the nodes of both ends, then InitWait, then
    the features, then "running"."""

    def __init__(self, host: Host, vif: PluggedVif, plugs: bool) -> None:
        self.host, self.vif = host, vif
        self.store = host.service.connect(host.dom0.domain, "model")
        if plugs:
            self.write(QNIC, {"frontend": FRONT, "frontend-id": 1, "online": 1, "state": 1})
            self.store.set_perms(QNIC, ["n0", "r1"])
            for name in self.store.directory(QNIC):
                self.store.set_perms(f"{QNIC}/{name}", ["n0", "r1"])
            mac = {"mac": "00:16:3e:00:00:01"}
            self.store.mkdir(FRONT)
            self.store.set_perms(FRONT, ["n1", "r0"])
            self.write(FRONT, {"backend": QNIC, "backend-id": 0, **mac, "handle": 0, "state": 1})
        self.store.write(f"{QNIC}/state", 2)
        host.settle()

    def write(self, directory: str, nodes: dict[str, object]) -> None:
        for name, value in nodes.items():
            self.store.write(f"{directory}/{name}", str(value))

    def runs(self) -> None:
        self.back = OwnBackend(self.vif, self.host.dom0.kernel)
        self.store.write(f"{QNIC}/hotplug-status", "connected")
        self.store.write(MODEL, "running")
        self.host.settle()


@pytest.mark.parametrize("part", [DeviceModel.SERVES, DeviceModel.PLUGS])
def test_a_frontend_is_started_when_its_device_model_runs(part: DeviceModel) -> None:
    host, guest = booted(backend_types=("vif", "qnic"))
    vif = plug(host, guest, "qnic", device_model=part)
    host.pump.pass_time(LONG)
    assert vif.operation.outcome is Outcome.PENDING
    assert f'the frontend is not started before its device model runs: {MODEL} = ""' in why(vif)
    model = Model(host, vif, part is DeviceModel.PLUGS)
    host.store.write(MODEL, "starting")
    host.pump.pass_time(LONG)
    assert (vif.guest_driver, guest.frontends.devices, host.dom0.backends.devices) == (None, {}, {})
    assert host.store.read(f"{FRONT}/state") == b"1"
    model.runs()
    host.require_connected(vif)
    assert why(vif) == []
    carry(host, vif, model.back)
    operation = host.unplug(vif)
    nothing_is_left(host)
    assert (operation.outcome, operation.forced) == (Outcome.DONE, False)


def test_a_device_model_may_have_plugged_a_vif_before_the_toolstack_hears_of_it() -> None:
    host, guest = booted()
    vif = plug(host, guest, "qnic", device_model=DeviceModel.PLUGS)
    first = Model(host, vif, True)
    del guest.vifs[0]
    host.toolstack.forget_vif(vif.paths)
    first.runs()
    assert not guest.frontends.devices
    again = plug(host, guest, "qnic", device_model=DeviceModel.PLUGS)
    host.require_connected(again)
    host.destroy()


def test_a_state_that_a_dead_device_model_left_does_not_count() -> None:
    host, guest = booted()
    host.store.write(MODEL, "running")
    vif = plug(host, guest, "qnic", device_model=DeviceModel.PLUGS)
    model = Model(host, vif, True)
    assert vif.awaits_model
    assert vif.guest_driver is None
    model.runs()
    host.require_connected(vif)
    host.destroy()


def test_a_vif_that_the_toolstack_plugs_for_one_that_runs_is_started_at_once() -> None:
    host, guest = booted()
    host.store.write(MODEL, "running")
    vif = plug(host, guest, "qnic", device_model=DeviceModel.SERVES)
    Model(host, vif, False)
    assert vif.netfront is not None
    # It has looked too early, as in the field.
    host.store.write(f"{QNIC}/feature-rx-copy", "1")
    host.settle()
    assert not vif.connected
    assert any("looks again only when that is shown again" in reason for reason in why(vif))
    host.destroy()


@pytest.mark.parametrize("part", [DeviceModel.SERVES, DeviceModel.PLUGS])
@pytest.mark.parametrize("how", ["unplug", "destroy"])
def test_a_vif_whose_device_model_never_comes_goes(part: DeviceModel, how: str) -> None:
    host, guest = booted()
    vif = plug(host, guest, "qnic", device_model=part)
    watches = host.service.store.watches_of(0)
    if how == "unplug":
        host.unplug(vif)
    else:
        guest.destroy()
    host.pump.pass_time(LONG)
    assert vif.operation.outcome is Outcome.FAILED
    assert host.service.store.watches_of(0) < watches
    assert host.toolstack.vifs(1) == ()
    nothing_is_left(host)


def test_a_destroyed_guest_takes_the_nodes_of_its_device_model_along() -> None:
    host, guest = booted()
    vif = plug(host, guest, "qnic", device_model=DeviceModel.PLUGS)
    Model(host, vif, True).runs()
    host.require_connected(vif)
    guest.destroy()
    nothing_is_left(host)


def test_a_handle_is_noted_once() -> None:
    host, guest = booted()
    vif = plug(host, guest, "qnic", device_model=DeviceModel.PLUGS)
    again = host.toolstack.expect_vif(1, 0, vif.config)
    assert again.reason == "/libxl/1/device/vif/0: the device exists already"
    host.destroy()


def test_a_backend_that_another_program_serves_has_all_the_time_that_it_takes() -> None:
    host, guest = booted()
    vif = plug(host, guest, host_served=False)
    host.pump.pass_time(LONG)
    assert (vif.operation.outcome, host.dom0.backends.devices) == (Outcome.PENDING, {})
    left = (
        "domain 0, whose drivers leave this end to another program, has shown no state of a driver"
    )
    assert any(reason.startswith(left) for reason in why(vif))
    back = OwnBackend(vif, host.dom0.kernel)
    host.settle()
    host.require_connected(vif)
    carry(host, vif, back)
    host.unplug(vif)
    nothing_is_left(host)


def test_a_frontend_that_another_program_serves_is_left_alone() -> None:
    host, guest = booted()
    vif = plug(host, guest, guest_served=False)
    assert guest.frontends.devices == {}
    assert repr(vif) == "<PluggedVif vif1.0: no driver of xennet's to linux, not connected>"
    front = OwnFrontend(vif, guest.kernel)
    host.settle()
    host.require_connected(vif)
    carry(host, vif, front)
    host.unplug(vif)
    nothing_is_left(host)


@pytest.mark.parametrize("handle", ["0", "7", "-1", "07", "x", "4294967296"])
def test_a_host_that_serves_what_it_was_given_leaves_other_devices_alone(handle: str) -> None:
    host, guest = booted(backend_types=("vif", "qnic"))
    store = host.service.connect(host.dom0.domain, "vandal")
    for path in (
        f"/local/domain/1/device/vif/{handle}",
        *(f"/local/domain/0/backend/{kind}/1/{handle}" for kind in ("vif", "qnic")),
        f"/local/domain/0/backend/vif/{handle}/0",
    ):
        store.write(f"{path}/state", "1")
        store.set_perms(f"{path}/state", ["b1"])
    host.settle()
    assert (guest.frontends.devices, host.dom0.backends.devices) == ({}, {})
    with pytest.raises(XsError, match="ENOENT"):
        store.read(f"/local/domain/1/error/device/vif/{handle}/error")
    host.destroy()
