"""A life of a driver that is a program of another process, in a domain of a machine of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from attrs import evolve

from xennet.check.check import Side
from xennet.check.node_log import NodeLog
from xennet.check.target import Liveness
from xennet.exec.launch import TIED, launch, socket_paths
from xennet.exec.process_watch import Look, ProcessWatch, at_rest, sleeps
from xennet.exec.server import ExecServer
from xennet.host import Host
from xennet.host.domains import BackendDomain, Guest, PluggedVif
from xennet.interface import Hypervisor
from xennet.observe import StoreOperation
from xennet.pump import Pump
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.nodes import NodeDirectory

#: Seconds of its own CPU time in which a program has to come to rest.
CPU_SECONDS = 2.0
#: Deliveries of the machine and requests to the store in which it has to, and bytes of output.
_MOST_DONE = 20_000
_MOST_OUTPUT = 16 << 20
#: Times that a thread with a timeout has to wake up, and nothing comes of it, until it counts as
#: resting; and seconds that it has to sleep on otherwise.
_WAKES, _SLEEPS = 2, 0.3
#: Nanoseconds of the machine's virtual time, and seconds of sleep of a thread with a timeout, for
#: which an answer is waited.
_PATIENCE, _LONG_SLEEP = 3_000_000_000, 1.0
#: States of threads that do not come to rest -> seconds for which they may be in them.
_WAITS = {
    "T": (2.0, "it is stopped (SIGSTOP)"),
    "t": (2.0, "it is stopped by a debugger"),
    "D": (60.0, "it waits for a disk"),
}
#: ns of the machine's time in which the toolstack takes the vif away, by force in the end.
_UNPLUG = 60_000_000_000
#: Turns of descriptors in one go, while a program makes calls without end.
_CALLS = 256
#: Seconds between two looks at a program: at first, and at most; looks between two at its CPU time.
_LOOK, _LONGEST_LOOK, _LOOKS = 0.0001, 0.005, 8
#: Bytes of output that are kept, of its beginning and of its end.
_KEPT = 4096
_PAGE = 4096
#: Connections to the store that are the host's own (xennet.host.Host).
_NOT_PROGRAMS = ("toolstack", "hotplug", "dom0")


class ProgramSession:
    """A life (xennet.check.target.Session) of the program ``argv`` on ``side``, in its domain of
    ``host``, whose ``vif`` is plugged in already; the host's memory has to be shared.

    Time is virtual for the machine, so nothing that the toolstack or the store do depends on how
    busy the system is. For the program it is real; it counts as resting when all its threads sleep
    until something comes from the machine and nothing is on its way, and has to within ``cpu``
    seconds of its own CPU time. ``output`` is what it has written to its standard output and error.
    """

    choices: None = None

    def __init__(
        self,
        side: Side,
        host: Host,
        vif: PluggedVif,
        argv: Sequence[str],
        *,
        cpu: float = CPU_SECONDS,
    ) -> None:
        self.side, self.host, self.vif = side, host, vif
        self.liveness, self.reason = Liveness.RESTS, ""
        self._closed, self._cpu = False, cpu
        self.kernel: Hypervisor
        own: BackendDomain | Guest
        if side is Side.NETBACK:
            own, self._own = vif.owner, vif.paths.backend
            self.kernel, self.node = vif.guest.kernel, vif.paths.frontend_node
        else:
            own, self._own = vif.guest, vif.paths.frontend
            self.kernel, self.node = vif.owner.kernel, vif.paths.backend_node
        self._domid = own.domid
        self.log = NodeLog(host.machine, self._own)
        self._requests = 0
        host.machine.observers.subscribe(self._count_request, StoreOperation)
        self._pump, self._loop = host.pump, host.machine.run_loop
        self._output = _Output()
        self._directory = tempfile.mkdtemp(prefix="xennet-check-")
        self._server = ExecServer(host.machine, host.pump, host.service.server)
        self._program: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._ended = False
        self._found: tuple[object, ...] = ()
        self._naps = _Naps()
        try:
            paths = socket_paths(self._directory, own.domid)
            self._served = self._server.serve(own.domain, own.kernel.grants, *paths)
            self._program = self._start(argv, paths)
            self._watch = ProcessWatch(self._program.pid)
            self._pidfd = os.pidfd_open(self._program.pid)
            self._pump.watch(self._pidfd, self._has_ended)
        except BaseException:
            self._switch_off()
            raise

    def _start(self, argv: Sequence[str], paths: tuple[str, str]) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        self._output.follow(reading, self._pump)
        try:
            return launch(
                argv,
                *paths,
                env={**os.environ, TIED: "1"},
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)

    @property
    def process(self) -> int:
        """The id of the program's process, which leads a session."""
        assert self._program is not None
        return self._program.pid

    @property
    def output(self) -> str:
        """What the program has written so far, without the middle if that is long."""
        return self._output.text

    # -- what the program does ---------------------------------------------------------------------

    def settle(self, until: Callable[[], bool] | None = None) -> Liveness:
        """As Session.settle says; a program that is busy or dead is left alone from then on."""
        self._rest(_SLEEPS if until is None else _LONG_SLEEP)
        if until is not None:
            self._rest_until(until, _PATIENCE)
        return self.liveness

    def pass_time(self, ns: int) -> Liveness:
        """Raises RuntimeError: a program's time cannot be moved."""
        raise RuntimeError("the time of a program is the system's")

    def _rest_until(self, until: Callable[[], bool], patience: int) -> None:
        """Let the program rest, and the machine's time go on for ``patience`` ns, until
        ``until()``."""
        pump, end = self._pump, self._loop.now + patience
        while self.liveness is Liveness.RESTS and not until():
            if not self._rest(_LONG_SLEEP) and not pump.clock.idle(pump, end):
                return

    def _rest(self, nap: float) -> bool:
        """Wait until the program rests, or its end. Returns whether it or the machine has done
        anything since it rested last. ``nap``: seconds for which a thread with a timeout has to
        sleep on."""
        bound = _Bound(
            self._watch,
            self._cpu,
            lambda: self._loop.steps + self._requests,
            lambda: self._output.size,
        )
        self._naps.begin()
        wait, looks = _LOOK, 0
        while self.liveness is Liveness.RESTS:
            quiet = self._deliver()
            first, steps = self._watch.look(), self._loop.steps
            if self._ended and self._program_ended():
                return self._is_new((self._loop.steps,))
            if quiet and sleeps(first) and self._deliver() and steps == self._loop.steps:
                second = self._watch.look()
                rests = not self._ended and at_rest(first, second)
                if rests and self._naps.over(second, self._progress, nap):
                    return self._is_new(self._seen(second))
            looks += 1
            if looks % _LOOKS == 0 and (reason := bound.exceeded(first)):
                self._over(Liveness.BUSY, reason)
            self._pump.sleep(wait)
            wait = min(2 * wait, _LONGEST_LOOK)
        return True

    def _is_new(self, seen: tuple[object, ...]) -> bool:
        """Whether ``seen`` differs from what was seen when the program rested last."""
        before, self._found = self._found, seen
        return before != seen

    def _seen(self, look: Look) -> tuple[object, ...]:
        """What differs if the program or the machine has done anything."""
        awake = {thread: one for thread, one in look.items() if one.sleeps is None}
        return self._loop.steps, awake, None if len(awake) == len(look) else self._progress()

    def _deliver(self) -> bool:
        """Take what the program has sent and do all that comes of it. Returns whether it has sent
        nothing more."""
        for _ in range(_CALLS):
            if not self._pump.ready:
                self._pump.run(undisturbed=True)
                return not self._pump.ready
            self._pump.turn()
            self._pump.run(undisturbed=True)
        return False

    def _count_request(self, event: StoreOperation) -> None:
        if event.domid == self._domid and event.who not in _NOT_PROGRAMS:
            self._requests += 1

    def _progress(self) -> tuple[int, int, int]:
        """What differs as soon as the program has done something that can be seen: the deliveries
        of the machine, its requests to the store, the bytes of all pages that it has mapped."""
        frames = {
            frame
            for program in self._server.programs.values()
            for view in program.views
            for frame in view.mapping.frames or ()
            if frame >= 0
        }
        memory, check = self.host.machine.memory.u8, 0
        for frame in sorted(frames):
            check = zlib.crc32(memory[frame * _PAGE : (frame + 1) * _PAGE], check)
        return self._loop.steps, self._requests, check

    def _has_ended(self) -> None:
        self._ended = True
        self._pump.unwatch(self._pidfd)

    def _program_ended(self) -> bool:
        """Note how the program has ended. Returns whether that is in order: it may end when its vif
        or its directory is taken away."""
        assert self._program is not None
        code = self._program.wait()
        if not code and (self._closed or not NodeDirectory(self.host.store, self._own).exists()):
            return True
        if code >= 0:
            how = f"the program ended with exit code {code}"
        else:
            names = {int(one): one.name for one in signal.Signals}
            how = f"the program was ended by {names.get(-code, f'signal {-code}')}"
        self._over(Liveness.DEAD, how)
        return False

    def _over(self, liveness: Liveness, reason: str) -> None:
        self.liveness, self.reason = liveness, reason

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> tuple[str, ...]:
        """As Session.close says. Memory of a program that is its domain's kernel is its own; the
        program may end when its vif is gone."""
        if self._closed:
            return ()
        self._closed = True
        held: tuple[str, ...] = ()
        try:
            if self.liveness is Liveness.RESTS:
                operation = self.host.unplug(self.vif)
                self._rest_until(lambda: operation.outcome is not Outcome.PENDING, _UNPLUG)
                self._rest(_SLEEPS)
            if self.liveness is Liveness.RESTS:
                held = self._held()
        finally:
            self._switch_off()
        return held

    def _held(self) -> tuple[str, ...]:
        self._served.no_bounce()
        own = [one for one in self.host.leaks().domains if one.domid == self._domid]
        if self.side is Side.NETFRONT:
            own = [evolve(one, pages=0) for one in own]
        return tuple(line for one in own for line in one.lines())

    def _switch_off(self) -> None:
        if self._program is not None:
            for pid in {self._program.pid, *self._watch.processes()}:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._program.wait()
            self._watch.close()
        self._output.close(self._pump)
        self._server.close()
        if self._pidfd >= 0:
            self._pump.unwatch(self._pidfd)
            os.close(self._pidfd)
        self.host.destroy()
        shutil.rmtree(self._directory, ignore_errors=True)


