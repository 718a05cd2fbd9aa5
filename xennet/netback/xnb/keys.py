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
from xennet.netback.keys import FrontendFeatures, FrontendKeys, QueueKeys
from xennet.ring import MASK32
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory

#: The leftover on the kernel stack in no_csum_offload's place: any number (defect C1).
STACK_BYTE = 0xA5

_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_ULONG = (1 << 64) - 1
_SHUT_DOWN = frozenset({XenbusState.Closing, XenbusState.Closed})


@frozen
class SoftcFeatures:
    """The frontend's features in struct xnb_softc, 8 bits each; ``ip_csum`` is a boolean."""

    can_sg: int
    gso: int
    gso_prefix: int
    ip_csum: bool


@frozen(kw_only=True)
class XnbFeatures(FrontendFeatures):
    """What is sent to the frontend, whatever it said (``softc``).

    ``no_ifnet``: the interface was freed when the device shut down, and is not made again (C4).
    """

    softc: SoftcFeatures
    no_ifnet: bool = False


def scan_long(keys: NodeDirectory, name: str, mask: int = MASK32) -> int:
    """``%lu`` stored in the bits of ``mask``; a sign is allowed, and anything may follow the
    digits.

    Raises XenbusError if the node is missing, or is no number (EINVAL).
    """
    value = keys.raw(name)
    match = _NUMBER.match(value)
    if match is None:
        raise XenbusError(errno.EINVAL, "is not a number", path=keys.node(name), value=value)
    number = int(match[1])
    # strtouq stops at ULONG_MAX.
    return (number if abs(number) <= _ULONG else _ULONG) & mask


def read_softc_features(keys: NodeDirectory) -> SoftcFeatures:
    """The features in the softc; a missing one is 0, but for ``feature-no-csum-offload`` (C1)."""
    return SoftcFeatures(
        _byte(keys, "feature-sg", 0),
        _byte(keys, "feature-gso-tcpv4", 0),
        _byte(keys, "feature-gso-tcpv4-prefix", 0),
        _byte(keys, "feature-no-csum-offload", STACK_BYTE) == 0,
    )


def read_keys(dev: XenbusDevice) -> FrontendKeys:
    """The keys of rings and channel. Raises XenbusError for these only.

    A device without a handle leaves an error node and connects.
    """
    own, theirs = dev.own, dev.otherend
    tx_ref, rx_ref = scan_long(theirs, "tx-ring-ref"), scan_long(theirs, "rx-ring-ref")
    port = scan_long(theirs, "event-channel")
    no_ifnet = dev.state in _SHUT_DOWN
    try:
        scan_long(own, "handle")
    except XenbusError as error:
        dev.fatal(error.errno, str(error))
    features = XnbFeatures(
        can_sg=True,
        gso_types=1 << XEN_NETIF_GSO_TYPE_TCPV4,
        csum_v4=True,
        csum_v6=False,
        softc=read_softc_features(theirs),
        no_ifnet=no_ifnet,
    )
    return FrontendKeys((QueueKeys(tx_ref, rx_ref, port, port, path=theirs.path),), features)


def _byte(keys: NodeDirectory, name: str, before: int) -> int:
    """``%hhu``; ``before`` stays if the node cannot be read.

    (Errors of that function are positive, and xnb tests for negative ones.)
    """
    try:
        return scan_long(keys, name, 0xFF)
    except XenbusError:
        return before
