"""One end of a device, as both engines see it: its own directory, the other end's, its state.

The rules are those of Linux drivers/xen/xenbus/xenbus_client.c: an end remembers its own state and
writes it only when it changes, in a transaction that does nothing if the directory has vanished (or
a driver would bring back what the toolstack has just removed).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import NoReturn

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.interface import (
    HypercallError,
    Hypervisor,
    OutOfFramesError,
    StoreClient,
    StoreTransaction,
)
from xennet.observe import StateChanged
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import error_node
from xennet.xenbus.scan import scan_signed
from xennet.xenbus.state import read_state
from xennet.xenstore.errors import XsError

#: What a node can be set to; numbers are written in decimal.
StoreValue = bytes | str | int

#: Longest text of an error node: it must fit a node of a guest (2048 bytes with the overhead).
_MAX_ERROR_TEXT = 1024

#: What stops a device, as opposed to a bug: a peer's garbage, a full store, a refused hypercall,
#: a full machine.
DEVICE_ERRORS = (XenbusError, XsError, HypercallError, OutOfFramesError)


def as_xenbus_error(error: Exception) -> XenbusError:
    """Any of DEVICE_ERRORS as a XenbusError; missing frames become ENOMEM, a hypercall's error and
    all that is none of them EIO."""
    if isinstance(error, XenbusError):
        return error
    if isinstance(error, XsError):
        return XenbusError(error.number, error.detail or error.errno, path=error.path)
    number = errno.ENOMEM if isinstance(error, OutOfFramesError) else errno.EIO
    return XenbusError(number, str(error))


def fault_of(hv: Hypervisor, error: Exception) -> XenbusError:
    """The fault for which a device is given up that has met ``error``. One that is none of
    DEVICE_ERRORS is raised as well, by a delivery of its own (:func:`raise_later`)."""
    if not isinstance(error, DEVICE_ERRORS):
        raise_later(hv, error)
    return as_xenbus_error(error)


def raise_later(hv: Hypervisor, error: Exception) -> None:
    """Have ``error`` raised by a delivery of its own: what met it is done first, and left in
    order."""
    hv.defer(partial(_raise, error))


def _raise(error: Exception) -> NoReturn:
    raise error


class _DirectoryVanishedError(Exception):
    """Aborts a transaction: the device's own state node is gone or no number."""


@define(eq=False, repr=False)
class DeviceWatch:
    """A watch that belongs to a device. After :meth:`cancel` its callback is never run again."""

    device: XenbusDevice
    path: str
    token: str
    callback: Callable[[], None]
    active: bool = False

    def __repr__(self) -> str:
        return f"<DeviceWatch {self.path}>"

    def start(self) -> None:
        """Register the watch; the store sends a first event at once."""
        self.active = True
        self.device.watches.append(self)
        try:
            self.device.store.watch(self.path, self.token, self._fired)
        except XsError:
            self.forget()
            raise

    def cancel(self) -> None:
        """Unregister the watch. May be repeated."""
        if not self.active:
            return
        self.forget()
        with suppress(XsError):  # the connection may have been reset, and its watches with it
            self.device.store.unwatch(self.path, self.token)

    def forget(self) -> None:
        """Forget a watch whose connection is gone; the store is not told."""
        self.active = False
        self.device.watches.remove(self)

    def _fired(self, _path: str, _token: str) -> None:
        if self.active:
            self.callback()


