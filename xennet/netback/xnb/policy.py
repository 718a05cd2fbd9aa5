"""FreeBSD's xnb as the backend of a vif: its keys, rings, passes and life."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from attrs import evolve

from xennet.abi.xenbus import XenbusState
from xennet.netback.keys import FrontendKeys, Negotiated
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.verdict import rx_error, tx_error
from xennet.netback.xnb.keys import read_keys
from xennet.netback.xnb.known import Rows, known_rows
from xennet.netback.xnb.passes import XnbReceivePass, XnbTransmitPass
from xennet.ring import BackRing
from xennet.xenbus.backend import Advertisement
from xennet.xenbus.backend_rules import (
    LINUX_BACKEND,
    XNB_BACKEND,
    BackendAction,
    BackendRules,
    Teardown,
)
from xennet.xenbus.device import XenbusDevice

_ADVERTISEMENT = Advertisement(
    features=(
        ("feature-sg", 1),
        ("feature-gso-tcpv4", 1),
        ("feature-rx-copy", 1),
        ("feature-rx-flip", 0),
    )
)

#: None of the options of Linux's backend exist (C10); a packet waits for buffers for ever.
OPTIONS = VifOptions(
    split_channels=False,
    ctrl_ring=False,
    xdp_headroom=False,
    multicast=False,
    dynamic_multicast=False,
    rate_limit=False,
    late_eoi=False,
    drain_timeout=0,
    drain_timeout_unnotified=0,
    stall_timeout=0,
)


def _advertise(options: VifOptions) -> Advertisement:
    """The features of xnb_publish_backend_info: always these four, whatever the options say."""
    return _ADVERTISEMENT


def _read_negotiated(dev: XenbusDevice, options: VifOptions) -> Negotiated:
    return Negotiated()  # one queue, no address, no rate limit (C10)


def _rules(known: frozenset[str]) -> BackendRules:
    """The device's life with C5 and C8 known or not."""
    rules = XNB_BACKEND
    if "C8" in known:
        gone = LINUX_BACKEND.row(XenbusState.Unknown)
        rows = tuple(
            row
            if row.action is not BackendAction.FATAL
            else row._replace(action=BackendAction.NOTHING)
            for row in rules.rows
            if row.frontend is not XenbusState.Unknown
        )
        rules = evolve(rules, rows=(gone, *rows))
    if "C5" in known:
        rules = evolve(rules, teardown=Teardown.PAIRED)
    return rules


def xnb_policy(known: Iterable[str] = ()) -> BackendPolicy:
    """xnb with the defects ``known`` switched off (xennet.netback.xnb.known).

    Raises ValueError that lists the rows if one of them is unknown.
    """
    chosen = known_rows(known)

    def read_all_keys(dev: XenbusDevice, options: VifOptions, queues: int) -> FrontendKeys:
        return read_keys(dev, queues, Rows(chosen))

    like_linux = "C10" in chosen
    return BackendPolicy(
        name="xnb",
        advertise=LINUX.advertise if like_linux else _advertise,
        read_negotiated=LINUX.read_negotiated if like_linux else _read_negotiated,
        read_keys=read_all_keys,
        # BACK_RING_INIT: from 0, whatever the ring says (C7).
        attach=BackRing.attach if "C7" in chosen else BackRing.init,
        transmit_pass=partial(XnbTransmitPass, known=chosen),
        receive_pass=partial(XnbReceivePass, known=chosen),
        # The passes refuse nothing unless rows are known; where the kernel ends they raise
        # BackendPanic.
        transmit_error=tx_error,
        receive_error=rx_error,
        rules=_rules(chosen),
        options=evolve(OPTIONS, split_channels=True, ctrl_ring=True) if like_linux else OPTIONS,
        evtchn="2l",  # FreeBSD knows no other
    )


XNB = xnb_policy()
