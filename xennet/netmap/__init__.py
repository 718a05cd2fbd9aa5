"""netmap: rings, ports and switches behind a device, as the kernel module has them (API 14).

Start at :mod:`xennet.netmap.device`. docs/netmap.md says what is there.
"""
