"""Ports for programs: open one by its name, fill and empty its rings, sync, sleep, close.

    with open_port("netmap:vale0:1") as port:
        ring = port.tx_rings[0]
        ring[ring.head].put(frame)
        ring.hand_over()
        port.txsync()

Rules: libnetmap's nmport.c (register, map, find the rings), netmap_user.h (nm_inject, nm_nextpkt).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EBADF, EINVAL, ENOENT
from itertools import pairwise
from types import TracebackType
from typing import Any

from xennet.abi.codec import Codec
from xennet.abi.netmap import (
    HEADER,
    IF,
    NETMAP_API,
    NETMAP_REQ_IFNAMSIZ,
    NETMAP_REQ_OPT_CSB,
    NETMAP_REQ_OPT_EXTMEM,
    NETMAP_REQ_OPT_OFFSETS,
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    NETMAP_REQ_POOLS_INFO_GET,
    NETMAP_REQ_PORT_INFO_GET,
    NETMAP_REQ_REGISTER,
    NETMAP_REQ_VALE_LIST,
    NIOCCTRL,
    NIOCRXSYNC,
    NIOCTXSYNC,
    OPT_EXTMEM,
    OPT_OFFSETS,
    OPTION,
    POOLS_INFO,
    PORT_INFO,
    REGISTER,
    VALE_LIST,
)
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.device import PENDING, Device
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import Kring
from xennet.netmap.user.kernel_loop import KernelLoop
from xennet.netmap.user.mapped_ring import Ring
from xennet.netmap.user.port_name import Extmem, Offsets, PortName, parse_port_name
from xennet.netmap.user.process_device import device_of_process

#: Names of options in messages (nmreq_option_name).
_OPTION_NAMES = {
    NETMAP_REQ_OPT_EXTMEM: "extmem",
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS: "sync-kloop-eventfds",
    NETMAP_REQ_OPT_CSB: "csb",
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE: "sync-kloop-mode",
    NETMAP_REQ_OPT_OFFSETS: "offsets",
}


def control(
    device: Device,
    file: Descriptor,
    reqtype: int,
    name: str,
    codec: Codec | None,
    fields: dict[str, int],
    options: tuple[tuple[int, bytes], ...] = (),
    answer: Callable[[int], None] | None = None,
) -> tuple[str, Any]:
    """A NIOCCTRL of ``file``, whose memory is a ClientMemory. Returns the name and the body (None
    without a ``codec``) of the reply. A request that is answered later (``answer``, as
    :meth:`~xennet.netmap.device.Device.ioctl` has it) stays mapped.

    ``fields`` of the body that are not named are 0. ``options``: type, and the whole option as
    bytes. Raises NetmapError with the errno; the message names an option that was refused.
    """
    memory = file.memory
    assert isinstance(memory, ClientMemory)
    values = dict.fromkeys(codec.fields, 0) | fields if codec is not None else {}
    body = codec.pack(*values.values()) if codec is not None else b""
    mapped = [memory.map(bytearray(whole)) for _, whole in options]
    for at, following in pairwise(mapped):
        memory.write(at, following.to_bytes(8, "little"))
    body_at = memory.map(bytearray(body)) if codec is not None else 0
    raw_name = name.encode("utf-8", "surrogateescape")[: NETMAP_REQ_IFNAMSIZ - 1]
    header = HEADER.pack(NETMAP_API, reqtype, 0, raw_name, mapped[0] if mapped else 0, body_at)
    header_at = memory.map(bytearray(header))
    try:
        errno = device.ioctl(file, NIOCCTRL, header_at, answer)
        if errno == PENDING:
            mapped, header_at, body_at = [], 0, 0
            return name, None
        if errno:
            raise NetmapError(errno, _refused(memory, name, errno, mapped))
        told = HEADER.read(memory.read(header_at, HEADER.size))
        reply = codec.read(memory.read(body_at, codec.size)) if codec is not None else None
        return told.nr_name.partition(b"\0")[0].decode("utf-8", "surrogateescape"), reply
    finally:
        for at in (header_at, body_at, *mapped):
            if at:
                memory.unmap(at)


def _refused(memory: ClientMemory, name: str, errno: int, options: list[int]) -> str:
    said = []
    for at in options:
        option = OPTION.read(memory.read(at, OPTION.size))
        if option.nro_status:
            known = _OPTION_NAMES[option.nro_reqtype]
            said.append(f"option {known}: {os.strerror(option.nro_status)}")
    return f"{name}: {', '.join(said) or os.strerror(errno)}"


def info(device: Device, name: str, **fields: int) -> Any:
    """What NETMAP_REQ_PORT_INFO_GET tells of a port (the kernel's name), as a structure; ``fields``
    of the request count for a port that has to be made. Raises NetmapError."""
    file = device.open(ClientMemory())
    try:
        return control(device, file, NETMAP_REQ_PORT_INFO_GET, name, PORT_INFO, fields)[1]
    finally:
        device.close(file)


def pools(port: Port) -> list[tuple[str, int, int]]:
    """What NETMAP_REQ_POOLS_INFO_GET tells of the memory of an open port: of each pool its name
    ("if", "ring", "buf"), its number of objects and their size in bytes."""
    name = port.kernel_name
    _, told = control(port.device, port.file, NETMAP_REQ_POOLS_INFO_GET, name, POOLS_INFO, {})
    return [
        (
            pool,
            int(getattr(told, f"nr_{pool}_pool_objtotal")),
            int(getattr(told, f"nr_{pool}_pool_objsize")),
        )
        for pool in ("if", "ring", "buf")
    ]


def ports_of_switches(device: Device) -> Iterator[tuple[int, int, str]]:
    """The ports that are on switches, by NETMAP_REQ_VALE_LIST: number of the switch, number on it,
    name."""
    file = device.open(ClientMemory())
    try:
        switch = number = 0
        while True:
            fields = {"nr_bridge_idx": switch, "nr_port_idx": number}
            try:
                name, at = control(device, file, NETMAP_REQ_VALE_LIST, "", VALE_LIST, fields)
            except NetmapError as e:
                if e.errno != ENOENT:
                    raise
                return
            yield at.nr_bridge_idx, at.nr_port_idx, name
            switch, number = at.nr_bridge_idx, at.nr_port_idx + 1
    finally:
        device.close(file)


def parsed(text: str, device: Device, *, offsets: bool = False) -> PortName:
    """What a name asks for (:func:`~xennet.netmap.user.port_name.parse_port_name`), @share looked
    up on ``device``."""
    return parse_port_name(text, lambda name: int(info(device, name).nr_mem_id), offsets=offsets)


def open_port(
    name: str,
    *,
    device: Device | None = None,
    memory: ClientMemory | None = None,
    offsets: bool = False,
    **register: int,
) -> Port:
    """Open, register and map the port that ``name`` says (nmport_open).

    ``name`` is libnetmap's, such as "netmap:vale0:1/R" (xennet.netmap.user.port_name). ``device``:
    None for that of this process. ``memory``: the client's, in which NS_INDIRECT pointers lead; a
    new one if None. ``offsets``: @offset is taken. ``register``: fields of struct nmreq_register
    beside those that the name sets, such as ``nr_extra_bufs=8`` or ``nr_flags=NR_NO_TX_POLL``;
    flags are added.

    Raises NetmapError with the errno: EINVAL for bad syntax, or what the device answers.
    """
    device = device_of_process() if device is None else device
    wanted = parsed(name, device, offsets=offsets)
    wanted.register["nr_flags"] |= register.pop("nr_flags", 0)
    return Port(name, wanted, device, ClientMemory() if memory is None else memory, register)


#: The function under its name in the package: ``xennet.netmap.open``.
open = open_port


class Port:
    """A port that is registered and mapped.

    ``name``: as it was opened. ``reply``: struct nmreq_register as the device filled it in.
    ``tx_rings``, ``rx_rings``: the rings that this port is bound to, host rings behind the others.
    ``region``: the mapped memory. ``memory``: of the client. ``file``: the descriptor.

    It is a context manager, and can be selected for reading: see :meth:`fileno`.
    """

    def __init__(
        self,
        name: str,
        wanted: PortName,
        device: Device,
        memory: ClientMemory,
        more: dict[str, int] | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.memory = memory
        self.file = device.open(memory)
        self._eventfd = -1
        self._extmem: list[int] = []
        self._waiting: list[tuple[Kring, Callable[[], None]]] = []
        try:
            options = self._options(wanted)
            fields = wanted.register | (more or {})
            self.kernel_name, self.reply = control(
                device, self.file, NETMAP_REQ_REGISTER, wanted.name, REGISTER, fields, options
            )
            self.region = self.file.mmap(self.reply.nr_memsize)
        except BaseException:
            self._release()
            raise
        self.tx_rings, self.rx_rings = self._rings()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.tx_rings} {self.rx_rings}"
        return f"<Port {self.name}: {state}>"

    # --- made ---------------------------------------------------------------------------------

    def _options(self, wanted: PortName) -> tuple[tuple[int, bytes], ...]:
        options = []
        if wanted.offsets is not None:
            options.append((NETMAP_REQ_OPT_OFFSETS, _offsets_option(wanted.offsets)))
        if wanted.extmem is not None:
            options.append((NETMAP_REQ_OPT_EXTMEM, self._extmem_option(wanted.extmem)))
        return tuple(options)

    def _extmem_option(self, extmem: Extmem) -> bytes:
        pages = _mapped(extmem.file)
        address = self.memory.map(memoryview(pages))
        self._extmem.append(address)
        fields = {f"nro_info.{name}": value for name, value in extmem.pools.items()}
        fields |= {"nro_usrptr": address, "nro_info.nr_memsize": len(pages)}
        return _option(OPT_EXTMEM, NETMAP_REQ_OPT_EXTMEM, fields)

    def _rings(self) -> tuple[list[Ring], list[Ring]]:
        """The rings with an offset in the netmap_if, tx and rx."""
        at = int(self.reply.nr_offset)
        head = IF.read(self.region, at)
        tx = head.ni_tx_rings + head.ni_host_tx_rings
        rx = head.ni_rx_rings + head.ni_host_rx_rings
        first = at + IF.size
        offsets = self.region[first : first + 8 * (tx + rx)].cast("q")
        rings = [
            (i < tx, Ring(self.region, at + ofs, i < tx)) for i, ofs in enumerate(offsets) if ofs
        ]
        return [ring for is_tx, ring in rings if is_tx], [r for is_tx, r in rings if not is_tx]

    # --- syncs --------------------------------------------------------------------------------

    def _ioctl(self, command: int) -> None:
        errno = self.device.ioctl(self.file, command)
        if errno:
            raise NetmapError(errno, self.name)

    def txsync(self) -> None:
        """NIOCTXSYNC: send the slots before head, and see which are free. Raises NetmapError."""
        self._quiet()
        self._ioctl(NIOCTXSYNC)
        self._ring_if_unread()

    def rxsync(self) -> None:
        """NIOCRXSYNC: give back the slots before head, and see which have frames. Raises
        NetmapError."""
        self._quiet()
        self._ioctl(NIOCRXSYNC)
        self._ring_if_unread()

    def control(
        self,
        reqtype: int,
        codec: Codec | None,
        fields: dict[str, int],
        options: tuple[tuple[int, bytes], ...] = (),
        answer: Callable[[int], None] | None = None,
    ) -> Any:
        """A NIOCCTRL of this port's file, as :func:`control`. Returns the body of the reply. Raises
        NetmapError."""
        device, file = self.device, self.file
        return control(device, file, reqtype, self.kernel_name, codec, fields, options, answer)[1]

    def kernel_loop(
        self,
        sleep_us: int = 100,
        *,
        events: bool = False,
        direct_tx: bool = False,
        direct_rx: bool = False,
    ) -> KernelLoop:
        """Sync by control blocks and a kernel loop from now on. Returns the loop, with the rings to
        use in place of this port's.

        The loop looks every ``sleep_us`` microseconds; with ``events`` it is kicked and interrupts
        by eventfds; ``direct_tx`` and ``direct_rx``: a kick syncs its ring at once. Raises
        NetmapError: EINVAL for a port that was not opened exclusively (/x), a sleep of more than a
        second, direct mode without events.
        """
        if (direct_tx or direct_rx) and not events:
            raise NetmapError(EINVAL, "direct mode needs events")
        return KernelLoop(self, sleep_us, events, direct_tx, direct_rx)

    def poll(self, events: int) -> int:
        """Sync as poll(2) does. Returns which of ``events`` (select.POLLIN, POLLOUT ...) are so
        now, and POLLERR; does not wait."""
        self._quiet()
        found = self.file.poll(events)
        self._ring_if_unread()
        return found

    def fileno(self) -> int:
        """A descriptor that can be read when a sync may find something: frames in rx rings, free
        slots in tx rings.

        It stays so until a sync that leaves no frame unread; it may be readable without cause.
        What fills the rings is in this process, so a program that sleeps on it needs another
        thread, or other descriptors. Raises NetmapError(EBADF) for a closed port.
        """
        if self.closed:
            raise NetmapError(EBADF, f"{self.name} is closed")
        if self._eventfd < 0:
            self._eventfd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.notify(rx=self._wake, tx=self._wake)
        return self._eventfd

    def notify(self, *, rx: Callable[[], None], tx: Callable[[], None]) -> None:
        """Have ``rx()`` called when frames come into an rx ring, ``tx()`` when a tx ring may have
        free slots again, as the device wakes those that sleep in poll; until the port is closed."""
        for kring in self.file.bound().binding.every():
            kring.waiters.append(tx if kring.tx else rx)
            self._waiting.append((kring, tx if kring.tx else rx))

    def _wake(self) -> None:
        if self._eventfd >= 0:
            os.eventfd_write(self._eventfd, 1)

    def _quiet(self) -> None:
        if self._eventfd >= 0:
            with suppress(BlockingIOError):
                os.eventfd_read(self._eventfd)

    def _ring_if_unread(self) -> None:
        if self._eventfd >= 0 and any(ring.cur != ring.tail for ring in self.rx_rings):
            self._wake()

    # --- whole packets ------------------------------------------------------------------------

    def inject(self, frame: bytes | memoryview) -> bool:
        """Copy ``frame`` into the first tx ring with space, to be sent by the next sync
        (nm_inject). Returns False if there is none. Raises ValueError if it is longer than a
        buffer."""
        for ring in self.tx_rings:
            if ring.space:
                ring[ring.head].put(frame)
                ring.hand_over()
                return True
        return False

    def next_packet(self) -> bytes | None:
        """A copy of the next packet of the rx rings, whose slots the next sync gives back
        (nm_nextpkt); None if there is none until then."""
        for ring in self.rx_rings:
            if slots := ring.packet():
                packet = b"".join([slot.data for slot in slots])
                ring.hand_over(len(slots))
                return packet
        return None

    # --- gone ---------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the port was closed."""
        return not self.file.descriptors

    def close(self) -> None:
        """Unmap and close; the rings of a closed port are no rings any more. May be repeated."""
        if not self.closed:
            self._release()

    def _release(self) -> None:
        while self._waiting:
            kring, waiter = self._waiting.pop()
            kring.waiters.remove(waiter)
        if self._eventfd >= 0:
            os.close(self._eventfd)
            self._eventfd = -1
        self.tx_rings, self.rx_rings = [], []
        while self.file.mappings:
            self.file.munmap()
        self.device.close(self.file)
        while self._extmem:
            self.memory.unmap(self._extmem.pop())

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _option(codec: Codec, option_type: int, fields: dict[str, int]) -> bytes:
    head = {"nro_opt.nro_reqtype": option_type, "nro_opt.nro_size": codec.size - OPTION.size}
    return codec.pack(*(dict.fromkeys(codec.fields, 0) | head | fields).values())


def _offsets_option(offsets: Offsets) -> bytes:
    fields = {
        "nro_max_offset": offsets.initial,
        "nro_initial_offset": offsets.initial,
        "nro_offset_bits": offsets.bits,
    }
    return _option(OPT_OFFSETS, NETMAP_REQ_OPT_OFFSETS, fields)


def _mapped(path: str) -> mmap.mmap:
    """All of a file as shared memory. Raises NetmapError with the errno of open or mmap."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        errno = getattr(e, "errno", None) or EINVAL
        raise NetmapError(errno, f"cannot open {path!r}: {os.strerror(errno)}") from e
    try:
        return mmap.mmap(fd, 0)
    except (OSError, ValueError) as e:
        errno = getattr(e, "errno", None) or EINVAL
        raise NetmapError(errno, f"cannot mmap {path!r}: {os.strerror(errno)}") from e
    finally:
        os.close(fd)
