"""Receive side scaling: a frontend with a control ring asks its backend to hash, and hashes itself.

The order is that of xen/io/netif.h: an algorithm has to be selected before types can be set.
"""

from __future__ import annotations

from xennet.abi.netif import XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ
from xennet.flow.hash_config import ALL_TYPES, MAX_MAPPING_SIZE, HashConfig
from xennet.netfront.control_ring import ControlClient, Reply

#: The key of the public RSS specification, which its test vectors use.
DEFAULT_KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)


def ask_for_hashes(client: ControlClient, queues: int, own: HashConfig) -> None:
    """Have the backend hash with Toeplitz and spread flows evenly over ``queues`` queues.

    What it accepts is set in ``own`` too, so frames to be sent are hashed the same way.
    """
    mapping = [entry % queues for entry in range(MAX_MAPPING_SIZE)]

    def algorithm(reply: Reply) -> None:
        if reply.ok:
            own.set_algorithm(XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ)

    def key(reply: Reply) -> None:
        if reply.ok:
            own.set_key(DEFAULT_KEY)

    def types(reply: Reply) -> None:
        if reply.ok:
            own.set_types(ALL_TYPES)

    client.set_hash_algorithm(XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ, algorithm)
    client.set_hash_key(DEFAULT_KEY, key)
    client.set_hash_mapping_size(MAX_MAPPING_SIZE)
    client.set_hash_mapping(mapping)
    client.set_hash_flags(ALL_TYPES, types)
