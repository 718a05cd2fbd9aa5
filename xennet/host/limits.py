"""The check that a setup fits its limits, before anything is begun.

What guests need of the store is not calculated but tried, with one guest with one vif of the same
kind. The limits that a run sets itself (frames of grant tables, event channel ABIs of backend
domains) are made large enough by xennet.host.capacity; docs/limits.md has the list.
"""

from __future__ import annotations

from attrs import evolve

from xennet.errors import LimitError
from xennet.host.capacity import ONE_VIF, mib_frames
from xennet.host.host import Host
from xennet.host.setup import Setup
from xennet.memory import Memory
from xennet.port.null import NullPort
from xennet.xenstore.quota import UNLIMITED, Quota

#: More nodes than any guest has for itself, for a vif, and for a queue of one.
_MOST_NODES = (20, 30, 6)


def require_room(setup: Setup) -> None:
    """Raises LimitError if the guests of ``setup`` do not fit the quotas of the store, or the
    machine does not fit the memory of the host."""
    nodes, vifs, queues = setup.quota.nodes, setup.vifs, setup.front.queues
    domain, vif, queue = _MOST_NODES
    # A commit must stay below the quota.
    if domain + vifs * (vif + queues * queue) >= nodes and (needed := _nodes(setup)) >= nodes:
        raise LimitError(
            f"with {_vifs(setup)} a guest takes {needed} nodes of the XenStore; "
            f'a domain has to stay below {nodes} (quota "nodes", 1000 in xenstored): fewer vifs '
            "or queues, or a higher quota",
            quota=True,
        )
    capacity = setup.capacity
    if capacity.nr_frames < capacity.needed:
        raise LimitError(
            f"{_guests(setup)} can take {capacity.needed} page frames "
            f"({-(-capacity.needed // mib_frames(1))} MiB), the machine has "
            f"{capacity.nr_frames}"
        )
    if capacity.nr_frames <= ONE_VIF.nr_frames:
        return
    try:
        Memory(capacity.nr_frames).close()
    except MemoryError as full:
        raise LimitError(f"{_guests(setup)}: {full}") from full


def _guests(setup: Setup) -> str:
    each = " each" * (setup.guests != 1)
    return f"{_counted(setup.guests, 'guest')} with {_vifs(setup)}{each}"


def _vifs(setup: Setup) -> str:
    return f"{_counted(setup.vifs, 'vif')} of {_counted(setup.front.queues, 'queue')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _nodes(setup: Setup) -> int:
    """The number of nodes that a guest owns when all its vifs are connected."""
    trial = evolve(setup, guests=1, vifs=1)
    host = Host(trial.capacity, quota=Quota(nodes=UNLIMITED))
    try:
        host.dom0.load()
        guest = host.add_guest(kind=setup.kind, grant_version=setup.grant_version)
        owned = [host.service.store.nodes_owned(guest.domid)]
        host.plug(
            guest,
            0,
            NullPort(),
            NullPort(),
            setup.vif_config(guest.domid, 0),
            front=setup.front,
            policy=setup.policy,
            back=setup.back,
        )
        guest.boot()
        host.settle()
        owned.append(host.service.store.nodes_owned(guest.domid))
    finally:
        host.destroy()
    return owned[0] + setup.vifs * (owned[1] - owned[0])
