"""Scenarios of a vif that closes, from any side, in order or not."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import Stage


def _guest_closes(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest unloads its driver.")
    stage.guest.unload()
    stage.settle()


def _toolstack_detaches(stage: Stage) -> None:
    stage.connect()
    stage.tell("The toolstack detaches the vif.")
    stage.house.unplug(stage.vif)
    stage.settle()


def _backend_closes(stage: Stage) -> None:
    stage.connect()
    stage.tell("The backend wishes to close.")
    if stage.vif.backend is not None:
        stage.vif.backend.close()
    stage.settle()


def _straight_to_closed(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest writes Closed without Closing before it.")
    stage.guest.kernel.store.write("device/vif/0/state", "6")
    stage.settle()


def _directory_removed(stage: Stage) -> None:
    stage.connect()
    stage.tell("Somebody removes the backend's directory.")
    stage.house.store.rm(stage.vif.paths.backend)
    stage.settle()


def _frontend_directory_removed(stage: Stage) -> None:
    stage.connect()
    stage.tell("Somebody removes the frontend's directory.")
    stage.house.store.rm(stage.vif.paths.frontend)
    stage.settle()


def _guest_crash(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest crashes; nobody cleans up.")
    stage.guest.crash()
    stage.settle()


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
