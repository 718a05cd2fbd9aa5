"""The XenStore keys that a backend reads when its frontend is Connected.

As in Linux's netback (connect, read_xenbus_vif_flags, connect_ctrl_ring, connect_data_rings),
features have defaults and garbage counts as missing; rings and channels are required, and errors
name the node. Identity and limits (``mac``, ``rate``) are read from the backend's own directory
only: a guest writes what it likes into the frontend's (hardening rule F26).
"""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

from attrs import frozen

from xennet.abi.xen import PAGE_SIZE
from xennet.frames import Offload
from xennet.netback.credit import NO_LIMIT, Rate, parse_rate
from xennet.netback.vif_config import MAX_HEADROOM
from xennet.vif.gso import gso_types
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory

_OCTET = rb"[0-9a-fA-F]{1,2}"
_MAC = re.compile(_OCTET + rb"(?::" + _OCTET + rb"){5}")


class QueueKeys(NamedTuple):
    """The rings and channels of one queue, from directory ``path``.

    ``tx_ring_ref``, ``rx_ring_ref``: grant references of the ring pages. ``tx_port``, ``rx_port``:
    the frontend's ports; they are equal if both rings have one channel.
    """

    tx_ring_ref: int
    rx_ring_ref: int
    tx_port: int
    rx_port: int
    path: str = ""

    @property
    def split(self) -> bool:
        """Whether each ring has its own channel."""
        return self.tx_port != self.rx_port


class CtrlKeys(NamedTuple):
    """The control ring's grant reference and the frontend's port for it, from directory
    ``path``."""

    ring_ref: int
    port: int
    path: str = ""


@frozen
class FrontendFeatures:
    """The features of a frontend; the defaults are those of one that publishes none.

    ``gso_types``, ``gso_prefix_types``: bit t is set for each GSO type t that it takes, described
    by an extra info slot or by a slot in front. ``rx_notify``: it sends an event when it posts
    receive buffers and was asked to. ``headroom``: bytes to leave free in each receive buffer.
    """

    can_sg: bool = False
    gso_types: int = 0
    gso_prefix_types: int = 0
    csum_v4: bool = True
    csum_v6: bool = False
    rx_notify: bool = True
    headroom: int = 0

    def offload(self, headroom: int) -> Offload:
        """The offloads that frames for the guest may use, with ``headroom`` bytes left free."""
        return Offload(
            sg=self.can_sg,
            csum_v4=self.csum_v4,
            csum_v6=self.csum_v6,
            gso_types=self.gso_types | self.gso_prefix_types if self.can_sg else 0,
            max_frame=0 if self.can_sg else PAGE_SIZE - headroom,
        )


class Negotiated(NamedTuple):
    """The first part of a connect, read before anything is watched.

    ``queues``: the number of queues. ``mac``: the guest's address, 6 bytes.
    """

    queues: int = 1
    mac: bytes = bytes(6)
    rate: Rate = NO_LIMIT


class FrontendKeys(NamedTuple):
    """The second part of a connect, read from the frontend's directory."""

    queues: tuple[QueueKeys, ...]
    features: FrontendFeatures = FrontendFeatures()
    ctrl: CtrlKeys | None = None


def blame(keys: QueueKeys | CtrlKeys, name: str, number: int, reason: Exception) -> XenbusError:
    """The error about node ``name`` of ``keys``, whose ``number`` cannot be used."""
    node, value = f"{keys.path}/{name}", str(number).encode()
    return XenbusError(errno.EIO, str(reason), path=node, value=value)


def read_queue_count(keys: NodeDirectory, limit: int) -> int:
    """``multi-queue-num-queues``, 1 if there is none. Raises XenbusError unless it is in
    1..``limit``.

    Linux does not refuse 0 and fails when it allocates no queues (hardening rule F23).
    """
    count = keys.optional_unsigned("multi-queue-num-queues", 1)
    if 1 <= count <= limit:
        return count
    raise XenbusError(
        errno.EINVAL,
        f"number of queues is not in 1..{limit}",
        path=keys.node("multi-queue-num-queues"),
        value=str(count).encode(),
    )


