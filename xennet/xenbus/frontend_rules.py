"""The life of a frontend as tables: what a row says, then the rows of Linux, FreeBSD and Windows.

:mod:`xennet.xenbus.tables` explains what they are for; :mod:`xennet.xenbus.frontend` obeys them.
Sources of the rows: Linux xen-netfront (netfront_probe, netback_changed, xennet_bus_close,
netfront_resume) with xenbus_reset_frontend and xenbus_dev_resume; FreeBSD netfront; Windows xenvif.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from attrs import Factory, field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.xenbus.state import ALL_STATES


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


class FrontendRow(NamedTuple):
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


class ConnectStep(NamedTuple):
    """One step of connecting; ``state`` is what SHOW shows."""

    do: ConnectDo
    why: str
    state: XenbusState = XenbusState.Unknown


@frozen(eq=False)
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


# -- the three kinds of frontends ------------------------------------------------------------------

A = FrontendAction
S = XenbusState
_INITIALISING = frozenset({S.Initialising})
_CLOSING = frozenset({S.Closing})
_CLOSED = frozenset({S.Closed})
_GONE = frozenset({S.Unknown, S.Closed})

_RESUME = FrontendRow(
    Phase.RESUMING,
    frozenset({S.InitWait}),
    ALL_STATES,
    (A.RUN,),
    "a fresh backend, or the old one which has walked there; whatever else it shows is older",
)
_RECONFIGURE = (
    FrontendRow(
        Phase.RECONFIGURING,
        frozenset({S.Reconfigured}),
        ALL_STATES,
        (A.SHOW_CONNECTED, A.RECONFIGURED, A.RUN),
        "exactly this state answers a Reconfiguring",
    ),
    FrontendRow(
        Phase.RECONFIGURING,
        frozenset({S.Unknown, S.Closing, S.Closed}),
        ALL_STATES,
        (A.RUN,),
        "the backend closes, or does not know Reconfiguring: nothing was reconfigured",
    ),
)
_UNLOAD = (
    FrontendRow(
        Phase.UNLOADING,
        _CLOSING,
        _CLOSING,
        (A.SHOW_CLOSED,),
        "the backend has unmapped the rings",
    ),
    FrontendRow(
        Phase.UNLOADING,
        _GONE,
        ALL_STATES,
        (A.SHOW_CLOSED, A.END),
        "it has closed, perhaps all the way by itself, or it is gone",
    ),
)
_CONNECT = FrontendRow(
    Phase.RUNNING,
    frozenset({S.InitWait}),
    _INITIALISING,
    (A.CONNECT,),
    "features can be read; any other own state means that this start was answered already",
)
_ANNOUNCE = FrontendRow(
    Phase.RUNNING,
    frozenset({S.Connected}),
    ALL_STATES,
    (A.ANNOUNCE,),
    "the backend forwards packets now: gratuitous ARP",
)
_CLOSE = FrontendRow(
    Phase.RUNNING,
    _CLOSING,
    ALL_STATES,
    (A.SHOW_CLOSED,),
    "the backend closes, or the toolstack unplugs the device; it may still map our rings",
)
_ROWS = (
    FrontendRow(
        Phase.STARTING,
        frozenset({S.Connected}),
        ALL_STATES,
        (A.SHOW_CLOSING,),
        "an earlier driver (network boot, kexec) left it connected (win-xenvif PR 36)",
    ),
    FrontendRow(
        Phase.STARTING, _CLOSING, ALL_STATES, (A.SHOW_CLOSED,), "an earlier driver half closed it"
    ),
    FrontendRow(
        Phase.STARTING,
        _CLOSED,
        ALL_STATES,
        (A.SHOW_INITIALISING,),
        "closed by the driver that was unloaded: ask for a new start, wait for the answer",
    ),
    FrontendRow(
        Phase.STARTING,
        ALL_STATES - {S.Unknown, S.Connected, S.Closing, S.Closed},
        ALL_STATES,
        (A.SHOW_INITIALISING, A.RUN),
        "ready for, or busy with, a start",
    ),
    _CONNECT,
    _ANNOUNCE,
    _CLOSE,
    FrontendRow(
        Phase.RUNNING,
        _CLOSED,
        ALL_STATES,
        (A.DISCONNECT, A.SHOW_CLOSED),
        "nothing is mapped any more; if its Closing was missed, this is the first we see",
    ),
    _RESUME,
    *_RECONFIGURE,
    *_UNLOAD,
)

LINUX_FRONTEND = FrontendRules(
    name="linux",
    rows=_ROWS,
    connect=(
        ConnectStep(ConnectDo.SET_UP, "needs nothing but the backend's features"),
        ConnectStep(ConnectDo.PUBLISH, "complete before the backend looks"),
        ConnectStep(ConnectDo.POST, "the backend finds them when it maps the rings"),
        ConnectStep(ConnectDo.SHOW, "directly: Linux never uses Initialised", S.Connected),
    ),
    unreadable=S.Unknown,
)

FREEBSD_FRONTEND = FrontendRules(
    name="freebsd",
    rows=_ROWS,
    connect=(
        ConnectStep(ConnectDo.SET_UP, "needs nothing but the backend's features"),
        ConnectStep(ConnectDo.PUBLISH, "complete before the backend looks"),
        ConnectStep(
            ConnectDo.SHOW, "xnb connects at this, a Linux backend waits for more", S.Initialised
        ),
        ConnectStep(ConnectDo.LATER, "the backend may be quicker than we"),
        ConnectStep(ConnectDo.POST, "the rings may be mapped already"),
        ConnectStep(ConnectDo.SHOW, "what a Linux backend waits for", S.Connected),
        ConnectStep(ConnectDo.LOOK, "xnb was Connected before us and will not say so again"),
    ),
    unreadable=S.Closed,
)

WINDOWS_FRONTEND = FrontendRules(
    name="windows",
    rows=(
        FrontendRow(
            Phase.STARTING,
            ALL_STATES - {S.Unknown},
            ALL_STATES - _CLOSING - _CLOSED,
            (A.SHOW_CLOSING,),
            "a whole close cycle before the first start, whatever was there before",
        ),
        FrontendRow(
            Phase.STARTING,
            _CLOSING,
            _CLOSING,
            (A.SHOW_CLOSED,),
            "the backend must answer: one that sits in InitWait wedges the guest "
            "(mirage-net-xen PR 121)",
        ),
        FrontendRow(
            Phase.STARTING,
            _CLOSED,
            _CLOSING | _CLOSED,
            (A.SHOW_CLOSED, A.SHOW_INITIALISING, A.RUN),
            "the cycle is complete: start",
        ),
        _CONNECT,
        _ANNOUNCE,
        _CLOSE,
        FrontendRow(
            Phase.RUNNING,
            _CLOSED,
            ALL_STATES - _INITIALISING,
            (A.DISCONNECT, A.SHOW_CLOSED),
            "nothing is mapped any more; in Initialising we wait for it to leave this state",
        ),
        FrontendRow(
            Phase.RUNNING,
            frozenset({S.Unknown}),
            ALL_STATES,
            (A.UNPLUG,),
            "a backend directory that vanishes is a hot-unplug (mirage-net-xen PR 105)",
        ),
        _RESUME,
        *_RECONFIGURE,
        *_UNLOAD,
    ),
    connect=LINUX_FRONTEND.connect,
    unreadable=S.Unknown,
)

#: By name.
FRONTENDS: dict[str, FrontendRules] = {
    rules.name: rules for rules in (LINUX_FRONTEND, FREEBSD_FRONTEND, WINDOWS_FRONTEND)
}
