"""Why a vif passes no traffic, as far as its host's store tells: for a dump of a real host's store.

Beside the checks of every store (xennet.lifecycle.store_checks) are those that a living host's
drivers would answer: whom each end takes for the other one, who has to move next by the rules of
Linux' drivers (xennet.xenbus.tables), who may read what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from xennet.abi.xenbus import XenbusState
from xennet.interface import StoreTransaction
from xennet.lifecycle.store_checks import (
    both_connected,
    directories,
    ends,
    errors,
    hotplug,
    ring_keys,
    states,
)
from xennet.xenbus.backend_rules import LINUX_BACKEND, BackendAction
from xennet.xenbus.frontend_rules import LINUX_FRONTEND, FrontendAction, Phase
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifDirectories, VifPaths
from xennet.xenbus.scan import scan_unsigned
from xennet.xenbus.state import ALL_STATES, read_state, state_name
from xennet.xenstore.errors import XsError
from xennet.xenstore.path import domain_path

S = XenbusState
#: Whether a domain may read a node, by path and domid; None: not known.
MayRead = Callable[[str, int], "bool | None"]

_DOMAINS = "/local/domain"
#: Types of backends whose frontends are vifs.
_BACKEND_TYPES = ("vif", "qnic")
#: A backend's directory: its domain, its type, the frontend's domain, the handle.
_BACKEND = re.compile(r"/local/domain/(\d+)/backend/([A-Za-z0-9_@-]+)/(\d+)/(\d+)")


def vifs_of(store: StoreTransaction) -> list[VifPaths]:
    """The vifs that any node of ``store`` speaks of, by guest and handle: those with a directory of
    either end."""
    found: dict[VifPaths, None] = {}
    for domid in _numbers(store, _DOMAINS):
        for kind in _BACKEND_TYPES:
            backends = f"{domain_path(domid)}/backend/{kind}"
            for guest in _numbers(store, backends):
                for handle in _numbers(store, f"{backends}/{guest}"):
                    found[VifPaths(guest, handle, domid, kind)] = None
        for handle in _numbers(store, f"{domain_path(domid)}/device/vif"):
            found[_named_by_frontend(store, domid, handle)] = None
    return sorted(found, key=lambda vif: (vif.frontend_domid, vif.handle, vif.backend_domid))


def why_store(seen: VifDirectories, may_read: MayRead) -> list[str]:
    """The reasons in the store why the vif passes no traffic, or not all, one line each."""
    found = [
        reason
        for check in (directories, states, hotplug, errors, pointers, features, ring_keys)
        for reason in check(seen)
    ]
    return [*found, *permissions(seen, may_read), *turn(seen)]


def pointers(seen: VifDirectories) -> Iterator[str]:
    """Each directory names the other one and its domain, and the backend is not being taken
    away."""
    paths = seen.paths
    for _, directory in ends(seen):
        mine = directory.path == paths.frontend
        other, node = (paths.backend, "backend") if mine else (paths.frontend, "frontend")
        domid = paths.backend_domid if mine else paths.frontend_domid
        if not directory.exists():
            continue
        for name, wanted in ((node, other), (f"{node}-id", str(domid))):
            value = directory.optional_text(name, "(none)")
            if value != wanted:
                yield f'{directory.node(name)} = "{value}", and it should be "{wanted}"'
    online = seen.backend.optional_text("online", "1")
    if scan_unsigned(online.encode()) != 1:
        yield f'the toolstack is taking the vif away: {seen.backend.node("online")} = "{online}"'


def features(seen: VifDirectories) -> Iterator[str]:
    """The features without which Linux' drivers refuse each other (xen/io/netif.h)."""
    backend, frontend = seen.backend, seen.frontend
    if read_state(seen.store, backend.path) in (S.InitWait, S.Connected) and not (
        backend.optional_unsigned("feature-rx-copy")
    ):
        value = backend.optional_text("feature-rx-copy", "(none)")
        node = backend.node("feature-rx-copy")
        yield f'the backend cannot copy, and a frontend needs that: {node} = "{value}"'
    if read_state(seen.store, frontend.path) != S.Connected:
        return
    if not frontend.optional_unsigned("request-rx-copy"):
        value = frontend.optional_text("request-rx-copy", "(none)")
        node = frontend.node("request-rx-copy")
        yield f'the frontend does not ask for copies, and Linux refuses that: {node} = "{value}"'
    queues = frontend.optional_unsigned("multi-queue-num-queues", 1)
    most = backend.optional_unsigned("multi-queue-max-queues", 1)
    if not 1 <= queues <= most:
        yield (
            f"the frontend wants {queues} queues, the backend has up to {most}: "
            f"{frontend.node('multi-queue-num-queues')} = {queues}"
        )


