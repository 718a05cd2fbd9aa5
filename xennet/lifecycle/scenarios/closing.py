"""Scenarios of a vif that closes, by any party, in order or not."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import Scene


def _guest_closes(scene: Scene) -> None:
    scene.connect()
    scene.tell("The guest unloads its driver.")
    scene.guest.unload()
    scene.settle()


def _toolstack_detaches(scene: Scene) -> None:
    scene.connect()
    scene.tell("The toolstack detaches the vif.")
    scene.host.unplug(scene.vif)
    scene.settle()


def _backend_closes(scene: Scene) -> None:
    scene.connect()
    scene.tell("The backend wishes to close.")
    if scene.vif.backend is not None:
        scene.vif.backend.close()
    scene.settle()


def _straight_to_closed(scene: Scene) -> None:
    scene.connect()
    scene.tell("The guest writes Closed without Closing before it.")
    scene.guest.kernel.store.write("device/vif/0/state", "6")
    scene.settle()


def _directory_removed(scene: Scene) -> None:
    scene.connect()
    scene.tell("Somebody removes the backend's directory.")
    scene.host.store.rm(scene.vif.paths.backend)
    scene.settle()


def _frontend_directory_removed(scene: Scene) -> None:
    scene.connect()
    scene.tell("Somebody removes the frontend's directory.")
    scene.host.store.rm(scene.vif.paths.frontend)
    scene.settle()


def _guest_crash(scene: Scene) -> None:
    scene.connect()
    scene.tell("The guest crashes; nobody cleans up.")
    scene.guest.crash()
    scene.settle()


CLOSING = (
    Scenario("guest-closes", "the guest's driver is unloaded", _guest_closes, "{frontend}/state"),
    Scenario("toolstack-detaches", "a hot-unplug", _toolstack_detaches, "{backend} does not exist"),
    Scenario("backend-closes", "the backend closes", _backend_closes, "{backend}/state"),
    Scenario(
        "straight-to-closed",
        "the guest skips Closing",
        _straight_to_closed,
        "{frontend}/state",
    ),
    Scenario(
        "directory-removed",
        "the backend's directory goes",
        _directory_removed,
        "{backend} does not exist",
    ),
    Scenario(
        "frontend-directory-removed",
        "the frontend's directory goes",
        _frontend_directory_removed,
        "{frontend} does not exist",
    ),
    Scenario("guest-crash", "the guest stops with all in place", _guest_crash, "domain 1, "),
)
