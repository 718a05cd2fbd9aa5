"""What makes a backend one implementation rather than another: data and small decisions.

A :class:`BackendPolicy` tells what is advertised, which keys are read, how rings are attached and
which passes run them; :class:`~xennet.netback.device.Vif` and :class:`~xennet.netback.queue.Queue`
do the rest, the same for every policy. :class:`VifOptions` are the settings of one vif.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import field, frozen, validators

from xennet.frames import Endpoint, FrameBatch
from xennet.netback.credit import NO_LIMIT
from xennet.netback.keys import (
    FrontendKeys,
    Negotiated,
    read_ctrl,
    read_features,
    read_mac,
    read_queue_count,
    read_queues,
    read_rate,
)
from xennet.netback.pass_setup import PassSetup
from xennet.netback.rx_pass import RxPass
from xennet.netback.tx_pass import TxPass
from xennet.netback.verdict import FrontendError, rx_error, tx_error
from xennet.ring import BackRing, SharedRing
from xennet.xenbus.backend import Advertisement
from xennet.xenbus.backend_rules import LINUX_BACKEND, BackendRules
from xennet.xenbus.device import XenbusDevice

#: Most queues of a vif.
MAX_QUEUES = 8

_MILLISECOND = 1_000_000
_SECOND = 1000 * _MILLISECOND


@frozen
class VifOptions:
    """The options of a backend vif; the defaults are those of Linux on one CPU.

    ``max_queues``: 1..MAX_QUEUES. ``split_channels``, ``ctrl_ring``, ``xdp_headroom``,
    ``multicast``, ``dynamic_multicast``: whether the feature is advertised. ``static_grefs``: how
    many grants each queue keeps mapped when the control ring asks for it (Linux: none, these
    messages are NOT_SUPPORTED). ``rate_limit``: whether the toolstack's ``rate`` is obeyed.
    ``late_eoi``: whether spurious events delay the next ones (xennet.vif.late_eoi).

    Times in ns, 0 = never: ``drain_timeout`` how long a packet waits for receive buffers,
    ``drain_timeout_unnotified`` the same for a frontend without feature-rx-notify,
    ``stall_timeout`` how long a queue without enough buffers may make no progress before the
    carrier goes (not judged without feature-rx-notify).

    ``publish_carrier``: write the node ``carrier`` (xen/io/netif.h, "Link state"; Linux does not).
    """

    max_queues: int = field(default=1, validator=(validators.ge(1), validators.le(MAX_QUEUES)))
    split_channels: bool = True
    ctrl_ring: bool = True
    static_grefs: int = 0
    xdp_headroom: bool = True
    multicast: bool = True
    dynamic_multicast: bool = True
    rate_limit: bool = True
    late_eoi: bool = True
    drain_timeout: int = 10 * _SECOND
    drain_timeout_unnotified: int = 30 * _MILLISECOND
    stall_timeout: int = 60 * _SECOND
    publish_carrier: bool = False


class TransmitPass(Protocol):
    """One pass over a guest-transmit ring, as a queue uses it.

    ``res`` has the indices R_* of xennet.netback.guest_tx, ``batch`` the packets of the last pass,
    ``credit`` the bytes that the rate limit leaves.
    """

    @property
    def batch(self) -> FrameBatch: ...
    @property
    def res(self) -> Sequence[int]: ...
    @property
    def credit(self) -> int: ...
    @credit.setter
    def credit(self, value: int) -> None: ...

    def run(self, max_packets: int) -> int:
        """Take, deliver into ``batch`` and answer. Returns the verdict, 0 = the ring may go on."""
        ...

    def await_requests(self) -> bool:
        """Ask for an event. Returns True if there are requests already."""
        ...


class ReceivePass(Protocol):
    """One pass over a guest-receive ring, as a queue uses it.

    ``res`` has the indices R_* of xennet.netback.guest_rx. ``next`` is the first packet of the
    batch that has not been sent. ``filtered``: packets (frame, time stamp) that multicast control
    dropped in the last pass, if FrameFiltered is observed.
    """

    @property
    def res(self) -> Sequence[int]: ...
    @property
    def filtered(self) -> Sequence[tuple[bytes, int]]: ...
    @property
    def next(self) -> int: ...
    @property
    def empty(self) -> bool: ...

    def refill(self) -> FrameBatch: ...

    def run(self) -> int:
        """Send what posted buffers allow. Returns the verdict, 0 = the ring may go on."""
        ...

    def await_requests(self) -> bool:
        """Ask for an event when buffers are posted. Returns True if some have been."""
        ...

    def drop_all(self) -> int:
        """Forget the packets that are left. Returns their number."""
        ...

    def discard(self, source: Endpoint) -> int:
        """Forget the packets that are left, and pull one batch from ``source`` and forget it too.

        Returns the number of packets that were dropped, in both steps together.
        """
        ...


@frozen
class BackendPolicy:
    """One implementation of a backend, called ``name``.

    ``advertise``: the feature nodes of a vif. ``read_negotiated``, then ``read_keys`` (with the
    number of queues): the keys that are read when the frontend is Connected, before and after
    watches are set; they raise XenbusError with the node that stops it. ``attach``: how a shared
    ring is entered; it raises RingOverflowError for impossible indices. ``transmit_pass``,
    ``receive_pass``: make the passes over the rings. ``transmit_error``, ``receive_error``: the
    exception for a pass's verdict. ``rules``: the device's life in the store. ``options``: the
    default options of its vifs. ``evtchn``: the ABI by which its kernel receives events ("fifo" or
    "2l").
    """

    name: str
    advertise: Callable[[VifOptions], Advertisement]
    read_negotiated: Callable[[XenbusDevice, VifOptions], Negotiated]
    read_keys: Callable[[XenbusDevice, VifOptions, int], FrontendKeys]
    attach: Callable[[SharedRing], BackRing]
    transmit_pass: Callable[[PassSetup], TransmitPass]
    receive_pass: Callable[[PassSetup], ReceivePass]
    transmit_error: Callable[[Sequence[int]], FrontendError]
    receive_error: Callable[[Sequence[int]], FrontendError]
    rules: BackendRules
    options: VifOptions = VifOptions()
    evtchn: str = "fifo"

    def __repr__(self) -> str:
        return f"<BackendPolicy {self.name}>"


def _advertise(options: VifOptions) -> Advertisement:
    """Linux's features, in its order: in one transaction, and after it."""
    return Advertisement(
        features=(
            ("feature-sg", 1),
            ("feature-gso-tcpv4", 1),
            ("feature-gso-tcpv6", 1),
            ("feature-ipv6-csum-offload", 1),
            ("feature-rx-copy", 1),
            ("feature-xdp-headroom", int(options.xdp_headroom)),
            ("feature-rx-flip", 0),
            ("feature-multicast-control", int(options.multicast)),
            (
                "feature-dynamic-multicast-control",
                int(options.multicast and options.dynamic_multicast),
            ),
        ),
        extras=(
            ("feature-split-event-channels", int(options.split_channels)),
            ("multi-queue-max-queues", options.max_queues),
            ("feature-ctrl-ring", int(options.ctrl_ring)),
        ),
    )


def _read_negotiated(dev: XenbusDevice, options: VifOptions) -> Negotiated:
    queues = read_queue_count(dev.otherend, options.max_queues)
    mac = read_mac(dev.own)
    return Negotiated(queues, mac, read_rate(dev.own) if options.rate_limit else NO_LIMIT)


def _read_keys(dev: XenbusDevice, options: VifOptions, queues: int) -> FrontendKeys:
    features = read_features(dev.otherend, xdp_headroom=options.xdp_headroom)
    ctrl = read_ctrl(dev.otherend) if options.ctrl_ring else None
    return FrontendKeys(read_queues(dev.otherend, queues), features, ctrl)


LINUX = BackendPolicy(
    name="linux",
    advertise=_advertise,
    read_negotiated=_read_negotiated,
    read_keys=_read_keys,
    # Attach, never init: the frontend may have posted receive buffers already.
    attach=BackRing.attach,
    transmit_pass=TxPass,
    receive_pass=RxPass,
    transmit_error=tx_error,
    receive_error=rx_error,
    rules=LINUX_BACKEND,
)
