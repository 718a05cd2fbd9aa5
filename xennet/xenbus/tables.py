"""The life cycle of a vif as tables.

Everything that the two engines (:mod:`xennet.xenbus.backend`, :mod:`xennet.xenbus.frontend`) decide
from a state is a row here, with the reason beside it; documentation is generated from the rows.
They are the rules of Linux xen-netback (frontend_changed, set_backend_state) and xen-netfront
(netback_changed, xennet_bus_close) with xenbus_reset_frontend for a frontend that starts over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum

from attrs import frozen

from xennet.abi.xenbus import XenbusState

S = XenbusState
ALL_STATES: frozenset[XenbusState] = frozenset(XenbusState)


# -- backend: what the frontend's state asks for ---------------------------------------------------


class BackendAction(Enum):
    """What a backend does about a state of its frontend."""

    NOTHING = "nothing"
    WALK = "walk to the target"
    RECONFIGURE = "reconfigure, then show Reconfigured"
    FATAL = "fatal error"


class Afterwards(Enum):
    """What becomes of the backend device once it has walked."""

    KEEP = "keep the device"
    REMOVE_IF_OFFLINE = "remove the device if online is not 1"
    REMOVE = "remove the device"


@frozen
class BackendRow:
    """The backend's answer to one frontend state."""

    frontend: XenbusState
    action: BackendAction
    target: XenbusState | None
    afterwards: Afterwards
    why: str


def _walk(
    frontend: XenbusState, target: XenbusState, why: str, afterwards: Afterwards = Afterwards.KEEP
) -> BackendRow:
    return BackendRow(frontend, BackendAction.WALK, target, afterwards, why)


BACKEND_ROWS: tuple[BackendRow, ...] = (
    _walk(
        S.Unknown,
        S.Closed,
        "the frontend's directory is gone or its state is no number: it will not come back",
        Afterwards.REMOVE,
    ),
    _walk(S.Initialising, S.InitWait, "a frontend starts, perhaps after closing: offer features"),
    BackendRow(
        S.Initialised,
        BackendAction.NOTHING,
        None,
        Afterwards.KEEP,
        "Linux frontends skip this state and Linux backends wait for Connected",
    ),
    _walk(S.Connected, S.Connected, "the frontend's keys are complete: map the rings"),
    _walk(S.Closing, S.Closing, "unmap everything, so that the frontend can end its grants"),
    _walk(
        S.Closed,
        S.Closed,
        "also when the frontend skipped Closing (mirage-net-xen PR 89)",
        Afterwards.REMOVE_IF_OFFLINE,
    ),
    BackendRow(
        S.Reconfiguring,
        BackendAction.RECONFIGURE,
        None,
        Afterwards.KEEP,
        "XDP headroom changed; a driver that cannot reconfigure treats it as an unknown state",
    ),
)

_BACKEND_ROW = {int(row.frontend): row for row in BACKEND_ROWS}
_UNEXPECTED = BackendRow(
    S.Unknown, BackendAction.FATAL, None, Afterwards.KEEP, "no frontend state known to a backend"
)


def backend_row(frontend_state: int) -> BackendRow:
    """The row for a frontend's state; the fatal row for numbers without one (8, 9, -1 ...)."""
    return _BACKEND_ROW.get(frontend_state, _UNEXPECTED)


# -- backend: how it gets to the target ------------------------------------------------------------


@frozen
class Step:
    """One allowed change of a backend's state."""

    origin: XenbusState
    destination: XenbusState
    why: str


BACKEND_STEPS: tuple[Step, ...] = (
    Step(S.Initialising, S.InitWait, "features are in the store"),
    Step(S.Initialising, S.Closed, "closed before anything began"),
    Step(S.InitWait, S.Connected, "rings are mapped"),
    Step(S.InitWait, S.Closing, "closed before the frontend connected"),
    Step(S.Connected, S.Closing, "rings are unmapped"),
    Step(S.Closing, S.Closed, "the frontend sees both, one after the other"),
    Step(S.Closed, S.InitWait, "a new start with the same device"),
    Step(S.Closed, S.Closing, "a frontend that closes twice (win-xenvif's first cycle) sees it"),
)


