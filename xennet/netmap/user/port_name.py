"""Names of ports as libnetmap reads them: ``netmap:eth0-1/x``, ``vale0:a@conf:rings=4`` ...

    netmap:NAME or valeID:PORT   the port; NAME ends before the first of - * ^ / @
    NAME{ID, NAME}ID             an end of a pipe on it
    -N, ^, ^N, *                 ring pair N, the host rings, host ring pair N, NIC and host rings
    /xztrRT                      exclusive, zero-copy monitor, monitor of tx, rx; rx only, tx only
    @N                           memory region N
    @share=PORT                  the memory region that PORT has
    @extmem=FILE                 the pages of FILE as memory
    @extmem:file=FILE,buf-num=N  with if-num, if-size, ring-num, ring-size, buf-num, buf-size
    @conf:rings=N,slots=N        numbers of rings and slots; tx-, rx- and host- are put in front
    @offset=N                    frames begin N bytes behind the buffer's begin (switched off in
                                 libnetmap unless the program asks for it: ``offsets=True``)

Rules: libnetmap's nmreq.c and nmport.c (upstream 89607e14), held against records of it.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, EOPNOTSUPP

from attrs import define, field, frozen

from xennet.abi.netmap import (
    NETMAP_REQ_IFNAMSIZ,
    NR_EXCLUSIVE,
    NR_MONITOR_RX,
    NR_MONITOR_TX,
    NR_REG_ALL_NIC,
    NR_REG_NIC_SW,
    NR_REG_ONE_NIC,
    NR_REG_ONE_SW,
    NR_REG_SW,
    NR_RX_RINGS_ONLY,
    NR_TX_RINGS_ONLY,
    NR_ZCOPY_MON,
)
from xennet.netmap.errors import NetmapError
from xennet.netmap.user.c_numbers import atoi, strtol

#: Ring numbers end before this (netmap.h, NETMAP_RING_MASK).
RING_MASK = 0x0FFF
#: Letters behind a slash.
FLAGS = {
    "x": NR_EXCLUSIVE,
    "z": NR_ZCOPY_MON,
    "t": NR_MONITOR_TX,
    "r": NR_MONITOR_RX,
    "R": NR_RX_RINGS_ONLY,
    "T": NR_TX_RINGS_ONLY,
}
_SEPARATORS = "-*^/@"
_DIGITS = "0123456789"
#: Prefix -> whether the kernel gets to see it, whether an identifier may stand before the colon.
_PREFIXES = {"netmap": (False, False), "vale": (True, True)}

#: Key of @conf -> fields of the request that get the number, those for both directions first.
_CONF = {
    "rings": ("nr_tx_rings", "nr_rx_rings"),
    "host_rings": ("nr_host_tx_rings", "nr_host_rx_rings"),
    "slots": ("nr_tx_slots", "nr_rx_slots"),
    "tx_rings": ("nr_tx_rings",),
    "rx_rings": ("nr_rx_rings",),
    "host_tx_rings": ("nr_host_tx_rings",),
    "host_rx_rings": ("nr_host_rx_rings",),
    "tx_slots": ("nr_tx_slots",),
    "rx_slots": ("nr_rx_slots",),
}
#: Key of @extmem -> field of struct nmreq_pools_info.
_POOLS = {
    f"{pool}_{short}": f"nr_{pool}_pool_{name}"
    for pool in ("if", "ring", "buf")
    for short, name in (("num", "objtotal"), ("size", "objsize"))
}


@frozen
class Extmem:
    """Memory for a port: the pages of ``file``; ``pools`` has the fields of struct
    nmreq_pools_info that the name sets."""

    file: str
    pools: dict[str, int]


@frozen
class Offsets:
    """Where frames begin in their buffers: ``initial`` bytes, and the bits of ``ptr`` that tell."""

    initial: int
    bits: int


@define
class PortName:
    """What a name asks for.

    ``name``: the kernel's, ``register``: fields of struct nmreq_register, those that are not set
    are 0. ``extmem``, ``offsets``: options of the request.
    """

    name: str
    register: dict[str, int] = field(factory=dict)
    extmem: Extmem | None = None
    offsets: Offsets | None = None

    @property
    def mode(self) -> int:
        """NR_REG_*: which rings."""
        return self.register["nr_mode"]

    @property
    def flags(self) -> int:
        """NR_EXCLUSIVE and the like."""
        return self.register["nr_flags"]


#: A function that asks the device for the memory id of a port (kernel's name). Raises NetmapError.
MemIdOf = Callable[[str], int]


def _invalid(why: str) -> NetmapError:
    return NetmapError(EINVAL, why)


def parse_port_name(text: str, mem_id_of: MemIdOf, *, offsets: bool = False) -> PortName:
    """What ``text`` asks for (nmport_prepare).

    ``mem_id_of`` is asked where the name has @share. ``offsets``: the option of that name is taken
    (nmport_enable_option). Raises NetmapError: EINVAL for bad syntax, EOPNOTSUPP for @offset if it
    is not taken, and what ``mem_id_of`` raises.
    """
    name, rest = split_name(text)
    port = PortName(name)
    rest = _register(rest, port)
    if rest:
        _Options(port, mem_id_of, offsets).read(rest)
    return port


def is_identifier(text: str) -> bool:
    """Whether there are only letters and digits of ASCII, and underscores; also if it is empty."""
    return all(c == "_" or (c.isascii() and c.isalnum()) for c in text)


def split_name(text: str) -> tuple[str, str]:
    """The kernel's name of a port, and what stands behind it (nmreq_header_decode). Raises
    NetmapError(EINVAL)."""
    prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
    if prefix is None:
        raise _invalid(f"{text}: invalid request, prefix unknown or missing")
    shown, has_id = _PREFIXES[prefix]
    identifier, colon, port = text[len(prefix) :].partition(":")
    if not colon:
        raise _invalid(f"{text}: missing ':'")
    if identifier and not has_id:
        raise _invalid(f"{text}: no identifier allowed between {prefix!r} and ':'")
    if not is_identifier(identifier):
        raise _invalid(f"{text}: invalid identifier {identifier!r}")
    end = next((i for i, c in enumerate(port) if c in _SEPARATORS), len(port))
    port, rest = port[:end], port[end:]
    pipe = next((i for i, c in enumerate(port) if c in "{}"), None)
    if pipe is not None:
        pipe_id = port[pipe + 1 :]
        if not pipe_id and not rest:
            raise _invalid(f"{text}: invalid empty pipe name")
        if not is_identifier(pipe_id):
            raise _invalid(f"{text}: invalid pipe name {pipe_id!r}")
    name = f"{prefix}{identifier}:{port}" if shown else port
    if len(name.encode(errors="surrogateescape")) >= NETMAP_REQ_IFNAMSIZ:
        raise _invalid(f"name {name!r} too long")
    if not name:
        raise _invalid(f"{text}: invalid empty port name")
    return name, rest


def _ring_number(text: str) -> tuple[int, str]:
    """The number of a ring at the begin of ``text``, and the rest."""
    if not text or text[0] not in _DIGITS:
        raise _invalid(f"got {text!r} while expecting a number")
    number, length = strtol(text)
    if number >= RING_MASK:
        raise _invalid(f"{number} out of range [0, {RING_MASK})")
    return number, text[length:]


def _rings(rest: str, register: dict[str, int]) -> str:
    """Take the suffix that says which rings. Returns the rest."""
    kind, behind = rest[:1], rest[1:]
    if kind == "*":
        register["nr_mode"] = NR_REG_NIC_SW
    elif kind == "-":
        register["nr_mode"] = NR_REG_ONE_NIC
        register["nr_ringid"], behind = _ring_number(behind)
    elif kind == "^" and behind[:1] and behind[0] in _DIGITS:
        register["nr_mode"] = NR_REG_ONE_SW
        register["nr_ringid"], behind = _ring_number(behind)
    elif kind == "^":
        register["nr_mode"] = NR_REG_SW
    else:
        return rest
    return behind


def _flags(rest: str) -> tuple[int, str]:
    """Flags, behind their slash, and what follows from an @ on."""
    letters, at, behind = rest.partition("@")
    if not letters and not at:
        raise _invalid("unexpected end of request")
    flags = 0
    for letter in letters:
        if letter not in FLAGS:
            raise _invalid(f"unrecognized flag: {letter!r}")
        flags |= FLAGS[letter]
    return flags, at + behind


def _register(rest: str, port: PortName) -> str:
    """Take rings, flags and memory id (nmreq_register_decode). Returns the options, from their @
    on."""
    register = port.register
    register |= {"nr_mode": NR_REG_ALL_NIC, "nr_ringid": 0, "nr_flags": 0, "nr_mem_id": 0}
    rest = _rings(rest, register)
    while rest:
        kind, rest = rest[0], rest[1:]
        if kind == "/":
            flags, rest = _flags(rest)
            register["nr_flags"] |= flags
        elif kind == "@" and not rest:
            raise _invalid("invalid empty mem_id")
        elif kind == "@" and rest[0] not in _DIGITS:
            return "@" + rest
        elif kind == "@":
            number, length = strtol(rest)
            rest = rest[length:]
            if number <= 0:
                raise _invalid(f"invalid mem_id: {number}")
            before = register["nr_mem_id"]
            if before and before != number:
                raise _invalid(f"invalid setting of mem_id to {number} (already set to {before})")
            register["nr_mem_id"] = number & 0xFFFF
        else:
            raise _invalid(f"unexpected character: {kind!r}")
    return ""


@frozen
class _Option:
    """An option that a name may have: its keys, and the one that ``OPTION=VALUE`` sets, which
    has to be set."""

    keys: tuple[str, ...]
    default: str | None = None


_KNOWN = {
    "share": _Option(("port",), "port"),
    "extmem": _Option(("file", *_POOLS), "file"),
    "conf": _Option(tuple(_CONF)),
    "offset": _Option(("initial", "bits"), "initial"),
}


@define
class _Options:
    """Reads the options of a name (nmreq_options_decode)."""

    port: PortName
    mem_id_of: MemIdOf
    takes_offsets: bool

    def read(self, text: str) -> None:
        """Take all options of ``text``, which begins with an @."""
        for option in text[1:].split("@"):
            if not option:
                raise _invalid("invalid empty option")
            self._read_one(option)

    def _read_one(self, text: str) -> None:
        end = next((i for i, c in enumerate(text) if c in ":="), len(text))
        name, delimiter, body = text[:end], text[end : end + 1], text[end + 1 :]
        option = _KNOWN.get(name)
        if option is None:
            raise _invalid(f"unknown option: {name!r}")
        if name == "offset" and not self.takes_offsets:
            raise NetmapError(EOPNOTSUPP, f"option {name!r} is not supported")
        if not delimiter:
            raise _invalid(f"syntax error: missing body after {name!r}")
        if delimiter == "=":
            if option.default is None:
                raise _invalid(f"syntax error: '=' not valid after {name!r}")
            if not body:
                raise _invalid(f"missing value for option {name!r}")
            values = {option.default: body}
        else:
            values = _values(name, option, body)
        getattr(self, f"_{name}")(values)

    def _share(self, values: dict[str, str]) -> None:
        name, _ = split_name(values["port"])
        mem_id = self.mem_id_of(name)
        before = self.port.register["nr_mem_id"]
        if before and before != mem_id:
            raise _invalid(f"cannot set mem_id to {mem_id}, already set to {before}")
        self.port.register["nr_mem_id"] = mem_id

    def _extmem(self, values: dict[str, str]) -> None:
        if self.port.extmem is not None:
            raise _invalid(f"{self.port.name}: extmem already in use")
        pools = {field: atoi(values[key], 32) for key, field in _POOLS.items() if key in values}
        self.port.extmem = Extmem(values["file"], pools)

    def _conf(self, values: dict[str, str]) -> None:
        for key, fields in _CONF.items():
            if key in values:
                bits = 32 if "slots" in key else 16
                self.port.register.update(dict.fromkeys(fields, atoi(values[key], bits)))

    def _offset(self, values: dict[str, str]) -> None:
        bits = atoi(values["bits"], 32) if "bits" in values else 0
        self.port.offsets = Offsets(atoi(values["initial"], 32), bits)


def _values(name: str, option: _Option, body: str) -> dict[str, str]:
    """The keys that ``body`` sets; a minus in a key is an underscore, an empty value sets nothing
    (nmreq_option_parsekeys)."""
    values: dict[str, str] = {}
    for part in body.split(",") if body else ():
        key, equals, value = part.partition("=")
        key = key.replace("-", "_")
        if key not in option.keys:
            raise _invalid(f"unknown key: {key!r}")
        if key in values:
            raise _invalid(
                f"option {name!r}: duplicate key {key!r}, already set to {values[key]!r}"
            )
        if not equals:
            raise _invalid(f"option {name!r}: missing '=value' for key {key!r}")
        if value:
            values[key] = value
    if option.default is not None and option.default not in values:
        raise _invalid(f"option {name!r}: mandatory key {option.default!r} not assigned")
    return values
