"""What a backend's life is made of: the kinds of rows that :mod:`xennet.xenbus.tables` fills."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import Factory, field, frozen

from xennet.abi.xenbus import XenbusState

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


@frozen
class BackendRow:
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


@frozen
class Step:
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


@frozen
class Task:
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
