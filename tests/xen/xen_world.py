"""A host whose domains run xennet's own drivers as processes, and the frames that cross a vif."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xennet.exec.launch import launch, socket_paths
from xennet.exec.served_domain import ServedDomain
from xennet.exec.server import ExecServer
from xennet.frames import UNBOUNDED, BaseEndpoint, FrameBatch
from xennet.host import Host
from xennet.host.domains import PluggedVif
from xennet.port.null import NullPort
from xennet.pump import RealClock

#: Seconds that only a hang reaches.
PATIENCE = 60.0
#: Seconds between two looks at what does not wake the pump.
_LOOK = 0.02


class Frames(BaseEndpoint):
    """An end that gives ``frames`` and keeps those that it gets; ``window``: how many of its own
    may be on their way, if all come back."""

    def __init__(self, frames: list[bytes] | None = None, window: int = UNBOUNDED) -> None:
        self.frames = frames or []
        self.given = 0
        self.got: list[bytes] = []
        self.window = window

    def pull(self, batch: FrameBatch, /) -> int:
        before = batch.count
        while self.given < len(self.frames) and self.given - len(self.got) < self.window:
            if not batch.has_room(len(self.frames[self.given])):
                break
            batch.append(self.frames[self.given])
            self.given += 1
        return batch.count - before

    def push(self, batch: FrameBatch, /) -> None:
        self.got += [bytes(frame) for frame in batch]
        if self.window != UNBOUNDED:
            self.wake()


def numbered(count: int, sizes: tuple[int, ...] = (60, 600, 1514)) -> list[bytes]:
    """Frames that are all different."""
    head = bytes.fromhex("0200000000020200000000018999")
    return [(head + i.to_bytes(4, "big") * 16384)[: sizes[i % len(sizes)]] for i in range(count)]


class Driver:
    """A process of ``xennet back`` or ``xennet front``."""

    def __init__(
        self, world: World, domid: int, words: tuple[str, ...], preload: bool = True
    ) -> None:
        self._world = world
        #: Whether it is to end.
        self.ending = False
        number = len(world.drivers)
        self.out = world.path(f"{number}.out").open("w+b")
        self.err = world.path(f"{number}.err").open("w+b")
        command = [sys.executable, "-m", "xennet", *words, "--json"]
        path, store_path = socket_paths(world.directory, domid)
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.out, "stderr": self.err}
        env = {"XENNET_ENGINE": "plain", **os.environ}
        if preload:
            self.process = launch(command, path, store_path, env=env, **streams)
        else:
            env["XENSTORED_PATH"] = store_path
            self.process = subprocess.Popen(command, env=env, **streams)

    @property
    def told(self) -> str:
        """What it has written to stderr."""
        size = os.fstat(self.err.fileno()).st_size
        return os.pread(self.err.fileno(), size, 0).decode()

    @property
    def report(self) -> dict[str, Any]:
        """Its report."""
        size = os.fstat(self.out.fileno()).st_size
        document = json.loads(os.pread(self.out.fileno(), size, 0))
        assert isinstance(document, dict)
        return document

    def end(self, signal: int) -> int:
        """Send a signal and wait for the end. Returns the exit status."""
        self.process.send_signal(signal)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and until the server has noticed. Returns the exit status."""
        self.ending = True
        self._world.hold(lambda: self.process.poll() is not None)
        pid = self.process.pid
        self._world.hold(lambda: all(pid != known for _, known in self._world.server.programs))
        return int(self.process.returncode)

    def close(self) -> None:
        """Kill it and close what is open."""
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()


class World:
    """A host on the real clock with domain 0 and a guest; ``processes``: the domids whose drivers
    are processes, the other domain has xennet's drivers in here."""

    def __init__(self, *processes: int) -> None:
        drivers: Any = None if 0 in processes else "xennet"
        self.host = Host(clock=RealClock(), shared=True, drivers=drivers, serve_unknown=False)
        # A process may wait for its turn for long: only PATIENCE is a limit.
        self.host.toolstack.after = None
        self.directory = tempfile.mkdtemp(prefix="xennet-test-")
        self.server = ExecServer(self.host.machine, self.host.pump, self.host.service.server)
        self.drivers: list[Driver] = []
        self.served: list[ServedDomain] = []
        self.guest = self.host.add_guest(drivers=None if 1 in processes else "xennet")
        ends = {0: self.host.dom0, 1: self.guest}
        for domid in processes:
            domain, kernel = ends[domid].domain, ends[domid].kernel
            paths = socket_paths(self.directory, domid)
            self.served.append(self.server.serve(domain, kernel.grants, *paths))
        if 0 not in processes:
            self.host.dom0.load()
        if 1 not in processes:
            self.guest.boot()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for driver in self.drivers:
                driver.close()
        finally:
            self.server.close()
            self.host.destroy()
            shutil.rmtree(self.directory)

    def path(self, name: str) -> Path:
        """A file of its own."""
        return Path(self.directory) / name

    def start(self, domid: int, *words: str, preload: bool = True) -> Driver:
        """Start ``xennet back`` or ``front`` in a domain; without ``preload`` it has the domain's
        store and no devices."""
        self.drivers.append(Driver(self, domid, words, preload))
        return self.drivers[-1]

    def plug(
        self, guest_end: Any = None, host_end: Any = None, handle: int = 0, **options: Any
    ) -> PluggedVif:
        """Have the toolstack attach a vif; ``options`` are those of Host.plug."""
        ends = guest_end or NullPort(), host_end or NullPort()
        return self.host.plug(self.guest, handle, *ends, **options)

    def hold(self, until: Callable[[], bool]) -> None:
        """Keep the machine going until something is so. No driver may end meanwhile."""

        def over() -> bool:
            return until() or any(
                driver.process.poll() is not None and not driver.ending for driver in self.drivers
            )

        end = time.monotonic() + PATIENCE
        while not over() and time.monotonic() < end:
            self.host.pump.hold(_LOOK, over)  # a file or a process does not wake the pump
        if not until():
            told = "\n".join(driver.told for driver in self.drivers)
            raise AssertionError(f"it has not come to that, or not in time; drivers said:\n{told}")

    def connect(self, vif: PluggedVif) -> None:
        """Wait until a vif is connected, and wake the ends that are in here."""
        self.hold(lambda: vif.connected)
        vif.kick()

    def node(self, path: str) -> str:
        """The value of a node, "" if there is none."""
        from xennet.xenbus.nodes import NodeDirectory

        directory, _, name = path.rpartition("/")
        return NodeDirectory(self.host.store, directory).optional_text(name)
