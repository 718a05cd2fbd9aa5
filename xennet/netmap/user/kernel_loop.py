"""A port whose rings a kernel loop syncs: the program writes head and cur into control blocks.

    with xennet.netmap.open("netmap:vale0:1/x") as port, port.kernel_loop(events=True) as loop:
        ring = loop.tx_rings[0]
        ring[ring.head].put(frame)
        ring.hand_over()
        ring.kick()
        loop.go_on()

Rules: net/netmap.h, nm_sync_kloop_appl_write and nm_sync_kloop_appl_read.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Protocol

from xennet.abi.codec import Codec
from xennet.abi.netmap import (
    ATOK,
    KLOOP_START,
    KTOA,
    NETMAP_REQ_CSB_ENABLE,
    NETMAP_REQ_OPT_CSB,
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    NETMAP_REQ_SYNC_KLOOP_START,
    NETMAP_REQ_SYNC_KLOOP_STOP,
    NM_OPT_SYNC_KLOOP_DIRECT_RX,
    NM_OPT_SYNC_KLOOP_DIRECT_TX,
    OPT_CSB,
    OPT_MODE,
    OPTION,
)
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.device import Device
from xennet.netmap.user.mapped_ring import Ring

_HEAD, _CUR, _WANTS = (ATOK.offsets[name] // 4 for name in ("head", "cur", "appl_need_kick"))
_HWCUR, _HWTAIL, _KICK = (KTOA.offsets[name] // 4 for name in ("hwcur", "hwtail", "kern_need_kick"))
_WORDS = ATOK.size // 4


class Port(Protocol):
    """What a loop needs of a port (xennet.netmap.user.nmport.Port)."""

    device: Device
    memory: ClientMemory
    tx_rings: list[Ring]
    rx_rings: list[Ring]

    @property
    def closed(self) -> bool: ...

    def control(
        self,
        reqtype: int,
        codec: Codec | None,
        fields: dict[str, int],
        options: tuple[tuple[int, bytes], ...] = (),
        answer: Callable[[int], None] | None = None,
    ) -> Any: ...


class LoopRing(Ring):
    """A ring whose ``head``, ``cur`` and ``tail`` are those of its control blocks.

    ``ioeventfd``, by which :meth:`kick` kicks the loop, and ``irqfd``, which can be read when there
    is news for the ring; both -1 for a loop without events.
    """

    def __init__(
        self, ring: Ring, atok: memoryview, ktoa: memoryview, ioeventfd: int, irqfd: int
    ) -> None:
        super().__init__(ring.memory, ring.at, ring.tx)
        self._atok, self._ktoa = atok, ktoa
        self.ioeventfd, self.irqfd = ioeventfd, irqfd

    @property
    def head(self) -> int:
        return self._atok[_HEAD]

    @head.setter
    def head(self, index: int) -> None:
        self._atok[_HEAD] = index

    @property
    def cur(self) -> int:
        return self._atok[_CUR]

    @cur.setter
    def cur(self, index: int) -> None:
        self._atok[_CUR] = index

    @property
    def tail(self) -> int:
        return self._ktoa[_HWTAIL]

    @property
    def hwcur(self) -> int:
        """The slot up to which the loop has taken what was handed over."""
        return self._ktoa[_HWCUR]

    @property
    def need_kick(self) -> bool:
        """Whether the loop waits to be kicked."""
        return bool(self._ktoa[_KICK])

    @property
    def wants_interrupt(self) -> bool:
        """Whether ``irqfd`` is written to when there is news."""
        return bool(self._atok[_WANTS])

    @wants_interrupt.setter
    def wants_interrupt(self, wanted: bool) -> None:
        self._atok[_WANTS] = int(wanted)

    def kick(self) -> bool:
        """Kick the loop if it waits for that. Returns whether it did."""
        if self.ioeventfd < 0 or not self.need_kick:
            return False
        os.eventfd_write(self.ioeventfd, 1)
        return True

    def interrupts(self) -> int:
        """How often ``irqfd`` was written to since the last call."""
        with suppress(BlockingIOError):
            if self.irqfd >= 0:
                return os.eventfd_read(self.irqfd)
        return 0


class KernelLoop:
    """The running kernel loop of ``port``; the request that started it is answered (``answer``, an
    errno) when it ends. ``tx_rings`` and ``rx_rings`` take the place of those of the port, for
    good.

    It is a context manager, which stops it.
    """

    def __init__(
        self, port: Port, sleep_us: int, events: bool, direct_tx: bool, direct_rx: bool
    ) -> None:
        self.port = port
        self.answer: int | None = None
        self._closing = ExitStack()
        rings = [*port.tx_rings, *port.rx_rings]
        atok, ktoa = (memoryview(bytearray(_WORDS * 4 * len(rings))) for _ in range(2))
        # Arrays of control blocks have to lie at multiples of their size, as all mappings here do.
        addresses = [port.memory.map(blocks) for blocks in (atok, ktoa)]
        head = OPTION.pack(0, NETMAP_REQ_OPT_CSB, 0, OPT_CSB.size - OPTION.size)
        option = head + array("Q", addresses).tobytes()
        port.control(NETMAP_REQ_CSB_ENABLE, None, {}, ((NETMAP_REQ_OPT_CSB, option),))
        fds = array("i", [-1] * (2 * len(rings)))
        if events:
            for i in range(len(fds)):
                fds[i] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._closing.callback(os.close, fds[i])
        made = [
            LoopRing(
                ring,
                atok[64 * i : 64 * i + 64].cast("I"),
                ktoa[64 * i : 64 * i + 64].cast("I"),
                fds[2 * i],
                fds[2 * i + 1],
            )
            for i, ring in enumerate(rings)
        ]
        self.tx_rings = made[: len(port.tx_rings)]
        self.rx_rings = made[len(port.tx_rings) :]
        mode = direct_tx * NM_OPT_SYNC_KLOOP_DIRECT_TX + direct_rx * NM_OPT_SYNC_KLOOP_DIRECT_RX
        try:
            self._start(sleep_us, mode, fds if events else None)
        except BaseException:
            self._closing.close()
            raise

    def _start(self, sleep_us: int, mode: int, fds: array[int] | None) -> None:
        options = []
        if mode:
            head = OPTION.pack(0, NETMAP_REQ_OPT_SYNC_KLOOP_MODE, 0, OPT_MODE.size - OPTION.size)
            body = mode.to_bytes(8, "little")
            options.append((NETMAP_REQ_OPT_SYNC_KLOOP_MODE, head + body))
        if fds is not None:
            size = OPTION.size + 4 * len(fds)  # with the header, unlike all others
            head = OPTION.pack(0, NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS, 0, size)
            options.append((NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS, head + fds.tobytes()))
        fields = {"sleep_us": sleep_us}
        self.port.control(
            NETMAP_REQ_SYNC_KLOOP_START, KLOOP_START, fields, tuple(options), self._ended
        )

    def _ended(self, errno: int) -> None:
        self.answer = errno

    @property
    def running(self) -> bool:
        """Whether the loop goes on."""
        return self.answer is None

    def go_on(self, ns: int = 0) -> None:
        """Let the device see what was kicked, and let ``ns`` of its time pass. Not needed on a
        device whose pump somebody else runs."""
        pump = self.port.device.state.pump
        pump.turn()
        pump.pass_time(ns)

    def stop(self) -> None:
        """NETMAP_REQ_SYNC_KLOOP_STOP, and close the event descriptors. May be repeated."""
        if self.running and not self.port.closed:
            self.port.control(NETMAP_REQ_SYNC_KLOOP_STOP, None, {})
        self._closing.close()

    def __enter__(self) -> KernelLoop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
