"""The XenStore keys that xnb reads at a connect (xnb_collect_xenstore_info), and how it reads them.

Flat keys, one channel, one page for each ring; other keys of a frontend are not read (defect C10).
Numbers are C's: scanf's ``%lu`` into 32 bits (C2) and ``%hhu`` into 8. The features end in the
softc, where nothing reads them: packets of many slots, GSO and blank checksums are sent to every
frontend (B10), also to one that did not ask for rx-copy (C3).
"""

from __future__ import annotations

import errno
import re

from attrs import frozen

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4
from xennet.abi.xenbus import XenbusState
from xennet.netback.keys import (
    FrontendFeatures,
    FrontendKeys,
    QueueKeys,
    read_ctrl,
    read_queues,
)
from xennet.netback.xnb.known import SHIPPED, Rows
from xennet.netback.xnb.rx import EVERY_FEATURE, SoftcFeatures
from xennet.ring import MASK32
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory

#: The leftover on the kernel stack in no_csum_offload's place: any number (defect C1).
STACK_BYTE = 0xA5

_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_ULONG = (1 << 64) - 1
_SHUT_DOWN = frozenset({XenbusState.Closing, XenbusState.Closed})


@frozen(kw_only=True)
class XnbFeatures(FrontendFeatures):
    """What is sent to the frontend, whatever it said (``softc``).

    ``no_ifnet``: the interface was freed when the device shut down, and is not made again (C4).
    """

    softc: SoftcFeatures
    no_ifnet: bool = False


def scan_long(keys: NodeDirectory, name: str, mask: int = MASK32, rows: Rows = SHIPPED) -> int:
    """``%lu`` stored in the bits of ``mask``; a sign is allowed, and anything may follow the
    digits.

    Raises XenbusError if the node is missing, or is no number (EINVAL), and with C2 known if the
    number has more bits (ERANGE).
    """
    value = keys.raw(name)
    match = _NUMBER.match(value)
    if match is None:
        raise XenbusError(errno.EINVAL, "is not a number", path=keys.node(name), value=value)
    number = int(match[1])
    if not 0 <= number <= mask and rows.fixed("C2"):
        raise XenbusError(errno.ERANGE, "is out of range", path=keys.node(name), value=value)
    # strtouq stops at ULONG_MAX.
    return (number if abs(number) <= _ULONG else _ULONG) & mask


def read_softc_features(keys: NodeDirectory, rows: Rows = SHIPPED) -> SoftcFeatures:
    """The features in the softc; a missing one is 0, but for ``feature-no-csum-offload`` (C1)."""
    left = 0 if "C1" in rows.known else STACK_BYTE
    return SoftcFeatures(
        _byte(keys, "feature-sg", 0),
        _byte(keys, "feature-gso-tcpv4", 0),
        _byte(keys, "feature-gso-tcpv4-prefix", 0),
        _byte(keys, "feature-no-csum-offload", left) == 0,
    )


def read_keys(dev: XenbusDevice, queues: int = 1, rows: Rows = SHIPPED) -> FrontendKeys:
    """The keys of rings and channel. Raises XenbusError for these only.

    A device without a handle leaves an error node and connects. ``queues`` are read with C10 known
    only; with C3 known, XenbusError is raised for a frontend that does not ask for rx-copy as well.
    """
    own, theirs = dev.own, dev.otherend
    if _byte(theirs, "request-rx-copy", 0) == 0 and rows.fixed("C3"):
        node = theirs.node("request-rx-copy")
        raise XenbusError(errno.EOPNOTSUPP, "is not 1, and pages are not flipped", path=node)
    if "C10" in rows.known:
        numbers = theirs if "C2" in rows.known else _CutNumbers(theirs.store, theirs.path)
        queue_keys, ctrl = read_queues(numbers, queues), read_ctrl(theirs)
    else:
        tx_ref = scan_long(theirs, "tx-ring-ref", rows=rows)
        rx_ref = scan_long(theirs, "rx-ring-ref", rows=rows)
        port = scan_long(theirs, "event-channel", rows=rows)
        queue_keys = (QueueKeys(tx_ref, rx_ref, port, port, path=theirs.path),)
        ctrl = None
    no_ifnet = dev.state in _SHUT_DOWN and not rows.fixed("C4")
    try:
        scan_long(own, "handle")
    except XenbusError as error:
        dev.fatal(error.errno, str(error))
    softc = read_softc_features(theirs, rows)
    negotiated = softc if "B10" in rows.known else EVERY_FEATURE
    features = XnbFeatures(
        can_sg=negotiated.can_sg != 0,
        gso_types=1 << XEN_NETIF_GSO_TYPE_TCPV4 if negotiated.gso else 0,
        csum_v4=negotiated.ip_csum,
        csum_v6=False,
        softc=softc,
        no_ifnet=no_ifnet,
    )
    return FrontendKeys(queue_keys, features, ctrl)


class _CutNumbers(NodeDirectory):
    """A directory whose numbers are cut to 32 bits (C2)."""

    def sub(self, name: str) -> NodeDirectory:
        return _CutNumbers(self.store, self.node(name))

    def unsigned(self, name: str) -> int:
        return scan_long(self, name)


def _byte(keys: NodeDirectory, name: str, before: int) -> int:
    """``%hhu``; ``before`` stays if the node cannot be read.

    (Errors of that function are positive, and xnb tests for negative ones.)
    """
    try:
        return scan_long(keys, name, 0xFF)
    except XenbusError:
        return before
