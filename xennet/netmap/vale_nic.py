"""NICs on a switch: ATTACH, DETACH and POLLING.

Rules: netmap_vale.c, netmap_vale_attach, netmap_vale_detach; netmap_bdg.c, netmap_bwrap_attach,
nm_bdg_polling.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, EFAULT, EINVAL, ENXIO, EOPNOTSUPP

from xennet.abi.netmap import (
    NETMAP_POLLING_MODE_MULTI_CPU,
    NETMAP_POLLING_MODE_SINGLE_CPU,
    NR_REG_ALL_NIC,
    NR_REG_NIC_SW,
)
from xennet.netmap.adapter import Adapter
from xennet.netmap.admode import adapter_of
from xennet.netmap.errors import NetmapError
from xennet.netmap.module_state import State
from xennet.netmap.native import NativePort
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.nic_port import NativeNicPort, NicPort
from xennet.netmap.region import Region
from xennet.netmap.registration import Registration
from xennet.netmap.switch_port import SwitchPort
from xennet.netmap.vale import ValePort
from xennet.netmap.vale_switch import Switch, is_switch_port


def _check(name: str) -> None:
    if not is_switch_port(name):
        raise NetmapError(EINVAL, f"{name!r} is no port of a switch")


def attach(
    state: State, name: str, mode: int, ringid: int, flags: int, region: Region | None
) -> int:
    """Put the interface behind the colon of ``name`` on the switch in front of it. Returns the
    number of its port.

    ``mode``: NR_REG_ALL_NIC, or NR_REG_NIC_SW for the host stack as a port of its own. Raises
    NetmapError: EINVAL for a name, mode or interface that is none; EBUSY for a port or interface
    that is in use; ENOMEM.
    """
    _check(name)
    found = state.switches.find(name)
    if found is not None and found.find(name) is not None:
        raise NetmapError(EBUSY, f"{name} is on the switch")
    switch = state.switches.find_or_create(name)
    try:
        switch.require_room()
        interface = state.interfaces.get(name.partition(":")[2])
        if interface is None:
            raise NetmapError(EINVAL, f"no interface for {name}")
        if ringid or mode not in (NR_REG_ALL_NIC, NR_REG_NIC_SW):
            raise NetmapError(EINVAL, f"mode {mode} and ring {ringid} of {name}")
        port = adapter_of(state, interface)
        if port.busy or port.active_fds:
            raise NetmapError(EBUSY, f"{interface.name} is in use")
        if isinstance(port, ValePort):
            return _attach_persistent(switch, port, name)
        if region is not None:
            port.move_to(region)
        return _attach_nic(state, switch, interface, name, mode, flags)
    finally:
        switch.drop_if_unused()


def _attach_persistent(switch: Switch, port: ValePort, name: str) -> int:
    if port.switch is not None:
        raise NetmapError(EBUSY, f"{port.name} is on a switch")
    port.join(switch)
    port.name = name
    port.get()
    return port.number


def _attach_nic(
    state: State, switch: Switch, interface: NetInterface, name: str, mode: int, flags: int
) -> int:
    hardware = interface.adapter
    assert hardware is not None
    hardware.get()
    try:
        registration = Registration.make(hardware, mode, 0, flags, None)
    except NetmapError:
        hardware.put()
        raise
    hardware.busy = True
    port = _port_of(state, interface, name)
    port.registration = registration
    port.join(switch)
    if isinstance(port, NativeNicPort):
        port.take_rings()
    from_stack: Callable[[bytes], bool] = _lost
    if mode == NR_REG_NIC_SW:
        port.other = _port_of(state, interface, f"{name}^", host_side=True)
        port.other.join(switch)
        from_stack = port.other.receive
    interface.intercept(port.receive, from_stack)
    return port.number


def _lost(_frame: bytes) -> bool:
    """What the stack sends on an attached interface waits for a host ring that nobody reads."""
    return True


def _port_of(state: State, interface: NetInterface, name: str, host_side: bool = False) -> NicPort:
    hardware = interface.adapter
    assert hardware is not None
    native = isinstance(hardware, NativePort) and not host_side
    port = (NativeNicPort if native else NicPort)(
        name,
        state.regions,
        state.regions.get(hardware.region),
        hardware.tx_rings,
        hardware.rx_rings,
        hardware.tx_slots,
        hardware.rx_slots,
        host_rings=True,
        host_tx_rings=hardware.host_tx_rings,
        host_rx_rings=hardware.host_rx_rings,
        state=state,
        interface=interface,
        host_side=host_side,
        busy=True,
    )
    port.get()
    return port


def _found(state: State, name: str) -> Adapter:
    """The port called ``name``. Raises NetmapError(ENXIO)."""
    switch = state.switches.existing(name)
    number = switch.find(name)
    port = switch.ports[number] if number is not None else None
    if port is None:
        raise NetmapError(ENXIO, f"no port {name}")
    return port


def detach(state: State, name: str) -> int:
    """Take an attached interface off its switch. Returns the number that its port had.

    Raises NetmapError: EINVAL for a name that is none, ENXIO for no such port, EBUSY while polled
    or open.
    """
    _check(name)
    port = _found(state, name)
    assert isinstance(port, SwitchPort)
    number = port.number
    if isinstance(port, ValePort):
        _detach_persistent(port)
    elif isinstance(port, NicPort):
        _detach_nic(port)
    return number


def _detach_persistent(port: ValePort) -> None:
    if not port.interface_name:
        return  # an ephemeral port goes when it is closed
    port.leave()
    port.name = port.interface_name
    port.put()


def _detach_nic(port: NicPort) -> None:
    if port.polling:
        raise NetmapError(EBUSY, f"{port.name} is polled")
    if port.host_side or port.registration is None:
        raise NetmapError(EINVAL, f"{port.name} goes with its interface")
    hardware = port.registration.port
    port.registration.undo()
    hardware.busy = False
    for gone in (port.other, port):
        if gone is not None:
            gone.leave()
            gone.put()
    hardware.put()


def set_polling(state: State, name: str, on: bool, request: dict[str, int]) -> None:
    """Start or stop the threads that look at an attached NIC.

    Raises NetmapError: EINVAL for a name, mode or number of processors that is none, ENXIO for no
    such port, EOPNOTSUPP for one that is no NIC, EFAULT if polling is on (or off) already.
    """
    _check(name)
    port = _found(state, name)
    if not isinstance(port, NicPort):
        raise NetmapError(EOPNOTSUPP, f"{name} is no NIC")
    if port.polling == on:
        raise NetmapError(EFAULT, f"polling of {name} is {'on' if on else 'off'} already")
    if on:
        _check_cpus(state, port, request)
    port.polling = on


def _check_cpus(state: State, port: NicPort, request: dict[str, int]) -> None:
    mode, first = request["nr_mode"], request["nr_first_cpu_id"]
    number = request["nr_num_polling_cpus"]
    fits = {
        NETMAP_POLLING_MODE_SINGLE_CPU: number == 1,
        NETMAP_POLLING_MODE_MULTI_CPU: first + number <= port.rx_rings,
    }.get(mode, False)
    if not fits or not 0 < number < state.parameters.cpus:
        raise NetmapError(EINVAL, f"mode {mode} on {number} processors from {first} on")
