"""What is done for each ``op`` of a record, and what is shown of it in the record's own form."""

from __future__ import annotations

import re
from collections.abc import Callable
from errno import EOPNOTSUPP
from typing import Any

from attrs import evolve

from xennet.abi.netmap import (
    HEADER,
    NETMAP_API,
    NETMAP_REQ_REGISTER,
    NIOCCTRL,
    NIOCRXSYNC,
    NIOCTXSYNC,
    NS_MOREFRAG,
    REGISTER,
)
from xennet.abi.netmap_legacy import NIOCCONFIG, NIOCGINFO, NIOCREGIF
from xennet.netmap.errors import NetmapError
from xennet.netmap.pools import PoolSize
from xennet.netmap.replay.control_step import ctrl, plain_hex
from xennet.netmap.replay.recorded_machine import Client, Machine, named
from xennet.netmap.sync import POLLERR, POLLIN, POLLOUT

Step = dict[str, Any]
#: Bytes of a frame that a record shows.
_SHOWN = 32
_EVENTS = (("IN", POLLIN), ("OUT", POLLOUT), ("ERR", POLLERR))
#: Slots that an extra chain of a record shows at most, and buffers that it counts.
_CHAIN_COUNTED = 200000


def _client(machine: Machine, step: Step) -> Client:
    return machine.clients[step["fd"]]


def _open(machine: Machine, step: Step) -> Step:
    machine.open(step["fd"])
    return {}


def _close(machine: Machine, step: Step) -> Step:
    machine.close(step["fd"])
    return {}


def _mmap(machine: Machine, step: Step) -> Step:
    try:
        _client(machine, step).file.mmap(step["length"], step.get("offset", 0))
    except NetmapError as e:
        return {"errno": named(e.errno)}
    return {"errno": 0}


def _synced(machine: Machine, step: Step, command: int) -> Step:
    errno = machine.device.ioctl(_client(machine, step).file, command)
    return {"ret": -1 if errno else 0, "errno": named(errno)}


def _poll(machine: Machine, step: Step) -> Step:
    asked = sum(bit for name, bit in _EVENTS if name in step["events"].split("|"))
    found = _client(machine, step).file.poll(asked)
    shown = "|".join(name for name, bit in _EVENTS if found & bit)
    return {"revents": shown, "waited_full": not found and step["timeout_ms"] > 0}


def _setring(machine: Machine, step: Step) -> Step:
    values = {name: step[name] for name in ("head", "cur", "tail") if name in step}
    _client(machine, step).set_ring(step["ring"], **values)
    return {}


def _setringflags(machine: Machine, step: Step) -> Step:
    _client(machine, step).set_ring(step["ring"], flags=step["flags"])
    return {}


_SLOT_FIELDS = {"idx": "buf_idx", "len": "len", "flags": "flags", "ptr": "ptr"}


def _setslot(machine: Machine, step: Step) -> Step:
    values = {field: step[name] for name, field in _SLOT_FIELDS.items() if name in step}
    _client(machine, step).set_slot(step["ring"], step["slot"], **values)
    return {}


