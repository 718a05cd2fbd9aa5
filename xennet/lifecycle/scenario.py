"""What a scenario is: a name, what it shows, what happens, and how it should end."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.lifecycle.scene import Scene
from xennet.netback.policy import LINUX as LINUX_BACKEND
from xennet.netback.policy import BackendPolicy
from xennet.netfront.kinds import LINUX, FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions


@frozen
class Scenario:
    """``play`` leaves the vif as it ends; ``shows`` is one line about it.

    ``blocked`` is what a reason of the why report must name, with ``{frontend}`` and ``{backend}``
    for the vif's directories; "" when traffic must pass and there must be no reason. ``kind``,
    ``front`` and ``policy`` are those of the frontend and of the backend.
    """

    name: str
    shows: str
    play: Callable[[Scene], None]
    blocked: str = ""
    kind: FrontendKind = LINUX
    policy: BackendPolicy = LINUX_BACKEND
    front: NetfrontOptions = DEFAULTS
