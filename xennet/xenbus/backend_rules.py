"""The life of a backend as tables: what a row says, then the rows of Linux and of FreeBSD's xnb.

:mod:`xennet.xenbus.tables` explains what they are for; :mod:`xennet.xenbus.backend` obeys them.
Sources of the rows: Linux xen-netback (netback_probe, frontend_changed, set_backend_state,
netback_remove) and FreeBSD xnb (xnb_attach, xnb_frontend_changed, xnb_shutdown, xnb_attach_failed)
on its xenbusb_back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from attrs import Factory, field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.xenbus.state import ALL_STATES

# -- what the frontend's state asks for ------------------------------------------------------------


class BackendAction(Enum):
    """What a backend does about a state of its frontend."""

    NOTHING = "nothing"
    WALK = "walk to the target"
    RECONFIGURE = "reconfigure, then show Reconfigured"
    FATAL = "fatal error"


class Afterwards(Enum):
    """What becomes of the backend device once it has walked."""

    KEEP = "keep the device"
    UNPLUG_IF_OFFLINE = "remove hotplug-status if online is not 1"
    REMOVE_IF_OFFLINE = "remove the device if online is not 1"
    REMOVE = "remove the device"


class BackendRow(NamedTuple):
    """The backend's answer to one frontend state.

    A backend whose own state is one of ``stay`` does not walk, and does not reconfigure.
    """

    frontend: XenbusState
    action: BackendAction
    target: XenbusState | None
    afterwards: Afterwards
    why: str
    stay: frozenset[XenbusState] = frozenset()


# -- how it gets to the target ---------------------------------------------------------------------


class Step(NamedTuple):
    """One allowed change of a backend's state."""

    origin: XenbusState
    destination: XenbusState
    why: str


Hops = Mapping[tuple[XenbusState, XenbusState], XenbusState]


def next_hops(steps: Iterable[Step]) -> Hops:
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


# -- probe, its failure, removal -------------------------------------------------------------------


class Do(Enum):
    """One thing that a backend does when its device comes or goes."""

    SHOW = "show the state"
    SHOW_AT_LEAST = "show the state unless it is further already"
    ADVERTISE = "ask the driver for its features and publish them"
    REQUIRE = "read the node, which must be there"
    REQUIRE_NUMBER = "read the node, which must be a number"
    WRITE = "write the node"
    REMOVE = "remove the node"
    FATAL = "leave an error node, show Closing"
    DISCONNECT = "let the driver disconnect"
    CONFIRM_CLOSED = "show Closed if the toolstack has written Closing"


class Task(NamedTuple):
    """``do`` with the ``state``, or with the ``node`` and its ``value``, that it needs.

    ``{error}`` in a value stands for what went wrong.
    """

    do: Do
    why: str
    state: XenbusState = XenbusState.Unknown
    node: str = ""
    value: str = ""


class Teardown(Enum):
    """When a driver's ``disconnect`` is called."""

    PAIRED = "once for each connect, one that failed included; also before a fatal error is shown"
    BLIND = "at every Closing and Closed of the frontend, connected or not; not for fatal errors"


@frozen
class BackendRules:
    """How one kind of backend lives.

    ``rows`` answer frontend states, ``steps`` are the state changes on the way to their targets.
    ``probe``, ``probe_failed`` and ``removal`` are done in order. ``script_writes_status``: a
    hotplug script writes hotplug-status, and Connected is held back until it is "connected"; else
    the driver's probe writes it and nothing waits. ``unreadable`` is what the frontend's state
    counts as when its node is missing or holds no number.
    """

    name: str
    rows: tuple[BackendRow, ...] = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)
    probe: tuple[Task, ...] = field(repr=False)
    probe_failed: tuple[Task, ...] = field(repr=False)
    removal: tuple[Task, ...] = field(repr=False)
    teardown: Teardown = field(repr=False)
    script_writes_status: bool = field(repr=False)
    unreadable: XenbusState = field(repr=False)
    #: (state, target) -> state to enter next.
    next: Hops = field(
        init=False, repr=False, eq=False, default=Factory(lambda s: next_hops(s.steps), True)
    )
    _row: dict[int, BackendRow] = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda s: {int(row.frontend): row for row in s.rows}, True),
    )

    def row(self, frontend_state: int) -> BackendRow:
        """The row for a frontend's state; a fatal one for numbers without a row (9, -1 ...)."""
        return self._row.get(frontend_state, _UNEXPECTED)

    def walk(self, state: XenbusState, target: XenbusState) -> list[XenbusState]:
        """All states entered on the way from ``state`` to ``target``: (4, 2) -> [5, 6, 2]."""
        walk = []
        while state != target:
            state = self.next[state, target]
            walk.append(state)
        return walk


_UNEXPECTED = BackendRow(
    XenbusState.Unknown,
    BackendAction.FATAL,
    None,
    Afterwards.KEEP,
    "no frontend state known to a backend",
)


# -- the two kinds of backends ---------------------------------------------------------------------

S = XenbusState


def _walk(
    frontend: XenbusState,
    target: XenbusState,
    why: str,
    afterwards: Afterwards = Afterwards.KEEP,
    stay: frozenset[XenbusState] = frozenset(),
) -> BackendRow:
    return BackendRow(frontend, BackendAction.WALK, target, afterwards, why, stay)


