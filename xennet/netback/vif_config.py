"""The configuration that all queues of a vif share with their kernels: settings and the multicast
list.

The device writes the settings (C_*), and the kernels of every queue read them at the start of a
pass, so a change takes effect with the next pass. The multicast list is amended by the transmit
side of any queue and read by the receive side of all (xen/io/netif.h, "feature-multicast-control").
"""

from __future__ import annotations

from array import array

from xennet.engine.kernel import Vector

#: Bytes left free at the start of every receive buffer (the frontend's ``xdp-headroom``), 0 = none,
#: at most MAX_HEADROOM.
C_HEADROOM = 0
#: 1: multicast frames for the guest are dropped unless their address is in the list
#: (``request-multicast-control``).
C_MCAST_FILTER = 1
#: Algorithm that the frontend chose (XEN_NETIF_CTRL_HASH_ALGORITHM_*); 0: no hash is sent to it.
C_HASH = 2
#: Addresses in the list, which lies from C_MCAST on, oldest first: 48 bits each, the first
#: octet most significant.
C_MCAST_COUNT = 3
C_MCAST = 4

#: Longest headroom that kernels leave (Linux's netfront asks for 256): with more, a long packet
#: would not fit the ring.
MAX_HEADROOM = 2048
#: Most addresses in the list (Linux: XEN_NETBK_MCAST_MAX).
MCAST_MAX = 64

PLACES = C_MCAST + MCAST_MAX


def new_vif_config() -> array[int]:
    """The configuration of a vif that negotiated nothing: no headroom, no filter, no hash, no
    addresses."""
    return array("q", bytes(8 * PLACES))


def mcast_add(config: Vector, mac: int) -> int:
    """A kernel: append an address. Returns 1; 0 if the list is full, which stays as it is.

    An address that is listed already is listed twice, and has to be deleted twice
    (xenvif_mcast_add).
    """
    count = config[C_MCAST_COUNT]
    if count >= MCAST_MAX:
        return 0
    config[C_MCAST + count] = mac
    config[C_MCAST_COUNT] = count + 1
    return 1


def mcast_match(config: Vector, mac: int) -> int:
    """A kernel: whether the address is in the list, 1 or 0 (xenvif_mcast_match)."""
    for at in range(C_MCAST, C_MCAST + config[C_MCAST_COUNT]):
        if config[at] == mac:
            return 1
    return 0


def mcast_del(config: Vector, mac: int) -> None:
    """A kernel: remove the oldest entry of this address, if there is one (xenvif_mcast_del)."""
    end = C_MCAST + config[C_MCAST_COUNT]
    found = 0
    for at in range(C_MCAST, end):
        if found:
            config[at - 1] = config[at]
        elif config[at] == mac:
            found = 1
    config[C_MCAST_COUNT] -= found