def _put(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    data = bytes.fromhex(plain_hex(step["data"]))
    data += bytes([step.get("fill", 0)]) * (step["datalen"] - len(data))
    index = client.slot(step["ring"], step["slot"]).buf_idx
    at = client.buffer_at(step["ring"], index) + step.get("at", 0)
    client.region[at : at + len(data)] = data
    values = {field: step[name] for name, field in _SLOT_FIELDS.items() if name in step}
    client.set_slot(step["ring"], step["slot"], **values)
    return {}


def _state(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    heads = {ring: client.ring_head(ring) for ring in step["rings"]}
    return {"rings": {ring: [head.head, head.cur, head.tail] for ring, head in heads.items()}}


def _ringhdr(machine: Machine, step: Step) -> Step:
    head = _client(machine, step).ring_head(step["ring"])
    names = ("buf_ofs", "num_slots", "nr_buf_size", "ringid", "dir", "head", "cur", "tail", "flags")
    shown = {name: getattr(head, name) for name in names}
    stamped = bool(head.ts_tv_sec or head.ts_tv_usec)
    return shown | {
        "ts_set": type(step["ts_set"])(stamped),
        "offset_mask": head.offset_mask,
        "buf_align": head.buf_align,
    }


def _slots(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    shown = []
    for i, recorded in enumerate(step["slots"]):
        slot = client.slot(step["ring"], step["first"] + i)
        shown.append([slot.buf_idx, slot.len, slot.flags, slot.ptr][: len(recorded)])
    return {"slots": shown}


def _slotsummary(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    number = client.ring_head(step["ring"]).num_slots
    slots = [client.slot(step["ring"], i) for i in range(number)]
    runs: list[list[int]] = []
    for slot in slots:
        if runs and slot.buf_idx == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([slot.buf_idx, 1])
    return {
        "buf_idx_runs": runs,
        "lens": sorted({slot.len for slot in slots}),
        "flags": sorted({slot.flags for slot in slots}),
        "ptrs": sorted({slot.ptr for slot in slots}),
    }


def _netmap_if(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    head = client.interface()
    return {
        "name": head.ni_name.partition(b"\0")[0].decode("latin-1"),
        "version": head.ni_version,
        "flags": head.ni_flags,
        "tx": head.ni_tx_rings,
        "rx": head.ni_rx_rings,
        "bufs_head": head.ni_bufs_head,
        "host_tx": head.ni_host_tx_rings,
        "host_rx": head.ni_host_rx_rings,
        "ring_ofs": client.ring_offsets(),
    }


def _first_word(client: Client, index: int) -> int:
    bufs = client.file.bound().port.region.bufs
    at = bufs.offset_of(index)
    return int.from_bytes(client.region[at : at + 4], "little")


def _extra_chain(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    head = index = client.interface().ni_bufs_head
    chain: list[int] = []
    while index and len(chain) < _CHAIN_COUNTED:
        chain.append(index)
        index = _first_word(client, index)
    return {"bufs_head": head, "count": len(chain), "first": chain[: len(step["first"])]}


def _write_bufs_head(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    registration = client.file.bound()
    registration.port.set_bufs_head(registration.if_offset, step["value"])
    if "its_next" in step:
        at = registration.port.region.bufs.offset_of(step["value"])
        client.region[at : at + 4] = step["its_next"].to_bytes(4, "little")
    return {}


def _frames(client: Client, ring: str, shown: int | None) -> Step:
    head = client.ring_head(ring)
    frames = []
    i = head.head
    while i != head.tail:
        slot = client.slot(ring, i)
        at = client.buffer_at(ring, slot.buf_idx)
        length = slot.len if shown is None else min(slot.len, shown)
        frames.append([slot.len, slot.flags, client.region[at : at + length].tobytes().hex()])
        i = (i + 1) % head.num_slots
    return {"state": [head.head, head.cur, head.tail], "frames": frames}


def _received(machine: Machine, step: Step) -> Step:
    found = _frames(_client(machine, step), step["ring"], None)
    frames, recorded = found["frames"], step["frames"]
    words = next((i for i, frame in enumerate(recorded) if isinstance(frame, str)), None)
    if words is not None:
        # Of many frames a record has the first and the last, and says how many there were.
        last = frames[words + len(frames) - len(recorded) + 1 :]
        frames[words:] = [f"{len(frames)} frames in all", *last]
    for frame, was in zip(frames, recorded, strict=False):
        if isinstance(was, list):
            frame[2] = frame[2][: max(len(was[2]), 2 * _SHOWN)]
    return found


def _received_full(machine: Machine, step: Step) -> Step:
    found = _frames(_client(machine, step), step.get("ring", "rx0"), None)
    for recorded, frame in zip(step["frames"], found["frames"], strict=False):
        if not isinstance(recorded[2], str) and plain_hex(recorded[2]) == frame[2]:
            frame[2] = recorded[2]
    return found


def _tags(machine: Machine, step: Step) -> Step:
    client = next(c for c in machine.clients.values() if c.file.registration is not None)
    if "fd" in step:
        client = _client(machine, step)
    frames = _frames(client, step["ring"], _SHOWN)["frames"]
    return {"tags": [int(data[28:30], 16) for _, _, data in frames]}


def _tx_packet(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    data = bytes.fromhex(plain_hex(step["data"]))
    for i, length in enumerate(step["fragments"]):
        at = client.buffer_at("tx0", client.slot("tx0", i).buf_idx)
        client.region[at : at + length] = data[:length]
        data = data[length:]
        last = i == len(step["fragments"]) - 1
        client.set_slot("tx0", i, len=length, flags=0 if last else NS_MOREFRAG)
    return {}


def _packet_socket(machine: Machine, step: Step) -> Step:
    return {"got": machine.seen.pop(step["dev"], [])}


def _ring_offset(machine: Machine, step: Step) -> Step:
    client = _client(machine, step) if "fd" in step else next(iter(machine.clients.values()))
    head = client.ring_head(step["ring"])
    ptrs = {client.slot(step["ring"], i).ptr for i in range(head.num_slots)}
    return {
        "offset_mask": head.offset_mask,
        "buf_align": head.buf_align,
        "ptrs": sorted(ptrs),
    }


#: An address of which nothing is mapped.
_NOT_MAPPED = 0x7F0000000000


def _ioctl(machine: Machine, step: Step) -> Step:
    client = next(iter(machine.clients.values()))
    if "what" in step:
        return _fault(machine, client, step)
    errno = machine.device.ioctl(client.file, int(step["cmd"], 16))
    # Python calls Linux's EOPNOTSUPP by its other name.
    return {"res": [-1, "ENOTSUP"] if errno == EOPNOTSUPP else [-1 if errno else 0, named(errno)]}


def _fault(machine: Machine, client: Client, step: Step) -> Step:
    """NIOCCTRL, a REGISTER, with one pointer to memory that is not mapped."""
    where = step["what"].split()[0]
    if where == "header":
        errno = machine.device.ioctl(client.file, NIOCCTRL, _NOT_MAPPED)
        return {"ret": -1 if errno else 0, "errno": named(errno)}
    body = client.memory.map(bytearray(REGISTER.size))
    pointers = {"body": (0, _NOT_MAPPED), "options": (_NOT_MAPPED, body)}[where]
    header = HEADER.pack(NETMAP_API, NETMAP_REQ_REGISTER, 0, b"dm0", *pointers)
    address = client.memory.map(bytearray(header))
    errno = machine.device.ioctl(client.file, NIOCCTRL, address)
    told = client.memory.read(address, len(step["header_same"]) // 2).hex()
    return {"res": [-1 if errno else 0, named(errno)], "header_same": told}


def _rw(machine: Machine, step: Step) -> Step:
    return {"errno": named(machine.device.read_write())}


def _offset_buffers(machine: Machine, step: Step) -> Step:
    """Slot 0 of rx0 of clients b and c, and bytes of its buffer, at the offsets in the keys."""
    shown: Step = {}
    for key, recorded in step.items():
        if key == "op":
            continue
        fd, _, place = key.partition("_")
        client = machine.clients[fd]
        slot = client.slot("rx0", 0)
        if place == "slot":
            shown[key] = [slot.buf_idx, slot.len, slot.flags, slot.ptr]
        else:
            at = client.buffer_at("rx0", slot.buf_idx) + int(place.removeprefix("at_"))
            shown[key] = client.region[at : at + len(recorded) // 2].tobytes().hex()
    return shown


def _slot(machine: Machine, step: Step) -> Step:
    slot = machine.clients["a"].slot("tx0", 0)
    return {"v": [slot.buf_idx, slot.len, slot.flags, slot.ptr]}


def _legacy(machine: Machine, step: Step, command: int) -> Step:
    client = _client(machine, step)
    request = bytes.fromhex(step["request"])
    address = client.memory.map(bytearray(request))
    errno = machine.device.ioctl(client.file, command, address)
    reply = client.memory.read(address, len(request)).hex()
    return {
        "ret": -1 if errno else 0,
        "errno": named(errno),
        "reply": "same" if reply == step["request"] else reply,
    }


def _config(machine: Machine, step: Step) -> Step:
    client = _client(machine, step) if "fd" in step else next(iter(machine.clients.values()))
    errno = machine.device.ioctl(client.file, NIOCCONFIG, client.memory.map(bytearray(272)))
    return {"res": [-1 if errno else 0, named(errno)]}


def _user_memory(machine: Machine, step: Step) -> Step:
    client = next(iter(machine.clients.values()))
    length = len(step["at_offset_of_netmap_if"]) // 2
    at = client.if_offset
    return {"at_offset_of_netmap_if": client.region[at : at + length].tobytes().hex()}


def _stack_sends(machine: Machine, step: Step) -> Step:
    machine.device.state.interfaces[step["dev"]].send(bytes.fromhex(step["frame"]))
    return {}


def _arrives(machine: Machine, step: Step) -> Step:
    machine.device.state.interfaces[step["dev"]].arrives(bytes.fromhex(step["frame"]))
    return {}


def _socket_opened(machine: Machine, step: Step) -> Step:
    machine.seen.pop(step["dev"], None)
    return {}


def _parameter(machine: Machine, step: Step) -> Step:
    state = machine.device.state
    values = {name: value for name, value in step.items() if name != "op"}
    buf_num, buf_size = values.pop("buf_num", None), values.pop("buf_size", None)
    if buf_num is not None and buf_size is not None:
        sizes = state.regions.shared.sizes
        state.regions.shared.resize(evolve(sizes, bufs=PoolSize(buf_num, buf_size)))
    for name, value in values.items():
        setattr(state.parameters, name, value)
    return {}


def _dup(machine: Machine, step: Step) -> Step:
    _client(machine, step).file.dup()
    return {}


def _drop(machine: Machine, step: Step) -> Step:
    machine.device.close(_client(machine, step).file)
    return {}


_MTU = re.compile(r"(\w+) mtu (\d+)")
_ALL_HOLD = re.compile(r"all (\d+) tx buffers of (\w) hold 60-byte broadcast frames tagged .*")


def _note(machine: Machine, step: Step) -> Step:
    """Words of the record; some say what was done to the machine."""
    text = step.get("text", "")
    if (match := _MTU.fullmatch(text)) is not None:
        machine.device.state.interfaces[match[1]].mtu = int(match[2])
    elif (match := _ALL_HOLD.fullmatch(text)) is not None:
        for i in range(int(match[1])):
            data = "ffffffffffff02000000000188b5" + f"{i:02x}" * 46
            where = {"fd": match[2], "ring": "tx0", "slot": i}
            _put(machine, where | {"data": data, "datalen": 60, "len": 60, "flags": 0})
    return {}


def _nothing(_machine: Machine, _step: Step) -> Step:
    """A step that says what another one did already."""
    return {}


STEPS: dict[str, Callable[[Machine, Step], Step]] = {
    "open": _open,
    "close": _close,
    "mmap": _mmap,
    "ctrl": ctrl,
    "txsync": lambda machine, step: _synced(machine, step, NIOCTXSYNC),
    "rxsync": lambda machine, step: _synced(machine, step, NIOCRXSYNC),
    "poll": _poll,
    "setring": _setring,
    "setringflags": _setringflags,
    "setslot": _setslot,
    "put": _put,
    "state": _state,
    "ringhdr": _ringhdr,
    "slots": _slots,
    "slotsummary": _slotsummary,
    "netmap_if": _netmap_if,
    "extra_chain": _extra_chain,
    "write_bufs_head": _write_bufs_head,
    "received": _received,
    "received_full": _received_full,
    "tags": _tags,
    "tx_packet": _tx_packet,
    "packet_socket": _packet_socket,
    "ring_offset": _ring_offset,
    "ioctl": _ioctl,
    "rw": _rw,
    "buffers": _offset_buffers,
    "slot": _slot,
    "user_memory": _user_memory,
    "NIOCGINFO": lambda machine, step: _legacy(machine, step, NIOCGINFO),
    "NIOCREGIF": lambda machine, step: _legacy(machine, step, NIOCREGIF),
    "NIOCCONFIG": _config,
    "note": _note,
    "shell": _nothing,
    "extmem_reply": _nothing,
    # What unrecorded.py puts in
    "stack_sends": _stack_sends,
    "arrives": _arrives,
    "socket_opened": _socket_opened,
    "parameter": _parameter,
    "dup": _dup,
    "drop": _drop,
}
