"""The Xen vif as a link: a guest and domain 0 of an emulated machine, joined by a split driver.

A :class:`VifLink` builds the whole house, from page frames to toolstack, plugs one vif in and
carries frames through it. :func:`run_vif` does that for ``xennet run``, with ledgers that prove
every frame and an inventory of what is left afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from xennet.counters import RingCounters
from xennet.frames import FrameEndpoint
from xennet.guest import GuestKernel
from xennet.hypervisor import LeakReport, Machine
from xennet.link.base import LinkError
from xennet.link.gate import Gate
from xennet.link.ledger import Ledger
from xennet.link.timeline import Timeline
from xennet.link.witness import Witness
from xennet.netback.device import Vif
from xennet.netfront.device import Netfront
from xennet.observe import StoreOperation
from xennet.port import Port
from xennet.report.model import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    DirectionReport,
    DomainReport,
    Notifications,
    PortReport,
    Progress,
    RingReport,
    RunOptions,
    RunReport,
    Verdict,
)
from xennet.storeservice import XenStoreService
from xennet.xenbus.backend_bus import BackendBus
from xennet.xenbus.domain_nodes import DomainConfig
from xennet.xenbus.frontend_bus import FrontendBus
from xennet.xenbus.hotplug import HotplugScript
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.toolstack import Outcome, Toolstack, VifOperation
from xennet.xenbus.vif_nodes import VifConfig

if TYPE_CHECKING:
    from xennet.storesocket import StoreSocket

DOM0 = 0
GUEST = 1
HANDLE = 0
GUEST_MAC = "00:16:3e:00:00:01"

#: Deliveries between two looks at the clients of a store socket, and seconds of one look while
#: nothing else is to be done.
_POLL_STEPS = 32
_POLL_SECONDS = 0.01


@frozen
class StoreView:
    """The run's store for other programs to look at, on the socket ``path``.

    The connected vif stays up for ``hold`` seconds before it is unplugged. ``say`` is told when
    there is something to see.
    """

    path: str
    hold: float = 0.0
    say: Callable[[str], None] = lambda text: None


class VifLink:
    """One guest with one vif, made of every part of this package.

    ``guest`` is the network stack's side of netfront, ``host`` that of netback; either may give
    and take frames. The parts are there to be looked at: ``machine``, ``netfront``, ``netback``,
    ``toolstack``, ``paths``, ``timeline``.
    """

    def __init__(
        self, guest: FrameEndpoint, host: FrameEndpoint, *, grant_version: int = 1
    ) -> None:
        self.machine = Machine()
        dom0 = self.machine.create_domain(name="Domain-0")
        self.service = XenStoreService(self.machine)
        self.paths = VifPaths(GUEST, HANDLE, DOM0)
        self.timeline = Timeline(self.paths, self.machine.run_loop)
        self._stop_observing = self.machine.observers.subscribe(
            self.timeline.observe, StoreOperation
        )

        domu = self.machine.create_domain(name="domU1", grant_version=grant_version)
        self._guest_domain = domu
        self._ring = ring = self.machine.build_store_ring(GUEST)
        script = HotplugScript(self.service.connect(dom0, "hotplug"), dom0.defer)
        toolstack = self.service.connect(dom0, "toolstack")
        self.toolstack = Toolstack(
            toolstack,
            introduce=lambda domid: toolstack.introduce(domid, ring.gfn, ring.port),
            kill=self.machine.destroy_domain,
            script=script,
        )
        self._guest, self._host = Gate(guest), Gate(host)
        self.netback = Vif(GuestKernel(dom0, self.service.connect(dom0, "dom0")), self._host)
        self._backends = BackendBus(self.netback.hv, lambda _: self.netback)
        self.netfront: Netfront | None = None
        self._socket: StoreSocket | None = None
        self._closed = False

    def open(self) -> None:
        """Boot the guest, plug the vif in, and connect. LinkError if either end gets stuck."""
        self.toolstack.init_dom0()
        self._backends.start()
        ring = self._ring
        config = DomainConfig(GUEST, "domU1", store_gfn=ring.gfn, store_port=ring.port)
        self.toolstack.create_domain(config)
        plugged = self.toolstack.attach_vif(GUEST, HANDLE, VifConfig(GUEST_MAC))
        self.settle()

        hv = GuestKernel(self._guest_domain, self.service.connect(self._guest_domain, "domU1"))
        netfront = self.netfront = Netfront(hv, self._guest)
        self._frontends = FrontendBus(hv, lambda _: netfront)
        self._frontends.start()
        self.settle()
        self._require(plugged)
        if not (netfront.carrier and self.netback.carrier):
            raise LinkError(f"the vif did not connect: {self._states()}")

    def settle(self) -> None:
        """Deliver everything there is to deliver; clients of a store socket have their turns."""
        step = self.machine.run_loop.step
        if self._socket is None:
            while step() is not None:
                pass
            return
        while not self.machine.run_loop.idle:
            for _ in range(_POLL_STEPS):
                if step() is None:
                    break
            self._socket.poll()

    def serve_store(self, path: str) -> None:
        """Let other programs use the store over the unix socket ``path``, until :meth:`destroy`.

        xennet.xenstore.daemon.SocketError if that cannot be.
        """
        from xennet.storesocket import StoreSocket

        self._socket = StoreSocket(self.service.server, path)

    def hold(self, seconds: float) -> None:
        """Keep everything as it is for that long, and let the clients of the store socket work."""
        end = time.monotonic() + seconds
        while self._socket is not None and (left := end - time.monotonic()) > 0:
            self._socket.wait(min(left, _POLL_SECONDS))
            self.settle()

    def carry(self) -> None:
        """Move frames until both ends have nothing more to give or to do.

        LinkError when an end broke the protocol (which both of ours never do).
        """
        self._guest.flowing = self._host.flowing = True
        self.kick()
        self.settle()
        for error in (self.netback.error, self.netfront.error if self.netfront else None):
            if error is not None:
                raise LinkError(str(error))

    def kick(self) -> None:
        """Tell both drivers that their ports may have frames or room."""
        if self.netfront is not None:
            self.netfront.kick()
        self.netback.kick()

    def close(self) -> None:
        """Unplug the vif: both ends close, every node goes. LinkError if the toolstack had to force
        it. What is then left shows :meth:`leaks`."""
        if self._closed:
            return
        self._closed = True
        unplugged = self.toolstack.detach_vif(GUEST, HANDLE)
        self.settle()
        self._require(unplugged)
        self._stop_observing()

    def leaks(self) -> LeakReport:
        """What any domain still holds."""
        return self.machine.leaks()

    def destroy(self) -> None:
        """Switch the machine off, whatever state it is in; a store socket is removed."""
        if self._socket is not None:
            self._socket.close()
        self.machine.close()

    def rings(self) -> tuple[RingReport, ...]:
        """Both rings, from the counters of both ends."""
        front = self.netfront.counters if self.netfront else None
        back = self.netback.counters
        if front is None:
            return ()
        return (
            _ring("tx (guest transmit)", front.tx, back.tx),
            _ring("rx (guest receive)", front.rx, back.rx),
        )

    def domains(self) -> tuple[DomainReport, ...]:
        """What each domain used of the hypervisor, and holds now."""
        front = self.netfront.counters if self.netfront else None
        made = {GUEST: front.tx.grants + front.rx.grants if front else 0}
        statistics = self.machine.grant_tables.statistics
        copies = {DOM0: statistics.copies}
        return tuple(
            DomainReport(
                name=leaks.name,
                grants_made=made.get(leaks.domid, 0),
                grants_held=len(leaks.granted),
                grant_copies=copies.get(leaks.domid, 0),
                bytes_copied=self.machine.grant_tables.copied_bytes(leaks.domid),
                mappings=len(leaks.mappings),
                event_channels=len(leaks.ports),
                pages=leaks.pages,
            )
            for leaks in self.leaks().domains
        )

    def _require(self, operation: VifOperation) -> None:
        if operation.outcome is not Outcome.DONE:
            raise LinkError(f"{operation.reason or 'the toolstack still waits'}: {self._states()}")

    def _states(self) -> str:
        """The last state of both ends and any error node, for messages."""
        said = [
            f"{entry.path} = {entry.value}"
            for entry in self.timeline.entries
            if entry.kind == "state" or entry.path.endswith("/error")
        ]
        return "; ".join(said[-2:]) or "no end wrote a state"


def _ring(name: str, front: RingCounters, back: RingCounters) -> RingReport:
    return RingReport(
        name=name,
        requests=front.requests,
        responses=back.responses,
        slots=back.slots,
        front=Notifications(front.notified, front.avoided),
        back=Notifications(back.notified, back.avoided),
    )


def run_vif(
    guest: Port,
    host: Port,
    options: RunOptions,
    progress: Progress,
    view: StoreView | None = None,
) -> RunReport:
    """Carry all frames of both ports to the other one through a vif, unplug it, and report.

    The ports are not closed. PortError of a port that failed is raised after the frames before the
    failure have arrived and the vif is unplugged. While it lasts the store can be seen by ``view``;
    xennet.xenstore.daemon.SocketError if it cannot.
    """
    up, down = Ledger(), Ledger()
    guest_end = Witness(guest, up, down, lambda n: progress(HOST_TO_GUEST, n))
    host_end = Witness(host, down, up, lambda n: progress(GUEST_TO_HOST, n))
    link = VifLink(guest_end, host_end, grant_version=options.grant_version)
    trouble: list[str] = []
    seconds = 0.0
    try:
        if view is not None:
            link.serve_store(view.path)
            view.say(f"XenStore on {view.path}")
        try:
            link.open()
            started = time.perf_counter()
            link.carry()
            # An echo ends only when it knows that nothing more comes.
            host.finish()
            guest.finish()
            link.carry()
            seconds = time.perf_counter() - started
            if view is not None and view.hold:
                view.say(f"the vif stays connected for {view.hold:g} s")
                link.hold(view.hold)
            link.close()
        except LinkError as error:
            trouble.append(str(error))
        for end in (guest_end, host_end):
            if end.failure is not None:
                raise end.failure
        return RunReport(
            verdict=_verdict(up, down, guest_end, host_end, link, trouble),
            options=options,
            roots={"frontend": link.paths.frontend, "backend": link.paths.backend},
            timeline=tuple(link.timeline.entries),
            directions=(_direction(GUEST_TO_HOST, up), _direction(HOST_TO_GUEST, down)),
            rings=link.rings(),
            domains=link.domains(),
            ports=(
                PortReport("guest", guest.name, guest.counters),
                PortReport("host", host.name, host.counters),
            ),
            seconds=seconds,
        )
    finally:
        link.destroy()


def _direction(name: str, ledger: Ledger) -> DirectionReport:
    return DirectionReport(
        name=name,
        frames_sent=ledger.frames_sent,
        frames_received=ledger.frames_received,
        bytes_sent=ledger.bytes_sent,
        bytes_received=ledger.bytes_received,
        mismatches=ledger.mismatches,
        evidence=tuple(ledger.evidence),
    )


def _verdict(
    up: Ledger, down: Ledger, guest: Witness, host: Witness, link: VifLink, trouble: list[str]
) -> Verdict:
    bad = list(trouble)
    for name, ledger in ((GUEST_TO_HOST, up), (HOST_TO_GUEST, down)):
        if ledger.mismatches:
            bad.append(f"{name}: {ledger.mismatches} frames did not arrive as they were sent")
        if ledger.missing:
            bad.append(f"{name}: {ledger.missing} frames did not arrive")
    for side, end in (("guest", guest), ("host", host)):
        if not end.exhausted:
            bad.append(f"the {side}'s port still has frames to give")
    leaks = link.leaks()
    if leaks:
        bad += str(leaks).splitlines()
    if bad:
        return Verdict(False, tuple(bad))
    return Verdict(
        True,
        (
            "every frame arrived unchanged and in order",
            "teardown left no grant, port, mapping or page behind",
        ),
    )