def next_hops(steps: Iterable[Step]) -> dict[tuple[XenbusState, XenbusState], XenbusState]:
    """First step of the shortest walk for each (state, target) pair that ``steps`` can reach.

    Of equally short walks the one whose steps are listed first wins, so 1 -> 5 goes through 2.
    """
    reverse: dict[XenbusState, list[XenbusState]] = {}
    forward: dict[XenbusState, list[XenbusState]] = {}
    for step in steps:
        forward.setdefault(step.origin, []).append(step.destination)
        reverse.setdefault(step.destination, []).append(step.origin)
    hops: dict[tuple[XenbusState, XenbusState], XenbusState] = {}
    for target in reverse:
        distance = {target: 0}
        queue = deque([target])
        while queue:
            here = queue.popleft()
            for origin in reverse.get(here, ()):
                if origin not in distance:
                    distance[origin] = distance[here] + 1
                    queue.append(origin)
        for origin in distance:
            if origin != target:
                hops[origin, target] = next(
                    hop for hop in forward[origin] if distance.get(hop) == distance[origin] - 1
                )
    return hops


#: (state, target) -> state to enter next.
BACKEND_NEXT = next_hops(BACKEND_STEPS)


def backend_walk(state: XenbusState, target: XenbusState) -> list[XenbusState]:
    """All states entered on the way from ``state`` to ``target``: (4, 2) -> [5, 6, 2]."""
    walk = []
    while state != target:
        state = BACKEND_NEXT[state, target]
        walk.append(state)
    return walk


# -- frontend: what the backend's state asks for ---------------------------------------------------


class FrontendAction(Enum):
    """What a frontend does about a state of its backend."""

    NOTHING = "nothing"
    CONNECT = "set up rings, publish keys, go to Connected"
    ANNOUNCE = "announce itself on the network"
    CLOSE = "go to Closed"


@frozen
class FrontendRow:
    """The frontend's answer to one backend state while its own state is one of ``own``."""

    backend: XenbusState
    own: frozenset[XenbusState]
    action: FrontendAction
    why: str


FRONTEND_ROWS: tuple[FrontendRow, ...] = (
    FrontendRow(
        S.InitWait,
        frozenset({S.Initialising}),
        FrontendAction.CONNECT,
        "features can be read; any other own state means that this start was answered already",
    ),
    FrontendRow(
        S.Connected,
        ALL_STATES,
        FrontendAction.ANNOUNCE,
        "the backend forwards packets now: gratuitous ARP",
    ),
    FrontendRow(
        S.Closing,
        ALL_STATES,
        FrontendAction.CLOSE,
        "the backend closes, or the toolstack unplugs the device",
    ),
    FrontendRow(
        S.Closed,
        ALL_STATES - {S.Closed},
        FrontendAction.CLOSE,
        "its Closing was missed: watch events tell that, not what, changed",
    ),
)

_FRONTEND_ACTION = {(int(row.backend), own): row.action for row in FRONTEND_ROWS for own in row.own}


def frontend_action(backend_state: int, own: XenbusState) -> FrontendAction:
    """The frontend's answer; NOTHING for 0, 1, 3, 7, 8 and for numbers that are no state."""
    return _FRONTEND_ACTION.get((backend_state, own), FrontendAction.NOTHING)


# -- frontend: starting over -----------------------------------------------------------------------

#: Backend state left behind by an earlier driver -> own state that moves it on
#: (xenbus_reset_frontend). A backend in none of them is ready for, or busy with, a normal start.
FRONTEND_RESET: dict[int, XenbusState] = {
    S.Connected: S.Closing,  # an earlier driver (network boot, kexec) left it connected
    S.Closing: S.Closed,  # half closed
    S.Closed: S.Initialising,  # closed by the driver that was unloaded: a normal new start
}

# -- frontend: unloading ---------------------------------------------------------------------------


class UnloadStep(Enum):
    """How an unloading frontend goes on when its backend has answered."""

    WAIT = "wait"
    WRITE_CLOSED = "go to Closed"
    DONE = "end"


#: (own state, backend state) -> next step of an unload (xennet_bus_close); all others wait.
FRONTEND_UNLOAD: dict[tuple[int, int], UnloadStep] = {
    (S.Closing, S.Closing): UnloadStep.WRITE_CLOSED,  # it has unmapped the rings
    (S.Closing, S.Closed): UnloadStep.DONE,  # it went all the way by itself
    (S.Closing, S.Unknown): UnloadStep.DONE,  # it is gone
    (S.Closed, S.Closed): UnloadStep.DONE,
    (S.Closed, S.Unknown): UnloadStep.DONE,
}
