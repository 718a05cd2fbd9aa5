"""A host with one vif whose ends are driven by hand, by xennet's drivers, or by one's own.

::

    setup = VifSetup.make(frontend="raw")               # a netback of xennet's faces a RawFrontend
    setup = VifSetup.make(frontend="raw", backend=None)  # one's own: make it on host.dom0.kernel
    setup.frontend.connect()
    ...
    assert not setup.finish()                           # nothing is left of either end
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from attrs import define

from xennet.abi.xenbus import XenbusState
from xennet.frames import Endpoint
from xennet.host import Host
from xennet.host.domains import GuestDrivers, HostDrivers, PluggedVif
from xennet.hypervisor import LeakReport
from xennet.netback.policy import LINUX as LINUX_BACK
from xennet.netback.policy import BackendPolicy, VifOptions
from xennet.netfront.kinds import LINUX as LINUX_FRONT
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.port.echo import EchoPort
from xennet.testing.moves import attempt
from xennet.testing.network_stack import NetworkStack
from xennet.testing.raw_backend import RawBackend
from xennet.testing.raw_frontend import RawFrontend
from xennet.toolstack.toolstack import Outcome

#: Deliveries in a row that only drivers make which never come to rest.
MANY = 200_000
RAW: Final = "raw"
FrontendDrivers: TypeAlias = GuestDrivers | Literal["raw"]
BackendDrivers: TypeAlias = HostDrivers | Literal["raw"]


@define(eq=False)
class VifSetup:
    """``host`` with its ``vif``; ``frontend`` and ``backend`` are its ends that are driven by hand,
    None for one that is not."""

    host: Host
    vif: PluggedVif
    frontend: RawFrontend | None = None
    backend: RawBackend | None = None

    @classmethod
    def make(
        cls,
        frontend: FrontendDrivers = "xennet",
        backend: BackendDrivers = "xennet",
        *,
        kind: FrontendKind = LINUX_FRONT,
        policy: BackendPolicy = LINUX_BACK,
        front: NetfrontOptions = DEFAULTS,
        back: VifOptions | None = None,
        guest_end: Endpoint | None = None,
        host_end: Endpoint | None = None,
        **options: Any,
    ) -> VifSetup:
        """Attach a vif between a new guest and domain 0, and let everything settle.

        ``frontend``, ``backend``: "raw", or as ``drivers`` of Host.add_guest and Host: "xennet", a
        function that makes one's own, None if the caller makes it. What is behind a driver that
        faces a peer driven by hand is an echo, else a NetworkStack, unless ``guest_end`` and
        ``host_end`` say otherwise. ``kind``, ``policy``, ``front``, ``back`` are of xennet's
        drivers, as for Host.plug; ``options`` are further ones of Host.
        """
        host = Host(
            drivers=None if backend == RAW else backend, backend_evtchn=policy.evtchn, **options
        )
        guest = host.add_guest(kind=kind, drivers=None if frontend == RAW else frontend)
        vif = host.plug(
            guest,
            0,
            guest_end or (EchoPort() if backend == RAW else NetworkStack()),
            host_end or (EchoPort() if frontend == RAW else NetworkStack()),
            front=front,
            policy=policy,
            back=back,
        )
        host.boot()
        setup = cls(host, vif)
        node = vif.paths.frontend_node
        if frontend == RAW:
            setup.frontend = RawFrontend(guest.kernel, node, settle=setup.settle)
        if backend == RAW:
            node = vif.paths.backend_node
            setup.backend = RawBackend(host.dom0.kernel, node, settle=setup.settle)
        setup.settle()
        return setup

    def settle(self) -> None:
        """Make deliveries until nothing is ready. Raises LivelockError where that never comes."""
        self.host.machine.run_loop.run_until_idle(limit=MANY)

    def finish(self) -> LeakReport:
        """Close the ends that are driven by hand, take the vif away as a toolstack does, by force
        if its drivers do not answer, let time pass, and return what any domain still holds; false
        for nothing."""
        front, back = self.frontend, self.backend
        if front is not None:
            if front.queues and front.state != XenbusState.Unknown:
                attempt(front, "close", front.close)
            front.release()
        if back is not None:
            if back.queues and back.state != XenbusState.Unknown:
                attempt(back, "close", back.close)
            back.detach()
        if self._unplug(force=False) is not Outcome.DONE:
            self._unplug(force=True)
        if front is not None:
            front.release()  # what the other end held until now
        return self.host.leaks()

    def _unplug(self, *, force: bool) -> Outcome:
        operation = self.host.unplug(self.vif, force=force)
        self.host.pump.run_out(MANY)
        return operation.outcome
