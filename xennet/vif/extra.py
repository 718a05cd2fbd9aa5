"""struct netif_extra_info, read and written: the one codec of both drivers and both rings.

An extra info takes a slot of its own behind the first one of its packet (xen 4.17 netif.h, "Extra
Info"; XDP: Linux 6.1 netif.h). Its 8 bytes are the first two words of a slot, on either ring:

              word 0: type, flags, and       word 1
    GSO       segment size                   GSO type, pad, features
    MCAST     octets 0, 1 of the address     octets 2 to 5 of the address
    HASH      hash type, algorithm           hash value
    XDP       headroom                       -

Everything here is a kernel or a constant of kernels. Readers take the words as they were loaded, so
that a peer that rewrites the slot meanwhile changes nothing; writers put both words of a slot, each
once, at ``at`` of an array of words. ``info`` is a hash as in the column ``hash_info`` of
xennet.frames: 0 = none, else algorithm << 8 | type bit number + 1.

GSO features are written as 0, and nobody looks at them (as in Linux: there are none).
"""

from __future__ import annotations

from xennet.abi.netif import (
    _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_XDP,
    XEN_NETIF_EXTRA_TYPE_MAX_in_linux,
)
from xennet.abi.words import (
    EXTRA_S_flags,
    EXTRA_S_gso_size,
    EXTRA_S_hash_algorithm,
    EXTRA_S_hash_type,
    EXTRA_S_headroom,
    EXTRA_S_mcast,
    EXTRA_W_rest,
)
from xennet.engine.kernel import U32Array
from xennet.ring import MASK32

#: In word 0: another extra info follows.
MORE_EXTRAS = XEN_NETIF_EXTRA_FLAG_MORE << EXTRA_S_flags

# Hash type and algorithm, together the upper half of word 0, are ``info`` less 1.
if (EXTRA_S_hash_type, EXTRA_S_hash_algorithm) != (16, 24):
    raise AssertionError("hash type and algorithm are not the upper half of word 0")

_LAST_HASH_TYPE = _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP


# -- readers ---------------------------------------------------------------------------------------


def extra_type(word0: int) -> int:
    """The type of an extra info, XEN_NETIF_EXTRA_TYPE_*; 0, which is no type, if the header has
    none such."""
    kind = word0 & 0xFF
    return kind if kind < XEN_NETIF_EXTRA_TYPE_MAX_in_linux else 0


def gso_of(word0: int, word1: int) -> tuple[int, int]:
    """Segment size in bytes and GSO type, 0..255, of a GSO extra, as they are and not checked."""
    return word0 >> EXTRA_S_gso_size, word1 & 0xFF


# Which hash counts. The two ends differ, and so they do in Linux; the hash value is word 1.


def hash_from_frontend(word0: int) -> int:
    """The ``info`` of a HASH extra in a tx request; 0 if its type is unknown.

    xen-netback accepts any type that it knows and does not look at the algorithm, which may be 0
    (Linux 6.1 xen-netback, xenvif_tx_build_gops).
    """
    kind = word0 >> EXTRA_S_hash_type & 0xFF
    if kind > _LAST_HASH_TYPE:
        return 0
    return (word0 >> EXTRA_S_hash_type) + 1


def hash_from_backend(word0: int) -> int:
    """The ``info`` of a HASH extra in an rx response; 0 if type or algorithm says that it is none.

    A backend hashes by the algorithm that its frontend has selected, and by none if that is 0,
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE (xen 4.17 netif.h, "Hash algorithms"). No frontend of Linux
    says more: xen-netfront has no control ring and passes over this extra.
    """
    return hash_from_frontend(word0) if word0 >> EXTRA_S_hash_algorithm else 0


def headroom_of(word0: int) -> int:
    """Bytes, 0..65535, that an XDP extra says are free before the payload of every slot."""
    return word0 >> EXTRA_S_headroom


def mac_of(word0: int, word1: int) -> int:
    """The address in a MCAST_ADD or MCAST_DEL extra, its first octet most significant."""
    high = word0 >> EXTRA_S_mcast
    return (high & 0xFF) << 40 | high >> 8 << 32 | _swapped(word1)


# -- writers ---------------------------------------------------------------------------------------
# ``more``: not 0 if another extra info follows.


def put_gso(words: U32Array, at: int, more: int, size: int, gso_type: int) -> None:
    """Write a GSO extra: segment size in bytes, XEN_NETIF_GSO_TYPE_*."""
    kind = XEN_NETIF_EXTRA_TYPE_GSO | MORE_EXTRAS if more else XEN_NETIF_EXTRA_TYPE_GSO
    words[at] = kind | size << EXTRA_S_gso_size
    words[at + EXTRA_W_rest] = gso_type


def put_hash(words: U32Array, at: int, more: int, info: int, value: int) -> None:
    """Write a HASH extra. ``info`` is not 0; ``value`` goes out least significant byte first."""
    kind = XEN_NETIF_EXTRA_TYPE_HASH | MORE_EXTRAS if more else XEN_NETIF_EXTRA_TYPE_HASH
    words[at] = kind | info - 1 << EXTRA_S_hash_type
    words[at + EXTRA_W_rest] = value


def put_xdp(words: U32Array, at: int, more: int, headroom: int) -> None:
    """Write an XDP extra: ``headroom`` bytes are free before the payload of every slot of the
    packet."""
    kind = XEN_NETIF_EXTRA_TYPE_XDP | MORE_EXTRAS if more else XEN_NETIF_EXTRA_TYPE_XDP
    words[at] = kind | headroom << EXTRA_S_headroom
    words[at + EXTRA_W_rest] = 0


def put_mcast(words: U32Array, at: int, kind: int, mac: int) -> None:
    """Write a MCAST extra, the only one of its request. ``kind``: XEN_NETIF_EXTRA_TYPE_MCAST_ADD or
    _DEL; ``mac``: the address, its first octet most significant."""
    words[at] = kind | (mac >> 40 & 0xFF | (mac >> 32 & 0xFF) << 8) << EXTRA_S_mcast
    words[at + EXTRA_W_rest] = _swapped(mac & MASK32)


def _swapped(word: int) -> int:
    """A word with its bytes the other way round: octets 2 to 5 of an address, and back."""
    return word >> 24 | (word >> 16 & 0xFF) << 8 | (word >> 8 & 0xFF) << 16 | (word & 0xFF) << 24
