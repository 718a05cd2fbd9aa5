"""The life cycle of a vif as tables: two kinds of backends, three kinds of frontends.

Everything that the two engines (:mod:`xennet.xenbus.backend`, :mod:`xennet.xenbus.frontend`) decide
from a state is a row here, with the reason beside it; documentation is generated from the rows.
Sources: Linux xen-netback (netback_probe, frontend_changed, set_backend_state, netback_remove) and
xen-netfront (netfront_probe, netback_changed, xennet_bus_close, netfront_resume) with
xenbus_reset_frontend and xenbus_dev_resume; FreeBSD xnb (xnb_attach, xnb_frontend_changed,
xnb_shutdown, xnb_attach_failed) on its xenbusb_back; FreeBSD netfront; Windows xenvif.
"""

from __future__ import annotations

from xennet.abi.xenbus import XenbusState
from xennet.xenbus.backend_rules import (
    Afterwards,
    BackendAction,
    BackendRow,
    BackendRules,
    Do,
    Step,
    Task,
    Teardown,
)
from xennet.xenbus.frontend_rules import (
    ConnectDo,
    ConnectStep,
    FrontendAction,
    FrontendRow,
    FrontendRules,
    Phase,
)

__all__ = [
    "ALL_STATES",
    "BACKENDS",
    "FREEBSD_FRONTEND",
    "FRONTENDS",
    "LINUX_BACKEND",
    "LINUX_FRONTEND",
    "WINDOWS_FRONTEND",
    "XNB_BACKEND",
    "BackendRules",
    "FrontendRules",
]

S = XenbusState
ALL_STATES: frozenset[XenbusState] = frozenset(XenbusState)


# -- backends --------------------------------------------------------------------------------------


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
        _walk(S.Initialising, S.InitWait, "a frontend starts, perhaps after closing: offer it"),
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


# -- frontends -------------------------------------------------------------------------------------

A = FrontendAction
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
