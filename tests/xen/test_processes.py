"""netback and netfront as processes, on the emulated machine: against xennet's own drivers in the
machine, and against each other.

On a real Xen they run on the same libraries; docs/real-xen.md says what was seen there.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from xen_world import Frames, World, numbered

from xennet.abi.grant_table import GNTTAB_RESERVED_XENSTORE
from xennet.abi.words import REQ_PROD
from xennet.frames import FrameBatch
from xennet.port import open_port
from xennet.toolstack.toolstack import Outcome
from xennet.xen.errors import because

pytestmark = pytest.mark.usefixtures("libraries")

FRONT_STATE = "/local/domain/1/device/vif/0/state"
BACK_STATE = "/local/domain/0/backend/vif/1/0/state"
TERMINATED = 128 + signal.SIGTERM


def check_keys(report: dict[str, Any], layout: str) -> None:
    """Every key of a report is in docs/cli.md, and no other."""
    from test_cli_page import check  # needs the page, which a copy of the tests may not have

    check(report, layout)


def captured(path: Path) -> list[bytes]:
    """The frames of a capture."""
    port, batch = open_port(f"pcap:{path}"), FrameBatch(memoryview(bytearray(1 << 24)), 65536)
    try:
        while port.pull(batch):
            pass
        return [bytes(frame) for frame in batch]
    finally:
        port.close()


def nothing_held(world: World) -> None:
    """Wait until no domain holds anything but the pages through which the server copies."""
    for served in world.served:
        served.no_bounce()
    try:
        world.hold(lambda: not world.host.leaks())
    except AssertionError as error:
        raise AssertionError(str(world.host.leaks())) from error


@pytest.mark.parametrize("options", [(), ("--queues=2", "--single-channel")])
def test_a_backend_process_serves_the_emulated_frontend(options: tuple[str, ...]) -> None:
    with World(0) as world:
        end = Frames(numbered(600, (60, 600, 1514, 9000, 65000)), window=20)
        vif = world.plug(guest_end=end)
        back = world.start(0, "back", "--host", "echo:", *options)
        world.connect(vif)
        world.hold(lambda: len(end.got) == 600)
        assert end.got == end.frames  # their hash is one, so they take one queue
        assert back.end(signal.SIGTERM) == TERMINATED, back.told
        report = back.report
        assert report["good"], report
        check_keys(report, "xennet-back/1")
        (seen,) = report["vifs"]
        assert (seen["name"], seen["connections"], seen["faults"]) == ("vif1.0", 1, [])
        assert seen["counters"]["tx"]["packets"] == seen["counters"]["rx"]["packets"] == 600
        assert seen["port"]["counters"]["frames_out"] == 600
        world.hold(lambda: not vif.connected)
        world.guest.destroy()
        nothing_held(world)


@pytest.mark.parametrize("options", [(), ("--frontend=windows",)])
def test_a_frontend_process_drives_the_emulated_backend(options: tuple[str, ...]) -> None:
    with World(1) as world:
        end = Frames(numbered(600), window=100)
        vif = world.plug(host_end=end)
        front = world.start(1, "front", "--guest", "echo:", *options)
        world.connect(vif)
        world.hold(lambda: len(end.got) == 600)
        assert end.got == end.frames
        assert front.end(signal.SIGTERM) == TERMINATED, front.told
        assert front.report["good"], front.report
        check_keys(front.report, "xennet-front/1")
        assert (world.node(FRONT_STATE), world.node(BACK_STATE)) == ("6", "6")
        world.guest.destroy()
        nothing_held(world)


def test_two_processes_and_captures_are_equal_byte_for_byte(tmp_path: Path) -> None:
    given, taken, back_again = (tmp_path / f"{name}.pcap" for name in ("given", "taken", "back"))
    with World(0, 1) as world:
        vif = world.plug()
        source = open_port("gen:900x400")
        batch = FrameBatch(memoryview(bytearray(1 << 20)), 400)
        source.pull(batch)
        frames = [bytes(frame) for frame in batch]
        record = open_port(f"record:{given}")
        record.push(batch)
        record.close()
        assert captured(given) == frames
        back = world.start(0, "back", "--host", f"pcap:{given}+record:{taken}")
        front = world.start(1, "front", "--guest", f"pcap:{given}+record:{back_again}")
        world.hold(lambda: vif.connected)
        size = given.stat().st_size
        world.hold(
            lambda: all(p.exists() and p.stat().st_size == size for p in (taken, back_again))
        )
        assert [front.end(signal.SIGINT), back.end(signal.SIGINT)] == [130, 130]
        assert front.report["good"], front.report
        assert back.report["good"], back.report
        assert captured(taken) == frames
        assert captured(back_again) == frames
        world.guest.destroy()
        nothing_held(world)


def test_a_killed_backend_holds_nothing_and_the_next_one_goes_on_at_its_rings() -> None:
    with World(0) as world:
        end = Frames(numbered(4000), window=64)
        vif = world.plug(guest_end=end)
        first = world.start(0, "back", "--host", "echo:")
        world.connect(vif)
        world.hold(lambda: len(end.got) > 200)
        first.end(signal.SIGKILL)
        pinned = world.host.machine.grant_tables.pinned(1)
        assert [grant.gref for grant in pinned] == [GNTTAB_RESERVED_XENSTORE]
        assert (world.node(FRONT_STATE), world.node(BACK_STATE)) == ("4", "4")
        # What was in the first one's hands is lost: the others may go on.
        end.window += end.given - len(end.got)
        second = world.start(0, "back", "--host", "echo:", "--keep")
        before = len(end.got)
        world.hold(lambda: len(end.got) > before + 200)
        assert set(end.got) <= set(end.frames)
        assert vif.netfront is not None
        assert vif.netfront.error is None
        assert second.end(signal.SIGTERM) == TERMINATED
        assert second.report["good"], second.report
        assert (world.node(FRONT_STATE), world.node(BACK_STATE)) == ("4", "4")
        world.guest.destroy()
        nothing_held(world)


def test_a_vif_that_is_being_detached_gets_its_closed() -> None:
    with World(0) as world:
        vif = world.plug(guest_end=Frames())
        first = world.start(0, "back", "--host", "null:")
        world.connect(vif)
        first.end(signal.SIGKILL)
        world.guest.crash()  # it does not answer any more
        operation = world.host.unplug(vif)
        world.hold(lambda: world.node(BACK_STATE) == "5")
        second = world.start(0, "back", "--host", "null:")
        world.hold(lambda: operation.outcome is not Outcome.PENDING)
        assert operation.outcome is Outcome.DONE
        world.guest.destroy()
        assert second.end(signal.SIGTERM) == TERMINATED
        assert second.report["vifs"] == []  # it was not served again for that
        nothing_held(world)


def test_a_vif_that_another_backend_serves_is_left_alone() -> None:
    with World(0) as world:
        end = Frames(numbered(2000), window=64)
        vif = world.plug(guest_end=end)
        world.start(0, "back", "--host", "echo:")
        world.connect(vif)
        second = world.start(0, "back", "--host", "null:")
        world.hold(lambda: "serves backend/vif" in second.told)
        assert "left alone in state Connected" in second.told
        world.hold(lambda: len(end.got) == 2000)
        assert second.end(signal.SIGTERM) == TERMINATED
        assert second.report["vifs"] == []
        assert vif.connected


def test_a_guest_that_crashes_and_is_destroyed_leaves_the_backend_alive() -> None:
    with World(0) as world:
        vif = world.plug(guest_end=Frames(numbered(1000), window=64))
        back = world.start(0, "back", "--host", "echo:", "--once")
        world.connect(vif)
        world.guest.crash()
        world.guest.destroy()
        assert back.wait() == 0, back.told
        assert back.report["good"], back.report
        nothing_held(world)


def test_a_port_that_fails_ends_the_command_and_closes_its_vifs() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with World(0) as world:
        vif = world.plug(guest_end=Frames(numbered(100)))
        full = world.path("full.pcap")
        full.symlink_to("/dev/full")
        back = world.start(0, "back", "--host", f"record:{full}")
        back.ending = True
        world.hold(lambda: vif.connected or back.process.poll() is not None)
        vif.kick()
        assert back.wait() == 2
        assert f"xennet: {full}" in back.told
        world.hold(lambda: not vif.connected)


def test_a_store_that_goes_ends_the_command() -> None:
    with World(0) as world:
        vif = world.plug(guest_end=Frames(numbered(100), window=10))
        back = world.start(0, "back", "--host", "echo:")
        world.connect(vif)
        back.ending = True
        assert world.served[0].store is not None
        world.served[0].store.stop()
        assert back.wait() == 2
        assert "xennet: XenStore: " in back.told


def test_a_frontend_that_breaks_the_protocol_is_told_of_and_others_go_on() -> None:
    with World(0) as world:
        good = Frames(numbered(300), window=50)
        vifs = [world.plug(guest_end=end, handle=n) for n, end in enumerate((good, Frames()))]
        back = world.start(0, "back", "--host", "echo:", "--vif=1/0")
        bad = world.start(0, "back", "--host", "echo:", "--vif=1/1")
        for vif in vifs:
            world.connect(vif)
        broken = vifs[1].netfront
        assert broken is not None
        queue = broken.queue
        assert queue is not None
        queue.tx_ring.sring.u32[REQ_PROD] = 0x7777
        world.guest.kernel.notify(queue.tx_port)
        world.hold(lambda: bad.told.count("vif1.1: ") > 2)
        assert bad.end(signal.SIGTERM) == TERMINATED
        assert not bad.report["good"]
        (seen,) = bad.report["vifs"]
        (fault,) = seen["faults"]
        assert "req_prod" in fault
        vifs[0].kick()
        world.hold(lambda: len(good.got) == 300)
        assert back.end(signal.SIGTERM) == TERMINATED
        assert back.report["good"]


def test_a_vif_is_detached_and_attached_again() -> None:
    with World(0) as world:
        back = world.start(0, "back", "--host", "echo:")
        for turn in range(2):
            end = Frames(numbered(100), window=50)
            vif = world.plug(guest_end=end)
            world.connect(vif)
            world.hold(lambda end=end: len(end.got) == 100)
            operation = world.host.unplug(vif)
            world.hold(lambda operation=operation: operation.outcome is Outcome.DONE)
            world.hold(lambda turn=turn: back.told.count("gone") == turn + 1)
            world.host.require(vif, operation)
        assert back.end(signal.SIGTERM) == TERMINATED
        (seen,) = back.report["vifs"]
        assert seen["connections"] == 2
        assert seen["counters"]["tx"]["packets"] == 200
        nothing_held(world)


def test_a_killed_frontend_frees_its_pages_when_the_backend_lets_go() -> None:
    with World(1) as world:
        end = Frames(numbered(2000), window=64)
        vif = world.plug(host_end=end)
        front = world.start(1, "front", "--guest", "echo:")
        world.connect(vif)
        world.hold(lambda: len(end.got) > 100)
        front.end(signal.SIGKILL)
        assert vif.netback is not None
        assert vif.netback.error is None
        world.host.unplug(vif, force=True)
        world.hold(lambda: vif.backend is None)
        world.guest.destroy()
        nothing_held(world)


def test_each_vif_has_its_port_and_one_port_is_for_one_vif() -> None:
    with World(0) as world:
        files = world.path("{domid}-{handle}.pcap")
        back = world.start(0, "back", "--host", f"record:{files}", "--vif=1/0", "--vif=1/1")
        ends = [Frames(numbered(50)) for _ in range(3)]
        vifs = [world.plug(guest_end=end, handle=handle) for handle, end in enumerate(ends)]
        for vif in vifs[:2]:
            world.connect(vif)
        paths = [world.path(f"1-{handle}.pcap") for handle in range(2)]
        size = 24 + sum(16 + len(frame) for frame in numbered(50))
        world.hold(lambda: all(p.exists() and p.stat().st_size == size for p in paths))
        assert back.end(signal.SIGTERM) == TERMINATED
        assert [captured(path) for path in paths] == [numbered(50)] * 2
        assert not vifs[2].connected
        assert not world.path("1-2.pcap").exists()
        one = world.start(0, "back", "--host", "echo:", "--vif=1/2", "--vif=1/3")
        world.connect(vifs[2])
        world.plug(handle=3)
        world.hold(lambda: "vif1.3: left alone: the port serves another vif" in one.told)


@pytest.mark.parametrize(
    ("words", "device"),
    [
        (("back", "--host", "null:"), "/dev/xen/gntdev"),
        (("front", "--guest", "null:"), "/dev/xen/gntalloc"),
    ],
)
def test_a_device_that_is_missing_is_told_before_anything_is_touched(
    words: tuple[str, ...], device: str
) -> None:
    if os.path.exists(device):
        pytest.skip(f"there is a {device}")
    with World(0, 1) as world:
        world.plug()
        driver = world.start(0 if words[0] == "back" else 1, *words, preload=False)
        assert driver.wait() == 2
        assert f"xennet: {device}: {because(2)}" in driver.told
        assert (world.node(FRONT_STATE), world.node(BACK_STATE)) == ("1", "1")
