"""An end of a link that netmap can take from its network stack, and give back.

This is where the module intercepts an interface: between driver and stack (FreeBSD's if_input and
if_transmit, netmap_generic.c, nm_os_catch_rx and nm_os_catch_tx). A driver that shows its rings, as
netfront does, gets a native adapter (xennet.netmap.native), any other the generic one
(xennet.netmap.generic).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from errno import EBUSY, EEXIST, EINVAL

from attrs import evolve

from xennet.frames import (
    CSUM_BLANK,
    MAX_FRAME,
    NOTHING,
    UNBOUNDED,
    Endpoint,
    FrameBatch,
    Offload,
    RingPair,
    Wrapper,
    lazy_bytes,
    pull_at_most,
)
from xennet.ifnet import Interface
from xennet.netmap.device import Device
from xennet.netmap.errors import NetmapError
from xennet.netmap.net_interface import IFNAMSIZ, Driver, NetInterface

#: Frames of netmap that wait for the driver at most (Linux, DEFAULT_TX_QUEUE_LEN).
TX_QUEUE_LEN = 1000
#: Frames of the stack that are looked at together.
_BATCH = 64


class InterfaceEnd(Wrapper):
    """``stack``, the endpoint above an interface of a link, with a place in between for netmap.

    Give it to a link (``link.join(InterfaceEnd(stack), ...)``) and make the interface known to a
    device with :meth:`add`, once the link is open. As long as no client has rings of the interface
    and no switch has it, frames pass as they are. Else those that come from the driver go to
    netmap, those that netmap sends go to the driver, and what the stack sends goes to the host
    rings, where it is lost if nobody reads them.

    Offloads are refused: ``carries`` is NOTHING, and the stack is told the same of the link. A
    frame that needs one all the same is dropped while netmap has the interface, as the module drops
    what has no complete checksum or has to be segmented (netmap.c, netmap_transmit; netmap takes
    frames as they are on a wire). ``refused`` counts such frames.
    """

    carries: Offload = NOTHING

    def __init__(self, stack: Endpoint) -> None:
        super().__init__(stack)
        self.refused = 0
        self._wake: Callable[[], None] = lambda: None
        self._device: Device | None = None
        self._net = NetInterface("")
        self._driver: Driver | None = None
        #: Frames for the driver, each with what is called when the driver takes it.
        self._out: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._of_stack = FrameBatch(lazy_bytes(_BATCH * (MAX_FRAME + 1)), _BATCH)
        self._to_stack = FrameBatch(lazy_bytes(MAX_FRAME + 1), 1)

    def __repr__(self) -> str:
        mode = "netmap mode" if self.in_netmap_mode else "the stack's"
        return f"<InterfaceEnd {mode}, {self.refused} refused>"

    def rings(self, queues: Sequence[RingPair], /) -> None:
        """Note the rings of a driver that netmap can drive natively (xennet.netmap.native)."""
        if self._driver is None and queues:
            self._driver = self._net.driver = Driver()
        if self._driver is not None:
            self._driver.connected(queues)

    @property
    def in_netmap_mode(self) -> bool:
        """Whether netmap has the interface: a client has rings of it, or a switch has it."""
        return self._net.intercepted

    # --- the device -------------------------------------------------------------------------------

    def add(self, device: Device, interface: Interface, name: str | None = None) -> None:
        """Make ``interface``, which is that of the link at this end, a system interface of
        ``device``, called ``name`` (None: as it is called).

        Raises NetmapError: EBUSY if it is one already, EEXIST if there is another of this name,
        EINVAL for a name that no interface can have.
        """
        name = interface.name if name is None else name
        if self._device is not None:
            raise NetmapError(EBUSY, f"{self._net.name} is an interface of a device already")
        if name in device.state.interfaces:
            raise NetmapError(EEXIST, f"there is an interface {name}")
        if not 0 < len(name.encode()) < IFNAMSIZ:
            raise NetmapError(EINVAL, f"{name!r} cannot be the name of an interface")
        self._device = device
        self._net = NetInterface(
            name,
            interface.mtu,
            transmit=self._transmit,
            stack=self._up,
            changed=self._changed,
            driver=self._driver,
            refused=self._refuse,
        )
        device.state.add_interface(self._net)

    def remove(self) -> None:
        """Take the interface away from the device; may be repeated. Raises NetmapError(EBUSY) as
        long as it is open or on a switch: the module waits for that."""
        if self._device is None:
            return
        if self._net.adapter is not None:
            raise NetmapError(EBUSY, f"{self._net.name} is in use")
        del self._device.state.interfaces[self._net.name]
        self._device = None

    def _refuse(self, frames: int) -> None:
        self.refused += frames

    def _changed(self) -> None:
        # There may be room now that the stack did not have, or frames that wait in it.
        self._wake()

    def _transmit(self, frame: bytes, sent: Callable[[], None]) -> bool:
        """Queue a frame for the driver. Returns False if the queue is full."""
        if len(self._out) >= TX_QUEUE_LEN:
            return False
        self._out.append((frame, sent))
        self._wake()
        return True

    def _up(self, frame: bytes) -> None:
        """Give the stack a frame of netmap; one that has no room for it drops it."""
        if self.endpoint.room:
            self._to_stack.clear()
            self._to_stack.append(frame)
            self.endpoint.push(self._to_stack)

    # --- the driver -------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        return UNBOUNDED if self.in_netmap_mode else self.endpoint.room

    def listen(self, wake: Callable[[], None], /) -> None:
        self._wake = wake
        super().listen(wake)

    def negotiated(self, offload: Offload, /) -> None:
        super().negotiated(evolve(offload, csum_v4=False, csum_v6=False, gso_types=0))

    def push(self, batch: FrameBatch, /) -> None:
        if not self.in_netmap_mode:
            self.endpoint.push(batch)
            return
        for index in range(batch.count):
            if self._is_plain(batch, index):
                self._net.arrives(bytes(batch.frame(index)))

    def pull(self, batch: FrameBatch, /) -> int:
        first = batch.count
        if self.in_netmap_mode:
            self._take_from_stack()
        if self._out and not batch.used and len(self._out[0][0]) > len(batch.data):
            raise IndexError(f"a batch of {len(batch.data)} bytes holds no next frame")
        while self._out and batch.has_room(len(self._out[0][0])):
            frame, sent = self._out.popleft()
            batch.append(frame)
            sent()
        if not self._out and not self.in_netmap_mode:
            self.endpoint.pull(batch)
        return batch.count - first

    def _take_from_stack(self) -> None:
        """What the stack sends goes to the host rings, or past them to the driver's queue."""
        batch = self._of_stack
        while free := TX_QUEUE_LEN - len(self._out):
            batch.clear()
            if not pull_at_most(self.endpoint, batch, min(free, _BATCH)):
                return
            for index in range(batch.count):
                if self._is_plain(batch, index):
                    self._net.send(bytes(batch.frame(index)))

    def _is_plain(self, batch: FrameBatch, index: int) -> bool:
        """Whether a frame needs no offload; those that do are counted."""
        plain = not batch.flags[index] & CSUM_BLANK and not batch.gso_size[index]
        self.refused += not plain
        return plain
