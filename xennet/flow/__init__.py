"""Which queue a frame belongs to: the hash of its flow, and what a frontend configures of it.

``toeplitz`` is the hash that xen/io/netif.h defines, ``classify`` the kernel that finds a frame's
flow and queue, ``known_flows`` what it said of a flow before, ``hash_config`` what the control ring
sets, ``steering`` splits one stream of frames into one for each queue. No drivers, no rings.
"""
