"""A life of a driver that runs in this process, on a host in virtual time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout, suppress
from functools import partial

from xennet.check.check import Side, Violation
from xennet.check.cpu_bound import REAL_SECONDS, TimeOverError, cpu_bound
from xennet.check.node_log import NodeLog
from xennet.check.target import Liveness
from xennet.choices import OLDEST, Choices, ChosenOrder, NoSuchChoiceError, Player
from xennet.host import Host
from xennet.host.domains import PluggedVif
from xennet.host.own_code import error_and_place
from xennet.interface import Hypervisor

#: Most deliveries in which a driver has to come to rest. A ring full of packets takes hundreds.
DELIVERIES = 20_000
#: Most seconds of CPU time for that.
CPU_SECONDS = 2.0
#: Nanoseconds of virtual time for which an answer is waited.
PATIENCE = 3_000_000_000
#: Deliveries between two looks at their number.
_COUNT = 1000
#: What a driver may use more of in a second that passes: it may poll, every millisecond.
_DELIVERIES_A_SECOND, _CPU_A_SECOND = 10_000, 0.2
#: Seconds of real time in which a busy machine has spent one of CPU time.
_REAL_OF_CPU = 30
_NS = 1_000_000_000


class _DeliveriesError(Exception):
    """The driver has had its deliveries."""


class HostSession:
    """A life (xennet.check.target.Session) on ``host``, whose ``vif`` is plugged in already.

    ``side`` is that of the driver under test. It may make ``deliveries`` and use ``cpu`` seconds
    of CPU time until it rests, and more of both where time passes; ``real``, or many times ``cpu``,
    are the seconds after which it is taken to block. ``choices`` decide which delivery is next,
    from the first of the machine on; a ready delivery that they want and that is not there is an
    error of the caller's (NoSuchChoiceError).
    """

    def __init__(
        self,
        side: Side,
        host: Host,
        vif: PluggedVif,
        *,
        deliveries: int = DELIVERIES,
        cpu: float = CPU_SECONDS,
        real: float | None = None,
        choices: Choices = OLDEST,
    ) -> None:
        self.side, self.host, self.vif = side, host, vif
        self.liveness, self.reason, self.output = Liveness.RESTS, "", ""
        self._most, self._cpu = deliveries, cpu
        self._real = max(REAL_SECONDS, _REAL_OF_CPU * cpu) if real is None else real
        self._closed = False
        self._loop = host.machine.run_loop
        self._player = Player(choices)
        self._loop.take_turns(ChosenOrder(self._player))
        self._begin = 0, 0
        host.pump.attend(self._count, every=_COUNT)
        if side is Side.NETBACK:
            self.kernel: Hypervisor = vif.guest.kernel
            self.node, self._domid = vif.paths.frontend_node, vif.owner.domid
            self.log = NodeLog(host.machine, vif.paths.backend)
        else:
            self.kernel = vif.owner.kernel
            self.node, self._domid = vif.paths.backend_node, vif.guest.domid
            self.log = NodeLog(host.machine, vif.paths.frontend)

    @property
    def choices(self) -> str:
        """What was chosen so far."""
        return str(self._player.noted.choices)

    def settle(self, until: Callable[[], bool] | None = None) -> Liveness:
        """As Session.settle says; a driver that is busy or dead is left alone from then on."""
        if until is None:
            return self._bounded(self.host.pump.run)
        return self._wait(until, PATIENCE)

    def pass_time(self, ns: int) -> Liveness:
        """As Session.pass_time says."""
        end = self._loop.now + ns
        self._wait(lambda: False, ns)
        rest = max(0, end - self._loop.now)
        return self._bounded(partial(self.host.pump.pass_time, rest), ns)

    def _wait(self, until: Callable[[], bool], ns: int) -> Liveness:
        def waiting() -> int | None:
            self._count()
            return None if until() else 0

        return self._bounded(partial(self.host.pump.run, waiting, patience=ns), ns)

    def close(self) -> tuple[str, ...]:
        """As Session.close says. Raises NoSuchChoiceError if choices were left."""
        if self._closed:
            return ()
        self._closed = True
        held: tuple[str, ...] = ()
        try:
            if self.liveness is Liveness.RESTS:
                self.host.unplug(self.vif)
                self.pass_time(PATIENCE)
            if self.liveness is Liveness.RESTS:
                domains = self.host.leaks().domains
                held = tuple(
                    line for one in domains if one.domid == self._domid for line in one.lines()
                )
        finally:
            # A driver may have been interrupted in the middle of a hypercall.
            with nullcontext() if self.liveness is Liveness.RESTS else suppress(Exception):
                self.host.destroy()
        self._player.require_all_played()
        return held

    def _bounded(self, run: Callable[[], None], ns: int = 0) -> Liveness:
        """Have the pump ``run``, within the bounds; up to ``ns`` of time pass in it."""
        if self.liveness is not Liveness.RESTS:
            return self.liveness
        self._begin = self._loop.steps, self._loop.now
        more = ns / _NS * _CPU_A_SECOND
        bound = cpu_bound(self._cpu + more, self._real + _REAL_OF_CPU * more)
        try:
            # What a driver prints must not get into what the suite prints.
            with redirect_stdout(sys.stderr), bound:
                run()
        except (_DeliveriesError, TimeOverError) as over:
            return self._over(Liveness.BUSY, str(over))
        except (KeyboardInterrupt, Violation, NoSuchChoiceError):
            raise  # a peer may look at what a driver does, in the middle of it
        except BaseException as error:  # SystemExit too
            if self._loop.last is None or self._loop.last.domid != self._domid:
                raise  # of the peer or the toolstack: the suite is broken, not the driver
            return self._over(Liveness.DEAD, error_and_place(error))
        return self.liveness

    def _count(self) -> None:
        steps, begin = self._begin
        most = self._most + (self._loop.now - begin) * _DELIVERIES_A_SECOND // _NS
        if self._loop.steps - steps > most:
            raise _DeliveriesError(f"it does not come to rest within {most} deliveries")

    def _over(self, liveness: Liveness, reason: str) -> Liveness:
        self.liveness, self.reason = liveness, reason
        return liveness
