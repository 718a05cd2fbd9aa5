"""The evidence about a vif that is not as it should be, for messages: the states of its ends, the
store's quotas, what each end waits for by its rules, and what the backend has not attached."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.abi.xenbus import XenbusState
from xennet.errors import LinkError
from xennet.host.domains import PluggedVif
from xennet.host.shared_rings import Use, shared
from xennet.toolstack.toolstack import Outcome, VifOperation
from xennet.xenbus.backend_rules import BackendAction
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.frontend_rules import FrontendAction
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.scan import scan_signed
from xennet.xenbus.state import state_name


def states(vif: PluggedVif) -> str:
    """The state and the error node of each end, in one line."""
    said = []
    for directory, error in (
        (vif.paths.frontend, vif.paths.frontend_error),
        (vif.paths.backend, vif.paths.backend_error),
    ):
        text = NodeDirectory(vif.store, directory).optional_text("state")
        number = scan_signed(text.encode())
        state = (text or "(none)") if number is None else state_name(number)
        said.append(f"{directory}/state = {state}")
        parent, _, name = error.rpartition("/")
        if problem := NodeDirectory(vif.store, parent).optional_text(name):
            said.append(f"{error} = {problem}")
    return "; ".join(said)


def require_connected(vif: PluggedVif) -> None:
    """Raises LinkError, with the evidence, unless ``vif`` was attached and is connected."""
    require(vif, vif.operation)
    if not vif.connected:
        why = "; ".join([*full_quotas(vif), states(vif), *blocked(vif), *unattached(vif)])
        raise LinkError(f"the vif did not connect: {why}")


def require(vif: PluggedVif, operation: VifOperation) -> None:
    """Raises LinkError, with the evidence, unless the command ``operation`` about ``vif`` is
    done."""
    if operation.outcome is not Outcome.DONE:
        why = operation.reason or "the toolstack still waits"
        raise LinkError("; ".join([f"{why}: {states(vif)}", *full_quotas(vif)]))


def full_quotas(vif: PluggedVif) -> Iterator[str]:
    """The quotas of the store that have stood against requests of the two domains.

    An end is given an errno at most, and may not be able to write even that into its error node.
    """
    host = vif.guest.host
    for domid in dict.fromkeys((vif.paths.frontend_domid, vif.paths.backend_domid)):
        info = host.machine.domain_info(domid)
        name = "" if info is None else f" ({info.name})"
        for refusal in host.service.store.refusals(domid):
            yield (
                f"domain {domid}{name} has used up a quota of the store: it would come to "
                f'{refusal.wanted} of "{refusal.quota}", the limit is {refusal.limit}'
            )


def blocked(vif: PluggedVif) -> Iterator[str]:
    """The states that the frontend waits for, and why its backend does not answer the state it
    shows."""
    front, back = vif.frontend, vif.backend
    if front is not None:
        for row in front.rules.rows:
            if row.phase is front.phase and FrontendAction.CONNECT in row.actions:
                wanted = " or ".join(map(state_name, sorted(row.backend)))
                own = state_name(front.dev.state)
                if front.dev.state in row.own:
                    yield f"the {front.rules.name} frontend, {own}, waits for {wanted}"
    if front is not None and back is not None:
        answer = back.rules.row(front.dev.state)
        if answer.action is BackendAction.NOTHING:
            ends = f"{state_name(front.dev.state)} by the {back.rules.name} backend"
            yield f"nothing is done about {ends}: {answer.why}"


def unattached(vif: PluggedVif) -> Iterator[str]:
    """The rings and channels that the frontend has published and the backend's domain has not
    attached, as the hypervisor knows them, when both ends show Connected."""
    if not (vif.shows_connected(vif.paths.frontend) and vif.shows_connected(vif.paths.backend)):
        return
    try:
        left = shared(vif.guest.host.machine, vif.seen)
    except XenbusError:
        return  # what the keys lack is another matter
    if all(one.use is Use.OFFERED for one in left):
        yield (
            f"the backend has not connected to the rings of the frontend that is Connected: "
            f"{vif.paths.frontend}/state = {state_name(XenbusState.Connected)}"
        )
        return
    for one in left:
        if one.use is Use.OFFERED:
            yield (
                f"domain {vif.owner.domid} does not use the {one.what} of the frontend that is "
                f"Connected: {one.node} = {one.number}"
            )
        elif one.use is Use.NOTHING:
            yield (
                f"domain {vif.guest.domid} has no such {one.what} for domain {vif.owner.domid}: "
                f"{one.node} = {one.number}"
            )
