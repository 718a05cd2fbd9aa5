"""Why a vif passes no traffic, or not all: every state, node or counter in the way, with its value.

The checks are a table, in the order in which a person looks: the store first (as any toolstack sees
it), then the drivers. Each check looks, whatever the others have found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xennet.abi.xenbus import XenbusState
from xennet.host.domains import PluggedVif
from xennet.host.evidence import blocked, full_quotas
from xennet.netback.guest_tx import R_LIMITED
from xennet.netback.keys import read_queue_count, read_queues
from xennet.netback.policy import LINUX
from xennet.netback.queue import Queue
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.scan import scan_unsigned
from xennet.xenbus.state import read_state, state_name
from xennet.xenstore.errors import XsError

Check = Callable[[PluggedVif], Iterator[str]]

S = XenbusState
#: Most queues that a backend of xennet offers.
_MOST_QUEUES = 64
#: Frontend states in which all keys are in the store.
_PUBLISHED = frozenset({S.Initialised, S.Connected, S.Reconfiguring})
#: States that no toolstack writes.
_OF_DRIVERS = frozenset(S) - {S.Unknown, S.Initialising, S.Closing, S.Closed}
#: Backend states in which all features are in the store.
_ADVERTISED = frozenset({S.InitWait, S.Initialised, S.Connected})


def why(vif: PluggedVif) -> list[str]:
    """The reasons why ``vif`` passes no traffic, or not all, one line each.

    A foreign driver is judged by the store and the rings.
    """
    return [reason for check in CHECKS for reason in check(vif)]


def _queues(vif: PluggedVif) -> list[Queue]:
    """The backend's queues; none if its domain has stopped."""
    back = vif.netback
    return back.queues if back is not None and vif.owner.domain.running else []


def _both_connected(vif: PluggedVif) -> bool:
    return all(vif.shows_connected(directory.path) for directory in _store(vif))


def _store(vif: PluggedVif) -> tuple[NodeDirectory, NodeDirectory]:
    """The frontend's and the backend's directory, as the toolstack sees them."""
    return NodeDirectory(vif.store, vif.paths.frontend), NodeDirectory(vif.store, vif.paths.backend)


# -- the store -------------------------------------------------------------------------------------


def directories(vif: PluggedVif) -> Iterator[str]:
    """Both directories exist."""
    for side, directory in zip(("frontend", "backend"), _store(vif), strict=True):
        if not directory.exists():
            yield f"the {side}'s directory {directory.path} does not exist"


def states(vif: PluggedVif) -> Iterator[str]:
    """Both ends show Connected."""
    for side, directory in zip(("frontend", "backend"), _store(vif), strict=True):
        state = read_state(directory.store, directory.path)
        if state != S.Connected and directory.exists():
            yield f"the {side} is not Connected: {directory.node('state')} = {state_name(state)}"


def quotas(vif: PluggedVif) -> Iterator[str]:
    """No quota of the store was in the way of an end that is not Connected."""
    if not _both_connected(vif):
        yield from full_quotas(vif)


def hotplug(vif: PluggedVif) -> Iterator[str]:
    """The hotplug script has reported success."""
    _, backend = _store(vif)
    if not backend.exists():
        return
    node = backend.node("hotplug-status")
    try:
        status = backend.text("hotplug-status")
    except XenbusError:
        yield f"nobody has run the hotplug script: {node} does not exist"
        return
    if status != "connected":
        what = "has failed" if status == "error" else "has not answered"
        yield f'the hotplug script {what}: {node} = "{status}"'
    if error := backend.optional_text("hotplug-error"):
        yield f'the hotplug script says: {backend.node("hotplug-error")} = "{error}"'


def errors(vif: PluggedVif) -> Iterator[str]:
    """No end that is not Connected has left an error node. (An older one may still be there.)"""
    paths = vif.paths
    for directory, node in zip(
        _store(vif), (paths.frontend_error, paths.backend_error), strict=True
    ):
        try:
            text = directory.store.read(node).decode("ascii", "backslashreplace")
        except XsError:
            continue
        if text and read_state(directory.store, directory.path) != S.Connected:
            yield f'a driver gave up: {node} = "{text}"'


def command(vif: PluggedVif) -> Iterator[str]:
    """The toolstack's last command about a vif that is not connected has not failed."""
    operation = vif.operation
    if operation.outcome is Outcome.FAILED and not _both_connected(vif):
        yield f"the toolstack gave up attaching {operation.paths.backend}: {operation.reason}"


