"""The options of a request: a list in the client's memory, copied in and out with the request.

Rules: netmap.c, nmreq_copyin and nmreq_copyout of upstream 89607e14. All that is copied has to fit
into one buffer of the kernel; an option that no command uses says EOPNOTSUPP.
"""

from __future__ import annotations

from errno import EINVAL, EMSGSIZE, EOPNOTSUPP
from typing import Any

from attrs import define, field

from xennet.abi.netmap import (
    NETMAP_REQ_MAXSIZE,
    NETMAP_REQ_OPT_CSB,
    NETMAP_REQ_OPT_EXTMEM,
    NETMAP_REQ_OPT_MAX,
    NETMAP_REQ_OPT_OFFSETS,
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    OPT_CSB,
    OPT_EXTMEM,
    OPT_MODE,
    OPT_OFFSETS,
    OPTION,
)
from xennet.netmap.address_space import AddressSpace
from xennet.netmap.errors import NetmapError

#: Bytes of the kernel's copy, and what is in it besides body and options: two pointers of the
#: client, and the table of options by type; and one pointer more for each option.
COPY_BYTES = 4208
_POINTERS = 16
_TABLE = 8 * NETMAP_REQ_OPT_MAX
_SAVED_NEXT = 8

#: Bytes behind the option header, by type; of event descriptors nro_size says how many.
_BODY = {
    NETMAP_REQ_OPT_EXTMEM: OPT_EXTMEM.size - OPTION.size,
    NETMAP_REQ_OPT_CSB: OPT_CSB.size - OPTION.size,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE: OPT_MODE.size - OPTION.size,
    NETMAP_REQ_OPT_OFFSETS: OPT_OFFSETS.size - OPTION.size,
}
_STATUS_AT = OPTION.offsets["nro_status"]


@define(eq=False)
class Option:
    """One option. ``address``: where the client has it. ``whole``: header and body as copied in; of
    a body that is shorter than its type the rest is zeros. ``size``: bytes of the body that the
    client has, ``told_size``: its nro_size. ``status``: an errno, or 0."""

    address: int
    type: int
    size: int
    whole: bytearray
    told_size: int
    status: int = EOPNOTSUPP

    def read(self, codec: Any) -> Any:
        """The option as a structure."""
        return codec.read(self.whole)

    @property
    def body(self) -> bytearray:
        """What is behind the option header."""
        return self.whole[OPTION.size :]


@define(eq=False)
class Options:
    """The options of one request, in the order of the list."""

    all: list[Option] = field(factory=list)

    def find(self, option_type: int) -> Option | None:
        """The option of a type that netmap knows."""
        return next((option for option in self.all if option.type == option_type), None)

    def unsupported(self) -> bool:
        """Whether there is one that the command did not take."""
        return any(option.status == EOPNOTSUPP for option in self.all)

    def write_back(self, memory: AddressSpace, request_ok: bool) -> None:
        """Tell the client each status, and of a request that succeeded what options answer. Raises
        FaultError."""
        for option in self.all:
            option.whole[_STATUS_AT : _STATUS_AT + 4] = option.status.to_bytes(4, "little")
            memory.write(option.address, bytes(option.whole[: OPTION.size]))
            if request_ok and not option.status and option.size:
                body = bytes(option.body[: option.size])
                memory.write(option.address + OPTION.size, body)


def read_options(memory: AddressSpace, first: int, body: int) -> Options:
    """Copy in the list that begins at address ``first``. ``body``: bytes of the request's body.

    Raises FaultError; NetmapError(EMSGSIZE) if it does not fit; NetmapError(EINVAL) for type 0, or
    a second option of a type that netmap knows, whose statuses are told to the client at once.
    """
    options = Options()
    left = COPY_BYTES - _POINTERS - body - _TABLE
    total = body
    address = first
    while address:
        header = memory.read(address, OPTION.size)
        following, option_type, _, size = OPTION.unpack_from(header)
        known = 0 < option_type < NETMAP_REQ_OPT_MAX
        length = 0
        if option_type == NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS:
            length = max(0, size - OPTION.size)
        elif known:
            length = _BODY[option_type]
        left -= _SAVED_NEXT + OPTION.size + length
        total += OPTION.size + length
        if left < 0 or total > NETMAP_REQ_MAXSIZE + OPTION.size or size > NETMAP_REQ_MAXSIZE:
            raise NetmapError(EMSGSIZE, "the options do not fit")
        if option_type == 0:
            _refuse(memory, address)
        if known and (before := options.find(option_type)) is not None:
            _refuse(memory, before.address, address)
        # The client's own size is believed where it is the smaller one: the rest reads as zeros.
        given = length if size >= length or not known else size
        if option_type == NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS:
            given = length
        whole = bytearray(header + memory.read(address + OPTION.size, given))
        whole += bytes(OPTION.size + length - len(whole))
        options.all.append(Option(address, option_type, given, whole, size))
        address = following
    return options


def _refuse(memory: AddressSpace, *addresses: int) -> None:
    for address in addresses:
        memory.write(address + _STATUS_AT, EINVAL.to_bytes(4, "little"))
    raise NetmapError(EINVAL, "an option of type 0, or two of one type")
