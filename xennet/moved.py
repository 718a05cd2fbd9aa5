"""Old names of modules and functions that have moved, for scripts written before.

Importing :mod:`xennet` installs the finder here behind every other finder, so it is asked only for
modules that are nowhere else. Each use of an old name warns (DeprecationWarning) and says the new
one. The package itself uses none of them.
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

#: Old module -> its new name, and the names in it that have changed.
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
#: Package -> its old names -> where they are now.
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
    "xennet.trace": {
        name: f"xennet.vif.ring_events.{name}"
        for name in (
            "EventsLost",
            "LOG_HEADER",
            "LOG_LOST",
            "LOG_RECORD",
            "LOG_USED",
            "RECORDS",
            "RX_COPY_FAILED",
            "RX_DROPPED",
            "RX_PACKET",
            "RX_RECEIVED",
            "RingEvent",
            "TX_BAD_CSUM",
            "TX_COPY_FAILED",
            "TX_PACKET",
            "TX_REFUSED",
            "TX_RESPONSE",
            "TX_SENT",
            "new_log",
            "silent_log",
            "take",
            "tell_refused",
        )
    },
}


def moved_name(package: str, name: str) -> object:
    """The object that ``name`` of ``package`` is called by now, with a warning. Raises
    AttributeError if it is no old name."""
    if (now := NAMES.get(package, {}).get(name)) is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    home, _, attribute = now.rpartition(".")
    return _warned(f"{package}.{name}", home, attribute, 4)


def _warned(old: str, home: str, name: str, stacklevel: int) -> object:
    value: object = getattr(import_module(home), name)
    warnings.warn(f"{old} is now {home}.{name}", DeprecationWarning, stacklevel=stacklevel)
    return value


class _Moved(ModuleType):
    """Stands for the old module ``__name__`` and hands out the names of the new one."""

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
        # An old package has to say that it is one, or Python does not look for modules in it.
        package = any(old.startswith(f"{fullname}.") for old in MODULES)
        return ModuleSpec(fullname, cast("Loader", self), is_package=package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a name is looked up when it is used."""


def install() -> None:
    """Find old names from now on. Called once."""
    sys.meta_path.append(_Finder())
