"""A real Xen: xennet's drivers as user-space programs of one of its domains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.xen.errors import XenError
    from xennet.xen.hypervisor import XenHypervisor

__all__ = ["XenError", "XenHypervisor"]

_HOMES = {
    "XenError": "xennet.xen.errors",
    "XenHypervisor": "xennet.xen.hypervisor",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
