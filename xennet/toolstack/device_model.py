"""Device models: programs (QEMU) that have the backends of a domain, and say when they are ready.

A toolstack starts a domain only when the node ``device-model/<domid>/state`` of the device model's
domain is "running" (libxl__spawn, device_model_confirm), for good reason: QEMU's xen-net-device
(10.0) shows InitWait before it writes ``feature-rx-copy``, and a frontend that looks in between
gives the device up.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import define, field

from xennet.interface import StoreClient
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifPaths
from xennet.xenstore.path import domain_path

#: The value of the state node of a device model that has all its backends in the store.
RUNNING = "running"


class DeviceModel(Enum):
    """The part that a device model has in a vif.

    ``NONE``: there is none. ``SERVES``: it has the backend of a vif whose nodes the toolstack makes
    (QEMU 7.2). ``PLUGS``: it makes the nodes of both ends itself (QEMU's ``-device
    xen-net-device``).
    """

    NONE = "none"
    SERVES = "serves"
    PLUGS = "plugs"


def model_directory(paths: VifPaths) -> str:
    """The directory of the device model that has the backend of a vif, absolute."""
    return f"{domain_path(paths.backend_domid)}/device-model/{paths.frontend_domid}"


def model_state(store: StoreClient, paths: VifPaths) -> str:
    """The state that the device model of a vif shows; "" if it shows none."""
    return NodeDirectory(store, model_directory(paths)).optional_text("state")


@define(eq=False, repr=False)
class DeviceModelWait:
    """Waits until the device model of a vif runs, however long that takes. ``done(problem)`` is
    called once, with "" if it runs."""

    store: StoreClient
    paths: VifPaths
    token: str
    done: Callable[[str], None]
    _waiting: bool = field(init=False, default=False)

    def start(self) -> None:
        """Begin to wait."""
        self._waiting = True
        self.store.watch(self._node, self.token, self._changed)

    def end(self, problem: str) -> None:
        """Wait no longer. May be repeated."""
        if self._waiting:
            self._waiting = False
            self.store.unwatch(self._node, self.token)
            self.done(problem)

    @property
    def _node(self) -> str:
        return f"{model_directory(self.paths)}/state"

    def _changed(self, _path: str, _token: str) -> None:
        if model_state(self.store, self.paths) == RUNNING:
            self.end("")
