"""What is done for each ``op`` of a record, and what is shown of it in the record's own form."""

from __future__ import annotations

import re
from collections.abc import Callable
from errno import EOPNOTSUPP
from typing import Any

from attrs import evolve

from xennet.abi.netmap import (
    ATOK,
    HEADER,
    KTOA,
    NETMAP_API,
    NETMAP_REQ_REGISTER,
    NETMAP_REQ_SYNC_KLOOP_START,
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
from xennet.netmap.replay.record_limits import MOST_BUFFERS, MOST_BYTES, MOST_FRAMES, bounded
from xennet.netmap.replay.recorded_machine import Client, Machine, named
from xennet.netmap.sync import POLLERR, POLLIN, POLLOUT

Step = dict[str, Any]
#: Bytes of a frame that a record shows.
_SHOWN = 32
_EVENTS = (("IN", POLLIN), ("OUT", POLLOUT), ("ERR", POLLERR))
#: Slots that an extra chain of a record shows at most, and buffers that it counts.
_CHAIN_COUNTED = 200000


def _client(machine: Machine, step: Step) -> Client:
    machine.last = step.get("fd", machine.last)
    return machine.clients[machine.last]


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
    length = bounded("bytes of a frame", step["datalen"], MOST_BYTES)
    data += bytes([step.get("fill", 0)]) * (length - len(data))
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
    for _ in range(head.num_slots):  # tail may be what a step has written, beyond the ring
        if i == head.tail:
            break
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
    frames = _frames(_client(machine, step), step["ring"], _SHOWN)["frames"]
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
        bounded("buffers", buf_num, MOST_BUFFERS)
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


def _child_after_parent_close(machine: Machine, step: Step) -> Step:
    """A child that inherited the only descriptor, which the parent has closed, sends two slots."""
    client = machine.clients[machine.last]
    client.file.dup()
    machine.device.close(client.file)
    client.set_ring("tx0", head=2, cur=2)
    synced = _synced(machine, {"fd": machine.last}, NIOCTXSYNC)
    head = client.ring_head("tx0")
    return {"result": [synced["ret"], [head.head, head.cur, head.tail]]}


def _csb_shift(machine: Machine, step: Step) -> Step:
    machine.csb_shift = (step["atok"], step["ktoa"])
    return {}


def _csb(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    machine.device.state.pump.pass_time(_A_WHILE)
    atok, ktoa = client.csb
    number = len(step["atok"])
    shown = [ATOK.read(client.memory.read(atok + i * ATOK.size, ATOK.size)) for i in range(number)]
    told = [KTOA.read(client.memory.read(ktoa + i * KTOA.size, KTOA.size)) for i in range(number)]
    return {
        "atok": [[a.head, a.cur, a.appl_need_kick, a.sync_flags] for a in shown],
        "ktoa": [[k.hwcur, k.hwtail, k.kern_need_kick] for k in told],
        "ktoa_pad_zero": not any(byte for k in told for byte in k.pad),
    }


def _received_csb(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    slot = client.slot("rx0", 0)
    at = client.buffer_at("rx0", slot.buf_idx)
    data = client.region[at : at + len(step["data"]) // 2].tobytes().hex()
    return {"slot": [slot.buf_idx, slot.len, slot.flags], "data": data}


def _write_atok(machine: Machine, step: Step) -> Step:
    client = _client(machine, step)
    at = client.csb[0] + step["ring"] * ATOK.size
    client.memory.write(at, step["head"].to_bytes(4, "little") * 2)
    return {}


def _kloop_start(machine: Machine, step: Step) -> Step:
    kloop_step = {"reqtype": NETMAP_REQ_SYNC_KLOOP_START, "name": "", "body_in": "64" + "0" * 14}
    return ctrl(machine, kloop_step | {"fd": step["fd"]})


#: ns in which a kernel loop sees what was written.
_A_WHILE = 1_000_000

#: How often each of two threads synced.
_ROUNDS = 200

_MTU = re.compile(r"(\w+) mtu (\d+)")
_WRITTEN = re.compile(r"atok\[(\d+)\]\.head=cur=(\d+)( \(out of range\))? written")
_ONE_BY_ONE = re.compile(r"(\w) sends (\d+) frames tagged 0\.\.\d+, one TXSYNC each")
_ALL_HOLD = re.compile(r"all (\d+) tx buffers of (\w) hold 60-byte broadcast frames tagged .*")


def _note(machine: Machine, step: Step) -> Step:
    """Words of the record; some say what was done to the machine."""
    text = step.get("text", "")
    if (match := _MTU.fullmatch(text)) is not None:
        machine.device.state.interfaces[match[1]].mtu = int(match[2])
    elif (match := _WRITTEN.fullmatch(text)) is not None:
        _write_atok(machine, {"fd": "a", "ring": int(match[1]), "head": int(match[2])})
    elif (match := _ONE_BY_ONE.fullmatch(text)) is not None:
        _send_one_by_one(machine, match[1], bounded("frames", match[2], MOST_FRAMES))
    elif (match := _ALL_HOLD.fullmatch(text)) is not None:
        for i in range(bounded("frames", match[1], MOST_FRAMES)):
            data = "ffffffffffff02000000000188b5" + f"{i:02x}" * 46
            where = {"fd": match[2], "ring": "tx0", "slot": i}
            _put(machine, where | {"data": data, "datalen": 60, "len": 60, "flags": 0})
    elif text == "START (in the thread) returned":
        errno = machine.answers.pop()
        return {"ret": -1 if errno else 0, "errno": named(errno)}
    elif text == "distinct results":
        # The calls of two threads: the device serves one after the other.
        results = {_two_numbers(_synced(machine, {}, NIOCTXSYNC)) for _ in range(2 * _ROUNDS)}
        return {"results": sorted(results)}
    return {}


def _two_numbers(shown: Step) -> str:
    return f"({shown['ret']}, {shown['errno']})"


def _send_one_by_one(machine: Machine, fd: str, number: int) -> None:
    source = "0200000000" + ("02" if fd == "b" else "01")
    slots = machine.clients[fd].ring_head("tx0").num_slots
    for i in range(number):
        data = "ffffffffffff" + source + "88b5" + f"{i:02x}" * 46
        where = {"fd": fd, "ring": "tx0", "slot": i % slots}
        _put(machine, where | {"data": data, "datalen": 60, "len": 60, "flags": 0})
        head = (i + 1) % slots
        _setring(machine, where | {"head": head, "cur": head})
        _synced(machine, {"fd": fd}, NIOCTXSYNC)


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
    "child_after_parent_close": _child_after_parent_close,
    "csb": _csb,
    "received_csb": _received_csb,
    "note": _note,
    "shell": _nothing,
    "extmem_reply": _nothing,
    # What unrecorded.py puts in
    "stack_sends": _stack_sends,
    "arrives": _arrives,
    "socket_opened": _socket_opened,
    "parameter": _parameter,
    "csb_shift": _csb_shift,
    "write_atok": _write_atok,
    "kloop_start": _kloop_start,
    "dup": _dup,
    "drop": _drop,
}
