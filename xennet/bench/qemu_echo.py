"""``python -m xennet.bench.qemu_echo``: frames through QEMU's backend to an emulated guest and
back, with all calls that QEMU makes for them.

Given is CPU time of both processes beside the time that passed; on a loaded machine only the former
says something.
"""

from __future__ import annotations

import os
import resource
import socket
import time
from collections import Counter
from statistics import median

import click
from attrs import frozen

from xennet.bench import real_qemu
from xennet.engine.choice import using
from xennet.exec.own_host import OwnHost
from xennet.host.host import guest_mac

#: Bytes of a frame, and frames before those that count.
SIZE, _WARM_UP = 600, 200


@frozen
class Echo:
    """For each frame: us of CPU time here and in QEMU, us that passed, and QEMU's calls."""

    here: float
    qemu: float
    passed: float
    calls: Counter[str]


class _Source:
    """The host behind QEMU: sends ``count`` frames and takes them back."""

    def __init__(self, own: OwnHost, count: int) -> None:
        self._own, self._count = own, count
        #: The paths of its socket and of QEMU's.
        self.mine, self.theirs = f"{own.directory}/host", f"{own.directory}/qemu"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.mine)
        self._socket.setblocking(False)
        self._sent = self._taken = 0
        head = bytes.fromhex("00163e00000102aabbccddee88b5")
        self._frame = head + bytes(i & 0xFF for i in range(SIZE - len(head)))
        self._leave = own.host.pump.attend(self._connected, every=1)
        self._began: tuple[int, float, Counter[tuple[str, str]]] | None = None
        #: us that passed, us of CPU time in this process, and QEMU's calls.
        self.passed = self.here = 0.0
        self.calls: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        self._socket.close()

    def _connected(self) -> None:
        if self._own.host.vifs[0].connected:
            self._leave()
            self._socket.connect(self.theirs)
            self._go_on()

    def _go_on(self) -> None:
        full = self._sent == _WARM_UP + self._count
        self._own.host.pump.watch(
            self._socket.fileno(), self._readable, None if full else self._writable
        )

    def _writable(self) -> None:
        try:
            while self._sent < _WARM_UP + self._count:
                self._socket.send(self._frame)
                self._sent += 1
        except BlockingIOError:
            pass
        self._go_on()

    def _readable(self) -> None:
        try:
            while True:
                if self._socket.recv(65536) != self._frame:
                    raise RuntimeError("a frame came back changed")
                self._taken += 1
                if self._taken == _WARM_UP:
                    calls = Counter(self._own.server.calls)
                    self._began = time.perf_counter_ns(), time.process_time(), calls
                elif self._taken == _WARM_UP + self._count:
                    self._finish()
        except BlockingIOError:
            pass

    def _finish(self) -> None:
        assert self._began is not None
        self.passed = (time.perf_counter_ns() - self._began[0]) / 1e3
        self.here = (time.process_time() - self._began[1]) * 1e6
        self.calls = Counter(self._own.server.calls)
        self.calls.subtract(self._began[2])
        self._own.host.pump.unwatch(self._socket.fileno())
        for program in self._own.server.programs.values():
            program.kill()


def echo(qemu: real_qemu.Qemu, count: int) -> Echo:
    """Send ``count`` frames through QEMU to a guest that sends them back."""
    own = OwnHost(0)
    source = _Source(own, count)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        own.run(qemu.command(1, guest_mac(1), source.theirs, source.mine), 0)
    finally:
        source.close()
        own.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    theirs = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    calls: Counter[str] = Counter()
    for (_, name), made in source.calls.items():
        calls[name] += made
    # What QEMU needs to start is among its time, and little.
    return Echo(source.here / count, theirs * 1e6 / count, source.passed / count, calls)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds.")
@click.option("--frames", default=3000, show_default=True, help="Frames in each of them.")
@click.option("--engine", default="plain", show_default=True, help="How kernels run.")
def main(rounds: int, frames: int, engine: str) -> None:
    """Print what an echoed frame costs, as medians."""
    try:
        qemu = real_qemu.prepare()
    except real_qemu.NoQemuError as reason:
        click.echo(f"no QEMU to measure: {reason}")
        return
    os.environ["LD_LIBRARY_PATH"] = qemu.environment()["LD_LIBRARY_PATH"]
    with using(engine):
        seen = [echo(qemu, frames) for _ in range(rounds)]
    click.echo(f"{'us':24}{'CPU here':>10}{'QEMU':>10}{'passed':>10}{'frames/s':>10}{'of CPU':>10}")
    here, theirs, passed = (
        median(getattr(one, key) for one in seen) for key in ("here", "qemu", "passed")
    )
    click.echo(
        f"{'frame, echo by QEMU':24}{here:10.1f}{theirs:10.1f}{passed:10.1f}"
        f"{1e6 / passed:10.0f}{1e6 / here:10.0f}"
    )
    for name, made in seen[0].calls.most_common():
        if made:
            click.echo(f"  {name:40}{made / frames:6.2f} a frame")


if __name__ == "__main__":
    main()