def feature_rx_copy(vif: PluggedVif) -> Iterator[str]:
    """A backend whose features are in the store can copy to the frontend, and said so in time."""
    kind, (frontend, backend) = vif.guest.kind, _store(vif)
    if (
        not kind.needs_rx_copy
        or read_state(backend.store, backend.path) not in _ADVERTISED
        or read_state(frontend.store, frontend.path) != S.Initialising
    ):
        return
    node, value = backend.node("feature-rx-copy"), backend.optional_text("feature-rx-copy")
    if not backend.optional_unsigned("feature-rx-copy"):
        yield f'the backend cannot copy, so the frontend leaves it alone: {node} = "{value}"'
    elif vif.netfront is not None and vif.netfront.declined is not None:
        yield (
            f"the {kind.name} frontend looked when the backend showed InitWait, and looks again "
            f'only when that is shown again: {vif.netfront.declined}; it is "{value}" now'
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


def ring_keys(vif: PluggedVif) -> Iterator[str]:
    """A frontend in a state that says so has published all of its keys."""
    frontend, _ = _store(vif)
    if read_state(frontend.store, frontend.path) not in _PUBLISHED:
        return
    try:
        read_queues(frontend, read_queue_count(frontend, _MOST_QUEUES))
    except XenbusError as wrong:
        yield f"the frontend's keys are not complete: {wrong}"


def request_rx_copy(vif: PluggedVif) -> Iterator[str]:
    """The frontend asks for copies, or Linux's netback looks at none of its features."""
    frontend, _ = _store(vif)
    node = frontend.node("request-rx-copy")
    if (
        _queues(vif)
        and vif.policy.name == LINUX.name
        and not frontend.optional_unsigned("request-rx-copy")
    ):
        yield (
            f"the frontend does not ask for copies, so none of its features counts and frames for "
            f'it have to fit a page: {node} = "{frontend.optional_text("request-rx-copy")}"'
        )


def script_held(vif: PluggedVif) -> Iterator[str]:
    """No run of the hotplug script is held back."""
    script = vif.guest.host.toolstack.script
    if script is not None and script.held and script.waiting:
        yield f"runs of the hotplug script that have not begun: {script.waiting}"


# -- the drivers -----------------------------------------------------------------------------------


def running(vif: PluggedVif) -> Iterator[str]:
    """Both domains run."""
    for side, domain in (("frontend", vif.guest.domain), ("backend", vif.owner.domain)):
        if not domain.running:
            yield f"domain {domain.domid}, which has the {side}, does not run"


def drivers(vif: PluggedVif) -> Iterator[str]:
    """Both ends have a driver; a foreign one is recognised by a state that only drivers show."""
    paths, (frontend, backend) = vif.paths, _store(vif)
    for device, driver, domid, end in (
        (vif.frontend, vif.netfront, paths.frontend_domid, frontend),
        (vif.backend, vif.netback, paths.backend_domid, backend),
    ):
        brought = driver is None and read_state(end.store, end.path) in _OF_DRIVERS
        if device is None and not brought:
            yield f"no driver of domain {domid} serves {end.path}"


def progress(vif: PluggedVif) -> Iterator[str]:
    """Neither driver waits for the other, and each has seen what the store shows."""
    if vif.connected or not (vif.guest.domain.running and vif.owner.domain.running):
        return
    if not any(feature_rx_copy(vif)):  # or the frontend waits for another InitWait
        yield from blocked(vif)
    if not _both_connected(vif):
        return
    back, front = vif.backend, vif.frontend
    if front is not None and not front.announced:
        yield (
            f"the frontend has not heard yet that its backend is Connected: "
            f"{vif.paths.backend}/state = {state_name(S.Connected)}"
        )
    if back is not None and (vif.netback is None or not vif.netback.queues):
        yield (
            f"the backend has not connected to the rings of the frontend that is Connected: "
            f"{vif.paths.frontend}/state = {state_name(S.Connected)}"
        )


def misbehaviour(vif: PluggedVif) -> Iterator[str]:
    """Neither driver has found the other end to break the protocol."""
    back, front = vif.netback, vif.netfront
    if back is not None and back.error is not None:
        yield (
            f"{vif.name} is disabled, the guest broke the protocol: {back.error} "
            f"(packets for it that were dropped: {back.counters.dropped})"
        )
    if front is not None and front.error is not None:
        yield f"the frontend is broken, its backend broke the protocol: {front.error}"


def carrier(vif: PluggedVif) -> Iterator[str]:
    """The backend's carrier node is not 0 (xen/io/netif.h, "Link state"), if the frontend reads
    it."""
    _, backend = _store(vif)
    node, value = backend.node("carrier"), backend.optional_text("carrier")
    if vif.netfront is None or vif.netfront.link_up:
        return
    if scan_unsigned(value.encode()) == 0:
        yield f"the backend has no carrier: {node} = {value}"
    else:
        yield f'the frontend has not heard yet that there is a carrier: {node} = "{value}"'


def buffers(vif: PluggedVif) -> Iterator[str]:
    """The guest has posted buffers for the packets that wait for it."""
    for number, queue in enumerate(_queues(vif)):
        posted = queue.rx_ring.unconsumed_requests
        if queue.stalled:
            yield (
                f"queue {number} of {vif.name} is stalled, its frames are dropped: "
                f"{posted} receive buffers are posted"
            )
        elif not posted:
            yield f"queue {number} of {vif.name}: the guest has posted no receive buffers"


def rooms(vif: PluggedVif) -> Iterator[str]:
    """Both network stacks take frames."""
    if not vif.guest_end.room:
        yield f"the network stack of domain {vif.paths.frontend_domid} has room for 0 frames"
    if not vif.host_end.room:
        yield f"what {vif.name} leads to on the host has room for 0 frames"


def rate(vif: PluggedVif) -> Iterator[str]:
    """No request waits for the rate limit."""
    _, backend = _store(vif)
    for number, queue in enumerate(_queues(vif)):
        size = queue.tx.res[R_LIMITED]
        if size and queue.tx_ring.unconsumed_requests:
            yield (
                f"queue {number} of {vif.name} waits for the rate limit, {queue.tx.credit} bytes "
                f"are left and {size} are needed: {backend.node('rate')} = "
                f'"{backend.optional_text("rate")}"'
            )


#: The checks in order.
CHECKS: tuple[Check, ...] = (
    directories,
    states,
    quotas,
    hotplug,
    script_held,
    errors,
    command,
    feature_rx_copy,
    ring_keys,
    request_rx_copy,
    running,
    drivers,
    whereabouts,
    progress,
    misbehaviour,
    carrier,
    buffers,
    rooms,
    rate,
)
