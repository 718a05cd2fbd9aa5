"""Work in a network namespace, and what is asked there of an interface by rtnetlink (pyroute2).

A namespace belongs to a thread: work in another one is done by a thread of its own that ends
afterwards, so that the caller never leaves its own.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import if_nametoindex
from threading import Thread
from typing import TypeVar

from pyroute2 import IPRoute, netns

T = TypeVar("T")


def within(namespace: str | None, work: Callable[[], T]) -> T:
    """The result of ``work()``, called in the namespace of that name (``ip netns``); None: in this
    process's own.

    Raises what ``work`` raises; FileNotFoundError if there is no namespace of that name,
    PermissionError without CAP_SYS_ADMIN.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            if namespace is not None:
                # flags: by default pyroute2 makes a namespace that does not exist.
                netns.setns(namespace, flags=0, fork=False)
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=enter, name=f"in {namespace}")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def set_up(name: str, mtu: int | None) -> None:
    """Set the MTU (bytes; None: as it is) of interface ``name`` of this namespace, and set it up.

    Raises OSError or pyroute2's NetlinkError, which has the member ``code`` of an errno.
    """
    wanted = {} if mtu is None else {"mtu": mtu}
    with IPRoute() as route:
        route.link("set", index=if_nametoindex(name), state="up", **wanted)


def dropped_unread(name: str) -> int:
    """The number of frames that the kernel dropped because nobody read them from the tap ``name``
    of this namespace. Raises OSError if there is no such interface."""
    with IPRoute() as route:
        (link,) = route.get_links(if_nametoindex(name))
        return int(link.get_attr("IFLA_STATS64")["tx_dropped"])
