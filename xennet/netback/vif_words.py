"""What all queues of a vif share with their kernels: a vector of words, and the multicast list.

Whoever negotiates writes the words (W_*), kernels of every queue read them at the start of a pass,
so that a change takes effect with the next one. The multicast list is amended by the transmit side
of any queue and read by the receive side of all (xen/io/netif.h, "feature-multicast-control").
"""

from __future__ import annotations

from array import array

from xennet.engine.kernel import Vector

#: Bytes left free at the start of every receive buffer (the frontend's ``xdp-headroom``), 0 = none,
#: at most MAX_HEADROOM.
W_HEADROOM = 0
#: 1: multicast frames for the guest are dropped unless their address is in the list
#: (``request-multicast-control``).
W_MCAST_FILTER = 1
#: Algorithm that the frontend chose (XEN_NETIF_CTRL_HASH_ALGORITHM_*); 0: no hash is sent to it.
W_HASH = 2
#: Addresses in the list, which are the words from W_MCAST on, oldest first: 48 bits each, the first
#: octet most significant.
W_MCAST_COUNT = 3
W_MCAST = 4

#: Longest headroom that kernels leave (Linux's netfront asks for 256): with more, a long packet
#: would not fit the ring.
MAX_HEADROOM = 2048
#: Addresses that fit the list (Linux: XEN_NETBK_MCAST_MAX).
MCAST_MAX = 64

WORDS = W_MCAST + MCAST_MAX


def new_vif_words() -> array[int]:
    """The words of a vif that negotiated nothing: no headroom, no filter, no hash, no address."""
    return array("q", bytes(8 * WORDS))


def mcast_add(words: Vector, mac: int) -> int:
    """A kernel: append an address; 1, or 0 when the list is full (and stays as it was).

    An address that is there already is kept twice, and has to be deleted twice (xenvif_mcast_add).
    """
    count = words[W_MCAST_COUNT]
    if count >= MCAST_MAX:
        return 0
    words[W_MCAST + count] = mac
    words[W_MCAST_COUNT] = count + 1
    return 1


def mcast_match(words: Vector, mac: int) -> int:
    """A kernel: 1 if the address is in the list, else 0 (xenvif_mcast_match)."""
    for at in range(W_MCAST, W_MCAST + words[W_MCAST_COUNT]):
        if words[at] == mac:
            return 1
    return 0


def mcast_del(words: Vector, mac: int) -> None:
    """A kernel: take the oldest entry of this address out, if there is one (xenvif_mcast_del)."""
    end = W_MCAST + words[W_MCAST_COUNT]
    found = 0
    for at in range(W_MCAST, end):
        if found:
            words[at - 1] = words[at]
        elif words[at] == mac:
            found = 1
    words[W_MCAST_COUNT] -= found