@define(eq=False)
class XenbusDevice:
    """One end of a device, with its directory ``nodename`` (relative: ``device/vif/0``,
    ``backend/vif/1/0``).

    ``peer_key`` is "backend" in a frontend and "frontend" in a backend: the nodes ``<peer_key>``
    and ``<peer_key>-id`` name the other end. ``own`` and ``otherend`` are the two directories;
    ``state`` is what this end wrote last (at first: what it found), whatever was written there by
    others since.
    """

    hv: Hypervisor
    nodename: str
    peer_key: str
    otherend_id: int = -1
    own: NodeDirectory = field(init=False)
    otherend: NodeDirectory = field(init=False)
    state: XenbusState = field(init=False)
    watches: list[DeviceWatch] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.own = NodeDirectory(self.hv.store, self.nodename)
        self.otherend = NodeDirectory(self.hv.store, "")
        found = read_state(self.hv.store, self.nodename)
        self.state = XenbusState(found) if found in _STATES else XenbusState.Unknown

    def __repr__(self) -> str:
        return f"<XenbusDevice {self.nodename} of domain {self.hv.domid}, {self.state.name}>"

    @property
    def store(self) -> StoreClient:
        """The XenStore connection of this end's domain."""
        return self.hv.store

    # -- the other end -----------------------------------------------------------------------------

    def find_otherend(self) -> None:
        """Read the path and the domid of the other end (xenbus_read_otherend_details).

        Raises XenbusError ENOENT if the nodes, or the directory that they name, are missing.
        """
        self.otherend_id = self.own.unsigned(f"{self.peer_key}-id")
        path = self.own.text(self.peer_key)
        self.otherend = NodeDirectory(self.store, path)
        if not path or not self.otherend.exists():
            raise XenbusError(
                errno.ENOENT,
                "unable to read the other end: missing or inaccessible",
                path=self.own.node(self.peer_key),
                value=path.encode(),
            )

    def otherend_state(self, unreadable: int = XenbusState.Unknown) -> int:
        """The present state of the other end; ``unreadable`` if it cannot be read."""
        return read_state(self.store, self.otherend.path, unreadable)

    # -- watches -----------------------------------------------------------------------------------

    def watch(self, name: str, callback: Callable[[], None]) -> DeviceWatch:
        """Watch a node of the own directory; ``callback()`` runs once at first and at each
        change."""
        return self._watch(self.own.node(name), callback)

    def watch_otherend(self, name: str, callback: Callable[[], None]) -> DeviceWatch:
        """Watch a node of the other end's directory, as :meth:`watch` does."""
        return self._watch(self.otherend.node(name), callback)

    def cancel_watches(self) -> None:
        """End all watches of the device, the newest first."""
        for watch in reversed(list(self.watches)):
            watch.cancel()

    def _watch(self, path: str, callback: Callable[[], None]) -> DeviceWatch:
        watch = DeviceWatch(self, path, f"{self.nodename}:{path.rpartition('/')[2]}", callback)
        watch.start()
        return watch

    # -- writing -----------------------------------------------------------------------------------

    def write(self, name: str, value: StoreValue) -> None:
        """Write a node of the own directory."""
        self.store.write(self.own.node(name), value)

    def publish(self, nodes: Iterable[tuple[str, StoreValue]]) -> None:
        """Write nodes of the own directory in one transaction, in the given order.

        Raises XenbusError ENOENT, with nothing written, if the directory has vanished.
        """
        pairs = list(nodes)

        def body(tx: StoreTransaction) -> None:
            self._require_directory(tx)
            for name, value in pairs:
                tx.write(self.own.node(name), value)

        try:
            self.store.transact(body)
        except _DirectoryVanishedError:
            raise XenbusError(
                errno.ENOENT, "the directory has vanished", path=self.nodename
            ) from None

    def switch_state(self, state: XenbusState) -> None:
        """Show ``state`` to the other end (xenbus_switch_state).

        Nothing is written if it is the state already, or if the directory or its ``state`` node has
        vanished. If the store refuses, an error node is left; nothing is raised.
        """
        if state == self.state:
            return

        def body(tx: StoreTransaction) -> None:
            self._require_directory(tx)
            tx.write(self.own.node("state"), int(state))

        old, self.state = self.state, state
        try:
            self.store.transact(body)
        except _DirectoryVanishedError:
            return
        except XsError as refused:
            self.error(refused.number, f"writing new state {int(state)}: {refused}")
            return
        if self.hv.interest(StateChanged).any:
            self.hv.emit(StateChanged(self.hv.domid, self.nodename, old, state))

    def rewrite_state(self, state: XenbusState) -> None:
        """:meth:`switch_state`, but written also if this end has that state already.

        A domain that wakes up in another place cannot know what the toolstack wrote there.
        """
        self.state = XenbusState.Unknown
        self.switch_state(state)

    def move(self, hv: Hypervisor) -> None:
        """Make this a device of ``hv``, under the same nodename.

        Its watches went with the old connection and are not ended there. The next call must be
        :meth:`find_otherend`.
        """
        for watch in list(self.watches):
            watch.forget()
        self.hv = hv
        self.own = NodeDirectory(hv.store, self.nodename)

    def error(self, err: int, text: str) -> None:
        """Write "errno text" into the domain's error directory (xenbus_dev_error)."""
        with suppress(XsError):  # nobody is left to tell
            self.store.write(error_node(self.nodename), f"{err} {text}"[:_MAX_ERROR_TEXT])

    def fatal(self, err: int, text: str) -> None:
        """:meth:`error`, then state Closing (xenbus_dev_fatal)."""
        self.error(err, text)
        self.switch_state(XenbusState.Closing)

    def _require_directory(self, tx: StoreTransaction) -> None:
        try:
            value = tx.read(self.own.node("state"))
        except XsError as refused:
            raise _DirectoryVanishedError from refused
        if scan_signed(value) is None:
            raise _DirectoryVanishedError


_STATES = frozenset(int(state) for state in XenbusState)