class _Naps:
    """Tells threads that sleep with a timeout, and nothing ever comes of it, from those that look
    at a ring now and then and have not come to it yet."""

    def __init__(self) -> None:
        self._progress: object = None
        self._first: dict[tuple[int, int], int] = {}
        self._asleep: dict[tuple[int, int], tuple[int, float]] = {}

    def begin(self) -> None:
        """Something may have come: what was slept before does not count."""
        self._progress = None

    def over(self, look: Look, progress: Callable[[], object], nap: float) -> bool:
        """Whether all threads of ``look``, which sleep, have nothing to do: without a timeout at
        once; otherwise after a whole sleep, and what they do then, without any ``progress()``, or
        when they have slept on for ``nap`` seconds."""
        napping = {thread: one for thread, one in look.items() if one.sleeps is not None}
        if not napping:
            return True
        found, now = progress(), time.monotonic()
        if found != self._progress:
            self._progress, self._first = found, {}
        over = True
        for thread, one in napping.items():
            slept = one.sleeps or 0
            if self._asleep.get(thread, (None, now))[0] != one.runs:
                self._asleep[thread] = one.runs, now
            often = slept - self._first.setdefault(thread, slept) >= _WAKES
            long = now - self._asleep[thread][1] >= nap
            over = over and (often or long)
        return over


