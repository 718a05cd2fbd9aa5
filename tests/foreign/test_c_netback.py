"""A backend in C on Xen's own libraries, as a program of domain 0, against xennet's frontend; and
against the frontend in C."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import dpkt
import pytest
from foreign_world import Running, World
from test_c_netfront import frames

from xennet.abi.xenbus import XenbusState
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.host.domains import BackendDomain
from xennet.netfront.kinds import FREEBSD, LINUX, WINDOWS, FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.state import read_state

MakeWorld = Callable[..., World]


class Site:
    """A world whose domain 0 runs the backend; its vif is connected."""

    def __init__(
        self,
        world: World,
        *words: object,
        owner: BackendDomain | None = None,
        kind: FrontendKind = LINUX,
        **options: Any,
    ) -> None:
        self.world = world
        self.owner = world.host.dom0 if owner is None else owner
        world.serve(self.owner)
        self.guest = world.host.add_guest(1, kind=kind)
        self.guest.boot()
        self.attach(*words, **options)

    def attach(self, *words: object, **options: Any) -> None:
        options |= {"backend_domid": self.owner.domid, "host_served": False}
        self.vif, self.guest_end, _ = self.world.plug(self.guest, **options)
        self.program: Running = self.world.start("netback", self.owner.domid, *words)
        self.world.connect(self.vif)

    def send(self, what: list[bytes], flags: int = 0) -> None:
        self.guest_end.to_send += what
        self.guest_end.flags += [flags] * len(what)
        self.vif.kick_guest()

    def detach(self) -> None:
        operation = self.world.host.unplug(self.vif)
        self.world.hold(lambda: operation.outcome is not Outcome.PENDING)
        assert operation.outcome is Outcome.DONE


def test_it_echoes_random_frames_and_ends_with_the_vif(worlds: MakeWorld) -> None:
    sent = frames(300)
    site = Site(worlds(drivers=None), "-e")
    site.send(sent)
    site.world.hold(lambda: len(site.guest_end.received) >= len(sent))
    assert site.guest_end.received == sent
    site.detach()
    assert site.world.finish(site.program) == 0
    assert f"300 received ({sum(map(len, sent))} bytes), 300 given, 0 failed" in site.program.said
    assert not site.vif.errors


@pytest.mark.parametrize("kind", [FREEBSD, WINDOWS], ids=lambda kind: kind.name)
def test_it_serves_other_kinds_of_frontends(worlds: MakeWorld, kind: FrontendKind) -> None:
    sent = frames(40)
    site = Site(worlds(drivers=None), "-e", kind=kind)
    site.send(sent)
    site.world.hold(lambda: len(site.guest_end.received) >= len(sent))
    assert site.guest_end.received == sent
    site.detach()
    assert site.world.finish(site.program) == 0


def test_it_serves_a_frontend_without_chains(worlds: MakeWorld) -> None:
    sent = [frame for frame in frames(200) if len(frame) <= 4096]
    site = Site(worlds(drivers=None), "-e", front=NetfrontOptions(sg=False))
    site.send(sent)
    site.world.hold(lambda: len(site.guest_end.received) >= len(sent))
    assert site.guest_end.received == sent
    site.detach()
    assert site.world.finish(site.program) == 0


def test_it_serves_a_vif_of_a_driver_domain(worlds: MakeWorld) -> None:
    world = worlds()
    owner = world.host.add_driver_domain(2, drivers=None)
    sent = frames(40)
    site = Site(world, "-e", owner=owner)
    site.send(sent)
    world.hold(lambda: len(site.guest_end.received) >= len(sent))
    assert site.guest_end.received == sent
    site.detach()
    assert world.finish(site.program) == 0


def test_the_frontend_is_unloaded_and_loaded_again(worlds: MakeWorld) -> None:
    site = Site(worlds(drivers=None), "-e")
    for life in range(3):
        sent = frames(20, life)
        del site.guest_end.received[:]
        site.send(sent)
        site.world.hold(lambda sent=sent: len(site.guest_end.received) >= len(sent))
        assert site.guest_end.received == sent
        site.guest.unload()
        site.world.hold(lambda: site.world.host.states(site.vif).count("Closed (6)") == 2)
        site.world.settle()  # the frontend has seen it
        site.guest.load()
        site.world.connect(site.vif)
    site.detach()
    assert site.world.finish(site.program) == 0


def test_it_plays_a_capture_and_records_what_comes(worlds: MakeWorld) -> None:
    world = worlds(drivers=None)
    out, back = frames(100, 1), frames(100, 2)
    played, recorded = world.capture("out.pcap", out), world.capture("back.pcap")
    site = Site(world, "-r", played, "-w", recorded, "-n", 100)
    site.send(back)
    assert world.finish(site.program) == 0
    assert site.guest_end.received == out
    assert world.captured(recorded) == back


def test_it_completes_blank_checksums(worlds: MakeWorld) -> None:
    world = worlds(drivers=None)
    recorded = world.capture("back.pcap")
    site = Site(world, "-w", recorded, "-n", 20)
    rng, wanted, sent = random.Random(5), [], []
    for n in range(20):
        upper: dpkt.Packet = dpkt.udp.UDP(sport=n, dport=53, data=rng.randbytes(n * 70))
        if n % 2:
            upper = dpkt.tcp.TCP(sport=n, dport=80, data=rng.randbytes(n * 70))
        else:
            upper.ulen = len(upper)
        ip = dpkt.ip.IP(src=bytes(4), dst=rng.randbytes(4), p=17 - 11 * (n % 2), data=upper)
        ip.len = len(ip)
        frame = bytes(dpkt.ethernet.Ethernet(data=ip, type=0x0800))
        wanted.append(frame)
        place = 34 + (16 if n % 2 else 6)
        # What an offload leaves there: the sum of the pseudo header alone.
        pseudo = ip.src + ip.dst + bytes([0, ip.p]) + (len(ip) - 20).to_bytes(2, "big")
        partial = 0xFFFF ^ dpkt.in_cksum(pseudo)
        sent.append(frame[:place] + partial.to_bytes(2, "big") + frame[place + 2 :])
    site.send(sent, CSUM_BLANK | DATA_VALIDATED)
    assert world.finish(site.program) == 0
    assert world.captured(recorded) == wanted


def test_another_one_serves_the_next_attach(worlds: MakeWorld) -> None:
    site = Site(worlds(drivers=None), "-e")
    for life in range(2):
        sent = frames(20, life)
        site.send(sent)
        site.world.hold(lambda sent=sent: len(site.guest_end.received) >= len(sent))
        assert site.guest_end.received == sent
        site.detach()
        assert site.world.finish(site.program) == 0
        site.attach("-e")
    site.detach()
    assert site.world.finish(site.program) == 0


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_in_mid_traffic_leaves_the_guest_alive(worlds: MakeWorld, seed: int) -> None:
    site = Site(worlds(drivers=None), "-e")
    site.send(frames(400, seed))
    enough = random.Random(seed).randrange(1, 200)
    site.world.hold(lambda: len(site.guest_end.received) >= enough)
    site.program.kill()
    site.world.finish(site.program)
    assert not site.world.host.machine.grant_tables.mappings(0)[1:], "only the ring of the store"
    assert site.guest.domain.running
    site.guest.kill()
    site.world.hold(lambda: site.world.host.machine.domain_info(1) is None)


def test_a_guest_that_is_destroyed_ends_it(worlds: MakeWorld) -> None:
    site = Site(worlds(drivers=None), "-e")
    site.send(frames(50))
    site.world.hold(lambda: len(site.guest_end.received) > 10)
    site.guest.destroy()
    assert site.world.finish(site.program) == 0
    site.world.hold(lambda: site.world.host.machine.domain_info(1) is None)


def test_both_ends_in_c(worlds: MakeWorld) -> None:
    world = worlds(drivers=None)
    sent = frames(200, 9)
    played, recorded = world.capture("out.pcap", sent), world.capture("back.pcap")
    world.serve(world.host.dom0)
    guest = world.guest()
    vif, *_ = world.plug(guest, guest_served=False, host_served=False)
    back = world.start("netback", 0, "-e")
    front = world.start("netfront", 1, "-r", played, "-w", recorded, "-n", len(sent))
    assert world.finish(front) == 0
    assert world.captured(recorded) == sent
    operation = world.host.unplug(vif)
    world.hold(lambda: operation.outcome is not Outcome.PENDING)
    assert world.finish(back) == 0


def test_of_a_vif_whose_rings_cannot_be_mapped_nothing_stays(worlds: MakeWorld) -> None:
    world = worlds()
    world.serve(world.host.dom0)
    guest = world.host.add_guest(1, drivers=None)
    vif, *_ = world.plug(guest, guest_served=False, host_served=False)
    world.start("netback", 0, "-d", 1)
    kernel, store = guest.kernel, guest.kernel.store
    front, back = vif.paths.frontend, vif.paths.backend

    def shows(state: XenbusState) -> bool:
        return read_state(world.host.dom0.kernel.store, back) == state

    world.hold(lambda: shows(XenbusState.InitWait))
    port = kernel.alloc_unbound(0)
    keys = {"tx-ring-ref": 99999, "rx-ring-ref": 99998, "event-channel": port}
    for key, value in {**keys, "request-rx-copy": 1, "state": 4}.items():
        store.write(f"{front}/{key}", str(value))
    world.hold(lambda: shows(XenbusState.Closing))
    world.settle()
    ports = {one.domid: one.ports for one in world.host.machine.leaks().domains}
    assert ports[0] == ()
    kernel.close_port(port)
    vif.guest.destroy()
