"""The Xen vif as a link: vifs of equal guests on one host, opened, used and closed together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum
from functools import partial
from typing import TYPE_CHECKING

from attrs import define

from xennet.errors import LinkError
from xennet.frames import Endpoint, require_endpoint
from xennet.host.domains import PluggedVif
from xennet.host.host import Host
from xennet.host.limits import require_room
from xennet.host.setup import Setup
from xennet.host.timeslices import TimeSlices
from xennet.hypervisor import LeakReport
from xennet.ifnet import Interface
from xennet.link.joined import EVERY, JoinedPasses, JoinedSlices
from xennet.link.timeline import Timeline
from xennet.link.vif_interfaces import InterfaceHold, interfaces_of, note_state
from xennet.netback.defects import BackendPanic, DefectStruck
from xennet.netfront.device import HELD_PERIOD
from xennet.observe import FrameFiltered, StoreOperation
from xennet.pump import PATIENCE, Clock
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.paths import VifPaths

if TYPE_CHECKING:  # reports are imported when one is asked for
    from xennet.link.report import DomainReport, LinkReport, LinkStatus, RingReport
    from xennet.link.switch import Clock as HostClock
    from xennet.xenstore.daemon import Daemon


class Reached(Enum):
    """The state of a link; the value is the word for it in messages."""

    NEW = "not open yet"
    OPEN = "open"
    CLOSED = "closed"


class Stage(IntEnum):
    """What the vifs of a link are in the middle of, in the order in which it happens."""

    HANDSHAKE = 0
    TRAFFIC = 1
    UNPLUG = 2


#: In real time, ns without an arrival after which frames on their way are given up: nothing delays
#: them longer.
_REAL_PATIENCE = 2_000_000_000
#: ns between two looks at what ends have against each other.
_LOOK_AFTER = 1_000_000_000
#: The calls of a link, in order.
_ORDER = "first open(), once, then carry() as often as you like, then close()"


def _ignored(_frame: bytes, _timestamp: int) -> None:
    """Drop a frame that a backend filters."""


@define(eq=False, repr=False)
class VifPair:
    """Both ends of a vif, each held until all vifs are up; ``vif`` is None until it is plugged in.

    ``name``: "vif1.0". ``queues``, ``split_channels``: what the vif was connected with, kept
    because the connection is gone in the end. ``filtered`` is called with each frame that the
    backend's multicast filter took, and its time stamp.
    """

    name: str
    guest: InterfaceHold
    host: InterfaceHold
    filtered: Callable[[bytes, int], None] = _ignored
    vif: PluggedVif | None = None
    queues: int = 0
    split_channels: bool = False

    def __repr__(self) -> str:
        return f"<VifPair {self.name}: {self.queues} queues>"

    @property
    def plugged(self) -> PluggedVif:
        """The vif. Raises LinkError before there is one."""
        if self.vif is None:
            raise LinkError("the vif has not been plugged in yet")
        return self.vif

    @property
    def interfaces(self) -> tuple[Interface, Interface]:
        """The guest's interface and the backend domain's, as their drivers are now."""
        guest, host = self.guest.interface, self.host.interface
        if self.vif is not None:
            note_state(guest, host, self.vif)
        return guest, host

    @property
    def was_up(self) -> bool:
        """Whether the vif has been plugged in."""
        return self.vif is not None

    def connected(self) -> None:
        """Note the queues and channels of the connection."""
        netback = self.plugged.netback
        queues = netback.queues if netback is not None else []
        self.queues = len(queues)
        self.split_channels = any(queue.tx_port != queue.rx_port for queue in queues)


class Vifs:
    """The Xen vif as a link (xennet.link.protocol.Link): as many pairs as ``setup`` has vifs, guest
    by guest, in the order in which they are joined. ``timeline`` records the store's changes about
    the first of them. ``stage`` is how far they are.

    Several guests take turns as on a host (xennet.host.timeslices); with one, the oldest delivery
    is next. ``clock`` is that of the host's pump (None: virtual time). Raises LimitError for a
    setup that does not fit the store's quotas or the host's memory.
    """

    def __init__(self, setup: Setup, clock: Clock | None = None) -> None:
        self.setup = setup
        require_room(setup)
        self.host = Host(
            setup.capacity,
            backend_evtchn=setup.policy.evtchn,
            drivers=setup.host_drivers,
            quota=setup.quota,
            clock=clock,
        )
        self._slices = TimeSlices() if setup.guests > 1 else None
        if self._slices is not None:
            self.host.machine.run_loop.take_turns(self._slices)
        self.pairs: list[VifPair] = []
        self._by_frontend: dict[str, VifPair] = {}
        self.paths = VifPaths(1, 0)
        self.timeline = Timeline(self.paths, self.host.machine.run_loop)
        self._defects: Counter[tuple[str, str]] = Counter()
        subscribe = self.host.machine.observers.subscribe
        subscribe(self.timeline.observe, StoreOperation)
        subscribe(self._struck, DefectStruck)
        subscribe(self._filtered, FrameFiltered)
        self._reached = Reached.NEW
        self.stage = Stage.HANDSHAKE
        self._flowing = False
        self._broken = False
        self._look_no_more: Callable[[], object] = lambda: None
        self._daemon: Daemon | None = None
        self._news = False  # the store has changed since its clients had their turn

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.pairs)} vifs, {self._reached.value}>"

    @property
    def host_clock(self) -> HostClock:
        """The time in domain 0."""
        return self.host.dom0.kernel

    def join(
        self,
        guest: Endpoint,
        host: Endpoint,
        filtered: Callable[[bytes, int], None] = _ignored,
    ) -> VifPair:
        """Add the next pair and return it: ``guest`` is the network stack's side of netfront,
        ``host`` netback's.

        Raises TypeError for an object that is no frame endpoint, LinkError after :meth:`open`.
        """
        self._require("join()", Reached.NEW)
        guest, host = require_endpoint("guest", guest), require_endpoint("host", host)
        domid, handle = self._place(len(self.pairs))
        name, mac = f"vif{domid}.{handle}", self.address(len(self.pairs))
        at_guest, at_host = interfaces_of(self.setup, name, handle, mac)
        ends = InterfaceHold(guest, at_guest), InterfaceHold(host, at_host)
        pair = VifPair(name, *ends, filtered)
        self.pairs.append(pair)
        self._by_frontend[VifPaths(domid, handle).frontend] = pair
        return pair

    def address(self, number: int) -> bytes:
        """The MAC address of the guest's end of pair ``number``, as the toolstack assigns it."""
        config = self.setup.vif_config(*self._place(number))
        return bytes.fromhex(config.mac.replace(":", ""))

    def _place(self, number: int) -> tuple[int, int]:
        """The domid and handle of pair ``number``."""
        return 1 + number // self.setup.vifs, number % self.setup.vifs

    def open(self) -> None:
        """Boot the guests, plug the vifs in, and connect them. Called once.

        Raises LinkError if an end gets stuck, or if the number of pairs joined is not that of the
        setup's vifs.
        """
        self._require("open()", Reached.NEW)
        host, setup = self.host, self.setup
        if len(self.pairs) != setup.guests * setup.vifs:
            raise LinkError(
                f"{setup.guests} guests with {setup.vifs} vifs each are set up, but "
                f"{len(self.pairs)} pairs were joined"
            )
        self._reached = Reached.OPEN
        host.dom0.load()
        left = iter(self.pairs)
        for _ in range(setup.guests):
            guest = host.add_guest(
                kind=setup.kind,
                grant_version=setup.grant_version,
                evtchn_abi=setup.evtchn,
                drivers=setup.guest_drivers,
            )
            for handle in range(setup.vifs):
                pair = next(left)
                pair.vif = host.plug(
                    guest,
                    handle,
                    pair.guest,
                    pair.host,
                    setup.vif_config(guest.domid, handle),
                    front=setup.front,
                    policy=setup.policy,
                    back=setup.back,
                )
        host.pump.turn()
        host.settle()
        host.boot()
        host.settle()
        host.pump.turn()
        for pair in self.pairs:
            host.require_connected(pair.plugged)
            pair.connected()

    def settle(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Make deliveries until nothing is ready (Host.settle)."""
        self.host.settle(waiting)

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        """Let other programs use the store over the unix socket ``path``, until :meth:`destroy`.

        While there are any, they have ``pace`` seconds to look at each change before the next
        happens. Raises xennet.xenstore.errors.SocketError if the socket cannot be made.
        """
        from xennet.xenstore.daemon import Daemon

        pump = self.host.pump
        self._daemon = Daemon(self.host.service.server, path, pump)
        self._daemon.start()
        if pace:
            pump.attend(partial(self._show, self._daemon, pace), every=1)
            self.host.machine.observers.subscribe(self._changed, StoreOperation)

    def _changed(self, event: object) -> None:
        assert isinstance(event, StoreOperation)
        # What clients of the socket write is no news to them.
        if event.op in ("WRITE", "RM", "MKDIR") and not event.who.startswith("socket"):
            self._news = True

    def _show(self, daemon: Daemon, pace: float) -> None:
        """After a delivery of a paced run that changed the store, give the socket's clients time to
        look."""
        if self._news and daemon.clients:
            self._news = False
            self.host.pump.serve(pace)

    def hold(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Keep the vifs as they are for ``seconds``, or until ``over()`` returns True, and serve
        the clients of the store socket if there is one."""
        self.host.pump.hold(seconds, over)

    def trickle(self) -> None:
        """Let every guest send one frame, so that a switch learns where each of them is."""
        self._require("trickle()", Reached.OPEN)
        self.stage = Stage.TRAFFIC
        for pair in self.pairs:
            pair.host.flowing = True
            pair.guest.allowance = 1
        self._wake()
        self.host.settle()

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Move frames until no end has any more to give or to do; ``waiting`` as for Host.settle.

        Raises LinkError when an end broke the protocol (which xennet's never do), and for a link
        that is not open.
        """
        if self._reached is not Reached.OPEN:
            self._require("carry()", Reached.OPEN)
        pump = self.host.pump
        with pump.whole():
            self.kick()
            with self._joined_passes():
                pump.run(waiting, patience=_REAL_PATIENCE if pump.clock.real else PATIENCE)
        self._require_no_errors()

    @contextmanager
    def _joined_passes(self) -> Iterator[None]:
        """A context in which passes of the only vif of each guest are joined if there are many to
        come."""
        pump, leave = self.host.pump, None
        if self.setup.vifs == 1 and len(self.vifs) == len(self.pairs) and pump.undisturbed:
            machine, slices = self.host.machine, self._slices
            passes = [
                JoinedPasses(machine, pair.plugged, pair.guest, pair.host, slices)
                for pair in self.pairs
            ]
            joined = passes[0] if slices is None else JoinedSlices(machine, slices, passes)
            if joined.worthwhile:
                leave = pump.attend(joined.turn, EVERY)
        try:
            yield
        finally:
            if leave is not None:
                leave()

    def carry_live(self, seconds: float | None, over: Callable[[], bool]) -> None:
        """Move frames as they come for ``seconds`` (None: without end), or until ``over()`` returns
        True; sleep while there are none. The host's clock has to be a real one.

        Raises LinkError as :meth:`carry` does, within a second after an end broke.
        """
        self._require("carry_live()", Reached.OPEN)
        with self.host.pump.whole():
            self.kick()
            self._look_at_ends()
            self.host.pump.hold(seconds, lambda: self._broken or over())
        self._look_no_more()
        self._require_no_errors()

    def _look_at_ends(self) -> None:
        """Note whether an end has something against the other one, now and every second from now
        on."""
        self._broken = bool(self._errors())
        self._look_no_more = self.host_clock.call_after(_LOOK_AFTER, self._look_at_ends)

    def _require_no_errors(self) -> None:
        if errors := self._errors():
            raise LinkError("; ".join(errors))

    def _errors(self) -> list[str]:
        """What ends have against each other."""
        errors: list[str] = []
        for pair in self.pairs:
            if pair.vif is not None:
                for error in pair.vif.errors:
                    errors.append(f"{pair.vif.name}: {error}")
        return errors

    @property
    def vifs(self) -> list[PluggedVif]:
        """The vifs that have been plugged in."""
        return [pair.vif for pair in self.pairs if pair.vif is not None]

    def kick(self) -> None:
        """Let frames flow, and tell all drivers that their endpoints may have frames or room.

        :meth:`carry` begins with this. Nothing is delivered yet, so the run loop can be stepped
        from here on. Raises LinkError for a link that is not open.
        """
        if self._reached is not Reached.OPEN:
            self._require("kick()", Reached.OPEN)
        if not self._flowing:
            self._flowing = True
            self.stage = Stage.TRAFFIC
            for pair in self.pairs:
                pair.guest.flowing = pair.host.flowing = True
        self._wake()

    def _wake(self) -> None:
        for pair in self.pairs:
            if pair.vif is not None:
                pair.vif.kick()

    def _require(self, call: str, wanted: Reached) -> None:
        if self._reached is not wanted:
            raise LinkError(f"{call} of a link that is {self._reached.value}: {_ORDER}")

    def close(self) -> None:
        """Unplug the vifs: both ends close, every node goes. Devices that other programs made in
        the store are removed. :meth:`leaks` shows what is left then.

        Raises LinkError if the toolstack could not remove a vif, or had to force it. What an end
        raises meanwhile is raised when the vifs have gone; from then on no end is given frames or
        asked for any. May be repeated.
        """
        if self._reached is Reached.CLOSED:
            return
        self._reached = Reached.CLOSED
        self.stage = Stage.UNPLUG
        host = self.host
        host.pump.turn()
        operations = [(vif, host.unplug(vif)) for vif in self.vifs]

        def closing() -> int | None:
            over = sum(operation.outcome is not Outcome.PENDING for _, operation in operations)
            return None if over == len(operations) else over

        # An end that is stuck does not close: the toolstack waits, and then takes it by force.
        failure: Exception | None = None
        try:
            host.settle(closing)
        except Exception as error:
            if self.explain(error) is not None:
                raise
            failure = error
            for pair in self.pairs:
                pair.guest.cut()
                pair.host.cut()
            host.settle(closing)
        # Nobody writes any more in this last turn; what it does is still seen.
        host.remove_unknown_devices(
            [vif for vif, done in operations if done.outcome is not Outcome.DONE]
        )
        # What a backend lets go of only now its frontend frees with the next try.
        host.pump.run(
            lambda: 0 if host.leaks() else None, patience=2 * HELD_PERIOD, undisturbed=True
        )
        host.pump.turn()
        if failure is not None:
            raise failure
        for vif, operation in operations:
            host.require(vif, operation)
            if operation.forced:
                raise LinkError(f"{vif.name} did not close and had to be taken away by force")

    def _struck(self, event: object) -> None:
        assert isinstance(event, DefectStruck)
        self._defects[event.row, event.what] += 1

    def _filtered(self, event: object) -> None:
        assert isinstance(event, FrameFiltered)
        if (pair := self._by_frontend.get(event.frontend)) is not None:
            pair.filtered(event.data, event.timestamp)

    def explain(self, error: Exception) -> str | None:
        """One line about a panic of the backend's kernel; None for any other exception."""
        if not isinstance(error, BackendPanic):
            return None
        where = "; ".join(getattr(error, "__notes__", ())) or "in domain 0"
        return f"the backend panicked: {error} ({where})"

    def report(self) -> LinkReport:
        """The report of the link: timeline of the first vif, rings, domains, and defects that
        struck."""
        from xennet.link.report import DefectReport, LinkReport

        return LinkReport(
            roots={"frontend": self.paths.frontend, "backend": self.paths.backend},
            timeline=self.timeline.told(),
            rings=self.rings(),
            domains=self.domains(),
            defects=tuple(DefectReport(*defect, n) for defect, n in sorted(self._defects.items())),
        )

    def status(self) -> LinkStatus:
        """How full the rings are, those of all vifs together, and what the drivers have dropped."""
        from xennet.link import inventory

        return inventory.status(self.vifs)

    def rings(self) -> tuple[RingReport, ...]:
        """Both rings of each vif, from the counters of both ends."""
        from xennet.link import inventory

        return inventory.rings(self.vifs)

    def domains(self) -> tuple[DomainReport, ...]:
        """The hypervisor's resources that each domain used, and those that it holds now."""
        from xennet.link import inventory

        return inventory.domains(self.host, self.vifs)

    def leaks(self) -> LeakReport:
        """The things that any domain still holds."""
        return self.host.leaks()

    def left_behind(self) -> list[str]:
        """The things that any domain still holds, a line for each."""
        leaks = self.leaks()
        return str(leaks).splitlines() if leaks else []

    def destroy(self) -> None:
        """Switch the machine off, whatever state it is in, and remove the store socket."""
        self._reached = Reached.CLOSED
        if self._daemon is not None:
            self._daemon.stop()
        self.host.destroy()
