"""The interfaces at the ends of links: what is known of them, and who may listen there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xennet.frames import FrameBatch
from xennet.host.setup import Setup
from xennet.ifnet import DrvFlags, Flags, IfCounters, Interface, LinkState
from xennet.lifecycle.stack import Stack
from xennet.link.vifs import VifPair, Vifs
from xennet.netfront.kinds import FREEBSD
from xennet.port import Port, open_port


def vifs(guest: Port, host: Port, setup: Setup | None = None) -> tuple[Vifs, VifPair]:
    link = Vifs(Setup() if setup is None else setup)
    return link, link.join(guest, host)


@pytest.fixture
def up() -> Iterator[tuple[Vifs, VifPair]]:
    link, pair = vifs(open_port("gen:60x10"), open_port("gen:100x5"))
    link.open()
    yield link, pair
    link.destroy()


def test_a_vif_has_an_interface_in_the_guest_and_one_in_the_backend_domain() -> None:
    link, pair = vifs(open_port("null:"), open_port("null:"), Setup(mtu=1400))
    guest, host = pair.interfaces
    assert (guest.name, guest.mac, guest.mtu) == ("eth0", link.address(0), 1400)
    assert (host.name, host.mac.hex(":"), host.mtu) == ("vif1.0", "fe:ff:ff:ff:ff:ff", 1400)
    assert not guest.usable
    assert guest.link_state is host.link_state is LinkState.UNKNOWN
    link.open()
    assert pair.interfaces[0] is guest
    assert guest.usable
    assert guest.link_state is LinkState.UP
    assert repr(guest) == "<Interface eth0 00:16:3e:00:00:01 mtu 1400, up>"
    link.close()
    assert pair.interfaces[1].link_state is LinkState.DOWN
    assert not host.usable
    link.destroy()


def test_freebsd_calls_it_xn_and_a_second_vif_has_the_next_number() -> None:
    setup = Setup(vifs=2, kind=FREEBSD)
    link, _ = vifs(open_port("null:"), open_port("null:"), setup)
    guest, host = link.join(open_port("null:"), open_port("null:")).interfaces
    assert (guest.name, guest.index, guest.mtu) == ("xn1", 2, 1500)
    assert host.name == "vif1.1"
    link.destroy()


def test_the_counters_of_one_end_are_those_of_the_other(up: tuple[Vifs, VifPair]) -> None:
    link, pair = up
    link.carry()
    guest, host = pair.interfaces
    assert guest.counters == IfCounters(opackets=10, obytes=600, ipackets=5, ibytes=500)
    assert host.counters == IfCounters(opackets=5, obytes=500, ipackets=10, ibytes=600)


def test_frames_that_waited_when_the_vif_went_are_dropped() -> None:
    link, pair = vifs(open_port("tcp:64000x100"), Stack(room=0))
    link.open()
    link.carry()
    link.close()
    guest, _ = pair.interfaces
    assert guest.counters.oqdrops > 0
    assert guest.counters.opackets + guest.counters.oqdrops <= 100
    link.destroy()


def test_nothing_stands_between_where_nobody_listens(up: tuple[Vifs, VifPair]) -> None:
    link, pair = up
    link.carry()
    assert pair.guest.pull == pair.guest.endpoint.pull
    assert pair.guest.push == pair.guest.endpoint.push


def test_what_a_batch_held_before_is_not_seen_again() -> None:
    seen: list[int] = []
    interface = Interface("eth0", 1)
    interface.taps.append(lambda batch: seen.extend(len(frame) for frame in batch))
    batch = FrameBatch(memoryview(bytearray(1000)))
    for length in (60, 70, 80):
        batch.append(bytes(length))
    interface.tap(batch, 1)
    assert seen == [70, 80]
    interface.tap(batch)
    assert seen == [70, 80, 60, 70, 80]
    interface.tap(batch, 3)
    assert len(seen) == 5


def test_an_interface_starts_and_stops() -> None:
    interface = Interface("link0a", 1)
    assert not interface.usable
    interface.start()
    assert interface.flags & Flags.UP
    assert interface.drv_flags & DrvFlags.RUNNING
    interface.stop()
    assert not interface.usable
    assert interface.up
    assert interface.link_state is LinkState.DOWN
