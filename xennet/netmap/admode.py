"""Which adapter a system interface gets: the parameter admode.

Rules: netmap.c, netmap_get_hw_na.
"""

from __future__ import annotations

from errno import EOPNOTSUPP

from xennet.netmap.adapter import Adapter
from xennet.netmap.errors import NetmapError
from xennet.netmap.generic import GenericPort
from xennet.netmap.module_state import State
from xennet.netmap.native import NativePort
from xennet.netmap.net_interface import NetInterface

# Values of the parameter
ADMODE_BEST = 0
ADMODE_NATIVE = 1
ADMODE_GENERIC = 2


def adapter_of(state: State, interface: NetInterface) -> Adapter:
    """The adapter of a system interface; one that has none gets one.

    The parameter admode says which kind is wanted: 0 native if the driver can, else generic; 1
    native; 2 generic. Any other value becomes 0. An adapter that is there already is kept. Raises
    NetmapError(EOPNOTSUPP) for 1 if the driver has no rings for netmap.
    """
    parameters = state.parameters
    if parameters.admode not in (ADMODE_BEST, ADMODE_NATIVE, ADMODE_GENERIC):
        parameters.admode = ADMODE_BEST
    if interface.adapter is not None:
        return interface.adapter
    driver = interface.driver
    if driver is not None and parameters.admode != ADMODE_GENERIC:
        return NativePort.attach(state, interface, driver)
    if parameters.admode == ADMODE_NATIVE:
        raise NetmapError(EOPNOTSUPP, f"{interface.name} has no native adapter")
    return GenericPort.attach(state, interface)
