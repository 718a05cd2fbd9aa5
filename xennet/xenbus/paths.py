"""Where a vif lives in XenStore.

A driver names its own directory relative to its domain (``device/vif/0``), as Linux does, and the
other end's by absolute path; the toolstack names everything absolutely. A frontend is always a
"vif", and finds its backend by its ``backend`` node. A backend is of the type by which its driver
finds it: "vif" for the drivers of kernels, "qnic" for QEMU's (hw/net/xen_nic.c).
"""

from __future__ import annotations

import re

from attrs import Attribute, field, frozen

from xennet.interface import StoreTransaction
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenstore.path import domain_path

#: What may stand between two slashes of a path (xenstored_core.c, is_valid_nodename).
_NAME = re.compile(r"[A-Za-z0-9_@-]+")


def error_node(nodename: str) -> str:
    """The path of the node to which the driver of ``nodename`` writes its errors
    (xenbus_dev_error)."""
    return f"error/{nodename}/error"


def vif_name(frontend_domid: int, nodename: str) -> str:
    """The name of a vif, after its frontend's domain and the directory ``nodename`` of either end:
    vif1.0 (that of the backend's interface in Linux)."""
    return f"vif{frontend_domid}.{nodename.rpartition('/')[2]}"


@frozen
class VifPaths:
    """The directories of one vif, named by its two domains, its handle (device number) and the type
    of its backend. Raises ValueError for a type that names no directory."""

    frontend_domid: int
    handle: int
    backend_domid: int = 0
    backend_type: str = field(default="vif")

    @backend_type.validator
    def _names_a_directory(self, _attribute: Attribute[str], value: str) -> None:
        if not _NAME.fullmatch(value):
            raise ValueError(f"a type of backends names a directory, and {value!r} does not")

    @property
    def name(self) -> str:
        """The name of the backend's interface in Linux: vif1.0."""
        return vif_name(self.frontend_domid, self.frontend_node)

    @property
    def frontend_node(self) -> str:
        """The frontend's directory, relative to its domain."""
        return f"device/vif/{self.handle}"

    @property
    def backend_node(self) -> str:
        """The backend's directory, relative to its domain."""
        return f"backend/{self.backend_type}/{self.frontend_domid}/{self.handle}"

    @property
    def frontend(self) -> str:
        """The frontend's directory, absolute (FE in xen/io/netif.h discussions)."""
        return f"{domain_path(self.frontend_domid)}/{self.frontend_node}"

    @property
    def backend(self) -> str:
        """The backend's directory, absolute (BE)."""
        return f"{domain_path(self.backend_domid)}/{self.backend_node}"

    @property
    def libxl(self) -> str:
        """The toolstack's own copy of the device, absolute; no guest can write it."""
        return f"/libxl/{self.frontend_domid}/{self.frontend_node}"

    @property
    def frontend_error(self) -> str:
        """The frontend's error node, absolute."""
        return f"{domain_path(self.frontend_domid)}/{error_node(self.frontend_node)}"

    @property
    def backend_error(self) -> str:
        """The backend's error node, absolute."""
        return f"{domain_path(self.backend_domid)}/{error_node(self.backend_node)}"


@frozen
class VifDirectories:
    """The directories of a vif, ``paths``, as one client of the store, ``store``, sees them."""

    paths: VifPaths
    store: StoreTransaction

    @property
    def frontend(self) -> NodeDirectory:
        """The frontend's directory."""
        return NodeDirectory(self.store, self.paths.frontend)

    @property
    def backend(self) -> NodeDirectory:
        """The backend's directory."""
        return NodeDirectory(self.store, self.paths.backend)
