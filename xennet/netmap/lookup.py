"""From the name in a request to the port it means; ports that are made for a client are made here.

The kinds are tried in netmap's order: null, monitor, pipe, switch port, system interface. Rules:
netmap.c, netmap_get_na; netmap_bdg.c, netmap_get_bdg_na; netmap_vale.c, netmap_vi_create.
"""

from __future__ import annotations

from collections.abc import Mapping
from errno import EBUSY, EEXIST, EINVAL, ENODEV, ENOMEM, ENXIO

from attrs import evolve, frozen

from xennet.abi.netmap import (
    NR_MONITOR_RX,
    NR_MONITOR_TX,
    NR_REG_ALL_NIC,
    NR_REG_NULL,
    NR_REG_PIPE_MASTER,
    NR_REG_PIPE_SLAVE,
    NR_ZCOPY_MON,
)
from xennet.netmap.adapter import Adapter
from xennet.netmap.admode import adapter_of
from xennet.netmap.errors import NetmapError
from xennet.netmap.module_state import State
from xennet.netmap.monitor import Monitor, is_monitor
from xennet.netmap.net_interface import IFNAMSIZ, NetInterface
from xennet.netmap.null_port import NullPort
from xennet.netmap.pipe import PipeEnd, check_mode, split_pipe
from xennet.netmap.region import Region
from xennet.netmap.vale import Counts, ValePort
from xennet.netmap.vale_switch import is_switch_port


@frozen
class Wanted:
    """What a request says of the port it wants: a nmreq_register, or what stands for one."""

    name: str
    mode: int = NR_REG_ALL_NIC
    flags: int = 0
    mem_id: int = 0
    tx_rings: int = 0
    rx_rings: int = 0
    host_tx_rings: int = 0
    host_rx_rings: int = 0
    tx_slots: int = 0
    rx_slots: int = 0
    extra_bufs: int = 0
    ringid: int = 0

    @classmethod
    def of(cls, name: str, request: Mapping[str, int]) -> Wanted:
        """From the fields of a nmreq_register, a nmreq_port_info_get or a nmreq_vale_newif."""
        fields = {field: request.get(f"nr_{field}", 0) for field in _FIELDS}
        return cls(name, request.get("nr_mode", NR_REG_ALL_NIC), **fields)

    @property
    def counts(self) -> Counts:
        """The counts that a new port would have."""
        return Counts(self.tx_rings, self.rx_rings, self.tx_slots, self.rx_slots, self.extra_bufs)


_FIELDS = (
    "flags",
    "mem_id",
    "tx_rings",
    "rx_rings",
    "host_tx_rings",
    "host_rx_rings",
    "tx_slots",
    "rx_slots",
    "extra_bufs",
    "ringid",
)


def find_port(
    state: State, wanted: Wanted, create: bool = True, region: Region | None = None
) -> Adapter:
    """The port that is ``wanted``, with a reference for the caller.

    ``create``: one that is not there is made, if it is of a kind that can be. ``region``: the
    memory of extmem; otherwise that of ``wanted.mem_id``. Raises NetmapError: EINVAL for a region,
    mode or name that is none, ENXIO for an interface or port that is not there, ENOMEM, EBUSY.
    """
    if wanted.mode in (NR_REG_PIPE_MASTER, NR_REG_PIPE_SLAVE):
        raise NetmapError(EINVAL, "the modes of pipes are not used any more")
    if region is None and wanted.mem_id:
        region = state.regions.find(wanted.mem_id)
    port = _null_port(state, wanted, create, region)
    if port is None and is_monitor(wanted.flags):
        return _monitor(state, wanted, create, region)
    if port is None and (pipe := split_pipe(wanted.name)) is not None:
        return _pipe_end(state, wanted, pipe, create, region)
    if port is None and is_switch_port(wanted.name):
        port = _switch_port(state, wanted, create, region)
    if port is None:
        port = _of_interface(state, wanted, region)
    port.get()
    return port


def _null_port(state: State, wanted: Wanted, create: bool, region: Region | None) -> Adapter | None:
    if wanted.mode != NR_REG_NULL:
        return None
    if not create:
        raise NetmapError(ENXIO, "null ports are made anew for each client")
    if region is None:
        raise NetmapError(EINVAL, "a null port needs a memory region")
    if wanted.tx_rings + wanted.rx_rings > region.rings.layout.objtotal:
        raise NetmapError(ENOMEM, "more rings than the region has")
    return NullPort(
        f"null:{wanted.name}",
        state.regions,
        state.regions.get(region),
        wanted.tx_rings,
        wanted.rx_rings,
        wanted.tx_slots,
        wanted.rx_slots,
    )


