"""NetBSD's shmif: an Ethernet bus in a file that processes map (sys/rump/net/lib/libshmif).

* :mod:`~xennet.shmif.bus_ops`: the operations on a bus, as kernels
* :mod:`~xennet.shmif.owner`, :mod:`~xennet.shmif.bus_lock`: its lock, and dead holders of it
* :mod:`~xennet.shmif.bus_file`, :mod:`~xennet.shmif.shared_bus`: the file, and a process on it
"""
