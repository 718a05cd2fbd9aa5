"""What was opened is closed, also where something is refused. The libraries are fakes."""

from __future__ import annotations

import ctypes
import socket
from contextlib import closing

import pytest

from xennet.abi.xen import PAGE_SIZE
from xennet.interface import HypercallError
from xennet.pump import Pump
from xennet.runloop import RunLoop
from xennet.xen import event_channels, foreign_pages, store_connection
from xennet.xen.errors import XenError
from xennet.xen.event_channels import EventChannels
from xennet.xen.foreign_pages import Gntdev
from xennet.xen.own_pages import OwnPages
from xennet.xen.store_connection import StoreConnection
from xennet.xenstore.client.channel import FdChannel
from xennet.xenstore.client.client import Client


class Library:
    """The calls that were made: a page or port that is given up first is refused."""

    def __init__(self, fd: int = -1) -> None:
        self.page = ctypes.create_string_buffer(PAGE_SIZE)
        self.fd, self.ports = fd, 0
        self.given_up: list[int] = []
        self.closed = 0

    def xengnttab_open(self, _logger: int, _flags: int) -> int:
        return 1

    def xengnttab_map_grant_ref(self, _handle: int, _domid: int, _gref: int, _access: int) -> int:
        return ctypes.addressof(self.page)

    def xengnttab_unmap(self, _handle: int, address: int, _count: int) -> int:
        self.given_up.append(address)
        return len(self.given_up) == 1

    def xengnttab_close(self, _handle: int) -> int:
        self.closed += 1
        return 0

    def xenevtchn_open(self, _logger: int, _flags: int) -> int:
        return 1

    def xenevtchn_fd(self, _handle: int) -> int:
        return self.fd

    def xenevtchn_bind_unbound_port(self, _handle: int, _domid: int) -> int:
        self.ports += 1
        return self.ports

    def xenevtchn_unbind(self, handle: int, port: int) -> int:
        return self.xengnttab_unmap(handle, port, 1)

    def xenevtchn_close(self, handle: int) -> int:
        return self.xengnttab_close(handle)


def test_a_page_that_is_refused_keeps_no_other_and_not_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Library()
    monkeypatch.setattr(foreign_pages, "library", lambda _soname: fake)
    monkeypatch.setattr(foreign_pages, "quiet_logger", lambda: 0)
    pages = OwnPages(1)
    gntdev = Gntdev(pages)
    for gref in range(3):
        gntdev.map(2, gref, False)
    with pytest.raises(HypercallError, match="GNTTABOP_unmap_grant_ref"):
        gntdev.close()
    assert (len(gntdev), len(fake.given_up), fake.closed) == (0, 3, 1)
    gntdev.close()
    assert fake.closed == 1
    pages.close()


def test_a_port_that_is_refused_keeps_no_other_and_not_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs, closing(Pump(RunLoop())) as pump:
        fake = Library(mine.fileno())
        monkeypatch.setattr(event_channels, "library", lambda _soname: fake)
        monkeypatch.setattr(event_channels, "quiet_logger", lambda: 0)
        events = EventChannels(pump.run_loop, 0, pump.watch)
        for _ in range(3):
            events.bind_unbound(2)
        with pytest.raises(HypercallError, match="EVTCHNOP_close"):
            events.close()
        assert (len(events), len(fake.given_up), fake.closed) == (0, 3, 1)
        assert not pump.watching
        events.close()
        assert fake.closed == 1


def test_a_store_without_a_domid_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = socket.socketpair()
    with theirs, closing(Pump(RunLoop())) as pump:
        channel = FdChannel(mine.detach())
        monkeypatch.setattr(store_connection, "open_channel", lambda _path, _timeout: channel)
        monkeypatch.setattr(Client, "read", lambda _self, _path: b"none")
        with pytest.raises(XenError, match="none"):
            StoreConnection(pump.run_loop, pump.watch)
        theirs.setblocking(False)  # it is closed by now, or never
        assert theirs.recv(1) == b""
