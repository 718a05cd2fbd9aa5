"""The requests of NIOCCTRL, one function each.

A request is a :class:`Call`: the header, the fields of the body, the options. A function changes
the body, which is given back if it succeeds, and raises NetmapError otherwise. Rules: netmap.c,
netmap_ioctl.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, EINVAL, EIO, ENOENT, ENXIO, EOPNOTSUPP

from attrs import define

from xennet.abi import netmap as abi
from xennet.abi.codec import Codec
from xennet.netmap.adapter import Adapter
from xennet.netmap.csb import enable
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.errors import NetmapError
from xennet.netmap.extmem import external_region
from xennet.netmap.kloop import Kloop, start, stop
from xennet.netmap.lookup import Wanted, delete_interface, find_port, new_interface
from xennet.netmap.module_state import State
from xennet.netmap.monitor import Monitor
from xennet.netmap.options import Options
from xennet.netmap.region import MAX_EXTRA_BUFS, Region
from xennet.netmap.registration import Registration
from xennet.netmap.vale import VNET_HEADERS
from xennet.netmap.vale_forward import NM_BDG_MAXPORTS, NM_BDG_NOPORT
from xennet.netmap.vale_nic import attach, detach, set_polling
from xennet.netmap.vale_switch import is_switch_port


@define(eq=False)
class Call:
    """One request of a client. ``name`` may be changed, and is given back in any case.

    ``loop``: the request is answered when this one ends.
    """

    state: State
    file: Descriptor
    name: str
    body: dict[str, int]
    options: Options
    loop: Kloop | None = None


def _register(call: Call) -> None:
    file, body = call.file, call.body
    if file.registration is not None:
        raise NetmapError(EBUSY, "the file is registered")
    region = _external_region(call)
    try:
        port = find_port(call.state, Wanted.of(call.name, body), region=region)
    finally:
        if region is not None:
            call.state.regions.put(region)
    try:
        _register_port(call, port)
    except NetmapError:
        if file.registration is None:
            port.put()
        raise


def _external_region(call: Call) -> Region | None:
    """The region in the client's memory, with a reference for the caller, if the request has that
    option."""
    option = call.options.find(abi.NETMAP_REQ_OPT_EXTMEM)
    if option is None:
        return None
    return external_region(call.state, call.file.memory, option)


def _register_port(call: Call, port: Adapter) -> None:
    file, body = call.file, call.body
    if port.busy:
        raise NetmapError(EBUSY, f"{port.name} is attached to a switch")
    flags = body["nr_flags"]
    if port.virt_hdr_len and not flags & abi.NR_ACCEPT_VNET_HDR:
        raise NetmapError(EIO, f"{port.name} has a virtio-net header")
    if port.active_fds == 0 and port.host_rings:
        port.host_tx_rings = body["nr_host_tx_rings"] or port.host_tx_rings
        port.host_rx_rings = body["nr_host_rx_rings"] or port.host_rx_rings
    made = Registration.make(
        port,
        body["nr_mode"],
        body["nr_ringid"],
        flags,
        call.options.find(abi.NETMAP_REQ_OPT_OFFSETS),
    )
    file.registration = made
    try:
        body.update(_counts(port))
        csb = call.options.find(abi.NETMAP_REQ_OPT_CSB)
        if csb is not None:
            enable(file, made, csb)
        body["nr_memsize"] = port.region.memsize
        body["nr_offset"] = made.if_offset
        if isinstance(port, Monitor):
            body["nr_flags"] |= port.flags
        if body["nr_extra_bufs"]:
            asked = body["nr_extra_bufs"]
            if port.region.private:
                asked = min(asked, MAX_EXTRA_BUFS)
            head, body["nr_extra_bufs"] = port.region.extra_alloc(asked)
            port.set_bufs_head(made.if_offset, head)
        if call.options.unsupported():
            raise NetmapError(EOPNOTSUPP, "an option was not taken")
    except NetmapError:
        file.unregister()
        raise


def _counts(port: Adapter) -> dict[str, int]:
    return {
        "nr_tx_slots": port.tx_slots,
        "nr_rx_slots": port.rx_slots,
        "nr_tx_rings": port.tx_rings,
        "nr_rx_rings": port.rx_rings,
        "nr_host_tx_rings": port.host_count(True),
        "nr_host_rx_rings": port.host_count(False),
        "nr_mem_id": port.region.nm_id,
    }


def _port_info_get(call: Call) -> None:
    body = call.body
    if not call.name:
        region = call.state.regions.find(body["nr_mem_id"] or 1)
        body.update(nr_memsize=region.memsize, nr_mem_id=region.nm_id)
        return
    port = find_port(call.state, Wanted.of(call.name, body))
    body.update(_counts(port), nr_memsize=port.region.memsize)
    port.put()


def _pools_info_get(call: Call) -> None:
    body = call.body
    port = find_port(call.state, Wanted(call.name, mem_id=body["nr_mem_id"]))
    region = port.region
    body.update(nr_memsize=region.memsize, nr_mem_id=region.nm_id)
    for kind, pool in (("if", region.ifs), ("ring", region.rings), ("buf", region.bufs)):
        body[f"nr_{kind}_pool_offset"] = pool.offset
        body[f"nr_{kind}_pool_objtotal"] = pool.layout.objtotal
        body[f"nr_{kind}_pool_objsize"] = pool.layout.objsize
    port.put()


def _port_hdr_set(call: Call) -> None:
    length = call.body["nr_hdr_len"]
    if length not in VNET_HEADERS:
        raise NetmapError(EINVAL, f"no virtio-net header has {length} bytes")
    if not is_switch_port(call.name):
        raise NetmapError(ENXIO, f"{call.name!r} is no port of a switch")
    port = find_port(call.state, Wanted(call.name), create=False)
    port.set_virt_hdr(length)
    port.put()


def _port_hdr_get(call: Call) -> None:
    port = find_port(call.state, Wanted(call.name), create=False)
    call.body["nr_hdr_len"] = port.virt_hdr_len
    port.put()


def _vale_list(call: Call) -> None:
    if call.name:
        _list_by_name(call)
    else:
        _list_from(call)


def _list_by_name(call: Call) -> None:
    if not call.name.startswith("vale"):
        raise NetmapError(EINVAL, f"{call.name!r} is no port of a switch")
    switch = call.state.switches.find(call.name)
    if switch is None:
        raise NetmapError(ENOENT, f"no switch of {call.name!r}")
    number = switch.find(call.name)
    call.body["nr_bridge_idx"] = switch.index
    call.body["nr_port_idx"] = NM_BDG_NOPORT if number is None else number


def _list_from(call: Call) -> None:
    first = call.body["nr_port_idx"]
    for switch in call.state.switches.all[call.body["nr_bridge_idx"] :]:
        for number in range(first, NM_BDG_MAXPORTS):
            port = switch.ports[number]
            if port is not None:
                call.name = port.name
                call.body["nr_bridge_idx"] = switch.index
                call.body["nr_port_idx"] = number
                return
        first = 0
    raise NetmapError(ENOENT, "no port from there on")


def _vale_newif(call: Call) -> None:
    port = new_interface(call.state, Wanted.of(call.name, call.body))
    port.persistent = True
    port.get()
    counts = _counts(port)
    call.body.update({field: counts[field] for field in call.body if field in counts})


def _vale_delif(call: Call) -> None:
    delete_interface(call.state, call.name)


def _vale_attach(call: Call) -> None:
    body = call.body
    mem_id = body["reg.nr_mem_id"]
    region = call.state.regions.find(mem_id) if mem_id else None
    body["port_index"] = attach(
        call.state,
        call.name,
        body["reg.nr_mode"],
        body["reg.nr_ringid"],
        body["reg.nr_flags"],
        region,
    )


def _vale_detach(call: Call) -> None:
    call.body["port_index"] = detach(call.state, call.name)


def _vale_polling_enable(call: Call) -> None:
    set_polling(call.state, call.name, True, call.body)


def _vale_polling_disable(call: Call) -> None:
    set_polling(call.state, call.name, False, call.body)


def _csb_enable(call: Call) -> None:
    option = call.options.find(abi.NETMAP_REQ_OPT_CSB)
    if option is None:
        raise NetmapError(EINVAL, "no control blocks are given")
    enable(call.file, call.file.registration, option)


def _sync_kloop_start(call: Call) -> None:
    call.loop = start(call.file, call.body["sleep_us"], call.options)


def _sync_kloop_stop(call: Call) -> None:
    stop(call.file)


@define
class RequestType:
    """What a number in nr_reqtype means: the layout of the body, None for none, and what is
    done."""

    body: Codec | None
    run: Callable[[Call], None]


REQUESTS: dict[int, RequestType] = {
    abi.NETMAP_REQ_REGISTER: RequestType(abi.REGISTER, _register),
    abi.NETMAP_REQ_PORT_INFO_GET: RequestType(abi.PORT_INFO, _port_info_get),
    abi.NETMAP_REQ_VALE_ATTACH: RequestType(abi.VALE_ATTACH, _vale_attach),
    abi.NETMAP_REQ_VALE_DETACH: RequestType(abi.VALE_DETACH, _vale_detach),
    abi.NETMAP_REQ_VALE_LIST: RequestType(abi.VALE_LIST, _vale_list),
    abi.NETMAP_REQ_PORT_HDR_SET: RequestType(abi.PORT_HDR, _port_hdr_set),
    abi.NETMAP_REQ_PORT_HDR_GET: RequestType(abi.PORT_HDR, _port_hdr_get),
    abi.NETMAP_REQ_VALE_NEWIF: RequestType(abi.VALE_NEWIF, _vale_newif),
    abi.NETMAP_REQ_VALE_DELIF: RequestType(None, _vale_delif),
    abi.NETMAP_REQ_VALE_POLLING_ENABLE: RequestType(abi.VALE_POLLING, _vale_polling_enable),
    abi.NETMAP_REQ_VALE_POLLING_DISABLE: RequestType(abi.VALE_POLLING, _vale_polling_disable),
    abi.NETMAP_REQ_POOLS_INFO_GET: RequestType(abi.POOLS_INFO, _pools_info_get),
    abi.NETMAP_REQ_SYNC_KLOOP_START: RequestType(abi.KLOOP_START, _sync_kloop_start),
    abi.NETMAP_REQ_SYNC_KLOOP_STOP: RequestType(None, _sync_kloop_stop),
    abi.NETMAP_REQ_CSB_ENABLE: RequestType(None, _csb_enable),
}
