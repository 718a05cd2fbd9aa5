"""Backends of other types than "vif": where they are, who serves them, and that nothing is left."""

from __future__ import annotations

import pytest
from vif_peers import Stack

from xennet.host.domains import Guest, PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.why import why
from xennet.toolstack.toolstack import Outcome, Toolstack
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.paths import VifPaths

FRONTEND = "/local/domain/1/device/vif/0"
QNIC = "/local/domain/0/backend/qnic/1/0"
BACKENDS = ("/local/domain/0/backend/vif", "/local/domain/0/backend/qnic")


def plug(host: Host, guest: Guest, handle: int = 0, kind: str = "qnic", **options) -> PluggedVif:
    config = VifConfig(guest_mac(guest.domid, handle), type=kind)
    return host.plug(guest, handle, Stack(), Stack(), config, **options)


def connected(kind: str = "qnic") -> tuple[Host, PluggedVif]:
    host = Host(backend_types=("vif", "qnic"))
    vif = plug(host, host.add_guest(), kind=kind)
    host.boot()
    host.settle()
    host.require_connected(vif)
    return host, vif


def carry(host: Host, vif: PluggedVif) -> None:
    for stack in (vif.guest_end, vif.host_end):
        assert isinstance(stack, Stack)
        stack.received.clear()
        stack.to_send = [bytes([number]) * 60 for number in range(5)]
    vif.kick()
    host.settle()
    for stack in (vif.guest_end, vif.host_end):
        assert isinstance(stack, Stack)
        assert len(stack.received) == 5


def nothing_is_left(host: Host, *directories: str) -> None:
    for path in directories:
        assert not host.store.exists(path), path
    assert not host.leaks(), str(host.leaks())
    host.destroy()


def test_the_directories_are_named_by_the_backends_type() -> None:
    paths = VifPaths(7, 2, 3, "qnic")
    assert paths.frontend == "/local/domain/7/device/vif/2"
    assert paths.backend == "/local/domain/3/backend/qnic/7/2"
    assert paths.backend_error == "/local/domain/3/error/backend/qnic/7/2/error"
    assert paths.libxl == "/libxl/7/device/vif/2"
    assert VifPaths(7, 2, 3).backend_type == "vif"


@pytest.mark.parametrize("name", ["", "a/b", "q nic", "..", "vif\n"])
def test_a_type_has_to_name_a_directory(name: str) -> None:
    with pytest.raises(ValueError, match="names a directory"):
        VifPaths(1, 0, backend_type=name)
    host = Host()
    with pytest.raises(ValueError, match="names a directory"):
        plug(host, host.add_guest(), kind=name)
    assert not host.vifs
    host.destroy()


def test_a_frontend_follows_its_backend_node_to_a_backend_of_another_type() -> None:
    host, vif = connected()
    assert host.store.read(f"{FRONTEND}/backend").decode() == QNIC
    assert host.store.read(f"{QNIC}/frontend").decode() == FRONTEND
    assert host.store.read(f"{QNIC}/type") == b"qnic"
    assert host.store.read(f"{QNIC}/state") == b"4"
    assert not host.store.exists("/local/domain/0/backend/vif")
    assert (vif.paths.backend, vif.operation.paths) == (QNIC, vif.paths)
    assert vif.backend is not None
    assert vif.backend.nodename == "backend/qnic/1/0"
    carry(host, vif)
    assert why(vif) == []
    operation = host.unplug(vif)
    host.settle()
    assert (operation.outcome, operation.forced) == (Outcome.DONE, False)
    nothing_is_left(host, FRONTEND, "/local/domain/0/backend/qnic", "/libxl/1/device/vif")


def test_an_emulated_nic_beside_it_changes_nothing_for_the_backend() -> None:
    host, vif = connected("vif_ioemu")
    assert host.store.read("/local/domain/0/backend/vif/1/0/type") == b"vif_ioemu"
    assert vif.paths == VifPaths(1, 0)
    host.unplug(vif)
    host.settle()
    nothing_is_left(host, "/local/domain/0/backend/vif")


@pytest.mark.parametrize("first", ["driver", "vif"])
def test_backends_of_a_type_that_nobody_serves_are_left_alone(first: str) -> None:
    host = Host()
    guest = host.add_guest()
    if first == "driver":
        host.boot()
        host.settle()
    qnic, other = plug(host, guest), plug(host, guest, 1, "vif")
    host.boot()
    host.settle()
    assert other.connected
    assert not qnic.connected
    assert list(host.dom0.backends.devices) == ["backend/vif/1/1"]
    assert host.states(qnic).endswith(f"{QNIC}/state = Initialising (1)")
    assert f"no driver of domain 0 serves {QNIC}" in why(qnic)
    for vif in qnic, other:
        host.unplug(vif)
    host.script.release()
    host.machine.run_loop.run_until_idle(advance_timers=True)
    nothing_is_left(host, *BACKENDS, "/libxl/1/device/vif")


def test_a_handle_has_one_backend_of_whatever_type() -> None:
    host, vif = connected()
    again = host.toolstack.attach_vif(1, 0, VifConfig(guest_mac(1)))
    assert again.reason == "/libxl/1/device/vif/0: the device exists already"
    assert again.paths == VifPaths(1, 0)
    assert vif.connected
    host.destroy()


def test_a_destroyed_guest_leaves_no_backend_of_any_type() -> None:
    host, vif = connected()
    plug(host, vif.guest, 1, "vif")
    host.settle()
    vif.guest.destroy()
    host.settle()
    nothing_is_left(host, *BACKENDS, "/local/domain/1", "/libxl/1")


def test_another_toolstack_finds_the_backend_by_what_the_first_one_noted() -> None:
    host, vif = connected()
    another = Toolstack(host.store, script=host.script)
    assert another.known_paths(1, 0) == vif.paths
    operation = another.detach_vif(1, 0)
    host.settle()
    assert operation.outcome is Outcome.DONE
    nothing_is_left(host, FRONTEND, "/local/domain/0/backend/qnic")


@pytest.mark.parametrize("text", ["", "/local", "/local/domain/x/backend/vif/1/0", "////5/ ///"])
def test_a_note_that_says_nothing_is_taken_as_a_vif_of_domain_0(text: str) -> None:
    host = Host()
    host.store.write("/libxl/1/device/vif/0/backend", text)
    assert host.toolstack.known_paths(1, 0) == VifPaths(1, 0)
    host.destroy()


def test_a_restored_guest_has_backends_of_the_same_type_again() -> None:
    host, vif = connected()
    saved = host.save(vif.guest)
    host.destroy_guest(saved.domid)
    host.settle()
    host.restore(saved)
    host.settle()
    host.require_connected(vif)
    assert vif.paths.backend == "/local/domain/0/backend/qnic/2/0"
    carry(host, vif)
    host.unplug(vif)
    host.settle()
    nothing_is_left(host, "/local/domain/0/backend/qnic")


def test_a_backend_of_another_type_moves_to_another_domain() -> None:
    host, vif = connected()
    owner = host.add_driver_domain(name="drivers")
    owner.load()
    host.replace_backend(vif, owner)
    vif.guest.unload()
    host.settle()
    vif.guest.load()
    host.settle()
    host.require_connected(vif)
    assert vif.paths.backend == f"/local/domain/{owner.domid}/backend/qnic/1/0"
    carry(host, vif)
    host.unplug(vif)
    host.settle()
    nothing_is_left(host, QNIC, vif.paths.backend)
