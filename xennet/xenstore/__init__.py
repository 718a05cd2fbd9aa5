"""XenStore: the tree, transactions, permissions, watches and quotas, and clients of it.

The semantics are those of the C daemon, xenstored of Xen 4.20 or 4.17, or of oxenstored; nothing
here knows sockets, rings, devices or the hypervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.xenstore.client.client import Client
    from xennet.xenstore.client.connection import WireConnection
    from xennet.xenstore.client.errors import XsConnectionError, XsReplyError, XsTimeoutError
    from xennet.xenstore.client.nodes import ClientTransaction
    from xennet.xenstore.client.watch import WatchIterator
    from xennet.xenstore.connection import Connection
    from xennet.xenstore.errors import XsError
    from xennet.xenstore.operation import Observer, StoreOp
    from xennet.xenstore.perms import Perm
    from xennet.xenstore.quota import Quota
    from xennet.xenstore.store import Store
    from xennet.xenstore.watch import WatchEvent

__all__ = [
    "Client",
    "ClientTransaction",
    "Connection",
    "Observer",
    "Perm",
    "Quota",
    "Store",
    "StoreOp",
    "WatchEvent",
    "WatchIterator",
    "WireConnection",
    "XsConnectionError",
    "XsError",
    "XsReplyError",
    "XsTimeoutError",
]

_HOMES = {
    "Client": "xennet.xenstore.client.client",
    "ClientTransaction": "xennet.xenstore.client.nodes",
    "Connection": "xennet.xenstore.connection",
    "Observer": "xennet.xenstore.operation",
    "Perm": "xennet.xenstore.perms",
    "Quota": "xennet.xenstore.quota",
    "Store": "xennet.xenstore.store",
    "StoreOp": "xennet.xenstore.operation",
    "WatchEvent": "xennet.xenstore.watch",
    "WatchIterator": "xennet.xenstore.client.watch",
    "WireConnection": "xennet.xenstore.client.connection",
    "XsConnectionError": "xennet.xenstore.client.errors",
    "XsError": "xennet.xenstore.errors",
    "XsReplyError": "xennet.xenstore.client.errors",
    "XsTimeoutError": "xennet.xenstore.client.errors",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
