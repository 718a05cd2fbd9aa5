"""Scenarios of a vif that starts: who is first, and what the hotplug script does."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import Stage
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import FREEBSD, WINDOWS


def start_backend_first(stage: Stage) -> None:
    """The backend's driver, the vif, the frontend's driver."""
    stage.load_backend()
    stage.plug()
    stage.load_frontend()


def _start_frontend_first(stage: Stage) -> None:
    stage.load_frontend()
    stage.plug()
    stage.load_backend()


def _slow_script(stage: Stage) -> None:
    _no_script_answer(stage)
    stage.tell("Until then:")
    stage.expect_reason("hotplug script has not answered")
    stage.tell("Now the hotplug script runs.")
    stage.house.script.release()
    stage.settle()


def _no_script_answer(stage: Stage) -> None:
    stage.tell("The hotplug script does not run yet.")
    stage.house.script.held = True
    start_backend_first(stage)


def _script_fails(stage: Stage) -> None:
    stage.house.script.failure = "bridge xbr0 does not exist"
    start_backend_first(stage)


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