def read_mac(own: NodeDirectory) -> bytes:
    """``mac`` as 6 bytes (xen_net_read_mac). Raises XenbusError if it is missing or garbage."""
    value = own.raw("mac")
    if not _MAC.fullmatch(value):
        raise XenbusError(errno.ENOENT, "is not a MAC address", path=own.node("mac"), value=value)
    return bytes(int(octet, 16) for octet in value.split(b":"))


def read_rate(own: NodeDirectory) -> Rate:
    """``rate``; no limit if it is missing or garbage."""
    try:
        return parse_rate(own.raw("rate"))
    except XenbusError:
        return NO_LIMIT


def read_headroom(keys: NodeDirectory) -> int:
    """``xdp-headroom``: 0..MAX_HEADROOM bytes; missing, garbage or too large: 0.

    Linux takes up to 0x7fff (XEN_NETIF_MAX_XDP_HEADROOM), which is beyond the page.
    """
    headroom = keys.optional_unsigned("xdp-headroom")
    return headroom if headroom <= MAX_HEADROOM else 0


def read_features(keys: NodeDirectory, *, xdp_headroom: bool) -> FrontendFeatures:
    """The frontend's features (read_xenbus_vif_flags); without ``request-rx-copy`` none is read.

    The prefixes are those of backends before Linux 4.10. Raises XenbusError if request-rx-copy is
    garbage, or if one GSO type is asked for with an extra info slot and with a prefix.
    """
    try:
        rx_copy = keys.unsigned("request-rx-copy")
    except XenbusError as missing:
        if missing.errno != errno.ENOENT:
            raise
        rx_copy = 0
    if not rx_copy:
        return FrontendFeatures()
    rx_notify = keys.optional_unsigned("feature-rx-notify") != 0
    can_sg = keys.optional_unsigned("feature-sg") != 0
    plain, prefix = gso_types(keys), gso_types(keys, "-prefix")
    if plain & prefix:
        raise XenbusError(
            errno.EOPNOTSUPP,
            "GSO features and GSO prefix features are mutually exclusive",
            path=keys.path,
        )
    return FrontendFeatures(
        can_sg=can_sg,
        rx_notify=rx_notify,
        gso_types=plain,
        gso_prefix_types=prefix,
        csum_v4=keys.optional_unsigned("feature-no-csum-offload") == 0,
        csum_v6=keys.optional_unsigned("feature-ipv6-csum-offload") != 0,
        headroom=read_headroom(keys) if xdp_headroom else 0,
    )


def read_ctrl(keys: NodeDirectory) -> CtrlKeys | None:
    """The control ring's keys; None without a (readable) reference. Raises XenbusError without a
    port."""
    try:
        ring_ref = keys.unsigned("ctrl-ring-ref")
    except XenbusError:
        return None
    return CtrlKeys(ring_ref, keys.unsigned("event-channel-ctrl"), path=keys.path)


def read_queue(keys: NodeDirectory) -> QueueKeys:
    """The keys of the queue in a directory. Raises XenbusError that names the wrong node."""
    tx_ring_ref, rx_ring_ref = keys.unsigned("tx-ring-ref"), keys.unsigned("rx-ring-ref")
    return QueueKeys(tx_ring_ref, rx_ring_ref, *_channels(keys), path=keys.path)


def read_queues(keys: NodeDirectory, count: int) -> tuple[QueueKeys, ...]:
    """The keys of all queues: of the directory itself if ``count`` is 1, else of ``queue-0``,
    ``queue-1``..."""
    if count == 1:
        return (read_queue(keys),)
    return tuple(read_queue(keys.sub(f"queue-{number}")) for number in range(count))


def _channels(keys: NodeDirectory) -> tuple[int, int]:
    """The two ports if both nodes can be read, else the port of the single channel, twice."""
    try:
        return keys.unsigned("event-channel-tx"), keys.unsigned("event-channel-rx")
    except XenbusError as pair:
        try:
            port = keys.unsigned("event-channel")
        except XenbusError as single:
            # If neither can be used, blame a node with a wrong value rather than a missing one.
            raise (single if pair.value is None else pair) from None
    return port, port
