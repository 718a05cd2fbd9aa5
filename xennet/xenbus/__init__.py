"""XenBus: device discovery and life cycle through XenStore.

Knows XenStore clients and states, nothing of rings: the drivers hang in through the protocols
:class:`~xennet.xenbus.backend.BackendDriver` and :class:`~xennet.xenbus.frontend.FrontendDriver`.
"""