class _Bound:
    """The bound within which a program has to come to rest."""

    def __init__(
        self,
        watch: ProcessWatch,
        cpu: float,
        done: Callable[[], int],
        written: Callable[[], int],
    ) -> None:
        self._watch, self._cpu = watch, cpu
        self._begin = watch.cpu_time()
        self._since: dict[str, float] = {}
        self._done, self._most = done, done() + _MOST_DONE
        self._written, self._most_written = written, written() + _MOST_OUTPUT

    def exceeded(self, look: Look) -> str:
        """Why it is over, "" while it is not; ``look``: what its threads do now."""
        if self._watch.cpu_time() - self._begin > self._cpu:
            return f"it does not come to rest within {self._cpu:g} s of its own CPU time"
        if self._done() > self._most:
            return f"it does not come to rest within {_MOST_DONE} calls"
        if self._written() > self._most_written:
            return f"it does not come to rest within {_MOST_OUTPUT >> 20} MiB of output"
        states, now = {thread.state for thread in look.values()}, time.monotonic()
        for state, (seconds, what) in _WAITS.items():
            if state not in states:
                self._since.pop(state, None)
            elif now - self._since.setdefault(state, now) > seconds:
                return what
        return ""


class _Output:
    """What a program writes: its beginning and its end."""

    def __init__(self) -> None:
        self._fd = -1
        self._first = self._last = b""
        self._left_out = 0
        #: Bytes that have come.
        self.size = 0

    def follow(self, fd: int, pump: Pump) -> None:
        """Read from ``fd`` whenever ``pump`` sees that there is something."""
        os.set_blocking(fd, False)
        self._fd = fd
        pump.watch(fd, partial(self._readable, pump))

    def _readable(self, pump: Pump) -> None:
        if not self._read():
            pump.unwatch(self._fd)

    def _read(self) -> bool:
        """Read what is there. Returns whether there was anything."""
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self._fd, 1 << 16)
        if not data:
            return False
        self.size += len(data)
        room = _KEPT - len(self._first)
        self._first += data[:room]
        self._last += data[room:]
        self._left_out += max(0, len(self._last) - _KEPT)
        self._last = self._last[-_KEPT:]
        return True

    @property
    def text(self) -> str:
        """What has come."""
        middle = f"[... {self._left_out} bytes ...]".encode() if self._left_out else b""
        return (self._first + middle + self._last).decode(errors="backslashreplace")

    def close(self, pump: Pump) -> None:
        """Read the rest and let go."""
        if self._fd >= 0:
            for _ in range(64):  # a process that has escaped may write on
                if not self._read():
                    break
            pump.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
