"""A TAP interface: made in its namespace, with virtio_net_hdr, and gone when it is closed."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from typing import TypeVar

from xennet.abi.if_tun import (
    IFF_DETACH_QUEUE,
    IFF_MULTI_QUEUE,
    IFF_NO_PI,
    IFF_TAP,
    IFF_TUN_EXCL,
    IFF_VNET_HDR,
    IFNAMSIZ,
    IFREQ,
    TUN_F_CSUM,
    TUN_F_TSO4,
    TUN_F_TSO6,
    TUN_F_TSO_ECN,
    TUNSETIFF,
    TUNSETOFFLOAD,
    TUNSETQUEUE,
    TUNSETVNETHDRSZ,
    TUNSETVNETLE,
)
from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.abi.virtio_net import VNET_HDR
from xennet.frames import ETHERNET_HEADER, MAX_FRAME, Offload
from xennet.tap.errors import TapError

T = TypeVar("T")

TUN_DEVICE = "/dev/net/tun"
#: Most queues that Linux attaches to one interface.
MAX_QUEUES = 256
#: Frames that a queue of an interface keeps (its txqueuelen, if nobody has changed that).
_MOST_UNREAD = 1000
_FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
_INT = struct.Struct("i")
_PRIVILEGES = (
    "needs root, or CAP_NET_ADMIN (and CAP_SYS_ADMIN to enter a namespace); "
    "an interface made by `ip tuntap add NAME mode tap user YOU` needs neither"
)


def name_fault(name: str) -> str:
    """What is wrong with the name of an interface; "" if nothing is (Linux's dev_valid_name, and no
    % that asks for a number)."""
    length = len(os.fsencode(name))
    if not name:
        return "no interface name"
    if length >= IFNAMSIZ:
        return f"a name has {IFNAMSIZ - 1} bytes at most, {name!r} has {length}"
    if name in (".", "..") or not name.isprintable() or any(c in "/:% " for c in name):
        return f"{name!r} is no interface name: no '/', ':', '%' or white space"
    return ""


def offload_flags(offload: Offload) -> int:
    """The argument of TUNSETOFFLOAD for a receiver of frames that takes ``offload``.

    Blank checksums come in both IP versions or in none: where the receiver takes one of them, they
    are asked for only if GSO, which cannot be without, is worth that.
    """
    types = offload.gso_types if offload.sg else 0
    flags = TUN_F_TSO4 if offload.csum_v4 and types >> XEN_NETIF_GSO_TYPE_TCPV4 & 1 else 0
    flags |= TUN_F_TSO6 if offload.csum_v6 and types >> XEN_NETIF_GSO_TYPE_TCPV6 & 1 else 0
    if flags:
        return flags | TUN_F_TSO_ECN | TUN_F_CSUM
    return TUN_F_CSUM if offload.csum_v4 and offload.csum_v6 else 0


class TapDevice:
    """The interface ``name`` of network namespace ``namespace`` (None: this process's own), with
    one queue, set up.

    It is made, and goes when it is closed or the process ends; a persistent one of that name that
    nobody uses is taken, and stays. ``queues`` are the descriptors to read from, ``writer`` the one
    to write to (-1 when closed), all of them non-blocking. Raises TapError.

    Linux sends a flow by the queue on which a frame of its other direction was written last, else
    by one that a hash chooses. A flow that changed its queue while frames of it wait in the old one
    would be read out of order. So the writer of several queues is one that was detached: what is
    written there arrives, and moves no flow.
    """

    def __init__(self, name: str, namespace: str | None = None) -> None:
        self.name = name
        self.namespace = namespace
        self.queues: list[int] = []
        self.writer = -1
        self._flags = _FLAGS | IFF_MULTI_QUEUE
        #: Whether it was made here, and goes again.
        self._made = False
        #: The MTU that it is to have, and the one that it has got from this.
        self._mtu = self._limited = 0
        #: Frames that a persistent interface had dropped before.
        self._dropped_before = 0
        if fault := name_fault(name):
            raise TapError(f"tap: {fault}")
        bad = namespace in ("", ".", "..") or any(c in "/\0" for c in namespace or "")
        if bad:
            raise TapError(f"{self}: {namespace!r} is no name of a network namespace")
        try:
            self._within(self._open)
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return f"tap {self.name}" + ("" if self.namespace is None else f" in {self.namespace}")

    def configure(self, mtu: int | None, queues: int) -> None:
        """Set the MTU (bytes; None: as it is), and have so many queues. A persistent interface that
        was made with one queue keeps to that.

        With a smaller MTU, frames that the kernel sent before are discarded: those that it sends by
        itself as soon as an interface is up may be longer. Raises TapError.
        """
        self._within(partial(self._configure, mtu, queues))

    def set_offload(self, offload: Offload) -> None:
        """Have the kernel give only frames that a receiver of ``offload`` takes, but for checksums
        of one IP version (:func:`offload_flags`).

        An interface that was made here has a smaller MTU than it is to have as long as the receiver
        takes no longer frames. Raises OSError, TapError.
        """
        ioctl(self.queues[0], TUNSETOFFLOAD, offload_flags(offload))  # by value
        mtu = min(self._mtu, (offload.max_frame or MAX_FRAME) - ETHERNET_HEADER)
        if self._made and mtu != self._limited:
            self._within(partial(self._set_mtu, mtu))

    def dropped_unread(self) -> int:
        """The number of frames that the kernel dropped because nobody read them, since this was
        opened. Raises TapError."""
        from xennet.tap.namespace import look_up

        there = self._within(partial(look_up, self.name))
        if there is None:
            raise TapError(f"{self}: it was deleted")
        return there.dropped_unread - self._dropped_before

    def close(self) -> None:
        """Close all queues, which takes an interface away that was made here. May be repeated."""
        for queue in {*self.queues, self.writer} - {-1}:
            os.close(queue)
        self.queues, self.writer = [], -1

    # -- in the namespace --------------------------------------------------------------------------

    def _within(self, work: Callable[[], T]) -> T:
        """The result of ``work()`` in the namespace, its errors as one line."""
        from pyroute2.netlink.exceptions import NetlinkError

        from xennet.tap.namespace import NoNamespaceError, NotPermittedError, within

        try:
            return within(self.namespace, work)
        except NetlinkError as error:
            why = _PRIVILEGES if error.code == errno.EPERM else os.strerror(error.code)
            raise TapError(f"{self}: {why}") from None
        except FileNotFoundError:
            raise TapError(self._missing()) from None
        except PermissionError as error:
            if error.filename == TUN_DEVICE:
                raise TapError(f"{self}: {TUN_DEVICE}: {error.strerror}") from None
            raise TapError(f"{self}: {_PRIVILEGES}") from None
        except NotPermittedError as error:
            raise TapError(f"{self}: {error}") from None
        except NoNamespaceError:
            raise TapError(f"{self}: {self.namespace!r} is no network namespace") from None
        except OSError as error:
            raise TapError(f"{self}: {error.strerror}") from None

    def _missing(self) -> str:
        if os.path.exists(TUN_DEVICE):
            return (
                f"{self}: there is no network namespace {self.namespace!r}; "
                f"`ip netns add {self.namespace}` makes one"
            )
        return f"{self}: there is no {TUN_DEVICE}: the kernel has no TAP interfaces, or no module"

    def _open(self) -> None:
        from xennet.tap.namespace import look_up, set_up

        there = look_up(self.name)
        if there is None:
            queue = self._attach(IFF_TUN_EXCL)
            self._made = True
        elif not there.is_tap:
            raise TapError(f"{self}: there is an interface of that name that is no TAP")
        elif there.queues:
            raise TapError(f"{self}: another program uses it")
        else:
            self._flags = _FLAGS | (IFF_MULTI_QUEUE if there.multi_queue else 0)
            self._dropped_before = there.dropped_unread
            queue = self._attach()
        self.queues, self.writer = [queue], queue
        # A persistent interface keeps what it was told before, so everything is said anew.
        ioctl(queue, TUNSETVNETHDRSZ, _INT.pack(VNET_HDR.size))
        ioctl(queue, TUNSETVNETLE, _INT.pack(1))
        ioctl(queue, TUNSETOFFLOAD, 0)
        self._mtu = self._limited = set_up(self.name, None)

    def _configure(self, mtu: int | None, queues: int) -> None:
        if queues > 1 and self._flags & IFF_MULTI_QUEUE:
            while len(self.queues) < min(queues, MAX_QUEUES - 1):
                self.queues.append(self._attach())
            self.writer = self._attach()
            ioctl(self.writer, TUNSETQUEUE, IFREQ.pack(b"", IFF_DETACH_QUEUE))
        if mtu is not None:
            self._mtu = mtu
            self._set_mtu(mtu)

    def _set_mtu(self, mtu: int) -> None:
        from xennet.tap.namespace import set_up

        before = set_up(self.name, mtu)
        self._limited = mtu
        if mtu < before:
            for queue in self.queues:
                with suppress(BlockingIOError):  # empty
                    for _ in range(_MOST_UNREAD):
                        os.read(queue, VNET_HDR.size)  # takes the whole frame away

    def _attach(self, exclusive: int = 0) -> int:
        """One queue more; with IFF_TUN_EXCL, the first one of a new interface."""
        queue = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            ioctl(queue, TUNSETIFF, IFREQ.pack(os.fsencode(self.name), self._flags | exclusive))
        except OSError as error:
            os.close(queue)
            if error.errno == errno.EBUSY:
                raise TapError(f"{self}: another program uses it") from None
            raise
        return queue
