"""What a scenario plays on: a house with one guest and one vif, and somebody who tells of it."""

from __future__ import annotations

from collections.abc import Callable

from xennet.lifecycle.narrator import Narrator
from xennet.lifecycle.traffic import Station
from xennet.link.capacity import ONE_VIF
from xennet.link.house import House, guest_mac
from xennet.link.residents import Guest, PluggedVif
from xennet.netback.policy import LINUX, BackendPolicy
from xennet.netfront.kinds import LINUX as LINUX_GUEST
from xennet.netfront.kinds import FrontendKind
from xennet.observe import StoreOperation
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.vif_nodes import VifConfig

#: Frames of a trial, in each direction.
TRIAL = 10


class Stage:
    """``house`` with ``guest`` in it; its ``vif`` is there after :meth:`plug`.

    ``say`` gets every line. ``narrator`` tells what happens in the store.
    ``grown`` is for what became more than it should.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        kind: FrontendKind = LINUX_GUEST,
        policy: BackendPolicy = LINUX,
    ) -> None:
        self._say = say
        self._policy = policy
        self.house = House(ONE_VIF)
        self.guest: Guest = self.house.add_guest(kind=kind)
        self.in_guest, self.in_host = Station(), Station()
        self.narrator = Narrator(VifPaths(self.guest.domid, 0), lambda line: say(f"  {line}"))
        self.house.machine.observers.subscribe(self.narrator.observe, StoreOperation)
        self.vif: PluggedVif
        self.grown: list[str] = []

    def tell(self, sentence: str) -> None:
        """One sentence of the scenario's own."""
        self._say(sentence)

    def plug(self, options: dict[str, str] | None = None) -> None:
        """The toolstack attaches the vif; ``options`` are further nodes of the backend."""
        self.tell("The toolstack attaches the vif.")
        config = VifConfig(guest_mac(self.guest.domid), options=options or {})
        self.vif = self.house.plug(
            self.guest, 0, self.in_guest, self.in_host, config, policy=self._policy
        )
        self.house.settle()

    def load_backend(self) -> None:
        """Domain 0 loads its driver."""
        self.tell("Domain 0 loads its backend driver.")
        self.house.dom0.load()
        self.house.settle()

    def load_frontend(self) -> None:
        """The guest loads its driver."""
        self.tell("The guest loads its frontend driver.")
        self.guest.boot()
        self.house.settle()

    def connect(self) -> None:
        """The usual start, told in one sentence."""
        self.tell("A vif is attached and connects in the usual way.")
        self.narrator.muted = True
        self.house.boot()
        self.vif = self.house.plug(self.guest, 0, self.in_guest, self.in_host, policy=self._policy)
        self.house.settle()
        self.narrator.muted = False
        self.house.require_connected(self.vif)

    def host_sends(self, frames: int) -> None:
        """The host's network stack has ``frames`` frames for the guest."""
        self.in_host.to_send += frames
        self.vif.kick()
        self.house.settle()

    def trial(self) -> bool:
        """Send TRIAL frames in each direction; whether all of them arrived."""
        before = self.in_guest.received, self.in_host.received
        self.in_guest.to_send += TRIAL
        self.in_host.to_send += TRIAL
        self.vif.kick()
        self.house.settle()
        up, down = self.in_host.received - before[1], self.in_guest.received - before[0]
        self.tell(
            f"Trial: {up} of {TRIAL} frames arrived from guest to host, "
            f"{down} of {TRIAL} from host to guest."
        )
        return (up, down) == (TRIAL, TRIAL)

    def tear_down(self) -> None:
        """Whatever state the vif is in: the script answers, the toolstack takes all away."""
        self.narrator.muted = True
        house = self.house
        house.script.release()
        self.settle_with_timers()
        if self.guest.domain.running:
            house.unplug(self.vif)
        else:
            self.guest.destroy()
        self.settle_with_timers()

    def settle_with_timers(self) -> None:
        """Let time go on until no timer is left."""
        self.house.machine.run_loop.run_until_idle(advance_timers=True)
