"""A scenario: its name, one line about it, what happens, and how it should end."""

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
    """One scenario.

    ``play(scene)`` makes it happen; ``shows`` is one line about it. ``blocked`` is a text that a
    reason of the why report must contain, with ``{frontend}`` and ``{backend}`` for the vif's
    directories; "" if traffic must pass and there must be no reason. ``kind`` and ``front`` are the
    frontend's, ``policy`` the backend's.
    """

    name: str
    shows: str
    play: Callable[[Scene], None]
    blocked: str = ""
    kind: FrontendKind = LINUX
    policy: BackendPolicy = LINUX_BACKEND
    front: NetfrontOptions = DEFAULTS
