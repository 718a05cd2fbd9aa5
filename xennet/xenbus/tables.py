"""The life cycle of a vif: the theory, and a connect step by step. Then read the tables,
:mod:`~xennet.xenbus.backend_rules` and :mod:`~xennet.xenbus.frontend_rules`.

**Two ends.** A vif has a frontend (netfront, in a guest) and a backend (netback, in domain 0 or in
a driver domain). Before the frontend has granted its rings they share nothing but XenStore, where
each has a directory::

    FE = /local/domain/<guest>/device/vif/<handle>
    BE = /local/domain/<backend domain>/backend/vif/<guest>/<handle>

An end writes into its own directory, reads the other's, and watches one node there: ``state``.
FE/backend and BE/frontend hold the other end's path, ``backend-id`` and ``frontend-id`` its domid.

**Three machines** act on these directories, and none of them can make another one move:

* the *frontend* owns FE/state. It connects when the backend is ready, closes when the backend
  closes, and can close by itself (its driver is unloaded, the guest shuts down).
* the *backend* owns BE/state and follows FE/state. By itself it closes only when it fails or when
  its driver goes.
* the *toolstack* (xl and libxl: :mod:`xennet.toolstack`) makes both directories with state 1 in
  one transaction, starts the hotplug script that plugs the backend's interface into a bridge, and
  watches BE/state. To unplug it writes BE/online = 0 and BE/state = 5, waits until the backend is
  at 6, and removes both directories. xl writes no other state.

**XenbusState** (xen/io/xenbus.h) is what a ``state`` node holds, in decimal ASCII. What a number
says depends on whose it is:

==================  ====================================  ========================================
state               of a frontend                         of a backend
==================  ====================================  ========================================
0 Unknown           no directory, no node, or no number   the same
1 Initialising      a driver may start, or has started    features are not yet in the store
2 InitWait          (not used)                            features can be read: connect
3 Initialised       keys are in the store (FreeBSD)       (not used by backends of vifs)
4 Connected         keys are in the store, buffers are    rings are mapped, and the script has
                    posted, packets may come              written hotplug-status = connected
5 Closing           wants to close: unmap everything      rings are unmapped; or: please close
6 Closed            grants and channels have ended        the end of this connection
7 Reconfiguring     xdp-headroom was rewritten            (not used)
8 Reconfigured      (not used)                            has read xdp-headroom again
==================  ====================================  ========================================

**Who moves when.** Connecting goes back and forth: backend 2, frontend 4 (FreeBSD: 3, then 4),
backend 4. Closing does as well: a frontend that unloads shows 5, the backend unmaps the rings and
then shows 5, the frontend shows 6, the backend 6. A frontend ends its grants when it sees 6: a 5
may be the toolstack's, written while the rings are mapped. A backend at 6 whose ``online`` is 1
stays, and walks to 2 when the frontend starts over with state 1.

**A state may be missed.** A watch event says that a node has changed, neither how often nor from
what; its receiver reads the node and finds the newest value. Two quick changes show as one (or the
second one twice), and a new watch fires once by itself. So no row may ask what the state was
*before*: a row answers the other end's state as it is now, and has to be right when the same state
is seen again and when the one before it never was. That is why a backend *walks* (from 4 to 6 it
goes through 5, with what has to be done there) and why a frontend disconnects at Closed although
it has answered Closing already.

**What a row means.** :class:`~xennet.xenbus.backend_rules.BackendRow`: when the frontend's state
is ``frontend``, walk to ``target`` by the shortest way along ``steps`` (on entering Connected the
driver maps the rings, on leaving it unmaps them), then do what ``afterwards`` says.
:class:`~xennet.xenbus.frontend_rules.FrontendRow`: in ``phase``, when the backend's state is one of
``backend`` and the own one of ``own``, do ``actions`` in order. A frontend without a row waits; a
backend without one takes the state for a fatal error. Each row says ``why``.

**A connect**, Linux at both ends, as in tests/data/handshake/split-channels.txt (Linux 6.1, Xen
4.17.7); FE and BE are the two states after the step::

        by        what                                                               FE  BE
     1  toolstack both directories: path and domid of the other end, mac, handle      1   1
     2  backend   probe: feature-sg = 1, feature-rx-copy = 1, ... in one transaction   1   1
     3  backend   multi-queue-max-queues = 2, feature-ctrl-ring = 1, ... singly        1   1
     4  backend   FE is 1: walk from 1 to 2                                            1   2
     5  script    BE/hotplug-status = connected                                        1   2
     6  frontend  BE is 2 and FE is 1: connect. Read the features, grant two rings,    1   2
                  allocate two unbound event channels
     7  frontend  tx-ring-ref = 520, rx-ring-ref = 521, event-channel-tx = 8,          1   2
                  event-channel-rx = 9, request-rx-copy = 1, ... in one transaction
     8  frontend  post 256 rx buffers, notify once, show 4                             4   2
     9  backend   FE is 4: read the keys, map both rings, bind both channels           4   2
    10  backend   hotplug-status is connected (else it waits here): show 4             4   4
    11  frontend  BE is 4: announce itself (gratuitous ARP)                            4   4

Packets may flow from step 9 on. Steps 2 to 5 and the guest's boot are a race: the frontend may
look before 4, sees a state without a row, and waits for the next event of its watch.
"""

from __future__ import annotations

from xennet.xenbus.backend_rules import BACKENDS, LINUX_BACKEND, XNB_BACKEND, BackendRules
from xennet.xenbus.frontend_rules import (
    FREEBSD_FRONTEND,
    FRONTENDS,
    LINUX_FRONTEND,
    WINDOWS_FRONTEND,
    FrontendRules,
)
from xennet.xenbus.state import ALL_STATES

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
