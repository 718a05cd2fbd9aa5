"""nm_open of netmap_user.h: names and registrations of programs from before libnetmap.

A name is ``netmap:NAME`` or ``valeID:PORT`` with one of -N, ^, *, {N, }N behind it, then /xztrRT,
then @N. The request is NIOCREGIF. Rules: netmap_user.h, nm_parse and nm_open.
"""

from __future__ import annotations

from errno import EINVAL
from typing import Any

from attrs import define, frozen

from xennet.abi.netmap import (
    NETMAP_API,
    NR_REG_ALL_NIC,
    NR_REG_NIC_SW,
    NR_REG_ONE_NIC,
    NR_REG_PIPE_MASTER,
    NR_REG_PIPE_SLAVE,
    NR_REG_SW,
)
from xennet.abi.netmap_legacy import NIOCREGIF, NMREQ, NR_REG_MASK
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.device import Device
from xennet.netmap.errors import NetmapError
from xennet.netmap.net_interface import IFNAMSIZ
from xennet.netmap.user.c_numbers import strtol
from xennet.netmap.user.port_name import FLAGS, RING_MASK, is_identifier

_NETMAP, _VALE = "netmap:", "vale"
#: Character behind the name -> mode, whether a number follows.
_MODES = {
    "^": (NR_REG_SW, False),
    "*": (NR_REG_NIC_SW, False),
    "-": (NR_REG_ONE_NIC, True),
    "{": (NR_REG_PIPE_MASTER, True),
    "}": (NR_REG_PIPE_SLAVE, True),
}


@frozen
class OldName:
    """What a name asks for: the kernel's ``name``; ``flags``: mode and NR_EXCLUSIVE and the like;
    ``ringid``: of a ring or a pipe; ``mem_id``: 0 for the usual region."""

    name: str
    flags: int = NR_REG_ALL_NIC
    ringid: int = 0
    mem_id: int = 0


def parse_old_name(text: str) -> OldName:
    """What ``text`` asks for (nm_parse). Raises NetmapError: EINVAL, or errno 0 for a name with
    another prefix, of which nm_open says nothing."""
    if not text.startswith((_NETMAP, _VALE)):
        raise NetmapError(0, f"{text!r} is no name of netmap")
    switch = text.startswith(_VALE)
    name = text if switch else text.removeprefix(_NETMAP)
    first = name.find(":") + 1 if switch else 0
    if switch and not first:
        raise NetmapError(EINVAL, "missing ':' in vale name")
    if switch and not is_identifier(name[len(_VALE) : first - 1]):
        raise NetmapError(EINVAL, "invalid bridge name")
    end = next((i for i in range(first, len(name)) if name[i] in "-*^{}/@"), len(name))
    name, rest = name[:end], name[end:]
    if switch and not is_identifier(name[first:]):
        raise NetmapError(EINVAL, "invalid bridge port name")
    if len(name.encode(errors="surrogateescape")) >= IFNAMSIZ:
        raise NetmapError(EINVAL, "name too long")
    return _suffixes(name, rest)


def _suffixes(name: str, rest: str) -> OldName:
    flags, ringid, mem_id = NR_REG_ALL_NIC, 0, 0
    if rest[:1] in _MODES:
        flags, numbered = _MODES[rest[0]]
        rest = rest[1:]
        if numbered:
            ringid, length = strtol(rest)  # 0 where another suffix follows at once
            if not rest or not 0 <= ringid < RING_MASK:
                raise NetmapError(EINVAL, f"{rest!r} is no number from 0 to {RING_MASK - 1}")
            rest = rest[length:]
    while rest:
        kind, rest = rest[0], rest[1:]
        if kind == "/":
            letters, at, behind = rest.partition("@")
            if not letters and not at:
                raise NetmapError(EINVAL, "unexpected end of port name")
            for letter in letters:
                if letter not in FLAGS:
                    raise NetmapError(EINVAL, f"unrecognized flag: {letter!r}")
                flags |= FLAGS[letter]
            rest = at + behind
        elif kind == "@":
            if mem_id:
                raise NetmapError(EINVAL, "double setting of mem_id")
            number, length = strtol(rest)
            if number <= 0:
                raise NetmapError(EINVAL, f"invalid mem_id: {rest!r}")
            mem_id, rest = number & 0xFFFF, rest[length:]
        else:
            raise NetmapError(EINVAL, f"unexpected character: {kind!r}")
    return OldName(name, flags, ringid, mem_id)


@define(eq=False)
class NmDesc:
    """What nm_open returns: the open ``file``, ``req`` (struct nmreq as the device filled it in),
    and the first and last ring of each direction (host rings count on behind the others)."""

    file: Descriptor
    req: Any
    first_tx_ring: int
    last_tx_ring: int
    first_rx_ring: int
    last_rx_ring: int


def nm_open(text: str, device: Device) -> NmDesc:
    """Open and register, by NIOCREGIF. Raises NetmapError, with errno 0 for an unknown prefix."""
    wanted = parse_old_name(text)
    memory = ClientMemory()
    file = device.open(memory)
    fields = dict.fromkeys(NMREQ.fields, 0) | {
        "nr_name": wanted.name.encode("utf-8", "surrogateescape"),
        "nr_version": NETMAP_API,
        "nr_flags": wanted.flags,
        "nr_ringid": wanted.ringid,
        "nr_arg2": wanted.mem_id,
    }
    address = memory.map(bytearray(NMREQ.pack(*fields.values())))
    errno = device.ioctl(file, NIOCREGIF, address)
    if errno:
        device.close(file)
        raise NetmapError(errno, text)
    req = NMREQ.read(memory.read(address, NMREQ.size))
    (first_tx, last_tx), (first_rx, last_rx) = (
        _rings(wanted, count) for count in (req.nr_tx_rings, req.nr_rx_rings)
    )
    return NmDesc(file, req, first_tx, last_tx, first_rx, last_rx)


def _rings(wanted: OldName, nic: int) -> tuple[int, int]:
    """First and last ring of a direction with so many NIC rings."""
    match wanted.flags & NR_REG_MASK:
        case mode if mode == NR_REG_SW:
            return nic, nic
        case mode if mode == NR_REG_ALL_NIC:
            return 0, nic - 1
        case mode if mode == NR_REG_NIC_SW:
            return 0, nic
        case mode if mode == NR_REG_ONE_NIC:
            return wanted.ringid, wanted.ringid
    return 0, 0
