"""Scenarios of a vif that starts: which end is first, and what the hotplug script does."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import Scene
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import FREEBSD, WINDOWS


def start_backend_first(scene: Scene) -> None:
    """Load the backend's driver, attach the vif, load the frontend's driver."""
    scene.load_backend()
    scene.plug()
    scene.load_frontend()


def _start_frontend_first(scene: Scene) -> None:
    scene.load_frontend()
    scene.plug()
    scene.load_backend()


def _slow_script(scene: Scene) -> None:
    _no_script_answer(scene)
    scene.tell("Until then:")
    scene.expect_reason("hotplug script has not answered")
    scene.tell("Now the hotplug script runs.")
    scene.host.script.release()
    scene.settle()


def _no_script_answer(scene: Scene) -> None:
    scene.tell("The hotplug script does not run yet.")
    scene.host.script.held = True
    start_backend_first(scene)


def _script_fails(scene: Scene) -> None:
    scene.host.script.failure = "bridge xbr0 does not exist"
    start_backend_first(scene)


STARTS = (
    Scenario("start-backend-first", "the usual start, the backend waits", start_backend_first),
    Scenario("start-frontend-first", "the frontend waits", _start_frontend_first),
    Scenario("slow-script", "Connected is shown when the hotplug script is done", _slow_script),
    Scenario(
        "no-script-answer",
        "the hotplug script never answers (stops half way)",
        _no_script_answer,
        "{backend}/hotplug-status",
    ),
    Scenario("script-fails", "the hotplug script fails", _script_fails, "{backend}/hotplug-error"),
)

KINDS = (
    Scenario(
        "windows-first-cycle",
        "xenvif closes once before it starts",
        start_backend_first,
        kind=WINDOWS,
    ),
    Scenario(
        "freebsd",
        "FreeBSD's netfront and xnb",
        start_backend_first,
        kind=FREEBSD,
        policy=XNB,
    ),
)
