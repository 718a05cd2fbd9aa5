"""A host on a real clock: the same machine, whose time goes on by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from vif_peers import Stack

from xennet.host.host import Host
from xennet.pump import RealClock
from xennet.toolstack.toolstack import Outcome

SECOND = 1_000_000_000


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(clock=RealClock())
    yield host
    host.destroy()


def test_a_vif_comes_up_carries_and_goes_in_real_time(host: Host) -> None:
    guest_end, host_end = Stack(), Stack()
    vif = host.plug(host.add_guest(), 0, guest_end, host_end)
    host.boot()
    host.settle()
    host.require_connected(vif)
    up, down = [[end + b"%058d" % i for i in range(3000)] for end in (b"u:", b"d:")]
    guest_end.to_send, host_end.to_send = up[:], down[:]
    vif.kick()
    host.pump.hold(60, lambda: len(guest_end.received) + len(host_end.received) == 6000)
    assert (host_end.received, guest_end.received) == (up, down)
    operation = host.unplug(vif)
    host.settle(lambda: 0 if operation.outcome is Outcome.PENDING else None)
    assert operation.outcome is Outcome.DONE
    assert not host.leaks(), str(host.leaks())
    assert host.machine.run_loop.now > 0


def test_a_rate_limit_holds_in_real_time(host: Host) -> None:
    # 20,000 bytes every 20 ms, of which 131,072 may pile up before: the rest of 300 frames of 1,000
    # bytes takes 160 ms at least.
    guest_end, host_end = Stack(), Stack()
    vif = host.plug(host.add_guest(), 0, guest_end, host_end)
    host.store.write(f"{vif.paths.backend}/rate", "20000,20000")
    host.boot()
    host.settle()
    host.require_connected(vif)
    began = host.machine.run_loop.now
    guest_end.to_send = [bytes(1000)] * 300
    vif.kick()
    host.pump.hold(60, lambda: len(host_end.received) == 300)
    assert len(host_end.received) == 300
    assert host.machine.run_loop.now - began >= 160_000_000


def test_what_a_descriptor_brings_becomes_a_delivery(host: Host) -> None:
    """As a port with a descriptor does it: it is watched only while its frames are wanted."""
    there, here = os.pipe()
    guest_end, host_end = Stack(), Stack()
    vif = host.plug(host.add_guest(), 0, guest_end, host_end)
    host.boot()
    host.settle()

    def readable() -> None:
        if data := os.read(there, 100):
            host_end.to_send += [bytes([byte]) * 60 for byte in data]
            vif.kick_host()
        else:
            host.pump.unwatch(there)
            os.close(there)

    host.pump.watch(there, readable)
    os.write(here, b"12345")
    host.pump.hold(60, lambda: len(guest_end.received) == 5)
    os.close(here)
    host.pump.hold(60, lambda: not host.pump.watching)
    assert guest_end.received == [bytes([byte]) * 60 for byte in b"12345"]
