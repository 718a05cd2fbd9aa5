"""A frontend in C on xennet-guest.h, against xennet's backend."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable

import pytest
from foreign_world import Running, World
from vif_peers import Stack

from xennet.abi.sched import SHUTDOWN_crash, SHUTDOWN_poweroff
from xennet.host.domains import Guest, PluggedVif
from xennet.toolstack.toolstack import Outcome

SIZES = (60, 61, 590, 1514, 4095, 4096, 4097, 8192, 9014, 40000, 65535)


def frames(count: int, seed: int = 0) -> list[bytes]:
    """Random frames of all sizes."""
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice(SIZES)) for _ in range(count)]


class Site:
    """A world whose domain 1 runs the frontend; its vif is connected."""

    def __init__(self, world: World, *words: object) -> None:
        self.world = world
        self.guest: Guest = world.guest()
        world.host.dom0.load()
        self.vif: PluggedVif
        self.ends: tuple[Stack, Stack]
        self.vif, *ends = world.plug(self.guest, guest_served=False)
        self.ends = (ends[0], ends[1])
        self.program: Running = world.start("netfront", 1, *words)
        world.connect(self.vif)

    @property
    def host_end(self) -> Stack:
        return self.ends[1]

    def send(self, what: list[bytes]) -> None:
        self.host_end.to_send += what
        self.vif.kick_host()

    def shutdown_reason(self) -> int | None:
        info = self.world.host.machine.domain_info(1)
        return None if info is None else info.shutdown


MakeWorld = Callable[..., World]


def test_it_echoes_random_frames_and_powers_off(worlds: MakeWorld) -> None:
    sent = frames(300)
    site = Site(worlds(), "-e", "-n", 300)
    site.send(sent)
    assert site.world.finish(site.program) == SHUTDOWN_poweroff
    assert site.host_end.received == sent
    assert f"300 sent, 300 received ({sum(map(len, sent))} bytes), 0 failed" in site.program.said
    assert site.shutdown_reason() == SHUTDOWN_poweroff
    assert not site.vif.errors


def test_it_plays_a_capture_and_records_what_comes(worlds: MakeWorld) -> None:
    world = worlds()
    out, back = frames(100, 1), frames(100, 2)
    played, recorded = world.capture("out.pcap", out), world.capture("back.pcap")
    site = Site(world, "-r", played, "-w", recorded, "-n", 100)
    site.send(back)
    assert world.finish(site.program) == SHUTDOWN_poweroff
    assert site.host_end.received == out
    assert world.captured(recorded) == back


def test_it_goes_on_with_the_next_attach_and_ends_when_it_is_asked_to(worlds: MakeWorld) -> None:
    site = Site(worlds(), "-e")
    world, host = site.world, site.world.host
    total = 0
    for life in range(3):
        sent = frames(20, life)
        site.send(sent)
        world.hold(lambda sent=sent: len(site.host_end.received) >= len(sent))
        assert site.host_end.received == sent
        total += len(sent)
        operation = host.unplug(site.vif)
        world.hold(lambda operation=operation: operation.outcome is not Outcome.PENDING)
        assert operation.outcome is Outcome.DONE
        world.hold(lambda: not site.guest.domain.allocated)
        assert not world.held(), "the frontend has taken everything back"
        site.vif, _, end = world.plug(site.guest, guest_served=False)
        site.ends = (site.ends[0], end)
        world.connect(site.vif)
    host.store.write("/local/domain/1/control/shutdown", "poweroff")
    assert world.finish(site.program) == SHUTDOWN_poweroff
    assert f"{total} sent, {total} received" in site.program.said
    assert host.store.read("/local/domain/1/control/shutdown") == b""


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_in_mid_traffic_is_a_crash_whose_traces_the_toolstack_removes(
    worlds: MakeWorld, seed: int
) -> None:
    site = Site(worlds(), "-e")
    world, rng = site.world, random.Random(seed)
    site.send(frames(400, seed))
    enough = rng.randrange(1, 200)
    world.hold(lambda: len(site.host_end.received) >= enough)
    site.program.kill()
    world.finish(site.program)
    assert site.shutdown_reason() == SHUTDOWN_crash
    assert world.held(), "all is left in place"
    site.guest.destroy()
    world.hold(lambda: world.host.machine.domain_info(1) is None)


def test_a_destroyed_domain_takes_its_program_along(worlds: MakeWorld) -> None:
    site = Site(worlds(), "-e")
    site.send(frames(100))
    site.world.hold(lambda: len(site.host_end.received) > 10)
    site.guest.destroy()
    site.world.finish(site.program)
    site.world.hold(lambda: site.world.host.machine.domain_info(1) is None)


def test_killed_while_it_connects(worlds: MakeWorld) -> None:
    world = worlds()
    guest = world.guest()
    world.host.dom0.load()
    vif, *_ = world.plug(guest, guest_served=False)
    program = world.start("netfront", 1)
    world.hold(lambda: any(path == "/dev/xen/guest" for path, _ in world.server.calls))
    for _ in range(200):
        world.host.pump.turn()
        if world.server.calls["/dev/xen/guest", "mmap"] > 100:
            break
    program.kill()
    world.finish(program)
    assert not vif.errors
    guest.destroy()
    world.hold(lambda: world.host.machine.domain_info(1) is None)


@pytest.mark.parametrize("size", ["-5", "65536", "99999999999999999999", "6x", ""])
def test_frames_of_no_size_are_refused(programs: dict[str, str], size: str) -> None:
    done = subprocess.run(
        [programs["netfront"], "-g", size], capture_output=True, text=True, timeout=60
    )
    said = f"{size}: a frame has 0 to 65535 bytes\n"
    assert (done.returncode, done.stderr) == (2, said)
