"""The control ring of a netfront that publishes one (netif.h, "Control ring")."""

from __future__ import annotations

from typing import Any

from xennet.abi.netif import (
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
)
from xennet.check.check import Field, Side, Violation, check
from xennet.check.check_ids import check_id
from xennet.check.checks_netfront.sent_packets import SURVIVED, EchoEnd
from xennet.check.ip_frames import plain
from xennet.check.peers import BackendPeer
from xennet.testing.raw_backend import CtrlRequest

_TYPES = range(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING + 1)
_RULE = "netif.front.ctrl.response"


def _requests(peer: BackendPeer) -> list[CtrlRequest]:
    """The requests on the control ring; none without one."""
    return [] if peer.ctrl_ring is None else peer.ctrl_requests()


@check(
    id="netfront.ctrl.requests",
    rule="netif.front.ctrl.requests",
    side=Side.NETFRONT,
    needs={"ctrl-ring"},
    queues=2,
    hint="an id is free again when its response has come",
)
def requests(peer: BackendPeer, value: Any) -> None:
    """Control requests have types of the header and ids of their own, also when each is answered
    that it is not supported."""
    for _ in range(20):
        found = _requests(peer)
        for request in found:
            if request.type not in _TYPES:
                raise Violation(
                    f"a control request has type {request.type}",
                    ring="ctrl",
                    index=request.index,
                    raw=request.raw,
                )
            peer.answer_ctrl(request.id, request.type, XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED)
        if len({request.id for request in found}) != len(found):
            raise Violation("two control requests that are pending have one id", ring="ctrl")
        if not found:
            break
        peer.push_ctrl()
        peer.rest()
    EchoEnd(peer).echoed(plain(60))


#: Name -> what is added to id, type and status of a response.
_BAD_RESPONSES = {
    "id": (1, 0, 0),
    "far-id": (0x8000, 0, 0),
    "type": (0, 1, 0),
    "unknown-type": (0, 1000, 0),
    "status": (0, 0, 0x7FFFFFFF),
}


def _enter_responses() -> None:
    for name, added in _BAD_RESPONSES.items():

        def play(peer: BackendPeer, value: Any) -> None:
            found = _requests(peer)
            for request in found:
                ident, kind, status = value
                peer.answer_ctrl(
                    (request.id + ident) & 0xFFFF, (request.type + kind) & 0xFFFF, status
                )
            if found:
                peer.push_ctrl()
            peer.rest()
            end = EchoEnd(peer)
            end.deliver(plain(60))
            end.answer(*end.take())

        play.__doc__ = f"A control response comes with another {name.replace('-', ' ')}."
        check(
            id=check_id(Side.NETFRONT, _RULE, name),
            rule=_RULE,
            side=Side.NETFRONT,
            accepts=SURVIVED,
            needs={"ctrl-ring"},
            queues=2,
            field=Field("added to id, type and status", added, (0, 0, 0)),
            hint="look the id up among those that are pending, and compare the type",
            may_hold=True,
        )(play)


_enter_responses()


@check(
    id="netfront.ctrl.response-overflow",
    rule=_RULE,
    side=Side.NETFRONT,
    accepts=SURVIVED,
    needs={"ctrl-ring"},
    queues=2,
    field=Field("rsp_prod, beside its right value", 200, 0),
    hint="compare rsp_prod with what was requested",
    may_hold=True,
)
def overflow(peer: BackendPeer, value: Any) -> None:
    """rsp_prod of the control ring stands past everything that was requested."""
    if peer.ctrl_ring is not None:
        right = peer.index("rsp_prod", ring="ctrl")
        peer.set_index("rsp_prod", right + value, ring="ctrl")
        peer.notify("ctrl")
        peer.rest()
        peer.set_index("rsp_prod", right, ring="ctrl")
    end = EchoEnd(peer)
    end.deliver(plain(60))
    end.answer(*end.take())
