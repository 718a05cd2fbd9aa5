"""What is printed of an object is short, however much hangs on it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import xennet
from xennet import Host, LeakReport, PagePoller, VifLink, XnbPoller, open_port, open_ports
from xennet.host import Setup
from xennet.hypervisor.leaks import DomainLeaks
from xennet.link import Vifs
from xennet.port.null import NullPort

#: Characters of an object with an identity, and of a record of plain values.
OBJECT, RECORD = 200, 400


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Vifs]:
    """Four guests with three connected vifs each."""
    lines, ports = Vifs(Setup(guests=4, vifs=3)), []
    for number in range(12):
        ends = open_ports(["tcp:9000x3", f"record:{tmp_path / str(number)}.pcap"])
        lines.join(*ends)
        ports += ends
    lines.open()
    lines.carry()
    yield lines
    lines.destroy()
    for port in ports:
        port.close()


def reached(start: object) -> Iterator[object]:
    """The objects of xennet that hang on ``start``, however far."""
    seen, left = {id(start)}, [start]
    while left:
        found = left.pop()
        if type(found).__module__.startswith("xennet"):
            yield found
        for other in gc.get_referents(found):
            if id(other) not in seen and not isinstance(other, type | ModuleType | FunctionType):
                seen.add(id(other))
                left.append(other)


def test_no_object_of_a_host_full_of_vifs_prints_what_hangs_on_it(many: Vifs) -> None:
    long, kinds = {}, set()
    for found in reached(many):
        kind = type(found)
        kinds.add(kind.__name__)
        if kind.__module__.endswith("_rules"):
            continue  # rows of tables, with their reasons
        limit = OBJECT if kind.__eq__ is object.__eq__ else RECORD
        if len(text := repr(found)) > limit:
            long[kind] = text
    assert not long
    assert {"PluggedVif", "Guest", "Host", "Machine", "Domain", "Vif", "Netfront"} <= kinds


def test_a_vif_says_what_it_joins_and_whether_it_does(many: Vifs) -> None:
    first = many.vifs[0]
    assert repr(first) == "<PluggedVif vif1.0: linux to linux, connected>"
    assert repr(first.guest) == "<Guest 1 'domU1': 3 vifs, booted>"
    assert repr(many.host) == "<Host 4 guests, 12 vifs>"
    assert repr(many.host.dom0) == "<BackendDomain 0: 12 backends, loaded>"
    assert repr(many) == "<Vifs 12 vifs, open>"
    assert repr(first.frontend) == "<Frontend device/vif/0 of domain 1, Connected>"


def test_drivers_and_the_run_loop_say_their_state(many: Vifs) -> None:
    first = many.vifs[0]
    assert repr(first.netfront) == "<Netfront 1 queues, carrier on>"
    assert repr(first.netback) == "<Vif 1 queues, carrier on>"
    loop = many.host.machine.run_loop
    assert repr(loop) == f"<RunLoop {loop.steps} deliveries made, 0 ready>"


def test_a_vif_without_drivers_says_so() -> None:
    host = Host()
    vif = host.plug(host.add_guest(), 0, NullPort(), NullPort())
    assert repr(vif) == "<PluggedVif vif1.0: no linux driver to no linux driver, not connected>"
    host.destroy()


def test_a_port_says_its_specification() -> None:
    assert repr(open_port("gen:60x10")) == "<GenPort gen:60x10>"
    assert repr(open_port("gen:60x10+null:")) == "<DuplexPort gen:60x10+null:>"


def test_a_port_with_a_very_long_name_says_the_start_of_it(tmp_path: Path) -> None:
    port = open_port(f"record:{tmp_path / ('x' * 200)}")
    assert len(repr(port)) < OBJECT
    assert repr(port).endswith("xxx...>")
    port.close()


def test_a_packet_shows_its_header_and_not_its_payload() -> None:
    poller = PagePoller()
    packet = xennet.PolledPacket(bytes.fromhex("00163e000001") + bytes(9000), 3, 1448, 1)
    assert repr(packet).startswith("<PolledPacket 9006 bytes 00163e000001000000")
    assert len(repr(packet)) < 100
    poller.close()


def test_the_leaks_of_a_connected_vif_are_a_few_lines() -> None:
    link = VifLink(open_port("null:"), open_port("null:"))
    link.open()
    leaks = link.leaks()
    lines = str(leaks).splitlines()
    assert len(lines) <= 10
    granted = leaks.domains[1].granted
    buffers = [grant for grant in granted if not grant.pin]
    first, last = buffers[0], buffers[-1]
    assert (
        f"domain 1 (domU1) grants references {first.gref}..{last.gref} "
        f"(frames {first.frame:#x}..{last.frame:#x}) to domain 0, unused" in lines
    )
    assert repr(leaks).startswith("<LeakReport: domain 0 2 mappings, 2 ports")
    link.close()
    assert repr(link.leaks()) == "<LeakReport: nothing is held>"
    link.destroy()


def test_leaks_that_are_no_ranges_are_counted_after_the_first_few() -> None:
    leaks = DomainLeaks(3, "domU3", ports=tuple(range(1, 41, 2)), lingering=(7,))
    assert list(leaks.lines()) == [
        "has ports 1, 3, 5, 7, 9, 11, 13, 15 and 12 more open",
        "gave up frame 0x7, which is still mapped",
    ]


def test_a_report_about_many_domains_names_the_first_ones() -> None:
    report = LeakReport(tuple(DomainLeaks(i, f"domU{i}", ports=(1, 2), pages=5) for i in range(99)))
    assert repr(report) == (
        "<LeakReport: domain 0 2 ports, 5 pages; domain 1 2 ports, 5 pages; and 97 more domains>"
    )


def test_pollers_and_machines_are_short() -> None:
    for poller in (PagePoller(), XnbPoller()):
        assert len(repr(poller)) < 100
        assert repr(poller.machine).startswith("<Machine 3 domains, ")
        poller.close()
