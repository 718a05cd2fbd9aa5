"""A host some of whose domains run programs in C: drivers written from the public headers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dpkt
from attrs import define, field
from vif_peers import Stack

from xennet.exec.launch import launch, socket_paths
from xennet.exec.server import ExecServer
from xennet.host import Host
from xennet.host.domains import Guest, PluggedVif
from xennet.pump import RealClock

#: Seconds that only a hang reaches.
PATIENCE = 60.0


@define(eq=False)
class Running:
    """A program that runs in a domain; ``said`` is what it has printed so far."""

    world: World
    process: subprocess.Popen[bytes]
    said: str = ""

    def start_reading(self) -> None:
        """Collect what it prints."""
        assert self.process.stdout is not None
        out = self.process.stdout.fileno()
        os.set_blocking(out, False)
        self.world.host.pump.watch(out, self._read)

    def _read(self) -> None:
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        self.said += data.decode(errors="replace")
        if not data:
            self.world.host.pump.unwatch(self.process.stdout.fileno())

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL. May be repeated."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """SIGKILL, and let go of its output."""
        self.kill()
        assert self.process.stdout is not None
        self.world.host.pump.unwatch(self.process.stdout.fileno())
        self.process.stdout.close()


@define(eq=False)
class World:
    """``host`` is a host on the real clock; programs run in the domains that :meth:`serve` serves.
    ``programs`` are the paths of compiled programs by name."""

    programs: dict[str, str]
    host: Host
    server: ExecServer
    directory: str
    running: list[Running] = field(factory=list)

    @classmethod
    def make(cls, programs: dict[str, str], **options: Any) -> World:
        """A new host; ``options`` are those of Host."""
        host = Host(clock=RealClock(), shared=True, **options)
        server = ExecServer(host.machine, host.pump, host.service.server)
        return cls(programs, host, server, tempfile.mkdtemp(prefix="xennet-test-"))

    def close(self) -> None:
        """End all programs and the host."""
        for running in self.running:
            running.close()
        self.server.close()
        self.host.destroy()
        shutil.rmtree(self.directory)

    def serve(self, owner: Any) -> None:
        """Let programs run in the domain of a guest or a backend domain."""
        paths = socket_paths(self.directory, owner.domid)
        self.server.serve(owner.domain, owner.kernel.grants, *paths)

    def guest(self) -> Guest:
        """A guest whose kernel is a program."""
        guest = self.host.add_guest(drivers=None)
        self.serve(guest)
        return guest

    def start(self, name: str, domid: int, *words: object) -> Running:
        """Start a program in a domain."""
        process = launch(
            [self.programs[name], *map(str, words)],
            *socket_paths(self.directory, domid),
            stdout=subprocess.PIPE,
        )
        running = Running(self, process)
        running.start_reading()
        self.running.append(running)
        return running

    def hold(self, until: Callable[[], bool]) -> None:
        """Keep everything going until something is so."""
        self.host.pump.hold(PATIENCE, until)
        assert until(), f"it has not come to that in time: {[r.said for r in self.running]}"

    def finish(self, running: Running) -> int:
        """Wait until a program has ended and the server has noticed. Returns its exit status."""
        self.hold(
            lambda: (
                running.ended()
                and running.process.pid not in {pid for _, pid in self.server.programs}
            )
        )
        self.settle()
        return int(running.process.returncode)

    def settle(self) -> None:
        """Let everything be delivered that is ready."""
        for _ in range(3):
            self.host.pump.turn()
            self.host.pump.run()

    def plug(self, guest: Guest, **options: Any) -> tuple[PluggedVif, Stack, Stack]:
        """Attach vif 0: the vif, the guest's end and the host's."""
        ends = Stack(), Stack()
        return self.host.plug(guest, 0, *ends, **options), *ends

    def connect(self, vif: PluggedVif) -> None:
        """Wait until a vif is connected."""
        self.hold(lambda: vif.connected)

    def capture(self, name: str, frames: Iterable[bytes] = ()) -> Path:
        """The path of a capture with these frames."""
        path = Path(self.directory, name)
        with open(path, "wb") as file:
            writer = dpkt.pcap.Writer(file, snaplen=65535)
            for n, frame in enumerate(frames):
                writer.writepkt(frame, ts=n)
        return path

    def captured(self, path: Path) -> list[bytes]:
        """The frames of a capture that a program wrote."""
        with open(path, "rb") as file:
            return [bytes(frame) for _, frame in dpkt.pcap.Reader(file)]

    def held(self) -> str:
        """What domains hold that they should not, "" if nothing; pages through which the machine
        copies for programs of domain 0 are its own."""
        for served in self.server.domains.values():
            served.no_bounce()
        leaks = self.host.leaks()
        return str(leaks) if leaks else ""
