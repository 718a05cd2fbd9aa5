"""The device: files that are opened, and the ioctls on them with requests in a client's memory.

    device = Device()
    memory = ClientMemory()
    file = device.open(memory)
    device.ioctl(file, NIOCCTRL, memory.map(bytearray(request)))

Every answer is an errno (0 is fine); nothing that a client passes raises. The request that starts a
kernel loop is answered when the loop ends: it is ``PENDING`` until then.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT, EINVAL, EOPNOTSUPP
from functools import partial

from attrs import define, field

from xennet.abi.codec import Codec
from xennet.abi.netmap import (
    HEADER,
    NETMAP_MAX_API,
    NETMAP_MIN_API,
    NETMAP_REQ_IFNAMSIZ,
    NIOCCTRL,
    NIOCRXSYNC,
    NIOCTXSYNC,
)
from xennet.abi.netmap_legacy import NIOCCONFIG, NIOCGINFO, NIOCREGIF
from xennet.netmap.address_space import AddressSpace, FaultError
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.errors import NetmapError
from xennet.netmap.legacy import legacy_ioctl
from xennet.netmap.module_state import State
from xennet.netmap.options import read_options
from xennet.netmap.requests import REQUESTS, Call
from xennet.netmap.sync import Syncer

#: What :meth:`Device.ioctl` returns for a request that is answered later.
PENDING = -1

_RESERVED = HEADER.offsets["nr_reserved"]
_NAME = HEADER.offsets["nr_name"]


@define(eq=False)
class Device:
    """A netmap device with its switches, regions and interfaces."""

    state: State = field(factory=State)
    _syncer: Syncer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._syncer = Syncer(self.state)

    def open(self, memory: AddressSpace) -> Descriptor:
        """Open the device for a client with this memory."""
        return Descriptor(memory, self._syncer)

    def ioctl(
        self,
        file: Descriptor,
        command: int,
        address: int = 0,
        answer: Callable[[int], None] | None = None,
    ) -> int:
        """One ioctl; ``address`` is that of the request. Returns 0 or an errno.

        For NIOCCTRL with NETMAP_REQ_SYNC_KLOOP_START it is PENDING while the loop runs;
        ``answer(errno)`` is called when it has ended.
        """
        self.state.caller = file.memory
        try:
            if command == NIOCTXSYNC:
                file.txsync()
            elif command == NIOCRXSYNC:
                file.rxsync()
            elif command == NIOCCTRL:
                return self._control(file, address, answer)
            elif command in (NIOCREGIF, NIOCGINFO):
                legacy_ioctl(self.state, file, command, address)
            elif command == NIOCCONFIG:
                return EINVAL  # of switches with other functions than VALE's
            else:
                return EOPNOTSUPP
        except NetmapError as e:
            return e.errno
        except FaultError:
            return EFAULT
        return 0

    def _control(self, file: Descriptor, address: int, answer: Callable[[int], None] | None) -> int:
        """NIOCCTRL: copy in, run, copy out. Returns 0 or PENDING. Raises NetmapError or
        FaultError."""
        memory = file.memory
        header = HEADER.read(memory.read(address, HEADER.size))
        if not NETMAP_MIN_API <= header.nr_version <= NETMAP_MAX_API:
            raise NetmapError(EINVAL, f"API {header.nr_version}")
        memory.write(address + _NAME + NETMAP_REQ_IFNAMSIZ - 1, b"\0")
        if header.nr_reserved:
            raise NetmapError(EINVAL, "nr_reserved is not 0")
        request = REQUESTS.get(header.nr_reqtype)
        codec = request.body if request is not None else None
        if bool(header.nr_body) != (codec is not None):
            # The kernel has marked the header as its own by now, and forgets to take that back.
            memory.write(address + _RESERVED, (1).to_bytes(4, "little"))
            raise NetmapError(EINVAL, f"request {header.nr_reqtype}: a body too many or too few")
        body = _read_body(memory, header.nr_body, codec)
        options = read_options(memory, header.nr_options, codec.size if codec else 0)
        name = header.nr_name[: NETMAP_REQ_IFNAMSIZ - 1].partition(b"\0")[0].decode("latin-1")
        call = Call(self.state, file, name, body, options)
        try:
            if request is None:
                raise NetmapError(EINVAL, f"no request {header.nr_reqtype}")
            request.run(call)
        except NetmapError:
            options.write_back(memory, False)
            raise
        copy_out = partial(_write_back, memory, address, name, call, header.nr_body, codec)
        if call.loop is not None:
            call.loop.when_ended.append(partial(_answer_later, copy_out, answer))
            return PENDING
        copy_out()
        return 0

    def read_write(self) -> int:
        """read() and write(): the device has neither. Returns EINVAL."""
        return EINVAL

    def close(self, file: Descriptor) -> None:
        """close(): the file goes with its last descriptor and mapping."""
        file.close()


def _answer_later(copy_out: Callable[[], None], answer: Callable[[int], None] | None) -> None:
    errno = 0
    try:
        copy_out()
    except FaultError:
        errno = EFAULT
    if answer is not None:
        answer(errno)


def _read_body(memory: AddressSpace, address: int, codec: Codec | None) -> dict[str, int]:
    if codec is None:
        return {}
    values = codec.unpack_from(memory.read(address, codec.size))
    return dict(zip(codec.fields, values, strict=True))


def _write_back(
    memory: AddressSpace, address: int, name: str, call: Call, body_at: int, codec: Codec | None
) -> None:
    if call.name != name:
        told = call.name.encode("latin-1")[: NETMAP_REQ_IFNAMSIZ - 1]
        memory.write(address + _NAME, told.ljust(NETMAP_REQ_IFNAMSIZ, b"\0"))
    if codec is not None:
        memory.write(body_at, codec.pack(*(call.body[field] for field in codec.fields)))
    call.options.write_back(memory, True)
