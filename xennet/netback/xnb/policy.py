"""FreeBSD's xnb as the backend of a vif: its keys, rings, passes and life."""

from __future__ import annotations

from xennet.netback.keys import FrontendKeys, Negotiated
from xennet.netback.policy import BackendPolicy, VifOptions
from xennet.netback.verdict import rx_error, tx_error
from xennet.netback.xnb.keys import read_keys
from xennet.netback.xnb.passes import XnbReceivePass, XnbTransmitPass
from xennet.ring import BackRing
from xennet.xenbus.backend import Advertisement
from xennet.xenbus.backend_rules import XNB_BACKEND
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


def _read_keys(dev: XenbusDevice, options: VifOptions, queues: int) -> FrontendKeys:
    return read_keys(dev)


XNB = BackendPolicy(
    name="xnb",
    advertise=_advertise,
    read_negotiated=_read_negotiated,
    read_keys=_read_keys,
    # BACK_RING_INIT: from 0, whatever the ring says (C7).
    attach=BackRing.init,
    transmit_pass=XnbTransmitPass,
    receive_pass=XnbReceivePass,
    # The passes refuse nothing; where the kernel ends they raise BackendPanic.
    transmit_error=tx_error,
    receive_error=rx_error,
    rules=XNB_BACKEND,
    options=OPTIONS,
    evtchn="2l",  # FreeBSD knows no other
)
