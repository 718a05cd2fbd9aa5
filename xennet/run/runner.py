"""``xennet run``: frames from ports through vifs to ports, and the proof that they arrived.

Every pair of the link has a checker at either end, which compares the frames given at one end with
the frames that came out at the other. An edge stands between checker and port, so the frames
compared are those that crossed the link. With a switch the frames are followed through that too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from attrs import asdict, astuple, define, frozen

from xennet.errors import LinkError
from xennet.link.protocol import FiltersUp, Link, Pair
from xennet.link.report import LinkReport, VifReport
from xennet.port import Port
from xennet.port.addressed import AddressedPort
from xennet.port.base import flush, is_live
from xennet.run import inventory
from xennet.run.checker import Checker
from xennet.run.options import Progress, RunOptions, Status, TapFile
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
from xennet.wrap.in_order import InOrderCheck, ip_flow, one_flow
from xennet.wrap.offload_edge import OffloadEdge

if TYPE_CHECKING:
    from xennet.run.checked_switch import CheckedPort, CheckedSwitch

#: Seconds in which programs that look at a held run can read what has changed.
_PACE = 0.02
#: ns between two ticks of a live run.
_TICK = 500_000_000
#: Number of reasons that a verdict gives in full.
_REASONS = 12


@frozen
class StoreView:
    """The run's store for other programs to look at, on the socket ``path``.

    No vif is plugged in for ``hold_before`` seconds; the connected vifs stay up for ``hold``
    seconds before they are unplugged. A held run lets these programs see each change before the
    next one. ``say`` is called with a line of text when there is something to see.
    """

    path: str
    hold_before: float = 0.0
    hold: float = 0.0
    say: Callable[[str], None] = lambda text: None


@define(eq=False, repr=False)
class _Checked:
    """A pair of a link with a checker at either end; ``port`` is its host end at the switch, if
    there is one.

    ``up`` checks the frames from guest to host, ``down`` those from host to guest.
    """

    pair: Pair
    guest: Checker
    host: Checker
    guest_edge: OffloadEdge
    host_edge: OffloadEdge
    up: InOrderCheck
    down: InOrderCheck
    port: CheckedPort | None = None

    def report(self) -> VifReport:
        """A report of what the pair negotiated and of the frames that crossed it."""
        guest, host, pair = self.guest_edge, self.host_edge, self.pair
        up = inventory.path(self.guest.offload, self.up, (guest.pulled, host.pushed))
        down = inventory.path(self.host.offload, self.down, (host.pulled, guest.pushed))
        return VifReport(pair.name, pair.queues, pair.split_channels, up, down)


class Run:
    """One run over ``link``: made, carried out, reported. ``hosts`` is empty with a switch;
    ``stop`` ends the run early.

    There are as many ``guests`` as the link has pairs, and as many ``hosts``.
    """

    def __init__(
        self,
        link: Link,
        guests: Sequence[Port],
        hosts: Sequence[Port],
        options: RunOptions,
        progress: Progress,
        stop: Stop | None = None,
        taps: Sequence[TapFile] = (),
    ) -> None:
        self.link = link
        self._taps = taps
        self.stop = Stop() if stop is None else stop
        self.options = options
        self.switch: CheckedSwitch | None = None
        self.trouble: list[str] = []
        self.seconds = 0.0
        self._began = True
        self._progress = progress
        self._told: Counter[str] = Counter()
        #: What of that was in the last status, and when that was.
        self._shown: Counter[str] = Counter()
        self._began_at = self._shown_at = 0.0
        self._ports = (tuple(guests), tuple(hosts))
        #: The live ports that may still give frames; the last of them is asked whether it does.
        self._live_ports = [port for port in (*guests, *hosts) if is_live(port)]
        self._tick_no_more: Callable[[], object] = lambda: None
        if options.switch:
            from xennet.run.checked_switch import CheckedSwitch

            macs = [link.address(number) for number in range(len(guests))]
            self.switch = CheckedSwitch(link.host_clock, macs)
            self._checked = [
                self._join(OffloadEdge(AddressedPort(port, mac, peer)), at_switch, at_switch)
                for port, mac, peer, at_switch in zip(
                    guests, macs, macs[1:] + macs[:1], self.switch.ports, strict=True
                )
            ]
        else:
            self._checked = [
                self._join(OffloadEdge(guest), OffloadEdge(host))
                for guest, host in zip(guests, hosts, strict=True)
            ]

        self._all_checks = [
            check for checked in self._checked for check in (checked.up, checked.down)
        ]
        if self.switch is not None:
            self._all_checks += self.switch.checks

    def _join(
        self, guest: OffloadEdge, host: OffloadEdge, port: CheckedPort | None = None
    ) -> _Checked:
        flow = one_flow if self.options.queues == 1 else ip_flow
        up, down = InOrderCheck(flow), InOrderCheck(flow)
        mtu = self.options.mtu or 0
        to_guest, to_host = partial(self._tell, HOST_TO_GUEST), partial(self._tell, GUEST_TO_HOST)
        guest_end = Checker(guest, up, down, to_guest, mtu=mtu, stop=self.stop)
        # What waits at a switch still arrives.
        host_end = Checker(host, down, up, to_host, mtu=mtu, stop=None if port else self.stop)
        pair = self.link.join(guest_end, host_end, filtered=down.filter)
        if isinstance(self.link, FiltersUp):
            self.link.filter_up(pair, up.filter)
        return _Checked(pair, guest_end, host_end, guest, host, up, down, port)

    def _tell(self, name: str, frames: int) -> None:
        self._told[name] += frames
        self._progress(name, self._told[name])

    # -- carrying ----------------------------------------------------------------------------------

    def carry(self) -> None:
        """Carry every frame over the open link. Raises LinkError when an end of it breaks."""
        started, options = time.perf_counter(), self.options
        if options.seconds is not None:
            self.stop.after(options.seconds)
        if self.switch is not None:
            self.link.trickle()
        if options.live:
            self._carry_live()
        self.link.carry(self._waiting)
        # An echo ends only when it knows that nothing more comes.
        for port in (*self._ports[1], *self._ports[0]):
            port.finish()
        self.link.carry(self._waiting)
        self.seconds = time.perf_counter() - started

    def _carry_live(self) -> None:
        self._began_at = self._shown_at = time.monotonic()
        self._tick()
        self.link.carry_live(self.options.seconds, self._is_over)
        self._tick_no_more()
        if self.stop.failed:
            self.stop.end()

    def _tick(self) -> None:
        """Let recordings be read, and the status be seen, while a live run goes on."""
        for port in (*self._ports[0], *self._ports[1], *(tap.port for tap in self._taps)):
            flush(port)
        if (show := getattr(self._progress, "status", None)) is not None:
            show(self._status())
        self._tick_no_more = self.link.host_clock.call_after(_TICK, self._tick)

    def _status(self) -> Status:
        now, link = time.monotonic(), self.link.status()
        passed, self._shown_at = now - self._shown_at, now
        rates = {}
        for name in (GUEST_TO_HOST, HOST_TO_GUEST):
            told = self._told[name]
            rates[name] = (told - self._shown[name]) / passed if passed else 0.0
            self._shown[name] = told
        edges = [edge for one in self._checked for edge in (one.guest_edge, one.host_edge)]
        counts = [counters for edge in edges for counters in (edge.pulled, edge.pushed)]
        ports = (*self._ports[0], *self._ports[1])
        dropped = sum(counters.refused + counters.errors for counters in counts)
        dropped += sum(port.counters.lost for port in ports) + self._dropped() + link.dropped
        return Status(
            now - self._began_at, rates[GUEST_TO_HOST], rates[HOST_TO_GUEST], link.queues, dropped
        )

    def _is_over(self) -> bool:
        """Whether a live run is to end: it was asked to, a port failed, or all that are live have
        come to an end."""
        ports = self._live_ports
        while ports and ports[-1].exhausted:
            ports.pop()
        return self.stop.failed or not ports or self.stop.over

    def carry_out(self, view: StoreView | None) -> None:
        """The whole run; what went wrong is in ``trouble``, except bad ports."""
        try:
            if view is not None:
                held = view.hold_before or view.hold
                self.link.serve_store(view.path, _PACE if held else 0.0)
                view.say(f"XenStore on {view.path}")
                self._hold(view, view.hold_before, "nothing is plugged in yet")
            if not self.stop.over:
                self._open()
                self._listen()
                self.carry()
                if view is not None:
                    self._hold(view, view.hold, "the vif stays connected")
            self.link.close()
        except LinkError as error:
            self.trouble.append(str(error))
        except Exception as error:
            if (text := self.link.explain(error)) is None:
                raise
            self.trouble.append(text)
        for checked in self._checked:
            for end in (checked.guest, checked.host):
                if end.failure is not None:
                    raise end.failure

    def _open(self) -> None:
        try:
            self.link.open()
        except LinkError:
            # The vifs that did connect go in order, so that what is left then is worth telling.
            self._began = False
            with suppress(LinkError):
                self.link.close()
            raise

    def _listen(self) -> None:
        """Let the recordings of ends see what passes there from now on."""
        for tap in self._taps:
            pairs = [checked.pair for checked in self._checked]
            for pair in pairs if tap.number is None else [pairs[tap.number]]:
                guest, host = pair.interfaces
                (guest if tap.side == "guest" else host).taps.append(tap.port.push)

    def _hold(self, view: StoreView, seconds: float, what: str) -> None:
        if seconds and not self.stop.reason:
            view.say(f"{what} for {seconds:g} s")
            self.link.hold(seconds, lambda: bool(self.stop.reason))

    def _waiting(self) -> int | None:
        """The number of frames that have arrived, None when none are on their way (for
        Host.settle)."""
        missing = arrived = 0
        for check in self._all_checks:
            missing += check.missing
            arrived += check.frames_received
        return arrived if missing else None

    # -- reporting ---------------------------------------------------------------------------------

    def report(self) -> RunReport:
        """The report of the run: verdict, frames, vifs, rings, domains and ports."""
        interrupted = self.stop.reason or None  # once: a signal may come any time
        of_link = self.link.report()
        return RunReport(
            verdict=self._verdict(interrupted, of_link),
            interrupted=interrupted,
            options=self.options,
            roots=of_link.roots,
            timeline=of_link.timeline,
            directions=tuple(
                inventory.direction(name, self._checks(name))
                for name in (GUEST_TO_HOST, HOST_TO_GUEST)
            ),
            vifs=self._vif_reports(),
            switch=self._switch(),
            defects=of_link.defects,
            rings=of_link.rings,
            domains=of_link.domains,
            interfaces=of_link.interfaces,
            ports=tuple(
                PortReport(side, port.name, port.counters)
                for side, ports in zip(("guest", "host"), self._ports, strict=True)
                for port in ports
            )
            + tuple(
                PortReport(f"{tap.side} tap", tap.port.name, tap.port.counters)
                for tap in self._taps
            ),
            seconds=self.seconds,
        )

    def _checks(self, name: str) -> dict[str, InOrderCheck]:
        """The checks of one direction, by vif."""
        if name == THROUGH_SWITCH:
            checks = self.switch.checks if self.switch is not None else []
        else:
            checks = [w.up if name == GUEST_TO_HOST else w.down for w in self._checked]
        names = (checked.pair.name for checked in self._checked)
        return dict(zip(names, checks, strict=True)) if checks else {}

    def _switch(self) -> SwitchReport | None:
        if self.switch is None:
            return None
        switch = self.switch.switch
        return SwitchReport(
            through=inventory.direction(THROUGH_SWITCH, self._checks(THROUGH_SWITCH)),
            ports=len(switch.ports),
            learned=switch.learned,
            dropped=sum(port.counters.dropped for port in switch.ports),
            **asdict(switch.counters),
        )

    def _verdict(self, interrupted: str | None, of_link: LinkReport) -> Verdict:
        bad = [*self.trouble, *of_link.faults, *self._inputs(), *self._known_defects(of_link)]
        # Before the vifs are connected no port has had a chance to give anything.
        bad += [*self._lost(), *self._refused()] if self._began else ["no frame was carried"]
        bad += self.link.left_behind()
        so_far = self._arrived("every frame that was given")
        empty = so_far == _NOTHING_GIVEN
        if interrupted is not None and not self.options.live:
            what = f"interrupted by {interrupted}: this is what was done until then"
            bad = [what, *(bad or (so_far, _NOTHING_LEFT))]
        elif empty and not (bad or self.options.allow_empty):
            bad = [f"{_NOTHING_GIVEN}: nothing was shown (--allow-empty takes that for good)"]
        if not bad:
            given = "every frame that was given" if self.stop.over else "every frame"
            return Verdict(True, (self._arrived(given), _NOTHING_LEFT, *self._remarks(of_link)))
        more = len(bad) - _REASONS
        if more > 0:
            bad[_REASONS:] = [f"and {more} more reasons"]
        return Verdict(False, (*bad, *self._remarks(of_link)))

    def _arrived(self, what: str = "every frame") -> str:
        """A sentence about the frames (``what`` of them) of a run without faults."""
        checks = [check for checked in self._checked for check in (checked.up, checked.down)]
        if not any(check.frames_sent for check in checks):
            return _NOTHING_GIVEN
        if not any(check.frames_received for check in checks):
            return "no frame was to arrive: all were filtered"
        which = " but the filtered ones" if any(check.filtered for check in checks) else ""
        where = "where it should, unchanged" if self.switch is not None else "unchanged"
        order = "in order" if self.options.queues == 1 else "in the order of its flow"
        return f"{what}{which} arrived {where} and {order}"

    def _remarks(self, of_link: LinkReport) -> list[str]:
        """Facts about the frames that are worth knowing but no fault of the run."""
        remarks = []
        who, which = of_link.filter
        for name, filtered in (
            (GUEST_TO_HOST, sum(checked.up.filtered for checked in self._checked)),
            (HOST_TO_GUEST, sum(checked.down.filtered for checked in self._checked)),
        ):
            if filtered:
                remarks.append(f"{name}: {who} took {filtered} frames {which}")
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
        return tuple(w.report() for w in self._checked if w.pair.was_up)

    def _inputs(self) -> list[str]:
        """The faults of the frames that ports had to give, one line for each input."""
        bad: Counter[str] = Counter()
        for port in (*self._ports[0], *self._ports[1]):
            bad.update(port.counters.faults)
        return [
            fault if times == 1 else f"{fault} (at {times} ports)" for fault, times in bad.items()
        ]

    def _known_defects(self, of_link: LinkReport) -> list[str]:
        """The known defects of the backend that struck, to be listed before their consequences."""
        return [
            f"defect {row} of the {self.options.backend} backend: {what} ({packets} packets)"
            for row, what, packets in map(astuple, of_link.defects)
        ]

    def _lost(self) -> list[str]:
        """The faults that the checks and the ports found."""
        bad = []
        for name in (GUEST_TO_HOST, THROUGH_SWITCH, HOST_TO_GUEST):
            for vif, check in self._checks(name).items():
                where = self._named(vif, name)
                if check.mismatches:
                    bad.append(
                        f"{where}: {check.mismatches} frames did not arrive as they were sent"
                    )
                if check.missing:
                    bad.append(f"{where}: {check.missing} frames did not arrive")
        if self.switch is not None and (dropped := self._dropped()):
            bad.append(f"the switch dropped {dropped} frames for ports whose queues stayed full")
        for vif, checked in zip(self._checks(GUEST_TO_HOST), self._checked, strict=True):
            for side, end in (("guest", checked.guest), ("host", checked.host)):
                if not end.exhausted:
                    port = "port" if checked.port is None or side == "guest" else "end"
                    bad.append(self._named(vif, f"the {side}'s {port} still has frames to give"))
        return bad

    def _refused(self) -> list[str]:
        """The frames of ports that the edges could not make fit."""
        bad = []
        for report in self._vif_reports():
            for name, path in ((GUEST_TO_HOST, report.up), (HOST_TO_GUEST, report.down)):
                where = self._named(report.name, name)
                if path.refused:
                    bad.append(f"{where}: {path.refused} frames were too long for the {self._kind}")
                if path.errors:
                    bad.append(f"{where}: {path.errors} frames were not what their flags say")
        return bad

    @property
    def _kind(self) -> str:
        """The kind of link, for messages."""
        return self.options.link.partition(":")[0]

    def _dropped(self) -> int:
        ports = self.switch.switch.ports if self.switch is not None else []
        return sum(port.counters.dropped for port in ports)

    def _named(self, vif: str, what: str) -> str:
        return f"{vif}, {what}" if len(self._checked) > 1 else what


_NOTHING_GIVEN = "no port gave a frame, in either direction"
_NOTHING_LEFT = "teardown left no grant, port, mapping or page behind"


def run_link(
    link: Link,
    guests: Sequence[Port],
    hosts: Sequence[Port],
    options: RunOptions,
    progress: Progress,
    view: StoreView | None = None,
    stop: Stop | None = None,
    taps: Sequence[TapFile] = (),
) -> RunReport:
    """Carry all frames of all ports over ``link`` to the other end of their pair, or through the
    switch to the next guest; take the link down, destroy it, and return the report. When ``stop``
    is asked for, ports give no more frames; frames on their way arrive, and the report covers the
    run so far.

    The ports, and those of ``taps``, are not closed. A PortError of a port that failed is raised
    after the frames before the failure have arrived and the link is down. While the run lasts the
    store can be seen by ``view``. Raises xennet.xenstore.errors.SocketError if it cannot.
    """
    try:
        run = Run(link, guests, hosts, options, progress, stop, taps)
        run.carry_out(view)
        return run.report()
    finally:
        link.destroy()
