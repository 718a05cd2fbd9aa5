"""Vifs that are opened, used and closed together: a house full of lines.

A line is one vif with a frame endpoint at either end. Lines of equal guests are what ``xennet run``
carries frames through, the benchmarks too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from attrs import define

from xennet.frames import FrameEndpoint
from xennet.hypervisor import LeakReport
from xennet.link.base import LinkError, require_endpoint
from xennet.link.gate import Gate
from xennet.link.house import INTERLUDE_STEPS, House
from xennet.link.limits import require_room
from xennet.link.residents import PluggedVif
from xennet.link.setup import Setup
from xennet.observe import StoreOperation
from xennet.timeslices import TimeSlices
from xennet.xenbus.toolstack import Outcome

if TYPE_CHECKING:
    from xennet.storesocket import StoreSocket

#: Seconds of one look at the clients of a store socket while nothing else is to be done.
_POLL_SECONDS = 0.01


class Stage(Enum):
    """How far the life of a link has got; the value is what people are told."""

    NEW = "not open yet"
    OPEN = "open"
    CLOSED = "closed"


#: The calls of a link, in order.
_ORDER = "first open(), once, then carry() as often as you like, then close()"


@define(eq=False, repr=False)
class Line:
    """Both ends of a vif behind their gates; ``vif`` is None until the house is opened."""

    guest: Gate
    host: Gate
    vif: PluggedVif | None = None

    @property
    def plugged(self) -> PluggedVif:
        """The vif; LinkError before there is one."""
        if self.vif is None:
            raise LinkError("the vif has not been plugged in yet")
        return self.vif


class Lines:
    """As many lines as ``setup`` has vifs, guest by guest, in the order in which they are added.

    Several guests take turns as on a host (xennet.timeslices); with one, the oldest is next.
    LimitError for a setup that does not fit the store's quotas or the host's memory.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        require_room(setup)
        self.house = House(setup.capacity, backend_evtchn=setup.policy.evtchn, quota=setup.quota)
        if setup.guests > 1:
            self.house.machine.run_loop.take_turns(TimeSlices())
        self.all: list[Line] = []
        self._stage = Stage.NEW
        self._socket: StoreSocket | None = None
        self._news = False  # the store has changed since its clients had their turn
        self._looks = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.all)} vifs, {self._stage.value}>"

    def __iter__(self) -> Iterator[Line]:
        return iter(self.all)

    def add(self, guest: FrameEndpoint, host: FrameEndpoint) -> Line:
        """The next line: ``guest`` is the network stack's side of netfront, ``host`` netback's.

        TypeError for what is no frame endpoint; LinkError after :meth:`open`.
        """
        self._require("add()", Stage.NEW)
        require_endpoint("guest", guest)
        require_endpoint("host", host)
        line = Line(Gate(guest), Gate(host))
        self.all.append(line)
        return line

    def open(self) -> None:
        """Boot the guests, plug the vifs in, and connect. Once.

        LinkError if an end gets stuck, or if there are not as many lines as the setup has vifs.
        """
        self._require("open()", Stage.NEW)
        house, setup = self.house, self.setup
        if len(self.all) != setup.guests * setup.vifs:
            raise LinkError(
                f"{setup.guests} guests with {setup.vifs} vifs each are set up, but "
                f"{len(self.all)} lines were added"
            )
        self._stage = Stage.OPEN
        house.dom0.load()
        left = iter(self.all)
        for _ in range(setup.guests):
            guest = house.add_guest(
                kind=setup.kind, grant_version=setup.grant_version, evtchn_abi=setup.evtchn
            )
            for handle in range(setup.vifs):
                line = next(left)
                line.vif = house.plug(
                    guest,
                    handle,
                    line.guest,
                    line.host,
                    setup.vif_config(guest.domid, handle),
                    front=setup.front,
                    policy=setup.policy,
                    back=setup.back,
                )
        self._pause()
        house.settle()
        house.boot()
        house.settle()
        self._pause()
        for line in self.all:
            house.require_connected(line.plugged)

    def settle(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Deliver everything there is to deliver (House.settle)."""
        self.house.settle(waiting)

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        """Let other programs use the store over the unix socket ``path``, until :meth:`destroy`.

        While there are any, they have ``pace`` seconds to look at each change before the next
        happens. xennet.xenstore.daemon.SocketError if that cannot be.
        """
        from xennet.storesocket import StoreSocket

        self._socket = StoreSocket(self.house.service.server, path)
        self.house.interlude = self._socket.poll
        if pace:
            self.house.interlude = partial(self._look, self._socket, pace)
            self.house.interlude_steps = 1
            self.house.machine.observers.subscribe(self._changed, StoreOperation)

    def _pause(self) -> None:
        """Between two steps of the toolstack's."""
        if self.house.interlude is not None:
            self.house.interlude()

    def _changed(self, event: object) -> None:
        assert isinstance(event, StoreOperation)
        # What onlookers write is no news to them.
        if event.op in ("WRITE", "RM", "MKDIR") and not event.who.startswith("socket"):
            self._news = True

    def _look(self, socket: StoreSocket, pace: float) -> None:
        """For a paced run, after each delivery: a turn for the onlookers if there is something
        new for them, and every now and then."""
        self._looks += 1
        if self._news and socket.clients:
            self._news = False
            socket.wait(pace)
        elif self._looks % INTERLUDE_STEPS == 0:
            socket.poll()

    def hold(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Keep everything as it is for that long, or until it is ``over``, and let the clients of
        the store socket work."""
        end = time.monotonic() + seconds
        while self._socket is not None and not over() and (left := end - time.monotonic()) > 0:
            self._socket.wait(min(left, _POLL_SECONDS))
            # Clients that write without end get no turn in between, or this would have no end.
            turns, self.house.interlude = self.house.interlude, None
            self.settle()
            self.house.interlude = turns

    def trickle(self) -> None:
        """Let every guest send one frame, so that a switch sees where each of them is."""
        self._require("trickle()", Stage.OPEN)
        for line in self.all:
            line.host.flowing = True
            line.guest.allowance = 1
        self._wake()
        self.house.settle()

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Move frames until no end has anything more to give or to do; ``waiting`` as House.settle.

        LinkError when an end broke the protocol (which ours never do), and for a link that is not
        open.
        """
        self._require("carry()", Stage.OPEN)
        self.kick()
        self.house.settle(waiting)
        errors = [f"{vif.name}: {error}" for vif in self.vifs for error in vif.errors]
        if errors:
            raise LinkError("; ".join(errors))

    @property
    def vifs(self) -> list[PluggedVif]:
        """Those that have been plugged in."""
        return [line.vif for line in self.all if line.vif is not None]

    def kick(self) -> None:
        """Let frames flow, and tell all drivers that their endpoints may have frames or room.

        What :meth:`carry` begins with: nothing is delivered yet, so the run loop can be stepped
        from here on. LinkError for a link that is not open.
        """
        self._require("kick()", Stage.OPEN)
        for line in self.all:
            line.guest.flowing = line.host.flowing = True
        self._wake()

    def _wake(self) -> None:
        for vif in self.vifs:
            vif.kick()

    def _require(self, call: str, stage: Stage) -> None:
        if self._stage is not stage:
            raise LinkError(f"{call} of a link that is {self._stage.value}: {_ORDER}")

    def close(self) -> None:
        """Unplug the vifs: both ends close, every node goes. Devices that other programs made in
        the store are removed. What is then left shows :meth:`leaks`.

        LinkError if the toolstack could not, or had to force one. Idempotent.
        """
        if self._stage is Stage.CLOSED:
            return
        self._stage = Stage.CLOSED
        house = self.house
        self._pause()
        operations = [(vif, house.unplug(vif)) for vif in self.vifs]

        def closing() -> int | None:
            over = sum(operation.outcome is not Outcome.PENDING for _, operation in operations)
            return None if over == len(operations) else over

        # An end that is stuck does not close: the toolstack waits, and then takes it by force.
        house.settle(closing)
        # Nobody writes any more in this last turn; what it does is still seen.
        onlookers, house.interlude = house.interlude, None
        house.remove_strangers(
            [vif for vif, done in operations if done.outcome is not Outcome.DONE]
        )
        house.settle()
        house.interlude = onlookers
        self._pause()
        for vif, operation in operations:
            house.require(vif, operation)
            if operation.forced:
                raise LinkError(f"{vif.name} did not close and had to be taken away by force")

    def leaks(self) -> LeakReport:
        """What any domain still holds."""
        return self.house.leaks()

    def destroy(self) -> None:
        """Switch the machine off, whatever state it is in; a store socket is removed."""
        self._stage = Stage.CLOSED
        if self._socket is not None:
            self._socket.close()
        self.house.destroy()
