"""A run in which the driver at one end of the vif is a program of another process.

Only the other end's frames are seen, so the proof is another one than that of a run between two
ports: what the guest's port gave has been taken from the ring, each packet with a good response;
nobody broke the protocol; the program ended well; and nothing is left behind.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from xennet.errors import LinkError
from xennet.exec.launch import launch, socket_paths, watching_end
from xennet.exec.server import ExecServer
from xennet.host.domains import PluggedVif
from xennet.host.host import DOM0, Host
from xennet.link.inventory import domains
from xennet.link.timeline import Timeline
from xennet.observe import StoreOperation
from xennet.port import Port
from xennet.port.null import NullPort
from xennet.port.program import ProgramEnd, program_of
from xennet.pump import RealClock
from xennet.run.options import RunOptions
from xennet.run.over_vifs import setup_of
from xennet.run.report import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    DirectionReport,
    PortReport,
    RunReport,
    Verdict,
)
from xennet.run.stop import Stop
from xennet.toolstack.toolstack import Outcome
from xennet.wrap.offload_edge import OffloadEdge
from xennet.xenbus.paths import VifPaths

#: Seconds in which a program has to connect, to close, and to end.
_CONNECT, _CLOSE, _END = 60.0, 60.0, 10.0
#: Seconds without a frame after which no more comes back.
_QUIET = 0.5
#: Seconds between two looks at a ring.
_LOOK = 0.1
_GUEST = 1


def require_program(guests: Sequence[Port], hosts: Sequence[Port], options: RunOptions) -> None:
    """Raises LinkError unless a program can be an end of such a run."""
    if options.link != "vif" or options.switch or len(guests) != 1 or len(hosts) != 1:
        raise LinkError("exec: a program is one end of one vif: --link vif, one guest, no switch")
    if program_of(guests) is not None and program_of(hosts) is not None:
        raise LinkError("exec: one end of the vif is xennet's; for two programs see xennet host")


class ProgramRun:
    """One run: ``guest`` and ``host`` are the ports, one of which is a program."""

    def __init__(self, guest: Port, host: Port, options: RunOptions, stop: Stop) -> None:
        self.options, self.stop = options, stop
        self.ports = {"guest": guest, "host": host}
        self.side = "guest" if isinstance(guest, ProgramEnd) else "host"
        found = program_of((guest, host))
        assert found is not None
        self.end, self.domid = found, _GUEST if self.side == "guest" else DOM0
        setup = setup_of(options)
        self._setup = setup
        self.machine = Host(
            setup.capacity,
            backend_evtchn=setup.policy.evtchn,
            quota=setup.quota,
            clock=RealClock(),
            shared=True,
            serve_unknown=False,
        )
        self.paths = VifPaths(_GUEST, 0)
        self.timeline = Timeline(self.paths, self.machine.machine.run_loop)
        self.machine.machine.observers.subscribe(self.timeline.observe, StoreOperation)
        self.bad: list[str] = []
        self.seconds = 0.0
        self.vif: PluggedVif | None = None
        self.program: subprocess.Popen[bytes] | None = None
        self._ended: Callable[[], bool] = lambda: False
        self._connected = False

    @property
    def _other(self) -> Port:
        return self.ports["host" if self.side == "guest" else "guest"]

    # -- carrying ----------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """The whole run; what went wrong is in ``bad``."""
        directory = tempfile.mkdtemp(prefix="xennet-run-")
        host = self.machine
        server = ExecServer(host.machine, host.pump, host.service.server)
        try:
            with self._started(server, directory):
                try:
                    self._connect()
                    self._carry()
                except LinkError as error:
                    self.bad.append(str(error))
                self._close()
        finally:
            server.close()
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def _started(self, server: ExecServer, directory: str) -> Iterator[None]:
        host, setup = self.machine, self._setup
        of_program = self.side == "guest"
        guest = host.add_guest(
            _GUEST,
            kind=setup.kind,
            grant_version=setup.grant_version,
            evtchn_abi=setup.evtchn,
            drivers=None if of_program else "xennet",
        )
        host.dom0.load()
        edge = OffloadEdge(self._other)
        self.vif = host.plug(
            guest,
            0,
            NullPort() if of_program else edge,
            edge if of_program else NullPort(),
            setup.vif_config(_GUEST, 0),
            front=setup.front,
            policy=setup.policy,
            back=setup.back,
            host_served=of_program,
        )
        domain, kernel = (
            (guest.domain, guest.kernel) if of_program else (host.dom0.domain, host.dom0.kernel)
        )
        paths = socket_paths(directory, self.domid)
        self._served = server.serve(domain, kernel.grants, *paths)
        # Standard output is the report's.
        program = launch(self.end.words, *paths, stdin=subprocess.DEVNULL, stdout=2)
        self.program = program
        with ExitStack() as undo:
            undo.callback(self._kill)
            self._ended = undo.enter_context(watching_end(program, host.pump))
            guest.boot()
            yield

    def _kill(self) -> None:
        """Kill the program, if it has not ended."""
        assert self.program is not None
        if self.program.poll() is None:
            self.program.kill()
            self.program.wait()

    def _hold(self, seconds: float | None, until: Callable[[], bool]) -> bool:
        """Keep the machine going until something is so, for ``seconds`` at most."""
        self.machine.pump.hold(seconds, until)
        return until()

    def _connect(self) -> None:
        vif, host = self.vif, self.machine
        assert vif is not None
        most = _CONNECT
        if (seconds := self.options.seconds) is not None:
            self.stop.after(seconds)
            most = min(most, seconds)
        self._hold(most, lambda: vif.connected or self._ended() or self.stop.over)
        self._connected = vif.connected
        if not self._connected and not self.stop.reason:
            raise LinkError(f"{self.end.name} did not connect: {host.states(vif)}")

    def _carry(self) -> None:
        vif, stop = self.vif, self.stop
        assert vif is not None
        began = time.perf_counter()
        vif.kick()

        # What is taken from the guest's port is over when it is answered; what comes from a
        # program has no end but its own.
        def over() -> bool:
            return self._all_taken() or self._ended() or stop.over or bool(vif.errors)

        while not self._hold(_LOOK, over):
            vif.kick()  # a frontend is not told of each response
        self.seconds = time.perf_counter() - began
        came = -1
        while not (self._ended() or stop.reason) and came != (now := self._came()):
            came = now
            self._hold(_QUIET, lambda: self._ended() or bool(stop.reason))
        self._other.finish()
        self.bad += vif.errors

    def _all_taken(self) -> bool:
        front = None if self.vif is None else self.vif.netfront
        if front is None or self.side == "guest" or not self._other.exhausted:
            return False
        tx = front.counters.tx
        return tx.requests == tx.responses and tx.packets >= self._other.counters.frames_in

    def _came(self) -> int:
        """Frames that came out at the port so far."""
        return self._other.counters.frames_out

    def _close(self) -> None:
        host, vif, program = self.machine, self.vif, self.program
        assert vif is not None
        assert program is not None
        asked = not self._connected and not self._ended()
        if asked:  # a vif that it has not connected it would not close either
            self._terminate(program)
        if self._ended() and not vif.connected:
            vif.guest.destroy()  # nobody closes any more
        else:
            operation = host.unplug(vif)
            if not self._hold(_CLOSE, lambda: operation.outcome is not Outcome.PENDING):
                self.bad.append("the vif was not taken away in time")
            elif operation.forced:
                self.bad.append(f"{vif.name} did not close and had to be taken away by force")
        if not asked and not self._hold(_END, self._ended):
            asked = True
            self._terminate(program)
        self._kill()
        code = program.wait()
        if code and not (asked and code in (-signal.SIGTERM, 128 + signal.SIGTERM)):
            what = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.bad.append(f"{self.end.name} ended with {what}")
        self._served.no_bounce()
        self._hold(_END, lambda: not host.leaks())

    def _terminate(self, program: subprocess.Popen[bytes]) -> None:
        program.send_signal(signal.SIGTERM)
        self._hold(_END, self._ended)

    def _taken(self) -> int:
        """Frames of the port that the program has taken from the ring."""
        vif = self.vif
        front, back = (None, None) if vif is None else (vif.netfront, vif.netback)
        ring = front.counters.tx if front is not None else back.counters.rx if back else None
        return 0 if ring is None else ring.packets - ring.errors

    # -- reporting ---------------------------------------------------------------------------------

    def report(self) -> RunReport:
        """The report of the run."""
        interrupted = self.stop.reason or None
        counters = self._other.counters
        given, came = counters.frames_in, counters.frames_out
        leaks = self.machine.leaks()
        bad = [*self.bad, *counters.faults]
        taken = self._taken()
        if taken < given:
            bad.append(f"{given} frames were given, and {taken} have a good response")
        if leaks:
            bad += str(leaks).splitlines()
        if interrupted is not None:
            bad.insert(0, f"interrupted by {interrupted}: this is what was done until then")
        if not (bad or given or came or self.options.allow_empty):
            bad.append("no frame was given or came (--allow-empty takes that for good)")
        name = self.end.name
        good = (
            f"{given} frames were given to {name}, which took them all, and {came} came from it",
            "teardown left no grant, port, mapping or page behind",
        )
        out, back = (GUEST_TO_HOST, HOST_TO_GUEST)
        if self.side == "guest":
            out, back = back, out
        directions = {
            out: DirectionReport(out, given, taken, counters.bytes_in, counters.bytes_in),
            back: DirectionReport(back, came, came, counters.bytes_out, counters.bytes_out),
        }
        return RunReport(
            verdict=Verdict(False, tuple(bad)) if bad else Verdict(True, good),
            interrupted=interrupted,
            options=self.options,
            roots={"frontend": self.paths.frontend, "backend": self.paths.backend},
            timeline=self.timeline.told(),
            directions=(directions[GUEST_TO_HOST], directions[HOST_TO_GUEST]),
            domains=domains(self.machine, [] if self.vif is None else [self.vif]),
            ports=tuple(
                PortReport(side, port.name, port.counters) for side, port in self.ports.items()
            ),
            seconds=self.seconds,
        )


def run_with_program(
    guests: Sequence[Port], hosts: Sequence[Port], options: RunOptions, stop: Stop | None
) -> RunReport:
    """A run in which one of the two ports is a program. Raises LinkError if none can be an end of
    it, ExecError if it cannot be started."""
    require_program(guests, hosts, options)
    run = ProgramRun(guests[0], hosts[0], options, Stop() if stop is None else stop)
    try:
        run.carry_out()
        return run.report()
    finally:
        run.machine.destroy()