def permissions(seen: VifDirectories, may_read: MayRead) -> Iterator[str]:
    """Each end may read the other's state."""
    paths = seen.paths
    for directory, reader in (
        (seen.backend, paths.frontend_domid),
        (seen.frontend, paths.backend_domid),
    ):
        node = directory.node("state")
        if directory.exists() and may_read(node, reader) is False:
            yield f"domain {reader}, at the other end, may not read {node}"


def turn(seen: VifDirectories) -> Iterator[str]:
    """Who has to move next, by the rules of Linux' drivers, if the ends are not both Connected."""
    if both_connected(seen) or not (seen.frontend.exists() and seen.backend.exists()):
        return
    front = read_state(seen.store, seen.frontend.path)
    back = read_state(seen.store, seen.backend.path)
    moves = [*_frontend_moves(front, back), *_backend_moves(seen, front, back)]
    if not moves and front == back == S.Closed:
        moves = [
            "both ends have closed: it starts anew when a driver of the guest shows "
            f"{state_name(S.Initialising)}"
        ]
    pair = f"frontend {state_name(front)}, backend {state_name(back)}"
    yield from moves or [f"neither end has to move ({pair}): each waits for the other"]


def _frontend_moves(front: int, back: int) -> Iterator[str]:
    """What a running frontend does about its backend's state, unless it shows that already."""
    if front not in ALL_STATES:
        return
    actions = LINUX_FRONTEND.actions(Phase.RUNNING, back, S(front))
    if FrontendAction.SHOW_CLOSED in actions and front == S.Closed:
        return
    if actions and actions != (FrontendAction.ANNOUNCE,):
        says = ", ".join(action.value for action in actions)
        yield (
            f"it is the frontend's turn, which sees a backend {state_name(back)}: it should {says}"
            "; if it does not, no driver of the guest serves the vif"
        )


def _backend_moves(seen: VifDirectories, front: int, back: int) -> Iterator[str]:
    row = LINUX_BACKEND.row(front)
    if row.action is BackendAction.NOTHING:
        yield f"the backend does nothing about {state_name(front)}: {row.why}"
    elif row.action is BackendAction.FATAL:
        yield f"the backend fails at {state_name(front)}: {row.why}"
    elif row.target is not None and row.target != back:
        node = seen.backend.node("hotplug-status")
        if row.target == S.Connected and back == S.InitWait:
            status = seen.backend.optional_text("hotplug-status", "(none)")
            if status != "connected":
                yield (
                    "it is the hotplug script's turn: the backend has all that it needs of the "
                    f'frontend, and shows Connected when {node} is "connected"; it is "{status}"'
                )
                return
        yield (
            f"it is the backend's turn, which sees a frontend {state_name(front)}: it should go to "
            f"{state_name(row.target)}; if it does not, no driver of domain "
            f"{seen.paths.backend_domid} serves the vif"
        )


def _numbers(store: StoreTransaction, path: str) -> list[int]:
    """The children of ``path`` that are numbers."""
    try:
        names = store.directory(path)
    except XsError:
        return []
    return [int(name) for name in names if name.isdecimal() and len(name) < 6]


def _named_by_frontend(store: StoreTransaction, domid: int, handle: int) -> VifPaths:
    """The vif of a frontend's directory, with the backend that it names."""
    own = VifPaths(domid, handle)
    named = NodeDirectory(store, own.frontend).optional_text("backend")
    found = _BACKEND.fullmatch(named)
    if found is None or (int(found[3]), int(found[4])) != (domid, handle):
        return own
    return VifPaths(domid, handle, int(found[1]), found[2])
