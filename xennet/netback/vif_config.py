"""What all queues of a vif share with their kernels: settings, and the multicast list.

Whoever negotiates writes the config (W_*), kernels of every queue read them at the start of a pass,
so that a change takes effect with the next one. The multicast list is amended by the transmit side
of any queue and read by the receive side of all (xen/io/netif.h, "feature-multicast-control").
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
#: Addresses that fit the list (Linux: XEN_NETBK_MCAST_MAX).
MCAST_MAX = 64

PLACES = C_MCAST + MCAST_MAX


def new_vif_config() -> array[int]:
    """The settings of a vif that negotiated nothing: no headroom, no filter, no hash, no list."""
    return array("q", bytes(8 * PLACES))


def mcast_add(config: Vector, mac: int) -> int:
    """A kernel: append an address; 1, or 0 when the list is full (and stays as it was).

    An address that is there already is kept twice, and has to be deleted twice (xenvif_mcast_add).
    """
    count = config[C_MCAST_COUNT]
    if count >= MCAST_MAX:
        return 0
    config[C_MCAST + count] = mac
    config[C_MCAST_COUNT] = count + 1
    return 1


def mcast_match(config: Vector, mac: int) -> int:
    """A kernel: 1 if the address is in the list, else 0 (xenvif_mcast_match)."""
    for at in range(C_MCAST, C_MCAST + config[C_MCAST_COUNT]):
        if config[at] == mac:
            return 1
    return 0


def mcast_del(config: Vector, mac: int) -> None:
    """A kernel: take the oldest entry of this address out, if there is one (xenvif_mcast_del)."""
    end = C_MCAST + config[C_MCAST_COUNT]
    found = 0
    for at in range(C_MCAST, end):
        if found:
            config[at - 1] = config[at]
        elif config[at] == mac:
            found = 1
    config[C_MCAST_COUNT] -= found
