"""Modules and names that have moved, found under their old names for scripts written before.

Importing :mod:`xennet` installs this behind every other finder: only what is nowhere else comes
here. Each use of an old name warns (DeprecationWarning) and says the new one. The package itself
uses none of them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader  # costs more to import than the package

#: Old module -> its new one, and the names in it that have changed.
MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "xennet.counters": ("xennet.vif.counters", {}),
    "xennet.gnttab.guest": ("xennet.gnttab.table", {}),
    "xennet.guest": ("xennet.hypervisor.guest_kernel", {}),
    "xennet.kernel": ("xennet.engine.kernel", {}),
    "xennet.lifecycle.stage": ("xennet.lifecycle.scene", {"Stage": "Scene"}),
    "xennet.lifecycle.traffic": ("xennet.lifecycle.stack", {"Station": "Stack"}),
    "xennet.link.base": ("xennet.errors", {}),
    "xennet.link.capacity": ("xennet.host.capacity", {}),
    "xennet.link.edge": ("xennet.wrap.offload_edge", {"Edge": "OffloadEdge"}),
    "xennet.link.exchange": (
        "xennet.run.checked_switch",
        {"Exchange": "CheckedSwitch", "Place": "CheckedPort"},
    ),
    "xennet.link.house": ("xennet.host.host", {"House": "Host"}),
    "xennet.link.ledger": ("xennet.wrap.in_order", {"Ledger": "InOrderCheck"}),
    "xennet.link.limits": ("xennet.host.limits", {}),
    "xennet.link.lines": ("xennet.link.vifs", {"Lines": "Vifs", "Line": "VifPair"}),
    "xennet.link.residents": ("xennet.host.domains", {}),
    "xennet.link.run": ("xennet.run.links", {}),
    "xennet.link.setup": ("xennet.host.setup", {}),
    "xennet.link.standstill": ("xennet.host.evidence", {"standstill": "blocked"}),
    "xennet.link.witness": ("xennet.run.checker", {"Witness": "Checker"}),
    "xennet.refusals": ("xennet.vif.refusals", {}),
    "xennet.report": ("xennet.run", {}),
    "xennet.report.model": ("xennet.run", {}),
    "xennet.report.render": ("xennet.run.render", {}),
    "xennet.storerings": ("xennet.xenstored.rings", {}),
    "xennet.storeservice": ("xennet.xenstored.service", {}),
    "xennet.timeslices": ("xennet.host.timeslices", {}),
    "xennet.trace": ("xennet.vif.ring_events", {}),
    "xennet.xenbus.control": ("xennet.toolstack.shutdown", {}),
    "xennet.xenbus.domain_nodes": ("xennet.toolstack.domain_nodes", {}),
    "xennet.xenbus.hotplug": ("xennet.toolstack.hotplug", {}),
    "xennet.xenbus.nodelist": ("xennet.toolstack.nodelist", {}),
    "xennet.xenbus.relocation": ("xennet.toolstack.relocation", {}),
    "xennet.xenbus.toolstack": ("xennet.toolstack.toolstack", {}),
    "xennet.xenbus.vif_nodes": ("xennet.toolstack.vif_nodes", {}),
    "xennet.xenstore.client_channel": ("xennet.xenstore.client.channel", {}),
    "xennet.xenstore.client_connection": ("xennet.xenstore.client.connection", {}),
    "xennet.xenstore.client_errors": ("xennet.xenstore.client.errors", {}),
    "xennet.xenstore.client_nodes": ("xennet.xenstore.client.nodes", {}),
    "xennet.xenstore.client_protocol": ("xennet.xenstore.client.protocol", {}),
    "xennet.xenstore.client_socket": ("xennet.xenstore.client.socket", {}),
    "xennet.xenstore.client_watch": ("xennet.xenstore.client.watch", {}),
}
#: Package -> names of it that another package has now.
NAMES: dict[str, dict[str, str]] = {
    "xennet": {"FrameEndpoint": "xennet.frames.Endpoint", "House": "xennet.host.Host"},
    "xennet.link": {
        "BackendDomain": "xennet.host.BackendDomain",
        "Capacity": "xennet.host.Capacity",
        "Guest": "xennet.host.Guest",
        "House": "xennet.host.Host",
        "Line": "xennet.link.VifPair",
        "Lines": "xennet.link.Vifs",
        "PluggedVif": "xennet.host.PluggedVif",
        "SavedGuest": "xennet.host.SavedGuest",
        "Setup": "xennet.host.Setup",
        "guest_mac": "xennet.host.guest_mac",
    },
}


def moved_name(package: str, name: str) -> object:
    """What ``name`` of ``package`` is called now, with a warning; AttributeError if it is no old
    name."""
    if (now := NAMES.get(package, {}).get(name)) is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    home, _, attribute = now.rpartition(".")
    return _warned(f"{package}.{name}", home, attribute, 4)


def _warned(old: str, home: str, name: str, stacklevel: int) -> object:
    value: object = getattr(import_module(home), name)
    warnings.warn(f"{old} is now {home}.{name}", DeprecationWarning, stacklevel=stacklevel)
    return value


class _Moved(ModuleType):
    """Stands for the module ``__name__`` and hands out what its new one has."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        home, renamed = MODULES[self.__name__]
        return _warned(f"{self.__name__}.{name}", home, renamed.get(name, name), 3)


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        # One that had others in it has to say so, or they are not looked for.
        package = any(old.startswith(f"{fullname}.") for old in MODULES)
        return ModuleSpec(fullname, cast("Loader", self), is_package=package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: names are looked up when somebody asks for them."""


def install() -> None:
    """Find old names from now on. Once."""
    sys.meta_path.append(_Finder())
