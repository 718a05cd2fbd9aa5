"""Why both ends of a vif stand still before they are connected, by the rules of each."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.link.residents import PluggedVif
from xennet.xenbus.backend_rules import BackendAction
from xennet.xenbus.frontend_rules import FrontendAction
from xennet.xenbus.state import state_name


def standstill(vif: PluggedVif) -> Iterator[str]:
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
