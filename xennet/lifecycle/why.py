"""Why a vif passes no traffic, or not all: every state, node or counter in the way, with its value.

The checks are a table, in the order in which a person looks: the store first (as any toolstack sees
it), then domains, devices and rings (as the hypervisor knows them), then what the drivers say
themselves (xennet.vif.end). Each check looks, whatever the others have found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xennet.abi.xenbus import XenbusState
from xennet.host.buses import XENNET
from xennet.host.domains import PluggedVif
from xennet.host.evidence import blocked, full_quotas, unattached
from xennet.host.shared_rings import RingState, event_state, rings
from xennet.lifecycle.store_checks import (
    StoreCheck,
    both_connected,
    directories,
    errors,
    hotplug,
    ring_keys,
    states,
)
from xennet.toolstack.device_model import model_directory, model_state
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.state import read_state, state_name

Check = Callable[[PluggedVif], Iterator[str]]

S = XenbusState
#: States that no toolstack writes.
_OF_DRIVERS = frozenset(S) - {S.Unknown, S.Initialising, S.Closing, S.Closed}
#: Backend states in which all features are in the store.
_ADVERTISED = frozenset({S.InitWait, S.Initialised, S.Connected})


def why(vif: PluggedVif) -> list[str]:
    """The reasons why ``vif`` passes no traffic, or not all, one line each."""
    return [reason for check in CHECKS for reason in check(vif)]


def _of_store(check: StoreCheck) -> Check:
    """A check of what any client of the store sees."""
    return lambda vif: check(vif.seen)


def _store(vif: PluggedVif) -> tuple[NodeDirectory, NodeDirectory]:
    """The frontend's and the backend's directory, as the toolstack sees them."""
    return vif.seen.frontend, vif.seen.backend


# -- the store -------------------------------------------------------------------------------------


def quotas(vif: PluggedVif) -> Iterator[str]:
    """No quota of the store was in the way of an end that is not Connected."""
    if not both_connected(vif.seen):
        yield from full_quotas(vif)


def command(vif: PluggedVif) -> Iterator[str]:
    """The toolstack's last command about a vif that is not connected has not failed."""
    operation = vif.operation
    if operation.outcome is Outcome.FAILED and not both_connected(vif.seen):
        yield f"the toolstack gave up attaching {operation.paths.backend}: {operation.reason}"


def feature_rx_copy(vif: PluggedVif) -> Iterator[str]:
    """A backend whose features are in the store can copy to the frontend, and said so in time."""
    kind, (frontend, backend) = vif.guest.kind, _store(vif)
    if (
        vif.guest_drivers != XENNET
        or not kind.needs_rx_copy
        or read_state(backend.store, backend.path) not in _ADVERTISED
        or read_state(frontend.store, frontend.path) != S.Initialising
    ):
        return
    node, value = backend.node("feature-rx-copy"), backend.optional_text("feature-rx-copy")
    if not backend.optional_unsigned("feature-rx-copy"):
        yield f'the backend cannot copy, so the frontend leaves it alone: {node} = "{value}"'
    elif vif.frontend is not None and vif.frontend.declined is not None:
        yield (
            f"the {kind.name} frontend looked when the backend showed InitWait, and looks again "
            f'only when that is shown again: {vif.frontend.declined}; it is "{value}" now'
        )


def whereabouts(vif: PluggedVif) -> Iterator[str]:
    """The frontend's driver looks at the backend that the toolstack has given it."""
    front, (frontend, _) = vif.frontend, _store(vif)
    if front is None or not frontend.exists() or not front.dev.otherend.path:
        return
    node, named = frontend.node("backend"), frontend.optional_text("backend")
    if front.dev.otherend.path != named:
        yield (
            f"the frontend still looks at {front.dev.otherend.path}, its backend is another now: "
            f'{node} = "{named}"'
        )


def script_held(vif: PluggedVif) -> Iterator[str]:
    """No run of the hotplug script is held back."""
    script = vif.guest.host.toolstack.script
    if script is not None and script.held and script.waiting:
        yield f"runs of the hotplug script that have not begun: {script.waiting}"


# -- domains, devices and rings --------------------------------------------------------------------


def running(vif: PluggedVif) -> Iterator[str]:
    """Both domains run."""
    for side, domain in (("frontend", vif.guest.domain), ("backend", vif.owner.domain)):
        if not domain.running:
            yield f"domain {domain.domid}, which has the {side}, does not run"


def device_model(vif: PluggedVif) -> Iterator[str]:
    """The device model that the frontend waits for runs."""
    if vif.awaits_model:
        node, state = f"{model_directory(vif.paths)}/state", model_state(vif.store, vif.paths)
        yield f'the frontend is not started before its device model runs: {node} = "{state}"'