def _stay(frontend: XenbusState, action: BackendAction, why: str) -> BackendRow:
    return BackendRow(frontend, action, None, Afterwards.KEEP, why)


LINUX_BACKEND = BackendRules(
    name="linux",
    rows=(
        _walk(
            S.Unknown,
            S.Closed,
            "the frontend's directory is gone or its state is no number: it will not come back",
            Afterwards.REMOVE,
        ),
        _walk(S.Initialising, S.InitWait, "a frontend starts (again): it may read features"),
        _stay(
            S.Initialised,
            BackendAction.NOTHING,
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
            stay=ALL_STATES - {S.Connected, S.Reconfigured},
        ),
    ),
    steps=(
        Step(S.Initialising, S.InitWait, "features are in the store"),
        Step(S.Initialising, S.Closed, "closed before anything began"),
        Step(S.InitWait, S.Connected, "rings are mapped"),
        Step(S.InitWait, S.Closing, "closed before the frontend connected"),
        Step(S.Connected, S.Closing, "rings are unmapped"),
        Step(S.Closing, S.Closed, "the frontend sees both, one after the other"),
        Step(S.Closed, S.InitWait, "a new start with the same device"),
        Step(S.Closed, S.Closing, "a frontend that closes twice (xenvif's first cycle) sees it"),
    ),
    probe=(
        Task(Do.ADVERTISE, "one transaction, then the extras"),
        Task(
            Do.SHOW,
            "a frontend may read them; also when bound again, whatever state it finds",
            state=S.InitWait,
        ),
        Task(Do.REQUIRE, "what plugs the interface in", node="script"),
        Task(Do.REQUIRE_NUMBER, "which interface it is", node="handle"),
    ),
    probe_failed=(Task(Do.FATAL, "the device stays until its directory vanishes"),),
    removal=(
        Task(Do.REMOVE, "the script's answer is about this life only", node="hotplug-status"),
        Task(Do.DISCONNECT, "unmap the rings, end the watches of rate and multicast"),
        Task(Do.CONFIRM_CLOSED, "lets a toolstack go on that has forced the state (xenbus core)"),
    ),
    teardown=Teardown.PAIRED,
    script_writes_status=True,
    unreadable=S.Unknown,
)

_XNB_UNKNOWN = "only states 1, 3, 4, 5 and 6 are known (C8)"

XNB_BACKEND = BackendRules(
    name="xnb",
    rows=(
        _stay(S.Unknown, BackendAction.FATAL, _XNB_UNKNOWN),
        _stay(
            S.Initialising,
            BackendAction.NOTHING,
            "InitWait is shown once, at attach: a frontend that starts over never sees it again",
        ),
        _stay(S.InitWait, BackendAction.FATAL, _XNB_UNKNOWN),
        _walk(S.Initialised, S.Connected, "the frontend's keys are complete: map the rings"),
        _walk(S.Connected, S.Connected, "also from Closing and Closed, with no new InitWait (C4)"),
        _walk(
            S.Closing,
            S.Closing,
            "shut down, connected or not (C5)",
            stay=frozenset({S.Closing, S.Closed}),
        ),
        _walk(
            S.Closed,
            S.Closed,
            "shut down, then show it; the device stays for the toolstack to remove",
            Afterwards.UNPLUG_IF_OFFLINE,
        ),
        _stay(S.Reconfiguring, BackendAction.FATAL, _XNB_UNKNOWN),
        _stay(S.Reconfigured, BackendAction.FATAL, _XNB_UNKNOWN),
    ),
    steps=(
        Step(S.Initialising, S.InitWait, "features are in the store"),
        Step(S.InitWait, S.Connected, "rings are mapped"),
        Step(S.InitWait, S.Closing, "shut down before the frontend connected"),
        Step(S.Connected, S.Closing, "rings are unmapped"),
        Step(S.Closing, S.Closed, "the frontend is Closed"),
        Step(S.Closing, S.Connected, "the frontend connects again (C4)"),
        Step(S.Closed, S.Connected, "the frontend connects again (C4)"),
    ),
    probe=(
        Task(Do.WRITE, "no script is needed", node="hotplug-status", value="connected"),
        Task(Do.ADVERTISE, "one transaction"),
        Task(Do.SHOW, "ready for a frontend", state=S.InitWait),
    ),
    probe_failed=(
        Task(Do.WRITE, "as a script would", node="hotplug-error", value="{error}"),
        Task(Do.WRITE, "the toolstack waits for it", node="hotplug-status", value="error"),
        Task(Do.FATAL, "waiting for a frontend will not help"),
        Task(Do.WRITE, "the toolstack may take it away", node="online", value="0"),
        Task(Do.DISCONNECT, "detach"),
    ),
    removal=(
        Task(Do.DISCONNECT, "shut down, connected or not (C5)"),
        Task(Do.SHOW_AT_LEAST, "the frontend learns that its backend goes", state=S.Closing),
    ),
    teardown=Teardown.BLIND,
    script_writes_status=False,
    unreadable=S.Closed,
)

#: By name.
BACKENDS: dict[str, BackendRules] = {rules.name: rules for rules in (LINUX_BACKEND, XNB_BACKEND)}
