"""The Xen vif as a link: a guest and domain 0 of an emulated machine, joined by a split driver."""

from __future__ import annotations

from xennet.frames import FrameEndpoint
from xennet.link.base import LinkError
from xennet.link.house import DOM0
from xennet.link.inventory import domains, rings
from xennet.link.lines import Lines
from xennet.link.residents import PluggedVif
from xennet.link.setup import Setup
from xennet.link.timeline import Timeline
from xennet.netback.device import Vif
from xennet.netfront.device import Netfront
from xennet.observe import StoreOperation
from xennet.report.model import DomainReport, RingReport
from xennet.xenbus.paths import VifPaths

GUEST = 1
HANDLE = 0


class VifLink(Lines):
    """One guest with one vif, made of every part of this package.

    ``guest`` is the network stack's side of netfront, ``host`` that of netback; either may give
    and take frames. ``setup`` None: Linux's drivers as they come, with a grant table of
    ``grant_version``. The parts are there to be looked at: ``house``, ``machine``, ``netfront``,
    ``netback``, ``toolstack``, ``service``, ``paths``, ``timeline``.
    """

    def __init__(
        self,
        guest: FrameEndpoint,
        host: FrameEndpoint,
        *,
        grant_version: int = 1,
        setup: Setup | None = None,
    ) -> None:
        super().__init__(Setup(grant_version=grant_version) if setup is None else setup)
        self.machine = self.house.machine
        self.toolstack = self.house.toolstack
        self.service = self.house.service
        self.paths = VifPaths(GUEST, HANDLE, DOM0)
        self.timeline = Timeline(self.paths, self.machine.run_loop)
        self._stop_observing = self.machine.observers.subscribe(
            self.timeline.observe, StoreOperation
        )
        self._line = self.add(guest, host)

    @property
    def vif(self) -> PluggedVif:
        """The vif as the house knows it (what ``why`` is asked about); LinkError before
        :meth:`open`."""
        return self._line.plugged

    @property
    def netfront(self) -> Netfront | None:
        """The guest's driver; None before :meth:`open`."""
        return self._line.vif.netfront if self._line.vif is not None else None

    @property
    def netback(self) -> Vif:
        """The backend's driver; LinkError before :meth:`open`."""
        netback = self.vif.netback
        if netback is None:
            raise LinkError("the vif has no backend yet")
        return netback

    def close(self) -> None:
        super().close()
        self._stop_observing()

    def rings(self) -> tuple[RingReport, ...]:
        """Both rings, from the counters of both ends."""
        return rings(self.vifs)

    def domains(self) -> tuple[DomainReport, ...]:
        """What each domain used of the hypervisor, and holds now."""
        return domains(self)