def drivers(vif: PluggedVif) -> Iterator[str]:
    """Both ends have a driver; a foreign one that is on no bus is recognised by a state that only
    drivers show."""
    for served, foreign, domid, end in _served(vif):
        if served:
            continue
        if foreign:
            state = read_state(end.store, end.path)
            closed = state in (S.Closing, S.Closed)
            what = "serves this end no more" if closed else "has shown no state of a driver"
            yield f"domain {domid}, {foreign}, {what}: {end.node('state')} = {state_name(state)}"
        else:
            yield f"no driver of domain {domid} serves {end.path}"


def _served(vif: PluggedVif) -> Iterator[tuple[bool, str, int, NodeDirectory]]:
    """For each end: whether a driver serves it, what is foreign about the drivers of its domain
    ("" for nothing), the domain's number and the end's directory."""
    paths, (frontend, backend) = vif.paths, _store(vif)
    for driver, domain, drivers, node, end in (
        (vif.guest_driver, vif.guest, vif.guest_drivers, paths.frontend_node, frontend),
        (vif.host_driver, vif.owner, vif.host_drivers, paths.backend_node, backend),
    ):
        foreign = "whose drivers leave this end to another program" if drivers is None else ""
        if domain.drivers is None:
            foreign = "whose drivers are not xennet's"
        brought = driver is None and read_state(end.store, end.path) in _OF_DRIVERS
        yield node in domain.buses.nodenames or brought, foreign, domain.domid, end


def progress(vif: PluggedVif) -> Iterator[str]:
    """Neither driver waits for the other, and each has seen what the store shows."""
    if vif.connected or not (vif.guest.domain.running and vif.owner.domain.running):
        return
    if not any(feature_rx_copy(vif)):  # or the frontend waits for another InitWait
        yield from blocked(vif)
    if not both_connected(vif.seen):
        return
    front = vif.frontend
    if front is not None and not front.announced:
        yield (
            f"the frontend has not heard yet that its backend is Connected: "
            f"{vif.paths.backend}/state = {state_name(S.Connected)}"
        )
    _, (backend_served, *_) = _served(vif)
    if backend_served:
        yield from unattached(vif)


def misbehaviour(vif: PluggedVif) -> Iterator[str]:
    """Neither driver has found the other end to break the protocol."""
    back, front = vif.host_driver, vif.guest_driver
    if back is not None and back.error is not None:
        counters = back.counters
        dropped = (
            "" if counters is None else (f" (packets for it that were dropped: {counters.dropped})")
        )
        yield f"{vif.name} is disabled, the guest broke the protocol: {back.error}{dropped}"
    if front is not None and front.error is not None:
        yield f"the frontend is broken, its backend broke the protocol: {front.error}"


def said(vif: PluggedVif) -> Iterator[str]:
    """Neither driver has a reason of its own."""
    for driver, domain in ((vif.guest_driver, vif.guest), (vif.host_driver, vif.owner)):
        if driver is not None and domain.domain.running:
            yield from driver.reasons(vif.seen)


def buffers(vif: PluggedVif) -> Iterator[str]:
    """The guest has posted receive buffers, if the backend is not xennet's (which says it)."""
    for ring in _rings(vif) if vif.netback is None else ():
        if ring.name == "rx" and not ring.unanswered:
            yield f"queue {ring.queue} of {vif.name}: the guest has posted no receive buffers"


def answers(vif: PluggedVif) -> Iterator[str]:
    """No request waits for a response, if an end is not xennet's (xennet's drivers say why)."""
    if vif.netfront is not None and vif.netback is not None:
        return
    for ring in _rings(vif):
        if ring.name == "tx" and ring.unanswered:
            yield (
                f"queue {ring.queue} of {vif.name}: {ring.unanswered} requests of the guest are "
                f"not answered: req_prod = {ring.req_prod}, rsp_prod = {ring.rsp_prod}, and "
                f"{event_state(vif.guest.host.machine, vif.paths, ring.port)}"
            )


def _rings(vif: PluggedVif) -> list[RingState]:
    """The rings that the backend's domain has mapped, while it runs."""
    return rings(vif.guest.host.machine, vif.seen) if vif.owner.domain.running else []


def rooms(vif: PluggedVif) -> Iterator[str]:
    """Both network stacks have room for frames (a foreign driver has none here)."""
    if vif.guest_drivers is not None and not vif.guest_end.room:
        yield f"the network stack of domain {vif.paths.frontend_domid} has room for 0 frames"
    if vif.host_drivers is not None and not vif.host_end.room:
        yield f"what {vif.name} leads to on the host has room for 0 frames"


#: The checks in order.
CHECKS: tuple[Check, ...] = (
    _of_store(directories),
    _of_store(states),
    quotas,
    _of_store(hotplug),
    script_held,
    _of_store(errors),
    command,
    feature_rx_copy,
    _of_store(ring_keys),
    running,
    device_model,
    drivers,
    whereabouts,
    progress,
    misbehaviour,
    buffers,
    answers,
    said,
    rooms,
)
