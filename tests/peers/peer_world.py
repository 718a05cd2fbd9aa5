"""A host in whose domains programs run that nobody here wrote."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from xennet.exec.launch import launch, socket_paths
from xennet.exec.served_domain import ServedDomain
from xennet.exec.server import ExecServer
from xennet.host import Host
from xennet.host.domains import Guest
from xennet.hypervisor import Domain, Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.pump import Pump, RealClock
from xennet.xenstore.handlers import Server as StoreServer

T = TypeVar("T")

#: Seconds that only a hang reaches.
PATIENCE = 60.0
#: Nanoseconds between two looks at what no descriptor tells.
_LOOK_AGAIN = 5_000_000


class Programs:
    """Programs of other processes in domains of a machine.

    At the end all programs are killed, and nothing of them may be left: no file, no page that is
    mapped, no grant in use.
    """

    def __init__(self, machine: Machine, pump: Pump, store: StoreServer | None) -> None:
        self.machine, self.pump = machine, pump
        self.server = ExecServer(machine, pump, store)
        self.directory = Path(tempfile.mkdtemp(prefix="xennet-peers-"))
        self.programs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for program in self.programs:
                self.kill(program)
            if kind is None:
                self.require_nothing_left()
            else:
                print(self._outputs())
        finally:
            for program in self.programs:
                self.kill(program)
            self.server.close()
            self.close()
            shutil.rmtree(self.directory)

    def close(self) -> None:
        """Switch the machine off."""
        self.pump.close()
        self.machine.close()

    def serve(self, domain: Domain, kernel: GuestKernel) -> ServedDomain:
        """Let programs run in a domain."""
        paths = socket_paths(self.directory, domain.domid)
        return self.server.serve(domain, kernel.grants, *paths)

    # -- programs ----------------------------------------------------------------------------------

    def launch(
        self, domid: int, argv: Sequence[str], *, by_socket: bool = True, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program in a domain; its connections to the store are sockets, or else files of
        /dev/xen/xenbus. What it prints is in :meth:`output`."""
        path, store_path = socket_paths(self.directory, domid)
        with open(self.directory / f"output-{len(self.programs)}", "wb") as out:
            program = launch(
                argv,
                path,
                store_path if by_socket else None,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                **options,
            )
        self.programs.append(program)
        return program

    def output(self, program: subprocess.Popen[bytes]) -> str:
        """What a program has printed."""
        number = self.programs.index(program)
        return (self.directory / f"output-{number}").read_text(errors="replace")

    def kill(self, program: subprocess.Popen[bytes]) -> None:
        """SIGKILL. May be repeated."""
        program.kill()
        program.wait()

    def end(self, program: subprocess.Popen[bytes]) -> None:
        """SIGTERM, and wait until the program has ended."""
        program.send_signal(signal.SIGTERM)
        self.wait_for(program)

    def wait_for(self, *programs: subprocess.Popen[bytes]) -> None:
        """Wait until programs have ended."""
        self.hold(lambda: all(program.poll() is not None for program in programs))

    def succeed(self, *programs: subprocess.Popen[bytes]) -> None:
        """Wait until programs have ended, which they have to do well."""
        self.wait_for(*programs)
        for program in programs:
            assert program.returncode == 0, (program.args, program.returncode, self.output(program))

    def run(self, *argv: str, env: dict[str, str] | None = None) -> str:
        """Run an ordinary command while the machine goes on. Returns its output."""
        with tempfile.TemporaryFile() as out:
            command = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env
            )
            self.programs.append(command)
            try:
                self.wait_for(command)
            finally:
                self.programs.remove(command)
                self.kill(command)
            out.seek(0)
            return out.read().decode(errors="replace").strip()

    def meanwhile(self, call: Callable[[], T]) -> T:
        """Call ``call()``, which may wait for programs, while the machine goes on, and return its
        result."""
        with ThreadPoolExecutor(1) as threads:
            result = threads.submit(call)
            self.hold(result.done)
            return result.result()

    # -- time --------------------------------------------------------------------------------------

    def hold(self, until: Callable[[], bool]) -> None:
        """Keep the machine going until something is so."""
        reached = False

        def over() -> bool:
            nonlocal reached
            reached = reached or until()
            return reached

        self.hold_for(PATIENCE, over)
        held = self.machine.leaks()
        assert reached, f"it has not come to that in time; {held}{self._outputs()}"

    def hold_for(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Keep the machine going for a time, or until something is so."""
        loop = self.machine.run_loop

        def look() -> None:
            self._look = loop.call_after(_LOOK_AGAIN, 0, look, background=True)

        look()
        try:
            self.pump.hold(seconds, until)
        finally:
            loop.cancel_timer(self._look)

    def settle(self) -> None:
        """Let the server see what is there now, and everything be delivered that is ready."""
        for _ in range(3):
            self.pump.turn()
            self.pump.run()

    def require_nothing_left(self) -> None:
        """Require that nothing is left of programs, all of which have ended."""
        self.hold(lambda: not self.server.programs and not self.server.files)
        self.hold(lambda: not self.machine.leaks())

    def _outputs(self) -> str:
        said = [
            f"\n{program.args} ({program.poll()}):\n{self.output(program)}"
            for program in self.programs
        ]
        return "".join(said)


class PeerWorld(Programs):
    """A host on the real clock; programs can run in domain 0 and in its guests."""

    def __init__(self, **options: Any) -> None:
        self.host = Host(clock=RealClock(), shared=True, serve_unknown=False, **options)
        super().__init__(self.host.machine, self.host.pump, self.host.service.server)
        self.serve(self.host.dom0.domain, self.host.dom0.kernel)

    def close(self) -> None:
        self.host.destroy()

    def add_guest(self, **options: Any) -> Guest:
        """A guest in which programs can run."""
        guest = self.host.add_guest(**options)
        self.serve(guest.domain, guest.kernel)
        return guest

    def require_nothing_left(self) -> None:
        for guest in list(self.host.guests.values()):
            guest.destroy()
        self.hold(lambda: not self.host.guests)
        super().require_nothing_left()

    def node(self, path: str) -> str:
        """The value of a node of the store; "" if there is none."""
        return self.host.store.read(path).decode() if self.host.store.exists(path) else ""
