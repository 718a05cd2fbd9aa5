"""Why both ends of a vif stand still before they are connected: the store's quotas, and the rules
of each end."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.host.domains import PluggedVif
from xennet.xenbus.backend_rules import BackendAction
from xennet.xenbus.frontend_rules import FrontendAction
from xennet.xenbus.state import state_name


def full_quotas(vif: PluggedVif) -> Iterator[str]:
    """Quotas of the store that have stood against requests of the two domains.

    An end learns an errno at most, and may not be able to write even that into its error node.
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
    """What the frontend waits for, and why its backend does not answer the state that it shows."""
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
