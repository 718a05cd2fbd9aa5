"""Domains that move to another host, and vifs that get another backend.

To the store, a domain that is saved and restored, on this machine or another, is the old domain
destroyed, a new one created, and the same vifs attached to it (libxl_domain_create_restore). The
guest's memory does not concern the store: its frontends continue with FrontendBus.resume. In order,

* save and restore: ``Toolstack.vifs``, GuestRequest("suspend"), the guest shuts down
  (SHUTDOWN_suspend), ``Toolstack.destroy_domain``; later :func:`restore_domain`, then
  FrontendBus.resume(new hypervisor);
* migrate: the same, but the receiving machine's :func:`restore_domain` and the resume come first
  and ``destroy_domain`` on the sending machine last;
* a suspend that is cancelled: nothing at all, the connections are as they were;
* resume in place (a checkpoint): FrontendBus.resume() with the hypervisor that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.nodelist import remove_with_empty_parents
from xennet.toolstack.toolstack import Toolstack, VifOperation
from xennet.toolstack.vif_nodes import AttachedVif


def restore_domain(
    toolstack: Toolstack, config: DomainConfig, vifs: Iterable[AttachedVif]
) -> list[VifOperation]:
    """Write and introduce the domain ``config`` and attach ``vifs`` to it, all in state
    Initialising.

    The domain must exist in the hypervisor. Returns one attach operation for each vif.
    """
    toolstack.create_domain(config)
    return [
        toolstack.attach_vif(config.domid, vif.handle, vif.config, backend_domid=vif.backend_domid)
        for vif in vifs
    ]


def replace_backend(
    toolstack: Toolstack,
    domid: int,
    handle: int,
    backend_domid: int,
    on_done: Callable[[VifOperation], None] | None = None,
) -> VifOperation:
    """Give a vif another backend domain, because its backend has died or shall not serve it any
    more.

    One transaction removes the old backend's directory and writes the vif's three directories anew:
    both states are Initialising, keys of the old connection are gone. A running frontend keeps its
    device and connects to the new backend after Frontend.resume, or after close and start. Returns
    an operation as :meth:`Toolstack.attach_vif` does. It is FAILED if there is no such vif, if the
    vif is being removed, or if ``backend_domid`` is its backend already: that driver would notice
    neither the removal nor the new device.
    """
    old, paths = toolstack.plugged(domid, handle), toolstack.known_paths(domid, handle)
    if old is None:
        reason = f"{paths.libxl}: no such device, or it is being removed"
        return VifOperation.refused(paths, reason, on_done)
    if old.backend_domid == backend_domid:
        reason = f"{paths.backend}: domain {backend_domid} is the backend already"
        return VifOperation.refused(paths, reason, on_done)
    return toolstack.plug(
        AttachedVif(handle, old.config, backend_domid),
        domid,
        before=lambda tx: remove_with_empty_parents(tx, paths.backend),
        on_done=on_done,
    )
