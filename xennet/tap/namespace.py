"""Work in a network namespace, and what is asked there of an interface by rtnetlink (pyroute2).

A namespace belongs to a thread: work in another one is done by a thread of its own that ends
afterwards, so that the caller never leaves its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from socket import if_nametoindex
from threading import Thread
from typing import TypeVar

from attrs import frozen
from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from xennet.abi.if_tun import IFF_TAP

#: net/if.h
IFF_UP = 1

T = TypeVar("T")


class NotPermittedError(Exception):
    """An interface is not as it is to be, and to change it takes privileges. The message says how
    it is, and what to do; it goes behind the interface's name."""


class NoNamespaceError(Exception):
    """What has the name of a network namespace is none."""


def within(namespace: str | None, work: Callable[[], T]) -> T:
    """The result of ``work()``, called in the namespace of that name (``ip netns``); None: in this
    process's own.

    Raises what ``work`` raises; FileNotFoundError if there is no namespace of that name,
    NoNamespaceError if something else has it, PermissionError without CAP_SYS_ADMIN.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            if namespace is not None:
                _enter(namespace)
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=enter, name=f"in {namespace}")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _enter(namespace: str) -> None:
    # pyroute2 takes names in ASCII only, and makes a namespace that does not exist.
    descriptor = os.open(os.path.join(netns.NETNS_RUN_DIR, namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.setns(descriptor, flags=0, fork=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise NoNamespaceError from None
    finally:
        os.close(descriptor)


@frozen
class Existing:
    """An interface that exists. ``is_tap``: it is a TAP; ``multi_queue``: made for several queues;
    ``queues``: how many programs have open, or have detached; ``dropped_unread``: the number of
    frames that the kernel dropped because nobody read them."""

    is_tap: bool
    multi_queue: bool = False
    queues: int = 0
    dropped_unread: int = 0


def look_up(name: str) -> Existing | None:
    """The interface ``name`` of this namespace; None if there is none."""
    try:
        index = if_nametoindex(name)
    except OSError:
        return None
    with IPRoute() as route:
        (link,) = route.get_links(index)
    tun = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    if tun is None or tun.get_attr("IFLA_TUN_TYPE") != IFF_TAP:
        return Existing(is_tap=False)
    # The kernel tells the numbers for several queues only; one that is busy says so when opened.
    numbers = [tun.get_attr(f"IFLA_TUN_NUM_{which}") for which in ("QUEUES", "DISABLED_QUEUES")]
    multi_queue, queues = bool(tun.get_attr("IFLA_TUN_MULTI_QUEUE")), sum(n or 0 for n in numbers)
    return Existing(True, multi_queue, queues, link.get_attr("IFLA_STATS64")["tx_dropped"])


def set_up(name: str, mtu: int | None) -> int:
    """Set the MTU (bytes; None: as it is) of interface ``name`` of this namespace, and set it up,
    if it is not so yet: to change anything takes privileges. Returns the MTU that it had.

    Raises NotPermittedError, OSError, or pyroute2's NetlinkError, which has the member ``code`` of
    an errno.
    """
    with IPRoute() as route:
        index = if_nametoindex(name)
        (link,) = route.get_links(index)
        before: int = link.get_attr("IFLA_MTU")
        wanted: dict[str, object] = {} if mtu in (None, before) else {"mtu": mtu}
        faults = [f"has MTU {before}: to change it needs CAP_NET_ADMIN"] if wanted else []
        if not link["flags"] & IFF_UP:
            wanted["state"] = "up"
            faults.append(f"is down: `ip link set {name} up` sets it up")
        if wanted:
            try:
                route.link("set", index=index, **wanted)
            except NetlinkError as error:
                if error.code != errno.EPERM:
                    raise
                raise NotPermittedError("; it ".join(faults)) from None
        return before
