"""Programs in domains are killed at any moment, several at once: the machine goes on, and nothing
of them stays.

XENNET_KILLS=150 makes that many rounds in place of a few: about a minute.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

from peer_world import PeerWorld
from qemu_vif import QemuVif
from vif_peers import Stack

from xennet.bench import real_qemu
from xennet.host.domains import Guest
from xennet.toolstack.toolstack import DESTROY_TIMEOUT

ROUNDS = int(os.environ.get("XENNET_KILLS", "12"))
#: Seconds between two rounds, at most.
LONGEST = 0.05

#: Keeps the store busy as the guest's own client.
STORE_USER = """
import sys
from xennet.xenstore import Client, XsError

with Client.connect("/dev/xen/xenbus") as client:
    client.watch("data", "token", lambda path, token: None)
    while True:
        with client.transaction() as tx:
            for n in range(5):
                tx.write(f"data/{n}", "x" * n * 100)
        client.poll()
        client.rm("data/3")
"""


class Fleet:
    """Pairs of a libxenvchan's ends, a client of the store in each of their guests, and a QEMU that
    serves another guest's vif."""

    def __init__(self, world: PeerWorld, vchan: str, qemu: real_qemu.Qemu | None) -> None:
        self.world, self.vchan, self.qemu = world, vchan, qemu
        self.vif: QemuVif | None = None
        self.stack = Stack()
        self.guests: list[Guest] = []
        self.running: list[subprocess.Popen[bytes]] = []

    def renew(self) -> None:
        """Start what does not run."""
        world = self.world
        self.running = [program for program in self.running if program.poll() is None]
        while len(self.guests) < 2:
            self.guests.append(world.add_guest())
        one, two = (guest.domid for guest in self.guests)
        words = [f"/local/domain/{one}/data/vchan", "1000000000", "4096"]
        for domid, argv in (
            (one, [self.vchan, "server", str(two), *words]),
            (two, [self.vchan, "client", str(one), *words]),
            (one, [sys.executable, "-c", STORE_USER]),
            (two, [sys.executable, "-c", STORE_USER]),
        ):
            if not any(program.args == argv for program in self.running):
                self.running.append(world.launch(domid, argv, by_socket="-c" not in argv))
        if self.qemu is not None and (self.vif is None or self.vif.qemu.poll() is not None):
            self._renew_vif(self.qemu)

    def _renew_vif(self, qemu: real_qemu.Qemu) -> None:
        self.remove_vif()
        self.vif = QemuVif(self.world, qemu, self.stack)
        self.running.append(self.vif.qemu)

    def remove_vif(self) -> None:
        """Destroy the guest of the vif."""
        if self.vif is not None:
            self.vif.qemu.kill()
            self.vif.host_end.close()
            self.vif.guest.destroy()
            self.vif = None

    def step(self, chance: random.Random) -> None:
        """Let everything run for a moment, then kill some."""
        if self.vif is not None:
            self.stack.to_send = [bytes(range(60))] * 200
            self.vif.vif.kick_guest()
        self.world.hold_for(chance.uniform(0, LONGEST))
        for program in chance.sample(self.running, chance.randint(1, len(self.running))):
            program.kill()
        if chance.random() < 0.2:
            self.guests.pop(chance.randrange(2)).destroy()
            # Its vchan's peer is to be started anew too.
            for program in self.running:
                if program.args[0] == self.vchan:
                    program.kill()


def test_the_machine_goes_on_when_programs_are_killed(world: PeerWorld, vchan: str) -> None:
    try:
        qemu = real_qemu.prepare()
    except real_qemu.NoQemuError:
        qemu = None  # without one then
    chance = random.Random(ROUNDS)
    fleet = Fleet(world, vchan, qemu)
    for _ in range(ROUNDS):
        fleet.renew()
        fleet.step(chance)
    fleet.remove_vif()
    for program in world.programs:
        world.kill(program)
    world.hold(lambda: not world.server.programs and not world.server.files)
    for guest in list(world.host.guests.values()):
        guest.destroy()
    world.pump.pass_time(DESTROY_TIMEOUT)
    world.hold(lambda: not world.machine.leaks())
    # And it is as good as new.
    one, two = (world.add_guest().domid for _ in range(2))
    words = [f"/local/domain/{one}/data/vchan", "100000", "4096"]
    world.succeed(
        world.launch(one, [vchan, "server", str(two), *words]),
        world.launch(two, [vchan, "client", str(one), *words]),
    )