def _monitor(state: State, wanted: Wanted, create: bool, region: Region | None) -> Adapter:
    flags = wanted.flags & ~(NR_MONITOR_TX | NR_MONITOR_RX | NR_ZCOPY_MON)
    parent = find_port(state, evolve(wanted, flags=flags), create, region)
    try:
        monitor = Monitor.create(parent, wanted.flags, wanted.mode, wanted.ringid, wanted.counts)
    finally:
        parent.put()
    monitor.get()
    return monitor


def _pipe_end(
    state: State,
    wanted: Wanted,
    pipe: tuple[str, str, str],
    create: bool,
    region: Region | None,
) -> Adapter:
    base, role, pipe_id = pipe
    check_mode(wanted.mode)
    parent = _base_of_pipe(state, wanted, base, create, region)
    try:
        if parent.busy:
            raise NetmapError(EBUSY, f"{base} is attached to a switch")
        name = f"{parent.name}{role}{pipe_id}"
        if name not in parent.pipes:
            if not create:
                raise NetmapError(ENODEV, f"no pipe {name}")
            PipeEnd.pair(parent, pipe_id, wanted.counts)
        end = parent.pipes[name]
        end.get()
        return end
    finally:
        parent.put()


def _base_of_pipe(
    state: State, wanted: Wanted, base: str, create: bool, region: Region | None
) -> Adapter:
    """The port that a pipe is on; if there is none of the name a switch port is made, which lives
    as long as the pipe."""
    parent = evolve(wanted, name=base)
    try:
        return find_port(state, parent, create, region)
    except NetmapError as e:
        if e.errno != ENXIO or not create:
            raise
        absent = e
    try:
        port = new_interface(state, parent)
    except NetmapError:
        raise absent from None
    port.get()
    return port


def _switch_port(state: State, wanted: Wanted, create: bool, region: Region | None) -> Adapter:
    switches = state.switches
    name = wanted.name
    switch = switches.find_or_create(name) if create else switches.existing(name)
    try:
        number = switch.find(name)
        if number is not None:
            port = switch.ports[number]
            assert port is not None
            return port
        if not create:
            raise NetmapError(ENXIO, f"no port {name}")
        switch.require_room()
        if name.partition(":")[2] in state.interfaces:
            raise NetmapError(EINVAL, f"{name} is an interface that is not attached")
        port = ValePort.create(state, name, wanted.counts, region)
        port.join(switch)
        return port
    finally:
        switch.drop_if_unused()


def _of_interface(state: State, wanted: Wanted, region: Region | None) -> Adapter:
    interface = state.interfaces.get(wanted.name)
    if interface is None:
        raise NetmapError(ENXIO, f"no interface {wanted.name!r}")
    port = adapter_of(state, interface)
    if region is not None:
        port.move_to(region)
    return port


def new_interface(state: State, wanted: Wanted) -> ValePort:
    """A persistent switch port, with a system interface of its name, on no switch yet.

    Raises NetmapError: EINVAL for a name that begins like a switch's or is too long, and for a
    region that is none; EEXIST; ENOMEM.
    """
    name = wanted.name
    if name.startswith("vale") or not 0 < len(name) < IFNAMSIZ or not _is_interface_name(name):
        raise NetmapError(EINVAL, f"{name!r} cannot be the name of an interface")
    if name in state.interfaces:
        raise NetmapError(EEXIST, f"there is an interface {name}")
    region = state.regions.find(wanted.mem_id) if wanted.mem_id else None
    port = ValePort.create(state, name, wanted.counts, region)
    port.interface_name = name
    state.add_interface(NetInterface(name, adapter=port))
    return port


def _is_interface_name(name: str) -> bool:
    # dev_valid_name of Linux
    return name not in (".", "..") and not any(c in "/:" or c.isspace() for c in name)


def delete_interface(state: State, name: str) -> None:
    """Take away an interface that NEWIF made.

    Raises NetmapError: ENXIO if there is none, EINVAL if it is another kind, EBUSY if it is open or
    on a switch.
    """
    if name not in state.interfaces:
        raise NetmapError(ENXIO, f"no interface {name!r}")
    port = state.interfaces[name].adapter
    if not isinstance(port, ValePort) or not port.persistent:
        raise NetmapError(EINVAL, f"{name} was not made by NEWIF")
    if port.references > 1 or port.busy or port.active_fds:
        raise NetmapError(EBUSY, f"{name} is in use")
    port.put()
