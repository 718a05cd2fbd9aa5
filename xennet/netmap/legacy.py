"""NIOCREGIF and NIOCGINFO: requests of programs from before NIOCCTRL, turned into the new ones.

Rules: netmap_legacy.c, nmreq_from_legacy and nmreq_to_legacy.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, ENOMEM
from typing import Any

from attrs import frozen

from xennet.abi import netmap as abi
from xennet.abi import netmap_legacy as legacy
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.errors import NetmapError
from xennet.netmap.module_state import State
from xennet.netmap.options import Options
from xennet.netmap.requests import REQUESTS, Call

#: Oldest version that is taken; any newer one is.
_OLDEST = 14
#: nr_cmd of the pass-through that is gone: the kernel has no request to turn them into.
_GONE = (legacy.NETMAP_PT_HOST_CREATE, legacy.NETMAP_PT_HOST_DELETE)

Fields = dict[str, int]
#: Field of a new request -> field of a nmreq.
_COUNTS = {
    name: name
    for name in ("nr_memsize", "nr_tx_slots", "nr_rx_slots", "nr_tx_rings", "nr_rx_rings")
}
_REGISTER = {
    "nr_offset": "nr_offset",
    **_COUNTS,
    "nr_mem_id": "nr_arg2",
    "nr_extra_bufs": "nr_arg3",
}
_INFO = {**_COUNTS, "nr_mem_id": "nr_arg2"}
_NEWIF = {name: old for name, old in _INFO.items() if name != "nr_memsize"}
_LIST = {"nr_bridge_idx": "nr_arg1", "nr_port_idx": "nr_arg2"}
_HDR = {"nr_hdr_len": "nr_arg1"}
_ATTACH = {f"reg.{name}": old for name, old in _REGISTER.items()}


def _mode(nmr: Any) -> int:
    mode: int = nmr.nr_flags & legacy.NR_REG_MASK
    if mode != abi.NR_REG_DEFAULT:
        return mode
    # Before there was nr_flags, bits of the ring's number told.
    if nmr.nr_ringid & legacy.NETMAP_SW_RING:
        return abi.NR_REG_SW
    if nmr.nr_ringid & legacy.NETMAP_HW_RING:
        return abi.NR_REG_ONE_NIC
    return abi.NR_REG_ALL_NIC


def _register(nmr: Any) -> Fields:
    flags = nmr.nr_flags & ~legacy.NR_REG_MASK
    if nmr.nr_ringid & legacy.NETMAP_NO_TX_POLL:
        flags |= abi.NR_NO_TX_POLL
    if nmr.nr_ringid & legacy.NETMAP_DO_RX_POLL:
        flags |= abi.NR_DO_RX_POLL
    ringid = nmr.nr_ringid & legacy.NETMAP_RING_MASK
    return {"nr_mode": _mode(nmr), "nr_ringid": ringid, "nr_flags": flags}


def _attach(nmr: Any) -> Fields:
    fields = {f"reg.{name}": value for name, value in _register(nmr).items()}
    host = nmr.nr_arg1 & legacy.NETMAP_BDG_HOST
    fields["reg.nr_mode"] = abi.NR_REG_NIC_SW if host else abi.NR_REG_ALL_NIC
    return fields


def _polling(nmr: Any) -> Fields:
    modes = {
        abi.NR_REG_ONE_NIC: abi.NETMAP_POLLING_MODE_MULTI_CPU,
        abi.NR_REG_ALL_NIC: abi.NETMAP_POLLING_MODE_SINGLE_CPU,
    }
    return {
        "nr_mode": modes.get(nmr.nr_flags & legacy.NR_REG_MASK, 0),
        "nr_first_cpu_id": nmr.nr_ringid & legacy.NETMAP_RING_MASK,
        "nr_num_polling_cpus": nmr.nr_arg1,
    }


def _nothing(_nmr: Any) -> Fields:
    return {}


@frozen
class _Translation:
    """The new request, the fields that both have, and how others are found."""

    reqtype: int
    same: dict[str, str]
    more: Callable[[Any], Fields] = _nothing


#: nr_cmd of NIOCREGIF -> the request.
_COMMANDS = {
    0: _Translation(abi.NETMAP_REQ_REGISTER, _REGISTER, _register),
    legacy.NETMAP_BDG_ATTACH: _Translation(abi.NETMAP_REQ_VALE_ATTACH, _ATTACH, _attach),
    legacy.NETMAP_BDG_DETACH: _Translation(abi.NETMAP_REQ_VALE_DETACH, {}),
    legacy.NETMAP_BDG_VNET_HDR: _Translation(abi.NETMAP_REQ_PORT_HDR_SET, _HDR),
    legacy.NETMAP_VNET_HDR_GET: _Translation(abi.NETMAP_REQ_PORT_HDR_GET, _HDR),
    legacy.NETMAP_BDG_NEWIF: _Translation(abi.NETMAP_REQ_VALE_NEWIF, _NEWIF),
    legacy.NETMAP_BDG_DELIF: _Translation(abi.NETMAP_REQ_VALE_DELIF, {}),
    legacy.NETMAP_BDG_POLLING_ON: _Translation(abi.NETMAP_REQ_VALE_POLLING_ENABLE, {}, _polling),
    legacy.NETMAP_BDG_POLLING_OFF: _Translation(abi.NETMAP_REQ_VALE_POLLING_DISABLE, {}, _polling),
}
_PORT_INFO = _Translation(abi.NETMAP_REQ_PORT_INFO_GET, _INFO)
_PORT_LIST = _Translation(abi.NETMAP_REQ_VALE_LIST, _LIST)


def _translation(command: int, nr_cmd: int) -> _Translation:
    if command == legacy.NIOCGINFO:
        return _PORT_LIST if nr_cmd == legacy.NETMAP_BDG_LIST else _PORT_INFO
    if nr_cmd in _GONE:
        raise NetmapError(ENOMEM, f"no request for command {nr_cmd}")
    if nr_cmd not in _COMMANDS:
        raise NetmapError(EINVAL, f"no command {nr_cmd}")
    return _COMMANDS[nr_cmd]


def legacy_ioctl(state: State, file: Descriptor, command: int, address: int) -> None:
    """NIOCREGIF or NIOCGINFO with a nmreq at ``address``. Raises NetmapError or FaultError; the
    nmreq stays as it was then."""
    memory = file.memory
    raw = memory.read(address, legacy.NMREQ.size)
    nmr = legacy.NMREQ.read(raw)
    if nmr.nr_version < _OLDEST:
        raise NetmapError(EINVAL, f"version {nmr.nr_version}")
    translation = _translation(command, nmr.nr_cmd)
    request = REQUESTS[translation.reqtype]
    body: Fields = dict.fromkeys(request.body.fields, 0) if request.body is not None else {}
    body.update({name: getattr(nmr, old) for name, old in translation.same.items()})
    body.update(translation.more(nmr))
    name = nmr.nr_name[:15].partition(b"\0")[0].decode("latin-1")
    pipe = {abi.NR_REG_PIPE_MASTER: "{", abi.NR_REG_PIPE_SLAVE: "}"}.get(body.get("nr_mode", 0))
    if pipe is not None and translation.reqtype == abi.NETMAP_REQ_REGISTER:
        name = f"{name}{pipe}{body['nr_ringid']}"
        body.update(nr_mode=abi.NR_REG_ALL_NIC, nr_ringid=0)
    call = Call(state, file, name, body, Options())
    request.run(call)
    told = dict(zip(legacy.NMREQ.fields, legacy.NMREQ.unpack_from(raw), strict=True))
    for new, old in translation.same.items():
        told[old] = call.body[new] & (1 << 8 * legacy.NMREQ.sizes[old]) - 1
    if translation is _PORT_LIST:
        told["nr_name"] = call.name.encode("latin-1")[:15]
    memory.write(address, legacy.NMREQ.pack(*told.values()))
