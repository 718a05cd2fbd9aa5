"""The scene of a scenario: a host with one guest and one vif, and the transcript of what
happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from attrs import evolve

from xennet.host.domains import BackendDomain, Guest, PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.remarks import remarks
from xennet.lifecycle.scene_host import SceneHost
from xennet.lifecycle.stack import Stack
from xennet.lifecycle.transcript import Entry, Kind
from xennet.lifecycle.why import why
from xennet.netback.policy import LINUX, BackendPolicy
from xennet.netfront.kinds import LINUX as LINUX_GUEST
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.paths import VifPaths

#: Frames of a trial, in each direction.
TRIAL = 10

#: (what is counted, total) -> a context that gives a function to call with the count so far.
Counting = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def uncounted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A ``Counting`` that shows nothing."""
    yield lambda done: None


class Scene:
    """A host with ``guest``; its ``vif`` exists after :meth:`plug`.

    ``tell(entry)`` is called for each entry of the transcript. ``hosts`` are all hosts, ``host`` is
    the one where the guest runs. ``in_guest`` is the guest's network stack, ``in_host`` the one at
    the host's end of the vif. ``wrong`` lists the expectations that did not hold. ``counting(what,
    total)`` is a context around many rounds; the function that it gives is called with the number
    of rounds done.
    """

    def __init__(
        self,
        tell: Callable[[Entry], None],
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
        self.hosts = [SceneHost(self._tell)]
        self.host: Host = self.hosts[0].host
        self.guest: Guest = self.host.add_guest(name="guest", kind=kind)
        self.in_guest = Stack()
        self.owner: BackendDomain = self.host.dom0
        self.vif: PluggedVif
        self.wrong: list[str] = []

    @property
    def scene_host(self) -> SceneHost:
        """The host where the guest runs."""
        return next(one for one in self.hosts if one.host is self.host)

    @property
    def in_host(self) -> Stack:
        """The network stack of the host where the guest runs."""
        return self.scene_host.network

    # -- telling -----------------------------------------------------------------------------------

    def tell(self, sentence: str) -> None:
        """Tell one sentence."""
        self._tell(Entry("sentence", sentence))

    def expect(self, sentence: str, holds: bool) -> None:
        """Tell ``sentence``; if it does not hold, remember it in ``wrong``."""
        text = sentence if holds else f"It should be so, but is not: {sentence}"
        self._tell(Entry("sentence", text, holds=holds))
        if not holds:
            self.wrong.append(f"not so: {sentence}")

    def tell_why(self) -> list[str]:
        """Tell the why report and the remarks on the vif. Returns the reasons of the report."""
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
        """Tell the state of each end."""
        self._of_vif("states", f"States: {self.host.states(self.vif)}")

    def tell_verdict(self, good: bool, text: str) -> None:
        """Tell how the scenario ended."""
        word = "GOOD" if good else "BAD"
        self._of_vif("verdict", f"{word}: {text}", holds=good)

    def _of_vif(self, kind: Kind, text: str, holds: bool | None = None) -> None:
        self._tell(Entry(kind, text, holds=holds, paths=self.vif.paths))

    def _tell(self, entry: Entry) -> None:
        if entry.path:
            self._steps += 1
            entry = evolve(entry, step=self._steps)
        self._listener(entry)

    def expect_reason(self, what: str) -> None:
        """Tell the why report; ``what`` has to be in one of its reasons."""
        if not any(what in reason for reason in self.tell_why()):
            self.wrong.append(f"no reason named {what} on the way")

    @contextmanager
    def silence(self) -> Iterator[None]:
        """A context in which no host's store is observed."""
        with ExitStack() as hosts:
            for one in self.hosts:
                hosts.enter_context(one.silence())
            yield

    # -- what happens ------------------------------------------------------------------------------

    def add_host(self, this: str, other: str) -> SceneHost:
        """Add a second host. Entries name the hosts from now on: the first is ``this``, the new one
        ``other``."""
        self.scene_host.name = this
        self.hosts.append(SceneHost(self._tell, other))
        return self.hosts[-1]

    def settle(self) -> None:
        """Make all deliveries that are due, on every host."""
        for one in self.hosts:
            one.host.settle()

    def plug(self, options: dict[str, str] | None = None) -> None:
        """Have the toolstack attach the vif; ``options`` are further nodes of the backend."""
        self.tell("The toolstack attaches the vif.")
        self._plug(options)

    def load_backend(self) -> None:
        """Load the backend driver in its domain."""
        self.tell("Domain 0 loads its backend driver.")
        self.owner.load()
        self.settle()

    def load_frontend(self) -> None:
        """Load the frontend driver in the guest."""
        self.tell("The guest loads its frontend driver.")
        self.guest.boot()
        self.settle()

    def connect(self) -> None:
        """Do the usual start, told in one sentence."""
        self.tell("A vif is attached and connects in the usual way.")
        with self.silence():
            self.host.boot()
            self._plug()
        self.host.require_connected(self.vif)

    def host_sends(self, frames: int) -> None:
        """Let the host's network stack send ``frames`` frames to the guest."""
        self.in_host.to_send += frames
        self.vif.kick_host()
        self.settle()

    def both_have_frames(self, frames: int) -> None:
        """Put ``frames`` frames into each network stack without a kick."""
        self.in_host.to_send += frames
        self.in_guest.to_send += frames

    def trial(self) -> bool:
        """Send TRIAL frames in each direction. Returns whether all of them arrived."""
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
        """Let ``seconds`` of virtual time pass, with everything that is due in it."""
        self.host.pump.pass_time(seconds * 1_000_000_000)
        self.settle()

    def settle_with_timers(self) -> None:
        """Let time pass until no timer is left."""
        for one in self.hosts:
            one.host.pump.run_out()

    # -- the end -----------------------------------------------------------------------------------

    def tear_down(self) -> list[str]:
        """Remove the vif, whatever state it is in, and tell what is left.

        Held runs of the script begin, then the toolstack removes everything. Returns what is wrong.
        """
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
                self._tell(Entry("left", line, host=one.name))
            if leaks:
                wrong.append("teardown left something behind")
        for path in (paths.frontend, paths.backend, paths.libxl):
            if self.host.store.exists(path):
                wrong.append(f"{path} is left")
        return wrong

    def destroy(self) -> None:
        """Destroy all machines."""
        for one in self.hosts:
            one.host.destroy()

    def _plug(self, options: dict[str, str] | None = None) -> None:
        config = VifConfig(guest_mac(self.guest.domid), options=options or {})
        self.scene_host.tell_of(VifPaths(self.guest.domid, 0, self.owner.domid))
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
