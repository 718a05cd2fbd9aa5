"""What the typed events of a machine (xennet.observe) are in a recording, where that is told by the
event alone; the others need the recorder's memory of what came before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from xennet.observe import (
    DefectStruck,
    DomainCreated,
    DomainDestroyed,
    DomainShutdown,
    EventDelivered,
    FrameFiltered,
    ProgramCall,
    StateChanged,
    VirqRaised,
)
from xennet.trace.stream import Event

#: Kind of an event, its text, and the members of that kind.
Told: TypeAlias = tuple[str, str, Event]


def _delivered(event: EventDelivered) -> Told:
    text = f"upcall for port {event.port}" + ("" if event.handled else ", without a handler")
    return "upcall", text, _members(event)


def _state(event: StateChanged) -> Told:
    text = f"{event.path}: state {event.old} becomes {event.new}"
    return "state", text, {"path": event.path, "old": event.old, "new": event.new}


def _domain(event: DomainCreated | DomainShutdown | DomainDestroyed) -> Told:
    what = type(event).__name__.removeprefix("Domain").lower()
    text = f"domain {event.domid} is {'shut down' if what == 'shutdown' else what}"
    return "domain", text, {"what": what, **_members(event)}


def _filtered(event: FrameFiltered) -> Told:
    size, path = len(event.data), event.frontend
    text = f"a frame of {size} bytes is not for {path}: nobody there asked for its address"
    members: Event = {"end": "host", "direction": "filtered", "path": path}
    return "frame", text, members | {"size": size, "bytes": event.data.hex()}


def _defect(event: DefectStruck) -> Told:
    members: Event = {"rule": event.row, "what": event.what, "otherend_id": event.otherend_id}
    return "defect", f"defect {event.row} struck: {event.what}", members


def _virq(event: VirqRaised) -> Told:
    text = f"virtual interrupt {event.virq} is raised at port {event.port}"
    return "virq", text, _members(event)


def _program(event: ProgramCall) -> Told:
    return "program", f"program {event.pid}: {event.call} of {event.device}", _members(event)


def _members(event: Any) -> Event:
    """What the event has besides its domain."""
    return {key: value for key, value in attrs.asdict(event).items() if key != "domid"}


#: Type of a typed event -> what is recorded of it.
TOLD: dict[type, Callable[[Any], Told]] = {
    EventDelivered: _delivered,
    StateChanged: _state,
    DomainCreated: _domain,
    DomainShutdown: _domain,
    DomainDestroyed: _domain,
    FrameFiltered: _filtered,
    DefectStruck: _defect,
    VirqRaised: _virq,
    ProgramCall: _program,
}
