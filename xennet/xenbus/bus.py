"""The bus: one watch on a bus directory, and one object for each device directory below it.

What Linux does in xenbus_dev_changed, for one device type: a directory whose state is Initialising
and that has no device yet gets one; devices at or below a path that has vanished are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.interface import StoreClient
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.state import read_state


class BusDevice(Protocol):
    """A device as its bus sees it."""

    def start(self) -> None:
        """Probe the device, which was found."""
        ...

    def remove(self) -> None:
        """Remove the device: its directory has vanished, or the bus stops."""
        ...


_D = TypeVar("_D", bound=BusDevice)


@define(eq=False, repr=False)
class Bus(Generic[_D]):
    """The devices of type ``kind`` whose directories lie ``levels`` below ``root``.

    ``make(nodename)`` makes the object of a device, or returns None: then the device is left alone,
    and looked at again with the next event of its directory. ``devices`` maps nodenames to objects.
    """

    store: StoreClient
    root: str
    kinds: Collection[str]
    levels: int
    make: Callable[[str], _D | None]
    devices: dict[str, _D] = field(init=False, factory=dict)
    _unbound: list[str] | None = field(init=False, default=None)
    #: Number of names in a device's nodename: root, type, then the levels.
    _depth: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._depth = 2 + self.levels

    def start(self) -> None:
        """Watch the bus. The watch's first event finds the devices that exist already."""
        self.store.watch(self.root, self._token, self._changed)

    def stop(self) -> None:
        """Unload all drivers of this bus."""
        self.store.unwatch(self.root, self._token)
        self._remove_below(self.root)

    def unload(self) -> None:
        """Unload the driver; the bus stays and remembers the devices, which have no driver now."""
        if self._unbound is None:
            self._unbound = list(self.devices)
            self._remove_below(self.root)

    def load(self) -> None:
        """Load the driver again: it is bound to the remembered devices, in whatever state they
        are."""
        if self._unbound is None:
            return
        known, self._unbound = self._unbound, None
        for nodename in known:
            if NodeDirectory(self.store, nodename).exists():
                self._bind(nodename)
        self._probe_below(self.root, 1)

    def adopt(self, nodename: str) -> None:
        """Bind the driver to a device that is there already, in whatever state it is: what an
        earlier driver, or one of another program, has left."""
        if nodename not in self.devices:
            self._bind(nodename)

    def move(self, store: StoreClient) -> None:
        """Use another store. The watch on the old one went with it."""
        self.store = store
        self.start()

    def look_at(self, nodename: str) -> None:
        """Look at the directory of a device, as if it had just changed."""
        self._probe(nodename)

    def forget(self, nodename: str) -> None:
        """Forget a device that removed itself; its directory counts as new from now on."""
        self.devices.pop(nodename, None)

    @property
    def _token(self) -> str:
        return f"xenbus-{self.root}"

    def _changed(self, path: str, _token: str) -> None:
        names = path.split("/", self._depth)
        device = path[: ~len(names[-1])] if len(names) > self._depth else None
        if device in self.devices:
            return  # one of its nodes, as nearly always
        if len(names) > 1 and names[1] not in self.kinds:
            return
        if device is not None:
            self._probe(device)
        elif NodeDirectory(self.store, path).exists():
            self._probe_below(path, len(names))
        else:
            self._remove_below(path)

    def _probe_below(self, path: str, depth: int) -> None:
        if depth == self._depth:
            self._probe(path)
            return
        for name in NodeDirectory(self.store, path).names():
            if depth > 1 or name in self.kinds:
                self._probe_below(f"{path}/{name}", depth + 1)

    def _probe(self, nodename: str) -> None:
        if nodename in self.devices or self._unbound is not None:
            return
        # Anything but Initialising is not new: an earlier driver's, or being removed.
        if read_state(self.store, nodename) == XenbusState.Initialising:
            self._bind(nodename)

    def _bind(self, nodename: str) -> None:
        device = self.make(nodename)
        if device is not None:
            self.devices[nodename] = device
            device.start()

    def _remove_below(self, path: str) -> None:
        below = f"{path}/"
        for nodename in [n for n in self.devices if n == path or n.startswith(below)]:
            device = self.devices.pop(nodename, None)
            if device is not None:
                device.remove()
