"""What a scenario plays on: a host with one guest and one vif, and somebody who tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from attrs import evolve

from xennet.host.domains import BackendDomain, Guest, PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.remarks import remarks
from xennet.lifecycle.stack import Stack
from xennet.lifecycle.told import Kind, Told
from xennet.lifecycle.told_host import ToldHost
from xennet.lifecycle.why import why
from xennet.netback.policy import LINUX, BackendPolicy
from xennet.netfront.kinds import LINUX as LINUX_GUEST
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.paths import VifPaths

#: Frames of a trial, in each direction.
TRIAL = 10

#: Told what is counted and up to what; in the context that comes of it, how far it is.
Counting = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def uncounted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Nobody wants to know."""
    yield lambda done: None


class Scene:
    """``host`` with ``guest`` in it; its ``vif`` is there after :meth:`plug`.

    ``tell`` gets everything that is told. ``hosts`` are all hosts, ``host`` is the one where the
    guest lives. ``in_guest`` is the guest's network stack, ``in_host`` what the vif leads to on its
    host. ``wrong`` is for what was not as it should be on the way. ``counting`` makes a context in
    which a long piece of work, of so many rounds, says how many of them are done.
    """

    def __init__(
        self,
        tell: Callable[[Told], None],
        kind: FrontendKind = LINUX_GUEST,
        policy: BackendPolicy = LINUX,
        front: NetfrontOptions = DEFAULTS,
        counting: Counting = uncounted,
    ) -> None:
        self._listener = tell
        self._steps = 0
        self.counting = counting
        self._policy = policy
        self._front = front
        self.hosts = [ToldHost(self._tell)]
        self.host: Host = self.hosts[0].host
        self.guest: Guest = self.host.add_guest(name="guest", kind=kind)
        self.in_guest = Stack()
        self.owner: BackendDomain = self.host.dom0
        self.vif: PluggedVif
        self.wrong: list[str] = []

    @property
    def told_host(self) -> ToldHost:
        """Where the guest lives."""
        return next(one for one in self.hosts if one.host is self.host)

    @property
    def in_host(self) -> Stack:
        """The host's network, where the guest lives."""
        return self.told_host.network

    # -- telling -----------------------------------------------------------------------------------

    def tell(self, sentence: str) -> None:
        """One sentence of the scenario's own."""
        self._tell(Told("sentence", sentence))

    def expect(self, sentence: str, holds: bool) -> None:
        """Tell ``sentence``; if it does not hold, that is what went wrong."""
        text = sentence if holds else f"It should be so, but is not: {sentence}"
        self._tell(Told("sentence", text, holds=holds))
        if not holds:
            self.wrong.append(f"not so: {sentence}")

    def tell_why(self) -> list[str]:
        """The why report, told, with what else there is to say of the vif; the reasons."""
        reasons = why(self.vif)
        said = remarks(self.vif)
        blocked = f"Why {self.vif.name} passes no traffic:"
        self.tell(blocked if reasons else "Traffic can pass, but:" if said else "Traffic can pass.")
        for reason in reasons:
            self._of_vif("reason", reason)
        for remark in said:
            self._of_vif("note", remark)
        return reasons

    def tell_states(self) -> None:
        """Which state each end is in."""
        self._of_vif("states", f"States: {self.host.states(self.vif)}")

    def tell_verdict(self, good: bool, text: str) -> None:
        """How it ended."""
        word = "GOOD" if good else "BAD"
        self._of_vif("verdict", f"{word}: {text}", holds=good)

    def _of_vif(self, kind: Kind, text: str, holds: bool | None = None) -> None:
        self._tell(Told(kind, text, holds=holds, paths=self.vif.paths))

    def _tell(self, told: Told) -> None:
        if told.path:
            self._steps += 1
            told = evolve(told, step=self._steps)
        self._listener(told)

    def expect_reason(self, what: str) -> None:
        """The why report, told; ``what`` has to be in one of the reasons."""
        if not any(what in reason for reason in self.tell_why()):
            self.wrong.append(f"no reason named {what} on the way")

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing is told of any store meanwhile."""
        with ExitStack() as hosts:
            for one in self.hosts:
                hosts.enter_context(one.silence())
            yield

    # -- what happens ------------------------------------------------------------------------------

    def add_host(self, this: str, other: str) -> ToldHost:
        """Another machine: from now on hosts are told apart, as ``this`` and ``other``."""
        self.told_host.name = this
        self.hosts.append(ToldHost(self._tell, other))
        return self.hosts[-1]

    def settle(self) -> None:
        """Everything that is due happens, on every host."""
        for one in self.hosts:
            one.host.settle()

    def plug(self, options: dict[str, str] | None = None) -> None:
        """The toolstack attaches the vif; ``options`` are further nodes of the backend."""
        self.tell("The toolstack attaches the vif.")
        self._plug(options)

    def load_backend(self) -> None:
        """The backend's domain loads its driver."""
        self.tell("Domain 0 loads its backend driver.")
        self.owner.load()
        self.settle()

    def load_frontend(self) -> None:
        """The guest loads its driver."""
        self.tell("The guest loads its frontend driver.")
        self.guest.boot()
        self.settle()

    def connect(self) -> None:
        """The usual start, told in one sentence."""
        self.tell("A vif is attached and connects in the usual way.")
        with self.silence():
            self.host.boot()
            self._plug()
        self.host.require_connected(self.vif)

    def host_sends(self, frames: int) -> None:
        """The host's network stack has ``frames`` frames for the guest."""
        self.in_host.to_send += frames
        self.vif.kick_host()
        self.settle()

    def both_have_frames(self, frames: int) -> None:
        """``frames`` frames wait at each end; nobody is told."""
        self.in_host.to_send += frames
        self.in_guest.to_send += frames

    def trial(self) -> bool:
        """Send TRIAL frames in each direction; whether all of them arrived."""
        before = self.in_guest.received, self.in_host.received
        self.both_have_frames(TRIAL)
        self.vif.kick()
        self.settle()
        up, down = self.in_host.received - before[1], self.in_guest.received - before[0]
        self.tell(
            f"Trial: {up} of {TRIAL} frames arrived from guest to host, "
            f"{down} of {TRIAL} from host to guest."
        )
        return (up, down) == (TRIAL, TRIAL)

    def pass_time(self, seconds: int) -> None:
        """So much virtual time passes, with all that is due in it."""
        self.host.pump.pass_time(seconds * 1_000_000_000)
        self.settle()

    def settle_with_timers(self) -> None:
        """Let time go on until no timer is left."""
        for one in self.hosts:
            one.host.pump.run_out()

    # -- the end -----------------------------------------------------------------------------------

    def tear_down(self) -> list[str]:
        """Whatever state the vif is in: the script answers, the toolstack takes all away. What is
        left behind, told."""
        self.tell("Then the toolstack takes everything away.")
        paths = self.vif.paths
        with self.silence():
            for one in self.hosts:
                one.host.script.release()
            self.settle_with_timers()
            for owner in list(self.host.backend_domains.values()):
                if not owner.domain.running:
                    owner.destroy()
            if self.guest.domain.running:
                self.host.unplug(self.vif)
            else:
                self.guest.destroy()
            self.settle_with_timers()
        wrong = []
        for one in self.hosts:
            leaks = one.host.leaks()
            for line in str(leaks).splitlines():
                self._tell(Told("left", line, host=one.name))
            if leaks:
                wrong.append("teardown left something behind")
        for path in (paths.frontend, paths.backend, paths.libxl):
            if self.host.store.exists(path):
                wrong.append(f"{path} is left")
        return wrong

    def destroy(self) -> None:
        """Switch all machines off."""
        for one in self.hosts:
            one.host.destroy()

    def _plug(self, options: dict[str, str] | None = None) -> None:
        config = VifConfig(guest_mac(self.guest.domid), options=options or {})
        self.told_host.tell_of(VifPaths(self.guest.domid, 0, self.owner.domid))
        self.vif = self.host.plug(
            self.guest,
            handle=0,
            guest_end=self.in_guest,
            host_end=self.in_host,
            config=config,
            backend_domid=self.owner.domid,
            front=self._front,
            policy=self._policy,
        )
        self.settle()
