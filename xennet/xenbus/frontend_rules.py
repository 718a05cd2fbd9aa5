"""What a frontend's life is made of: the kinds of rows that :mod:`xennet.xenbus.tables` fills."""

from __future__ import annotations

from enum import Enum

from attrs import Factory, field, frozen

from xennet.abi.xenbus import XenbusState


class Phase(Enum):
    """Which rows a frontend follows just now."""

    IDLE = "no driver: not started, unloaded or removed"
    STARTING = "waits for a backend that is ready for a start"
    RUNNING = "answers the backend"
    RESUMING = "woke up in a restored domain and waits for a backend that starts anew"
    RECONFIGURING = "waits for the backend to take over changed nodes"
    UNLOADING = "closes, and ends when the backend has closed"


class FrontendAction(Enum):
    """What a frontend does about a state of its backend."""

    SHOW_INITIALISING = "show Initialising"
    SHOW_CLOSING = "show Closing"
    SHOW_CLOSED = "show Closed"
    SHOW_CONNECTED = "show Connected"
    CONNECT = "set up rings and connect"
    ANNOUNCE = "announce itself on the network"
    DISCONNECT = "end grants and channels"
    RECONFIGURED = "report success to who asked for it"
    RUN = "answer the backend from now on, beginning with its present state"
    UNPLUG = "take it for a hot-unplug: forget the device"
    END = "end"


@frozen
class FrontendRow:
    """What to do, in order, in ``phase`` when the backend's state is one of ``backend`` and the
    own state one of ``own``."""

    phase: Phase
    backend: frozenset[XenbusState]
    own: frozenset[XenbusState]
    actions: tuple[FrontendAction, ...]
    why: str


class ConnectDo(Enum):
    """One thing that a frontend does to connect."""

    SET_UP = "read the backend's features, make rings, grants and channels"
    PUBLISH = "publish the keys in one transaction"
    POST = "post buffers and notify once"
    SHOW = "show the state"
    LATER = "let others run; go on unless the state was changed meanwhile"
    LOOK = "look at the backend's state, which may have been Connected for a while"


@frozen
class ConnectStep:
    """One step of connecting; ``state`` is what SHOW shows."""

    do: ConnectDo
    why: str
    state: XenbusState = XenbusState.Unknown


@frozen
class FrontendRules:
    """How one kind of frontend lives.

    Of each phase and pair of states there is at most one row; no row means: wait. ``connect`` is
    done in order. ``unreadable`` is what the backend's state counts as when its node is missing or
    holds no number.
    """

    name: str
    rows: tuple[FrontendRow, ...] = field(repr=False)
    connect: tuple[ConnectStep, ...] = field(repr=False)
    unreadable: XenbusState = field(repr=False)
    _actions: dict[tuple[Phase, int, XenbusState], tuple[FrontendAction, ...]] = field(
        init=False, repr=False, eq=False, default=Factory(lambda s: _index(s.rows), True)
    )

    def actions(
        self, phase: Phase, backend_state: int, own: XenbusState
    ) -> tuple[FrontendAction, ...]:
        """What to do; nothing for pairs without a row and for numbers that are no state."""
        return self._actions.get((phase, backend_state, own), ())


def _index(
    rows: tuple[FrontendRow, ...],
) -> dict[tuple[Phase, int, XenbusState], tuple[FrontendAction, ...]]:
    return {
        (row.phase, int(backend), own): row.actions
        for row in rows
        for backend in row.backend
        for own in row.own
    }
