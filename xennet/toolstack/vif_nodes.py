"""The XenStore nodes that the toolstack writes for one vif: three directories, in libxl's order.

libxl__device_generic_add writes them in one transaction: the head of its own copy, the frontend's
directory, the backend's directory, then the rest of the copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from attrs import field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.toolstack.nodelist import Clear, Node
from xennet.xenbus.paths import VifPaths

DEFAULT_SCRIPT = "/etc/xen/scripts/vif-bridge"


@frozen
class VifConfig:
    """A vif as ``xl`` is told about it.

    ``mac`` is the guest's address ("00:16:3e:00:00:01"), ``mtu`` in bytes without the Ethernet
    header, ``trusted`` whether the frontend may trust its backend with whole pages. ``script`` None
    leaves the node out. ``options`` are further backend nodes, for example
    ``{"rate": "1000000,50000"}`` (bytes, microseconds).

    ``type`` is the backend's ``type`` node. libxl (4.17) writes one of its NIC types there, "vif",
    or "vif_ioemu" if an emulated NIC stands beside it, and all of its backends are of the type
    "vif". Any other ``type`` is a type of backends itself: "qnic" for QEMU's, which libxl does not
    know (QEMU makes their directories, and no ``type`` node in them).
    """

    mac: str
    bridge: str = "xbr0"
    script: str | None = DEFAULT_SCRIPT
    mtu: int = 1500
    trusted: bool = True
    type: str = "vif"
    options: Mapping[str, str] = field(factory=dict)

    @property
    def backend_type(self) -> str:
        """The directory below ``backend`` in which its backend is."""
        return "vif" if self.type == "vif_ioemu" else self.type


class AttachedVif(NamedTuple):
    """A vif of a domain, as its toolstack attached it."""

    handle: int
    config: VifConfig
    backend_domid: int = 0

    def paths(self, domid: int) -> VifPaths:
        """Where it is while domain ``domid`` has it; ValueError as VifPaths."""
        return VifPaths(domid, self.handle, self.backend_domid, self.config.backend_type)


def backend_entries(paths: VifPaths, config: VifConfig) -> list[tuple[str, str]]:
    """The backend's nodes behind ``frontend``; the toolstack's copy gets the same ones."""
    script = [] if config.script is None else [("script", config.script)]
    return [
        ("frontend-id", str(paths.frontend_domid)),
        ("online", "1"),
        ("state", str(int(XenbusState.Initialising))),
        *script,
        ("mac", config.mac),
        *config.options.items(),
        ("bridge", config.bridge),
        ("handle", str(paths.handle)),
        ("type", config.type),
        # Created empty, so that a driver domain's script can write it.
        ("hotplug-status", ""),
    ]


def vif_nodes(paths: VifPaths, config: VifConfig) -> list[Node | Clear]:
    """All writes of an attach, in order."""
    owned_by_frontend = (f"n{paths.frontend_domid}", f"r{paths.backend_domid}")
    owned_by_backend = (f"n{paths.backend_domid}", f"r{paths.frontend_domid}")
    frontend = [
        ("backend-id", str(paths.backend_domid)),
        ("state", str(int(XenbusState.Initialising))),
        ("handle", str(paths.handle)),
        ("mac", config.mac),
        ("trusted", str(int(config.trusted))),
    ]
    backend = backend_entries(paths, config)
    front_dir, back_dir, libxl_dir = paths.frontend, paths.backend, paths.libxl
    return [
        Clear(libxl_dir),
        Node(f"{libxl_dir}/frontend", front_dir),
        Node(f"{libxl_dir}/backend", back_dir),
        Clear(front_dir),
        Node(front_dir, None, owned_by_frontend),
        Node(f"{front_dir}/backend", back_dir),
        *(Node(f"{front_dir}/{name}", value, owned_by_frontend) for name, value in frontend),
        # Read-only for the guest.
        Node(f"{front_dir}/mtu", str(config.mtu), owned_by_backend),
        Clear(back_dir),
        Node(back_dir, None, owned_by_backend),
        Node(f"{back_dir}/frontend", front_dir),
        *(Node(f"{back_dir}/{name}", value) for name, value in backend),
        *(Node(f"{libxl_dir}/{name}", value) for name, value in backend),
    ]
