"""``xennet run``: frames from ports through vifs to ports, and the proof that they arrived.

Every vif has a witness at either end, with ledgers that compare what one gave with what the other
got, and an edge between witness and port, so that what is compared is what crossed the vif. With a
switch an exchange follows the frames through that as well.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from attrs import asdict, define, evolve, frozen

from xennet.errors import LinkError
from xennet.host.host import guest_mac
from xennet.link.inventory import domains, rings
from xennet.link.offload_edge import OffloadEdge, PortEdge
from xennet.link.report import DefectReport, VifReport
from xennet.link.timeline import Timeline
from xennet.link.vifs import VifPair, Vifs
from xennet.netback.defects import BackendPanic, DefectStruck
from xennet.observe import FrameFiltered, StoreOperation
from xennet.port import Port
from xennet.port.addressed import AddressedPort
from xennet.run import inventory
from xennet.run.checker import Checker
from xennet.run.in_order import InOrderCheck, ip_flow, one_flow
from xennet.run.options import Progress, RunOptions
from xennet.run.report import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    THROUGH_SWITCH,
    PortReport,
    RunReport,
    SwitchReport,
    Verdict,
)
from xennet.run.stop import Stop
from xennet.run.vif_setup import setup_of
from xennet.xenbus.paths import VifPaths

if TYPE_CHECKING:
    from xennet.run.checked_switch import CheckedPort, CheckedSwitch

#: Seconds in which those who look at a run that is held can read what has changed.
_PACE = 0.02
#: Reasons that a verdict gives in full.
_REASONS = 12


@frozen
class StoreView:
    """The run's store for other programs to look at, on the socket ``path``.

    Nothing is plugged in for ``hold_before`` seconds; the connected vifs stay up for ``hold``
    seconds before they are unplugged. A run that is held lets those who look see each change before
    the next. ``say`` is told when there is something to see.
    """

    path: str
    hold_before: float = 0.0
    hold: float = 0.0
    say: Callable[[str], None] = lambda text: None


@define(eq=False, repr=False)
class _Watched:
    """One line with its witnesses; ``place`` is its host end at the exchange, if there is one.

    ``up`` and ``down`` are the ledgers from guest to host and back.
    """

    line: VifPair
    guest: Checker
    host: Checker
    guest_edge: PortEdge
    host_edge: OffloadEdge
    up: InOrderCheck
    down: InOrderCheck
    place: CheckedPort | None = None
    queues: int = 0
    split: bool = False

    def connected(self) -> None:
        """Note what a connection has; nothing of it is left in the end."""
        vif = self.line.plugged
        queues = vif.netback.queues if vif.netback is not None else []
        self.queues = len(queues)
        self.split = any(queue.tx_port != queue.rx_port for queue in queues)
        if self.place is not None:
            self.place.port.wake = vif.kick_host

    def report(self) -> VifReport:
        """What it negotiated and what crossed it."""
        vif = self.line.plugged
        guest, host = self.guest_edge, self.host_edge
        up = inventory.path(self.guest.offload, self.up, (guest.pulled, host.pushed))
        down = inventory.path(self.host.offload, self.down, (host.pulled, guest.pushed))
        return VifReport(vif.name, self.queues, self.split, up, down)


class Run:
    """One run: made, carried out, reported. ``hosts`` is empty with a switch; ``stop`` ends it
    early.

    There are as many ``guests`` as the options have vifs, guest by guest, and as many ``hosts``.
    """

    def __init__(
        self,
        guests: Sequence[Port],
        hosts: Sequence[Port],
        options: RunOptions,
        progress: Progress,
        stop: Stop | None = None,
    ) -> None:
        self.stop = Stop() if stop is None else stop
        self.lines = Vifs(setup_of(options))
        self.options = evolve(options, evtchn=self.lines.setup.evtchn)
        self.exchange: CheckedSwitch | None = None
        self.trouble: list[str] = []
        self.seconds = 0.0
        self._began = True
        self._progress = progress
        self._told: Counter[str] = Counter()
        self._ports = (tuple(guests), tuple(hosts))
        if options.switch:
            macs = [_mac(number, options.vifs) for number in range(len(guests))]
            from xennet.run.checked_switch import CheckedSwitch

            self.exchange = CheckedSwitch(self.lines.host.dom0.kernel, macs)
            self._watched = [
                self._join(PortEdge(AddressedPort(port, mac, peer)), place, place)
                for port, mac, peer, place in zip(
                    guests, macs, macs[1:] + macs[:1], self.exchange.places, strict=True
                )
            ]
        else:
            self._watched = [
                self._join(PortEdge(guest), PortEdge(host))
                for guest, host in zip(guests, hosts, strict=True)
            ]
        paths = VifPaths(1, 0)
        self.roots = {"frontend": paths.frontend, "backend": paths.backend}
        machine = self.lines.host.machine
        self.timeline = Timeline(paths, machine.run_loop)
        machine.observers.subscribe(self.timeline.observe, StoreOperation)
        self._defects: Counter[tuple[str, str]] = Counter()
        machine.observers.subscribe(self._struck, DefectStruck)
        self._down: dict[str, InOrderCheck] = {}
        machine.observers.subscribe(self._filtered, FrameFiltered)

    def _join(
        self, guest: PortEdge, host: PortEdge | CheckedPort, place: CheckedPort | None = None
    ) -> _Watched:
        flow = one_flow if self.options.queues == 1 else ip_flow
        up, down = InOrderCheck(flow), InOrderCheck(flow)
        guest_end = Checker(guest, up, down, partial(self._tell, HOST_TO_GUEST))
        host_end = Checker(host, down, up, partial(self._tell, GUEST_TO_HOST))
        guest_end.mtu = host_end.mtu = self.lines.setup.mtu or 0
        guest_end.stop = self.stop
        if place is None:
            host_end.stop = self.stop
        line = self.lines.add(guest_end, host_end)
        return _Watched(line, guest_end, host_end, guest, host, up, down, place)

    def _tell(self, name: str, frames: int) -> None:
        self._told[name] += frames
        self._progress(name, self._told[name])

    def _struck(self, event: object) -> None:
        assert isinstance(event, DefectStruck)
        self._defects[event.row, event.what] += 1

    def _filtered(self, event: object) -> None:
        assert isinstance(event, FrameFiltered)
        self._down[event.frontend].filter(event.data, event.timestamp)

    # -- carrying ----------------------------------------------------------------------------------

    def carry(self) -> None:
        """Everything from the first frame to the last. LinkError when a vif breaks."""
        started = time.perf_counter()
        for watched in self._watched:
            watched.connected()
            self._down[watched.line.plugged.paths.frontend] = watched.down
        if self.exchange is not None:
            self.lines.trickle()
        self.lines.carry(self._waiting)
        # An echo ends only when it knows that nothing more comes.
        for port in (*self._ports[1], *self._ports[0]):
            port.finish()
        self.lines.carry(self._waiting)
        self.seconds = time.perf_counter() - started

    def carry_out(self, view: StoreView | None) -> None:
        """The whole run; what went wrong is in ``trouble``, except bad ports."""
        if view is not None:
            held = view.hold_before or view.hold
            self.lines.serve_store(view.path, _PACE if held else 0.0)
            view.say(f"XenStore on {view.path}")
            self._hold(view, view.hold_before, "nothing is plugged in yet")
        try:
            if not self.stop.reason:
                self._open()
                self.carry()
                if view is not None:
                    self._hold(view, view.hold, "the vif stays connected")
            self.lines.close()
        except LinkError as error:
            self.trouble.append(str(error))
        except BackendPanic as panic:
            where = "; ".join(getattr(panic, "__notes__", ())) or "in domain 0"
            self.trouble.append(f"the backend panicked: {panic} ({where})")
        for watched in self._watched:
            for end in (watched.guest, watched.host):
                if end.failure is not None:
                    raise end.failure

    def _open(self) -> None:
        try:
            self.lines.open()
        except LinkError:
            # The vifs that did connect go in order, so that what is left then is worth telling.
            self._began = False
            with suppress(LinkError):
                self.lines.close()
            raise

    def _hold(self, view: StoreView, seconds: float, what: str) -> None:
        if seconds and not self.stop.reason:
            view.say(f"{what} for {seconds:g} s")
            self.lines.hold(seconds, lambda: bool(self.stop.reason))

    def _waiting(self) -> int | None:
        """For Host.settle: how many frames have arrived, as long as some are on their way."""
        ledgers = [ledger for watched in self._watched for ledger in (watched.up, watched.down)]
        if self.exchange is not None:
            ledgers += self.exchange.ledgers
        if not any(ledger.missing for ledger in ledgers):
            return None
        return sum(ledger.frames_received for ledger in ledgers)

    # -- reporting ---------------------------------------------------------------------------------

    def report(self) -> RunReport:
        """All there is to tell."""
        interrupted = self.stop.reason or None  # once: a signal may come any time
        return RunReport(
            verdict=self._verdict(interrupted),
            interrupted=interrupted,
            options=self.options,
            roots=self.roots,
            timeline=self.timeline.told(),
            directions=tuple(
                inventory.direction(name, self._ledgers(name))
                for name in (GUEST_TO_HOST, HOST_TO_GUEST)
            ),
            vifs=self._vif_reports(),
            switch=self._switch(),
            defects=tuple(DefectReport(*defect, n) for defect, n in sorted(self._defects.items())),
            rings=rings(self.lines.vifs),
            domains=domains(self.lines),
            ports=tuple(
                PortReport(side, port.name, port.counters)
                for side, ports in zip(("guest", "host"), self._ports, strict=True)
                for port in ports
            ),
            seconds=self.seconds,
        )

    def _ledgers(self, name: str) -> dict[str, InOrderCheck]:
        """The ledgers of one direction, by vif."""
        if name == THROUGH_SWITCH:
            ledgers = self.exchange.ledgers if self.exchange is not None else []
        else:
            ledgers = [w.up if name == GUEST_TO_HOST else w.down for w in self._watched]
        return {
            f"vif{1 + number // self.options.vifs}.{number % self.options.vifs}": ledger
            for number, ledger in enumerate(ledgers)
        }

    def _switch(self) -> SwitchReport | None:
        if self.exchange is None:
            return None
        switch = self.exchange.switch
        return SwitchReport(
            through=inventory.direction(THROUGH_SWITCH, self._ledgers(THROUGH_SWITCH)),
            ports=len(switch.ports),
            learned=switch.learned,
            dropped=sum(port.counters.dropped for port in switch.ports),
            **asdict(switch.counters),
        )

    def _verdict(self, interrupted: str | None) -> Verdict:
        bad = [*self.trouble, *self._inputs(), *self._known_defects()]
        # Before the vifs are connected no port has had a chance to give anything.
        bad += [*self._lost(), *self._refused()] if self._began else ["no frame was carried"]
        leaks = self.lines.leaks()
        if leaks:
            bad += str(leaks).splitlines()
        so_far = self._arrived("every frame that was given")
        empty = so_far == _NOTHING_GIVEN
        if interrupted is not None:
            what = f"interrupted by {interrupted}: this is what was done until then"
            bad = [what, *(bad or (so_far, _NOTHING_LEFT))]
        elif empty and not (bad or self.options.allow_empty):
            bad = [f"{_NOTHING_GIVEN}: nothing was shown (--allow-empty takes that for good)"]
        if not bad:
            return Verdict(True, (self._arrived(), _NOTHING_LEFT, *self._remarks()))
        more = len(bad) - _REASONS
        if more > 0:
            bad[_REASONS:] = [f"and {more} more reasons"]
        return Verdict(False, (*bad, *self._remarks()))

    def _arrived(self, what: str = "every frame") -> str:
        """What a run may say of its frames (``what`` of them) if there is nothing against it."""
        ledgers = [ledger for watched in self._watched for ledger in (watched.up, watched.down)]
        if not any(ledger.frames_sent for ledger in ledgers):
            return _NOTHING_GIVEN
        if not any(ledger.frames_received for ledger in ledgers):
            return "no frame was to arrive: all were filtered"
        which = " but the filtered ones" if any(ledger.filtered for ledger in ledgers) else ""
        where = "where it should, unchanged" if self.exchange is not None else "unchanged"
        order = "in order" if self.options.queues == 1 else "in the order of its flow"
        return f"{what}{which} arrived {where} and {order}"

    def _remarks(self) -> list[str]:
        """What is no fault of the run, but has to be known of its frames."""
        remarks = []
        if filtered := sum(watched.down.filtered for watched in self._watched):
            remarks.append(
                f"{HOST_TO_GUEST}: the backend's multicast filter took {filtered} frames for "
                "groups that the guest had not asked for"
            )
        vifs = self._vif_reports()
        for name, wrong in (
            (GUEST_TO_HOST, sum(vif.up.wrong_checksums for vif in vifs)),
            (HOST_TO_GUEST, sum(vif.down.wrong_checksums for vif in vifs)),
        ):
            if wrong:
                remarks.append(
                    f"{name}: {wrong} frames passed on with a wrong TCP or UDP checksum, to an end "
                    "that takes no blank ones"
                )
        return remarks

    def _vif_reports(self) -> tuple[VifReport, ...]:
        return tuple(w.report() for w in self._watched if w.line.vif is not None)

    def _inputs(self) -> list[str]:
        """What was wrong with the frames that ports had to give; one line for each input."""
        bad: Counter[str] = Counter()
        for port in (*self._ports[0], *self._ports[1]):
            bad.update(port.counters.faults)
        return [
            fault if times == 1 else f"{fault} (at {times} ports)" for fault, times in bad.items()
        ]

    def _known_defects(self) -> list[str]:
        """What is the backend's own doing, before what came of it."""
        return [
            f"defect {row} of the {self.options.backend} backend: {what} ({packets} packets)"
            for (row, what), packets in sorted(self._defects.items())
        ]

    def _lost(self) -> list[str]:
        """What the ledgers and the ports have against the run."""
        bad = []
        for name in (GUEST_TO_HOST, THROUGH_SWITCH, HOST_TO_GUEST):
            for vif, ledger in self._ledgers(name).items():
                where = self._named(vif, name)
                if ledger.mismatches:
                    bad.append(
                        f"{where}: {ledger.mismatches} frames did not arrive as they were sent"
                    )
                if ledger.missing:
                    bad.append(f"{where}: {ledger.missing} frames did not arrive")
        if self.exchange is not None and (dropped := self._dropped()):
            bad.append(f"the switch dropped {dropped} frames for ports whose queues stayed full")
        for vif, watched in zip(self._ledgers(GUEST_TO_HOST), self._watched, strict=True):
            for side, end in (("guest", watched.guest), ("host", watched.host)):
                if not end.exhausted:
                    port = "port" if watched.place is None or side == "guest" else "end"
                    bad.append(self._named(vif, f"the {side}'s {port} still has frames to give"))
        return bad

    def _refused(self) -> list[str]:
        """Frames of ports that the edges could not make fit."""
        bad = []
        for report in self._vif_reports():
            for name, path in ((GUEST_TO_HOST, report.up), (HOST_TO_GUEST, report.down)):
                where = self._named(report.name, name)
                if path.refused:
                    bad.append(f"{where}: {path.refused} frames were too long for the vif")
                if path.errors:
                    bad.append(f"{where}: {path.errors} frames were not what their flags say")
        return bad

    def _dropped(self) -> int:
        ports = self.exchange.switch.ports if self.exchange is not None else []
        return sum(port.counters.dropped for port in ports)

    def _named(self, vif: str, what: str) -> str:
        return f"{vif}, {what}" if len(self._watched) > 1 else what


_NOTHING_GIVEN = "no port gave a frame, in either direction"
_NOTHING_LEFT = "teardown left no grant, port, mapping or page behind"


def _mac(number: int, vifs: int) -> bytes:
    """The address of station ``number``, as the toolstack gives it (Setup.vif_config)."""
    return bytes.fromhex(guest_mac(1 + number // vifs, number % vifs).replace(":", ""))


def run_ports(
    guests: Sequence[Port],
    hosts: Sequence[Port],
    options: RunOptions,
    progress: Progress,
    view: StoreView | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Carry all frames of all ports to the other end of their vif, or through the switch to the
    next guest; unplug, and report. When ``stop`` is asked, no port gives frames any more; what is
    on its way arrives, and the report tells what was done so far.

    The ports are not closed. PortError of a port that failed is raised after the frames before the
    failure have arrived and the vifs are unplugged. While it lasts the store can be seen by
    ``view``; xennet.xenstore.daemon.SocketError if it cannot.
    """
    run = Run(guests, hosts, options, progress, stop)
    try:
        run.carry_out(view)
        return run.report()
    finally:
        run.lines.destroy()
