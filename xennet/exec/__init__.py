"""Programs of other processes in domains of the machine, without being changed.

A preloaded shim (``shim.c``) makes the device files of Linux for Xen out of sockets of a server
(:mod:`~xennet.exec.server`), which answers as the drivers of Linux do: one file for each device,
by one protocol (:mod:`~xennet.exec.devices`), in one table (:mod:`~xennet.exec.device_table`).
"""
